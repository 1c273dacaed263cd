//! What the controller has done since it was last asked to begin counting anew. The words are those of [`crate::api`].

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::ClientError;

/// Figures of the controller that answers; another one that takes over begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// The instant of the answer, in microseconds since 1970.
    pub at_us: u64,
    /// Since when it counts: its start, or the last reset.
    pub since_us: u64,
    /// Connections of clients that are open.
    pub connections: u64,
    /// Messages to nodes that are yet to be sent.
    pub messages_queued: u64,
    /// Nodes for which messages are yet to be sent.
    pub nodes_behind: u64,
    /// How long asking for the time took a thousand times when the controller started, in microseconds.
    pub clock_latency_us: u64,
    /// What became of tasks.
    pub tasks: TaskCounts,
    /// The scheduling passes.
    pub passes: PassFigures,
    /// What was asked, by the method and path of the route or by the message of a node.
    pub requests: Vec<RequestFigures>,
    /// Who asked.
    pub callers: Vec<CallerFigures>,
}

/// Tasks by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Accepted.
    pub submitted: u64,
    /// Attempts that were told to start.
    pub started: u64,
    /// Of these, how many overtook a task that waited for room; known when they are placed.
    pub backfilled: u64,
    /// The same since the controller started, whatever was reset since.
    pub backfilled_since_start: u64,
    /// Ended by their script, in whatever way, or by their time limit.
    pub completed: u64,
    /// Cancelled, before or after their start.
    pub cancelled: u64,
    /// Ended by a fault of a node, or because they could not be started.
    pub failed: u64,
    /// Waiting at present.
    pub waiting: u64,
    /// Preparing, running or ending at present.
    pub running: u64,
}

/// Scheduling passes, with times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PassFigures {
    /// How many there were.
    pub count: u64,
    /// How long the last one took.
    pub last_us: u64,
    /// The longest.
    pub max_us: u64,
    /// All together.
    pub total_us: u64,
    /// Groups of equal jobs that all of them together considered.
    pub groups: u64,
    /// The same of the last one.
    pub last_groups: u64,
    /// When the last one was; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at_us: Option<u64>,
    /// Jobs with waiting tasks at the last one.
    pub queue_len: u64,
    /// The same, of all passes together.
    pub queue_len_total: u64,
}

/// What was asked of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFigures {
    /// Such as `GET /v1/jobs/{ref}`, or `node report`.
    pub what: String,
    /// How often.
    pub count: u64,
    /// How long the answers took together, in microseconds; requests that wait for a change are counted until their answer.
    pub total_us: u64,
}

/// What one user asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerFigures {
    /// User id; absent for those that were too many to be counted one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// How often.
    pub count: u64,
    /// How long the answers took together, in microseconds.
    pub total_us: u64,
}

impl Client {
    /// What the controller has done.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn diagnostics(&mut self) -> Result<Diagnostics, ClientError> {
        self.get("/v1/diagnostics".to_owned())
    }

    /// Lets the controller begin counting anew.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with status 403; otherwise as every route.
    pub fn reset_diagnostics(&mut self) -> Result<(), ClientError> {
        self.post("/v1/diagnostics/reset".to_owned(), &serde_json::json!({})).map(|_: serde_json::Value| ())
    }
}
