//! When jobs may start, told as scenarios.

use crate::event::{Verdict, WaitingEnd};
use crate::ids::{JobId, JobRef, TaskIndex, Timestamp};
use crate::input::{Input, Refusal, Reply};
use crate::plan::{expected_start, plan};
use crate::state::FinishedHow;
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

fn why(bench: &Bench, job: JobId) -> &'static str {
    plan(bench.engine.state(), bench.now).waiting[&job].reason.code()
}

fn sentence(bench: &Bench, job: JobId) -> String {
    plan(bench.engine.state(), bench.now).waiting[&job].reason.to_string()
}

/// Starts the only task of a live job and lets it exit.
fn run(bench: &mut Bench, job: JobId, code: u32) {
    let key = bench.key(job);
    bench.start(key);
    bench.exit(key, code);
}

fn run_task(bench: &mut Bench, job: JobId, index: u32, code: u32) {
    let key = bench.key_of(job, index);
    bench.start(key);
    bench.exit(key, code);
}

#[test]
fn a_held_job_waits_until_it_is_released() {
    let mut bench = Bench::new(config(&[2]));
    let held = bench.submit(ANN, job(ANN).held()).unwrap();
    let behind = bench.submit(BOB, job(BOB).ranks(2)).unwrap();
    assert!(!bench.is_live(held) && bench.is_live(behind), "it holds up nobody");
    assert_eq!(why(&bench, held), "held_by_user");
    assert!(matches!(bench.release(BOB, held), Err(Refusal::NotOwner { .. })));
    run(&mut bench, behind, 0);
    assert_eq!(expected_start(bench.engine.state(), held, bench.now), None);
    bench.release(ANN, held).unwrap();
    assert!(bench.is_live(held));
    assert_eq!(bench.release(ANN, held), Ok(Reply::Done), "once more changes nothing");
    assert!(matches!(bench.hold(ANN, held), Err(Refusal::NothingWaits { .. })));
}

#[test]
fn what_an_admin_holds_only_an_admin_releases() {
    let mut bench = Bench::new(config(&[1]));
    let running = bench.submit(BOB, job(BOB)).unwrap();
    let waiting = bench.submit(ANN, job(ANN)).unwrap();
    bench.hold(ANN, waiting).unwrap();
    assert_eq!(why(&bench, waiting), "held_by_user");
    bench.hold(ROOT, waiting).unwrap();
    bench.hold(ANN, waiting).unwrap();
    assert_eq!(why(&bench, waiting), "held_by_admin");
    assert!(matches!(bench.release(ANN, waiting), Err(Refusal::HeldByAdmin { .. })));
    bench.release(ROOT, waiting).unwrap();
    run(&mut bench, running, 0);
    assert!(bench.is_live(waiting));
    let gone = JobId(99);
    assert!(matches!(bench.hold(ANN, gone), Err(Refusal::UnknownJob { .. })));
    assert!(matches!(bench.hold(ROOT, running), Err(Refusal::AlreadyEnded { .. })));
}

#[test]
fn holding_an_array_keeps_back_what_has_not_started() {
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, job(ANN).array(3, None)).unwrap();
    bench.hold(ANN, id).unwrap();
    run_task(&mut bench, id, 0, 0);
    assert!(!bench.is_live(id));
    bench.release(ANN, id).unwrap();
    run_task(&mut bench, id, 1, 0);
    run_task(&mut bench, id, 2, 0);
    assert!(bench.engine.state().jobs[&id].finished_at.is_some());
}

#[test]
fn a_job_with_a_begin_time_starts_then_and_wakes_the_engine() {
    let mut bench = Bench::new(config(&[1]));
    let begin = bench.now.plus_seconds(100);
    let late = bench.submit(ANN, job(ANN).begin(begin)).unwrap();
    assert_eq!(why(&bench, late), "begin_time");
    assert_eq!(bench.engine.next_wake(), Some(begin));
    assert_eq!(expected_start(bench.engine.state(), late, bench.now), Some(begin));
    bench.after_s(99);
    assert!(!bench.is_live(late));
    bench.after_s(1);
    assert!(bench.is_live(late));
    assert_ne!(bench.engine.next_wake(), Some(begin), "what has come wakes nobody again");
    let past = bench.submit(ANN, job(ANN).begin(Timestamp(5))).unwrap();
    run(&mut bench, late, 0);
    assert!(bench.is_live(past));
}

