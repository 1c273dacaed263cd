//! A task of the batch service.

use serde::{Deserialize, Serialize};

use crate::batch::{DependsOn, EndWish, Failure, FoldedId, TaskShape};
use crate::ids::{JobId, NodeId, Timestamp};
use crate::state::{Finished, FinishedHow};

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTask {
    /// Its id as it was typed, if that is not its folded form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) typed: Option<Box<str>>,
    /// The how-manieth task of its job it is.
    pub seq: u64,
    /// Its command line.
    pub command: Box<str>,
    /// The number of its shape.
    pub(super) shape: u32,
    /// What it depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends: Option<Box<DependsOn>>,
    /// When it was added.
    pub created: Timestamp,
    /// When it changed last.
    pub modified: Timestamp,
    /// Changes with it.
    pub version: u64,
    /// Its state.
    pub state: TaskState,
    /// Since when, as the protocol tells states apart.
    pub since: Timestamp,
    /// The state before, and since when that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<(TaskWord, Timestamp)>,
    /// How often its command failed and was tried again.
    #[serde(default, skip_serializing_if = "Tries::is_none")]
    pub retries: Tries,
    /// How often a user had it queued again.
    #[serde(default, skip_serializing_if = "Tries::is_none")]
    pub requeues: Tries,
}

/// How often something happened, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tries {
    /// How often.
    pub count: u32,
    /// When last.
    pub last: Option<Timestamp>,
}

impl Tries {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn again(&mut self, at: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = Some(at);
    }
}

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// It waits for so many of the things that it depends on; for none, it is its job's turn to let it run.
    Waiting {
        /// How many.
        unmet: u32,
    },
    /// A node is made ready for its job, because of it.
    Preparing {
        /// The node.
        node: NodeId,
    },
    /// It was made into a job of the cluster.
    Made(Made),
    /// That job has ended, and what becomes of the task is to be decided.
    Settling(Box<Settling>),
    /// It has ended.
    Completed(Box<Completed>),
}

/// A task that was made into a job of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The job.
    pub job: JobId,
    /// Since when it holds its nodes, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Why the job is being ended, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<EndWish>,
}

/// A task whose job of the cluster has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settling {
    /// That job.
    pub made: Made,
    /// How it ended.
    pub finished: Finished,
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// The job of the cluster that it was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Which attempt of that job was the last; 0 if there was none.
    #[serde(default)]
    pub attempt: u32,
    /// When its last attempt was given its nodes, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The nodes of that attempt, the primary's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeId>,
    /// The exit code of its command, if that came to an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether those that depend on it may run.
    pub satisfies: bool,
}

/// The state of a task as the protocol calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskWord {
    /// It waits.
    Active,
    /// Its node is made ready for its job.
    Preparing,
    /// It runs.
    Running,
    /// It has ended.
    Completed,
}

impl TaskWord {
    /// As the protocol writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Completed => "completed",
        }
    }
}

impl TaskState {
    /// As the protocol calls it.
    #[must_use]
    pub fn word(&self) -> TaskWord {
        let made = |made: &Made| match made.started {
            Some(_) => TaskWord::Running,
            None => TaskWord::Active,
        };
        match self {
            Self::Waiting { .. } => TaskWord::Active,
            Self::Preparing { .. } => TaskWord::Preparing,
            Self::Made(job) => made(job),
            Self::Settling(settling) => made(&settling.made),
            Self::Completed(_) => TaskWord::Completed,
        }
    }

    /// The job of the cluster that stands for it.
    #[must_use]
    pub fn made(&self) -> Option<&Made> {
        match self {
            Self::Made(made) => Some(made),
            Self::Settling(settling) => Some(&settling.made),
            Self::Waiting { .. } | Self::Preparing { .. } | Self::Completed(_) => None,
        }
    }
}

impl BatchTask {
    /// Its id, as it was typed.
    #[must_use]
    pub fn id<'a>(&'a self, folded: &'a FoldedId) -> &'a str {
        self.typed.as_deref().unwrap_or(folded.as_str())
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn completed(&self) -> Option<&Completed> {
        match &self.state {
            TaskState::Completed(completed) => Some(completed),
            _ => None,
        }
    }

    /// Goes into another state.
    pub(super) fn enter(&mut self, state: TaskState, version: u64, at: Timestamp) {
        let (before, after) = (self.state.word(), state.word());
        if before != after {
            self.previous = Some((before, self.since));
            self.since = at;
        }
        self.state = state;
        self.modified = at;
        self.version = version;
    }
}

/// How many tasks there are, and how many slots they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counted {
    /// Tasks.
    pub tasks: u64,
    /// Slots.
    pub slots: u64,
}

/// How many tasks there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Those that wait.
    pub active: Counted,
    /// Those that run.
    pub running: Counted,
    /// Those that have ended.
    pub completed: Counted,
    /// Those of them that did what they should.
    pub succeeded: Counted,
    /// The others of them.
    pub failed: Counted,
}

impl Counts {
    pub(super) fn count(&mut self, state: &TaskState, shape: &TaskShape, is_in: bool) {
        let slots = u64::from(shape.slots);
        let add = |counted: &mut Counted| {
            counted.tasks = if is_in { counted.tasks + 1 } else { counted.tasks.saturating_sub(1) };
            counted.slots = if is_in { counted.slots + slots } else { counted.slots.saturating_sub(slots) };
        };
        match state.word() {
            TaskWord::Active => add(&mut self.active),
            TaskWord::Preparing | TaskWord::Running => add(&mut self.running),
            TaskWord::Completed => add(&mut self.completed),
        }
        if let TaskState::Completed(completed) = state {
            add(if completed.failure.is_none() { &mut self.succeeded } else { &mut self.failed });
        }
    }
}

impl Completed {
    /// The end of something of which no job of the cluster is known.
    pub(super) fn without_job(
        exit_code: Option<i32>,
        failure: Option<crate::batch::Failure>,
        satisfies: bool,
    ) -> Self {
        Self { job: None, attempt: 0, started: None, nodes: Vec::new(), exit_code, failure, satisfies }
    }

    /// The same of something whose job of the cluster has ended.
    pub(super) fn after(settling: &Settling, ended: Self) -> Self {
        let nodes = match &settling.finished.how {
            FinishedHow::Ran { allocation, .. } => allocation.shares.iter().map(|share| share.node).collect(),
            _ => Vec::new(),
        };
        Self {
            job: Some(settling.made.job),
            attempt: settling.finished.how.attempts().0,
            started: settling.made.started,
            nodes,
            ..ended
        }
    }
}
