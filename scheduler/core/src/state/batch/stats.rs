//! What tasks have used, added up for their jobs, and what pools have had of nodes.
//!
//! A task keeps nothing of this: what its last attempt used is asked of the job of the cluster that it was, while that is remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::BatchJob;
use super::pool::{BatchPool, Seat};
use super::task::{BatchTask, Counts, TaskState};
use super::{Batch, BatchSchedule};
use crate::batch::{BatchPoolKey, FoldedId, NodeMove, ScheduleKey};
use crate::event::Usage;
use crate::ids::{JobId, Timestamp};
use crate::state::{FinishedHow, Live, State};

/// For how many hours it is kept what pools had of nodes: 31 days.
const METERED_HOURS_MAX: u64 = 31 * 24;
const HOUR_US: u64 = 3_600_000_000;

/// What the tasks of a job have used, in all of their attempts that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time, memory and files.
    pub used: Usage,
    /// How long their attempts had their nodes, in microseconds.
    pub wall_us: u64,
    /// How long those that have completed waited for their last attempts, in microseconds.
    pub wait_us: u64,
    /// How often they were tried again.
    pub retries: u64,
    /// How many of those that are gone had succeeded. Of a job they are counted, and not here.
    #[serde(default)]
    pub succeeded: u64,
    /// How many of those that are gone had failed.
    #[serde(default)]
    pub failed: u64,
}

impl Stats {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            used: self.used.plus(other.used),
            wall_us: self.wall_us.saturating_add(other.wall_us),
            wait_us: self.wait_us.saturating_add(other.wait_us),
            retries: self.retries.saturating_add(other.retries),
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn counting(self, counts: &Counts) -> Self {
        let (succeeded, failed) =
            (self.succeeded + counts.succeeded.tasks, self.failed + counts.failed.tasks);
        Self { succeeded, failed, ..self }
    }
}

/// What one task has used in its last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskStats {
    /// CPU time, memory and files; none before its end, and when the cluster has forgotten the job that it was.
    pub used: Option<Usage>,
    /// How long it has had its nodes, in microseconds.
    pub wall_us: u64,
    /// How long it had waited before, in microseconds.
    pub wait_us: u64,
}

/// What a pool had of nodes in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// The id of the pool, as typed.
    pub pool: String,
    /// The class of its nodes.
    pub home: String,
    /// How long it had how many cores, together, in milliseconds.
    pub core_ms: u64,
}

/// An attempt has ended: what it used is added to its job.
pub(in crate::state) fn attempt_used(batch: &mut Batch, job: JobId, live: &Live, at: Timestamp) {
    let Some(key) = batch.made.get(&job).cloned() else { return };
    if let Some(job) = batch.job_mut(&key.job_key()) {
        job.stats.used = job.stats.used.plus(live.usage());
        job.stats.wall_us = job.stats.wall_us.saturating_add(at.micros_since(live.placed_at));
    }
}

impl BatchJob {
    /// What its tasks have used, and how many have ended.
    pub(super) fn stats_with_counts(&self) -> Stats {
        self.stats.counting(&self.counts)
    }
}

impl BatchTask {
    /// How long it waited for its last attempt, in microseconds, if there was one.
    pub(super) fn waited_us(&self) -> u64 {
        let started = match &self.state {
            TaskState::Completed(completed) => completed.started,
            state => state.made().and_then(|made| made.started),
        };
        started.map_or(0, |started| started.micros_since(self.created))
    }
}

/// Whether a pool has a node there, in whatever way.
fn has(seat: &Seat) -> bool {
    matches!(seat.at, NodeMove::Lent | NodeMove::Leaving)
}

/// A node of a pool with so many cores changes its place: what the pool has had of it is added up.
pub(super) fn seat_ended(batch: &mut Batch, key: &BatchPoolKey, seat: &Seat, cores: u32, at: Timestamp) {
    if !has(seat) {
        return;
    }
    let Some(account) = batch.accounts.get_mut(&key.account) else { return };
    let Some(pool) = account.pools.get_mut(&key.pool) else { return };
    if !seat.low {
        pool.core_ms = pool.core_ms.saturating_add(core_ms(cores, seat.since, at));
    }
    let (id, home) = (pool.spec.id.clone(), pool.spec.home.clone());
    for (hour, more_ms) in by_hour(cores, seat.since, at) {
        let metered = account.metered.entry(hour).or_default().entry(key.pool.clone());
        let entry = metered.or_insert_with(|| Metered { pool: id.clone(), home: home.clone(), core_ms: 0 });
        entry.core_ms = entry.core_ms.saturating_add(more_ms);
    }
    let oldest = (at.0 / HOUR_US).saturating_sub(METERED_HOURS_MAX);
    account.metered = account.metered.split_off(&oldest);
}

