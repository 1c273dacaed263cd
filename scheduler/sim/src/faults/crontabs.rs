//! Recurring jobs, drawn by seed. What an entry promises is checked whenever a script starts: there is only ever one job of it,
//! and none starts before its instant.

use std::sync::Arc;

use muster_core::cron::{CronEntry, Crontab, Schedule};
use muster_core::ids::{AttemptKey, JobId, JobRef, Timestamp};
use muster_core::input::{Caller, Input};
use muster_core::spec::{JobSpec, Request};
use muster_core::state::State;

use crate::rng::Rng;

const EXPRESSIONS: [&str; 3] = ["* * * * *", "0-59 * * * *", "*/2 * * * *"];

/// Sets, replaces or removes the table of a job's user now and then, or stops an entry of one.
pub(crate) fn change(rng: &mut Rng, state: &State, spec: JobSpec, now: Timestamp) -> Option<Input> {
    if rng.one_in(8) {
        let jobs: Vec<JobId> =
            state.jobs.keys().copied().filter(|job| state.cron_of(*job).is_some()).collect();
        let job = *jobs.get(rng.below(jobs.len().max(1) as u64) as usize)?;
        let target = JobRef { job, task: None };
        return Some(Input::StopCron { caller: Caller { uid: 0, admin: true }, target });
    }
    if !rng.one_in(6) {
        return None;
    }
    // One that may run sooner or later, on any node: what can never run is refused with its whole table.
    let spec = JobSpec {
        array: None,
        eligibility: Default::default(),
        request: Request { ranks: 1, ..Request::default() }.into(),
        account: None,
        reservation: None,
        ..spec
    };
    let caller = Caller { uid: spec.user.uid, admin: false };
    if rng.one_in(6) {
        return Some(Input::SetCrontab { caller, uid: caller.uid, crontab: None });
    }
    let user = (*spec.user).clone();
    let entries = (1..=1 + rng.below(2) as u32).map(|line| CronEntry {
        first_line: line,
        last_line: line,
        schedule: Schedule::read(EXPRESSIONS[rng.below(3) as usize]).expect("these are right"),
        spec: Arc::new(JobSpec { comment: Some(format!("{} {line}", now.0)), ..spec.clone() }),
    });
    let entries = entries.collect();
    let crontab = Crontab { user, text: String::new(), entries };
    Some(Input::SetCrontab { caller, uid: caller.uid, crontab: Some(Box::new(crontab)) })
}

/// Whether what has just started is, if it recurs, the only unfinished job of its entry, and the only one ever for an instant
/// that has come. The jobs of an entry are told by their comment, so that nothing rests on what the engine says of them.
pub(crate) fn is_alone_and_due(state: &State, key: AttemptKey, now: Timestamp) -> bool {
    let Some(job) = state.jobs.get(&key.task.job).filter(|job| job.spec.comment.is_some()) else {
        return true;
    };
    let same =
        state.jobs.values().filter(|other| other.id != job.id && other.spec.comment == job.spec.comment);
    let begin = job.spec.eligibility.begin;
    begin.is_some_and(|begin| begin <= now)
        && same.into_iter().all(|other| other.finished_at.is_some() && other.spec.eligibility.begin < begin)
}

/// Whether a job is of a table, now or before.
pub(crate) fn recurs(state: &State, job: JobId) -> bool {
    state.jobs.get(&job).is_some_and(|job| job.spec.comment.is_some())
}

/// What lets everything come to its end: nothing comes again.
pub(crate) fn give_up(state: &State) -> Vec<Input> {
    let caller = Caller { uid: 0, admin: true };
    state.crontabs().map(|(uid, _)| Input::SetCrontab { caller, uid, crontab: None }).collect()
}