#[test]
fn a_task_that_cannot_meet_its_deadline_is_ended() {
    let mut bench = Bench::new(config(&[1]));
    let running = bench.submit(BOB, job(BOB).limit_s(1000)).unwrap();
    bench.start(bench.key(running));
    let deadline = bench.now.plus_seconds(300);
    let id = bench.submit(ANN, job(ANN).limit_s(100).deadline(deadline)).unwrap();
    assert_eq!(bench.engine.next_wake(), Some(Timestamp(bench.now.plus_seconds(200).0 + 1)));
    bench.after_s(200);
    assert!(bench.finished(id).is_none(), "it could still start this instant");
    bench.after_s(1);
    let how = &bench.finished(id).unwrap().how;
    assert!(matches!(how, FinishedHow::EndedWaiting { why: WaitingEnd::Deadline, .. }));
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(799)), "nothing else is due");
    let refusal = bench.submit(ANN, job(ANN).limit_s(100).deadline(bench.now.plus_seconds(99)));
    assert!(refusal.unwrap_err().to_string().contains("no task could end by then"));
}

#[test]
fn a_short_time_lets_a_task_start_late_and_the_deadline_ends_it() {
    let mut bench = Bench::new(config(&[1]));
    let running = bench.submit(BOB, job(BOB)).unwrap();
    let mut spec = job(ANN).limit_s(100).deadline(bench.now.plus_seconds(120));
    spec.eligibility.time_min_s = Some(10);
    let id = bench.submit(ANN, spec).unwrap();
    bench.start(bench.key(running));
    bench.after_s(60);
    bench.exit(bench.key(running), 0);
    let key = bench.key(id);
    bench.start(key);
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(60)));
    bench.after_s(60);
    bench.gone(key, 0, crate::input::GoneHow::Stopped);
    let how = &bench.finished(id).unwrap().how;
    assert!(matches!(how, FinishedHow::Ran { verdict: Verdict::Deadline, .. }), "{how:?}");
    let mut spec = job(ANN).limit_s(100);
    spec.eligibility.time_min_s = Some(101);
    assert!(bench.submit(ANN, spec).unwrap_err().to_string().contains("at most the time limit"));
}

#[test]
fn dependencies_follow_how_a_job_ends() {
    for (code, ok, not_ok) in [(0, true, false), (3, false, true)] {
        let mut bench = Bench::new(config(&[8]));
        let first = bench.submit(ANN, job(ANN)).unwrap();
        let mut submit = |text: &str| bench.submit(ANN, job(ANN).after(text)).unwrap();
        let after_ok = submit("afterok:1");
        let after_not_ok = submit("afternotok:1");
        let after_any = submit("afterany:1_0");
        let either = submit("afternotok:1?afterok:1");
        let started = submit("after:1");
        assert_eq!(why(&bench, after_ok), "dependency");
        assert_eq!(sentence(&bench, either), "it waits for afternotok:1?afterok:1");
        bench.start(bench.key(first));
        assert!(bench.is_live(started) && !bench.is_live(after_any));
        bench.exit(bench.key(first), code);
        for (id, starts) in [(after_ok, ok), (after_not_ok, not_ok), (after_any, true), (either, true)] {
            assert_eq!(bench.is_live(id), starts, "job {id} after exit code {code}");
            if !starts {
                assert_eq!(why(&bench, id), "dependency_never_satisfied");
            }
        }
        // What has ended decides for those who come later as well.
        assert_eq!(bench.submit(ANN, job(ANN).after("afterok:1")).map(|id| bench.is_live(id)), Ok(ok));
        assert_eq!(bench.submit(ANN, job(ANN).after("afternotok:1")).map(|id| bench.is_live(id)), Ok(not_ok));
    }
}