fn core_ms(cores: u32, from: Timestamp, to: Timestamp) -> u64 {
    (to.micros_since(from) / 1000).saturating_mul(u64::from(cores))
}

/// The same in each hour, of the last ones that are kept.
fn by_hour(cores: u32, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (u64, u64)> {
    let last = to.0 / HOUR_US;
    let first = (from.0 / HOUR_US).max(last.saturating_sub(METERED_HOURS_MAX));
    (first..=last).map(move |hour| {
        let (start, end) = (hour * HOUR_US, (hour + 1) * HOUR_US);
        (hour, core_ms(cores, Timestamp(from.0.max(start)), Timestamp(to.0.min(end))))
    })
}

impl State {
    /// What the tasks of a job have used until now, those that run with the time that they have had.
    #[must_use]
    pub fn batch_job_stats(&self, job: &BatchJob, now: Timestamp) -> Stats {
        let running = job.made().filter_map(|(_, task)| task.state.made()?.started);
        let wall_us = running.map(|started| now.micros_since(started)).sum();
        job.stats_with_counts().plus(Stats { wall_us, ..Stats::default() })
    }

    /// The same of all jobs of a schedule, also of those that are gone.
    #[must_use]
    pub fn batch_schedule_stats(&self, key: &ScheduleKey, schedule: &BatchSchedule, now: Timestamp) -> Stats {
        let jobs = self.batch_jobs_of_schedule(key).map(|(_, job)| self.batch_job_stats(job, now));
        jobs.fold(schedule.gone, Stats::plus)
    }

    /// What a task has used.
    #[must_use]
    pub fn batch_task_stats(&self, task: &BatchTask, now: Timestamp) -> TaskStats {
        let wait_us = task.waited_us();
        let Some(completed) = task.completed() else {
            let started = task.state.made().and_then(|made| made.started);
            return TaskStats { used: None, wall_us: started.map_or(0, |at| now.micros_since(at)), wait_us };
        };
        let job = completed.job.and_then(|job| self.jobs.get(&job));
        let used =
            job.and_then(|job| job.finished.values().next()).and_then(|finished| match &finished.how {
                FinishedHow::Ran { usage, .. } => Some(*usage),
                _ => None,
            });
        TaskStats { used, wall_us: completed.started.map_or(0, |at| task.since.micros_since(at)), wait_us }
    }

    /// How long a pool has had how many cores that nobody takes back, together, in milliseconds.
    #[must_use]
    pub fn batch_core_ms(&self, pool: &BatchPool, now: Timestamp) -> u64 {
        let kept = pool.nodes.iter().filter(|(_, seat)| has(seat) && !seat.low);
        kept.fold(pool.core_ms, |sum, (node, seat)| {
            sum.saturating_add(core_ms(self.node(*node).cores, seat.since, now))
        })
    }

    /// What the pools of an account had of nodes in each hour from one to another, both included, until now.
    #[must_use]
    pub fn batch_metered(
        &self,
        account: &str,
        hours: std::ops::RangeInclusive<u64>,
        now: Timestamp,
    ) -> BTreeMap<(u64, FoldedId), Metered> {
        let mut all: BTreeMap<(u64, FoldedId), Metered> = BTreeMap::new();
        let Some(account) = self.batch.accounts.get(account).filter(|_| !hours.is_empty()) else {
            return all;
        };
        for (hour, pools) in account.metered.range(hours.clone()) {
            all.extend(pools.iter().map(|(pool, metered)| ((*hour, pool.clone()), metered.clone())));
        }
        for (id, pool) in &account.pools {
            for (node, seat) in pool.nodes.iter().filter(|(_, seat)| has(seat)) {
                let in_hours = |(hour, _): &(u64, u64)| hours.contains(hour);
                for (hour, more_ms) in by_hour(self.node(*node).cores, seat.since, now).filter(in_hours) {
                    let (pool, home) = (pool.spec.id.clone(), pool.spec.home.clone());
                    let entry = all.entry((hour, id.clone()));
                    entry.or_insert(Metered { pool, home, core_ms: 0 }).core_ms += more_ms;
                }
            }
        }
        all
    }
}
