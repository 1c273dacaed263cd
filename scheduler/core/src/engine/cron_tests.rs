//! Recurring jobs, told as scenarios.

use std::sync::Arc;

use crate::cron::{CronEntry, Crontab, Schedule};
use crate::ids::{JobId, JobRef, Timestamp};
use crate::input::{Caller, GoneHow, Input, Refusal, Reply};
use crate::spec::JobSpec;
use crate::state::{CronRun, State};
use crate::testing::{ANN, BOB, Bench, ROOT, config, job};

const MINUTE_US: u64 = 60_000_000;

fn table(caller: Caller, entries: &[(&str, JobSpec)]) -> Crontab {
    let entry = |(line, (schedule, spec)): (u32, &(&str, JobSpec))| CronEntry {
        first_line: line,
        last_line: line,
        schedule: Schedule::read(schedule).unwrap(),
        spec: Arc::new(spec.clone()),
    };
    Crontab {
        user: (*job(caller).user).clone(),
        text: "text".to_owned(),
        entries: (1..).zip(entries).map(entry).collect(),
    }
}

/// Sets a table as the shell does: what is due at once is done at once.
fn set(bench: &mut Bench, caller: Caller, crontab: Option<Crontab>) -> Result<Reply, Refusal> {
    let uid = crontab.as_ref().map_or(caller.uid, |crontab| crontab.user.uid);
    let reply = bench.input(Input::SetCrontab { caller, uid, crontab: crontab.map(Box::new) }).reply;
    bench.input(Input::Tick);
    reply
}

/// What the entries of a table have made: the job, and the instant that it is for.
fn made(state: &State, uid: u32) -> Vec<Option<(JobId, Timestamp)>> {
    let runs = state.crontab(uid).map(|standing| standing.runs.as_slice()).unwrap_or_default();
    let of = |run: &CronRun| match run {
        CronRun::Made { job, begin } => Some((*job, *begin)),
        CronRun::Due { .. } | CronRun::Stopped { .. } => None,
    };
    runs.iter().map(of).collect()
}

fn only(bench: &Bench) -> (JobId, Timestamp) {
    made(bench.engine.state(), ANN.uid)[0].expect("a job was made")
}

/// Lets time pass up to an instant.
fn until(bench: &mut Bench, at: Timestamp) {
    bench.after_s(at.0.saturating_sub(bench.now.0).div_ceil(1_000_000));
}

#[test]
fn a_job_comes_again_when_the_last_one_has_ended_and_never_before_its_instant() {
    let mut bench = Bench::new(config(&[8]));
    set(&mut bench, ANN, Some(table(ANN, &[("* * * * *", job(ANN))]))).unwrap();
    let (first, begin) = only(&bench);
    assert_eq!(begin.0, (bench.now.0 / MINUTE_US + 1) * MINUTE_US);
    assert_eq!(bench.engine.state().jobs[&first].spec.eligibility.begin, Some(begin));
    assert!(!bench.is_live(first));
    until(&mut bench, begin);
    assert!(bench.is_live(first));
    // It runs for more than two minutes: what comes meanwhile is passed over.
    bench.start(bench.key(first));
    bench.after_s(150);
    assert_eq!(only(&bench).0, first);
    bench.exit(bench.key(first), 1);
    bench.input(Input::Tick);
    let (second, later) = only(&bench);
    assert!(second > first && later > bench.now && later.0 - bench.now.0 <= MINUTE_US);
    assert_eq!(bench.engine.state().jobs.len(), 2);
    until(&mut bench, later);
    assert!(bench.is_live(second));
}

#[test]
fn one_that_is_put_back_into_the_queue_is_still_the_same() {
    let mut bench = Bench::new(config(&[8]));
    set(&mut bench, ANN, Some(table(ANN, &[("@hourly", job(ANN))]))).unwrap();
    let (id, begin) = only(&bench);
    until(&mut bench, begin);
    let key = bench.key(id);
    bench.start(key);
    let target = JobRef { job: id, task: None };
    bench.input(Input::Requeue { caller: ANN, target, hold: false }).reply.unwrap();
    bench.gone(key, 0, GoneHow::Stopped);
    bench.after_s(20);
    assert_eq!(only(&bench), (id, begin));
    bench.exit(bench.key(id), 0);
    bench.input(Input::Tick);
    assert!(only(&bench).1 > begin);
}