#[test]
fn all_terms_must_hold_when_joined_with_commas() {
    let mut bench = Bench::new(config(&[4]));
    let one = bench.submit(ANN, job(ANN)).unwrap();
    let two = bench.submit(ANN, job(ANN)).unwrap();
    let both = bench.submit(ANN, job(ANN).after("afterok:1:2")).unwrap();
    run(&mut bench, one, 0);
    assert!(!bench.is_live(both));
    assert_eq!(sentence(&bench, both), "it waits for afterok:2", "only what is open is told");
    run(&mut bench, two, 0);
    assert!(bench.is_live(both));
}

#[test]
fn an_array_counts_as_a_whole() {
    let mut bench = Bench::new(config(&[2]));
    let array = bench.submit(ANN, job(ANN).array(3, None)).unwrap();
    let mut submit = |text: &str| bench.submit(BOB, job(BOB).limit_s(60).after(text)).unwrap();
    let ok = submit("afterok:1");
    let not_ok = submit("afternotok:1");
    let one = submit("afterok:1_2");
    let started = submit("after:1");
    run_task(&mut bench, array, 0, 1);
    assert_eq!(why(&bench, ok), "dependency_never_satisfied", "one failure decides");
    assert_eq!(why(&bench, not_ok), "dependency", "not before the last has ended");
    assert!(!bench.is_live(started), "task 2 has not been told to start");
    run_task(&mut bench, array, 1, 0);
    bench.start(bench.key_of(array, 2));
    assert!(bench.is_live(started));
    bench.exit(bench.key_of(array, 2), 0);
    assert!(bench.is_live(not_ok));
    run(&mut bench, started, 0);
    assert!(bench.is_live(one));
    assert!(!bench.is_live(ok));
}

#[test]
fn a_cancelled_job_has_ended_without_success() {
    let mut bench = Bench::new(config(&[2]));
    let held = bench.submit(ANN, job(ANN).held()).unwrap();
    let any = bench.submit(ANN, job(ANN).after("afterany:1")).unwrap();
    let started = bench.submit(ANN, job(ANN).after("after:1")).unwrap();
    let ok = bench.submit(ANN, job(ANN).after("afterok:1")).unwrap();
    bench.cancel(ANN, held).unwrap();
    assert!(bench.is_live(any) && bench.is_live(started));
    assert_eq!(why(&bench, ok), "dependency_never_satisfied");
    assert!(sentence(&bench, ok).contains("(afterok:1)"));
    bench.cancel(ANN, ok).unwrap();
    assert!(bench.finished(ok).is_some());
}

#[test]
fn minutes_count_from_the_start() {
    let mut bench = Bench::new(config(&[2]));
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let later = bench.submit(ANN, job(ANN).after("after:1+2")).unwrap();
    bench.after_s(10);
    bench.start(bench.key(first));
    assert_eq!(why(&bench, later), "begin_time");
    assert_eq!(bench.engine.next_wake(), Some(bench.now.plus_seconds(120)));
    bench.after_s(119);
    assert!(!bench.is_live(later));
    // Who comes in between counts from the same start.
    let also = bench.submit(ANN, job(ANN).after("after:1+2")).unwrap();
    bench.after_s(1);
    assert!(bench.is_live(later));
    run(&mut bench, later, 0);
    assert!(bench.is_live(also));
}

