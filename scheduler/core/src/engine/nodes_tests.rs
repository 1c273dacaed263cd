//! Nodes that admins drain, take down and resume.

use crate::event::{Event, Verdict};
use crate::ids::NodeId;
use crate::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport, NodeChange, Refusal};
use crate::plan::plan;
use crate::state::{FinishedHow, Held, Node, PoolState};
use crate::testing::{ANN, Bench, ROOT, config, job};

fn node<'b>(bench: &'b Bench, name: &str) -> &'b Node {
    bench.engine.state().node(bench.engine.state().node_by_name(name).unwrap())
}

fn held<'b>(bench: &'b Bench, name: &str) -> &'b Held {
    node(bench, name).held.as_ref().unwrap()
}

#[test]
fn a_drained_node_finishes_what_it_runs_and_gets_nothing_new() {
    let mut bench = Bench::new(config(&[1, 1]));
    let running = bench.submit(ANN, job(ANN)).unwrap();
    bench.start(bench.key(running));
    bench.drain(ROOT, &["n1", "n2"], None).unwrap();
    let waiting = bench.submit(ANN, job(ANN)).unwrap();
    assert!(bench.is_live(running) && !bench.is_live(waiting));
    let Held { by_uid, down, until, since, .. } = held(&bench, "n2");
    assert_eq!((*by_uid, *down, *until, *since), (Some(0), false, None, bench.now));
    assert_eq!(node(&bench, "n2").why_no_work().unwrap(), "an admin drains it: new disks");
    bench.exit(bench.key(running), 0);
    assert!(!bench.is_live(waiting));
    bench.resume(ROOT, &["n2"]).unwrap();
    assert_eq!(bench.nodes_of(bench.key(waiting)), ["n2"]);
    bench.resume(ROOT, &["n2"]).unwrap();
}

#[test]
fn what_runs_on_a_node_that_is_taken_down_ends_and_is_tried_elsewhere() {
    let mut bench = Bench::new(config(&[1, 1, 1]));
    let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(gang);
    bench.start(key);
    let mut stays = job(ANN);
    stays.requeue = false;
    let once = bench.submit(ANN, stays).unwrap();
    bench.start(bench.key(once));
    bench.effects.clear();
    bench.down(ROOT, &["n2", "n3"], None).unwrap();
    let stops: Vec<NodeId> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Stop { node, grace_ms: 0, .. } => Some(*node),
            _ => None,
        })
        .collect();
    assert_eq!(stops, [NodeId(0), NodeId(1), NodeId(2)], "every node of the gang and that of the other");
    assert!(node(&bench, "n2").free.is_empty(), "its cores are taken until all of it is gone");
    for instance in [0, 1] {
        assert_eq!(bench.key(gang).attempt, 1, "nothing starts again before all of it is gone");
        bench.gone(key, instance, GoneHow::Stopped);
    }
    bench.gone(bench.key(once), 0, GoneHow::Stopped);
    let how = &bench.finished(once).unwrap().how;
    let FinishedHow::Ran { verdict: Verdict::NodeFailed { node: NodeId(2), reason }, .. } = how else {
        panic!("{how:?}")
    };
    assert_eq!(reason, "an admin took it down: it smokes");
    bench.after_s(2);
    assert!(!bench.is_live(gang), "one node is left");
    bench.resume(ROOT, &["n3"]).unwrap();
    assert_eq!(bench.nodes_of(bench.key(gang)), ["n1", "n3"]);
    assert_eq!(bench.key(gang).attempt, 2);
}

#[test]
fn a_node_stays_down_when_its_agent_comes_back() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let key = bench.key(id);
    bench.start(key);
    bench.down(ROOT, &["n1"], None).unwrap();
    let before = held(&bench, "n1").clone();
    bench.effects.clear();
    let running = InstancePhase::Running { started_at: bench.now };
    bench.hello("n1", 2, vec![InstanceReport { key, instance: 0, phase: running }]);
    assert!(matches!(&bench.effects[..], [Effect::Stop { .. }]), "it is told again: {:?}", bench.effects);
    assert_eq!(*held(&bench, "n1"), before);
    // After a reboot nothing is left, and an agent that finds less than declared hides no admin's reason.
    bench.hello("n1", 1, vec![]);
    assert_eq!(*held(&bench, "n1"), before);
    bench.after_s(10);
    assert!(!bench.is_live(id));
    bench.resume(ROOT, &["n1"]).unwrap();
    assert!(held(&bench, "n1").reason.contains("declares 2 cores"), "now it is told what was hidden");
    bench.resume(ROOT, &["n1"]).unwrap();
    assert!(bench.is_live(id));
}

