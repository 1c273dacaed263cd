//! What goes over the client API: JSON over HTTP on a Unix socket. Fields are only ever added.
//!
//! | method and path                  | body → answer                                         |
//! | -------------------------------- | ----------------------------------------------------- |
//! | `GET  /v1/ping`                  | → [`Ping`]                                            |
//! | `POST /v1/jobs`                  | [`SubmitRequest`] → [`SubmitAnswer`] (201)            |
//! | `GET  /v1/jobs?state=&user=&all=&limit=&starts=` | → [`JobList`]                                 |
//! | `GET  /v1/jobs/{ref}`            | → [`JobDetail`]; `ref` is `JOB` or `JOB_INDEX`        |
//! | `GET  /v1/jobs/{ref}/why`        | → [`Why`]                                             |
//! | `GET  /v1/jobs/{ref}/script`     | → [`ScriptAnswer`]; for the owner and admins          |
//! | `GET  /v1/jobs/{ref}/wait?timeout_ms=&seen=` | → [`JobDetail`], once the state differs from `seen` or at the time-out |
//! | `GET  /v1/tasks?job=&user=&finished_s=&since_us=&until_us=&detail=&starts=&steps=` | → [`TaskList`]; `job` and `user` are lists |
//! | `POST /v1/jobs/{ref}/cancel?cron=` | → [`CancelAnswer`]                                  |
//! | `POST /v1/jobs/{ref}/signal`     | [`SignalRequest`] → [`ReachedAnswer`]                 |
//! | `POST /v1/jobs/{ref}/steps/{step}/signal` | [`StepSignalRequest`] → [`ReachedAnswer`]   |
//! | `POST /v1/jobs/{ref}/steps/{step}/attach` | [`StepAttachRequest`] → [`ReachedAnswer`]   |
//! | `POST /v1/jobs/{ref}/requeue`    | [`RequeueRequest`] → [`ReachedAnswer`]                |
//! | `POST /v1/jobs/{ref}/update`     | [`JobUpdate`] → `{}`; `ref` is a whole job            |
//! | `POST /v1/jobs/{ref}/hold`       | → `{}`; `ref` is `JOB` or `JOB_INDEX`                 |
//! | `POST /v1/jobs/{ref}/release`    | → `{}`; `ref` is `JOB` or `JOB_INDEX`                 |
//! | `GET  /v1/tasks/{ref}/files?path=&recursive=&after=&instance=` | → [`FileList`]; for the owner and admins |
//! | `GET  /v1/tasks/{ref}/files/data?path=&offset=&length=&instance=` | → bytes; none after the file's end |
//! | `DELETE /v1/tasks/{ref}/files?path=&recursive=&instance=` | → `{}`                           |
//! | `GET  /v1/nodes`                 | → [`NodeList`]                                        |
//! | `POST /v1/nodes/drain`           | [`NodesRequest`] → `{}`; all of the nodes or none     |
//! | `POST /v1/nodes/down`            | [`NodesRequest`] → `{}`; all of the nodes or none     |
//! | `POST /v1/nodes/resume`          | [`ResumeRequest`] → `{}`; all of the nodes or none    |
//! | `POST /v1/nodes/bootstrap`       | [`BootstrapPlanRequest`] → [`BootstrapPlan`]; for root |
//! | `POST /v1/nodes/{name}/hold`     | [`HoldRequest`] → `{}`: drains one node               |
//! | `POST /v1/nodes/{name}/release`  | → `{}`: resumes one node                              |
//! | `GET  /v1/pools`                 | → [`PoolList`]                                        |
//! | `POST /v1/pools/{name}/state`    | [`PoolStateRequest`] → `{}`; for admins               |
//! | `GET  /v1/licenses`              | → [`LicenseList`]                                     |
//! | `GET  /v1/reservations`          | → [`ReservationList`]                                 |
//! | `POST /v1/reservations`          | [`ReservationRequest`] → [`ReservationAnswer`] (201)  |
//! | `DELETE /v1/reservations/{name}` | → `{}`                                                |
//! | `GET  /v1/priority?job=&user=&limit=` | → [`PriorityList`]; `job` is a list of ids       |
//! | `GET  /v1/shares?user=`          | → [`ShareList`]                                       |
//! | `GET  /v1/crontab?user=`         | → [`CrontabView`]                                     |
//! | `POST /v1/crontab?user=`         | [`CrontabRequest`] → [`CrontabView`]; all of it or nothing |
//! | `DELETE /v1/crontab?user=`       | → `{}`                                                |
//! | `GET  /v1/usage?since_us=&until_us=&tres=` | → [`UsageReport`]                          |
//! | `GET  /v1/diagnostics`           | → [`Diagnostics`]                                     |
//! | `POST /v1/diagnostics/reset`     | → `{}`: it counts anew; for admins                    |
//!
//! A refusal is answered with [`ErrorBody`] and status 400 (bad request), 403 (not yours), 404 (no such thing),
//! 409 (has ended), 429 (a limit is reached; with `again_ms`, of requests a second or of connections), 503 (cannot be stored
//! at present).

