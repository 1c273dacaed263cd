//! Job schedules: what users ask of them, and the jobs that they make as time passes.

use std::sync::Arc;

use super::job::NewJob;
use super::{Decided, event, invalid, job, not_found, own_pool};
use crate::batch::{
    ACTIVE_JOBS_PER_ACCOUNT_MAX, AutoPool, BatchCaller, BatchCommand, BatchEvent, BatchInput, BatchJobSpec,
    BatchRefusal, Condition, FoldedId, PoolLifetime, SAID_BYTES_MAX, SCHEDULE_TIME_MIN_S, ScheduleKey,
    SchedulePhase, ScheduleSpec, Target, is_id, job_of_schedule,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::state::{BatchSchedule, JobPhase, ScheduleWork, State};

pub(super) fn decide(state: &State, input: &BatchInput, now: Timestamp) -> Decided {
    match &input.command {
        BatchCommand::CreateSchedule { spec } => create(state, input, spec, now),
        BatchCommand::UpdateSchedule { schedule, spec } => {
            let (key, schedule) = going_on(state, input, schedule)?;
            check(spec, now)?;
            if spec.id != schedule.spec.id {
                return Err(invalid("id", "the id of a schedule stays as it is"));
            }
            let next = match spec.times == schedule.spec.times {
                true => schedule.next,
                false => next_of(spec, schedule, now),
            };
            let spec = Arc::new((**spec).clone());
            Ok(vec![event(BatchEvent::ScheduleUpdated { schedule: key, spec, next })])
        }
        BatchCommand::EnableSchedule { schedule } => {
            let (key, schedule) = going_on(state, input, schedule)?;
            match schedule.phase {
                SchedulePhase::Disabled => Ok(vec![entered(key, SchedulePhase::Active)]),
                _ => Err(BatchRefusal::InvalidState { why: "the job schedule is active already" }),
            }
        }
        BatchCommand::DisableSchedule { schedule } => {
            let (key, schedule) = going_on(state, input, schedule)?;
            match schedule.phase {
                SchedulePhase::Active => Ok(vec![entered(key, SchedulePhase::Disabled)]),
                _ => Err(BatchRefusal::InvalidState { why: "the job schedule is disabled already" }),
            }
        }
        BatchCommand::TerminateSchedule { schedule } => {
            let (key, schedule) = going_on(state, input, schedule)?;
            let mut events = vec![entered(key.clone(), SchedulePhase::Terminating)];
            if let Some((job_key, job)) = state.batch_active_job_of(&key, schedule)
                && matches!(job.phase, JobPhase::Active | JobPhase::Disabling { .. } | JobPhase::Disabled)
            {
                events.extend(job::terminate(state, &job_key, job, "TerminateJobSchedule", now));
            }
            Ok(events)
        }
        BatchCommand::DeleteSchedule { schedule } => {
            let (key, schedule) = find(state, input, schedule)?;
            if schedule.phase == SchedulePhase::Deleting {
                return Err(BatchRefusal::ScheduleBeingDeleted);
            }
            let mut events = vec![entered(key.clone(), SchedulePhase::Deleting)];
            for (id, job) in state.batch_jobs_of_schedule(&key) {
                if job.phase != JobPhase::Deleting {
                    events.extend(job::delete(state, &input.job_key(id), job, now));
                }
            }
            Ok(events)
        }
        _ => Ok(Vec::new()),
    }
}

fn entered(schedule: ScheduleKey, phase: SchedulePhase) -> Event {
    event(BatchEvent::ScheduleEntered { schedule, phase })
}

fn find<'a>(
    state: &'a State,
    input: &BatchInput,
    id: &FoldedId,
) -> Result<(ScheduleKey, &'a BatchSchedule), BatchRefusal> {
    let key = ScheduleKey { account: Arc::clone(&input.caller.account), schedule: id.clone() };
    let schedule = state.batch_schedule(&key).ok_or_else(|| not_found(Target::Schedule, id))?;
    input.check(schedule.version, schedule.modified)?;
    Ok((key, schedule))
}

/// A schedule that is neither over nor on its way there.
fn going_on<'a>(
    state: &'a State,
    input: &BatchInput,
    id: &FoldedId,
) -> Result<(ScheduleKey, &'a BatchSchedule), BatchRefusal> {
    let (key, schedule) = find(state, input, id)?;
    match schedule.phase {
        SchedulePhase::Active | SchedulePhase::Disabled => Ok((key, schedule)),
        SchedulePhase::Terminating => Err(BatchRefusal::ScheduleBeingTerminated),
        SchedulePhase::Completed => Err(BatchRefusal::ScheduleCompleted),
        SchedulePhase::Deleting => Err(BatchRefusal::ScheduleBeingDeleted),
    }
}

