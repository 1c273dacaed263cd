//! The batch service, told as scenarios.

use std::sync::Arc;

use crate::batch::{
    BatchCommand, BatchJobSpec, BatchPoolSpec, BatchRefusal, Condition, Deallocation, DependencyAction,
    Disable, ExitAction, JobAction, MultiInstance, Retries, TaskShape,
};
use crate::ids::JobId;
use crate::input::{GoneHow, Input, InstancePhase, InstanceReport, Refusal};
use crate::staging::{Command, FailureCode, Staging, StagingFailure};
use crate::state::{BatchTaskState, PoolAllocation, TaskWord};
use crate::testing::{ANN, Bench, ROOT, config, job};

use super::stage::{ACCOUNT, after, batch_job, id, pool, shape, task};

fn bench_with(slots: u32, nodes: u32) -> Bench {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("P", slots), nodes);
    bench
}

#[test]
fn nodes_that_are_lent_take_work_of_their_borrower_only() {
    let mut bench = bench_with(4, 2);
    let lent: Vec<String> =
        bench.the_pool("p").nodes.keys().map(|node| bench.engine.state().node(*node).name.clone()).collect();
    assert_eq!(
        (lent.as_slice(), &bench.the_pool("P").allocation),
        (&["n1".to_owned(), "n2".to_owned()][..], &PoolAllocation::Steady)
    );
    // Jobs of the pool that lent them have one node left; that may change, so that larger ones are not refused.
    let wide = bench.submit(ANN, job(ANN).gang(3, 4)).unwrap();
    let small: Vec<JobId> = (0..5).map(|_| bench.submit(ANN, job(ANN).limit_s(10)).unwrap()).collect();
    let nodes: Vec<String> = small
        .iter()
        .filter(|job| bench.is_live(**job))
        .flat_map(|job| bench.nodes_of(bench.key(*job)))
        .collect();
    assert!(nodes.len() == 4 && nodes.iter().all(|node| node == "n3"), "{nodes:?}");
    let refusal = bench.submit(ANN, job(ANN).pool("lab/p")).unwrap_err();
    assert!(matches!(refusal, Refusal::UnknownPool { known, .. } if known == "main"));
    bench.create_job(batch_job("J", "P"));
    bench.add("j", shape(), (0..10).map(|i| task(&format!("t{i}"))).collect());
    let counts = bench.the_job("j").unwrap().counts;
    assert_eq!((counts.running.tasks, counts.active.tasks), (8, 2));
    bench.batch(BatchCommand::DeletePool { pool: id("p") }).unwrap();
    assert!(matches!(
        bench.batch(BatchCommand::DeletePool { pool: id("p") }),
        Err(BatchRefusal::PoolBeingDeleted)
    ));
    let running: Vec<JobId> =
        bench.the_job("j").unwrap().made().filter_map(|(_, task)| Some(task.state.made()?.job)).collect();
    running.into_iter().for_each(|job| bench.task_stopped(job));
    assert!(bench.engine.state().batch_account(ACCOUNT).unwrap().pools.is_empty());
    let counts = bench.the_job("j").unwrap().counts;
    assert_eq!((counts.running.tasks, counts.active.tasks), (0, 10));
    small[..4].iter().for_each(|job| {
        let key = bench.key(*job);
        bench.start(key);
        bench.exit(key, 0);
    });
    let key = bench.key(small[4]);
    bench.start(key);
    bench.exit(key, 0);
    assert!(bench.is_live(wide), "the whole cluster is its own again");
}

