//! What users of the batch service ask for, and why they are refused.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::FoldedId;
use super::package::PackageDigest;
use super::scaling::Scaling;
use super::schedule::ScheduleSpec;
use super::spec::{BatchJobSpec, BatchPoolSpec, NewTask, TaskShape};
use crate::ids::Timestamp;
use crate::spec::User;

/// Who asks: a user with a key of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchCaller {
    /// The account.
    pub account: Arc<str>,
    /// The user whom the key is bound to.
    pub user: User,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchInput {
    /// Who.
    pub caller: BatchCaller,
    /// What.
    pub command: BatchCommand,
    /// What must hold of the thing that it is about.
    pub condition: Condition,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchCommand {
    /// Makes a pool.
    CreatePool {
        /// What it is like.
        spec: Box<BatchPoolSpec>,
        /// How many nodes it is to have; none of a kind of which nothing is said.
        target: Targets,
        /// How long it tries to get them, in seconds.
        timeout_s: u64,
        /// By what it finds out itself how many nodes it is to have, if it does; `target` says nothing then.
        scaling: Option<Box<Scaling>>,
    },
    /// Lets a pool find out itself how many nodes it is to have. What is not said stays.
    EnableScaling {
        /// The pool.
        pool: FoldedId,
        /// The formula.
        formula: Option<Arc<str>>,
        /// How often it is evaluated, in seconds.
        interval_s: Option<u64>,
    },
    /// Lets others say how many nodes a pool is to have.
    DisableScaling {
        /// The pool.
        pool: FoldedId,
    },
    /// Changes what is said of a pool.
    UpdatePool {
        /// The pool.
        pool: FoldedId,
        /// All of it.
        spec: Box<BatchPoolSpec>,
    },
    /// Gives a pool another number of nodes.
    ResizePool {
        /// The pool.
        pool: FoldedId,
        /// How many; as many as before of a kind of which nothing is said.
        target: Targets,
        /// How long it tries, in seconds.
        timeout_s: u64,
        /// What becomes of what runs on nodes that leave.
        how: Deallocation,
    },
    /// Leaves a pool with what it has.
    StopResize {
        /// The pool.
        pool: FoldedId,
    },
    /// Takes these nodes out of a pool.
    RemoveNodes {
        /// The pool.
        pool: FoldedId,
        /// Names of the nodes.
        nodes: Vec<String>,
        /// How long it tries, in seconds.
        timeout_s: u64,
        /// What becomes of what runs there.
        how: Deallocation,
    },
    /// Gives back all nodes of a pool, and the pool is gone.
    DeletePool {
        /// The pool.
        pool: FoldedId,
    },
    /// Lets tasks be placed on a node of a pool, or not.
    ScheduleNode {
        /// The pool.
        pool: FoldedId,
        /// The node's name.
        node: String,
        /// What becomes of what runs there if no others may be placed; they may be without.
        disable: Option<Deallocation>,
    },
    /// Makes a job.
    CreateJob {
        /// What it is like.
        spec: Box<BatchJobSpec>,
    },
    /// Changes what is said of a job.
    UpdateJob {
        /// The job.
        job: FoldedId,
        /// All of it.
        spec: Box<BatchJobSpec>,
    },
    /// Lets a job start no other task.
    DisableJob {
        /// The job.
        job: FoldedId,
        /// What becomes of those that run.
        how: Disable,
    },
    /// Lets a disabled job go on.
    EnableJob {
        /// The job.
        job: FoldedId,
    },
    /// Ends a job.
    TerminateJob {
        /// The job.
        job: FoldedId,
        /// Why, in the user's words.
        reason: Option<String>,
    },
    /// Ends a job, and it is gone.
    DeleteJob {
        /// The job.
        job: FoldedId,
    },
    /// Makes a job schedule.
    CreateSchedule {
        /// What it is like.
        spec: Box<ScheduleSpec>,
    },
    /// Changes what is said of a job schedule, for the jobs that it makes from now on.
    UpdateSchedule {
        /// The schedule.
        schedule: FoldedId,
        /// All of it.
        spec: Box<ScheduleSpec>,
    },
    /// Lets a disabled job schedule make jobs again.
    EnableSchedule {
        /// The schedule.
        schedule: FoldedId,
    },
    /// Lets a job schedule make no others.
    DisableSchedule {
        /// The schedule.
        schedule: FoldedId,
    },
    /// Ends a job schedule and its job.
    TerminateSchedule {
        /// The schedule.
        schedule: FoldedId,
    },
    /// Ends a job schedule and its job, and it is gone with all jobs that it has made.
    DeleteSchedule {
        /// The schedule.
        schedule: FoldedId,
    },
    /// Adds a package, which the shell has stored already. One that is there with the same contents is there then.
    AddPackage {
        /// The application.
        application: String,
        /// The version.
        version: String,
        /// What it is.
        digest: PackageDigest,
        /// How long it is.
        bytes: u64,
        /// Whether references without a version stand for it from now on.
        default: bool,
    },
    /// Says which version references without one stand for.
    SetDefaultVersion {
        /// The application.
        application: FoldedId,
        /// The version.
        version: FoldedId,
    },
    /// Removes a version of an application, and the application with its last one.
    RemovePackage {
        /// The application.
        application: FoldedId,
        /// The version.
        version: FoldedId,
    },
    /// Adds tasks to a job, each by itself.
    AddTasks {
        /// The job.
        job: FoldedId,
        /// What they have in common.
        shapes: Vec<Arc<TaskShape>>,
        /// The tasks.
        tasks: Vec<NewTask>,
    },
    /// Changes what is said of a task.
    UpdateTask {
        /// The job.
        job: FoldedId,
        /// The task.
        task: FoldedId,
        /// All of it but its id, its command and what it depends on.
        shape: Arc<TaskShape>,
    },
    /// Ends a task.
    TerminateTask {
        /// The job.
        job: FoldedId,
        /// The task.
        task: FoldedId,
    },
    /// Lets a task that failed run again.
    ReactivateTask {
        /// The job.
        job: FoldedId,
        /// The task.
        task: FoldedId,
    },
    /// Ends a task, and it is gone.
    DeleteTask {
        /// The job.
        job: FoldedId,
        /// The task.
        task: FoldedId,
    },
}

/// How many nodes a pool is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Targets {
    /// Nodes that it keeps until it gives them back, if something is said of them.
    pub dedicated: Option<u32>,
    /// Nodes that others may take back, if something is said of them.
    pub low_priority: Option<u32>,
}

