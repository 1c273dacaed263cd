//! Pools that find out themselves how many nodes they are to have.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::ResizeError;
use crate::ids::Timestamp;

/// What a pool's user says of it: the formula, and how often it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// The formula ([`crate::autoscale`]), in which nothing was wrong when it was given.
    pub formula: Arc<str>,
    /// From one evaluation to the next, in seconds.
    pub interval_s: u64,
}

/// How a pool and its jobs stand at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolSample {
    /// Instances of tasks that could run and do not yet.
    pub active_tasks: u64,
    /// Tasks that run.
    pub running_tasks: u64,
    /// Tasks that succeeded, of jobs that have not completed.
    pub succeeded_tasks: u64,
    /// Tasks that failed, of the same.
    pub failed_tasks: u64,
    /// Nodes that the pool has and that nobody takes back.
    pub nodes: u32,
    /// Nodes that it has and that others may take back.
    #[serde(default)]
    pub low_nodes: u32,
    /// Nodes that others have taken back, and for which it wants others.
    #[serde(default)]
    pub preempted_nodes: u32,
    /// Those of them on which tasks may be placed.
    pub usable_nodes: u32,
}

/// What the last evaluation has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleRun {
    /// When it took place.
    pub at: Timestamp,
    /// The values of the formula's variables, as the protocol writes them.
    pub results: String,
    /// Why the pool stayed as it was, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ResizeError>,
}