#[test]
fn a_resize_takes_what_becomes_free_and_gives_up_with_numbers() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    let busy = bench.submit(ANN, job(ANN).gang(2, 4).limit_s(2000)).unwrap();
    let key = bench.key(busy);
    bench.start(key);
    bench.create_pool(pool("p", 1), 3);
    assert_eq!((bench.the_pool("p").lent(), bench.the_pool("p").nodes.len()), (1, 3));
    assert!(matches!(
        bench.batch(BatchCommand::ResizePool {
            pool: id("p"),
            target: 1.into(),
            timeout_s: 900,
            how: Deallocation::Requeue
        }),
        Err(BatchRefusal::PoolBeingResized)
    ));
    bench.after_s(901);
    bench.settle();
    let errors = &bench.the_pool("p").errors;
    assert!(
        errors[0].code == "AllocationTimedout" && errors[0].message.starts_with("3 nodes of class 'main'"),
        "{errors:?}"
    );
    assert_eq!((bench.the_pool("p").lent(), bench.the_pool("p").nodes.len()), (1, 1));
    let resize = |target: u32| BatchCommand::ResizePool {
        pool: id("p"),
        target: target.into(),
        timeout_s: 900,
        how: Deallocation::Requeue,
    };
    bench.batch(resize(2)).unwrap();
    // Nothing new starts on what is on its way, even if it fits there.
    let other = bench.submit(ANN, job(ANN).gang(2, 4)).unwrap();
    bench.exit(key, 0);
    bench.settle();
    assert_eq!((bench.the_pool("p").lent(), &bench.the_pool("p").allocation), (2, &PoolAllocation::Steady));
    assert!(!bench.is_live(other));
    bench
        .batch(BatchCommand::ResizePool {
            pool: id("p"),
            target: 3.into(),
            timeout_s: 299,
            how: Deallocation::Requeue,
        })
        .unwrap_err();
    bench.batch(resize(0)).unwrap();
    assert!(bench.is_live(other));
    bench.batch(resize(3)).unwrap();
    bench.batch(BatchCommand::StopResize { pool: id("p") }).unwrap();
    assert_eq!(
        (bench.the_pool("p").lent(), bench.the_pool("p").errors[0].code.as_str()),
        (1, "ResizeStopped")
    );
}

#[test]
fn a_task_goes_its_way_and_failed_ones_are_tried_again() {
    let mut bench = bench_with(2, 1);
    bench.create_job(BatchJobSpec { retries: Retries::AtMost(1), ..batch_job("J", "P") });
    bench.add("J", shape(), vec![task("Good"), task("bad")]);
    let started = bench.the_task("j", "good");
    assert_eq!((started.id(&id("good")), started.previous), ("Good", Some((TaskWord::Active, bench.now))));
    let spec = &bench.engine.state().jobs[&bench.made("j", "good")].spec;
    let staging = spec.staging.as_ref().unwrap();
    assert_eq!(staging.folder.as_ref().unwrap().as_str(), "workitems/j/job-1/good");
    assert_eq!(staging.command.as_ref().unwrap().words(), ["/bin/sh", "-c", "true"]);
    assert_eq!(
        (spec.environment["A"].as_str(), spec.environment["AZ_BATCH_TASK_ID"].as_str()),
        ("task", "Good")
    );
    assert_eq!((spec.request.ranks, spec.request.nodes), (2, Some(1)));
    bench.end_task("j", "good", 0);
    bench.end_task("j", "bad", 3);
    let retried = bench.the_task("j", "bad");
    assert_eq!(
        (retried.retries.count, retried.requeues.count, retried.state.word()),
        (1, 0, TaskWord::Running)
    );
    bench.end_task("j", "bad", 3);
    let bad = bench.the_task("j", "bad").completed().unwrap();
    assert_eq!((bad.exit_code, bad.failure.as_ref().unwrap().code.as_str()), (Some(3), "FailureExitCode"));
    let counts = bench.the_job("j").unwrap().counts;
    assert_eq!((counts.succeeded.tasks, counts.failed.tasks, counts.completed.slots), (1, 1, 2));
    assert_eq!(bench.batch(reactivate("good")), Err(BatchRefusal::TaskSucceeded));
    bench.batch(reactivate("bad")).unwrap();
    assert_eq!(bench.batch(reactivate("bad")), Err(BatchRefusal::TaskNotCompleted));
    assert_eq!(bench.the_task("j", "bad").retries.count, 0);
    bench.end_task("j", "bad", 0);
    assert_eq!(bench.the_job("j").unwrap().counts.succeeded.tasks, 2);
}

