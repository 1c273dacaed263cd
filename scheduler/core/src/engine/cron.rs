//! Tables of recurring jobs: setting and stopping them, and their next jobs.
//!
//! Each entry has at most one job at a time. When that has finished, a new job is made for the first instant that is after both
//! the present one and the one of the job before: what was missed meanwhile is not made up for.

use std::sync::Arc;

use super::validate::{self, Parts};
use super::{command, done, refused};
use crate::cron::{CRONTAB_BYTES_MAX, CRONTAB_ENTRIES_MAX, CRONTABS_MAX, CronEntry, Crontab, zone};
use crate::event::Event;
use crate::ids::{JobId, JobRef, Timestamp};
use crate::input::{Caller, Decision, Refusal};
use crate::spec::{IndexRange, JobSpec};
use crate::state::{CronRun, State};

/// Sets or removes a user's table. Jobs of the one before that wait are cancelled; what runs goes on to its end.
pub(super) fn set(
    state: &State,
    caller: Caller,
    uid: u32,
    crontab: Option<&Crontab>,
    now: Timestamp,
) -> Decision {
    if !caller.admin && caller.uid != uid {
        return refused(Refusal::NotAdmin { what: "change the crontab of somebody else" });
    }
    let crontab = match crontab.map(|crontab| checked(state, caller, crontab, now)).transpose() {
        Ok(crontab) => crontab.map(Arc::new),
        Err(refusal) => return refused(refusal),
    };
    let before = state.crontab(uid);
    if before.is_none() && crontab.is_none() {
        return done(Vec::new());
    }
    let mut events = vec![Event::CrontabSet { uid, crontab, by_uid: caller.uid }];
    for run in before.iter().flat_map(|standing| &standing.runs) {
        let CronRun::Made { job, .. } = run else { continue };
        let Some(job) = state.jobs.get(job).filter(|job| !job.waiting.is_empty()) else { continue };
        let indices: Vec<IndexRange> = job.waiting.ranges().collect();
        events.push(Event::WaitingCancelled { job: job.id, indices, by_uid: caller.uid });
    }
    done(events)
}

/// Checks a table as a whole, and fills in what its jobs leave out.
fn checked(state: &State, caller: Caller, crontab: &Crontab, now: Timestamp) -> Result<Crontab, Refusal> {
    let too_large = |what, limit| Err(Refusal::CrontabTooLarge { what, limit });
    if crontab.text.len() > CRONTAB_BYTES_MAX {
        return too_large("bytes", CRONTAB_BYTES_MAX);
    }
    if crontab.entries.len() > CRONTAB_ENTRIES_MAX {
        return too_large("entries", CRONTAB_ENTRIES_MAX);
    }
    if state.crontab(crontab.user.uid).is_none() && state.crontabs_len() >= CRONTABS_MAX {
        return too_large("users with a crontab", CRONTABS_MAX);
    }
    let entry = |entry: &CronEntry| {
        let wrong =
            |problem: Refusal| Refusal::CrontabLine { line: entry.last_line, problem: Box::new(problem) };
        if entry.spec.array.is_some() {
            return Err(wrong(validate::bad("array", "a recurring job has one task")));
        }
        let spec = at(entry, None);
        let spec = validate::check(state, caller, spec, Parts::ALL, now).map_err(wrong)?;
        Ok(CronEntry { spec: Arc::new(spec), ..entry.clone() })
    };
    let entries = crontab.entries.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(Crontab { entries, ..crontab.clone() })
}

/// The job of an entry that begins at an instant.
fn at(entry: &CronEntry, begin: Option<Timestamp>) -> JobSpec {
    let mut spec = JobSpec::clone(&entry.spec);
    spec.eligibility.begin = begin;
    spec
}

/// Ends a recurring job, and the entry that made it: it makes no other.
pub(super) fn stop(state: &State, caller: Caller, target: JobRef, now: Timestamp) -> Decision {
    let Some(id) = state.cron_of(target.job) else {
        return match state.jobs.contains_key(&target.job) {
            true => refused(Refusal::NotRecurring { target }),
            false => refused(Refusal::UnknownJob { target }),
        };
    };
    let mut decision = command::end(state, caller, target, now);
    if decision.reply.is_ok() {
        let reason = format!("job {} was cancelled by user id {}", target.job, caller.uid);
        decision.events.insert(0, Event::CronStopped { id, reason });
    }
    decision
}

/// The next jobs of entries whose last one has finished.
pub(super) fn due(state: &State, now: Timestamp) -> Vec<Event> {
    let zone = zone(&state.config.time_zone);
    let mut events = Vec::new();
    let mut next_job = state.next_job;
    for (id, entry, after) in state.cron_due() {
        // An admin may have set what its user may not: that was looked at when the table was set.
        let caller = Caller { uid: id.uid, admin: true };
        let made = match entry.schedule.next(after.max(now), &zone) {
            Some(begin) => validate::check(state, caller, at(entry, Some(begin)), Parts::ALL, now)
                .map(|spec| (spec, begin))
                .map_err(|refusal| refusal.to_string()),
            None => Err(format!("'{}' never comes again", entry.schedule.text())),
        };
        match made {
            Ok((spec, begin)) => {
                let job = JobId(next_job);
                next_job += 1;
                events.push(Event::JobSubmitted { job, spec: Arc::new(spec), request_key: None });
                events.push(Event::CronMade { id, job, begin });
            }
            Err(reason) => events.push(Event::CronStopped { id, reason }),
        }
    }
    events
}
