//! Start tasks of pools, and preparation and release tasks of jobs, told as scenarios.

use std::sync::Arc;

use super::stage::{batch_job, id, pool, shape, task, the_chore};
use crate::batch::{
    BatchCommand, BatchJobSpec, BatchPoolSpec, BatchRefusal, ChoreSpec, Deallocation, Manager, RELEASE_ID,
    Retries, TaskShape,
};
use crate::ids::NodeId;
use crate::state::{ChoreState, TaskWord};
use crate::testing::{Bench, config};

fn with_start(start: ChoreSpec, slots: u32) -> BatchPoolSpec {
    BatchPoolSpec { start: Some(Arc::new(start)), ..pool("P", slots) }
}

fn prepared(name: &str) -> BatchJobSpec {
    BatchJobSpec {
        preparation: Some(Arc::new(the_chore("Prepare"))),
        release: Some(Arc::new(the_chore(RELEASE_ID))),
        ..batch_job(name, "P")
    }
}

impl Bench {
    /// The chores of a node come to their end.
    fn end_chore(&mut self, node: u32, code: u32) {
        let job = self.engine.state().batch_chores_on(NodeId(node)).next().expect("a chore runs there").0;
        let key = self.key(job);
        self.start(key);
        self.exit(key, code);
        self.settle();
    }

    fn chores_on(&self, node: u32) -> usize {
        self.engine.state().batch_chores_on(NodeId(node)).count()
    }

    fn start_of(&self, node: u32) -> &ChoreState {
        &self.the_pool("p").nodes[&NodeId(node)].start.as_ref().unwrap().state
    }
}

#[test]
fn a_start_task_runs_on_each_node_before_its_tasks() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(with_start(ChoreSpec { retries: Retries::AtMost(1), ..the_chore("") }, 4), 2);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), (0..6).map(|i| task(&format!("t{i}"))).collect());
    let made = bench.engine.state().batch_chores_on(NodeId(0)).next().unwrap().0;
    let spec = &bench.engine.state().jobs[&made].spec;
    let staging = spec.staging.as_ref().unwrap();
    assert_eq!((staging.folder.as_ref().unwrap().as_str(), staging.open), ("startup", true));
    assert_eq!((spec.request.ranks, spec.requeue), (4, false));
    assert!(!spec.environment.contains_key("AZ_BATCH_JOB_ID") && spec.environment["AZ_BATCH_POOL_ID"] == "P");
    assert_eq!(bench.the_job("j").unwrap().counts.active.tasks, 6, "no node is ready");
    bench.end_chore(0, 0);
    assert_eq!(bench.the_job("j").unwrap().counts.running.tasks, 4);
    // One try is left, and no second one.
    bench.end_chore(1, 3);
    bench.end_chore(1, 3);
    let ChoreState::Ended(ended) = bench.start_of(1) else { panic!("{:?}", bench.start_of(1)) };
    assert_eq!(
        (ended.exit_code, ended.failure.as_ref().unwrap().code.as_str()),
        (Some(3), "FailureExitCode")
    );
    assert_eq!(bench.the_pool("p").nodes[&NodeId(1)].start.as_ref().unwrap().retries.count, 1);
    assert_eq!((bench.chores_on(1), bench.the_job("j").unwrap().counts.running.tasks), (0, 4));
    // Another start task is for nodes that come from now on.
    let other = with_start(ChoreSpec { command: "other".into(), ..the_chore("") }, 4);
    bench.batch(BatchCommand::UpdatePool { pool: id("p"), spec: Box::new(other) }).unwrap();
    assert_eq!((bench.chores_on(0), bench.chores_on(1)), (0, 0));
    bench
        .batch(BatchCommand::ResizePool {
            pool: id("p"),
            target: 3.into(),
            timeout_s: 900,
            how: Deallocation::Requeue,
        })
        .unwrap();
    let made = bench.engine.state().batch_chores_on(NodeId(2)).next().unwrap().0;
    let command = bench.engine.state().jobs[&made].spec.staging.as_ref().unwrap().command.clone().unwrap();
    assert_eq!(command.words(), ["other"]);
    bench.end_chore(2, 0);
    assert_eq!(bench.the_job("j").unwrap().counts.running.tasks, 6);
}