fn reactivate(name: &str) -> BatchCommand {
    BatchCommand::ReactivateTask { job: id("j"), task: id(name) }
}

fn terminate(name: &str) -> BatchCommand {
    BatchCommand::TerminateTask { job: id("j"), task: id(name) }
}

#[test]
fn the_three_counters_are_kept_apart() {
    let mut bench = bench_with(4, 2);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a")]);
    let node = bench.nodes_of(bench.key(bench.made("j", "a")))[0].clone();
    bench.start(bench.key(bench.made("j", "a")));
    bench.input(Input::NodeSilent { node: node.clone(), reason: "it burns".to_owned() });
    bench.settle();
    assert_eq!(bench.word("j", "a"), TaskWord::Active);
    bench.after_s(3);
    bench.settle();
    let again = bench.the_task("j", "a");
    assert_eq!((again.state.word(), again.retries.count, again.requeues.count), (TaskWord::Running, 0, 0));
    // The pool gives the node back: that counts as a user's wish.
    let node = bench.nodes_of(bench.key(bench.made("j", "a")))[0].clone();
    let remove = BatchCommand::RemoveNodes {
        pool: id("p"),
        nodes: vec![node],
        timeout_s: 900,
        how: Deallocation::Requeue,
    };
    bench.batch(remove).unwrap();
    bench.task_stopped(bench.made("j", "a"));
    let again = bench.the_task("j", "a");
    assert_eq!((again.retries.count, again.requeues.count, again.state.word()), (0, 1, TaskWord::Active));
    assert_eq!(bench.the_pool("p").lent(), 1);
}

#[test]
fn tasks_wait_for_those_that_they_depend_on() {
    let mut bench = bench_with(4, 2);
    bench.create_job(batch_job("J", "P"));
    let satisfy = ExitAction { dependency: Some(DependencyAction::Satisfy), job: None };
    let mut lenient = shape();
    lenient.exits.codes.push((5, satisfy));
    bench.add("J", lenient, vec![task("1"), task("02"), task("3"), task("x")]);
    let dependents =
        vec![after("all", &["X"], &[(1, 3)]), after("two", &["1", "02"], &[]), after("late", &["none"], &[])];
    bench.add("J", shape(), dependents);
    for name in ["all", "two", "late"] {
        assert_eq!(bench.word("j", name), TaskWord::Active);
    }
    bench.end_task("j", "1", 0);
    bench.end_task("j", "02", 5);
    assert_eq!((bench.word("j", "two"), bench.word("j", "all")), (TaskWord::Running, TaskWord::Active));
    bench.end_task("j", "3", 1);
    bench.end_task("j", "x", 0);
    assert_eq!(bench.word("j", "all"), TaskWord::Active, "3 failed");
    // Another task that is 3 by its number will do.
    bench.add("J", shape(), vec![task("003")]);
    bench.end_task("j", "003", 0);
    assert_eq!(bench.word("j", "all"), TaskWord::Running);
    bench.add("J", shape(), vec![task("none"), after("known", &["x"], &[(1, 2)])]);
    assert_eq!(bench.word("j", "known"), TaskWord::Running);
    bench.end_task("j", "none", 0);
    assert_eq!(bench.word("j", "late"), TaskWord::Running);
    bench.create_job(BatchJobSpec { uses_dependencies: false, ..batch_job("plain", "P") });
    let added = bench.add("plain", shape(), vec![after("a", &["b"], &[]), task("b"), task("B")]);
    assert_eq!(added[0], Err(BatchRefusal::DependenciesNotSpecified));
    assert!(added[1].is_ok() && matches!(added[2], Err(BatchRefusal::Exists { .. })), "{added:?}");
}

