//! Lets the events of the batch service happen, and follows those of the jobs and nodes that it has to do with.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::job::{BatchJob, JobPhase, JobWork};
use super::moves::{jobs_of_pool_changed, nodes_moved, pool_moved, with_pool, with_scale};
use super::pool::{BatchPool, PoolAllocation};
use super::scale::Scale;
use super::task::{BatchTask, Completed, Made, Settling, TaskState, Tries};
use super::{chore, depends, ready, retained, schedule, setup};
use crate::batch::{BatchEvent, BatchJobKey, FoldedId, NewTask, Outcome, ScheduleKey, TaskShape};
use crate::event::Verdict;
use crate::ids::{JobId, NodeId, TaskIndex, Timestamp};
use crate::state::State;

/// One event of the batch service.
pub(in crate::state) fn happened(state: &mut State, event: &BatchEvent, at: Timestamp) {
    state.batch.changes += 1;
    let version = state.batch.changes;
    match event {
        BatchEvent::PoolCreated { pool: key, spec, by } => {
            let pool = BatchPool {
                spec: Arc::clone(spec),
                by: by.clone(),
                created: at,
                modified: at,
                version,
                deleting: None,
                target: 0,
                target_low: 0,
                wanted_low: 0,
                preempted: Default::default(),
                core_ms: 0,
                allocation: PoolAllocation::Steady,
                allocation_since: at,
                timeout_s: crate::batch::RESIZE_TIMEOUT_S,
                nodes: Default::default(),
                errors: Vec::new(),
                scale: None,
                used: None,
            };
            state
                .batch
                .accounts
                .entry(Arc::clone(&key.account))
                .or_default()
                .pools
                .insert(key.pool.clone(), pool);
            pool_moved(state, key);
        }
        BatchEvent::PoolUpdated { pool, spec } => {
            let nodes = state.batch.pool(pool).into_iter().flat_map(|pool| pool.nodes.keys().copied());
            let nodes: Vec<NodeId> = nodes.collect();
            with_pool(state, pool, |pool| {
                pool.spec = Arc::clone(spec);
                (pool.modified, pool.version) = (at, version);
            });
            nodes.iter().for_each(|node| chore::refresh_ready(state, *node));
            jobs_of_pool_changed(state, pool);
        }
        BatchEvent::PoolResizing { pool, target, target_low, remove, how, until } => {
            with_pool(state, pool, |pool| {
                (pool.target, pool.target_low, pool.wanted_low) = (*target, *target_low, *target_low);
                let remove = remove.iter().copied().collect();
                pool.preempted.retain(|node, _| !BTreeSet::contains(&remove, node));
                pool.allocation = PoolAllocation::Resizing { until: *until, how: *how, remove };
                pool.forget_preempted();
                pool.timeout_s = until.micros_since(at) / 1_000_000;
                pool.allocation_since = at;
                pool.errors.clear();
                (pool.modified, pool.version) = (at, version);
            })
        }
        BatchEvent::RetentionLapsed { pool, nodes } => retained::lapsed(state, pool, nodes, at),
        BatchEvent::NodesMoved { pool, moves, needed_by } => nodes_moved(state, pool, moves, *needed_by, at),
        BatchEvent::PoolSteady { pool, errors, wanted_low } => with_pool(state, pool, |pool| {
            pool.wanted_low = wanted_low.unwrap_or(pool.wanted_low);
            pool.allocation = PoolAllocation::Steady;
            pool.forget_preempted();
            pool.allocation_since = at;
            pool.errors.clone_from(errors);
            (pool.modified, pool.version) = (at, version);
        }),
        BatchEvent::PoolDeleting { pool } => {
            with_scale(state, pool, |pool| pool.scale = None);
            with_pool(state, pool, |pool| {
                pool.deleting = Some(at);
                pool.preempted.clear();
                (pool.modified, pool.version) = (at, version);
            });
        }
        BatchEvent::PoolDeleted { pool } => {
            if let Some(account) = state.batch.accounts.get_mut(&pool.account) {
                account.pools.remove(&pool.pool);
            }
            pool_moved(state, pool);
        }
        BatchEvent::PoolScaling { pool, scaling } => with_scale(state, pool, |pool| {
            pool.scale = scaling.as_ref().map(|scaling| Scale::begin(scaling, at));
            (pool.modified, pool.version) = (at, version);
        }),
        BatchEvent::PoolSampled { pool, sample } => with_scale(state, pool, |pool| {
            pool.scale.iter_mut().for_each(|scale| scale.sampled(*sample, at));
        }),
        // Nothing that is due follows from it.
        BatchEvent::PoolUsed { pool, recent, more } => {
            if let Some(pool) = state.batch.pool_mut(pool) {
                pool.heard(*recent, *more, at);
            }
        }
        BatchEvent::PoolScaled { pool, run } => with_scale(state, pool, |pool| {
            pool.scale.iter_mut().for_each(|scale| scale.ran(run.clone()));
        }),
        BatchEvent::NodeScheduling { pool, node, enabled } => {
            with_pool(state, pool, |pool| {
                if let Some(seat) = pool.nodes.get_mut(node) {
                    seat.enabled = *enabled;
                }
            });
            chore::node_changed(state, *node);
        }
        BatchEvent::JobCreated { .. }
        | BatchEvent::JobUpdated { .. }
        | BatchEvent::JobDisabling { .. }
        | BatchEvent::JobDisabled { .. }
        | BatchEvent::JobEnabled { .. }
        | BatchEvent::JobTerminating { .. }
        | BatchEvent::JobCompleted { .. }
        | BatchEvent::JobUnschedulable { .. }
        | BatchEvent::JobDeleting { .. }
        | BatchEvent::JobDeleted { .. } => job_happened(state, event, version, at),
        BatchEvent::TasksAdded { job, shapes, tasks } => added(state, job, shapes, tasks, version, at),
        BatchEvent::TaskUpdated { .. }
        | BatchEvent::TaskMade { .. }
        | BatchEvent::TaskEnding { .. }
        | BatchEvent::TaskSettled { .. }
        | BatchEvent::TaskReactivated { .. }
        | BatchEvent::TaskDeleted { .. } => task_happened(state, event, version, at),
        BatchEvent::ScheduleCreated { .. }
        | BatchEvent::ScheduleUpdated { .. }
        | BatchEvent::ScheduleRan { .. }
        | BatchEvent::ScheduleAdvanced { .. }
        | BatchEvent::ScheduleEntered { .. }
        | BatchEvent::ScheduleDeleted { .. } => schedule::happened(state, event, version, at),
        BatchEvent::ChoreDue { chore, task } => chore::due(state, chore, task.as_ref(), version, at),
        BatchEvent::ChoreMade { chore, made } => chore::made(state, chore, *made, at),
        BatchEvent::ChoreSettled { chore, outcome } => chore::settled(state, chore, outcome, version, at),
        BatchEvent::PackageAdded { .. }
        | BatchEvent::DefaultVersionSet { .. }
        | BatchEvent::PackageRemoved { .. }
        | BatchEvent::NodeSetUp { .. } => setup::happened(state, event, at),
    }
}

