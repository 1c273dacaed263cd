//! Signals, putting back into the queue, and changing what was accepted.

use super::Applied;
use crate::eligibility::Dependency;
use crate::event::{Event, Record, Verdict};
use crate::ids::{JobId, JobRef, TaskIndex};
use crate::input::{Caller, Effect, GoneHow, Input, InstancePhase, JobChange, Refusal, Reply};
use crate::spec::{MailEvent, MailWish, SignalTo, SignalWish};
use crate::state::LivePhase;
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

fn whole(job: JobId) -> JobRef {
    JobRef { job, task: None }
}

fn signal(bench: &mut Bench, caller: Caller, target: JobRef) -> Applied {
    bench.input(Input::Signal { caller, target, signal: 10, to: SignalTo::Ranks })
}

fn requeue(bench: &mut Bench, caller: Caller, target: JobRef, hold: bool) -> Result<Reply, Refusal> {
    bench.input(Input::Requeue { caller, target, hold }).reply
}

fn change(bench: &mut Bench, caller: Caller, job: JobId, change: JobChange) -> Result<Reply, Refusal> {
    bench.input(Input::UpdateJob { caller, job, change: Box::new(change) }).reply
}

fn limit(time_limit_s: u64) -> JobChange {
    JobChange { time_limit_s: Some(time_limit_s), ..JobChange::default() }
}

#[test]
fn a_signal_goes_to_the_primary_of_what_runs_and_to_nothing_else() {
    let mut bench = Bench::new(config(&[4, 4]));
    let gang = bench.submit(ANN, job(ANN).gang(2, 4)).unwrap();
    let waits = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!(signal(&mut bench, ANN, whole(gang)).reply, Err(Refusal::Waits { target: whole(gang) }));
    let key = bench.key(gang);
    bench.start(key);
    let applied = signal(&mut bench, ANN, whole(gang));
    assert_eq!((applied.reply, applied.records.len()), (Ok(Reply::Reached(1)), 0));
    let node = bench.engine.state().live_attempt(key.task).unwrap().allocation.shares[0].node;
    assert_eq!(applied.effects, [Effect::Signal { node, key, signal: 10, to: SignalTo::Ranks }]);
    assert!(matches!(signal(&mut bench, BOB, whole(gang)).reply, Err(Refusal::NotOwner { .. })));
    assert!(matches!(signal(&mut bench, ANN, whole(waits)).reply, Err(Refusal::Waits { .. })));
    let bad = Input::Signal { caller: ANN, target: whole(gang), signal: 65, to: SignalTo::All };
    assert!(matches!(bench.input(bad).reply, Err(Refusal::BadField { field: "signal", .. })));
}

#[test]
fn a_signal_goes_to_what_starts_at_once_before_anybody_was_told_that_it_runs() {
    let mut bench = Bench::new(config(&[4]));
    let id = bench.submit(ANN, job(ANN).array(2, None)).unwrap();
    let applied = signal(&mut bench, ANN, whole(id));
    assert_eq!((applied.reply, applied.effects.len()), (Ok(Reply::Reached(2)), 2));
}

#[test]
fn the_signal_that_was_wished_for_comes_once_and_in_time() {
    let mut bench = Bench::new(config(&[4]));
    let wish = SignalWish { signal: 12, before_s: 40, to: SignalTo::Script };
    let mut spec = job(ANN).limit_s(100);
    spec.signal = Some(wish);
    let id = bench.submit(ANN, spec).unwrap();
    let key = bench.key(id);
    bench.start(key);
    let signals = |applied: &Applied| {
        applied.effects.iter().filter(|effect| matches!(effect, Effect::Signal { signal: 12, .. })).count()
    };
    let tick = |bench: &mut Bench, seconds| {
        bench.now = bench.now.plus_seconds(seconds);
        bench.input(Input::Tick)
    };
    assert_eq!(signals(&tick(&mut bench, 59)), 0);
    let applied = tick(&mut bench, 1);
    assert_eq!(signals(&applied), 1);
    assert_eq!(applied.records[0].event, Event::AttemptSignalled { key });
    assert_eq!(signals(&tick(&mut bench, 1)), 0, "once only");
    // A longer limit brings no second one.
    change(&mut bench, ROOT, id, limit(1000)).unwrap();
    assert_eq!(signals(&tick(&mut bench, 950)), 0);
    assert!(bench.finished(id).is_none());
}

