//! Low-priority nodes, told as scenarios.

use std::sync::Arc;

use super::stage::{batch_job, id, pool, shape, task};
use crate::batch::{BatchCommand, BatchJobSpec, BatchRefusal, Deallocation, Manager, Targets, TaskShape};
use crate::ids::JobId;
use crate::state::{PoolAllocation, TaskWord};
use crate::testing::{ANN, Bench, config, job};

fn targets(dedicated: u32, low_priority: u32) -> Targets {
    Targets { dedicated: Some(dedicated), low_priority: Some(low_priority) }
}

/// A cluster of three nodes and a pool that has so many of them until others need them, with a task on each.
fn bench_with(low: u32) -> Bench {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    make(&mut bench, "P", targets(0, low));
    bench.create_job(batch_job("J", "P"));
    for number in 0..low {
        bench.begin(&format!("t{number}"));
    }
    bench
}

fn make(bench: &mut Bench, name: &str, target: Targets) {
    let spec = Box::new(pool(name, 1));
    bench.batch(BatchCommand::CreatePool { spec, target, timeout_s: 900, scaling: None }).unwrap();
}

fn resize(bench: &mut Bench, name: &str, target: Targets) {
    let (pool, how) = (id(name), Deallocation::Requeue);
    bench.batch(BatchCommand::ResizePool { pool, target, timeout_s: 900, how }).unwrap();
}

impl Bench {
    fn begin(&mut self, name: &str) {
        self.add("J", shape(), vec![task(name)]);
        let key = self.key(self.made("j", name));
        self.start(key);
    }

    /// How many nodes a pool has until others need them, and how many were taken back.
    fn low(&self, name: &str) -> (u32, usize) {
        (self.the_pool(name).low(), self.the_pool(name).preempted.len())
    }

    /// The tasks that wait again stop on their nodes.
    fn stop_all(&mut self) {
        let state = self.engine.state();
        let ending =
            state.live().filter(|(.., live)| matches!(live.phase, crate::state::LivePhase::Ending { .. }));
        let jobs: Vec<JobId> = ending.map(|(key, ..)| key.task.job).collect();
        jobs.into_iter().for_each(|job| self.task_stopped(job));
    }

    fn end_job(&mut self, job: JobId) {
        let key = self.key(job);
        self.start(key);
        self.exit(key, 0);
        self.settle();
    }
}

#[test]
fn idle_nodes_are_lent_until_a_job_of_their_own_pool_needs_them() {
    let mut bench = bench_with(2);
    assert_eq!((bench.low("p"), bench.the_pool("p").allocation.clone()), ((2, 0), PoolAllocation::Steady));
    // What fits elsewhere takes nothing back.
    let small = bench.submit(ANN, job(ANN)).unwrap();
    assert!(bench.is_live(small) && bench.low("p") == (2, 0));
    bench.end_job(small);
    let two = bench.submit(ANN, job(ANN).gang(2, 4)).unwrap();
    bench.settle();
    assert_eq!(bench.low("p"), (1, 1), "one of them is enough");
    assert!(!bench.is_live(two), "not while the other's task is there");
    bench.stop_all();
    assert!(bench.is_live(two));
    let words = ["t0", "t1"].map(|name| bench.word("j", name));
    assert_eq!(words.iter().filter(|word| **word == TaskWord::Running).count(), 1);
    for name in ["t0", "t1"] {
        let task = bench.the_task("j", name);
        assert_eq!((task.retries.count, task.requeues.count), (0, 0), "no user has asked for it");
    }
    // Once the node is idle again, the pool has it back.
    bench.end_job(two);
    assert_eq!(bench.low("p"), (2, 0));
    assert_eq!(["t0", "t1"].map(|name| bench.word("j", name)), [TaskWord::Running; 2]);
}

