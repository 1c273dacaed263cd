//! What becomes of jobs, told as scenarios.

use crate::event::{Endpoint, Verdict};
use crate::ids::{AttemptKey, JobRef, TaskIndex, Timestamp};
use crate::input::{Effect, GoneHow, Input, InstancePhase, InstanceReport, NodeChange, Refusal, Reply};
use crate::spec::Memory;
use crate::state::{FinishedHow, NodeStatus};
use crate::testing::{ANN, BOB, Bench, GIB, ROOT, config, job};

fn verdict(bench: &Bench, job: crate::ids::JobId) -> Verdict {
    match &bench.finished(job).expect("the job finished").how {
        FinishedHow::Ran { verdict, .. } => verdict.clone(),
        FinishedHow::EndedWaiting { .. } => panic!("the task never ran"),
        FinishedHow::CancelledWaiting { by_uid, .. } => Verdict::Cancelled { by_uid: *by_uid },
    }
}

#[test]
fn a_gang_goes_only_when_all_instances_are_ready() {
    let mut bench = Bench::new(config(&[2, 2, 2]));
    let id = bench.submit(ANN, job(ANN).gang(3, 2)).unwrap();
    let key = bench.key(id);
    let prepares = bench.effects.iter().filter(|e| matches!(e, Effect::Prepare { .. })).count();
    assert_eq!(prepares, 3);
    for instance in [2, 0] {
        bench.report(key, instance, InstancePhase::Ready(Endpoint::default()));
        assert!(
            !bench.effects.iter().any(|e| matches!(e, Effect::Go { .. })),
            "no word before all are ready"
        );
    }
    bench.report(key, 1, InstancePhase::Ready(Endpoint::default()));
    let told = |effect: &Effect| match effect {
        Effect::Go { peers, .. } => Some(peers.len()),
        _ => None,
    };
    let told: Vec<usize> = bench.effects.iter().filter_map(told).collect();
    assert_eq!(told, [3, 1, 1], "the primary hears of all, the others of the primary");
    bench.exit(key, 0);
    assert_eq!(verdict(&bench, id), Verdict::Exited { code: 0 });
    assert_eq!(bench.effects.iter().filter(|e| matches!(e, Effect::Forget { .. })).count(), 3);
}

#[test]
fn cores_are_free_only_when_their_instance_is_gone() {
    let mut bench = Bench::new(config(&[2, 2]));
    let gang = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    let next = bench.submit(BOB, job(BOB).ranks(2)).unwrap();
    let key = bench.key(gang);
    bench.start(key);
    bench.gone(key, 0, GoneHow::Exited { code: 3, signal: 0, out_of_memory: false });
    assert_eq!(bench.nodes_of(bench.key(next)), ["n1"], "the primary's node is free, the other is not yet");
    assert!(bench.is_live(gang));
    bench.gone(key, 1, GoneHow::Stopped);
    assert_eq!(verdict(&bench, gang), Verdict::Exited { code: 3 });
}

#[test]
fn a_node_that_cannot_prepare_is_held_back_and_the_gang_goes_elsewhere() {
    let mut bench = Bench::new(config(&[2, 2, 2]));
    let id = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    let key = bench.key(id);
    assert_eq!(bench.nodes_of(key), ["n1", "n2"]);
    bench.report(key, 0, InstancePhase::Ready(Endpoint::default()));
    let how = GoneHow::PrepareFailed { reason: "no cgroup".to_owned(), node_at_fault: true };
    bench.gone(key, 1, how);
    let stops: Vec<_> = bench.effects.iter().filter(|e| matches!(e, Effect::Stop { .. })).collect();
    assert_eq!(stops.len(), 1, "the ready instance is released");
    bench.gone(key, 0, GoneHow::Stopped);
    let again = bench.key(id);
    assert_eq!((again.attempt, bench.nodes_of(again)), (2, vec!["n1".to_owned(), "n3".to_owned()]));
    let held = bench.engine.state().nodes[1].held.clone().expect("the node is held back");
    assert!(held.reason.contains("no cgroup"));
    bench.after_s(301);
    assert!(bench.engine.state().nodes[1].held.is_none(), "not for ever");
}