#[test]
fn corresponding_tasks_follow_one_another() {
    let mut bench = Bench::new(config(&[4]));
    let first = bench.submit(ANN, job(ANN).array(3, None)).unwrap();
    let mut spec = job(ANN).array(3, None).after("aftercorr:1");
    spec.eligibility.cancel_unfulfillable = true;
    let second = bench.submit(ANN, spec).unwrap();
    assert_eq!(why(&bench, second), "dependency");
    run_task(&mut bench, first, 1, 0);
    let live: Vec<_> = bench.engine.state().jobs[&second].live.keys().copied().collect();
    assert_eq!(live, [TaskIndex(1)]);
    run_task(&mut bench, first, 0, 7);
    bench.input(Input::Tick);
    let finished = &bench.engine.state().jobs[&second].finished;
    let how = &finished[&TaskIndex(0)].how;
    assert!(matches!(how, FinishedHow::EndedWaiting { why: WaitingEnd::Dependency, .. }));
    run_task(&mut bench, first, 2, 0);
    run_task(&mut bench, second, 1, 0);
    run_task(&mut bench, second, 2, 0);
    assert!(bench.engine.state().jobs[&second].finished_at.is_some());
}

#[test]
fn partners_that_end_before_the_minutes_are_over_let_start_afterwards() {
    let mut bench = Bench::new(config(&[4]));
    let first = bench.submit(ANN, job(ANN).array(2, None)).unwrap();
    let second = bench.submit(ANN, job(ANN).array(2, None).after("after:1+5,aftercorr:1")).unwrap();
    run_task(&mut bench, first, 0, 0);
    run_task(&mut bench, first, 1, 0);
    assert_eq!(why(&bench, second), "begin_time");
    bench.after_s(299);
    assert!(!bench.is_live(second));
    bench.after_s(1);
    assert_eq!(bench.engine.state().jobs[&second].live.len(), 2);
}

#[test]
fn a_failed_partner_leaves_the_others_alone() {
    let mut bench = Bench::new(config(&[4]));
    let first = bench.submit(ANN, job(ANN).array(2, None)).unwrap();
    let second = bench.submit(ANN, job(ANN).array(2, None).after("aftercorr:1")).unwrap();
    run_task(&mut bench, first, 0, 1);
    run_task(&mut bench, first, 1, 0);
    run_task(&mut bench, second, 1, 0);
    assert_eq!(why(&bench, second), "dependency_never_satisfied");
    let job = &bench.engine.state().jobs[&second];
    let state = |index| crate::plan::eligible::task(job, TaskIndex(index), bench.now);
    assert_eq!(state(0).unwrap_err().code(), "dependency_never_satisfied");
}

#[test]
fn all_partners_that_are_cancelled_at_once_are_heard_of() {
    let mut bench = Bench::new(config(&[1]));
    let first = bench.submit(ANN, job(ANN).array(4, None)).unwrap();
    run_task(&mut bench, first, 0, 0);
    let mut spec = job(ANN).array(4, None).after("aftercorr:1");
    spec.eligibility.cancel_unfulfillable = true;
    let second = bench.submit(ANN, spec).unwrap();
    let key = bench.key_of(first, 1);
    bench.start(key);
    bench.hold(ANN, first).unwrap();
    bench.exit(key, 1);
    bench.cancel(ANN, first).unwrap();
    bench.input(Input::Tick);
    let finished = &bench.engine.state().jobs[&second].finished;
    assert_eq!(finished.keys().map(|index| index.0).collect::<Vec<_>>(), [1, 2, 3]);
    run_task(&mut bench, second, 0, 0);
    assert!(bench.engine.state().jobs[&second].finished_at.is_some());
}

#[test]
fn a_singleton_runs_alone_among_its_namesakes() {
    let mut bench = Bench::new(config(&[4]));
    let one = bench.submit(ANN, job(ANN)).unwrap();
    let two = bench.submit(ANN, job(ANN).after("singleton")).unwrap();
    let three = bench.submit(ANN, job(ANN).after("singleton")).unwrap();
    let other_user = bench.submit(BOB, job(BOB).after("singleton")).unwrap();
    assert!(bench.is_live(other_user) && !bench.is_live(two));
    run(&mut bench, one, 1);
    assert!(bench.is_live(two) && !bench.is_live(three), "one after the other");
    run(&mut bench, two, 0);
    assert!(bench.is_live(three));
}