#[test]
fn nothing_is_taken_back_for_a_job_that_could_not_start_with_it() {
    let mut bench = bench_with(2);
    let busy = bench.submit(ANN, job(ANN).limit_s(100)).unwrap();
    let wide = bench.submit(ANN, job(ANN).gang(3, 4)).unwrap();
    bench.settle();
    assert_eq!(bench.low("p"), (2, 0));
    // Its place is kept all the same: what would outlast the start of it does not overtake.
    let long = bench.submit(ANN, job(ANN).limit_s(1_000)).unwrap();
    let short = bench.submit(ANN, job(ANN).limit_s(50)).unwrap();
    assert!(bench.is_live(busy) && bench.is_live(short) && !bench.is_live(long));
    bench.end_job(short);
    bench.end_job(busy);
    assert_eq!(bench.low("p"), (0, 2));
    bench.stop_all();
    assert!(bench.is_live(wide) && !bench.is_live(long));
    bench.end_job(wide);
    bench.end_job(long);
    assert_eq!(bench.low("p"), (2, 0));
}

#[test]
fn what_was_taken_back_for_a_job_is_lent_to_nobody_before_it_starts() {
    let mut bench = bench_with(2);
    make(&mut bench, "Q", targets(0, 3));
    assert_eq!(bench.low("q"), (1, 0));
    let wide = bench.submit(ANN, job(ANN).gang(3, 4)).unwrap();
    bench.settle();
    assert_eq!((bench.low("p"), bench.low("q")), ((0, 2), (0, 1)));
    let first = bench.engine.state().live().next().map(|(key, ..)| key.task.job).unwrap();
    bench.task_stopped(first);
    assert_eq!((bench.low("p"), bench.low("q")), ((0, 2), (0, 1)), "two of the three are idle");
    bench.stop_all();
    assert!(bench.is_live(wide));
    // A job that is gone needs nothing.
    bench.end_job(wide);
    assert_eq!((bench.low("p").0 + bench.low("q").0, bench.low("p").1 + bench.low("q").1), (3, 0));
    let again = bench.submit(ANN, job(ANN).gang(3, 4)).unwrap();
    bench.settle();
    assert_eq!((bench.low("p").0, bench.low("q").0), (0, 0));
    bench.cancel(crate::testing::ROOT, again).unwrap();
    bench.settle();
    bench.stop_all();
    assert_eq!(bench.low("p").0 + bench.low("q").0, 3);
}

#[test]
fn a_pool_that_is_to_have_nodes_of_its_own_takes_those_of_others() {
    let mut bench = bench_with(3);
    make(&mut bench, "Q", targets(2, 1));
    assert_eq!((bench.low("p"), bench.the_pool("q").dedicated()), ((1, 2), 0));
    let error = bench.the_pool("q").errors.clone();
    assert!(error.is_empty() && bench.the_pool("q").allocation != PoolAllocation::Steady);
    bench.stop_all();
    assert_eq!((bench.the_pool("q").dedicated(), bench.low("q")), (2, (0, 0)));
    bench.after_s(900);
    bench.settle();
    let error = &bench.the_pool("q").errors[0];
    assert!(
        error.code == "AllocationTimedout" && error.message.contains("of 1 low-priority nodes 0 are there"),
        "{error:?}"
    );
    resize(&mut bench, "q", Targets { dedicated: Some(0), low_priority: None });
    assert_eq!(bench.low("p").0 + bench.low("q").0, 3, "whoever wants it has it once it is idle");
    resize(&mut bench, "p", targets(0, 1));
    bench.stop_all();
    assert_eq!((bench.low("p"), bench.low("q").0), ((1, 0), 1));
}