impl From<u32> for Targets {
    /// So many dedicated nodes.
    fn from(dedicated: u32) -> Self {
        Self { dedicated: Some(dedicated), low_priority: None }
    }
}

/// What becomes of what runs on a node that leaves its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deallocation {
    /// It is ended and queued again.
    #[default]
    Requeue,
    /// It is ended for good.
    Terminate,
    /// The node leaves once it has ended.
    TaskCompletion,
    /// The node leaves once it has ended and nothing is kept any more of what tasks have left there.
    RetainedData,
}

/// What becomes of the running tasks of a job that is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disable {
    /// They are ended and queued again.
    Requeue,
    /// They are ended for good.
    Terminate,
    /// They go on to their end.
    Wait,
}

/// What must hold of the thing that a request is about. Versions are those of the thing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// It must have this version; `None` stands for any.
    pub matches: Option<Option<u64>>,
    /// It must not have this version; `None` stands for any.
    pub matches_not: Option<Option<u64>>,
    /// It must have changed after this instant.
    pub modified_since: Option<Timestamp>,
    /// It must not have changed after this instant.
    pub unmodified_since: Option<Timestamp>,
}

impl Condition {
    /// Whether it holds of something with this version that changed last at this instant. The instants come in whole seconds.
    #[must_use]
    pub fn holds(&self, version: u64, modified: Timestamp) -> bool {
        let is = |tag: Option<u64>| tag.is_none_or(|tag| tag == version);
        let later = |than: Timestamp| modified.seconds() > than.seconds();
        self.matches.is_none_or(is)
            && !self.matches_not.is_some_and(is)
            && self.modified_since.is_none_or(later)
            && !self.unmodified_since.is_some_and(later)
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchReply {
    /// It is done, or under way.
    Done,
    /// What became of each of several tasks, in their order.
    Added(Vec<Added>),
}

/// What became of a task that was to be added.
pub type Added = Result<(), BatchRefusal>;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A pool.
    Pool,
    /// A node.
    Node,
    /// A job.
    Job,
    /// A job schedule.
    Schedule,
    /// A task.
    Task,
    /// An application.
    Application,
    /// A version of an application.
    Package,
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Node => "node",
            Self::Job => "job",
            Self::Schedule => "job schedule",
            Self::Task => "task",
            Self::Application => "application",
            Self::Package => "version",
        }
    }
}

