//! What users ask of jobs.

use std::sync::Arc;

use super::{Decided, check_goes_on, chore, container, end, event, invalid, own_pool, package, task};
use crate::batch::{
    ACTIVE_JOBS_PER_ACCOUNT_MAX, BatchCommand, BatchEvent, BatchInput, BatchJobKey, BatchJobSpec,
    BatchRefusal, Disable, EndWish, FoldedId, JOBS_PER_ACCOUNT_MAX, NewTask, PRIORITY_MAX, RELEASE_MAX_S,
    SAID_BYTES_MAX, ScheduleKey, Target, is_id,
};
use crate::event::Event;
use crate::ids::Timestamp;
use crate::state::{BatchJob, JobPhase, State};

/// Longest reason for the end of a job, in bytes.
const REASON_BYTES_MAX: usize = 1024;
/// Why a job ends that somebody terminates without a word.
const USER_TERMINATE: &str = "UserTerminate";

pub(super) fn decide(state: &State, input: &BatchInput, now: Timestamp) -> Decided {
    match &input.command {
        BatchCommand::CreateJob { spec } => create(state, input, spec, now),
        BatchCommand::UpdateJob { job, spec } => {
            let (key, job) = input.job(state, job)?;
            check_goes_on(job)?;
            check_spec(spec)?;
            check_change(job, spec)?;
            // What waits was made with what the job said before.
            let mut events = match (spec.priority, spec.yields) == (job.spec.priority, job.spec.yields) {
                true => Vec::new(),
                false => unqueue(state, &key, job, now),
            };
            events.insert(0, event(BatchEvent::JobUpdated { job: key, spec: spec.clone().into() }));
            Ok(events)
        }
        BatchCommand::DisableJob { job, how } => {
            let (key, job) = input.job(state, job)?;
            check_goes_on(job)?;
            disable(state, &key, job, *how, now)
        }
        BatchCommand::EnableJob { job } => {
            let (key, job) = input.job(state, job)?;
            check_goes_on(job)?;
            match job.phase {
                JobPhase::Active => Err(BatchRefusal::InvalidState { why: "the job is active already" }),
                _ => Ok(vec![event(BatchEvent::JobEnabled { job: key })]),
            }
        }
        BatchCommand::TerminateJob { job, reason } => {
            let (key, job) = input.job(state, job)?;
            check_goes_on(job)?;
            if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
                return Err(invalid(
                    "terminateReason",
                    format!("must have at most {REASON_BYTES_MAX} bytes"),
                ));
            }
            let reason = reason.as_deref().unwrap_or(USER_TERMINATE);
            Ok(terminate(state, &key, job, reason, now))
        }
        BatchCommand::DeleteJob { job } => {
            let (key, job) = input.job(state, job)?;
            if job.phase == JobPhase::Deleting {
                return Err(BatchRefusal::JobBeingDeleted);
            }
            Ok(delete(state, &key, job, now))
        }
        _ => Ok(Vec::new()),
    }
}

fn create(state: &State, input: &BatchInput, spec: &BatchJobSpec, now: Timestamp) -> Decided {
    if !is_id(&spec.id) {
        return Err(invalid("id", "must have 1 to 64 letters, digits, hyphens or underscores"));
    }
    let schedule =
        ScheduleKey { account: Arc::clone(&input.caller.account), schedule: FoldedId::of(&spec.id) };
    if state.batch_schedule(&schedule).is_some() {
        return Err(BatchRefusal::SameId { what: Target::Schedule, id: spec.id.clone() });
    }
    own_pool::check_of_job(spec)?;
    Ok(made(state, input, spec, None, now)?.events)
}

/// A new job with what comes with it.
pub(super) struct NewJob {
    pub events: Vec<Event>,
    /// The pool that it brings, if it brings one.
    pub pool: Option<FoldedId>,
}

