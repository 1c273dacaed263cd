//! The state: what the events add up to.
//!
//! A task is in one of these phases; a job's record holds its tasks by phase.
//!
//! | phase      | left by             | to                                        |
//! | ---------- | ------------------- | ----------------------------------------- |
//! | waiting    | `AttemptPlaced`     | preparing                                 |
//! |            | `WaitingCancelled`  | finished                                  |
//! |            | `WaitingEnded`      | finished                                  |
//! | preparing  | `AttemptGo`         | running                                   |
//! |            | `AttemptEnding`     | ending                                    |
//! |            | `AttemptRan`        | finished                                  |
//! |            | `AttemptsRan`       | finished                                  |
//! | running    | `AttemptEnding`     | ending                                    |
//! | ending     | `AttemptEnded`      | finished, or waiting for the next attempt |
//!
//! In every live phase the attempt holds its allocation; each share is free again when its instance is gone or
//! its node was given up.

mod alike;
mod batch;
mod crontabs;
mod depends;
mod evolve;
mod finished;
mod holds;
mod index;
mod instants;
mod invariants;
mod job;
mod kept;
mod ledger;
mod line;
mod live;
pub use self::line::FIRST_ATTEMPT;
mod node;
mod pools;
mod power;
#[cfg(test)]
mod reading_tests;
mod reservations;
mod tally;
mod unfinished;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::batch::{
    BatchAccount, BatchJob, BatchPool, BatchSchedule, BatchTask, BatchTaskState, BatchWhy, ChoreRun,
    ChoreState, ChoreWork, Completed, Counted, Counts, JobNode, JobPhase, JobWord, JobWork, Made, Metered,
    Misfit, OpenDependency, PoolAllocation, PoolWork, Scale, ScheduleWork, Seat, Settling, SetupRun,
    SetupState, Stands, Stats as BatchStats, TaskStats as BatchTaskStats, TaskWord, Tries, Used,
};
pub use self::crontabs::{CronId, CronRun, Standing as StandingCrontab};
pub use self::depends::{Known, Standing, Unfulfillable};
pub use self::finished::{Finished, FinishedHow, FinishedTasks};
pub use self::holds::{JobHold, TaskHold};
pub use self::invariants::Broken;
pub use self::job::{Instance, InstanceState, Job, Live, LivePhase, Taken, Tried};
pub use self::ledger::ENTRIES_MAX as USAGE_ENTRIES_MAX;
pub use self::node::{Held, Node, NodeStatus, Unhealthy};
pub use self::pools::PoolState;
pub use self::power::{Power, PowerWork};
pub use self::reservations::Reserved;
pub use self::waiting::IndexSet;
use crate::cluster::ClusterConfig;
use crate::event::Event;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, Timestamp};

/// Everything that the controller knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// When the last event happened.
    #[serde(default)]
    pub at: Timestamp,
    /// The configuration in force.
    pub config: Arc<ClusterConfig>,
    /// Every node that was ever declared, by id.
    pub nodes: Vec<Node>,
    /// Jobs with tasks that have not finished, and the most recently finished ones. Copies of a state have those in common that
    /// have not changed since.
    pub jobs: BTreeMap<JobId, Arc<Job>>,
    /// The id of the next job.
    pub next_job: u64,
    /// Finished jobs in memory, in the order in which they finished.
    finished: VecDeque<JobId>,
    /// Jobs with waiting tasks, in the order in which they are considered.
    queue: BTreeSet<QueueKey>,
    /// Live attempts.
    live: BTreeSet<AttemptKey>,
    /// Instants at which live attempts run out of time to prepare or to run.
    deadlines: BTreeSet<(Timestamp, AttemptKey)>,
    /// Instants at which live attempts get the signal that their job wished for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    signals: BTreeSet<(Timestamp, AttemptKey)>,
    /// Instants at which live attempts have run for a part of their time limit of which somebody is to be told.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    marks: BTreeSet<(Timestamp, AttemptKey)>,
    /// What admins have said of pools, but for those that are up; all are of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pool_states: BTreeMap<String, PoolState>,
    /// Instants before which waiting tasks do not start again.
    delayed: BTreeSet<(Timestamp, TaskId)>,
    /// Instants at which the passing of time alone may make an unfinished job eligible.
    #[serde(default)]
    eligible_at: BTreeSet<(Timestamp, JobId)>,
    /// Instants from which on the waiting tasks of a job can no longer end by its deadline.
    #[serde(default)]
    expiring: BTreeSet<(Timestamp, JobId)>,
    /// For each job, the unfinished ones that wait for it to start or end.
    #[serde(default)]
    dependents: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs with waiting tasks to be cancelled because their dependency can never be fulfilled.
    #[serde(default)]
    unfulfillable: BTreeSet<JobId>,
    /// Advance reservations.
    #[serde(default, skip_serializing_if = "reservations::Reservations::is_empty")]
    reservations: reservations::Reservations,
    /// Tables of recurring jobs.
    #[serde(default, skip_serializing_if = "crontabs::Crontabs::is_empty")]
    crontabs: crontabs::Crontabs,
    /// The batch service.
    #[serde(default, skip_serializing_if = "batch::Batch::is_empty")]
    batch: batch::Batch,
    /// What accounts and users have used.
    #[serde(default)]
    ledger: ledger::Ledger,
    /// Waiting tasks of all jobs.
    waiting_count: u64,
    /// Unfinished jobs of each user.
    jobs_of_user: BTreeMap<u32, u32>,
    /// How many attempts were ever preempted.
    #[serde(default, skip_serializing_if = "job::is_none_preempted")]
    pub preempted: u64,
    /// Follows from the jobs.
    #[serde(skip)]
    unfinished: unfinished::Unfinished,
    /// Follows from the finished jobs.
    #[serde(skip)]
    kept_tasks: kept::KeptTasks,
    /// Follows from the configuration and the nodes.
    #[serde(skip)]
    derived: index::Derived,
    /// Follows from the nodes.
    #[serde(skip)]
    next_release: index::NextRelease,
    /// Request keys of the jobs in memory, by user.
    #[serde(with = "request_keys")]
    request_keys: HashMap<(u32, Arc<str>), JobId>,
}