pub(super) fn set<T: Ord + Clone>(all: &mut BTreeSet<T>, key: &T, is_in: bool) {
    if is_in {
        all.insert(key.clone())
    } else {
        all.remove(key)
    };
}

/// What a job has to do next, unless it waits for time to pass or for something else to happen.
pub(super) fn job_work(state: &State, key: &BatchJobKey, job: &BatchJob) -> Option<JobWork> {
    if !job.settling.is_empty() {
        return Some(JobWork::Settle);
    }
    let rests = job.made.is_empty() && ready::are_at_rest(state, key, job);
    match job.phase {
        JobPhase::Active if job.ends_with_manager() => Some(JobWork::ManagerComplete),
        JobPhase::Active if job.spec.terminate_when_complete && rests && job.all_complete() => {
            Some(JobWork::AllComplete)
        }
        JobPhase::Active if state.batch_feedable(key, job).next().is_some() => Some(JobWork::Feed),
        JobPhase::Active => (!ready::to_be_prepared(state, key, job).is_empty()).then_some(JobWork::Prepare),
        JobPhase::Terminating { .. } | JobPhase::Deleting
            if rests && ready::to_be_released(state, key, job).next().is_some() =>
        {
            Some(JobWork::Release)
        }
        JobPhase::Disabling { .. } | JobPhase::Terminating { .. } | JobPhase::Deleting if rests => {
            Some(JobWork::Rest)
        }
        _ => None,
    }
}

