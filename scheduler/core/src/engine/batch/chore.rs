//! Chores: makes them into jobs of the cluster, and says what becomes of them when those have ended.

use std::sync::Arc;

use super::tick::{failure, staged};
use super::{event, invalid, make};
use crate::batch::{
    BatchEvent, BatchPoolKey, BatchRefusal, ChoreKey, ChoreOf, ChoreOutcome, ChoreSpec, FailedIn, Failure,
    FailureCategory, FoldedId,
};
use crate::engine::command;
use crate::event::{Event, Verdict};
use crate::ids::{JobId, JobRef, NodeId, Timestamp};
use crate::input::Caller;
use crate::staging;
use crate::state::{BatchJob, ChoreRun, ChoreState, ChoreWork, FinishedHow, Settling, State};

/// Checks what is said of a chore, of which the request calls this property.
pub(super) fn check(spec: &ChoreSpec, property: &'static str) -> Result<(), BatchRefusal> {
    staging::Command::parse(&spec.command).map_err(|error| invalid("commandLine", error.to_string()))?;
    if spec.wall_clock_max_s == Some(0) {
        return Err(invalid("maxWallClockTime", "must be at least one second"));
    }
    spec.staging.check().map_err(|error| invalid(property, error.to_string()))
}

/// One step of every chore of which something is to be done.
pub(super) fn due(state: &State, next_job: &mut u64, now: Timestamp, events: &mut Vec<Event>) {
    for (key, run, work) in state.batch_chores_due() {
        match (work, run) {
            (ChoreWork::Withdraw, _) => {
                let jobs: Vec<JobId> = state.batch_chore_jobs(key).collect();
                events.extend(jobs.into_iter().flat_map(|job| cancel(state, job, now)));
            }
            (ChoreWork::Make, Some(_)) => make(state, key, next_job, now, events),
            (ChoreWork::Settle, Some(run)) => {
                let outcome = outcome(state, key, run);
                events.push(event(BatchEvent::ChoreSettled { chore: key.clone(), outcome }));
            }
            (ChoreWork::Make | ChoreWork::Settle, None) => {}
        }
    }
}

fn make(state: &State, key: &ChoreKey, next_job: &mut u64, now: Timestamp, events: &mut Vec<Event>) {
    let Some((spec, job, pool)) = known(state, key) else {
        let outcome = ChoreOutcome::Ended { exit_code: None, failure: None };
        return events.push(event(BatchEvent::ChoreSettled { chore: key.clone(), outcome }));
    };
    match make::chore(state, key, &spec, job, &pool, now) {
        Ok(spec) => {
            let made = JobId(*next_job);
            *next_job += 1;
            events.push(Event::JobSubmitted { job: made, spec: Arc::new(spec), request_key: None });
            events.push(event(BatchEvent::ChoreMade { chore: key.clone(), made }));
        }
        Err(refusal) => {
            let failure =
                failure(FailureCategory::User, "TaskSchedulingConstraintFailed", refusal.to_string());
            let outcome = ChoreOutcome::Ended { exit_code: None, failure: Some(failure) };
            events.push(event(BatchEvent::ChoreSettled { chore: key.clone(), outcome }));
        }
    }
}

/// What a chore is like as its pool or job says now, and the pool that has its node.
fn known<'a>(state: &'a State, key: &ChoreKey) -> Option<(Arc<ChoreSpec>, Option<&'a BatchJob>, FoldedId)> {
    if let ChoreOf::Start { pool } = &key.of {
        let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
        let spec = state.batch_pool(&pool_key)?.spec.start.clone()?;
        return Some((spec, None, pool.clone()));
    }
    let job = state.batch_job(&key.job_key()?)?;
    let spec = match &key.of {
        ChoreOf::Release { .. } => job.spec.release.clone()?,
        _ => job.spec.preparation.clone()?,
    };
    Some((spec, Some(job), job.nodes.get(&key.node)?.pool.clone()))
}

/// Ends the job of the cluster that a chore was made into.
pub(super) fn cancel(state: &State, job: JobId, now: Timestamp) -> Vec<Event> {
    let uid = state.jobs.get(&job).map_or(0, |job| job.spec.user.uid);
    command::end(state, Caller { uid, admin: true }, JobRef { job, task: None }, now).events
}

/// Ends all chores on a node.
pub(super) fn clear(state: &State, node: NodeId, now: Timestamp) -> Vec<Event> {
    let jobs: Vec<JobId> = state.batch_chores_on(node).map(|(job, _)| job).collect();
    jobs.into_iter().flat_map(|job| cancel(state, job, now)).collect()
}

