//! What follows as time passes and jobs of the cluster end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{chore, event, job, low, make, own_pool, pool, scale, schedule};
use crate::batch::{
    BatchEvent, BatchJobKey, BatchPoolKey, BatchTaskKey, ChoreKey, Deallocation, EndWish, FailedIn, Failure,
    FailureCategory, JobAction, NodeMove, Outcome, ResizeError,
};
use crate::event::{Event, Verdict};
use crate::ids::{JobId, NodeId, Timestamp};
use crate::staging::{FailureCode, StagingFailure};
use crate::state::{
    BatchJob, BatchPool, BatchTask, BatchTaskState, FinishedHow, JobPhase, JobWork, PoolAllocation, PoolWork,
    Settling, State,
};

/// Tasks that are made into jobs of the cluster in one tick, of one job.
const MADE_PER_TICK_MAX: usize = 1_000;

/// Everything that is due. Each job and each pool takes one step: the next tick follows at once if there are others.
pub(in crate::engine) fn due(state: &State, now: Timestamp, events: &mut Vec<Event>) {
    let mut taken = BTreeSet::new();
    for (key, pool, work) in state.batch_pools_due() {
        pool_step(state, key, pool, work, &mut taken, now, events);
    }
    let stuck = |key: &BatchPoolKey| state.batch_pools_due().any(|(due, ..)| due == key);
    for (key, pool) in state.batch_give_up(now).filter(|(key, _)| !stuck(key)) {
        events.extend(pool::stop(key, pool, vec![timed_out(state, pool)], None));
    }
    for (key, nodes) in state.batch_retention_lapsed(now) {
        events.push(event(BatchEvent::RetentionLapsed { pool: key.clone(), nodes }));
    }
    // A pool that takes a step has its turn afterwards, so that neither overrules the other.
    for (key, pool) in state.batch_scales_due(now).filter(|(key, _)| !stuck(key)) {
        scale::step(state, key, pool, now, events);
    }
    schedule::due(state, now, events);
    let submitted = events.iter().filter(|event| matches!(event, Event::JobSubmitted { .. })).count();
    let mut next_job = state.next_job + submitted as u64;
    chore::due(state, &mut next_job, now, events);
    for (key, job, work) in state.batch_jobs_due() {
        match work {
            JobWork::Settle => settle(state, key, job, now, events),
            JobWork::ManagerComplete => events.extend(job::terminate(state, key, job, "JMComplete", now)),
            JobWork::AllComplete => events.extend(job::terminate(state, key, job, "AllTasksComplete", now)),
            JobWork::Rest => rest(state, key, job, now, events),
            JobWork::Feed => feed(state, key, job, &mut next_job, now, events),
            JobWork::Prepare => prepare(state, key, job, events),
            JobWork::Release => release(state, key, job, events),
        }
    }
    let is_busy = |key: &BatchJobKey| state.batch_jobs_due().any(|(due, ..)| due == key);
    for (key, job) in state.batch_jobs_overdue(now).filter(|(key, _)| !is_busy(key)) {
        events.extend(job::terminate(state, key, job, "MaxWallClockTimeExpiry", now));
    }
}

fn pool_step(
    state: &State,
    key: &BatchPoolKey,
    pool: &BatchPool,
    work: PoolWork,
    taken: &mut BTreeSet<NodeId>,
    now: Timestamp,
    events: &mut Vec<Event>,
) {
    match work {
        PoolWork::Steady => {
            let (pool, errors) = (key.clone(), Vec::new());
            events.push(event(BatchEvent::PoolSteady { pool, errors, wanted_low: None }));
        }
        PoolWork::Gone => events.push(event(BatchEvent::PoolDeleted { pool: key.clone() })),
        PoolWork::Move(mut moves) => {
            // Another pool may have been before this one: it looks again in the next tick.
            moves.retain(|(node, _)| taken.insert(*node));
            let how = match &pool.allocation {
                PoolAllocation::Resizing { how, .. } if pool.deleting.is_none() => *how,
                _ => Deallocation::Requeue,
            };
            for (node, _) in moves.iter().filter(|(_, to)| *to == NodeMove::Leaving) {
                events.extend(pool::clear(state, *node, how, now));
                if matches!(how, Deallocation::Requeue | Deallocation::Terminate) {
                    events.extend(chore::clear(state, *node, now));
                }
            }
            for (node, to) in &moves {
                if matches!(to, NodeMove::Claimed | NodeMove::Lent) {
                    events.extend(low::take_back(state, *node, key, now));
                }
            }
            if !moves.is_empty() {
                events.push(event(BatchEvent::NodesMoved { pool: key.clone(), moves, needed_by: None }));
            }
        }
    }
}

