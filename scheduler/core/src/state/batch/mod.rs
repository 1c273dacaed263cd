//! The batch service: accounts with their pools and jobs, and what is to be done about them.

mod check;
mod chore;
mod depends;
mod happen;
mod job;
mod low;
mod moves;
mod numbers;
mod pool;
mod ready;
mod retained;
mod scale;
mod schedule;
mod setup;
mod shapes;
mod stats;
mod task;
mod used;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::chore::{ChoreRun, ChoreState, ChoreWork, JobNode};
pub use self::job::{BatchJob, JobPhase, JobWord, JobWork};
pub use self::pool::{BatchPool, PoolAllocation, PoolWork, Seat};
pub use self::scale::Scale;
pub use self::schedule::{BatchSchedule, ScheduleWork};
pub use self::setup::{SetupRun, SetupState};
pub use self::stats::{Metered, Stats, TaskStats};
pub use self::task::{
    BatchTask, Completed, Counted, Counts, Made, Settling, TaskState as BatchTaskState, TaskWord, Tries,
};
pub use self::used::Used;
pub use self::why::{BatchWhy, Misfit, Open as OpenDependency, Stands};
use super::State;
use crate::batch::{Application, BatchJobKey, BatchPoolKey, BatchTaskKey, ChoreKey, FoldedId, ScheduleKey};
use crate::cluster::ClusterConfig;
use crate::ids::{JobId, NodeId, Timestamp};

pub(super) use self::chore::node_up;
pub(super) use self::happen::{attempt_ended, attempt_placed, happened, job_finished};
pub(super) use self::moves::{configured, follows_nodes, node_changed};
pub(super) use self::stats::attempt_used;

/// All of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Batch {
    accounts: BTreeMap<Arc<str>, BatchAccount>,
    /// The configuration without the pools of the batch service, while there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<Arc<ClusterConfig>>,
    /// How much ever changed.
    changes: u64,
    /// The task that each unfinished job of the cluster was made of.
    made: BTreeMap<JobId, BatchTaskKey>,
    /// The chore that each unfinished job of the cluster was made of.
    #[serde(default)]
    chores_made: BTreeMap<JobId, ChoreKey>,
    /// Chores that have an end before them.
    #[serde(default)]
    chores_open: BTreeSet<ChoreKey>,
    /// Those of them of which something is to be done.
    #[serde(default)]
    chores_due: BTreeSet<ChoreKey>,
    /// Schedules with something to do at once.
    #[serde(default)]
    schedules_due: BTreeSet<ScheduleKey>,
    /// When schedules make their next jobs.
    #[serde(default)]
    schedule_times: BTreeSet<(Timestamp, ScheduleKey)>,
    /// Jobs with a preparation task that have not completed.
    #[serde(default)]
    preparing: BTreeSet<BatchJobKey>,
    /// The pools that have nodes, or to which they are on their way.
    holders: BTreeMap<NodeId, BatchPoolKey>,
    /// Jobs that have something to do.
    jobs_due: BTreeSet<BatchJobKey>,
    /// Pools that have something to do.
    pools_due: BTreeSet<BatchPoolKey>,
    /// Pools that are being resized or deleted: what happens to any node may be of interest to them.
    resizing: BTreeSet<BatchPoolKey>,
    /// Pools that want more low-priority nodes than they have.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    scavengers: BTreeSet<BatchPoolKey>,
    /// Nodes that were taken back for jobs of the cluster that have not started: nobody scavenges them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    taken_back: BTreeMap<NodeId, JobId>,
    /// When the first of the nodes that leave, and wait for that, keeps nothing of tasks any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    retained: BTreeSet<(Timestamp, BatchPoolKey)>,
    /// When resizes give up.
    give_up: BTreeSet<(Timestamp, BatchPoolKey)>,
    /// When jobs are terminated that have not ended.
    job_ends: BTreeSet<(Timestamp, BatchJobKey)>,
    /// When pools that scale themselves are sampled or evaluated next.
    #[serde(default)]
    scales: BTreeSet<(Timestamp, BatchPoolKey)>,
}

/// An account of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchAccount {
    /// Its pools, by id.
    #[serde(default)]
    pub pools: BTreeMap<FoldedId, BatchPool>,
    /// Its jobs, by id.
    #[serde(default)]
    pub jobs: BTreeMap<FoldedId, BatchJob>,
    /// Its job schedules, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<FoldedId, BatchSchedule>,
    /// Its applications, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applications: BTreeMap<FoldedId, Application>,
    /// Those that have not completed.
    #[serde(default)]
    pub(super) active_jobs: BTreeSet<FoldedId>,
    /// What its pools had of nodes in each hour since 1970, by pool, for as long as that is kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metered: BTreeMap<u64, BTreeMap<FoldedId, Metered>>,
}

