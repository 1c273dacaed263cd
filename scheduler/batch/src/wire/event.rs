//! What the engine's events tell clients who watch: the diagnostic events of pools, tasks and chores.

use std::sync::Arc;

use muster_core::batch::{
    BatchEvent, BatchJobKey, BatchPoolKey, BatchTaskKey, ChoreKey, ChoreOf, ChoreOutcome, Deallocation,
    FoldedId, Outcome, Retries,
};
use muster_core::event::{Event, Record, Verdict};
use muster_core::ids::{AttemptKey, NodeId, TaskId, Timestamp};
use muster_core::state::{BatchJob, BatchPool, BatchTask, BatchTaskState, ChoreRun, FinishedHow, State};
use serde_json::{Value, json};

use super::chore::{chore_began, chore_result};
use super::job::pool_id;
use super::pool::{said, show_run};
use super::task::{execution, failure_info};
use super::{format_duration, iso};

/// Something that happened, as clients are told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it is called, such as `TaskStartEvent`.
    pub name: &'static str,
    /// The account that it happened in.
    pub account: Arc<str>,
    /// The job that it is about, if it is about one.
    pub job: Option<FoldedId>,
    /// What is to be said of it.
    pub properties: Value,
}

/// The names of all events.
pub const EVENT_NAMES: [&str; 15] = [
    "PoolCreateEvent",
    "PoolDeleteStartEvent",
    "PoolDeleteCompleteEvent",
    "PoolResizeStartEvent",
    "PoolResizeCompleteEvent",
    "PoolAutoScaleEvent",
    "TaskStartEvent",
    "TaskCompleteEvent",
    "TaskFailEvent",
    "TaskRequeueEvent",
    "TaskRetryEvent",
    "TaskScheduleFailEvent",
    "SpecialTaskStartEvent",
    "SpecialTaskCompleteEvent",
    "SpecialTaskRetryEvent",
];

/// What of the state must be known from before a record happens, to tell of it.
#[derive(Debug, Default)]
pub struct Before {
    /// Since when the pool is being resized or deleted.
    since: Option<Timestamp>,
    /// The node of the task.
    node: Option<NodeId>,
    /// The task that waits for a preparation.
    waiting: Option<FoldedId>,
}

/// Looks at the state before a record happens.
#[must_use]
pub fn before_event(state: &State, record: &Record) -> Before {
    let Event::Batch { batch } = &record.event else { return Before::default() };
    match &**batch {
        BatchEvent::PoolSteady { pool, .. } => {
            Before { since: state.batch_pool(pool).map(|pool| pool.allocation_since), ..Before::default() }
        }
        BatchEvent::PoolDeleted { pool } => {
            Before { since: state.batch_pool(pool).and_then(|pool| pool.deleting), ..Before::default() }
        }
        BatchEvent::TaskSettled { task, .. } => {
            let node = state.batch_task(task).and_then(|(_, task)| match &task.state {
                BatchTaskState::Settling(settling) => match &settling.finished.how {
                    FinishedHow::Ran { allocation, .. } => allocation.shares.first().map(|share| share.node),
                    _ => None,
                },
                _ => None,
            });
            Before { node, ..Before::default() }
        }
        BatchEvent::ChoreSettled { chore, .. } => {
            let row = chore.job_key().and_then(|job| state.batch_job(&job)?.nodes.get(&chore.node));
            let waiting = row.and_then(|row| row.waiting_task().cloned());
            Before { waiting, ..Before::default() }
        }
        _ => Before::default(),
    }
}