/// A new job, whose id is fine. `shared` is the pool of its schedule, if that has one already.
pub(super) fn made(
    state: &State,
    input: &BatchInput,
    spec: &BatchJobSpec,
    shared: Option<&FoldedId>,
    now: Timestamp,
) -> Result<NewJob, BatchRefusal> {
    let key = input.job_key(&FoldedId::of(&spec.id));
    if state.batch_job(&key).is_some() {
        return Err(BatchRefusal::Exists { what: Target::Job, id: spec.id.clone() });
    }
    check_spec(spec)?;
    if let Some(manager) = &spec.manager {
        package::check(state, &key.account, &manager.shape.packages)?;
    }
    container::check_job(state, &input.pool_key(&spec.pool), spec)?;
    let account = state.batch_account(&key.account);
    if account.is_some_and(|account| account.active_jobs_and_schedules() >= ACTIVE_JOBS_PER_ACCOUNT_MAX) {
        let what = "active jobs and job schedules";
        return Err(BatchRefusal::Quota { what, limit: ACTIVE_JOBS_PER_ACCOUNT_MAX });
    }
    if account.is_some_and(|account| account.jobs.len() >= JOBS_PER_ACCOUNT_MAX) {
        return Err(BatchRefusal::Quota { what: "jobs", limit: JOBS_PER_ACCOUNT_MAX });
    }
    let (by, mut spec) = (input.caller.user.clone(), spec.clone());
    let own = spec.auto_pool.as_deref().map(|auto_pool| own_pool::of(state, input, auto_pool, shared, now));
    let (mut events, error) = match own {
        None => (Vec::new(), None),
        Some(Ok((id, events))) => {
            spec.pool = id;
            (events, None)
        }
        Some(Err(error)) => (Vec::new(), Some(error)),
    };
    let pool = spec.auto_pool.as_ref().filter(|_| error.is_none()).map(|_| spec.pool.clone());
    let manager = spec.manager.clone().filter(|_| error.is_none());
    events.push(event(BatchEvent::JobCreated { job: key.clone(), spec: spec.into(), by }));
    if let Some(manager) = manager {
        let (shapes, tasks) = (vec![manager.shape], vec![NewTask { shape: 0, ..manager.task }]);
        events.push(event(BatchEvent::TasksAdded { job: key.clone(), shapes, tasks }));
    }
    events.extend(error.map(|error| event(BatchEvent::JobUnschedulable { job: key, error })));
    Ok(NewJob { events, pool })
}

pub(super) fn check_spec(spec: &BatchJobSpec) -> Result<(), BatchRefusal> {
    if !(-PRIORITY_MAX..=PRIORITY_MAX).contains(&spec.priority) {
        return Err(BatchRefusal::Priority);
    }
    if spec.running_max == Some(0) {
        return Err(invalid("maxParallelTasks", "must be -1 for no limit, or at least 1"));
    }
    if spec.said.len() > SAID_BYTES_MAX {
        return Err(invalid("id", format!("what is said of the job has more than {SAID_BYTES_MAX} bytes")));
    }
    if let Some(manager) = &spec.manager {
        task::check_manager(spec, manager)?;
    }
    own_pool::check(spec)?;
    check_chores(spec)
}

fn check_chores(spec: &BatchJobSpec) -> Result<(), BatchRefusal> {
    let (preparation, release) = (spec.preparation.as_deref(), spec.release.as_deref());
    for (chore, property) in [(preparation, "jobPreparationTask"), (release, "jobReleaseTask")] {
        let Some(chore) = chore else { continue };
        if !is_id(&chore.id) {
            return Err(invalid(
                property,
                "its id must have 1 to 64 letters, digits, hyphens or underscores",
            ));
        }
        chore::check(chore, property)?;
    }
    let Some(release) = release else { return Ok(()) };
    let Some(preparation) = preparation else {
        return Err(invalid("jobReleaseTask", "a job can have one only if it has a jobPreparationTask"));
    };
    if FoldedId::of(&preparation.id) == FoldedId::of(&release.id) {
        return Err(invalid("jobReleaseTask", "its id must be another than that of the jobPreparationTask"));
    }
    if release.wall_clock_max_s.is_some_and(|limit| limit > RELEASE_MAX_S) {
        return Err(invalid(
            "maxWallClockTime",
            format!("must be at most {RELEASE_MAX_S} seconds for a jobReleaseTask"),
        ));
    }
    Ok(())
}