impl BatchAccount {
    /// How many of its jobs have not completed, and how many schedules it has.
    #[must_use]
    pub fn active_jobs_and_schedules(&self) -> usize {
        self.active_jobs.len() + self.schedules.len()
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The pool that a node is lent to, or on its way to or from.
    pub(super) fn holder(&self, node: NodeId) -> Option<&BatchPoolKey> {
        self.holders.get(&node)
    }

    fn pool(&self, key: &BatchPoolKey) -> Option<&BatchPool> {
        self.accounts.get(&key.account)?.pools.get(&key.pool)
    }

    fn pool_mut(&mut self, key: &BatchPoolKey) -> Option<&mut BatchPool> {
        self.accounts.get_mut(&key.account)?.pools.get_mut(&key.pool)
    }

    fn job(&self, key: &BatchJobKey) -> Option<&BatchJob> {
        self.accounts.get(&key.account)?.jobs.get(&key.job)
    }

    fn schedule(&self, key: &ScheduleKey) -> Option<&BatchSchedule> {
        self.accounts.get(&key.account)?.schedules.get(&key.schedule)
    }

    fn job_mut(&mut self, key: &BatchJobKey) -> Option<&mut BatchJob> {
        self.accounts.get_mut(&key.account)?.jobs.get_mut(&key.job)
    }

    /// Jobs with a preparation task that have not completed.
    fn preparing(&self) -> impl Iterator<Item = (BatchJobKey, &BatchJob)> {
        self.preparing.iter().filter_map(|key| Some((key.clone(), self.job(key)?)))
    }

    fn pools(&self) -> impl Iterator<Item = (BatchPoolKey, &BatchPool)> {
        self.accounts.iter().flat_map(|(account, all)| {
            let key = |id: &FoldedId| BatchPoolKey { account: Arc::clone(account), pool: id.clone() };
            all.pools.iter().map(move |(id, pool)| (key(id), pool))
        })
    }

    fn jobs(&self) -> impl Iterator<Item = (BatchJobKey, &BatchJob)> {
        self.accounts.iter().flat_map(|(account, all)| {
            let key = |id: &FoldedId| BatchJobKey { account: Arc::clone(account), job: id.clone() };
            all.jobs.iter().map(move |(id, job)| (key(id), job))
        })
    }
}

impl State {
    /// An account of the batch service, once it has had anything.
    #[must_use]
    pub fn batch_account(&self, account: &str) -> Option<&BatchAccount> {
        self.batch.accounts.get(account)
    }

    /// A pool of the batch service.
    #[must_use]
    pub fn batch_pool(&self, key: &BatchPoolKey) -> Option<&BatchPool> {
        self.batch.pool(key)
    }

    /// A job of the batch service.
    #[must_use]
    pub fn batch_job(&self, key: &BatchJobKey) -> Option<&BatchJob> {
        self.batch.job(key)
    }

    /// A task of the batch service, with its job.
    #[must_use]
    pub fn batch_task(&self, key: &BatchTaskKey) -> Option<(&BatchJob, &BatchTask)> {
        let job = self.batch.job(&key.job_key())?;
        Some((job, job.tasks.get(&key.task)?))
    }

    /// The task that an unfinished job of the cluster was made of.
    #[must_use]
    pub fn batch_task_of(&self, job: JobId) -> Option<&BatchTaskKey> {
        self.batch.made.get(&job)
    }

    /// The pool of the batch service that has a node, or to which it is on its way.
    #[must_use]
    pub fn batch_holder(&self, node: NodeId) -> Option<&BatchPoolKey> {
        self.batch.holder(node)
    }

    /// Whether work of a pool is placed on a node: one that is lent takes work of its borrower only.
    pub(crate) fn seats(&self, node: NodeId, pool: &str) -> bool {
        match self.batch.holders.get(&node) {
            None => true,
            Some(key) => {
                key.pool_name() == pool
                    && self
                        .batch
                        .pool(key)
                        .and_then(|pool| pool.nodes.get(&node))
                        .is_some_and(pool::Seat::is_open)
            }
        }
    }

    /// How much of the batch service ever changed: grows with every change.
    #[must_use]
    pub fn batch_changes(&self) -> u64 {
        self.batch.changes
    }