/// Ends the preparations of a job that comes to its end.
pub(super) fn end_preparations(state: &State, job: &BatchJob, now: Timestamp) -> Vec<Event> {
    let made = job.nodes.values().filter_map(|row| match &row.preparation.state {
        ChoreState::Made(made) => Some(made.job),
        _ => None,
    });
    made.flat_map(|job| cancel(state, job, now)).collect()
}

/// What becomes of a chore whose job of the cluster has ended.
fn outcome(state: &State, key: &ChoreKey, run: &ChoreRun) -> ChoreOutcome {
    let ChoreState::Settling(settling) = &run.state else { return ChoreOutcome::Again };
    let retries = known(state, key).map(|(spec, ..)| spec.retries);
    let goes_on = match &key.of {
        ChoreOf::Start { .. } | ChoreOf::Release { .. } => true,
        ChoreOf::Preparation { .. } => {
            let job = key.job_key().and_then(|key| state.batch_job(&key));
            job.is_some_and(|job| job.phase == crate::state::JobPhase::Active)
        }
    };
    let may_again = goes_on && retries.is_some_and(|retries| retries.allow(run.retries.count));
    // A release task runs once: what it was to clean is gone with the node.
    let is_once = matches!(key.of, ChoreOf::Release { .. });
    match end(settling) {
        End::Succeeded => ChoreOutcome::Ended { exit_code: Some(0), failure: None },
        End::Exited(..) if may_again => ChoreOutcome::Retried,
        End::Exited(code, message) => {
            let failure = failure(FailureCategory::User, "FailureExitCode", message);
            ChoreOutcome::Ended { exit_code: Some(code), failure: Some(failure) }
        }
        End::Failed(failure) => ChoreOutcome::Ended { exit_code: None, failure: Some(failure) },
        End::Withdrawn if !is_once && !state.batch_chore_can_run(key) => ChoreOutcome::Again,
        End::NodeFailed(_) if !is_once => ChoreOutcome::Again,
        End::Withdrawn => ended("its job of the cluster was cancelled before it started"),
        End::NodeFailed(reason) => ended(&format!("its node failed under it: {reason}")),
    }
}

fn ended(message: &str) -> ChoreOutcome {
    let failure = failure(FailureCategory::User, "TaskEnded", message);
    ChoreOutcome::Ended { exit_code: None, failure: Some(failure) }
}

/// How the job of the cluster ended, as far as a chore is concerned.
enum End {
    Succeeded,
    Exited(i32, String),
    Failed(Failure),
    Withdrawn,
    NodeFailed(String),
}

fn end(settling: &Settling) -> End {
    let FinishedHow::Ran { verdict, .. } = &settling.finished.how else { return End::Withdrawn };
    let number = |code: u32| i32::try_from(code).unwrap_or(i32::MAX);
    let killed = |message: String| End::Failed(failure(FailureCategory::User, "TaskEnded", message));
    match verdict {
        Verdict::Exited { code: 0 } => End::Succeeded,
        Verdict::Exited { code } => {
            End::Exited(number(*code), format!("it exited with an exit code representing a failure: {code}"))
        }
        Verdict::Signalled { signal } => {
            End::Exited(128 + number(*signal), format!("signal {signal} killed it"))
        }
        Verdict::OutOfMemory { code, signal } => {
            let code = if *signal == 0 { *code } else { 128 + *signal };
            End::Exited(number(code), "it ran out of memory".to_owned())
        }
        Verdict::TimedOut | Verdict::Deadline => killed("it ran longer than its maxWallClockTime".to_owned()),
        Verdict::Cancelled { by_uid } => {
            killed(format!("user id {by_uid} cancelled its job of the cluster, or its node left the pool"))
        }
        Verdict::LaunchFailed { reason } => {
            let launch = failure(FailureCategory::User, "CommandLaunchFailed", reason.clone());
            End::Failed(Failure { failed_in: FailedIn::PreProcessing, ..launch })
        }
        Verdict::StageInFailed { failure, .. } => End::Failed(staged(failure, FailedIn::PreProcessing)),
        Verdict::StageOutFailed { failure } => End::Failed(staged(failure, FailedIn::FileUpload)),
        Verdict::Preempted { .. } | Verdict::Requeued { .. } => {
            End::NodeFailed("others were given its place".to_owned())
        }
        Verdict::PrepareFailed { reason, .. }
        | Verdict::NodeFailed { reason, .. }
        | Verdict::Broken { reason, .. } => End::NodeFailed(reason.clone()),
    }
}
