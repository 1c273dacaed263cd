//! Nodes that are there only while pools of the batch service want them.

use crate::batch::{BatchCommand, Deallocation, NodeMove};
use crate::input::Input;
use crate::state::{PoolAllocation, Power, TaskWord};
use crate::testing::{Bench, ROOT, config};

use super::stage::{batch_job, elastic, id, pool, shape, task};

/// One node that is always there, and two that are off.
fn bench() -> Bench {
    let mut bench = Bench::new(elastic(config(&[4, 4, 4]), 1));
    bench.after_s(100);
    bench.settle();
    for node in ["n2", "n3"] {
        assert!(matches!(bench.the_power(node), Power::PoweringDown { problem: None, .. }), "it was idle");
        bench.power(node, None);
        assert_eq!(*bench.the_power(node), Power::Off { until: None, problem: None });
    }
    bench
}

fn names(bench: &Bench, at: NodeMove) -> Vec<String> {
    let nodes = bench.the_pool("p").nodes.iter().filter(|(_, seat)| seat.at == at);
    nodes.map(|(node, _)| bench.engine.state().node(*node).name.clone()).collect()
}

fn resize(bench: &mut Bench, target: u32) {
    let how = Deallocation::Requeue;
    bench
        .batch(BatchCommand::ResizePool { pool: id("p"), target: target.into(), timeout_s: 900, how })
        .unwrap();
}

#[test]
fn a_pool_that_grows_brings_nodes_up_and_one_that_shrinks_lets_them_go() {
    let mut bench = bench();
    bench.create_pool(pool("p", 4), 2);
    assert_eq!(names(&bench, NodeMove::Lent), ["n1"], "the one that is there comes first");
    assert_eq!(names(&bench, NodeMove::Claimed), ["n2"]);
    assert!(matches!(bench.the_power("n2"), Power::PoweringUp { called: false, .. }));
    bench.power("n2", None);
    assert!(matches!(bench.the_power("n2"), Power::PoweringUp { called: true, .. }));
    bench.hello("n2", 4, Vec::new());
    bench.settle();
    assert_eq!(names(&bench, NodeMove::Lent), ["n1", "n2"]);
    assert_eq!(bench.the_pool("p").allocation, PoolAllocation::Steady);

    bench.create_job(batch_job("j", "p"));
    bench.add("j", shape(), (0..8).map(|i| task(&format!("t{i}"))).collect());
    let made = |bench: &Bench, i| bench.the_task("j", &format!("t{i}")).state.made().map(|made| made.job);
    (0..8).for_each(|i| {
        let key = bench.key(made(&bench, i).unwrap());
        bench.start(key);
    });
    bench.after_s(1_000);
    bench.settle();
    assert!(bench.the_power("n2").is_on(), "what is used stays");
    resize(&mut bench, 0);
    (0..8).for_each(|i| bench.task_stopped(made(&bench, i).unwrap()));
    assert!(bench.the_pool("p").nodes.is_empty());
    bench.after_s(99);
    bench.settle();
    assert!(bench.the_power("n2").is_on(), "it may be wanted again");
    bench.after_s(1);
    bench.settle();
    bench.power("n2", None);
    assert!(bench.the_power("n2").may_come());
    assert!(bench.engine.next_wake().is_none_or(|at| at > bench.now), "nothing is left to be done");
}

