//! Tasks as lines of a listing, as Slurm's commands show them. The words are those of [`crate::api`].

use std::collections::BTreeMap;

use muster_core::event::Verdict;
use muster_core::ids::{JobRef, TaskIndex};
use muster_core::spec::IndexRange;
use serde::{Deserialize, Serialize};

use crate::api::{JobDetail, StepView, TaskState, TaskView};

/// For how long after its end a job is shown among those that are there, in seconds: Slurm's `MinJobAge`.
pub const FINISHED_SHOWN_S: u64 = 300;
/// Most lines of one list.
pub const LINES_MAX: usize = 500_000;

/// A list of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The controller's clock, in microseconds since 1970.
    pub now_us: u64,
    /// By job; of an array those that wait come first, then the others by index.
    pub lines: Vec<TaskLine>,
    /// The jobs of the lines, without their tasks; only in lists that were asked for with `detail`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<u64, JobDetail>,
    /// The steps of the lines' tasks, by job, task, attempt and number; only in lists that were asked for with `steps`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepView>,
    /// Which of the jobs that were asked for there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<u64>,
    /// Whether [`LINES_MAX`], or [`crate::api::STEPS_MAX`], cut the list.
    #[serde(default)]
    pub cut: bool,
}

/// Which tasks of its job a line stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The only task of a job without an array.
    Job,
    /// One element of an array.
    Element(TaskIndex),
    /// Elements of an array that wait, or that ended while they waited.
    Elements(Vec<IndexRange>),
}

impl Which {
    /// Whether the line stands for what `job` names.
    #[must_use]
    pub fn holds(&self, task: Option<TaskIndex>) -> bool {
        match (self, task) {
            (_, None) => true,
            (Self::Job, Some(index)) => index.0 == 0,
            (Self::Element(own), Some(index)) => *own == index,
            (Self::Elements(ranges), Some(index)) => ranges.iter().any(|range| {
                (range.first..=range.last).contains(&index.0)
                    && (index.0 - range.first).is_multiple_of(range.step.max(1))
            }),
        }
    }
}

/// How a task ended, or is being ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum EndView {
    /// The script exited.
    Exited {
        /// Exit code.
        code: u32,
    },
    /// The script was killed by a signal that Muster did not send.
    Signalled {
        /// The signal's number.
        signal: u32,
    },
    /// Its memory was used up.
    OutOfMemory,
    /// It ran out of time.
    TimedOut,
    /// It did not, or could not, end by its deadline.
    Deadline,
    /// Somebody cancelled it.
    Cancelled {
        /// Who.
        by_uid: u32,
    },
    /// Somebody put it back into the queue.
    Requeued,
    /// What it depended on could no longer come true.
    Unfulfillable,
    /// A job with a higher claim took its place.
    Preempted,
    /// It could not be started, and that was its own fault.
    LaunchFailed,
    /// A node failed under it.
    NodeFailed,
}

impl From<&Verdict> for EndView {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Exited { code } => Self::Exited { code: *code },
            Verdict::Signalled { signal } => Self::Signalled { signal: *signal },
            Verdict::OutOfMemory { .. } => Self::OutOfMemory,
            Verdict::TimedOut => Self::TimedOut,
            Verdict::Deadline => Self::Deadline,
            Verdict::Requeued { .. } => Self::Requeued,
            Verdict::Cancelled { by_uid } => Self::Cancelled { by_uid: *by_uid },
            Verdict::Preempted { .. } => Self::Preempted,
            Verdict::LaunchFailed { .. } | Verdict::StageInFailed { .. } | Verdict::StageOutFailed { .. } => {
                Self::LaunchFailed
            }
            Verdict::PrepareFailed { .. } | Verdict::NodeFailed { .. } | Verdict::Broken { .. } => {
                Self::NodeFailed
            }
        }
    }
}

/// A line of the listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLine {
    /// Its job.
    pub job: u64,
    /// Which of its tasks.
    pub which: Which,
    /// Of elements that wait: how many of the array may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// The job's name.
    pub name: String,
    /// Login name of the owner.
    pub user: String,
    /// User id of the owner.
    pub uid: u32,
    /// Pool.
    pub pool: String,
    /// The account that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Licences that each task holds while it runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<String, u32>,
    /// State.
    pub state: TaskState,
    /// A word for why it waits, such as `resources`; empty if it does not wait.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason_code: String,
    /// How it ended or is being ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndView>,
    /// How often it was queued again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// The job's own priority.
    #[serde(default)]
    pub priority: i32,
    /// Nodes of its allocation, or as many as it needs at least.
    pub nodes: u32,
    /// Ranks.
    pub ranks: u32,
    /// Cores.
    pub cores: u64,
    /// Host list of its allocation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_list: String,
    /// The node of instance 0.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub primary: String,
    /// When the job was submitted, in microseconds since 1970.
    pub submitted_at_us: u64,
    /// Not before, if its submitter said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_us: Option<u64>,
    /// When it was given its allocation, or its script started if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_us: Option<u64>,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_us: Option<u64>,
    /// When it must have ended at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_by_us: Option<u64>,
    /// When it is expected to start at the latest; only in lists that were asked for with `starts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start_us: Option<u64>,
    /// Its time limit, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// All that is known of the task; only in lists that were asked for with `detail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<TaskView>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only these; all without.
    pub jobs: Vec<JobRef>,
    /// Only those of these users; of all without.
    pub users: Vec<String>,
    /// Those as well that finished at most so many seconds ago.
    pub finished_s: Option<u64>,
    /// Instead: those that were there at some instant from this one on, in microseconds since 1970, the accounting's
    /// among them.
    pub since_us: Option<u64>,
    /// And before this one.
    pub until_us: Option<u64>,
    /// With all that is known of each.
    pub detail: bool,
    /// Say when what waits is expected to start.
    pub starts: bool,
    /// With the steps of each.
    pub steps: bool,
}