#[test]
fn a_node_that_fails_again_and_again_is_held_back_for_longer_each_time() {
    let mut bench = Bench::new(config(&[2]));
    let broken = || GoneHow::Broken { reason: "the supervisor was killed".to_owned() };
    let held_s = |bench: &Bench| {
        let held = bench.engine.state().nodes[0].held.clone()?;
        Some((held.until?.micros_since(held.since) / 1_000_000, held.reason))
    };
    let fail = |bench: &mut Bench, how: GoneHow| {
        let id = bench.submit(ANN, job(ANN)).unwrap();
        bench.start(bench.key(id));
        bench.gone(bench.key(id), 0, how);
        bench.input(Input::Cancel { caller: ANN, target: JobRef { job: id, task: None } });
    };
    fail(&mut bench, broken());
    fail(&mut bench, broken());
    assert_eq!(held_s(&bench), None, "that happens");
    fail(&mut bench, GoneHow::Exited { code: 1, signal: 0, out_of_memory: false });
    for _ in 0..2 {
        fail(&mut bench, broken());
        assert_eq!(held_s(&bench), None, "the script that came to its end shows that the node works");
    }
    for seconds in [300, 600, 1200] {
        fail(&mut bench, broken());
        let (held_s, reason) = held_s(&bench).unwrap();
        assert_eq!(held_s, seconds);
        assert!(
            reason.contains("attempts in a row failed on it, the last one: the supervisor was"),
            "{reason}"
        );
        bench.after_s(seconds + 1);
    }
}

#[test]
fn a_node_whose_health_check_fails_gets_no_new_work_and_keeps_what_runs() {
    let mut bench = Bench::new(config(&[2]));
    let health = |bench: &mut Bench, problem: Option<&str>| {
        let problem = problem.map(str::to_owned);
        bench.input(Input::NodeHealth { node: "n1".to_owned(), problem });
    };
    let runs = bench.submit(ANN, job(ANN)).unwrap();
    bench.start(bench.key(runs));
    health(&mut bench, Some("no /scratch"));
    let waits = bench.submit(ANN, job(ANN)).unwrap();
    assert!(bench.is_live(runs) && !bench.is_live(waits));
    let node = &bench.engine.state().nodes[0];
    assert_eq!(node.why_no_work().unwrap(), "its health check fails: no /scratch");
    // An admin's word and the check's are two things: either keeps work away.
    let drain = NodeChange::Drain { reason: "new fan".to_owned(), for_s: None };
    let change = |change| Input::ChangeNodes { caller: ROOT, nodes: vec!["n1".to_owned()], change };
    bench.input(change(drain));
    health(&mut bench, None);
    assert!(!bench.is_live(waits));
    bench.input(change(NodeChange::Resume));
    assert!(bench.is_live(waits));
    let before = bench.engine.state().clone();
    health(&mut bench, None);
    assert_eq!(*bench.engine.state(), before, "what is known is no event");
}

#[test]
fn a_job_at_fault_fails_for_good() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let how = GoneHow::PrepareFailed { reason: "/x: no such directory".to_owned(), node_at_fault: false };
    bench.gone(bench.key(id), 0, how);
    assert!(matches!(verdict(&bench, id), Verdict::LaunchFailed { .. }));
    assert!(bench.engine.state().nodes[0].held.is_none());
}

#[test]
fn a_lost_node_ends_the_attempt_everywhere_and_requeues_the_task() {
    let mut bench = Bench::new(config(&[2, 2, 2]));
    let id = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(id);
    bench.start(key);
    bench.effects.clear();
    bench.input(Input::NodeSilent { node: "n2".to_owned(), reason: "no heartbeat for 5 s".to_owned() });
    assert!(
        matches!(&bench.effects[..], [Effect::Stop { grace_ms: 0, .. }]),
        "the other instance is ended at once: {:?}",
        bench.effects
    );
    assert!(bench.is_live(id), "not before the other instance is gone");
    bench.gone(key, 0, GoneHow::Stopped);
    assert!(!bench.is_live(id));
    bench.after_s(3);
    let again = bench.key(id);
    assert_eq!((again.attempt, bench.nodes_of(again)), (2, vec!["n1".to_owned(), "n3".to_owned()]));

    // The node comes back with the old attempt still on it: it gets no work before that is gone.
    let held = InstanceReport { key, instance: 1, phase: InstancePhase::Running { started_at: bench.now } };
    bench.effects.clear();
    bench.hello("n2", 2, vec![held]);
    assert!(matches!(&bench.effects[..], [Effect::Stop { key: stale, .. }] if *stale == key));
    assert!(!bench.engine.state().nodes[1].takes_work());
    let gone = InstancePhase::Gone { how: GoneHow::Stopped, usage: Default::default(), started_at: None };
    bench.report_from("n2", key, 1, gone);
    assert!(bench.engine.state().nodes[1].takes_work());
}

