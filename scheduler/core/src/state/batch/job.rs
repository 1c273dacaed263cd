//! A job of the batch service and its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore::JobNode;
use super::numbers::Numbers;
use super::shapes::Shapes;
use super::stats::Stats;
use super::task::{BatchTask, Counts, TaskState};
use crate::batch::{BatchJobSpec, Disable, FoldedId, SchedulingError, TaskShape};
use crate::ids::{NodeId, Timestamp};
use crate::spec::User;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJob {
    /// What is said of it.
    pub spec: Arc<BatchJobSpec>,
    /// Who made it.
    pub by: User,
    /// When it was made.
    pub created: Timestamp,
    /// When what is said of it, or its phase, changed last.
    pub modified: Timestamp,
    /// Changes with it.
    pub version: u64,
    /// Its phase.
    pub phase: JobPhase,
    /// Since when.
    pub since: Timestamp,
    /// The phase before, as the protocol calls it, and since when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(JobWord, Timestamp)>,
    /// The number of the next task: tasks are made into jobs in the order in which they came.
    pub(super) next_seq: u64,
    pub(super) shapes: Shapes,
    /// By id.
    pub tasks: BTreeMap<FoldedId, BatchTask>,
    /// How many there are of each kind.
    pub counts: Counts,
    /// Waiting tasks that may run: slots, instances, number, id.
    pub(super) ready: BTreeSet<(u32, u32, u64, FoldedId)>,
    /// Tasks whose job of the cluster is there.
    pub(super) made: BTreeSet<FoldedId>,
    /// How many of them have not started.
    pub(super) queued: u64,
    /// Those of them whose job of the cluster has ended.
    pub(super) settling: BTreeSet<FoldedId>,
    /// Waiting tasks by the ids that they wait for.
    pub(super) dependents: BTreeMap<FoldedId, BTreeSet<FoldedId>>,
    /// Waiting tasks that wait for ranges.
    pub(super) range_dependents: BTreeSet<FoldedId>,
    /// What its tasks have used.
    #[serde(default, skip_serializing_if = "Stats::is_none")]
    pub(super) stats: Stats,
    /// What it has done to nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<NodeId, JobNode>,
    /// Tasks whose ids are numbers and that have satisfied those that depend on them.
    pub(super) satisfied: Numbers,
}

/// The phase of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum JobPhase {
    /// Its tasks run.
    Active,
    /// What runs comes to its end.
    Disabling {
        /// How.
        how: Disable,
    },
    /// Nothing runs.
    Disabled,
    /// What runs comes to its end.
    Terminating {
        /// Why.
        reason: String,
    },
    /// It has ended.
    Completed {
        /// Why; empty if it never ran.
        reason: String,
        /// Why it never ran, if it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<SchedulingError>,
    },
    /// What runs comes to its end, and it is gone then.
    Deleting,
}

/// The phase of a job as the protocol calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobWord {
    /// Active.
    Active,
    /// Being disabled.
    Disabling,
    /// Disabled.
    Disabled,
    /// Being terminated.
    Terminating,
    /// Completed.
    Completed,
    /// Being deleted.
    Deleting,
}

impl JobWord {
    /// As the protocol writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabling => "disabling",
            Self::Disabled => "disabled",
            Self::Terminating => "terminating",
            Self::Completed => "completed",
            Self::Deleting => "deleting",
        }
    }
}

impl JobPhase {
    /// As the protocol calls it.
    #[must_use]
    pub fn word(&self) -> JobWord {
        match self {
            Self::Active => JobWord::Active,
            Self::Disabling { .. } => JobWord::Disabling,
            Self::Disabled => JobWord::Disabled,
            Self::Terminating { .. } => JobWord::Terminating,
            Self::Completed { .. } => JobWord::Completed,
            Self::Deleting => JobWord::Deleting,
        }
    }
}

/// What a job has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobWork {
    /// Jobs of the cluster have ended: what becomes of their tasks is to be decided.
    Settle,
    /// Nothing of it runs: it is disabled, completed or gone.
    Rest,
    /// Its manager task has completed, and it is to end then.
    ManagerComplete,
    /// All its tasks have completed, and it is to end then.
    AllComplete,
    /// More of its tasks may be made into jobs of the cluster.
    Feed,
    /// Nodes are to be made ready for its tasks.
    Prepare,
    /// Its release task is to run.
    Release,
}

impl BatchJob {
    pub(super) fn new(spec: &Arc<BatchJobSpec>, by: &User, version: u64, at: Timestamp) -> Self {
        Self {
            spec: Arc::clone(spec),
            by: by.clone(),
            created: at,
            modified: at,
            version,
            phase: JobPhase::Active,
            since: at,
            previous: None,
            next_seq: 0,
            shapes: Shapes::default(),
            tasks: BTreeMap::new(),
            counts: Counts::default(),
            ready: BTreeSet::new(),
            made: BTreeSet::new(),
            queued: 0,
            settling: BTreeSet::new(),
            dependents: BTreeMap::new(),
            range_dependents: BTreeSet::new(),
            stats: Stats::default(),
            nodes: BTreeMap::new(),
            satisfied: Numbers::default(),
        }
    }

    /// What a task has in common with others.
    ///
    /// # Panics
    /// If the task is of another job.
    #[must_use]
    pub fn shape(&self, task: &BatchTask) -> &Arc<TaskShape> {
        self.shapes.get(task.shape)
    }

