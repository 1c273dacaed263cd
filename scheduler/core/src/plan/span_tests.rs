//! Time limits that may be lowered.

use super::{expected_start, plan};
use crate::cluster::Backfill;
use crate::event::{Event, Record, Verdict};
use crate::input::{Effect, GoneHow};
use crate::state::{FinishedHow, State};
use crate::testing::{ANN, BOB, Bench, config, job};

/// One of two nodes is taken for 100 s, and a gang of both waits for it.
fn with_a_reservation() -> Bench {
    let mut bench = Bench::new(config(&[2, 2]));
    let running = bench.submit(ANN, job(ANN).ranks(2).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    bench.submit(ANN, job(ANN).gang(2, 2).limit_s(100)).unwrap();
    bench
}

#[test]
fn a_task_is_shortened_to_end_before_a_reservation() {
    let mut bench = with_a_reservation();
    let stubborn = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(101)).unwrap();
    let short = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(20)).unwrap();
    assert!(!bench.is_live(stubborn), "a second less than it needs");
    assert_eq!(bench.own_limit_s(short), Some(100), "as long as there is room, not only its least");
    let prepared = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::Prepare { key, time_limit_s, .. } if key.task.job == short => *time_limit_s,
        _ => None,
    });
    assert_eq!(prepared, Some(100), "its node is told");
    let key = bench.key(short);
    bench.start(key);
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(100)));
    bench.after_s(100);
    bench.gone(key, 0, GoneHow::Stopped);
    let how = &bench.finished(short).unwrap().how;
    let FinishedHow::Ran { verdict: Verdict::TimedOut, time_limit_s: Some(100), .. } = how else {
        panic!("{how:?}")
    };
}

#[test]
fn a_task_keeps_its_whole_limit_where_that_starts_as_early() {
    let mut bench = Bench::new(config(&[2, 2]));
    let id = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(20)).unwrap();
    assert_eq!(bench.own_limit_s(id), None);
    let mut bench = with_a_reservation();
    let before = bench.submit(BOB, job(BOB).limit_s(100).time_min_s(20)).unwrap();
    assert_eq!(bench.own_limit_s(before), None, "it ends exactly when the reservation starts");
}

#[test]
fn of_equal_tasks_only_those_that_may_be_short_overtake() {
    let mut bench = with_a_reservation();
    let long = bench.submit(BOB, job(BOB).limit_s(600)).unwrap();
    let short = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(60)).unwrap();
    assert!(!bench.is_live(long) && bench.is_live(short));
    let plan = plan(bench.engine.state(), bench.now);
    assert_eq!(plan.waiting[&long].reason.code(), "priority");
}

#[test]
fn every_attempt_has_its_own_limit() {
    let mut bench = with_a_reservation();
    let id = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(20)).unwrap();
    let key = bench.key(id);
    bench.start(key);
    bench.after_s(50);
    let reason = "contact was lost".to_owned();
    bench.gone(key, 0, GoneHow::Broken { reason });
    assert!(!bench.is_live(id));
    bench.after_s(2);
    assert_eq!(bench.key(id).attempt, 2);
    assert_eq!(bench.own_limit_s(id), Some(48), "up to the same reservation");
}

#[test]
fn a_deadline_shortens_and_is_what_ends_the_task() {
    let mut bench = Bench::new(config(&[2, 2]));
    let deadline = bench.now.plus_seconds(300);
    let id = bench.submit(ANN, job(ANN).ranks(4).limit_s(600).time_min_s(20).deadline(deadline)).unwrap();
    assert_eq!(bench.own_limit_s(id), Some(300));
    // What is behind it can rely on that.
    let gang = bench.submit(BOB, job(BOB).gang(2, 2)).unwrap();
    assert_eq!(expected_start(bench.engine.state(), gang, bench.now), Some(deadline));
    let key = bench.key(id);
    bench.start(key);
    bench.after_s(300);
    for instance in 0..2 {
        bench.gone(key, instance, GoneHow::Stopped);
    }
    let how = &bench.finished(id).unwrap().how;
    assert!(matches!(how, FinishedHow::Ran { verdict: Verdict::Deadline, .. }), "{how:?}");
    assert!(bench.is_live(gang));
}

#[test]
fn an_attempt_without_its_own_limit_is_read_from_an_old_journal() {
    let text = r#"{"at":5,"event":{"type":"attempt_placed","key":{"task":{"job":1,"index":0},"attempt":1},
                   "allocation":{"shares":[],"cores_per_rank":1}}}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert!(matches!(record.event, Event::AttemptPlaced { time_limit_s: None, .. }));
    assert_eq!(serde_json::to_string(&record).unwrap().matches("time_limit").count(), 0);
}

#[test]
fn a_lowered_limit_survives_a_snapshot() {
    let mut bench = with_a_reservation();
    let id = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(20)).unwrap();
    bench.start(bench.key(id));
    let text = serde_json::to_string(bench.engine.state()).unwrap();
    let read: State = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *bench.engine.state());
    read.check_invariants().unwrap();
}

#[test]
fn a_conservative_pool_fills_a_hole_with_a_shortened_task() {
    let mut config = config(&[2, 2]);
    config.pools[0].backfill = Backfill::Conservative;
    let mut bench = Bench::new(config);
    let running = bench.submit(ANN, job(ANN).ranks(2).limit_s(100)).unwrap();
    bench.start(bench.key(running));
    let gang = bench.submit(ANN, job(ANN).gang(2, 2).limit_s(200)).unwrap();
    let long = bench.submit(BOB, job(BOB).limit_s(600)).unwrap();
    let short = bench.submit(BOB, job(BOB).limit_s(600).time_min_s(60)).unwrap();
    assert_eq!(bench.own_limit_s(short), Some(100));
    assert!(!bench.is_live(gang) && !bench.is_live(long));
    // The whole limit is promised where nothing is in the way.
    let later = bench.submit(BOB, job(BOB).ranks(2).limit_s(600).time_min_s(150)).unwrap();
    bench.exit(bench.key(short), 0);
    bench.after_s(99);
    bench.exit(bench.key(running), 0);
    assert!(bench.is_live(gang) && !bench.is_live(later));
    bench.exit(bench.key(gang), 0);
    bench.after_s(1);
    assert_eq!(bench.own_limit_s(later), None);
    assert!(bench.is_live(long));
}

#[test]
fn a_promise_of_a_short_stay_grows_once_what_stood_behind_it_is_gone() {
    let mut config = config(&[2, 2]);
    config.pools[0].backfill = Backfill::Conservative;
    let mut bench = Bench::new(config);
    for limit_s in [50, 100] {
        let id = bench.submit(ANN, job(ANN).ranks(2).limit_s(limit_s)).unwrap();
        bench.start(bench.key(id));
    }
    let gang = bench.submit(ANN, job(ANN).gang(2, 2)).unwrap();
    let short = bench.submit(BOB, job(BOB).ranks(2).limit_s(600).time_min_s(40)).unwrap();
    bench.cancel(ANN, gang).unwrap();
    assert!(!bench.is_live(short));
    bench.after_s(50);
    let first = bench.engine.state().live().next().unwrap().0;
    bench.gone(first, 0, GoneHow::Stopped);
    bench.after_s(1);
    assert_eq!(bench.own_limit_s(short), None);
}