#[test]
fn a_job_follows_what_becomes_of_its_tasks() {
    let mut bench = bench_with(1, 2);
    let done = BatchJobSpec { terminate_when_complete: true, ..batch_job("done", "P") };
    bench.create_job(BatchJobSpec { terminate_when_complete: false, ..done.clone() });
    bench.add("done", shape(), vec![task("a")]);
    bench.batch(BatchCommand::UpdateJob { job: id("done"), spec: Box::new(done.clone()) }).unwrap();
    let back = BatchJobSpec { terminate_when_complete: false, ..done.clone() };
    bench.batch(BatchCommand::UpdateJob { job: id("done"), spec: Box::new(back) }).unwrap_err();
    bench.end_task("done", "a", 1);
    assert!(bench.the_job("done").unwrap().is_completed());
    assert!(format!("{:?}", bench.the_job("done").unwrap().phase).contains("AllTasksComplete"));
    assert_eq!(
        bench.batch(BatchCommand::UpdateJob { job: id("done"), spec: Box::new(done) }),
        Err(BatchRefusal::JobCompleted)
    );
    bench.create_job(BatchJobSpec { acts_on_failure: true, ..batch_job("J", "P") });
    let mut disables = shape();
    disables.exits.codes.push((7, ExitAction { dependency: None, job: Some(JobAction::Disable) }));
    bench.add("J", disables, vec![task("a"), task("b"), task("c")]);
    let (key, b) = (bench.key(bench.made("j", "a")), bench.made("j", "b"));
    bench.start(key);
    // As the shell does it: what follows from an end is decided before the next pass.
    let gone = GoneHow::Exited { code: 7, signal: 0, out_of_memory: false };
    let phase = InstancePhase::Gone { how: gone, usage: Default::default(), started_at: None };
    let (node, report) = (bench.nodes_of(key)[0].clone(), InstanceReport { key, instance: 0, phase });
    bench.without_pass(Input::NodeReport { node, report });
    bench.without_pass(Input::Tick);
    bench.task_stopped(b);
    assert_eq!(bench.the_job("j").unwrap().phase.word().as_str(), "disabled");
    assert_eq!((bench.word("j", "b"), bench.the_task("j", "b").requeues.count), (TaskWord::Active, 1));
    assert_eq!(bench.the_task("j", "c").requeues.count, 0);
    bench.batch(BatchCommand::EnableJob { job: id("j") }).unwrap();
    bench.end_task("j", "b", 1);
    assert_eq!(bench.the_job("j").unwrap().phase.word().as_str(), "terminating");
    bench.task_stopped(bench.made("j", "c"));
    assert!(format!("{:?}", bench.the_job("j").unwrap().phase).contains("TaskFailed"));
    bench.create_job(batch_job("silent", "P"));
    let mut acts = shape();
    acts.exits.codes.push((7, ExitAction { dependency: None, job: Some(JobAction::Disable) }));
    assert!(matches!(
        bench.add("silent", acts, vec![task("a")])[0],
        Err(BatchRefusal::Invalid { property: "jobAction", .. })
    ));
}

#[test]
fn priorities_and_limits_decide_which_task_is_next() {
    let mut bench = bench_with(1, 1);
    bench.create_job(BatchJobSpec { running_max: Some(1), ..batch_job("low", "P") });
    bench.create_job(BatchJobSpec { priority: 9, ..batch_job("high", "P") });
    bench.add("low", shape(), vec![task("a"), task("b")]);
    bench.add("high", shape(), vec![task("a")]);
    assert_eq!((bench.word("low", "a"), bench.word("high", "a")), (TaskWord::Running, TaskWord::Active));
    assert!(matches!(bench.the_task("low", "b").state, BatchTaskState::Waiting { unmet: 0 }));
    bench.end_task("low", "a", 0);
    assert_eq!((bench.word("low", "b"), bench.word("high", "a")), (TaskWord::Active, TaskWord::Running));
    let outside = BatchJobSpec { priority: 1001, ..batch_job("x", "P") };
    assert_eq!(bench.batch(BatchCommand::CreateJob { spec: Box::new(outside) }), Err(BatchRefusal::Priority));
    let same = batch_job("HIGH", "P");
    assert!(matches!(
        bench.batch(BatchCommand::CreateJob { spec: Box::new(same) }),
        Err(BatchRefusal::Exists { .. })
    ));
}