    /// When it is terminated if it has not ended by then.
    #[must_use]
    pub fn must_end_at(&self) -> Option<Timestamp> {
        let is_over = matches!(
            self.phase,
            JobPhase::Completed { .. } | JobPhase::Terminating { .. } | JobPhase::Deleting
        );
        let limit_s = self.spec.wall_clock_max_s.filter(|_| !is_over)?;
        Some(self.created.plus_seconds(limit_s))
    }

    /// Whether it is over, so that it takes no tasks and no changes.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        matches!(self.phase, JobPhase::Completed { .. })
    }

    /// Tasks whose job of the cluster is there.
    pub fn made(&self) -> impl Iterator<Item = (&FoldedId, &BatchTask)> {
        self.made.iter().filter_map(|id| Some((id, self.tasks.get(id)?)))
    }

    /// Tasks whose job of the cluster has ended.
    pub fn settling(&self) -> impl Iterator<Item = (&FoldedId, &BatchTask)> {
        self.settling.iter().filter_map(|id| Some((id, self.tasks.get(id)?)))
    }

    /// How many more tasks may be made into jobs of the cluster: no more wait there than could start at once.
    pub(super) fn may_make(&self, slots: u64) -> u64 {
        let running_max = self.spec.running_max.map_or(u64::MAX, u64::from);
        slots.saturating_sub(self.queued).min(running_max.saturating_sub(self.made.len() as u64))
    }

    /// Waiting tasks that may run and whose slots and instances `holds` says yes to, in the order in which they came.
    pub(super) fn feedable(&self, holds: impl Fn(u32, u32) -> bool) -> impl Iterator<Item = &FoldedId> {
        let mut kinds: Vec<(u32, u32)> = Vec::new();
        let mut from = Some((0, 0));
        while let Some((slots, instances)) = from {
            let next = self.ready.range((slots, instances, 0, FoldedId::of(""))..).next();
            from = next.map(|(slots, instances, ..)| {
                kinds.push((*slots, *instances));
                (*slots, instances.saturating_add(1))
            });
        }
        let mut heads: Vec<_> = kinds
            .into_iter()
            .filter(|(slots, instances)| holds(*slots, *instances))
            .map(|(slots, instances)| {
                let first = FoldedId::of("");
                let mut all =
                    self.ready.range((slots, instances, 0, first.clone())..(slots, instances + 1, 0, first));
                (all.next(), all)
            })
            .collect();
        std::iter::from_fn(move || {
            let (head, rest) =
                heads.iter_mut().min_by_key(|(head, _)| head.map_or(u64::MAX, |entry| entry.2))?;
            let oldest = (*head)?;
            *head = rest.next();
            Some(&oldest.3)
        })
    }

    /// Waiting tasks that may run, those of the fewest slots first.
    pub fn waiting(&self) -> impl Iterator<Item = &FoldedId> {
        self.ready.iter().map(|(.., id)| id)
    }

    /// Whether it is to end because its manager task has completed.
    pub(super) fn ends_with_manager(&self) -> bool {
        let manager = self.spec.manager.as_ref().filter(|manager| manager.ends_job);
        let task = manager.and_then(|manager| self.tasks.get(&FoldedId::of(&manager.task.id)));
        task.is_some_and(|task| task.completed().is_some())
    }

    /// Whether a task is the manager of the job.
    #[must_use]
    pub fn is_manager(&self, id: &FoldedId) -> bool {
        self.spec.manager.as_ref().is_some_and(|manager| FoldedId::of(&manager.task.id) == *id)
    }

    /// Whether all its tasks have completed.
    #[must_use]
    pub fn all_complete(&self) -> bool {
        self.counts.completed.tasks == self.tasks.len() as u64
    }

    pub(super) fn enter(&mut self, phase: JobPhase, version: u64, at: Timestamp) {
        self.previous = Some((self.phase.word(), self.since));
        self.phase = phase;
        self.since = at;
        self.modified = at;
        self.version = version;
    }

    /// Changes a task, and what follows from it.
    pub(super) fn change(&mut self, id: &FoldedId, change: impl FnOnce(&mut BatchTask)) {
        self.enter_task(id, false);
        if let Some(task) = self.tasks.get_mut(id) {
            change(task);
        }
        self.enter_task(id, true);
    }

    /// Puts a task into the indices, or takes it out.
    pub(super) fn enter_task(&mut self, id: &FoldedId, is_in: bool) {
        let Some(task) = self.tasks.get(id) else { return };
        let shape = self.shapes.get(task.shape);
        self.counts.count(&task.state, shape, is_in);
        let enter = |set: &mut BTreeSet<FoldedId>| {
            if is_in {
                set.insert(id.clone())
            } else {
                set.remove(id)
            };
        };
        match &task.state {
            TaskState::Waiting { unmet: 0 } => {
                let entry = (shape.slots, shape.instances(), task.seq, id.clone());
                if is_in {
                    self.ready.insert(entry)
                } else {
                    self.ready.remove(&entry)
                };
            }
            TaskState::Waiting { .. } | TaskState::Preparing { .. } | TaskState::Completed(_) => {}
            TaskState::Made(made) => {
                enter(&mut self.made);
                if made.started.is_none() {
                    self.queued = if is_in { self.queued + 1 } else { self.queued.saturating_sub(1) };
                }
            }
            TaskState::Settling(..) => {
                enter(&mut self.made);
                enter(&mut self.settling);
            }
        }
    }
}