pub(super) fn refresh_job(state: &mut State, key: &BatchJobKey) {
    let is_due = state.batch.job(key).is_some_and(|job| job_work(state, key, job).is_some());
    set(&mut state.batch.jobs_due, key, is_due);
}

fn job_happened(state: &mut State, event: &BatchEvent, version: u64, at: Timestamp) {
    let (BatchEvent::JobCreated { job: key, .. }
    | BatchEvent::JobUpdated { job: key, .. }
    | BatchEvent::JobDisabling { job: key, .. }
    | BatchEvent::JobDisabled { job: key }
    | BatchEvent::JobEnabled { job: key }
    | BatchEvent::JobTerminating { job: key, .. }
    | BatchEvent::JobCompleted { job: key }
    | BatchEvent::JobUnschedulable { job: key, .. }
    | BatchEvent::JobDeleting { job: key }
    | BatchEvent::JobDeleted { job: key }) = event
    else {
        return;
    };
    if let Some(end) = state.batch.job(key).and_then(BatchJob::must_end_at) {
        state.batch.job_ends.remove(&(end, key.clone()));
    }
    let nodes: Vec<NodeId> =
        state.batch.job(key).into_iter().flat_map(|job| job.nodes.keys().copied()).collect();
    let before = state.batch.job(key).and_then(|job| job.spec.schedule.clone());
    let account = state.batch.accounts.entry(Arc::clone(&key.account)).or_default();
    if let BatchEvent::JobCreated { spec, by, .. } = event {
        account.jobs.insert(key.job.clone(), BatchJob::new(spec, by, version, at));
        account.active_jobs.insert(key.job.clone());
    }
    let Some(job) = account.jobs.get_mut(&key.job) else { return };
    match event {
        BatchEvent::JobUpdated { spec, .. } => {
            job.spec = Arc::clone(spec);
            (job.modified, job.version) = (at, version);
        }
        BatchEvent::JobDisabling { how, .. } => job.enter(JobPhase::Disabling { how: *how }, version, at),
        BatchEvent::JobDisabled { .. } => job.enter(JobPhase::Disabled, version, at),
        BatchEvent::JobEnabled { .. } => job.enter(JobPhase::Active, version, at),
        BatchEvent::JobTerminating { reason, .. } => {
            job.enter(JobPhase::Terminating { reason: reason.clone() }, version, at);
        }
        BatchEvent::JobCompleted { .. } => {
            let reason = match &job.phase {
                JobPhase::Terminating { reason } => reason.clone(),
                _ => String::new(),
            };
            job.enter(JobPhase::Completed { reason, error: None }, version, at);
            account.active_jobs.remove(&key.job);
        }
        BatchEvent::JobUnschedulable { error, .. } => {
            let error = Some(error.clone());
            job.enter(JobPhase::Completed { reason: String::new(), error }, version, at);
            account.active_jobs.remove(&key.job);
        }
        BatchEvent::JobDeleting { .. } => {
            job.enter(JobPhase::Deleting, version, at);
            account.active_jobs.insert(key.job.clone());
        }
        BatchEvent::JobDeleted { .. } => {
            let of = before.as_ref().and_then(|schedule| account.schedules.get_mut(schedule));
            if let Some((schedule, job)) = of.zip(account.jobs.get(&key.job)) {
                schedule.gone = schedule.gone.plus(job.stats_with_counts());
            }
            account.jobs.remove(&key.job);
            account.active_jobs.remove(&key.job);
        }
        _ => {}
    }
    if let Some(end) = state.batch.job(key).and_then(BatchJob::must_end_at) {
        state.batch.job_ends.insert((end, key.clone()));
    }
    if let Some(schedule) = before {
        schedule::refresh(state, &ScheduleKey { account: Arc::clone(&key.account), schedule });
    }
    chores_follow(state, key, &nodes);
    refresh_job(state, key);
}

