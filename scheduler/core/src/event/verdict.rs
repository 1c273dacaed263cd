//! How attempts end.

use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, TaskId};
use crate::staging::StagingFailure;

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Verdict {
    /// The script exited: 0 is success.
    Exited {
        /// Exit code.
        code: u32,
    },
    /// The script was killed by a signal that Muster did not send.
    Signalled {
        /// The signal's number.
        signal: u32,
    },
    /// The kernel killed processes because the allocation's memory was used up.
    OutOfMemory {
        /// Exit code of the script.
        code: u32,
        /// Signal of the script, 0 if it exited.
        signal: u32,
    },
    /// It ran longer than its time limit.
    TimedOut,
    /// It ran until its job's deadline.
    Deadline,
    /// Somebody cancelled it.
    Cancelled {
        /// Who.
        by_uid: u32,
    },
    /// Somebody put its task back into the queue. How its script ends from here on does not count.
    Requeued {
        /// Who.
        by_uid: u32,
    },
    /// A job with a higher claim took its place. How its script ends from here on does not count.
    Preempted {
        /// The task that takes its place.
        by: TaskId,
        /// Whether it waits for another attempt.
        requeue: bool,
        /// Between SIGTERM and SIGKILL, in milliseconds.
        grace_ms: u32,
    },
    /// It could not be started, and that was the job's own fault.
    LaunchFailed {
        /// A sentence.
        reason: String,
    },
    /// The files that it needs could not be brought to a node, or its coordination command failed: it would fail again.
    StageInFailed {
        /// The node.
        node: NodeId,
        /// What went wrong.
        failure: StagingFailure,
    },
    /// Its script succeeded, but its files could not be taken away.
    StageOutFailed {
        /// What went wrong.
        failure: StagingFailure,
    },
    /// A node could not prepare it; the task goes back to the queue.
    PrepareFailed {
        /// The node.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
    /// A node failed under it.
    NodeFailed {
        /// The node.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
    /// The gang broke: a remote daemon was killed, contact was lost.
    Broken {
        /// The node that said so.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
}

/// How a task finished, without what is its own; from the best to the worst, of which an array shows the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishedKind {
    /// Exited with 0.
    Completed,
    /// Was cancelled, or what it waited for can no longer come true.
    Cancelled,
    /// Ran out of time.
    TimedOut,
    /// Did not, or could not, end by its deadline.
    Deadline,
    /// A job with a higher claim took its place, for good.
    Preempted,
    /// Ran out of memory.
    OutOfMemory,
    /// A node failed under it.
    NodeFailed,
    /// Exited with another code or by a signal, or could not be started.
    Failed,
}

impl FinishedKind {
    /// All of them, from the best to the worst.
    pub const ALL: [Self; 8] = [
        Self::Completed,
        Self::Cancelled,
        Self::TimedOut,
        Self::Deadline,
        Self::Preempted,
        Self::OutOfMemory,
        Self::NodeFailed,
        Self::Failed,
    ];
}

impl Verdict {
    /// Whether the task did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.kind() == Some(FinishedKind::Completed)
    }

    /// The kind of end that it is for a task; none after which the task waits again.
    #[must_use]
    pub fn kind(&self) -> Option<FinishedKind> {
        Some(match self {
            Self::Exited { code: 0 } => FinishedKind::Completed,
            Self::Exited { .. }
            | Self::Signalled { .. }
            | Self::LaunchFailed { .. }
            | Self::StageInFailed { .. }
            | Self::StageOutFailed { .. } => FinishedKind::Failed,
            Self::OutOfMemory { .. } => FinishedKind::OutOfMemory,
            Self::TimedOut => FinishedKind::TimedOut,
            Self::Deadline => FinishedKind::Deadline,
            Self::Requeued { .. } => return None,
            Self::Cancelled { .. } => FinishedKind::Cancelled,
            Self::Preempted { .. } => FinishedKind::Preempted,
            Self::PrepareFailed { .. } | Self::NodeFailed { .. } | Self::Broken { .. } => {
                FinishedKind::NodeFailed
            }
        })
    }

    /// The node that ended the attempt, if one did.
    #[must_use]
    pub fn failing_node(&self) -> Option<NodeId> {
        match self {
            Self::PrepareFailed { node, .. } | Self::NodeFailed { node, .. } | Self::Broken { node, .. } => {
                Some(*node)
            }
            _ => None,
        }
    }

    /// Whether the script came to an end, good or bad, so that its nodes did what they should.
    #[must_use]
    pub fn came_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Exited { .. }
                | Self::Signalled { .. }
                | Self::OutOfMemory { .. }
                | Self::TimedOut
                | Self::StageOutFailed { .. }
        )
    }
}
