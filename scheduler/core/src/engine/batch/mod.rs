//! Decides about the batch service: what its users ask for, and what follows as time passes and jobs of the cluster end.
//!
//! A task that may run is made into a job of the cluster, as an entry of a crontab is. No more of them wait there than could start
//! at once, so that a task that waits costs little, and that what has the higher priority need not overtake.

mod chore;
mod container;
mod end;
mod job;
mod low;
mod make;
mod own_pool;
mod package;
mod pool;
mod scale;
mod schedule;
mod task;
mod tick;
mod used;

use std::sync::Arc;

pub(super) use self::low::taken_back;
pub(super) use self::package::{effects, set_up};
pub use self::scale::Trial;
pub(super) use self::tick::due;
pub(super) use self::used::heard;
use crate::batch::{
    BatchCommand, BatchEvent, BatchInput, BatchJobKey, BatchPoolKey, BatchRefusal, BatchReply, FoldedId,
    Target,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::input::{Decision, Reply};
use crate::state::{BatchJob, BatchPool, JobPhase, State};

/// What a request brings about.
type Decided = Result<Vec<Event>, BatchRefusal>;

/// Decides a request.
pub(super) fn decide(state: &State, input: &BatchInput, now: Timestamp) -> Decision {
    let with = |decided: Decided, reply| match decided {
        Ok(events) => Decision { events, effects: Vec::new(), reply: Ok(Reply::Batch(reply)) },
        Err(refusal) => super::refused(refusal.into()),
    };
    if let BatchCommand::AddTasks { job, shapes, tasks } = &input.command {
        return match task::add(state, input, job, shapes, tasks) {
            Ok((events, added)) => with(Ok(events), BatchReply::Added(added)),
            Err(refusal) => with(Err(refusal), BatchReply::Done),
        };
    }
    let decided = match &input.command {
        BatchCommand::CreatePool { .. }
        | BatchCommand::EnableScaling { .. }
        | BatchCommand::DisableScaling { .. }
        | BatchCommand::UpdatePool { .. }
        | BatchCommand::ResizePool { .. }
        | BatchCommand::StopResize { .. }
        | BatchCommand::RemoveNodes { .. }
        | BatchCommand::DeletePool { .. }
        | BatchCommand::ScheduleNode { .. } => pool::decide(state, input, now),
        BatchCommand::CreateJob { .. }
        | BatchCommand::UpdateJob { .. }
        | BatchCommand::DisableJob { .. }
        | BatchCommand::EnableJob { .. }
        | BatchCommand::TerminateJob { .. }
        | BatchCommand::DeleteJob { .. } => job::decide(state, input, now),
        BatchCommand::CreateSchedule { .. }
        | BatchCommand::UpdateSchedule { .. }
        | BatchCommand::EnableSchedule { .. }
        | BatchCommand::DisableSchedule { .. }
        | BatchCommand::TerminateSchedule { .. }
        | BatchCommand::DeleteSchedule { .. } => schedule::decide(state, input, now),
        BatchCommand::AddPackage { .. }
        | BatchCommand::SetDefaultVersion { .. }
        | BatchCommand::RemovePackage { .. } => package::decide(state, input),
        BatchCommand::AddTasks { .. }
        | BatchCommand::UpdateTask { .. }
        | BatchCommand::TerminateTask { .. }
        | BatchCommand::ReactivateTask { .. }
        | BatchCommand::DeleteTask { .. } => task::decide(state, input, now),
    };
    with(decided, BatchReply::Done)
}

/// An event of the batch service.
fn event(batch: BatchEvent) -> Event {
    Event::Batch { batch: Arc::new(batch) }
}

fn not_found(what: Target, id: &FoldedId) -> BatchRefusal {
    BatchRefusal::NotFound { what, id: id.to_string() }
}

fn invalid(property: &'static str, reason: impl Into<String>) -> BatchRefusal {
    BatchRefusal::Invalid { property, reason: reason.into() }
}

impl BatchInput {
    fn pool_key(&self, pool: &FoldedId) -> BatchPoolKey {
        BatchPoolKey { account: Arc::clone(&self.caller.account), pool: pool.clone() }
    }

    fn job_key(&self, job: &FoldedId) -> BatchJobKey {
        BatchJobKey { account: Arc::clone(&self.caller.account), job: job.clone() }
    }

    /// A pool of the caller's account, of which the request's condition holds.
    fn pool<'a>(
        &self,
        state: &'a State,
        id: &FoldedId,
    ) -> Result<(BatchPoolKey, &'a BatchPool), BatchRefusal> {
        let key = self.pool_key(id);
        let pool = state.batch_pool(&key).ok_or_else(|| not_found(Target::Pool, id))?;
        self.check(pool.version, pool.modified)?;
        Ok((key, pool))
    }

    /// A job of the caller's account, of which the request's condition holds.
    fn job<'a>(&self, state: &'a State, id: &FoldedId) -> Result<(BatchJobKey, &'a BatchJob), BatchRefusal> {
        let (key, job) = self.job_of_task(state, id)?;
        self.check(job.version, job.modified)?;
        Ok((key, job))
    }

    /// A job of the caller's account.
    fn job_of_task<'a>(
        &self,
        state: &'a State,
        id: &FoldedId,
    ) -> Result<(BatchJobKey, &'a BatchJob), BatchRefusal> {
        let key = self.job_key(id);
        let job = state.batch_job(&key).ok_or_else(|| not_found(Target::Job, id))?;
        Ok((key, job))
    }

    fn check(&self, version: u64, modified: Timestamp) -> Result<(), BatchRefusal> {
        if self.condition.holds(version, modified) { Ok(()) } else { Err(BatchRefusal::ConditionNotMet) }
    }
}

/// A job that is over, or on its way there, is not changed.
fn check_goes_on(job: &BatchJob) -> Result<(), BatchRefusal> {
    match job.phase {
        JobPhase::Active | JobPhase::Disabling { .. } | JobPhase::Disabled => Ok(()),
        JobPhase::Terminating { .. } => Err(BatchRefusal::JobBeingTerminated),
        JobPhase::Completed { .. } => Err(BatchRefusal::JobCompleted),
        JobPhase::Deleting => Err(BatchRefusal::JobBeingDeleted),
    }
}

#[cfg(test)]
mod chore_tests;
#[cfg(test)]
mod container_tests;
#[cfg(test)]
mod elastic_tests;
#[cfg(test)]
mod low_tests;
#[cfg(test)]
mod own_pool_tests;
#[cfg(test)]
mod package_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod rank_tests;
#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod stats_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod used_tests;