#[test]
fn what_is_put_back_into_the_queue_runs_again_however_its_script_ends() {
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, job(ANN)).unwrap();
    assert_eq!(
        requeue(&mut bench, ANN, whole(JobId(9)), false),
        Err(Refusal::UnknownJob { target: whole(JobId(9)) })
    );
    // More often than failures are forgiven.
    let often = bench.engine.state().config.policy.attempts_max + 2;
    for attempt in 1..=often {
        let key = bench.key(id);
        assert_eq!(key.attempt, attempt);
        bench.start(key);
        assert_eq!(requeue(&mut bench, ANN, whole(id), false), Ok(Reply::Reached(1)));
        let live = bench.engine.state().live_attempt(key.task).unwrap();
        assert!(matches!(live.phase, LivePhase::Ending { verdict: Verdict::Requeued { by_uid: 1000 }, .. }));
        bench.gone(key, 0, GoneHow::Exited { code: 255, signal: 0, out_of_memory: false });
    }
    // A node that fails it is still forgiven.
    let key = bench.key(id);
    bench.start(key);
    bench.gone(key, 0, GoneHow::Broken { reason: "broken".to_owned() });
    bench.after_s(1000);
    assert_eq!(bench.key(id).attempt, often + 2);
    assert_eq!(requeue(&mut bench, ANN, whole(id), true), Ok(Reply::Reached(1)));
    let key = bench.key(id);
    bench.gone(key, 0, GoneHow::Stopped);
    assert!(!bench.is_live(id), "it is held");
    assert!(matches!(requeue(&mut bench, ANN, whole(id), false), Err(Refusal::Waits { .. })));
    bench.release(ANN, id).unwrap();
    bench.exit(bench.key(id), 0);
    assert!(matches!(requeue(&mut bench, ANN, whole(id), false), Err(Refusal::AlreadyEnded { .. })));
    let mut never = job(ANN);
    never.requeue = false;
    let never = bench.submit(ANN, never).unwrap();
    bench.start(bench.key(never));
    assert_eq!(
        requeue(&mut bench, ANN, whole(never), false),
        Err(Refusal::NoRequeue { target: whole(never) })
    );
}

#[test]
fn one_task_of_an_array_is_put_back() {
    let mut bench = Bench::new(config(&[4]));
    let array = bench.submit(ANN, job(ANN).array(3, None)).unwrap();
    (0..3).for_each(|index| bench.start(bench.key_of(array, index)));
    let target = JobRef { job: array, task: Some(TaskIndex(1)) };
    assert_eq!(requeue(&mut bench, ANN, target, false), Ok(Reply::Reached(1)));
    bench.gone(bench.key_of(array, 1), 0, GoneHow::Stopped);
    assert_eq!(bench.key_of(array, 1).attempt, 2);
    assert_eq!(bench.key_of(array, 0).attempt, 1);
}

#[test]
fn a_waiting_job_moves_to_where_it_can_start() {
    let mut bench = Bench::new(config(&[2]));
    let first = bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    bench.start(bench.key(first));
    let second = bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    let third = bench.submit(ANN, job(ANN).ranks(2)).unwrap();
    let priority = |priority| JobChange { priority: Some(priority), ..JobChange::default() };
    assert!(matches!(change(&mut bench, ANN, third, priority(1)), Err(Refusal::NotAdmin { .. })));
    change(&mut bench, ROOT, third, priority(1)).unwrap();
    // Its owner may still rename it.
    let name = JobChange { name: Some("third".to_owned()), ..JobChange::default() };
    assert_eq!(change(&mut bench, ANN, third, name), Ok(Reply::Done));
    assert!(matches!(change(&mut bench, BOB, third, limit(5)), Err(Refusal::NotOwner { .. })));
    bench.exit(bench.key(first), 0);
    assert!(bench.is_live(third) && !bench.is_live(second));
    // The request and what it depends on.
    let begin = bench.now.plus_seconds(50);
    change(&mut bench, ANN, second, JobChange { begin: Some(begin), ..JobChange::default() }).unwrap();
    bench.exit(bench.key(third), 0);
    assert!(!bench.is_live(second));
    let fourth = bench.submit(ANN, job(ANN).held()).unwrap();
    let after: Dependency = format!("afterany:{fourth}").parse().unwrap();
    let after = JobChange { dependency: Some(Some(after)), ..JobChange::default() };
    change(&mut bench, ANN, second, after).unwrap();
    bench.after_s(60);
    assert!(!bench.is_live(second), "its begin has come, but it waits for another job now");
    assert_eq!(bench.engine.state().dependents(fourth).collect::<Vec<_>>(), [second]);
    let free = JobChange { dependency: Some(None), ..JobChange::default() };
    change(&mut bench, ANN, second, free).unwrap();
    assert!(bench.is_live(second));
    assert_eq!(bench.engine.state().dependents(fourth).count(), 0);
    let mut wide = job(ANN).ranks(2).request;
    wide.ranks = 3;
    let wide = JobChange { request: Some((*wide).clone()), ..JobChange::default() };
    assert!(matches!(
        change(&mut bench, ANN, second, wide.clone()),
        Err(Refusal::HasStarted { what: "request", .. })
    ));
    assert!(matches!(change(&mut bench, ANN, fourth, wide), Err(Refusal::NeverFits { .. })));
}

