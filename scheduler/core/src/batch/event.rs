//! Facts of the batch service.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore::{ChoreKey, ChoreOutcome};
use super::command::{Deallocation, Disable};
use super::exit::{Failure, FailureCategory};
use super::ids::{BatchJobKey, BatchPoolKey, BatchTaskKey, FoldedId, ScheduleKey};
use super::package::PackageDigest;
use super::scaling::{PoolSample, ScaleRun, Scaling};
use super::schedule::{SchedulePhase, ScheduleSpec};
use super::setup::SetupError;
use super::spec::{BatchJobSpec, BatchPoolSpec, NewTask, TaskShape};
use super::used::{PoolTotals, PoolUse};
use crate::ids::{JobId, NodeId, Timestamp};
use crate::spec::User;

/// What happened. Variants and fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum BatchEvent {
    /// A pool was made; it has no nodes yet.
    PoolCreated {
        /// Its name.
        pool: BatchPoolKey,
        /// What was asked for.
        spec: Arc<BatchPoolSpec>,
        /// Who asked.
        by: User,
    },
    /// What is said of a pool changed.
    PoolUpdated {
        /// Its name.
        pool: BatchPoolKey,
        /// All of it from now on.
        spec: Arc<BatchPoolSpec>,
    },
    /// A pool is to have another number of nodes.
    PoolResizing {
        /// Its name.
        pool: BatchPoolKey,
        /// How many.
        target: u32,
        /// How many that others may take back.
        #[serde(default, skip_serializing_if = "is_zero")]
        target_low: u32,
        /// Nodes that are among those that leave.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<NodeId>,
        /// What becomes of what runs on nodes that leave.
        how: Deallocation,
        /// When it gives up.
        until: Timestamp,
    },
    /// Nodes came nearer to a pool, or left it.
    NodesMoved {
        /// Its name.
        pool: BatchPoolKey,
        /// Which nodes, and where each is now.
        moves: Vec<(NodeId, NodeMove)>,
        /// The job of the cluster that waits for those of them that were taken back, if one does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        needed_by: Option<JobId>,
    },
    /// A pool has what it will get for now.
    PoolSteady {
        /// Its name.
        pool: BatchPoolKey,
        /// Why that is not what was asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        errors: Vec<ResizeError>,
        /// How many low-priority nodes it goes on to look for, if that is not what was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wanted_low: Option<u32>,
    },
    /// A pool gives its nodes back and is gone then.
    PoolDeleting {
        /// Its name.
        pool: BatchPoolKey,
    },
    /// What tasks have left on these nodes of a pool is not kept any more.
    RetentionLapsed {
        /// The pool.
        pool: BatchPoolKey,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// A pool is gone.
    PoolDeleted {
        /// Its name.
        pool: BatchPoolKey,
    },
    /// A pool finds out itself from now on how many nodes it is to have, or no longer.
    PoolScaling {
        /// Its name.
        pool: BatchPoolKey,
        /// By what; none if others say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scaling: Option<Arc<Scaling>>,
    },
    /// A sample was taken of a pool that scales itself.
    PoolSampled {
        /// Its name.
        pool: BatchPoolKey,
        /// How it stood.
        sample: PoolSample,
    },
    /// It was heard of the nodes of a pool what they use.
    PoolUsed {
        /// Its name.
        pool: BatchPoolKey,
        /// A sample of it, if any of them has said something lately.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recent: Option<PoolUse>,
        /// What they have used since the last time.
        more: PoolTotals,
    },
    /// A pool's formula was evaluated. If it wants another number of nodes, the resize follows.
    PoolScaled {
        /// Its name.
        pool: BatchPoolKey,
        /// What was found.
        run: ScaleRun,
    },
    /// Tasks may, or may not, be placed on a node of a pool.
    NodeScheduling {
        /// The pool.
        pool: BatchPoolKey,
        /// The node.
        node: NodeId,
        /// Whether they may.
        enabled: bool,
    },
    /// A job was made; it has no tasks yet.
    JobCreated {
        /// Its name.
        job: BatchJobKey,
        /// What was asked for.
        spec: Arc<BatchJobSpec>,
        /// Who asked.
        by: User,
    },
    /// What is said of a job changed.
    JobUpdated {
        /// Its name.
        job: BatchJobKey,
        /// All of it from now on.
        spec: Arc<BatchJobSpec>,
    },
    /// A job lets its running tasks go, and starts no others.
    JobDisabling {
        /// Its name.
        job: BatchJobKey,
        /// What becomes of those that run.
        how: Disable,
    },
    /// Nothing of a disabled job runs any more.
    JobDisabled {
        /// Its name.
        job: BatchJobKey,
    },
    /// A job starts tasks again.
    JobEnabled {
        /// Its name.
        job: BatchJobKey,
    },
    /// A job comes to its end.
    JobTerminating {
        /// Its name.
        job: BatchJobKey,
        /// Why, in the protocol's words or the user's.
        reason: String,
    },
    /// Nothing of a terminated job runs any more.
    JobCompleted {
        /// Its name.
        job: BatchJobKey,
    },
    /// The pool that a job brings could not be made: the job has completed without having run.
    JobUnschedulable {
        /// Its name.
        job: BatchJobKey,
        /// Why not.
        error: SchedulingError,
    },
    /// A job is gone once nothing of it runs.
    JobDeleting {
        /// Its name.
        job: BatchJobKey,
    },
    /// A job is gone with its tasks.
    JobDeleted {
        /// Its name.
        job: BatchJobKey,
    },
    /// Tasks were added to a job.
    TasksAdded {
        /// The job.
        job: BatchJobKey,
        /// What they have in common.
        shapes: Vec<Arc<TaskShape>>,
        /// The tasks.
        tasks: Vec<NewTask>,
    },
    /// A job schedule was made; it has made no jobs yet.
    ScheduleCreated {
        /// Its name.
        schedule: ScheduleKey,
        /// What was asked for.
        spec: Arc<ScheduleSpec>,
        /// Who asked.
        by: User,
        /// When it makes its first job, if it makes one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Timestamp>,
    },
    /// What is said of a job schedule changed.
    ScheduleUpdated {
        /// Its name.
        schedule: ScheduleKey,
        /// All of it from now on.
        spec: Arc<ScheduleSpec>,
        /// When it makes its next job, if it makes another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Timestamp>,
    },
    /// A job schedule has made a job, which was created just before.
    ScheduleRan {
        /// Its name.
        schedule: ScheduleKey,
        /// The job.
        job: FoldedId,
        /// The time for which it was made.
        slot: Timestamp,
        /// When it makes its next job, if it makes another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Timestamp>,
        /// The pool that was made with the job, and that the schedule's other jobs use as well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<FoldedId>,
    },
    /// A job schedule has missed a time.
    ScheduleAdvanced {
        /// Its name.
        schedule: ScheduleKey,
        /// When it makes its next job, if it makes another one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Timestamp>,
    },
    /// A job schedule is in another phase.
    ScheduleEntered {
        /// Its name.
        schedule: ScheduleKey,
        /// Which.
        phase: SchedulePhase,
    },
    /// A job schedule is gone.
    ScheduleDeleted {
        /// Its name.
        schedule: ScheduleKey,
    },
    /// What is said of a task changed.
    TaskUpdated {
        /// The task.
        task: BatchTaskKey,
        /// All of it but its id, its command and what it depends on.
        shape: Arc<TaskShape>,
    },
    /// A task was made into a job of the cluster, which was submitted just before.
    TaskMade {
        /// The task.
        task: BatchTaskKey,
        /// The job of the cluster.
        made: JobId,
    },
    /// The job that a task was made into is to end, because of this.
    TaskEnding {
        /// The task.
        task: BatchTaskKey,
        /// What becomes of the task then.
        wish: EndWish,
    },
    /// The job that a task was made into has ended, and this becomes of the task; or the task completed without one.
    TaskSettled {
        /// The task.
        task: BatchTaskKey,
        /// What becomes of it.
        outcome: Outcome,
    },
    /// A completed task is to run again.
    TaskReactivated {
        /// The task.
        task: BatchTaskKey,
    },
    /// A task is gone.
    TaskDeleted {
        /// The task.
        task: BatchTaskKey,
    },
    /// A chore of a job is to run on a node. Start tasks are to run without this, on each node that is lent to their pool.
    ChoreDue {
        /// Which, and where.
        chore: ChoreKey,
        /// The task that waits for it, if one does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<FoldedId>,
    },
    /// A chore was made into a job of the cluster, which was submitted just before.
    ChoreMade {
        /// Which, and where.
        chore: ChoreKey,
        /// The job of the cluster.
        made: JobId,
    },
    /// The job that a chore was made into has ended, and this becomes of the chore.
    ChoreSettled {
        /// Which, and where.
        chore: ChoreKey,
        /// What becomes of it.
        outcome: ChoreOutcome,
    },
    /// A package was added to an account.
    PackageAdded {
        /// The account.
        account: Arc<str>,
        /// The application, as typed.
        application: String,
        /// The version, as typed.
        version: String,
        /// What it is.
        digest: PackageDigest,
        /// How long it is.
        bytes: u64,
    },
    /// References to an application that name no version stand for this one from now on.
    DefaultVersionSet {
        /// The account.
        account: Arc<str>,
        /// The application.
        application: FoldedId,
        /// The version.
        version: FoldedId,
    },
    /// A version of an application is gone, and the application with its last one.
    PackageRemoved {
        /// The account.
        account: Arc<str>,
        /// The application.
        application: FoldedId,
        /// The version.
        version: FoldedId,
    },
    /// A node has been set up for its pool, or could not be.
    NodeSetUp {
        /// The pool.
        pool: BatchPoolKey,
        /// The node.
        node: NodeId,
        /// The number of what it was told.
        number: u64,
        /// Why it could not be; it was without any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        errors: Vec<SetupError>,
    },
}