    /// The configuration as it was read: without the pools of the batch service.
    #[must_use]
    pub fn declared_config(&self) -> &Arc<ClusterConfig> {
        self.batch.declared.as_ref().unwrap_or(&self.config)
    }

    /// Jobs of the batch service that have something to do.
    pub fn batch_jobs_due(&self) -> impl Iterator<Item = (&BatchJobKey, &BatchJob, JobWork)> {
        self.batch.jobs_due.iter().filter_map(|key| {
            let job = self.batch.job(key)?;
            Some((key, job, happen::job_work(self, key, job)?))
        })
    }

    /// Waiting tasks of a job that may be made into jobs of the cluster now, the oldest first.
    pub fn batch_feedable<'a>(
        &'a self,
        key: &BatchJobKey,
        job: &'a BatchJob,
    ) -> impl Iterator<Item = &'a FoldedId> {
        let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
        let pool = self.batch.pool(&pool_key).filter(|pool| pool.deleting.is_none());
        let most = pool.map_or(0, |pool| job.may_make(self.batch_slots(key, pool, job)));
        let ids = pool.map(|pool| job.feedable(|slots, instances| pool.holds(slots, instances)));
        ids.into_iter().flatten().take(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// How many slots of a pool are ready for a job.
    fn batch_slots(&self, key: &BatchJobKey, pool: &BatchPool, job: &BatchJob) -> u64 {
        if job.spec.preparation.is_none() {
            return pool.slots();
        }
        let name = key.ready_name();
        let is_ready = |node: &NodeId| self.node(*node).ready_for.contains(&name);
        let ready = pool.nodes.iter().filter(|(node, seat)| pool.takes_work(seat) && is_ready(node));
        ready.count() as u64 * u64::from(pool.spec.slots_per_node)
    }

    /// Jobs of a pool that have not completed.
    pub fn batch_jobs_of<'a>(
        &'a self,
        pool: &'a BatchPoolKey,
    ) -> impl Iterator<Item = (BatchJobKey, &'a BatchJob)> {
        let account = self.batch.accounts.get(&pool.account);
        let jobs = account
            .into_iter()
            .flat_map(|all| all.active_jobs.iter().filter_map(|id| all.jobs.get_key_value(id)));
        let key = |id: &FoldedId| BatchJobKey { account: Arc::clone(&pool.account), job: id.clone() };
        jobs.filter(|(_, job)| job.spec.pool == pool.pool).map(move |(id, job)| (key(id), job))
    }

    /// Pools of the batch service that have something to do.
    pub fn batch_pools_due(&self) -> impl Iterator<Item = (&BatchPoolKey, &BatchPool, PoolWork)> {
        self.batch.pools_due.iter().filter_map(|key| {
            let pool = self.batch.pool(key)?;
            Some((key, pool, pool::work(self, pool)?))
        })
    }

    /// How many nodes could be lent to a pool at once, or once they have nothing to do.
    #[must_use]
    pub fn batch_candidates(&self, pool: &BatchPool) -> usize {
        pool::candidates(self, pool).count()
    }

    /// Resizes that give up by `now`.
    pub fn batch_give_up(&self, now: Timestamp) -> impl Iterator<Item = (&BatchPoolKey, &BatchPool)> {
        let due = self.batch.give_up.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(|(_, key)| Some((key, self.batch.pool(key)?)))
    }

    /// Jobs that are to be terminated by `now`.
    pub fn batch_jobs_overdue(&self, now: Timestamp) -> impl Iterator<Item = (&BatchJobKey, &BatchJob)> {
        let due = self.batch.job_ends.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(|(_, key)| Some((key, self.batch.job(key)?)))
    }

    /// The next instant at which the batch service has something to do.
    #[must_use]
    pub fn batch_wake(&self) -> Option<Timestamp> {
        let batch = &self.batch;
        let is_idle = batch.jobs_due.is_empty()
            && batch.pools_due.is_empty()
            && batch.chores_due.is_empty()
            && batch.schedules_due.is_empty();
        if !is_idle {
            return Some(Timestamp(0));
        }
        let give_up = self.batch.give_up.first().map(|(at, _)| *at);
        let end = self.batch.job_ends.first().map(|(at, _)| *at);
        let scale = self.batch.scales.first().map(|(at, _)| *at);
        let schedule = self.batch.schedule_times.first().map(|(at, _)| *at);
        let retained = self.batch.retained.first().map(|(at, _)| *at);
        give_up.into_iter().chain(end).chain(scale).chain(schedule).chain(retained).min()
    }
}
