//! Holding jobs, and single tasks of arrays, back and letting them go.

use super::{done, refused};
use crate::event::Event;
use crate::ids::{JobId, JobRef, TaskId, TaskIndex};
use crate::input::{Caller, Decision, Refusal};
use crate::state::{Job, JobHold, State, TaskHold};

/// Most tasks of a job of which something is said by itself.
const TASK_HOLDS_MAX: usize = 10_000;

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

/// The single task that a target names; the one task of a job that is no array is the job.
pub(super) fn single_task(job: &Job, target: JobRef) -> Option<TaskIndex> {
    target.task.filter(|_| job.is_array())
}

/// Whether a hold of the caller is an admin's, which the owner of the job cannot end.
pub(super) fn is_by_admin(job: &Job, caller: Caller) -> bool {
    caller.admin && caller.uid != job.spec.user.uid
}

/// Holds the waiting tasks of a job back, or one of an array. What an admin holds of somebody else, only an admin lets go.
pub(super) fn hold(state: &State, caller: Caller, target: JobRef) -> Decision {
    let job = match own_target(state, caller, target) {
        Ok(job) => job,
        Err(refusal) => return refused(refusal),
    };
    let by_admin = is_by_admin(job, caller);
    // A hold of an admin stays one.
    let stays = |held: JobHold| held.by_admin || !by_admin;
    let Some(index) = single_task(job, target) else {
        let is_held =
            job.held.is_some_and(stays) && !job.task_holds.values().any(|said| *said == TaskHold::Released);
        if is_held {
            return done(Vec::new());
        }
        if job.waiting.is_empty() {
            return refused(Refusal::NothingWaits { job: job.id });
        }
        let by_admin = by_admin || job.held.is_some_and(|held| held.by_admin);
        return done(vec![Event::JobHeld { job: job.id, by_uid: caller.uid, by_admin }]);
    };
    if job.hold_of(index).is_some_and(stays) {
        return done(Vec::new());
    }
    if !job.waiting.contains(index.0) {
        return refused(Refusal::NothingWaits { job: job.id });
    }
    match task_held(job, caller, index) {
        Ok(event) => done(vec![event]),
        Err(refusal) => refused(refusal),
    }
}

/// Holds one task of an array back.
pub(super) fn task_held(job: &Job, caller: Caller, index: TaskIndex) -> Result<Event, Refusal> {
    has_place(job, index)?;
    let task = TaskId { job: job.id, index };
    Ok(Event::TaskHeld { task, by_uid: caller.uid, by_admin: is_by_admin(job, caller) })
}

/// Whether something may be said of one more task.
fn has_place(job: &Job, index: TaskIndex) -> Result<(), Refusal> {
    if job.task_holds.len() < TASK_HOLDS_MAX || job.task_holds.contains_key(&index) {
        return Ok(());
    }
    Err(Refusal::TooManyTaskHolds { job: job.id, limit: TASK_HOLDS_MAX as u64 })
}

/// Lets the waiting tasks of a job go, or one of an array.
pub(super) fn release(state: &State, caller: Caller, target: JobRef) -> Decision {
    let job = match own_target(state, caller, target) {
        Ok(job) => job,
        Err(refusal) => return refused(refusal),
    };
    let may_not = |held: JobHold| held.by_admin && !caller.admin;
    if let Some(index) = single_task(job, target) {
        return match job.hold_of(index) {
            None => done(Vec::new()),
            Some(held) if may_not(held) => refused(Refusal::HeldByAdmin { job: job.id }),
            Some(_) => match has_place(job, index) {
                Ok(()) => done(vec![Event::TaskReleased { task: TaskId { job: job.id, index } }]),
                Err(refusal) => refused(refusal),
            },
        };
    }
    if job.held.is_some_and(may_not) {
        return refused(Refusal::HeldByAdmin { job: job.id });
    }
    if job.held.is_none() && job.task_holds.is_empty() {
        return done(Vec::new());
    }
    done(vec![Event::JobReleased { job: job.id, by_admin: caller.admin }])
}