/// What a change of a job means for what it does to nodes.
fn chores_follow(state: &mut State, key: &BatchJobKey, nodes: &[NodeId]) {
    let job = state.batch.job(key);
    let is_preparing = job.is_some_and(|job| job.spec.preparation.is_some() && !job.is_completed());
    if is_preparing || state.batch.preparing.contains(key) {
        set(&mut state.batch.preparing, key, is_preparing);
        for node in nodes {
            chore::node_changed(state, *node);
            chore::refresh_ready(state, *node);
        }
    }
}

fn added(
    state: &mut State,
    key: &BatchJobKey,
    shapes: &[Arc<TaskShape>],
    tasks: &[NewTask],
    version: u64,
    at: Timestamp,
) {
    let Some(job) = state.batch.job_mut(key) else { return };
    for new in tasks {
        let id = FoldedId::of(&new.id);
        let Some(shape) = shapes.get(new.shape as usize).filter(|_| !job.tasks.contains_key(&id)) else {
            continue;
        };
        let task = BatchTask {
            typed: (id.as_str() != new.id).then(|| new.id.as_str().into()),
            seq: job.next_seq,
            command: new.command.clone(),
            shape: job.shapes.take(shape),
            depends: new.depends.clone(),
            created: at,
            modified: at,
            version,
            state: TaskState::Waiting { unmet: depends::unmet(job, new) },
            since: at,
            previous: None,
            retries: Tries::default(),
            requeues: Tries::default(),
        };
        job.next_seq += 1;
        depends::enter(job, &id, &task);
        job.tasks.insert(id.clone(), task);
        job.enter_task(&id, true);
    }
    refresh_job(state, key);
}

fn task_happened(state: &mut State, event: &BatchEvent, version: u64, at: Timestamp) {
    let (BatchEvent::TaskUpdated { task: key, .. }
    | BatchEvent::TaskMade { task: key, .. }
    | BatchEvent::TaskEnding { task: key, .. }
    | BatchEvent::TaskSettled { task: key, .. }
    | BatchEvent::TaskReactivated { task: key }
    | BatchEvent::TaskDeleted { task: key }) = event
    else {
        return;
    };
    let job_key = key.job_key();
    let Some(job) = state.batch.job_mut(&job_key) else { return };
    if !job.tasks.contains_key(&key.task) {
        return;
    }
    match event {
        BatchEvent::TaskUpdated { shape, .. } => reshaped(job, &key.task, shape, version, at),
        BatchEvent::TaskMade { made, .. } => {
            job.change(&key.task, |task| {
                task.enter(TaskState::Made(Made { job: *made, started: None, wish: None }), version, at);
            });
            state.batch.made.insert(*made, key.clone());
        }
        BatchEvent::TaskEnding { wish, .. } => job.change(&key.task, |task| {
            if let TaskState::Made(made) = &mut task.state {
                made.wish = Some(*wish);
            }
        }),
        BatchEvent::TaskSettled { outcome, .. } => settled(job, &key.task, outcome, version, at),
        BatchEvent::TaskReactivated { .. } => {
            let waited_us = job.tasks.get(&key.task).map_or(0, BatchTask::waited_us);
            job.stats.wait_us = job.stats.wait_us.saturating_sub(waited_us);
            job.change(&key.task, |task| {
                task.retries = Tries::default();
                task.enter(TaskState::Waiting { unmet: 0 }, version, at);
            });
        }
        BatchEvent::TaskDeleted { .. } => {
            if let Some(made) = deleted(job, &key.task) {
                state.batch.made.remove(&made);
            }
        }
        _ => {}
    }
    if let BatchEvent::TaskSettled { outcome: Outcome::Completed { .. }, .. } = event {
        retained::completed(state, key, at);
    }
    refresh_job(state, &job_key);
}