fn timed_out(state: &State, pool: &BatchPool) -> ResizeError {
    let mut message = format!(
        "{} nodes of class '{}' were asked for and {} are there; {} others could be lent now",
        pool.target,
        pool.spec.home,
        pool.dedicated(),
        state.batch_candidates(pool)
    );
    if pool.target_low > 0 {
        let (target, there) = (pool.target_low, pool.low());
        message += &format!(
            "; of {target} low-priority nodes {there} are there, and the others come as nodes are idle"
        );
    }
    ResizeError { code: "AllocationTimedout".to_owned(), message }
}

fn rest(state: &State, key: &BatchJobKey, job: &BatchJob, now: Timestamp, events: &mut Vec<Event>) {
    let job_key = key.clone();
    let (ends, batch) = match job.phase {
        JobPhase::Disabling { .. } => (false, BatchEvent::JobDisabled { job: job_key }),
        JobPhase::Terminating { .. } => (true, BatchEvent::JobCompleted { job: job_key }),
        JobPhase::Deleting => (true, BatchEvent::JobDeleted { job: job_key }),
        JobPhase::Active | JobPhase::Disabled | JobPhase::Completed { .. } => return,
    };
    events.push(event(batch));
    if ends {
        events.extend(own_pool::leave_job(state, &key.account, job, now));
    }
}

/// Has nodes made ready for a job: each because of one of its tasks that wait, as far as there are so many.
fn prepare(state: &State, key: &BatchJobKey, job: &BatchJob, events: &mut Vec<Event>) {
    let waits = job.spec.preparation.as_ref().is_some_and(|spec| spec.waits);
    let mut tasks = job.waiting().filter(|_| waits).cloned();
    for node in state.batch_to_prepare(key, job) {
        let chore = ChoreKey::preparation(key, node);
        events.push(event(BatchEvent::ChoreDue { chore, task: tasks.next() }));
    }
}

/// Has nodes cleaned that were made ready for a job.
fn release(state: &State, key: &BatchJobKey, job: &BatchJob, events: &mut Vec<Event>) {
    for node in state.batch_to_release(key, job) {
        events.push(event(BatchEvent::ChoreDue { chore: ChoreKey::release(key, node), task: None }));
    }
}

/// Makes waiting tasks into jobs of the cluster.
fn feed(
    state: &State,
    key: &BatchJobKey,
    job: &BatchJob,
    next_job: &mut u64,
    now: Timestamp,
    events: &mut Vec<Event>,
) {
    for id in state.batch_feedable(key, job).take(MADE_PER_TICK_MAX) {
        let (Some(task), task_key) = (job.tasks.get(id), key.task(id.clone())) else { continue };
        match make::spec(state, &task_key, job, task, now) {
            Ok(spec) => {
                let made = JobId(*next_job);
                *next_job += 1;
                events.push(Event::JobSubmitted { job: made, spec: Arc::new(spec), request_key: None });
                events.push(event(BatchEvent::TaskMade { task: task_key, made }));
            }
            Err(refusal) => {
                let failure =
                    failure(FailureCategory::User, "TaskSchedulingConstraintFailed", refusal.to_string());
                let outcome = completed(job, task, None, Some(failure)).0;
                events.push(event(BatchEvent::TaskSettled { task: task_key, outcome }));
            }
        }
    }
}

/// Says what becomes of the tasks whose jobs of the cluster have ended, and of their job then.
fn settle(state: &State, key: &BatchJobKey, job: &BatchJob, now: Timestamp, events: &mut Vec<Event>) {
    let mut action = JobAction::None;
    for (id, task) in job.settling() {
        let BatchTaskState::Settling(settling) = &task.state else { continue };
        let (outcome, wanted) = outcome(job, task, settling);
        match (action, wanted) {
            (JobAction::None, _) => action = wanted,
            (JobAction::Disable, JobAction::Terminate) => action = wanted,
            _ => {}
        }
        let task: BatchTaskKey = key.task(id.clone());
        events.push(event(BatchEvent::TaskSettled { task, outcome }));
    }
    if job.phase != JobPhase::Active || !job.spec.acts_on_failure {
        return;
    }
    match action {
        JobAction::None => {}
        JobAction::Terminate => events.extend(job::terminate(state, key, job, "TaskFailed", now)),
        JobAction::Disable => {
            let disabled = job::disable(state, key, job, crate::batch::Disable::Requeue, now);
            events.extend(disabled.unwrap_or_default());
        }
    }
}

pub(super) fn failure(category: FailureCategory, code: &str, message: impl Into<String>) -> Failure {
    Failure { category, code: code.to_owned(), message: message.into(), failed_in: FailedIn::Command }
}

