//! Commands of users and admins.

use std::sync::Arc;

use super::{refused, validate};
use crate::event::{Event, Verdict};
use crate::ids::{AttemptKey, JobId, JobRef, TaskId, TaskIndex, Timestamp};
use crate::input::{Caller, Decision, Refusal, Reply};
use crate::spec::{IndexRange, JobSpec};
use crate::state::{Job, LivePhase, State};

pub(super) fn submit(
    state: &State,
    caller: Caller,
    spec: &JobSpec,
    request_key: Option<&str>,
    now: Timestamp,
) -> Decision {
    if let Some(job) = request_key.and_then(|key| state.job_by_request_key(caller.uid, key)) {
        return Decision { events: Vec::new(), effects: Vec::new(), reply: Ok(Reply::Submitted(job)) };
    }
    match validate::validate(state, caller, spec, now) {
        Err(refusal) => refused(refusal),
        Ok(spec) => {
            let job = JobId(state.next_job);
            let request_key = request_key.map(Arc::from);
            Decision {
                events: vec![Event::JobSubmitted { job, spec: Arc::new(spec), request_key }],
                effects: Vec::new(),
                reply: Ok(Reply::Submitted(job)),
            }
        }
    }
}

pub(super) fn cancel(state: &State, caller: Caller, target: JobRef, now: Timestamp) -> Decision {
    // Its entry would make the next one at once.
    if state.cron_of(target.job).is_some() {
        return refused(Refusal::Recurring { target });
    }
    end(state, caller, target, now)
}

/// Ends a job or one task of it.
pub(super) fn end(state: &State, caller: Caller, target: JobRef, now: Timestamp) -> Decision {
    let Some(job) = state.jobs.get(&target.job) else { return refused(Refusal::UnknownJob { target }) };
    if !caller.admin && caller.uid != job.spec.user.uid {
        return refused(Refusal::NotOwner { target, owner: job.spec.user.name.clone() });
    }
    let (indices, live) = match cancel_scope(job, target) {
        Ok(scope) => scope,
        Err(refusal) => return refused(refusal),
    };
    let by_uid = caller.uid;
    let waiting: u64 = indices.iter().map(IndexRange::len).sum();
    let mut events = Vec::new();
    if waiting > 0 {
        events.push(Event::WaitingCancelled { job: job.id, indices, by_uid });
    }
    for (index, attempt) in &live {
        let key = AttemptKey { task: TaskId { job: job.id, index: *index }, attempt: *attempt };
        events.push(Event::AttemptEnding { key, verdict: Verdict::Cancelled { by_uid } });
        if super::report::all_gone(&job.live[index]) {
            events.push(super::report::ended(state, job, key, Verdict::Cancelled { by_uid }, now));
        }
    }
    let count = waiting + live.len() as u64;
    Decision { events, effects: Vec::new(), reply: Ok(Reply::Cancelled(count)) }
}

/// Which tasks a cancellation reaches: waiting ones as ranges, live ones with their attempt.
type Scope = (Vec<IndexRange>, Vec<(TaskIndex, u32)>);

fn cancel_scope(job: &Job, target: JobRef) -> Result<Scope, Refusal> {
    // An attempt that is ending by itself is left alone, unless it would be tried again.
    let reaches = |job: &Job, index: TaskIndex| match &job.live[&index].phase {
        LivePhase::Ending { verdict, .. } => super::report::would_requeue(job, verdict),
        _ => true,
    };
    let live = |index: &TaskIndex| (*index, job.live[index].attempt);
    match target.task {
        None if job.is_finished() => Err(Refusal::AlreadyEnded { target }),
        None => {
            let indices = job.waiting.ranges().collect();
            Ok((indices, job.live.keys().filter(|i| reaches(job, **i)).map(live).collect()))
        }
        Some(index) if job.waiting.contains(index.0) => {
            Ok((vec![IndexRange { first: index.0, last: index.0, step: 1 }], Vec::new()))
        }
        Some(index) if job.live.contains_key(&index) => {
            let reached: Vec<_> = Some(index).filter(|i| reaches(job, *i)).iter().map(live).collect();
            Ok((Vec::new(), reached))
        }
        Some(index) if job.finished.contains_key(&index) => Err(Refusal::AlreadyEnded { target }),
        Some(_) => Err(Refusal::UnknownJob { target }),
    }
}