#[test]
fn users_say_how_many_and_which_nodes_there_are() {
    let mut bench = bench_with(2);
    let nothing = BatchCommand::ResizePool {
        pool: id("p"),
        target: Targets::default(),
        timeout_s: 900,
        how: Deallocation::Requeue,
    };
    assert!(matches!(
        bench.batch(nothing),
        Err(BatchRefusal::Invalid { property: "targetDedicatedNodes", .. })
    ));
    let far = BatchCommand::ResizePool {
        pool: id("p"),
        target: targets(0, 4),
        timeout_s: 900,
        how: Deallocation::Requeue,
    };
    assert!(matches!(
        bench.batch(far),
        Err(BatchRefusal::Invalid { property: "targetLowPriorityNodes", .. })
    ));
    let wide = bench.submit(ANN, job(ANN).gang(3, 4)).unwrap();
    bench.settle();
    bench.stop_all();
    assert!(bench.is_live(wide) && bench.low("p") == (0, 2));
    // One that was taken back is no longer wanted.
    let gone = *bench.the_pool("p").preempted.keys().next().unwrap();
    let name = bench.engine.state().node(gone).name.clone();
    let how = Deallocation::Requeue;
    let remove = BatchCommand::RemoveNodes { pool: id("p"), nodes: vec![name], timeout_s: 900, how };
    bench.batch(remove).unwrap();
    assert_eq!((bench.low("p"), bench.the_pool("p").target_low), ((0, 1), 1));
    // Nor is any that has not come when somebody stops the resize.
    bench.batch(BatchCommand::StopResize { pool: id("p") }).unwrap();
    resize(&mut bench, "p", targets(0, 3));
    bench.batch(BatchCommand::StopResize { pool: id("p") }).unwrap();
    bench.end_job(wide);
    assert_eq!((bench.low("p"), bench.the_pool("p").target_low), ((1, 0), 3));
    bench.batch(BatchCommand::DeletePool { pool: id("p") }).unwrap();
    bench.stop_all();
    let account = bench.engine.state().batch_account(super::stage::ACCOUNT).unwrap();
    assert!(account.pools.is_empty());
}

#[test]
fn a_node_that_is_removed_does_not_come_again_while_it_leaves() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    make(&mut bench, "P", targets(0, 2));
    let two = bench.submit(ANN, job(ANN).gang(2, 1)).unwrap();
    bench.settle();
    assert!(bench.is_live(two) && bench.low("p") == (1, 1));
    let node = *bench.the_pool("p").nodes.keys().next().unwrap();
    let name = bench.engine.state().node(node).name.clone();
    let how = Deallocation::Requeue;
    let remove = BatchCommand::RemoveNodes { pool: id("p"), nodes: vec![name], timeout_s: 900, how };
    bench.batch(remove).unwrap();
    assert_eq!((bench.low("p"), bench.the_pool("p").target_low), ((0, 1), 1));
    bench.end_job(two);
    assert_eq!((bench.low("p"), bench.the_pool("p").allocation.clone()), ((1, 0), PoolAllocation::Steady));
    assert!(!bench.the_pool("p").nodes.contains_key(&node));
}

#[test]
fn a_manager_task_may_want_a_node_that_nobody_takes_back_and_keeps_it_to_the_last() {
    let mut bench = Bench::new(config(&[4, 4, 4]));
    make(&mut bench, "P", targets(0, 2));
    let of = |shape: TaskShape| Manager { task: task("boss"), shape: Arc::new(shape), ends_job: true };
    let manager = of(TaskShape { dedicated: true, ..shape() });
    bench.create_job(BatchJobSpec { manager: Some(Box::new(manager)), ..batch_job("J", "P") });
    assert_eq!(bench.word("j", "boss"), TaskWord::Active);
    resize(&mut bench, "p", targets(1, 2));
    assert_eq!((bench.word("j", "boss"), bench.the_pool("p").dedicated()), (TaskWord::Running, 1));
    // It has the most to lose, and would be the last anyway; with less on its node than others have it is as well.
    let mut bench = Bench::new(config(&[4, 4, 4]));
    bench.create_pool(pool("P", 4), 3);
    bench.create_job(BatchJobSpec { manager: Some(Box::new(of(shape()))), ..batch_job("J", "P") });
    let place = bench.nodes_of(bench.key(bench.made("j", "boss")))[0].clone();
    bench.add("J", TaskShape { slots: 4, ..shape() }, vec![task("a"), task("b")]);
    resize(&mut bench, "p", targets(1, 0));
    bench.stop_all();
    let left: Vec<String> =
        bench.the_pool("p").nodes.keys().map(|node| bench.engine.state().node(*node).name.clone()).collect();
    assert_eq!((left, bench.word("j", "boss")), (vec![place], TaskWord::Running));
}