#[test]
fn an_unfulfillable_job_is_cancelled_where_that_was_asked_for_and_so_are_those_behind_it() {
    let mut bench = Bench::new(config(&[2]));
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let chain = |text: &str| {
        let mut spec = job(ANN).after(text);
        spec.eligibility.cancel_unfulfillable = true;
        spec
    };
    let second = bench.submit(ANN, chain("afterok:1")).unwrap();
    let third = bench.submit(ANN, chain("afterok:2")).unwrap();
    run(&mut bench, first, 1);
    for id in [second, third] {
        assert!(bench.engine.next_wake().is_some_and(|wake| wake <= bench.now), "it is due at once");
        bench.input(Input::Tick);
        let how = &bench.finished(id).unwrap().how;
        assert!(matches!(how, FinishedHow::EndedWaiting { why: WaitingEnd::Dependency, .. }));
    }
    assert_eq!(bench.engine.next_wake(), None);
}

#[test]
fn an_outcome_outlives_the_record_of_its_job() {
    let mut config = config(&[4]);
    config.policy.finished_jobs_kept = 1;
    let mut bench = Bench::new(config);
    let first = bench.submit(ANN, job(ANN)).unwrap();
    let second = bench.submit(ANN, job(ANN).held()).unwrap();
    let waiting = bench.submit(ANN, job(ANN).after("afterok:1,afterany:2")).unwrap();
    run(&mut bench, first, 0);
    for _ in 0..3 {
        let other = bench.submit(ANN, job(ANN)).unwrap();
        run(&mut bench, other, 0);
    }
    assert!(!bench.engine.state().jobs.contains_key(&first));
    bench.cancel(ANN, second).unwrap();
    assert!(bench.is_live(waiting));
    let refusal = bench.submit(ANN, job(ANN).after("afterok:1")).unwrap_err().to_string();
    assert!(refusal.contains("ended so long ago"), "{refusal}");
}

#[test]
fn dependencies_that_mean_nothing_are_refused_and_change_nothing() {
    let mut bench = Bench::new(config(&[2]));
    let array = bench.submit(ANN, job(ANN).array(2, None)).unwrap();
    bench.submit(ANN, job(ANN)).unwrap();
    let before = bench.engine.state().clone();
    for (spec, text) in [
        (job(ANN).after("afterok:9"), "the job cannot depend on 9: there is no such job"),
        (job(ANN).after("afterok:1_7"), "depend on 1_7: the job has no task 7"),
        (job(ANN).after("aftercorr:1"), "write afterok"),
        (job(ANN).array(2, None).after("aftercorr:2"), "two arrays"),
        (job(ANN).array(3, None).after("aftercorr:1"), "it has no task 2"),
        (job(ANN).array(2, None).after("aftercorr:1?singleton"), "cannot be one of several choices"),
    ] {
        let refusal = bench.submit(ANN, spec).expect_err(text).to_string();
        assert!(refusal.contains(text), "{refusal}");
    }
    assert_eq!(*bench.engine.state(), before);
    let one = JobRef { job: array, task: Some(TaskIndex(1)) };
    bench.input(Input::Cancel { caller: ANN, target: one }).reply.unwrap();
}

#[test]
fn a_job_of_an_older_journal_starts_at_once() {
    let mut old = serde_json::to_value(job(ANN)).unwrap();
    assert!(old.as_object_mut().unwrap().remove("eligibility").is_none(), "a default is not written");
    let spec: crate::spec::JobSpec = serde_json::from_value(old).unwrap();
    let mut bench = Bench::new(config(&[1]));
    let id = bench.submit(ANN, spec).unwrap();
    assert!(bench.is_live(id));
    let later =
        bench.submit(ANN, job(ANN).after("afterok:1").deadline(bench.now.plus_seconds(9000))).unwrap();
    let text = serde_json::to_string(bench.engine.state()).unwrap();
    let read: crate::state::State = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *bench.engine.state());
    assert!(text.contains("\"dependency\":\"afterok:1\""), "job {later} is written as it was said");
}
