//! Pools that jobs bring: how long each is there, and what becomes of a job whose pool cannot be made.

use std::sync::Arc;

use super::{event, invalid, pool, scale};
use crate::batch::{
    AUTO_POOL_PREFIX_CHARS_MAX, AutoPool, BatchEvent, BatchInput, BatchJobSpec, BatchPoolKey, BatchPoolSpec,
    BatchRefusal, FailureCategory, FoldedId, PoolLifetime, ScheduleKey, SchedulingError, Targets, is_id,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::state::{BatchJob, BatchSchedule, State};

/// What is wrong with what is said of it, whatever else there is.
pub(super) fn check(spec: &BatchJobSpec) -> Result<(), BatchRefusal> {
    let Some(auto_pool) = &spec.auto_pool else { return Ok(()) };
    let prefix = &auto_pool.prefix;
    if prefix.len() > AUTO_POOL_PREFIX_CHARS_MAX || !(prefix.is_empty() || is_id(prefix)) {
        let reason =
            format!("must have at most {AUTO_POOL_PREFIX_CHARS_MAX} letters, digits, hyphens or underscores");
        return Err(invalid("autoPoolIdPrefix", reason));
    }
    Ok(())
}

/// A job that no schedule makes cannot share its pool with others.
pub(super) fn check_of_job(spec: &BatchJobSpec) -> Result<(), BatchRefusal> {
    if spec.auto_pool.as_ref().is_some_and(|auto_pool| auto_pool.lifetime == PoolLifetime::Schedule) {
        let reason = "jobschedule is for the jobs of job schedules; the pool of another job lives as long as the job: job";
        return Err(invalid("poolLifetimeOption", reason));
    }
    Ok(())
}

/// The pool of a new job and what makes it, under an id that no other has had. `shared` is the pool of the job's schedule, if that
/// has one already.
pub(super) fn of(
    state: &State,
    input: &BatchInput,
    auto_pool: &AutoPool,
    shared: Option<&FoldedId>,
    now: Timestamp,
) -> Result<(FoldedId, Vec<Event>), SchedulingError> {
    let is_there = |id: &&FoldedId| {
        let pool = state.batch_pool(&input.pool_key(id));
        pool.is_some_and(|pool| pool.deleting.is_none())
    };
    if let Some(id) = shared.filter(|_| auto_pool.lifetime == PoolLifetime::Schedule).filter(is_there) {
        return Ok((id.clone(), Vec::new()));
    }
    let number = state.batch_changes();
    let id = match auto_pool.prefix.as_str() {
        "" => format!("auto-{number:x}"),
        prefix => format!("{prefix}-{number:x}"),
    };
    let spec = BatchPoolSpec { id: id.clone(), ..auto_pool.pool.clone() };
    let refused = |refusal: BatchRefusal| error(&refusal);
    let targets = Targets { dedicated: Some(auto_pool.target), low_priority: Some(auto_pool.target_low) };
    let mut events = pool::create(state, input, &spec, targets, auto_pool.timeout_s, now).map_err(refused)?;
    let id = FoldedId::of(&id);
    if let Some(scaling) = &auto_pool.scaling {
        scale::check(scaling).map_err(refused)?;
        let scaling = Some(Arc::new(scaling.clone()));
        events.push(event(BatchEvent::PoolScaling { pool: input.pool_key(&id), scaling }));
    }
    Ok((id, events))
}

fn error(refusal: &BatchRefusal) -> SchedulingError {
    let code = match refusal {
        BatchRefusal::Quota { .. } => "AutoPoolCreationFailedWithQuotaReached",
        BatchRefusal::Formula { .. } => "InvalidAutoScaleFormulaInAutoPool",
        BatchRefusal::Packages { .. } => "InvalidApplicationPackageReferencesInAutoPool",
        _ => "InvalidAutoPoolSettings",
    };
    let message = format!("the pool that the job brings could not be made: {refusal}");
    SchedulingError { category: FailureCategory::User, code: code.to_owned(), message }
}

/// Lets the pool go that a job has brought for itself, at the job's end.
pub(super) fn leave_job(state: &State, account: &Arc<str>, job: &BatchJob, now: Timestamp) -> Vec<Event> {
    let brought = job.spec.auto_pool.as_ref();
    let goes = brought.is_some_and(|own| !own.keep_alive && own.lifetime == PoolLifetime::Job);
    match goes {
        true => leave(state, account, &job.spec.pool, now),
        false => Vec::new(),
    }
}

/// Lets the pool go that the jobs of a schedule have shared, at the schedule's end.
pub(super) fn leave_schedule(
    state: &State,
    key: &ScheduleKey,
    schedule: &BatchSchedule,
    now: Timestamp,
) -> Vec<Event> {
    let stays = schedule.spec.job.auto_pool.as_ref().is_some_and(|own| own.keep_alive);
    match schedule.pool.as_ref().filter(|_| !stays) {
        Some(pool) => leave(state, &key.account, pool, now),
        None => Vec::new(),
    }
}

fn leave(state: &State, account: &Arc<str>, pool: &FoldedId, now: Timestamp) -> Vec<Event> {
    let key = BatchPoolKey { account: Arc::clone(account), pool: pool.clone() };
    match state.batch_pool(&key).is_some_and(|pool| pool.deleting.is_none()) {
        true => pool::delete(state, key, now),
        false => Vec::new(),
    }
}