use std::collections::BTreeMap;

use muster_core::eligibility::Eligibility;
use muster_core::event::{FinishedKind, Verdict};
use muster_core::ids::JobRef;
use muster_core::spec::{ArraySpec, IndexRange, Request};
use serde::{Deserialize, Serialize};

pub use crate::bootstrap::{
    BootstrapAction, BootstrapAnswer, BootstrapDone, BootstrapFailure, BootstrapJump, BootstrapPlan,
    BootstrapPlanRequest, BootstrapRequest, BootstrapTls,
};
pub use crate::changes::{JobUpdate, ReachedAnswer, RequeueRequest, ScriptAnswer, SignalRequest};
pub use crate::crontabs::{CronEntryRequest, CronEntryView, CrontabRequest, CrontabView};
pub use crate::diagnostics::{CallerFigures, Diagnostics, PassFigures, RequestFigures, TaskCounts};
pub use crate::files::{FileList, FileView};
pub use crate::licenses::{LicenseList, LicenseView};
pub use crate::nodes::{
    HoldRequest, NodeList, NodeView, NodesRequest, PoolList, PoolStateRequest, PoolView, ResumeRequest,
};
pub use crate::notes::NotesView;
pub use crate::priority::{FactorView, FactorsView, JobPriority, PriorityList, ShareLine, ShareList};
pub use crate::reservations::{
    KeptFor, ReservationAnswer, ReservationList, ReservationRequest, ReservationView, RunsIntoView,
};
pub use crate::steps::{STEPS_MAX, StepAttachRequest, StepSignalRequest, StepUsageView, StepView};
pub use crate::submits::{SubmitAnswer, SubmitRequest, TestView};
pub use crate::tasks::{EndView, FINISHED_SHOWN_S, LINES_MAX, TaskLine, TaskList, Which};
pub use crate::usage::{USAGE_LINES_MAX, UsageLine, UsageReport, UsageView};
pub use crate::why::{
    GresShortageView, HolderView, HoldersView, KeptForView, NodeAwayView, NodesAwayView, ShortageView, Why,
};

/// The version of every answer's shape, grown when a field is added.
pub const SCHEMA: u32 = 1;

/// Proof that a controller answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The controller's version.
    pub version: String,
    /// How many nodes are up.
    pub nodes_up: u32,
    /// How many nodes are declared.
    pub nodes: u32,
    /// Which controller leads, where several share a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderView>,
}

/// A controller that leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// What it calls itself.
    pub holder: String,
    /// How often the lead was taken over.
    pub term: u64,
}

/// The code of the refusal, with status 429, of a user who asks too often: it says when to ask again.
pub const TOO_OFTEN: &str = "too_often";
/// The code of the refusal, with status 503, of a controller that stands by: another one can be asked.
pub const NOT_LEADING: &str = "not_leading";

/// How many tasks a cancellation reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAnswer {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How many.
    pub tasks: u64,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A word for programs, such as `unknown_pool`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Of what was asked too often, or by too many at once: when to ask again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_ms: Option<u64>,
}

/// The state of a job or task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// In the queue.
    Waiting,
    /// Its instances are being prepared.
    Preparing,
    /// Its script runs.
    Running,
    /// Its processes are being ended.
    Ending,
    /// Exited with 0.
    Completed,
    /// Exited with another code or by a signal, or could not be started.
    Failed,
    /// Ran out of time.
    TimedOut,
    /// Did not, or could not, end by its deadline.
    Deadline,
    /// Ran out of memory.
    OutOfMemory,
    /// Was cancelled.
    Cancelled,
    /// A job with a higher claim took its place, for good.
    Preempted,
    /// A node failed under it.
    NodeFailed,
}

