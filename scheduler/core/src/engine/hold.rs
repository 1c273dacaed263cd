//! Holding jobs back and letting them go.

use super::{done, refused};
use crate::event::Event;
use crate::ids::{JobId, JobRef};
use crate::input::{Caller, Decision, Refusal};
use crate::state::{Job, State};

/// The job, if the caller may decide over it and it has not ended.
fn own(state: &State, caller: Caller, id: JobId) -> Result<&Job, Refusal> {
    let target = JobRef { job: id, task: None };
    let job = state.jobs.get(&id).ok_or(Refusal::UnknownJob { target })?;
    if !caller.admin && caller.uid != job.spec.user.uid {
        return Err(Refusal::NotOwner { target, owner: job.spec.user.name.clone() });
    }
    if job.finished_at.is_some() { Err(Refusal::AlreadyEnded { target }) } else { Ok(job) }
}

/// Holds the waiting tasks of a job back. What an admin holds of somebody else, only an admin lets go.
pub(super) fn hold(state: &State, caller: Caller, id: JobId) -> Decision {
    let job = match own(state, caller, id) {
        Ok(job) => job,
        Err(refusal) => return refused(refusal),
    };
    let by_admin = caller.admin && caller.uid != job.spec.user.uid;
    match job.held {
        // A hold of an admin stays one.
        Some(held) if held.by_admin || !by_admin => done(Vec::new()),
        _ if job.waiting.is_empty() => refused(Refusal::NothingWaits { job: id }),
        _ => done(vec![Event::JobHeld { job: id, by_uid: caller.uid, by_admin }]),
    }
}

pub(super) fn release(state: &State, caller: Caller, id: JobId) -> Decision {
    match own(state, caller, id).map(|job| job.held) {
        Err(refusal) => refused(refusal),
        Ok(None) => done(Vec::new()),
        Ok(Some(held)) if held.by_admin && !caller.admin => refused(Refusal::HeldByAdmin { job: id }),
        Ok(Some(_)) => done(vec![Event::JobReleased { job: id }]),
    }
}