#[test]
fn a_start_task_runs_again_after_a_restart_and_need_not_be_waited_for() {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(with_start(ChoreSpec { waits: false, ..the_chore("") }, 1), 1);
    bench.create_job(batch_job("J", "P"));
    bench.add("J", shape(), vec![task("a")]);
    assert_eq!((bench.chores_on(0), bench.word("j", "a")), (1, TaskWord::Active), "it goes first");
    bench.end_chore(0, 1);
    assert_eq!(bench.word("j", "a"), TaskWord::Running);
    bench
        .input(crate::input::Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.settle();
    assert!(matches!(bench.start_of(0), ChoreState::Ended(_)));
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    bench.end_chore(0, 0);
    assert!(matches!(bench.start_of(0), ChoreState::Ended(ended) if ended.exit_code == Some(0)));
    // The pool goes, and what makes its nodes ready ends.
    bench
        .input(crate::input::Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    assert_eq!(bench.chores_on(0), 1);
    bench.batch(BatchCommand::DeletePool { pool: id("p") }).unwrap();
    let live: Vec<_> = bench.engine.state().live().map(|(key, ..)| key.task.job).collect();
    live.into_iter().for_each(|job| bench.task_stopped(job));
    assert!(bench.engine.state().batch_pool(&super::stage::pool_key("p")).is_none());
    assert_eq!(bench.chores_on(0), 0);
}

#[test]
fn a_job_prepares_its_nodes_before_its_tasks_and_releases_them_at_its_end() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("P", 2), 3);
    bench.create_job(prepared("J"));
    assert_eq!(
        bench.add("J", shape(), vec![task("PREPARE")])[0],
        Err(BatchRefusal::IdOfChore { what: "preparation" })
    );
    bench.add("J", shape(), (0..4).map(|i| task(&format!("t{i}"))).collect());
    // Two nodes have room for four tasks: the third one is left alone.
    let counts = bench.the_job("j").unwrap().counts;
    assert_eq!((counts.running.tasks, counts.active.tasks), (2, 2), "two wait for their nodes");
    assert_eq!([0, 1, 2].map(|node| bench.chores_on(node)), [1, 1, 0]);
    assert_eq!(bench.word("j", "t0"), TaskWord::Preparing);
    bench.end_chore(0, 0);
    let spec = &bench.engine.state().jobs[&bench.made("j", "t0")].spec;
    assert_eq!(spec.environment["AZ_BATCH_JOB_PREP_DIR"], "workitems/j/job-1/prepare");
    assert_eq!(bench.nodes_of(bench.key(bench.made("j", "t0"))), ["n1"]);
    // A preparation that fails sends its task back, and the node gets none of the job.
    bench.end_chore(1, 9);
    assert_eq!(bench.chores_on(2), 1, "another node takes its place");
    bench.end_chore(2, 0);
    assert_eq!(bench.the_job("j").unwrap().counts.running.tasks, 4);
    let on: Vec<_> =
        (0..4).flat_map(|i| bench.nodes_of(bench.key(bench.made("j", &format!("t{i}"))))).collect();
    assert!(!on.contains(&"n2".to_owned()), "{on:?}");
    // Others still get it.
    bench.create_job(batch_job("K", "P"));
    bench.add("K", shape(), vec![task("a")]);
    assert_eq!(bench.nodes_of(bench.key(bench.made("k", "a"))), ["n2"]);
    bench.batch(BatchCommand::TerminateJob { job: id("j"), reason: None }).unwrap();
    for i in 0..4 {
        bench.task_stopped(bench.made("j", &format!("t{i}")));
    }
    assert_eq!(bench.the_job("j").unwrap().phase.word().as_str(), "terminating");
    assert_eq!([0, 1, 2].map(|node| bench.chores_on(node)), [1, 1, 1], "everywhere where it has run");
    bench.end_chore(0, 0);
    bench.end_chore(1, 1);
    bench.end_chore(2, 0);
    assert!(bench.the_job("j").unwrap().is_completed(), "whether or not all succeed");
    let rows = &bench.the_job("j").unwrap().nodes;
    assert!(rows.values().all(|row| row.release.as_ref().unwrap().is_over()));
    bench.batch(BatchCommand::DeleteJob { job: id("j") }).unwrap();
    assert!(bench.the_job("j").is_none(), "nothing is released twice");
}