/// What clients are told of a record that has just happened.
#[must_use]
pub fn told_of(state: &State, before: &Before, record: &Record) -> Vec<Told> {
    let mut all = match &record.event {
        Event::Batch { batch } => of_service(state, before, batch, record.at),
        Event::AttemptPlaced { key, .. } => of_attempt(state, key.task.job, |task| placed(state, task), true),
        // Of one that was the last, nobody knows any more that it stood for a task: what becomes of that is told later.
        Event::AttemptEnded { key: AttemptKey { task: TaskId { job, .. }, .. }, verdict, .. }
        | Event::AttemptRan { key: AttemptKey { task: TaskId { job, .. }, .. }, verdict, .. }
        | Event::AttemptsRan { job, verdict, .. } => {
            let cause = match verdict {
                Verdict::Requeued { .. } => "user",
                Verdict::Preempted { .. } => "preempted",
                _ => "system",
            };
            of_attempt(state, *job, |task| requeued(state, task, None, cause), false)
        }
        _ => Vec::new(),
    };
    all.iter_mut().for_each(|told| without_nulls(&mut told.properties));
    all
}

/// What is not known is left out.
fn without_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(without_nulls);
    }
}

/// An attempt of a job of the cluster that stands for a task or a chore was placed, or ended without being the last.
fn of_attempt(
    state: &State,
    job: muster_core::ids::JobId,
    task: impl FnOnce(&BatchTaskKey) -> Option<Told>,
    is_placed: bool,
) -> Vec<Told> {
    if let Some(key) = state.batch_task_of(job) {
        return task(key).into_iter().collect();
    }
    match state.batch_chore_of(job) {
        Some((key, run)) if is_placed => vec![special(state, "SpecialTaskStartEvent", key, run)],
        _ => Vec::new(),
    }
}

fn of_service(state: &State, before: &Before, event: &BatchEvent, at: Timestamp) -> Vec<Told> {
    let one = |told: Option<Told>| told.into_iter().collect::<Vec<_>>();
    match event {
        BatchEvent::PoolCreated { pool: key, .. } => one(pool(state, key, "PoolCreateEvent", created)),
        BatchEvent::PoolDeleting { pool: key } => {
            one(pool(state, key, "PoolDeleteStartEvent", |_| json!({})))
        }
        BatchEvent::PoolDeleted { pool: key } => {
            let since = before.since.unwrap_or(at);
            let properties = json!({ "id": key.pool.as_str(), "startTime": iso(since), "endTime": iso(at) });
            vec![of_pool(key, "PoolDeleteCompleteEvent", properties)]
        }
        BatchEvent::PoolResizing { pool: key, how, .. } => {
            one(pool(state, key, "PoolResizeStartEvent", |pool| {
                let mut shown = sizes(pool);
                shown["nodeDeallocationOption"] = deallocation(*how).into();
                shown
            }))
        }
        BatchEvent::PoolSteady { pool: key, errors, .. } => {
            one(pool(state, key, "PoolResizeCompleteEvent", |pool| {
                let mut shown = sizes(pool);
                shown["startTime"] = iso(before.since.unwrap_or(at)).into();
                shown["endTime"] = iso(at).into();
                let error = errors.first();
                shown["resultCode"] = error.map_or("Success", |error| &error.code).into();
                shown["resultMessage"] = error
                    .map_or("The pool has the nodes that were asked for.", |error| &error.message)
                    .into();
                shown
            }))
        }
        BatchEvent::PoolScaled { pool: key, run } => one(pool(state, key, "PoolAutoScaleEvent", |pool| {
            let mut shown = show_run(run);
            shown["formula"] = pool.scale.as_ref().map(|scale| &*scale.spec.formula).into();
            shown
        })),
        BatchEvent::TasksAdded { job, tasks, .. } => {
            tasks.iter().filter_map(|new| misfit(state, &job.task(FoldedId::of(&new.id)))).collect()
        }
        BatchEvent::TaskSettled { task: key, outcome } => match outcome {
            Outcome::Completed { failure, .. } => completed(state, key, failure.is_some()),
            Outcome::Retried => one(retried(state, key, before.node)),
            Outcome::Requeued => one(requeued(state, key, before.node, "user")),
            Outcome::Waits => Vec::new(),
        },
        BatchEvent::ChoreSettled { chore, outcome } => settled(state, before, chore, outcome),
        _ => Vec::new(),
    }
}