/// The order of the queue: higher priority first, then the older job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct QueueKey(std::cmp::Reverse<i32>, JobId);

impl State {
    /// The state of an empty cluster.
    #[must_use]
    pub fn new() -> Self {
        Self { next_job: 1, ..Self::default() }
    }

    /// Lets one event happen at `at`. Events must come in the order in which they were decided.
    pub fn evolve(&mut self, event: &Event, at: Timestamp) {
        evolve::evolve(self, event, at);
    }

    /// The node of this id.
    ///
    /// # Panics
    /// If no event ever gave this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Names of the nodes of an allocation's shares, in order.
    #[must_use]
    pub fn node_names<'a>(&'a self, allocation: &'a crate::event::Allocation) -> Vec<&'a str> {
        allocation.shares.iter().map(|share| self.node(share.node).name.as_str()).collect()
    }

    /// The jobs that have waiting tasks, in the order in which they are considered.
    pub fn queue(&self) -> impl Iterator<Item = &Job> {
        self.queue.iter().filter_map(|key| self.jobs.get(&key.1)).map(AsRef::as_ref)
    }

    /// How many jobs have waiting tasks.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// All live attempts.
    pub fn live(&self) -> impl Iterator<Item = (AttemptKey, &Job, &Live)> {
        self.live.iter().filter_map(|key| {
            let job = &**self.jobs.get(&key.task.job)?;
            Some((*key, job, job.live.get(&key.task.index)?.as_ref()))
        })
    }

    /// The live attempt of a task.
    #[must_use]
    pub fn live_attempt(&self, task: TaskId) -> Option<&Live> {
        self.jobs.get(&task.job)?.live.get(&task.index).map(AsRef::as_ref)
    }

    /// Live attempts with the instant at which each runs out of time, the earliest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (Timestamp, AttemptKey)> + '_ {
        self.deadlines.iter().copied()
    }

    /// Live attempts with the instant at which each gets the signal that its job wished for, the earliest first.
    pub fn signals(&self) -> impl Iterator<Item = (Timestamp, AttemptKey)> + '_ {
        self.signals.iter().copied()
    }

    /// Live attempts with the instant at which each has next run for a part of its time limit of which somebody is to be told,
    /// the earliest first.
    pub fn marks(&self) -> impl Iterator<Item = (Timestamp, AttemptKey)> + '_ {
        self.marks.iter().copied()
    }

    /// Waiting tasks that do not start before an instant, the earliest first.
    pub fn delayed(&self) -> impl Iterator<Item = (Timestamp, TaskId)> + '_ {
        self.delayed.iter().copied()
    }

    /// The first instant after `at` at which the passing of time alone may make a job eligible.
    #[must_use]
    pub fn next_eligible(&self, at: Timestamp) -> Option<Timestamp> {
        let after = (Timestamp(at.0.saturating_add(1)), JobId(0));
        self.eligible_at.range(after..).next().map(|(instant, _)| *instant)
    }

    /// Jobs with waiting tasks, with the instant from which on these can no longer end by the job's deadline; the
    /// earliest first.
    pub fn expiring(&self) -> impl Iterator<Item = (Timestamp, JobId)> + '_ {
        self.expiring.iter().copied()
    }

    /// Jobs with waiting tasks to be cancelled because their dependency can never be fulfilled.
    pub fn unfulfillable(&self) -> impl Iterator<Item = JobId> + '_ {
        self.unfulfillable.iter().copied()
    }

    /// The unfinished jobs that wait for `job` to start or end.
    pub fn dependents(&self, job: JobId) -> impl Iterator<Item = JobId> + '_ {
        self.dependents.get(&job).into_iter().flatten().copied()
    }

    /// How many tasks wait, all jobs together.
    #[must_use]
    pub fn waiting_count(&self) -> u64 {
        self.waiting_count
    }

    /// How many attempts are live.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// How many unfinished jobs a user has.
    #[must_use]
    pub fn jobs_of_user(&self, uid: u32) -> u32 {
        self.jobs_of_user.get(&uid).copied().unwrap_or(0)
    }

    /// The job that this user's request key made, if it is still in memory.
    #[must_use]
    pub fn job_by_request_key(&self, uid: u32, key: &str) -> Option<JobId> {
        self.request_keys.get(&(uid, key.into())).copied()
    }
}

/// JSON has no maps with pairs as keys: kept as a sorted list of triples.
mod request_keys {
    use std::collections::HashMap;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::ids::JobId;

    type Keys = HashMap<(u32, Arc<str>), JobId>;

    pub fn serialize<S: Serializer>(keys: &Keys, out: S) -> Result<S::Ok, S::Error> {
        let mut list: Vec<(u32, &str, JobId)> =
            keys.iter().map(|((uid, key), job)| (*uid, &**key, *job)).collect();
        list.sort_unstable();
        list.serialize(out)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Keys, D::Error> {
        let list = Vec::<(u32, Arc<str>, JobId)>::deserialize(input)?;
        Ok(list.into_iter().map(|(uid, key, job)| ((uid, key), job)).collect())
    }
}