impl From<&Verdict> for TaskState {
    /// The state in which a verdict leaves a task: it waits again after some.
    fn from(verdict: &Verdict) -> Self {
        verdict.kind().map_or(Self::Waiting, Self::from)
    }
}

impl From<FinishedKind> for TaskState {
    fn from(kind: FinishedKind) -> Self {
        match kind {
            FinishedKind::Completed => Self::Completed,
            FinishedKind::Cancelled => Self::Cancelled,
            FinishedKind::TimedOut => Self::TimedOut,
            FinishedKind::Deadline => Self::Deadline,
            FinishedKind::Preempted => Self::Preempted,
            FinishedKind::OutOfMemory => Self::OutOfMemory,
            FinishedKind::NodeFailed => Self::NodeFailed,
            FinishedKind::Failed => Self::Failed,
        }
    }
}

impl TaskState {
    /// Whether nothing will change any more.
    #[must_use]
    pub fn is_finished(self) -> bool {
        !matches!(self, Self::Waiting | Self::Preparing | Self::Running | Self::Ending)
    }

    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 12] = [
        Self::Waiting,
        Self::Preparing,
        Self::Running,
        Self::Ending,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Deadline,
        Self::OutOfMemory,
        Self::Cancelled,
        Self::Preempted,
        Self::NodeFailed,
    ];

    /// The state as JSON writes it, such as `timed_out`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Ending => "ending",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Deadline => "deadline",
            Self::OutOfMemory => "out_of_memory",
            Self::Cancelled => "cancelled",
            Self::Preempted => "preempted",
            Self::NodeFailed => "node_failed",
        }
    }
}

/// A list of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Oldest first.
    pub jobs: Vec<JobSummary>,
    /// Whether `limit` cut the list.
    pub cut: bool,
}

/// A line of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Id.
    pub job: u64,
    /// Name.
    pub name: String,
    /// Login name of the owner.
    pub user: String,
    /// Pool.
    pub pool: String,
    /// The state of its only task; of an array: running if any task is live, else waiting, else the worst end.
    pub state: TaskState,
    /// Tasks by state; only states with tasks.
    pub tasks: BTreeMap<TaskState, u64>,
    /// Whether it is an array.
    pub array: bool,
    /// Nodes of one task: of its allocation, or as asked for.
    pub nodes: u32,
    /// Ranks of one task.
    pub ranks: u32,
    /// Cores of one task.
    pub cores: u64,
    /// Host list of the live allocations.
    pub node_list: String,
    /// Instants in microseconds since 1970.
    pub submitted_at_us: u64,
    /// First start of a live or finished task.
    pub started_at_us: Option<u64>,
    /// When the last task finished.
    pub finished_at_us: Option<u64>,
    /// Time limit of one attempt, in seconds.
    pub time_limit_s: Option<u64>,
    /// Priority.
    pub priority: i32,
    /// Why it waits or how it ended, in a few words.
    pub reason: String,
    /// A word for why it waits, such as `resources`, `dependency` or `held_by_user`; empty if it does not wait.
    #[serde(default)]
    pub reason_code: String,
    /// When its next waiting task is expected to start at the latest; only in lists that were asked for with `starts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start_us: Option<u64>,
}

/// Who holds a job back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// Since when, in microseconds since 1970.
    pub since_us: u64,
    /// Login name, or the user id in words.
    pub by: String,
    /// Whether only an admin may let it go.
    pub by_admin: bool,
}