fn of_pool(key: &BatchPoolKey, name: &'static str, properties: Value) -> Told {
    Told { name, account: Arc::clone(&key.account), job: None, properties }
}

fn pool(
    state: &State,
    key: &BatchPoolKey,
    name: &'static str,
    more: impl FnOnce(&BatchPool) -> Value,
) -> Option<Told> {
    let pool = state.batch_pool(key)?;
    let mut properties = more(pool);
    properties["id"] = pool.spec.id.clone().into();
    Some(of_pool(key, name, properties))
}

fn created(pool: &BatchPool) -> Value {
    let said = said(&pool.spec.said);
    json!({
        "displayName": said.get("displayName"),
        "vmSize": pool.spec.home,
        "resizeTimeout": format_duration(pool.timeout_s),
        "taskSlotsPerNode": pool.spec.slots_per_node,
        "enableInterNodeCommunication": pool.spec.inter_node,
    })
}

fn sizes(pool: &BatchPool) -> Value {
    json!({
        "currentDedicatedNodes": pool.dedicated(),
        "currentLowPriorityNodes": pool.low(),
        "targetLowPriorityNodes": pool.target_low,
        "targetDedicatedNodes": pool.target,
        "enableAutoScale": pool.scale.is_some(),
    })
}

fn deallocation(how: Deallocation) -> &'static str {
    match how {
        Deallocation::Requeue => "requeue",
        Deallocation::Terminate => "terminate",
        Deallocation::TaskCompletion => "taskcompletion",
        Deallocation::RetainedData => "retaineddata",
    }
}

/// What is told of a task, and of its job.
fn task(
    state: &State,
    key: &BatchTaskKey,
    name: &'static str,
    more: impl FnOnce(&BatchJob, &BatchTask, &mut Value),
) -> Option<Told> {
    let (job, task) = state.batch_task(key)?;
    let shape = job.shape(task);
    let retries = match shape.retries.unwrap_or(job.spec.retries) {
        Retries::AtMost(most) => i64::from(most),
        Retries::Unlimited => -1,
    };
    let mut properties = json!({
        "jobId": job.spec.id,
        "id": task.id(&key.task),
        "taskType": if job.is_manager(&key.task) { "JobManager" } else { "User" },
        "requiredSlots": shape.slots,
        "multiInstanceSettings": { "numberOfInstances": shape.instances() },
        "constraints": { "maxTaskRetryCount": retries },
        "executionInfo": execution(task),
    });
    more(job, task, &mut properties);
    Some(Told { name, account: Arc::clone(&key.account), job: Some(key.job.clone()), properties })
}

fn node_info(state: &State, job: &BatchJob, node: Option<NodeId>) -> Value {
    let Some(node) = node else { return Value::Null };
    json!({ "poolId": pool_id(job), "nodeId": state.node(node).name })
}

fn placed(state: &State, key: &BatchTaskKey) -> Option<Told> {
    task(state, key, "TaskStartEvent", |job, task, shown| {
        let node = task.state.made().and_then(|made| {
            let live = state.jobs.get(&made.job)?.live.values().next()?;
            Some(live.allocation.shares.first()?.node)
        });
        shown["nodeInfo"] = node_info(state, job, node);
    })
}

fn completed(state: &State, key: &BatchTaskKey, has_failed: bool) -> Vec<Told> {
    let names = ["TaskCompleteEvent", "TaskFailEvent"];
    let told = names.iter().take(1 + usize::from(has_failed)).filter_map(|name| {
        task(state, key, name, |job, task, shown| {
            let node = task.completed().and_then(|completed| completed.nodes.first().copied());
            shown["nodeInfo"] = node_info(state, job, node);
        })
    });
    told.collect()
}