#[test]
fn what_the_pool_cannot_hold_waits_and_keeps_nobody_back() {
    let mut bench = bench_with(2, 2);
    bench.create_job(batch_job("J", "P"));
    let wide = TaskShape { slots: 3, ..shape() };
    let gang = MultiInstance { instances: 2, coordination: Command::parse("true").unwrap() };
    bench.add("J", wide, vec![task("wide")]);
    bench.add("J", TaskShape { multi_instance: Some(gang.clone()), ..shape() }, vec![task("gang")]);
    bench.add("J", TaskShape { slots: 2, ..shape() }, vec![task("two"), task("three")]);
    let words = ["wide", "gang", "two", "three"].map(|name| bench.word("j", name));
    assert_eq!(words, [TaskWord::Active, TaskWord::Active, TaskWord::Running, TaskWord::Running]);
    // A pool of one slot a node whose nodes may work together holds gangs.
    let mut bench = bench_with(1, 2);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", TaskShape { multi_instance: Some(gang.clone()), ..shape() }, vec![task("gang")]);
    let made = bench.made("j", "gang");
    assert_eq!(bench.nodes_of(bench.key(made)).len(), 2);
    assert_eq!(bench.engine.state().jobs[&made].spec.request.ranks, 8);
    bench.end_task("j", "gang", 0);
    assert_eq!(bench.the_task("j", "gang").completed().unwrap().nodes.len(), 2);
    let four = MultiInstance { instances: 4, ..gang };
    bench.add("J", TaskShape { multi_instance: Some(four), ..shape() }, vec![task("four")]);
    assert!(matches!(bench.the_task("j", "four").state, BatchTaskState::Waiting { .. }));
}

#[test]
fn jobs_are_disabled_enabled_terminated_and_deleted() {
    let mut bench = bench_with(1, 2);
    let disable = |how| BatchCommand::DisableJob { job: id("j"), how };
    bench.create_job(BatchJobSpec { wall_clock_max_s: Some(3600), ..batch_job("J", "P") });
    bench.add("J", shape(), vec![task("a"), task("b"), task("c")]);
    bench.batch(disable(Disable::Wait)).unwrap();
    assert_eq!(bench.batch(disable(Disable::Requeue)), Err(BatchRefusal::JobDisabled));
    assert_eq!(bench.the_job("j").unwrap().phase.word().as_str(), "disabling");
    bench.end_task("j", "a", 0);
    bench.end_task("j", "b", 0);
    let disabled = bench.the_job("j").unwrap();
    assert_eq!((disabled.phase.word().as_str(), disabled.counts.active.tasks), ("disabled", 1));
    let moved = BatchJobSpec { wall_clock_max_s: Some(3600), ..batch_job("J", "elsewhere") };
    bench.batch(BatchCommand::UpdateJob { job: id("j"), spec: Box::new(moved.clone()) }).unwrap();
    bench.batch(BatchCommand::EnableJob { job: id("j") }).unwrap();
    assert_eq!(bench.word("j", "c"), TaskWord::Active, "its pool is not there yet");
    let here = BatchJobSpec { pool: id("p"), ..moved };
    let update = BatchCommand::UpdateJob { job: id("j"), spec: Box::new(here) };
    assert!(matches!(bench.batch(update.clone()), Err(BatchRefusal::InvalidState { .. })));
    bench.batch(disable(Disable::Terminate)).unwrap();
    bench.batch(update).unwrap();
    bench.batch(BatchCommand::EnableJob { job: id("j") }).unwrap();
    bench.batch(terminate("c")).unwrap();
    bench.task_stopped(bench.made("j", "c"));
    assert_eq!(bench.the_task("j", "c").completed().unwrap().failure.as_ref().unwrap().code, "TaskEnded");
    assert_eq!(bench.batch(terminate("c")), Err(BatchRefusal::TaskCompleted));
    bench.add("J", shape(), vec![task("d"), task("e"), task("f")]);
    for name in ["d", "e"] {
        bench.start(bench.key(bench.made("j", name)));
    }
    bench.after_s(3600);
    bench.settle();
    for name in ["d", "e"] {
        bench.task_stopped(bench.made("j", name));
    }
    let over = bench.the_job("j").unwrap();
    assert!(over.is_completed() && format!("{:?}", over.phase).contains("MaxWallClockTimeExpiry"));
    assert_eq!(bench.word("j", "f"), TaskWord::Active, "what waited goes on waiting");
    bench.batch(BatchCommand::DeleteJob { job: id("j") }).unwrap();
    assert!(bench.the_job("j").is_none());
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a"), task("b")]);
    let made = bench.made("j", "a");
    bench.batch(BatchCommand::DeleteTask { job: id("j"), task: id("a") }).unwrap();
    assert!(!bench.the_job("j").unwrap().tasks.contains_key(&id("a")));
    bench.task_stopped(made);
    bench.batch(BatchCommand::DeleteJob { job: id("j") }).unwrap();
    assert_eq!(bench.the_job("j").unwrap().phase.word().as_str(), "deleting");
    bench.task_stopped(bench.made("j", "b"));
    assert!(bench.the_job("j").is_none());
}