#[test]
fn a_node_that_knows_nothing_of_an_attempt_is_heard_whatever_instance_it_names() {
    let mut bench = Bench::new(config(&[2, 2]));
    let id = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(id);
    bench.report(key, 0, InstancePhase::Ready(Endpoint::default()));
    // Its agent was killed before it had written down what it was to prepare: it can only say the attempt's key.
    let how = GoneHow::Broken { reason: "nothing is known of it".to_owned() };
    let gone = InstancePhase::Gone { how, usage: Default::default(), started_at: None };
    bench.report_from("n2", key, 0, gone);
    bench.gone(key, 0, GoneHow::Stopped);
    assert!(!bench.is_live(id), "the gang does not wait for it");
    bench.after_s(3);
    assert_eq!(bench.key(id).attempt, 2);
}

#[test]
fn a_task_that_is_cancelled_while_it_waits_for_another_attempt_keeps_those_it_had() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    bench.start(bench.key(id));
    bench.input(Input::NodeSilent { node: "n1".to_owned(), reason: "no heartbeat".to_owned() });
    bench.cancel(ANN, id).unwrap();
    let how = &bench.finished(id).expect("the job finished").how;
    assert!(matches!(how, FinishedHow::CancelledWaiting { .. }), "{how:?}");
    assert_eq!(how.attempts(), (1, 0));
}

#[test]
fn without_requeue_a_lost_node_fails_the_task() {
    let mut bench = Bench::new(config(&[2]));
    let mut spec = job(ANN);
    spec.requeue = false;
    let id = bench.submit(ANN, spec).unwrap();
    bench.start(bench.key(id));
    bench.input(Input::NodeSilent { node: "n1".to_owned(), reason: "gone".to_owned() });
    assert!(matches!(verdict(&bench, id), Verdict::NodeFailed { .. }));
    assert!(matches!(bench.engine.state().nodes[0].status, NodeStatus::Down { .. }));
}

#[test]
fn attempts_are_counted_and_end_some_day() {
    let mut bench = Bench::new(config(&[2, 2]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    for attempt in 1..=5 {
        let key = bench.key(id);
        assert_eq!(key.attempt, attempt);
        bench.start(key);
        bench.gone(key, 0, GoneHow::Broken { reason: "supervisor killed".to_owned() });
        bench.after_s(3);
    }
    assert!(matches!(verdict(&bench, id), Verdict::Broken { .. }));
}

#[test]
fn time_limits_count_from_the_word_to_start() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN).limit_s(100)).unwrap();
    let key = bench.key(id);
    bench.after_s(50);
    bench.start(key);
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(100)));
    bench.after_s(99);
    assert_eq!(bench.effects.iter().filter(|e| matches!(e, Effect::Stop { .. })).count(), 0);
    bench.after_s(1);
    assert!(matches!(bench.effects.last(), Some(Effect::Stop { grace_ms: 5000, .. })));
    bench.gone(key, 0, GoneHow::Stopped);
    assert_eq!(verdict(&bench, id), Verdict::TimedOut);
}

#[test]
fn a_gang_that_is_never_ready_goes_back_and_the_late_node_is_held() {
    let mut bench = Bench::new(config(&[1, 1, 1]));
    let id = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(id);
    bench.report(key, 0, InstancePhase::Ready(Endpoint::default()));
    bench.after_s(60);
    assert!(bench.engine.state().nodes[1].held.is_some());
    bench.gone(key, 0, GoneHow::Stopped);
    bench.gone(key, 1, GoneHow::Stopped);
    assert_eq!(bench.nodes_of(bench.key(id)), ["n1", "n3"]);
}

#[test]
fn cancelling_reaches_waiting_and_live_tasks_of_the_owner_only() {
    let mut bench = Bench::new(config(&[2]));
    let id = bench.submit(ANN, job(ANN).array(10, None)).unwrap();
    assert!(matches!(bench.cancel(BOB, id), Err(Refusal::NotOwner { .. })));
    let one = JobRef { job: id, task: Some(TaskIndex(7)) };
    assert_eq!(bench.input(Input::Cancel { caller: ANN, target: one }).reply, Ok(Reply::Cancelled(1)));
    assert_eq!(bench.cancel(ANN, id), Ok(Reply::Cancelled(9)));
    for index in [0, 1] {
        let key = bench.key_of(id, index);
        bench.gone(key, 0, GoneHow::Stopped);
    }
    let finished = &bench.engine.state().jobs[&id].finished;
    assert_eq!(finished.len(), 10);
    assert!(matches!(bench.cancel(ROOT, id), Err(Refusal::AlreadyEnded { .. })));
}