/// It runs again, and that is no retry: because a user wanted it, or because its node was lost.
fn requeued(state: &State, key: &BatchTaskKey, node: Option<NodeId>, cause: &str) -> Option<Told> {
    task(state, key, "TaskRequeueEvent", |job, _, shown| {
        shown["nodeInfo"] = node_info(state, job, node);
        shown["cause"] = cause.into();
    })
}

fn retried(state: &State, key: &BatchTaskKey, node: Option<NodeId>) -> Option<Told> {
    task(state, key, "TaskRetryEvent", |job, _, shown| shown["nodeInfo"] = node_info(state, job, node))
}

/// A task could not be scheduled, and may be later.
fn schedule_fail(state: &State, key: &BatchTaskKey, code: &str, message: &str) -> Option<Told> {
    task(state, key, "TaskScheduleFailEvent", |_, _, shown| {
        shown["schedulingError"] =
            json!({ "category": "UserError", "code": code, "message": message, "details": [] });
    })
}

/// A new task that its pool cannot hold as the pool is.
fn misfit(state: &State, key: &BatchTaskKey) -> Option<Told> {
    let (job, task) = state.batch_task(key)?;
    let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
    let shape = job.shape(task);
    let misfit = state.batch_pool(&pool)?.misfit(shape.slots, shape.instances())?;
    schedule_fail(state, key, "PoolCannotHoldTask", &format!("The pool cannot hold the task: {misfit}."))
}

/// A chore, with the node that it is for.
fn special(state: &State, name: &'static str, key: &ChoreKey, run: &ChoreRun) -> Told {
    let node = &state.node(key.node).name;
    let job = key.job_key();
    let of_job = job.as_ref().and_then(|job| state.batch_job(job));
    let (kind, id, pool) = match (&key.of, of_job) {
        (ChoreOf::Start { pool }, _) => ("StartTask", None, Some(pool.to_string())),
        (ChoreOf::Preparation { .. }, job) => {
            ("JobPreparation", job.and_then(|job| job.spec.preparation.as_ref()), None)
        }
        (ChoreOf::Release { .. }, job) => ("JobRelease", job.and_then(|job| job.spec.release.as_ref()), None),
    };
    let pool = pool.or_else(|| of_job.map(|job| job.spec.pool.to_string()));
    let mut info = json!({ "startTime": iso(chore_began(run)), "retryCount": run.retries.count });
    if let Some(ended) = run.ended() {
        info["endTime"] = iso(run.since).into();
        info["result"] = chore_result(run).into();
        info["exitCode"] = ended.exit_code.into();
        info["failureInfo"] = ended.failure.as_ref().map(failure_info).into();
    }
    let properties = json!({
        "jobId": of_job.map(|job| &job.spec.id),
        "id": id.map(|spec| &spec.id),
        "taskType": kind,
        "nodeInfo": { "poolId": pool, "nodeId": node },
        "executionInfo": info,
    });
    Told { name, account: Arc::clone(&key.account), job: job.map(|job: BatchJobKey| job.job), properties }
}

fn settled(state: &State, before: &Before, key: &ChoreKey, outcome: &ChoreOutcome) -> Vec<Told> {
    let Some(run) = state.batch_chore(key) else { return Vec::new() };
    let name = match outcome {
        ChoreOutcome::Ended { .. } => "SpecialTaskCompleteEvent",
        ChoreOutcome::Retried | ChoreOutcome::Again => "SpecialTaskRetryEvent",
    };
    let mut all = vec![special(state, name, key, run)];
    if let (ChoreOutcome::Ended { failure: Some(failure), .. }, Some(job), Some(task)) =
        (outcome, key.job_key(), &before.waiting)
    {
        let why = if failure.message.is_empty() { &failure.code } else { &failure.message };
        let message = format!("The job's preparation task has failed: {why}");
        all.extend(schedule_fail(state, &job.task(task.clone()), "JobPreparationTaskFailed", &message));
    }
    all
}