/// What of a job may change once it is there.
fn check_change(job: &BatchJob, spec: &BatchJobSpec) -> Result<(), BatchRefusal> {
    let before = &job.spec;
    if before.terminate_when_complete && !spec.terminate_when_complete {
        let reason = "a job that is terminated once its tasks have completed cannot be made one that is not";
        return Err(invalid("onAllTasksComplete", reason));
    }
    if spec.pool != before.pool && job.phase != JobPhase::Disabled {
        return Err(BatchRefusal::InvalidState {
            why: "the pool of a job can be changed only while it is disabled",
        });
    }
    let fixed = spec.id == before.id
        && spec.uses_dependencies == before.uses_dependencies
        && spec.environment == before.environment
        && spec.manager == before.manager
        && spec.preparation == before.preparation
        && spec.release == before.release;
    if fixed {
        Ok(())
    } else {
        Err(invalid(
            "id",
            "id, usesTaskDependencies, environment settings, manager and preparation of a job stay as they are",
        ))
    }
}

/// Lets a job start no others, and ends what runs as far as was asked for.
pub(super) fn disable(
    state: &State,
    key: &BatchJobKey,
    job: &BatchJob,
    how: Disable,
    now: Timestamp,
) -> Decided {
    if job.phase != JobPhase::Active {
        return Err(BatchRefusal::JobDisabled);
    }
    let mut events = vec![event(BatchEvent::JobDisabling { job: key.clone(), how })];
    for (id, task) in job.made() {
        let wish = match how {
            Disable::Requeue => EndWish::Requeue,
            Disable::Terminate => EndWish::Terminate,
            Disable::Wait if is_queued(task) => EndWish::Unqueue,
            Disable::Wait => continue,
        };
        events.extend(end::end(state, &key.task(id.clone()), task, wish, EndWish::Unqueue, now));
    }
    Ok(events)
}

/// Lets the tasks wait again that were made into jobs of the cluster and have not started.
fn unqueue(state: &State, key: &BatchJobKey, job: &BatchJob, now: Timestamp) -> Vec<Event> {
    let queued = job.made().filter(|(_, task)| is_queued(task));
    let end = |(id, task): (&FoldedId, _)| {
        end::end(state, &key.task(id.clone()), task, EndWish::Unqueue, EndWish::Unqueue, now)
    };
    queued.flat_map(end).collect()
}

fn is_queued(task: &crate::state::BatchTask) -> bool {
    task.state.made().is_some_and(|made| made.started.is_none())
}

/// Brings a job to its end. Tasks that wait go on waiting, and never run.
pub(super) fn terminate(
    state: &State,
    key: &BatchJobKey,
    job: &BatchJob,
    reason: &str,
    now: Timestamp,
) -> Vec<Event> {
    let terminating = BatchEvent::JobTerminating { job: key.clone(), reason: reason.to_owned() };
    let mut events = vec![event(terminating)];
    events.extend(end_all(state, key, job, EndWish::Unqueue, now));
    events
}

/// Ends a job, and it is gone.
pub(super) fn delete(state: &State, key: &BatchJobKey, job: &BatchJob, now: Timestamp) -> Vec<Event> {
    let mut events = vec![event(BatchEvent::JobDeleting { job: key.clone() })];
    events.extend(end_all(state, key, job, EndWish::Terminate, now));
    events
}

fn end_all(state: &State, key: &BatchJobKey, job: &BatchJob, queued: EndWish, now: Timestamp) -> Vec<Event> {
    let end = |(id, task): (&FoldedId, _)| {
        end::end(state, &key.task(id.clone()), task, EndWish::Terminate, queued, now)
    };
    let mut events: Vec<Event> = job.made().flat_map(end).collect();
    events.extend(chore::end_preparations(state, job, now));
    events
}