#[test]
fn a_table_is_taken_as_a_whole_or_not_at_all() {
    let mut bench = Bench::new(config(&[8]));
    let good = table(ANN, &[("@daily", job(ANN))]);
    set(&mut bench, ANN, Some(good.clone())).unwrap();
    let before = made(bench.engine.state(), ANN.uid);
    let bad = table(ANN, &[("@daily", job(ANN)), ("@hourly", job(ANN).ranks(99))]);
    let refusal = set(&mut bench, ANN, Some(bad)).unwrap_err();
    assert!(refusal.to_string().starts_with("line 2 of the crontab: the job can never run"), "{refusal}");
    let array = table(ANN, &[("@daily", job(ANN).array(3, None))]);
    assert!(matches!(set(&mut bench, ANN, Some(array)), Err(Refusal::CrontabLine { line: 1, .. })));
    let many = table(ANN, &vec![("@daily", job(ANN)); 201]);
    assert!(matches!(set(&mut bench, ANN, Some(many)), Err(Refusal::CrontabTooLarge { limit: 200, .. })));
    let long = Crontab { text: "#".repeat(200_000), ..good.clone() };
    assert!(matches!(set(&mut bench, ANN, Some(long)), Err(Refusal::CrontabTooLarge { .. })));
    assert!(matches!(set(&mut bench, BOB, Some(good)), Err(Refusal::NotAdmin { .. })));
    assert_eq!(made(bench.engine.state(), ANN.uid), before, "nothing has changed");
    set(&mut bench, ROOT, Some(table(ANN, &[("@weekly", job(ANN))]))).unwrap();
    assert_ne!(made(bench.engine.state(), ANN.uid), before);
}

#[test]
fn a_new_table_ends_what_waits_and_leaves_what_runs() {
    let mut bench = Bench::new(config(&[8]));
    set(&mut bench, ANN, Some(table(ANN, &[("* * * * *", job(ANN)), ("@yearly", job(ANN))]))).unwrap();
    let (runs, begin) = only(&bench);
    let (waits, _) = made(bench.engine.state(), ANN.uid)[1].unwrap();
    until(&mut bench, begin);
    bench.start(bench.key(runs));
    set(&mut bench, ANN, Some(table(ANN, &[("@daily", job(ANN))]))).unwrap();
    assert!(bench.is_live(runs) && bench.finished(waits).is_some());
    let (new, _) = only(&bench);
    // What runs is of no table any more: it ends, and nothing follows.
    bench.exit(bench.key(runs), 0);
    bench.input(Input::Tick);
    assert_eq!(only(&bench).0, new);
    set(&mut bench, ANN, None).unwrap();
    assert!(bench.finished(new).is_some() && bench.engine.state().crontabs_len() == 0);
    assert_eq!(set(&mut bench, ANN, None), Ok(Reply::Done));
}

#[test]
fn only_stopping_it_ends_a_recurring_job() {
    let mut bench = Bench::new(config(&[8]));
    let other = bench.submit(ANN, job(ANN).held()).unwrap();
    set(&mut bench, ANN, Some(table(ANN, &[("@daily", job(ANN)), ("@hourly", job(ANN))]))).unwrap();
    let (id, _) = only(&bench);
    let target = JobRef { job: id, task: None };
    assert_eq!(bench.cancel(ROOT, id), Err(Refusal::Recurring { target }));
    let stop = |bench: &mut Bench, caller, job| {
        let reply = bench.input(Input::StopCron { caller, target: JobRef { job, task: None } }).reply;
        bench.input(Input::Tick);
        reply
    };
    assert!(matches!(stop(&mut bench, BOB, id), Err(Refusal::NotOwner { .. })));
    assert!(matches!(stop(&mut bench, ANN, other), Err(Refusal::NotRecurring { .. })));
    assert!(matches!(stop(&mut bench, ANN, JobId(999)), Err(Refusal::UnknownJob { .. })));
    assert_eq!(stop(&mut bench, ANN, id), Ok(Reply::Cancelled(1)));
    assert!(bench.finished(id).is_some());
    let runs = &bench.engine.state().crontab(ANN.uid).unwrap().runs;
    assert!(matches!(&runs[0], CronRun::Stopped { reason } if reason.contains("user id 1000")), "{runs:?}");
    assert!(matches!(runs[1], CronRun::Made { .. }), "the other entry goes on");
}

#[test]
fn what_was_missed_while_nobody_was_there_is_not_made_up_for() {
    let mut bench = Bench::new(config(&[8]));
    set(&mut bench, ANN, Some(table(ANN, &[("*/5 * * * *", job(ANN))]))).unwrap();
    let (id, begin) = only(&bench);
    // Nothing was decided for hours; the job that was due then runs once, and the next one is ahead.
    until(&mut bench, Timestamp(begin.0 + 200 * MINUTE_US));
    assert!(bench.is_live(id));
    bench.start(bench.key(id));
    bench.exit(bench.key(id), 0);
    bench.input(Input::Tick);
    let (next, at) = only(&bench);
    assert!(next.0 == id.0 + 1 && at > bench.now && at.0 - bench.now.0 <= 5 * MINUTE_US);
}

#[test]
fn an_entry_whose_job_can_no_longer_run_stops_and_says_why() {
    let mut bench = Bench::new(config(&[8]));
    set(&mut bench, ANN, Some(table(ANN, &[("* * * * *", job(ANN).ranks(8))]))).unwrap();
    let (id, begin) = only(&bench);
    until(&mut bench, begin);
    bench.start(bench.key(id));
    bench.input(Input::Configure(Arc::new(config(&[4]))));
    bench.exit(bench.key(id), 0);
    bench.input(Input::Tick);
    let runs = &bench.engine.state().crontab(ANN.uid).unwrap().runs;
    assert!(matches!(&runs[0], CronRun::Stopped { reason } if reason.contains("can never run")), "{runs:?}");
}