/// A job with its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The line of the queue.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Where it runs.
    pub working_directory: String,
    /// Pattern of the standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Patterns as submitted.
    pub stdout: Option<String>,
    /// Pattern of the standard error.
    pub stderr: Option<String>,
    /// User id of its owner.
    #[serde(default)]
    pub uid: u32,
    /// Group id that its tasks run with.
    #[serde(default)]
    pub gid: u32,
    /// The host on which it was submitted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub submit_host: String,
    /// Whether its tasks have folders of their own on their nodes, where their output is unless it has another place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_folders: bool,
    /// What each task asks for.
    pub request: Request,
    /// The array's elements.
    pub array_spec: Option<ArraySpec>,
    /// Whether it is queued again when a node fails.
    pub requeue: bool,
    /// When its tasks may start, as submitted.
    #[serde(default, skip_serializing_if = "Eligibility::is_default")]
    pub eligibility: Eligibility,
    /// The account that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// What its user said about it, and how it was submitted.
    #[serde(default, flatten)]
    pub notes: NotesView,
    /// Set while its waiting tasks are held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HoldView>,
    /// Waiting tasks that are held back by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks_held: Vec<IndexRange>,
    /// Tasks that are live or finished (at most [`TASKS_SHOWN_MAX`]), or the one that was asked for.
    pub task_list: Vec<TaskView>,
    /// Changes with every change of the job; for `wait`.
    pub version: u64,
}

impl JobDetail {
    /// Whether nothing of `job` will change any more: of the task that it names, else of all tasks.
    #[must_use]
    pub fn is_finished(&self, job: JobRef) -> bool {
        match job.task {
            Some(index) => {
                self.task_list.iter().any(|task| task.index == index.0 && task.state.is_finished())
            }
            None => {
                self.summary.tasks.keys().all(|state| state.is_finished()) && self.summary.state.is_finished()
            }
        }
    }
}

/// Most tasks in one [`JobDetail`].
pub const TASKS_SHOWN_MAX: usize = 10_000;

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Index.
    pub index: u32,
    /// State.
    pub state: TaskState,
    /// Number of the present or last attempt; 0 if there was none.
    pub attempt: u32,
    /// How many of its attempts were ended because a job with a higher claim took their place.
    #[serde(default)]
    pub preempted: u32,
    /// Its shares, primary first.
    pub shares: Vec<ShareView>,
    /// When it was placed.
    pub placed_at_us: Option<u64>,
    /// When its script started.
    pub started_at_us: Option<u64>,
    /// When it finished.
    pub finished_at_us: Option<u64>,
    /// The present or last attempt's own time limit, in seconds, if that is less than the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// Exit code of the script.
    pub exit_code: Option<u32>,
    /// Signal that ended the script.
    pub signal: Option<u32>,
    /// How it ended or why it waits, a sentence.
    pub reason: String,
    /// How it ended or is being ended, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<EndView>,
    /// CPU time of all its processes, in microseconds.
    pub cpu_time_us: u64,
    /// Largest memory of one node, in bytes.
    pub memory_peak_bytes: u64,
    /// Paths of its output, patterns replaced; empty before it has an allocation.
    pub stdout_path: String,
    /// Path of the standard error; equal to `stdout_path` if merged.
    pub stderr_path: String,
}

/// What a task holds on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareView {
    /// Node name.
    pub node: String,
    /// Core numbers, such as `0-3`.
    pub cores: String,
    /// Ranks.
    pub ranks: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Devices, such as `gpu:a100:2(IDX:0-1)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BODY: &str = r#"{"name":"a","pool":"main","script":"","arguments":["x"],"environment":{"A":"b"},
        "working_directory":"/","umask":18,"limits":{"nofile":1024},"request":{"nodes":2,"ranks":4,"ranks_per_node":2,
        "cores_per_rank":1,"memory":{"per_node_bytes":1048576},"exclusive":false},"time_limit_s":60,
        "array":{"indices":[{"first":0,"last":9,"step":3}],"running_max":2},"requeue":true,"priority":-3,
        "eligibility":{"begin":1000000},"request_key":"k","test_only":false}"#;

    #[test]
    fn the_body_of_the_test_is_right() {
        serde_json::from_str::<SubmitRequest>(BODY).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn a_damaged_body_is_an_error_or_a_request(
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, "[-0-9.eE{}\\[\\]\",:a-z]{0,2}"), 0..4),
        ) {
            let mut body = BODY.to_owned();
            for (at, taken, new) in changes {
                let at = at.index(body.len() + 1);
                let end = body.len().min(at + taken);
                body.replace_range(at..end, &new);
            }
            if let Ok(request) = serde_json::from_str::<SubmitRequest>(&body) {
                let written = serde_json::to_string(&request).unwrap();
                prop_assert_eq!(serde_json::from_str::<SubmitRequest>(&written).unwrap(), request);
            }
        }
    }
}
