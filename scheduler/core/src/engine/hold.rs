//! Holding jobs back and letting them go.

use super::{done, refused};
use crate::event::Event;
use crate::ids::{JobId, JobRef};
use crate::input::{Caller, Decision, Refusal};
use crate::state::{Job, State};

/// The job, if the caller may decide over it and it has not ended.
pub(super) fn own(state: &State, caller: Caller, id: JobId) -> Result<&Job, Refusal> {
    own_target(state, caller, JobRef { job: id, task: None })
}

/// The job of a target, if the caller may decide over it and the target has not ended.
pub(super) fn own_target(state: &State, caller: Caller, target: JobRef) -> Result<&Job, Refusal> {
    let job = state.jobs.get(&target.job).ok_or(Refusal::UnknownJob { target })?;
    if !caller.admin && caller.uid != job.spec.user.uid {
        return Err(Refusal::NotOwner { target, owner: job.spec.user.name.clone() });
    }
    match target.task {
        None if job.finished_at.is_some() => Err(Refusal::AlreadyEnded { target }),
        Some(index) if job.finished.contains_key(&index) => Err(Refusal::AlreadyEnded { target }),
        Some(index) if !job.live.contains_key(&index) && !job.waiting.contains(index.0) => {
            Err(Refusal::UnknownJob { target })
        }
        _ => Ok(job),
    }
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