fn create(state: &State, input: &BatchInput, spec: &ScheduleSpec, now: Timestamp) -> Decided {
    if !is_id(&spec.id) {
        return Err(invalid("id", "must have 1 to 64 letters, digits, hyphens or underscores"));
    }
    let schedule = FoldedId::of(&spec.id);
    let key = ScheduleKey { account: Arc::clone(&input.caller.account), schedule: schedule.clone() };
    if state.batch_schedule(&key).is_some() {
        return Err(BatchRefusal::Exists { what: Target::Schedule, id: spec.id.clone() });
    }
    if state.batch_job(&input.job_key(&schedule)).is_some() {
        return Err(BatchRefusal::SameId { what: Target::Job, id: spec.id.clone() });
    }
    let account = state.batch_account(&key.account);
    if account.is_some_and(|account| account.active_jobs_and_schedules() >= ACTIVE_JOBS_PER_ACCOUNT_MAX) {
        let what = "active jobs and job schedules";
        return Err(BatchRefusal::Quota { what, limit: ACTIVE_JOBS_PER_ACCOUNT_MAX });
    }
    check(spec, now)?;
    let first = spec.times.not_before.map_or(now, |first| first.max(now));
    let (by, next) = (input.caller.user.clone(), spec.times.allowed(first));
    let spec = Arc::new(spec.clone());
    Ok(vec![event(BatchEvent::ScheduleCreated { schedule: key, spec, by, next })])
}

fn check(spec: &ScheduleSpec, now: Timestamp) -> Result<(), BatchRefusal> {
    let times = &spec.times;
    for (seconds, property) in [(times.interval_s, "recurrenceInterval"), (times.window_s, "startWindow")] {
        if seconds.is_some_and(|seconds| seconds < SCHEDULE_TIME_MIN_S) {
            return Err(invalid(property, format!("must be at least {SCHEDULE_TIME_MIN_S} seconds")));
        }
    }
    if let Some(last) = times.not_after {
        if last <= now {
            return Err(invalid("doNotRunAfter", "must be in the future"));
        }
        if times.not_before.is_some_and(|first| first > last) {
            return Err(invalid("doNotRunUntil", "must not be after doNotRunAfter"));
        }
    }
    if spec.said.len() > SAID_BYTES_MAX {
        let reason = format!("what is said of the job schedule has more than {SAID_BYTES_MAX} bytes");
        return Err(invalid("id", reason));
    }
    job::check_spec(&spec.job)
}

/// When a schedule whose times have changed makes its next job.
fn next_of(spec: &ScheduleSpec, schedule: &BatchSchedule, now: Timestamp) -> Option<Timestamp> {
    let next = match (schedule.slot, spec.times.interval_s) {
        (None, _) => now,
        (Some(slot), Some(seconds)) => slot.plus_seconds(seconds).max(now),
        (Some(_), None) => return None,
    };
    spec.times.allowed(spec.times.not_before.map_or(next, |first| first.max(next)))
}

/// Everything that schedules have to do.
pub(super) fn due(state: &State, now: Timestamp, events: &mut Vec<Event>) {
    for (key, work) in state.batch_schedules_due() {
        if let Some(schedule) = state.batch_schedule(key) {
            events.extend(own_pool::leave_schedule(state, key, schedule, now));
        }
        events.push(match work {
            ScheduleWork::Complete => entered(key.clone(), SchedulePhase::Completed),
            ScheduleWork::Gone => event(BatchEvent::ScheduleDeleted { schedule: key.clone() }),
        });
    }
    // One at a time: whoever makes a job counts what the account has.
    let Some((key, schedule, slot)) = state.batch_schedules_at(now).next() else { return };
    let times = &schedule.spec.times;
    let next = times.next_after(slot, now);
    let made = match times.is_open(slot, now) {
        true => make(state, key, schedule, now).ok(),
        false => None,
    };
    match made {
        Some((job, made)) => {
            events.extend(made.events);
            let shares = |own: &&AutoPool| own.lifetime == PoolLifetime::Schedule;
            let pool = made.pool.filter(|_| schedule.spec.job.auto_pool.as_deref().filter(shares).is_some());
            let pool = pool.or_else(|| schedule.pool.clone());
            events.push(event(BatchEvent::ScheduleRan { schedule: key.clone(), job, slot, next, pool }));
        }
        // It is lost: it comes too late, or the account has no room for it.
        None => events.push(event(BatchEvent::ScheduleAdvanced { schedule: key.clone(), next })),
    }
}

/// The next job of a schedule.
fn make(
    state: &State,
    key: &ScheduleKey,
    schedule: &BatchSchedule,
    now: Timestamp,
) -> Result<(FoldedId, NewJob), BatchRefusal> {
    let id = job_of_schedule(&schedule.spec.id, schedule.made + 1);
    let spec =
        BatchJobSpec { id: id.clone(), schedule: Some(key.schedule.clone()), ..(*schedule.spec.job).clone() };
    let caller = BatchCaller { account: Arc::clone(&key.account), user: schedule.by.clone() };
    let command = BatchCommand::CreateJob { spec: Box::new(spec.clone()) };
    let input = BatchInput { caller, command, condition: Condition::default() };
    Ok((FoldedId::of(&id), job::made(state, &input, &spec, schedule.pool.as_ref(), now)?))
}