#[test]
fn a_failed_prepare_does_not_shorten_what_an_admin_said() {
    let mut bench = Bench::new(config(&[1, 1]));
    let gang = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    bench.drain(ROOT, &["n1"], None).unwrap();
    let how = GoneHow::PrepareFailed { reason: "no disk".to_owned(), node_at_fault: true };
    bench.gone(bench.key(gang), 0, how);
    assert_eq!(held(&bench, "n1").reason, "new disks");
    bench.after_s(1_000);
    assert!(!node(&bench, "n1").takes_work());
}

#[test]
fn a_node_comes_back_by_itself_after_the_time_that_was_said() {
    let mut bench = Bench::new(config(&[1, 1]));
    bench.drain(ROOT, &["n1"], Some(60)).unwrap();
    bench.down(ROOT, &["n2"], Some(90)).unwrap();
    let id = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(60)));
    bench.after_s(59);
    assert!(!bench.is_live(id));
    bench.after_s(1);
    assert_eq!(bench.nodes_of(bench.key(id)), ["n1"]);
    bench.after_s(30);
    assert!(node(&bench, "n2").takes_work());
}

#[test]
fn one_unknown_node_of_a_list_leaves_all_as_they_are() {
    let mut bench = Bench::new(config(&[1, 1]));
    let before = bench.engine.state().clone();
    let say = |bench: &mut Bench, reason: &str, for_s| {
        bench.change_nodes(ROOT, &["n1"], NodeChange::Drain { reason: reason.to_owned(), for_s })
    };
    for (refused, told) in [
        (bench.drain(ROOT, &["n1", "n7", "n8", "n2"], None), "there are no nodes n[7-8]"),
        (bench.down(ROOT, &["n9"], None), "there is no node 'n9'"),
        (bench.drain(ANN, &["n1"], None), "only an admin may drain a node"),
        (bench.down(ANN, &["n1"], None), "only an admin may take a node down"),
        (bench.drain(ROOT, &[], None), "name 1 to 100000 nodes"),
        (bench.drain(ROOT, &["n1"], Some(0)), "at least a second"),
        (bench.drain(ROOT, &["n1"], Some(367 * 86_400)), "at most 366 days"),
        (say(&mut bench, " ", None), "say why"),
        (say(&mut bench, &"x".repeat(1001), None), "say why"),
        (say(&mut bench, "a\u{1b}[2J", None), "control characters"),
    ] {
        let refusal: Refusal = refused.unwrap_err();
        assert!(refusal.to_string().contains(told), "{refusal}");
    }
    assert_eq!(*bench.engine.state(), before);
}

#[test]
fn a_hold_of_an_old_journal_is_read_as_it_was() {
    let text = r#"{"type":"node_held","node":3,"reason":"x"}"#;
    let event: Event = serde_json::from_str(text).unwrap();
    let Event::NodeHeld { by_uid: None, down: false, until: None, .. } = &event else { panic!("{event:?}") };
    assert_eq!(serde_json::to_string(&event).unwrap(), text);
}

#[test]
fn a_pool_that_is_closed_starts_nothing_or_takes_nothing() {
    let mut bench = Bench::new(config(&[2]));
    let set = |bench: &mut Bench, caller, state| {
        bench.input(Input::ChangePool { caller, pool: "main".to_owned(), state }).reply
    };
    assert!(matches!(set(&mut bench, ANN, PoolState::Down), Err(Refusal::NotAdmin { .. })));
    let first = bench.submit(ANN, job(ANN)).unwrap();
    set(&mut bench, ROOT, PoolState::Down).unwrap();
    assert!(bench.is_live(first), "what runs goes on");
    let second = bench.submit(ANN, job(ANN)).unwrap();
    assert!(!bench.is_live(second));
    let code = |bench: &Bench| plan(bench.engine.state(), bench.now).waiting[&second].reason.code();
    assert_eq!(code(&bench), "pool_down");
    set(&mut bench, ROOT, PoolState::Inactive).unwrap();
    assert_eq!(code(&bench), "pool_inactive");
    assert!(matches!(bench.submit(ANN, job(ANN)), Err(Refusal::PoolClosed { state: "inactive", .. })));
    set(&mut bench, ROOT, PoolState::Drain).unwrap();
    assert!(bench.is_live(second), "what it has taken starts");
    assert!(matches!(bench.submit(ANN, job(ANN)), Err(Refusal::PoolClosed { state: "drain", .. })));
    set(&mut bench, ROOT, PoolState::Up).unwrap();
    bench.submit(ANN, job(ANN)).unwrap();
    let other = Input::ChangePool { caller: ROOT, pool: "other".to_owned(), state: PoolState::Down };
    assert!(matches!(bench.input(other).reply, Err(Refusal::UnknownPool { .. })));
}
