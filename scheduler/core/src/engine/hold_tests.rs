//! Holds of single tasks of an array, told as scenarios.

use crate::ids::{JobId, JobRef, TaskIndex};
use crate::input::{Input, Refusal, Reply};
use crate::plan::plan;
use crate::state::IndexSet;
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

fn one(job: JobId, index: u32) -> JobRef {
    JobRef { job, task: Some(TaskIndex(index)) }
}

fn hold(bench: &mut Bench, caller: crate::input::Caller, target: JobRef) -> Result<Reply, Refusal> {
    bench.input(Input::HoldJob { caller, target }).reply
}

fn release(bench: &mut Bench, caller: crate::input::Caller, target: JobRef) -> Result<Reply, Refusal> {
    bench.input(Input::ReleaseJob { caller, target }).reply
}

fn live(bench: &Bench, job: JobId) -> Vec<u32> {
    bench.engine.state().jobs[&job].live.keys().map(|index| index.0).collect()
}

fn why(bench: &Bench, job: JobId) -> &'static str {
    plan(bench.engine.state(), bench.now).waiting[&job].reason.code()
}

#[test]
fn a_held_task_waits_while_its_array_goes_on() {
    let mut bench = Bench::new(config(&[8]));
    let blocker = bench.submit(BOB, job(BOB).ranks(8)).unwrap();
    let array = bench.submit(ANN, job(ANN).array(4, None)).unwrap();
    assert_eq!(hold(&mut bench, ANN, one(array, 1)), Ok(Reply::Done));
    assert!(matches!(hold(&mut bench, BOB, one(array, 2)), Err(Refusal::NotOwner { .. })));
    assert!(matches!(hold(&mut bench, ANN, one(array, 9)), Err(Refusal::UnknownJob { .. })));
    assert_eq!(why(&bench, array), "resources");
    bench.start(bench.key(blocker));
    bench.exit(bench.key(blocker), 0);
    assert_eq!(live(&bench, array), [0, 2, 3]);
    assert_eq!(why(&bench, array), "held_by_user");
    assert!(matches!(hold(&mut bench, ANN, one(array, 0)), Err(Refusal::NothingWaits { .. })));
    bench.after_s(5);
    assert_eq!(live(&bench, array), [0, 2, 3]);
    release(&mut bench, ANN, one(array, 1)).unwrap();
    assert_eq!(live(&bench, array), [0, 1, 2, 3]);
    assert!(bench.engine.state().jobs[&array].task_holds.is_empty());
}

#[test]
fn one_task_of_a_held_array_is_let_go() {
    let mut bench = Bench::new(config(&[8]));
    let array = bench.submit(ANN, job(ANN).array(4, None).held()).unwrap();
    release(&mut bench, ANN, one(array, 2)).unwrap();
    assert_eq!(live(&bench, array), [2]);
    assert_eq!(why(&bench, array), "held_by_user");
    // Requeued, it starts again: it was let go.
    let key = bench.key_of(array, 2);
    bench.start(key);
    bench.input(Input::Requeue { caller: ANN, target: one(array, 2), hold: false }).reply.unwrap();
    bench.gone(key, 0, crate::input::GoneHow::Stopped);
    bench.after_s(5);
    assert_eq!(live(&bench, array), [2]);
    // Held as a whole once more, none goes on.
    bench.hold(ANN, array).unwrap();
    assert!(bench.engine.state().jobs[&array].task_holds.is_empty());
    bench.release(ANN, array).unwrap();
    assert_eq!(live(&bench, array), [0, 1, 2, 3]);
}

#[test]
fn what_an_admin_holds_of_an_array_stays_until_an_admin_lets_it_go() {
    let mut bench = Bench::new(config(&[8]));
    let array = bench.submit(ANN, job(ANN).array(3, None).held()).unwrap();
    hold(&mut bench, ROOT, one(array, 0)).unwrap();
    assert!(matches!(release(&mut bench, ANN, one(array, 0)), Err(Refusal::HeldByAdmin { .. })));
    bench.release(ANN, array).unwrap();
    assert_eq!(live(&bench, array), [1, 2]);
    assert_eq!(why(&bench, array), "held_by_admin");
    bench.release(ROOT, array).unwrap();
    assert_eq!(live(&bench, array), [0, 1, 2]);
}

#[test]
fn a_task_that_is_requeued_and_held_waits_alone() {
    let mut bench = Bench::new(config(&[8]));
    let array = bench.submit(ANN, job(ANN).array(2, None)).unwrap();
    let key = bench.key_of(array, 1);
    bench.start(key);
    bench.input(Input::Requeue { caller: ANN, target: one(array, 1), hold: true }).reply.unwrap();
    bench.gone(key, 0, crate::input::GoneHow::Stopped);
    bench.after_s(5);
    let record = &bench.engine.state().jobs[&array];
    assert!(record.held.is_none() && record.hold_of_all().is_some());
    assert_eq!(record.waiting_with_the_job(), IndexSet::default());
    assert_eq!(live(&bench, array), [0]);
    // One that ends is held no more.
    bench.input(Input::Cancel { caller: ANN, target: one(array, 1) }).reply.unwrap();
    assert!(bench.engine.state().jobs[&array].task_holds.is_empty());
}

#[test]
fn held_tasks_are_left_out_of_promises_and_of_throttles() {
    let mut cluster = config(&[2]);
    cluster.pools[0].backfill = crate::cluster::Backfill::Conservative;
    let mut bench = Bench::new(cluster);
    let array = bench.submit(ANN, job(ANN).array(4, Some(1)).held()).unwrap();
    hold(&mut bench, ANN, one(array, 0)).unwrap();
    bench.release(ANN, array).unwrap();
    assert_eq!(live(&bench, array), [0], "who lets the whole array go lets all of it go");
    hold(&mut bench, ANN, one(array, 1)).unwrap();
    let key = bench.key_of(array, 0);
    bench.start(key);
    bench.exit(key, 0);
    assert_eq!(live(&bench, array), [2]);
}