#[test]
fn another_node_is_brought_up_in_place_of_one_that_does_not_come() {
    let mut bench = bench();
    bench.create_pool(pool("p", 4), 2);
    bench.power("n2", Some("the cloud has no room"));
    let Power::PoweringDown { problem: Some(problem), .. } = bench.the_power("n2") else {
        panic!("what may be left of it is taken down");
    };
    assert_eq!(problem, "the cloud has no room");
    assert_eq!(names(&bench, NodeMove::Claimed), ["n3"]);
    // This one is brought up, but its agent never says hello.
    bench.power("n3", None);
    bench.after_s(60);
    bench.settle();
    assert!(bench.the_power("n3").has_failed());
    assert!(names(&bench, NodeMove::Claimed).is_empty(), "there is no other");
    bench.power("n2", None);
    let why = bench.engine.state().node(bench.engine.state().node_by_name("n2").unwrap()).why_no_work();
    let said = "it is off until a pool of the batch service wants it, after the cloud has no room";
    assert_eq!(why.as_deref(), Some(said));
    // The first one is tried again when others that failed are, or when an admin says so.
    bench.after_s(300);
    bench.settle();
    assert!(matches!(bench.the_power("n2"), Power::PoweringUp { .. }));
    assert_eq!(names(&bench, NodeMove::Claimed), ["n2"]);
    bench.power("n3", None);
    assert!(bench.the_power("n3").has_failed());
    bench.resume(ROOT, &["n3"]).unwrap();
    assert!(bench.the_power("n3").may_come(), "it is kept for whoever wants it next");
    bench.hello("n2", 4, Vec::new());
    bench.settle();
    assert_eq!(names(&bench, NodeMove::Lent), ["n1", "n2"]);
}

#[test]
fn a_node_that_is_lost_is_taken_down_and_brought_up_anew_for_its_pool() {
    let mut bench = Bench::new(elastic(config(&[4]), 0));
    bench.create_pool(pool("p", 1), 1);
    bench.create_job(batch_job("j", "p"));
    bench.add("j", shape(), vec![task("t")]);
    let key = bench.key(bench.made("j", "t"));
    bench.start(key);
    bench.input(Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.settle();
    let why = bench.engine.state().node(bench.engine.state().node_by_name("n1").unwrap()).why_no_work();
    assert_eq!(why.as_deref(), Some("it is being taken down, after it was silent"));
    assert_eq!(names(&bench, NodeMove::Lent), ["n1"], "it stays the pool's");
    // A program that fails is run again later, and what it says of a state that is over changes nothing.
    bench.power("n1", Some("no answer"));
    let Power::PoweringDown { since, from, .. } = *bench.the_power("n1") else { panic!() };
    assert_eq!(from.micros_since(since), 30_000_000);
    bench.power("n1", None);
    bench.after_s(300);
    bench.settle();
    assert!(matches!(bench.the_power("n1"), Power::PoweringUp { .. }));
    bench.power("n1", None);
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    assert_eq!(bench.word("j", "t"), TaskWord::Running);
}

#[test]
fn what_an_admin_looks_after_and_what_somebody_else_has_started_stays() {
    let mut bench = bench();
    // Somebody has started its agent by hand.
    bench.hello("n3", 4, Vec::new());
    assert!(bench.the_power("n3").is_on());
    bench.drain(ROOT, &["n3"], None).unwrap();
    bench.after_s(1_000);
    bench.settle();
    assert!(bench.the_power("n3").is_on(), "an admin looks at it");
    // One that is held is not brought up either.
    bench.drain(ROOT, &["n2"], None).unwrap();
    bench.create_pool(pool("p", 1), 3);
    assert_eq!(
        (names(&bench, NodeMove::Lent), names(&bench, NodeMove::Claimed)),
        (vec!["n1".to_owned()], vec![])
    );
    bench.resume(ROOT, &["n2"]).unwrap();
    bench.settle();
    assert_eq!(names(&bench, NodeMove::Claimed), ["n2"]);
    // A node that is on its way and is not wanted any more comes, and goes.
    resize_to_one(&mut bench);
    assert!(names(&bench, NodeMove::Claimed).is_empty());
    bench.hello("n2", 4, Vec::new());
    bench.after_s(100);
    bench.settle();
    assert!(matches!(bench.the_power("n2"), Power::PoweringDown { problem: None, .. }));
    // Without programs that look after it, it is a node like others.
    bench.input(Input::Configure(config(&[4, 4, 4]).into()));
    let state = bench.engine.state();
    assert_eq!(state.node(state.node_by_name("n2").unwrap()).power, None);
}

fn resize_to_one(bench: &mut Bench) {
    bench.batch(BatchCommand::StopResize { pool: id("p") }).unwrap();
    resize(bench, 1);
}