/// Why a request was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefusal {
    /// There is no such thing.
    #[error("there is no {} '{id}'", what.word())]
    NotFound {
        /// What it is.
        what: Target,
        /// Its id.
        id: String,
    },
    /// There is one of this id.
    #[error("there is a {} '{id}' already; upper and lower case make no difference", what.word())]
    Exists {
        /// What it is.
        what: Target,
        /// Its id.
        id: String,
    },
    /// A job and a schedule would have the same id.
    #[error("there is a {} '{id}': a job and a job schedule cannot share an id", what.word())]
    SameId {
        /// What there is.
        what: Target,
        /// Its id.
        id: String,
    },
    /// A value is not one that there may be.
    #[error("{property}: {reason}")]
    Invalid {
        /// Which one, as the protocol names it.
        property: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A priority that is too high or too low.
    #[error("priority: must be -{max} to {max}", max = super::PRIORITY_MAX)]
    Priority,
    /// The thing is not as the caller thought.
    #[error("the condition in the request's headers does not hold: it has changed since, or has not")]
    ConditionNotMet,
    /// The pool is going.
    #[error("the pool is being deleted")]
    PoolBeingDeleted,
    /// The pool is getting or giving back nodes.
    #[error("the pool is being resized: wait until its allocationState is steady, or stop the resize")]
    PoolBeingResized,
    /// The job is coming to its end.
    #[error("the job is being terminated")]
    JobBeingTerminated,
    /// The job is going.
    #[error("the job is being deleted")]
    JobBeingDeleted,
    /// The job has ended.
    #[error("the job has completed, and cannot be changed any more")]
    JobCompleted,
    /// The job is disabled, or being disabled.
    #[error("the job is disabled")]
    JobDisabled,
    /// The job schedule is coming to its end.
    #[error("the job schedule is being terminated")]
    ScheduleBeingTerminated,
    /// The job schedule is going.
    #[error("the job schedule is being deleted")]
    ScheduleBeingDeleted,
    /// The job schedule has ended.
    #[error("the job schedule has completed, and cannot be changed any more")]
    ScheduleCompleted,
    /// The state of the thing does not allow it.
    #[error("{why}")]
    InvalidState {
        /// Why not, and what would be right.
        why: &'static str,
    },
    /// The task has ended.
    #[error("the task has completed")]
    TaskCompleted,
    /// The task has not ended.
    #[error("the task has not completed, and only one that failed can run again")]
    TaskNotCompleted,
    /// The task has succeeded.
    #[error("the task has succeeded, and only one that failed can run again")]
    TaskSucceeded,
    /// The node is so already.
    #[error("scheduling on the node is so already")]
    NodeAlreadyInTargetState,
    /// The job knows of no dependencies.
    #[error("dependsOn: the job does not say usesTaskDependencies")]
    DependenciesNotSpecified,
    /// The task depends on too much.
    #[error("dependsOn: {what} are too many; at most {limit} are allowed")]
    DependencyTooLong {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// A task would have the id of a chore of its job.
    #[error("the job's {what} task has this id")]
    IdOfChore {
        /// Which: preparation or release.
        what: &'static str,
    },
    /// Packages are referred to that are not there.
    #[error("applicationPackageReferences: {why}")]
    Packages {
        /// Which, and what would be right.
        why: String,
    },
    /// A package is needed, or another one has its place.
    #[error("{why}")]
    PackageInUse {
        /// By whom, and what would be right.
        why: String,
    },
    /// A formula is wrong.
    #[error("{why}")]
    Formula {
        /// Whether it is too long.
        too_long: bool,
        /// What is wrong, where, and what would be right.
        why: String,
    },
    /// There is too much of something.
    #[error("there are too many {what}: at most {limit} are allowed")]
    Quota {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
}