fn completed(
    job: &BatchJob,
    task: &BatchTask,
    exit_code: Option<i32>,
    failure: Option<Failure>,
) -> (Outcome, JobAction) {
    let (dependency, action) = job.shape(task).exits.action(exit_code, failure.as_ref());
    let satisfies = dependency == crate::batch::DependencyAction::Satisfy;
    (Outcome::Completed { exit_code, failure, satisfies }, action)
}

/// What becomes of a task whose job of the cluster has ended, and of its job then.
fn outcome(job: &BatchJob, task: &BatchTask, settling: &Settling) -> (Outcome, JobAction) {
    let ended = |message: &str| {
        completed(job, task, None, Some(failure(FailureCategory::User, "TaskEnded", message)))
    };
    match settling.made.wish {
        Some(EndWish::Requeue) => return (Outcome::Requeued, JobAction::None),
        Some(EndWish::Unqueue) => return (Outcome::Waits, JobAction::None),
        Some(EndWish::Terminate) => {
            return completed(job, task, None, Some(super::task::terminated()));
        }
        None => {}
    }
    let FinishedHow::Ran { verdict, .. } = &settling.finished.how else {
        return ended("its job of the cluster was cancelled before it started");
    };
    match verdict {
        Verdict::Exited { code } => exited(job, task, i32::try_from(*code).unwrap_or(i32::MAX), None),
        // As a shell says it.
        Verdict::Signalled { signal } => exited(
            job,
            task,
            128 + i32::try_from(*signal).unwrap_or(0),
            Some(format!("signal {signal} killed it")),
        ),
        Verdict::OutOfMemory { code, signal } => {
            let code = if *signal == 0 { *code } else { 128 + *signal };
            let message = "it ran out of the memory of its slots".to_owned();
            exited(job, task, i32::try_from(code).unwrap_or(i32::MAX), Some(message))
        }
        Verdict::TimedOut | Verdict::Deadline => ended("it ran longer than its maxWallClockTime"),
        Verdict::Cancelled { by_uid } => ended(&format!("user id {by_uid} cancelled its job of the cluster")),
        Verdict::Preempted { .. } | Verdict::Requeued { .. } => (Outcome::Waits, JobAction::None),
        Verdict::LaunchFailed { reason } => {
            let launch = failure(FailureCategory::User, "CommandLaunchFailed", reason.clone());
            completed(job, task, None, Some(Failure { failed_in: FailedIn::PreProcessing, ..launch }))
        }
        // All nodes of a gang are tried again together, as after any other end of a command.
        Verdict::StageInFailed { failure, .. } if failure.code == FailureCode::CoordinationCommandFailed => {
            retried(job, task)
                .unwrap_or_else(|| completed(job, task, None, Some(staged(failure, FailedIn::Command))))
        }
        Verdict::StageInFailed { failure, .. } => {
            completed(job, task, None, Some(staged(failure, FailedIn::PreProcessing)))
        }
        Verdict::StageOutFailed { failure } => {
            completed(job, task, Some(0), Some(staged(failure, FailedIn::FileUpload)))
        }
        Verdict::PrepareFailed { reason, .. }
        | Verdict::NodeFailed { reason, .. }
        | Verdict::Broken { reason, .. } => {
            let message = format!("nodes failed under it again and again; the last time: {reason}");
            completed(
                job,
                task,
                None,
                Some(failure(FailureCategory::Server, "MaxInternalRetryCountReached", message)),
            )
        }
    }
}

/// What went wrong with files, or before the command.
pub(super) fn staged(failure: &StagingFailure, failed_in: FailedIn) -> Failure {
    let category = if failure.code.is_users() { FailureCategory::User } else { FailureCategory::Server };
    Failure { category, code: failure.code.name().to_owned(), message: failure.message.clone(), failed_in }
}

/// Another try, if one is left.
fn retried(job: &BatchJob, task: &BatchTask) -> Option<(Outcome, JobAction)> {
    let retries = job.shape(task).retries.unwrap_or(job.spec.retries);
    let goes_on = retries.allow(task.retries.count) && job.phase == JobPhase::Active;
    goes_on.then_some((Outcome::Retried, JobAction::None))
}

/// The command came to an end: one that failed is tried again as often as was said.
fn exited(job: &BatchJob, task: &BatchTask, code: i32, why: Option<String>) -> (Outcome, JobAction) {
    if code == 0 {
        return completed(job, task, Some(0), None);
    }
    if let Some(again) = retried(job, task) {
        return again;
    }
    let message =
        why.unwrap_or_else(|| format!("the task exited with an exit code representing a failure: {code}"));
    completed(job, task, Some(code), Some(failure(FailureCategory::User, "FailureExitCode", message)))
}