#[test]
fn a_node_may_stay_for_what_tasks_have_left_on_it() {
    let mut bench = bench_with(1, 1);
    bench.create_job(batch_job("J", "P"));
    let staging = Staging { retention_s: 100, ..Staging::default() };
    bench.add("J", TaskShape { staging, ..shape() }, vec![task("a"), task("b")]);
    let resize = |target: u32| BatchCommand::ResizePool {
        pool: id("p"),
        target: target.into(),
        timeout_s: 300,
        how: Deallocation::RetainedData,
    };
    bench.end_task("j", "a", 0);
    bench.batch(resize(0)).unwrap();
    assert_eq!(bench.word("j", "b"), TaskWord::Running, "what runs there comes to its end");
    bench.after_s(50);
    bench.end_task("j", "b", 0);
    bench.after_s(99);
    bench.settle();
    assert_eq!(bench.the_pool("p").nodes.len(), 1);
    bench.after_s(1);
    bench.settle();
    assert_eq!(
        (bench.the_pool("p").nodes.len(), &bench.the_pool("p").allocation),
        (0, &PoolAllocation::Steady)
    );
    // What is kept for longer than the resize may take keeps the node.
    bench.batch(resize(1)).unwrap();
    let staging = Staging { retention_s: 1_000, ..Staging::default() };
    bench.add("J", TaskShape { staging, ..shape() }, vec![task("c")]);
    bench.end_task("j", "c", 0);
    bench.batch(resize(0)).unwrap();
    bench.after_s(300);
    bench.settle();
    assert_eq!(
        (bench.the_pool("p").lent(), bench.the_pool("p").errors[0].code.as_str()),
        (1, "AllocationTimedout")
    );
}

#[test]
fn a_condition_that_does_not_hold_changes_nothing() {
    let mut bench = bench_with(1, 1);
    bench.create_job(batch_job("J", "P"));
    let version = bench.the_job("j").unwrap().version;
    let terminate = BatchCommand::TerminateJob { job: id("j"), reason: None };
    let wrong = Condition { matches: Some(Some(version + 1)), ..Condition::default() };
    assert_eq!(bench.batch_if(terminate.clone(), wrong), Err(BatchRefusal::ConditionNotMet));
    let right = Condition { matches: Some(Some(version)), ..Condition::default() };
    bench.batch_if(terminate, right).unwrap();
    assert!(bench.the_job("j").unwrap().is_completed());
}