fn reshaped(job: &mut BatchJob, id: &FoldedId, shape: &Arc<TaskShape>, version: u64, at: Timestamp) {
    job.enter_task(id, false);
    let number = job.shapes.take(shape);
    if let Some(task) = job.tasks.get_mut(id) {
        let before = std::mem::replace(&mut task.shape, number);
        (task.modified, task.version) = (at, version);
        job.shapes.drop(before);
    }
    job.enter_task(id, true);
}

fn settled(job: &mut BatchJob, id: &FoldedId, outcome: &Outcome, version: u64, at: Timestamp) {
    job.change(id, |task| {
        let next = match outcome {
            Outcome::Completed { exit_code, failure, satisfies } => {
                let never_made = Completed::without_job(*exit_code, failure.clone(), *satisfies);
                TaskState::Completed(Box::new(match &task.state {
                    TaskState::Settling(settling) => Completed::after(settling, never_made),
                    _ => never_made,
                }))
            }
            Outcome::Retried | Outcome::Requeued | Outcome::Waits => TaskState::Waiting { unmet: 0 },
        };
        match outcome {
            Outcome::Retried => task.retries.again(at),
            Outcome::Requeued => task.requeues.again(at),
            Outcome::Completed { .. } | Outcome::Waits => {}
        }
        task.enter(next, version, at);
    });
    match outcome {
        Outcome::Completed { .. } => {
            job.stats.wait_us += job.tasks.get(id).map_or(0, BatchTask::waited_us);
        }
        Outcome::Retried => job.stats.retries += 1,
        Outcome::Requeued | Outcome::Waits => {}
    }
    depends::forget(job, id);
    if matches!(outcome, Outcome::Completed { satisfies: true, .. }) {
        depends::satisfied(job, id);
    }
}

/// Takes a task out; gives the job of the cluster that it was made into, which has not ended.
fn deleted(job: &mut BatchJob, id: &FoldedId) -> Option<JobId> {
    job.enter_task(id, false);
    depends::forget(job, id);
    let task = job.tasks.remove(id)?;
    job.shapes.drop(task.shape);
    match task.state {
        TaskState::Made(made) => Some(made.job),
        _ => None,
    }
}

fn with_made(state: &mut State, job: JobId, change: impl FnOnce(&mut BatchTask, u64)) {
    let Some(key) = state.batch.made.get(&job).cloned() else { return };
    state.batch.changes += 1;
    let version = state.batch.changes;
    let job_key = key.job_key();
    if let Some(job) = state.batch.job_mut(&job_key) {
        job.change(&key.task, |task| change(task, version));
    }
    refresh_job(state, &job_key);
}

/// An attempt of a job of the cluster, of whatever kind, was given its nodes.
pub(in crate::state) fn attempt_placed(state: &mut State, job: JobId, at: Timestamp) {
    with_made(state, job, |task, version| {
        if let TaskState::Made(made) = &task.state {
            let started = Made { started: Some(at), ..made.clone() };
            task.enter(TaskState::Made(started), version, at);
        }
    });
    chore::placed(state, job, Some(at), at);
}

/// An attempt has ended, and its task waits for another one.
pub(in crate::state) fn attempt_ended(state: &mut State, job: JobId, verdict: &Verdict, at: Timestamp) {
    with_made(state, job, |task, version| {
        if let TaskState::Made(made) = &task.state {
            let waits = Made { started: None, ..made.clone() };
            task.enter(TaskState::Made(waits), version, at);
            if matches!(verdict, Verdict::Requeued { .. }) {
                task.requeues.again(at);
            }
        }
    });
    chore::placed(state, job, None, at);
}

/// A job of the cluster has finished.
pub(in crate::state) fn job_finished(state: &mut State, job: JobId, at: Timestamp) {
    let finished = state.jobs.get(&job).and_then(|job| job.finished.get(&TaskIndex(0))).cloned();
    let Some(finished) = finished else { return };
    chore::finished(state, job, finished.clone(), at);
    with_made(state, job, |task, version| {
        if let TaskState::Made(made) = &task.state {
            let settling = Settling { made: made.clone(), finished };
            task.enter(TaskState::Settling(Box::new(settling)), version, at);
        }
    });
    state.batch.made.remove(&job);
}