#[test]
fn a_cancelled_task_is_not_queued_again_even_while_it_is_ending() {
    let mut bench = Bench::new(config(&[1, 1]));
    let id = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(id);
    bench.start(key);
    bench.input(Input::NodeSilent { node: "n2".to_owned(), reason: "gone".to_owned() });
    assert_eq!(bench.cancel(ANN, id), Ok(Reply::Cancelled(1)));
    bench.gone(key, 0, GoneHow::Stopped);
    assert_eq!(verdict(&bench, id), Verdict::Cancelled { by_uid: ANN.uid });
}

#[test]
fn a_reconnecting_node_hears_again_what_was_lost_on_the_way() {
    let mut bench = Bench::new(config(&[1, 1]));
    let id = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    let key = bench.key(id);
    // n1 never heard of the attempt: it is told again.
    bench.effects.clear();
    bench.hello("n1", 1, vec![]);
    assert!(matches!(&bench.effects[..], [Effect::Prepare { instance: 0, .. }]));
    for instance in [0, 1] {
        bench.report(key, instance, InstancePhase::Ready(Endpoint::default()));
    }
    // n2 never heard the word to start.
    bench.effects.clear();
    let ready = InstancePhase::Ready(Endpoint::default());
    bench.hello("n2", 1, vec![InstanceReport { key, instance: 1, phase: ready }]);
    assert!(matches!(&bench.effects[..], [Effect::Go { .. }]));
    // The exit was reported while nobody listened.
    let how = GoneHow::Exited { code: 0, signal: 0, out_of_memory: false };
    let gone = InstancePhase::Gone { how, usage: Default::default(), started_at: Some(Timestamp(5)) };
    bench.hello("n1", 1, vec![InstanceReport { key, instance: 0, phase: gone }]);
    bench.gone(key, 1, GoneHow::Stopped);
    assert_eq!(verdict(&bench, id), Verdict::Exited { code: 0 });
}

#[test]
fn a_rebooted_node_loses_what_ran_on_it() {
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    bench.start(bench.key(id));
    bench.hello("n1", 1, vec![]);
    assert!(!bench.is_live(id), "the attempt ended");
    bench.after_s(3);
    assert_eq!(bench.key(id).attempt, 2);
}

#[test]
fn a_repeated_request_key_gets_the_same_job() {
    let mut bench = Bench::new(config(&[1]));
    let submit = |key: &str, caller| Input::Submit {
        caller,
        spec: Box::new(job(caller)),
        request_key: Some(key.to_owned()),
    };
    let first = bench.input(submit("k", ANN)).reply;
    assert_eq!(bench.input(submit("k", ANN)).reply, first);
    assert_ne!(bench.input(submit("k", BOB)).reply, first, "keys are each user's own");
    assert_ne!(bench.input(submit("l", ANN)).reply, first);
}

#[test]
fn what_can_never_run_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(config(&[2, 4]));
    let before = bench.engine.state().clone();
    let mut unknown_pool = job(ANN);
    unknown_pool.pool = Some("mian".to_owned());
    let mut wide = job(ANN);
    wide.request.cores_per_rank = 5;
    let mut no_script = job(ANN);
    no_script.script = "echo hello".to_owned().into();
    let mut whole = job(ANN).gang(2, 1);
    whole.request.memory = Memory::PerNodeBytes(3 * GIB);
    let mut root = job(ANN);
    root.user.uid = 0;
    let mut eager = job(ANN);
    eager.priority = 1;
    for (spec, text) in [
        (unknown_pool, "no pool 'mian'; the pools are: main"),
        (wide, "one rank asks for 5 cores, the largest node has 4"),
        (no_script, "must name an interpreter"),
        (job(ANN).gang(3, 1), "asks for 3 nodes, but pool 'main' has 2"),
        (job(ANN).gang(2, 3), "1 node can hold that"),
        (job(ANN).ranks(7), "all the pool has, 2 nodes, can hold 6"),
        (job(ANN).memory(5 * GIB), "no node has the memory"),
        (whole, "2 nodes with 1 rank"),
        (root, "root may not submit"),
        (eager, "only an admin may raise a priority"),
        (job(ANN).limit_s(8 * 86_400), "allows at most 7-00:00:00"),
    ] {
        let refusal = bench.submit(ANN, spec).expect_err(text).to_string();
        assert!(refusal.contains(text), "{refusal:?} should say {text:?}");
    }
    assert_eq!(*bench.engine.state(), before);
}