#[test]
fn another_configuration_takes_nodes_out_of_pools() {
    let mut bench = bench_with(1, 3);
    assert!(Arc::ptr_eq(bench.engine.state().declared_config(), bench.engine.state().declared_config()));
    bench.input(Input::Configure(Arc::new(config(&[4, 4]))));
    bench.settle();
    assert_eq!(bench.the_pool("p").lent(), 2);
    assert_eq!(**bench.engine.state().declared_config(), config(&[4, 4]));
    let refusal = bench.batch(BatchCommand::CreatePool {
        spec: Box::new(pool("q", 5)),
        target: 0.into(),
        timeout_s: 900,
        scaling: None,
    });
    assert!(
        matches!(refusal, Err(BatchRefusal::Invalid { property: "taskSlotsPerNode", .. })),
        "{refusal:?}"
    );
    let nowhere = BatchPoolSpec { home: "huge".to_owned(), ..pool("q", 1) };
    let refusal = bench.batch(BatchCommand::CreatePool {
        spec: Box::new(nowhere),
        target: 0.into(),
        timeout_s: 900,
        scaling: None,
    });
    assert!(refusal.unwrap_err().to_string().contains("there are: main"));
}

#[test]
fn a_job_of_the_cluster_that_somebody_cancels_ends_its_task() {
    let mut bench = bench_with(1, 1);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a"), task("b")]);
    let (running, queued) = (bench.made("j", "a"), bench.made("j", "b"));
    bench.cancel(ROOT, queued).unwrap();
    bench.cancel(ROOT, running).unwrap();
    bench.task_stopped(running);
    for name in ["a", "b"] {
        let failure = bench.the_task("j", name).completed().unwrap().failure.clone().unwrap();
        assert!(failure.code == "TaskEnded" && failure.message.contains("cancelled"), "{failure:?}");
    }
}

#[test]
fn files_that_cannot_be_brought_or_taken_away_fail_the_task() {
    let mut bench = bench_with(4, 2);
    bench.create_job(BatchJobSpec { retries: Retries::AtMost(1), ..batch_job("J", "P") });
    let satisfy = Some(ExitAction { dependency: Some(DependencyAction::Satisfy), job: None });
    let mut lenient = shape();
    lenient.exits.pre_processing = satisfy;
    bench.add("J", lenient, vec![task("in"), task("out"), task("coordination")]);
    bench.add("J", shape(), vec![after("next", &["in"], &[]), after("never", &["out"], &[])]);
    let end = |bench: &mut Bench, name: &str, code: FailureCode, is_in: bool| {
        let key = bench.key(bench.made("j", name));
        let failure = StagingFailure { code, message: "it is not there".to_owned() };
        if !is_in {
            bench.start(key);
        }
        bench.gone(
            key,
            0,
            if is_in { GoneHow::StageInFailed(failure) } else { GoneHow::StageOutFailed(failure) },
        );
        bench.settle();
    };
    let completed = |bench: &Bench, name: &str| {
        let completed = bench.the_task("j", name).completed().unwrap();
        (completed.exit_code, completed.failure.as_ref().unwrap().code.clone(), completed.satisfies)
    };
    end(&mut bench, "in", FailureCode::BlobNotFound, true);
    assert_eq!(completed(&bench, "in"), (None, "BlobNotFound".to_owned(), true));
    assert_eq!(bench.word("j", "next"), TaskWord::Running);
    end(&mut bench, "out", FailureCode::FileUploadContainerNotFound, false);
    assert_eq!(completed(&bench, "out"), (Some(0), "FileUploadContainerNotFound".to_owned(), false));
    assert_eq!(bench.word("j", "never"), TaskWord::Active);
    // A coordination command is tried again with the whole task, as its own command is.
    for _ in 0..2 {
        assert_eq!(bench.word("j", "coordination"), TaskWord::Running);
        end(&mut bench, "coordination", FailureCode::CoordinationCommandFailed, true);
    }
    assert_eq!(completed(&bench, "coordination").1, "CoordinationCommandFailed");
    assert_eq!(bench.the_task("j", "coordination").retries.count, 1);
}