#[test]
fn a_preparation_runs_again_where_its_node_has_restarted() {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(pool("P", 1), 1);
    bench.create_job(prepared("J"));
    bench.add("J", shape(), vec![task("a")]);
    bench.end_chore(0, 0);
    bench.end_task("j", "a", 0);
    bench
        .input(crate::input::Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    assert_eq!(bench.chores_on(0), 0, "nothing waits for it");
    bench.add("J", shape(), vec![task("b")]);
    assert_eq!((bench.chores_on(0), bench.word("j", "b")), (1, TaskWord::Preparing));
    // A node that fails under its preparation is prepared when it is back, and the task waits for another one.
    bench
        .input(crate::input::Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.settle();
    assert_eq!(bench.word("j", "b"), TaskWord::Active);
    bench.hello("n1", 4, Vec::new());
    bench.settle();
    bench.end_chore(0, 0);
    assert_eq!(bench.word("j", "b"), TaskWord::Running);
    // A node that is gone by then is not waited for.
    bench
        .input(crate::input::Input::NodeSilent { node: "n1".to_owned(), reason: "it was silent".to_owned() });
    bench.settle();
    bench.batch(BatchCommand::TerminateJob { job: id("j"), reason: None }).unwrap();
    assert!(bench.the_job("j").unwrap().is_completed());
}

#[test]
fn chores_that_cannot_be_are_refused() {
    let mut bench = Bench::new(config(&[4]));
    bench.create_pool(pool("P", 1), 1);
    let refused = |bench: &mut Bench, spec: BatchJobSpec| match bench
        .batch(BatchCommand::CreateJob { spec: Box::new(spec) })
    {
        Err(BatchRefusal::Invalid { property, .. }) => property,
        other => panic!("{other:?}"),
    };
    let alone = BatchJobSpec { preparation: None, ..prepared("J") };
    assert_eq!(refused(&mut bench, alone), "jobReleaseTask");
    let same = BatchJobSpec { release: Some(Arc::new(the_chore("pREPARE"))), ..prepared("J") };
    assert_eq!(refused(&mut bench, same), "jobReleaseTask");
    let long = ChoreSpec { wall_clock_max_s: Some(901), ..the_chore("r") };
    assert_eq!(
        refused(&mut bench, BatchJobSpec { release: Some(Arc::new(long)), ..prepared("J") }),
        "maxWallClockTime"
    );
    let open = ChoreSpec { command: "echo 'a".into(), ..the_chore("p") };
    assert_eq!(
        refused(&mut bench, BatchJobSpec { preparation: Some(Arc::new(open)), ..prepared("J") }),
        "commandLine"
    );
}

#[test]
fn a_manager_task_has_its_node_alone_goes_first_and_ends_its_job() {
    let mut bench = Bench::new(config(&[4, 4]));
    bench.create_pool(pool("P", 4), 2);
    let alone = TaskShape { exclusive: true, token: true, retries: Some(Retries::AtMost(1)), ..shape() };
    let manager =
        |ends_job| Some(Box::new(Manager { task: task("Boss"), shape: Arc::new(alone.clone()), ends_job }));
    bench.create_job(BatchJobSpec { manager: manager(true), ..batch_job("J", "P") });
    assert_eq!(bench.word("j", "boss"), TaskWord::Running);
    bench.add("J", shape(), (0..5).map(|i| task(&format!("t{i}"))).collect());
    let boss = bench.nodes_of(bench.key(bench.made("j", "boss")))[0].clone();
    let counts = bench.the_job("j").unwrap().counts;
    assert_eq!((counts.running.tasks, counts.active.tasks), (5, 1), "its node holds nothing else");
    bench.end_task("j", "boss", 1);
    // It is tried again, and what waits comes after it.
    let spec = &bench.engine.state().jobs[&bench.made("j", "boss")].spec;
    assert_eq!((spec.priority, spec.request.ranks), (1, 4));
    for i in 0..4 {
        bench.end_task("j", &format!("t{i}"), 0);
    }
    assert_eq!(bench.word("j", "boss"), TaskWord::Running, "{boss}");
    bench.end_task("j", "boss", 0);
    let phase = bench.the_job("j").unwrap().phase.clone();
    assert!(format!("{phase:?}").contains("JMComplete"), "{phase:?}");
    // One that does not end its job leaves it as it is.
    bench.create_job(BatchJobSpec { manager: manager(false), ..batch_job("K", "P") });
    bench.batch(BatchCommand::TerminateTask { job: id("k"), task: id("boss") }).unwrap();
    bench.task_stopped(bench.made("k", "boss"));
    assert_eq!(bench.the_job("k").unwrap().phase.word().as_str(), "active");
    let bad = Manager { task: task("a b"), shape: Arc::new(alone.clone()), ends_job: true };
    let spec = BatchJobSpec { manager: Some(Box::new(bad)), ..batch_job("L", "P") };
    assert!(bench.batch(BatchCommand::CreateJob { spec: Box::new(spec) }).is_err());
}