#[test]
fn limits_are_kept() {
    let mut config = config(&[1]);
    config.policy.tasks_waiting_max = 10;
    config.policy.jobs_per_user_max = 2;
    config.policy.finished_jobs_kept = 1;
    let mut bench = Bench::new(config);
    assert!(matches!(
        bench.submit(ANN, job(ANN).array(11, None)),
        Err(Refusal::LimitReached { limit: 10, .. })
    ));
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let second = bench.submit(ANN, job(ANN)).unwrap();
    assert!(matches!(bench.submit(ANN, job(ANN)), Err(Refusal::LimitReached { limit: 2, .. })));
    for id in [first, second] {
        let key = bench.key(id);
        bench.start(key);
        bench.exit(key, 0);
    }
    let kept: Vec<_> = bench.engine.state().jobs.keys().copied().collect();
    assert_eq!(kept, [second], "only the last finished job stays in memory");
    assert!(bench.submit(ANN, job(ANN)).unwrap() > second, "ids are never used again");
}

#[test]
fn finished_jobs_with_too_many_tasks_leave_the_memory_the_oldest_first() {
    let mut config = config(&[1]);
    config.policy.finished_tasks_kept = 5;
    let mut bench = Bench::new(config);
    let end = |bench: &mut Bench, tasks: u32| {
        let id = bench.submit(ANN, job(ANN).array(tasks, None).held()).unwrap();
        bench.cancel(ANN, id).unwrap();
        id
    };
    let kept = |bench: &Bench| bench.engine.state().jobs.keys().copied().collect::<Vec<_>>();
    let (first, second) = (end(&mut bench, 3), end(&mut bench, 3));
    assert_eq!(kept(&bench), [first, second], "what ended in one instant is accounted for first");
    bench.after_s(1);
    let third = end(&mut bench, 2);
    assert_eq!(kept(&bench), [second, third], "five tasks are not too many");
    bench.after_s(1);
    let large = end(&mut bench, 9);
    assert_eq!(kept(&bench), [large], "the last one stays, however large it is");
    bench.after_s(1);
    let last = end(&mut bench, 1);
    assert_eq!(kept(&bench), [last]);
    bench.engine.state().check_invariants().unwrap();
}

#[test]
fn a_node_smaller_than_declared_is_held() {
    let mut bench = Bench::new(config(&[4]));
    bench.hello("n1", 2, vec![]);
    let held = bench.engine.state().nodes[0].held.clone().expect("held");
    assert!(held.reason.contains("declares 4 cores, the node has 2"), "{}", held.reason);
    assert!(matches!(bench.resume(ANN, &["n1"]), Err(Refusal::NotAdmin { .. })));
    bench.resume(ROOT, &["n1"]).unwrap();
    assert!(bench.engine.state().nodes[0].takes_work());
}

#[test]
fn a_node_with_less_memory_than_declared_is_held() {
    let says = |declared: u64, wraps: bool| {
        let mut config = config(&[2]);
        config.nodes[0].memory_bytes = declared;
        config.nodes[0].wrap_cores = wraps;
        let mut bench = Bench::new(config);
        let cores = vec![crate::event::HardwareCore::default(); 2];
        let hardware = crate::event::Hardware { cores, memory_bytes: 64 * GIB, ..Default::default() };
        bench.input(Input::NodeHello {
            node: "n1".to_owned(),
            boot_id: "boot".to_owned(),
            hardware: std::sync::Arc::new(hardware),
            held: Vec::new(),
        });
        bench.engine.state().nodes[0].held.clone().map(|held| held.reason)
    };
    assert_eq!(says(64 * GIB, false), None);
    let reason = says(64 * GIB + 1, false).expect("held");
    assert!(
        reason.contains("declares 65537 MiB of memory, the node has 65536") && reason.contains("\"65536M\""),
        "{reason}"
    );
    assert_eq!(says(65 * GIB, true), None, "virtual nodes share a host");
}

#[test]
fn reports_of_attempts_that_ended_are_answered_with_a_stop() {
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    let key = bench.key(id);
    let other = AttemptKey { attempt: 9, ..key };
    let applied = bench.report_from("n1", other, 0, InstancePhase::Ready(Endpoint::default()));
    assert!(applied.records.is_empty());
    assert!(matches!(&applied.effects[..], [Effect::Stop { key, .. }] if *key == other));
}
