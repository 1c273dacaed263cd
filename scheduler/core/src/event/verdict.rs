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

impl Verdict {
    /// Whether the task did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
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