impl BatchEvent {
    /// Whether the planner must look anew at which nodes the pools have.
    #[must_use]
    pub(crate) fn moves_nodes(&self) -> bool {
        matches!(
            self,
            Self::PoolCreated { .. }
                | Self::PoolUpdated { .. }
                | Self::PoolDeleted { .. }
                | Self::NodesMoved { .. }
                | Self::NodeScheduling { .. }
                | Self::ChoreDue { .. }
                | Self::ChoreSettled { .. }
                | Self::NodeSetUp { .. }
        )
    }
}

/// Where a node is on its way into a pool and out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeMove {
    /// It gets no new work of its own pool, and is lent once what runs there has ended.
    Claimed,
    /// It takes work of the pool.
    Lent,
    /// It gets no new work, and goes back once what runs there has ended.
    Leaving,
    /// It takes work of its own pool again.
    Back,
    /// It takes work of the pool until others need it.
    LentLow,
    /// Others need it: as `Back`, and the pool goes on to want it or another one.
    Preempted,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a pool has not the nodes that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeError {
    /// A code of the protocol.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Why a job has completed without having run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulingError {
    /// Whose fault it is.
    pub category: FailureCategory,
    /// A code of the protocol.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// What becomes of a task whose job of the cluster is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndWish {
    /// It completes, as a failure.
    Terminate,
    /// It is queued again, which counts.
    Requeue,
    /// It waits again, which does not count: it had not started, or its node was taken back.
    Unqueue,
}

/// What becomes of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It has completed.
    Completed {
        /// The exit code of its command, if that came to an end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
        /// Whether those that depend on it may run.
        satisfies: bool,
    },
    /// Its command failed, and is tried again.
    Retried,
    /// Its user wanted it to be queued again.
    Requeued,
    /// It waits as before.
    Waits,
}
