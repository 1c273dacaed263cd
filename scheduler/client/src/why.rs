//! Why a task waits: what it needs, what is free, who holds what it lacks, and until when.

use serde::{Deserialize, Serialize};

use crate::api::TaskState;

/// Why a task waits, and when it may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// [`SCHEMA`](crate::api::SCHEMA).
    pub schema: u32,
    /// The job.
    pub job: u64,
    /// State.
    pub state: TaskState,
    /// A word for programs, such as `resources`.
    pub code: String,
    /// Sentences for people.
    pub sentences: Vec<String>,
    /// When it is expected to start at the latest, if all that runs uses its whole time limit.
    pub expected_start_us: Option<u64>,
    /// What it needs and what is free, of a task that waits for room or for nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<ShortageView>,
    /// Who holds what it lacks, of a task that waits for room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<HoldersView>,
    /// The job that comes first, of a task that waits because room is kept for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_for: Option<KeptForView>,
    /// The nodes that it could use if they took work, of a task that waits for nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_away: Option<NodesAwayView>,
}

/// What a task needs, and what is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortageView {
    /// Nodes that it needs at least.
    pub nodes_needed: u32,
    /// Nodes that could hold a part of it now.
    pub nodes_free: u32,
    /// Nodes that take work and could hold a part of it when empty.
    pub nodes_usable: u32,
    /// Nodes of the pool.
    pub nodes_in_pool: u32,
    /// Cores that it needs.
    pub cores_needed: u64,
    /// Cores that are free on nodes that take work.
    pub cores_free: u64,
    /// Memory that a part of it needs on one node, in bytes, where nodes have the cores for it and not the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_bytes: Option<u64>,
    /// The most that is free on one of these nodes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free_bytes: Option<u64>,
    /// Devices that it needs, kind by kind.
    pub gres: Vec<GresShortageView>,
}

/// Devices of one kind that a task needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GresShortageView {
    /// Name and type, such as `gpu:a100`.
    pub kind: String,
    /// How many it needs on all nodes together.
    pub needed: u64,
    /// How many are free on nodes that take work.
    pub free: u64,
    /// How many these nodes have.
    pub present: u64,
}

/// The jobs that hold what a task lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldersView {
    /// Whether the task's reservation counts on the end of each of them; otherwise they hold the most of what it lacks.
    pub counted_on: bool,
    /// At most five: the last to end first, or those that hold the most first.
    pub jobs: Vec<HolderView>,
    /// How many jobs there are beside these.
    pub others: u64,
    /// When all of them have ended at the latest; absent if one has no time limit.
    pub until_us: Option<u64>,
}

/// A job that holds something of what a task lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// `JOB`, or `JOB_INDEX` where a single element of an array holds something.
    pub task: String,
    /// Login name of the owner.
    pub user: String,
    /// How many of its tasks hold something.
    pub tasks: u32,
    /// On how many of the nodes.
    pub nodes: u32,
    /// Cores that it holds there.
    pub cores: u64,
    /// When all these tasks have ended at the latest; absent without a time limit.
    pub until_us: Option<u64>,
}

/// The job that comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptForView {
    /// The job.
    pub job: u64,
    /// When it starts at the latest.
    pub expected_start_us: Option<u64>,
}

/// Nodes that take no work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesAwayView {
    /// At most five.
    pub nodes: Vec<NodeAwayView>,
    /// How many there are beside these.
    pub others: u64,
}

/// A node that takes no work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAwayView {
    /// Name.
    pub node: String,
    /// Why it takes no work.
    pub reason: String,
}