#[test]
fn parts_of_the_time_limit_are_told_once_each() {
    let mut bench = Bench::new(config(&[2]));
    let mut spec = job(ANN).limit_s(100);
    let events = [MailEvent::TimeLimit50, MailEvent::TimeLimit80, MailEvent::TimeLimit90].into();
    spec.mail = Some(MailWish { events, to: None });
    let told = bench.submit(ANN, spec).unwrap();
    bench.start(bench.key(told));
    let percents = |bench: &Bench| -> Vec<u8> {
        let of = |record: &Record| match record.event {
            Event::AttemptRanFor { percent, .. } => Some(percent),
            _ => None,
        };
        bench.records.iter().filter_map(of).collect()
    };
    bench.after_s(49);
    assert!(percents(&bench).is_empty());
    assert_eq!(bench.engine.next_wake().map(|at| at.micros_since(bench.now)), Some(1_000_000));
    bench.after_s(1);
    bench.after_s(1);
    assert_eq!(percents(&bench), [50]);
    // Of several that go by at once the last is told; of a part of a limit that was raised, nothing twice.
    bench.after_s(40);
    assert_eq!(percents(&bench), [50, 90]);
    change(&mut bench, ROOT, told, limit(1000)).unwrap();
    bench.after_s(800);
    assert_eq!(percents(&bench), [50, 90]);
    bench.after_s(200);
    assert_eq!(percents(&bench), [50, 90], "what is over is told by its end");
}

#[test]
fn a_limit_that_changes_ends_what_runs_then() {
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, job(ANN).limit_s(100)).unwrap();
    let key = bench.key(id);
    bench.start(key);
    let raised = change(&mut bench, ANN, id, limit(200));
    assert_eq!(raised, Err(Refusal::NotAdmin { what: "raise the time limit of a job that runs" }));
    change(&mut bench, ANN, id, limit(50)).unwrap();
    change(&mut bench, ROOT, id, limit(150)).unwrap();
    bench.after_s(149);
    assert!(matches!(bench.engine.state().live_attempt(key.task).unwrap().phase, LivePhase::Running { .. }));
    bench.after_s(1);
    let phase = &bench.engine.state().live_attempt(key.task).unwrap().phase;
    assert!(matches!(phase, LivePhase::Ending { verdict: Verdict::TimedOut, .. }));
    // Nothing changes what has ended.
    bench.report(key, 0, InstancePhase::Preparing);
    bench.gone(key, 0, GoneHow::Stopped);
    assert!(matches!(change(&mut bench, ROOT, id, limit(5)), Err(Refusal::AlreadyEnded { .. })));
}

#[test]
fn the_throttle_of_an_array_opens_and_closes() {
    let mut bench = Bench::new(config(&[8]));
    let array = bench.submit(ANN, job(ANN).array(8, Some(2))).unwrap();
    let live = |bench: &Bench| bench.engine.state().jobs[&array].live.len();
    assert_eq!(live(&bench), 2);
    let to = |running_max| JobChange { running_max: Some(running_max), ..JobChange::default() };
    change(&mut bench, ANN, array, to(Some(5))).unwrap();
    assert_eq!(live(&bench), 5);
    assert!(change(&mut bench, ANN, array, to(Some(0))).is_err());
    change(&mut bench, ANN, array, to(None)).unwrap();
    assert_eq!(live(&bench), 8);
    let single = bench.submit(ANN, job(ANN)).unwrap();
    assert!(matches!(
        change(&mut bench, ANN, single, to(None)),
        Err(Refusal::BadField { field: "array", .. })
    ));
}

#[test]
fn a_job_cannot_be_made_to_wait_for_itself() {
    let mut bench = Bench::new(config(&[1]));
    let blocker = bench.submit(BOB, job(BOB)).unwrap();
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let second = bench.submit(ANN, job(ANN).after(&format!("afterany:{first}"))).unwrap();
    let third = bench.submit(ANN, job(ANN).after(&format!("afterok:{blocker},afterok:{second}"))).unwrap();
    let after = |text: String| {
        let dependency: Dependency = text.parse().unwrap();
        JobChange { dependency: Some(Some(dependency)), ..JobChange::default() }
    };
    for circle in [first, second, third] {
        let wished = after(format!("afterany:{blocker},after:{circle}"));
        let refused = change(&mut bench, ANN, first, wished).unwrap_err();
        assert!(
            matches!(refused, Refusal::Dependency { .. }) && refused.to_string().contains("wait for ever")
        );
    }
    change(&mut bench, ANN, first, after(format!("afterany:{blocker}"))).unwrap();
    change(&mut bench, ANN, third, after(format!("afterany:{first}"))).unwrap();
    // Nobody waits for the third any more.
    change(&mut bench, ANN, second, after(format!("afterany:{third}"))).unwrap();
}
