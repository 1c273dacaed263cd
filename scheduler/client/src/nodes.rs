//! Nodes and pools, as the client API shows and changes them.

use muster_core::cluster::Preempt;
use muster_core::state::PoolState;
use serde::{Deserialize, Serialize};

use crate::reservations::KeptFor;

/// Nodes that are to get no new work, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesRequest {
    /// Host list, such as `n[1-4]`.
    pub nodes: String,
    /// For people.
    pub reason: String,
    /// For how long, in seconds; until they are resumed without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u64>,
}

/// Nodes that are to get work again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Host list, such as `n[1-4]`.
    pub nodes: String,
}

/// Why a node is to be held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// For people.
    pub reason: String,
}

/// A list of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// In the configuration's order.
    pub nodes: Vec<NodeView>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Name.
    pub name: String,
    /// `idle`, `mixed` or `full`; `draining` or `drained`, with tasks or without; `cleaning` up after tasks that ended;
    /// `down`, or `unknown` before its agent first said hello.
    pub state: String,
    /// Why it takes no work; empty if it does.
    pub reason: String,
    /// Since when it is drained or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_us: Option<u64>,
    /// Until when it is drained or down, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_us: Option<u64>,
    /// User id of the admin who drained it or took it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_uid: Option<u32>,
    /// Pools that hold it.
    pub pools: Vec<String>,
    /// Features that tasks may ask for.
    #[serde(default)]
    pub features: Vec<String>,
    /// Cores.
    pub cores: u32,
    /// Cores that no task holds.
    pub cores_free: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Memory that no task holds, in bytes.
    pub memory_free_bytes: u64,
    /// Real cores that the agent found.
    pub cores_real: u32,
    /// Packages that the agent found; 0 before it did.
    #[serde(default)]
    pub packages: u32,
    /// Hardware threads that every core has at least; 0 before that is known.
    #[serde(default)]
    pub threads_per_core: u32,
    /// Devices, such as `gpu:a100:4`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<String>,
    /// Devices that tasks hold, such as `gpu:a100:2(IDX:0-1)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres_held: Vec<String>,
    /// Since when its agent can be reached, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_since_us: Option<u64>,
    /// Whether its agent has a session with the controller at this moment.
    #[serde(default)]
    pub connected: bool,
    /// Whether an admin, or the engine, keeps it from new work, whatever else its state is.
    #[serde(default)]
    pub drained: bool,
    /// The reason as it was given, without who gave it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason_given: String,
    /// Tasks on it, as `JOB` or `JOB_INDEX`.
    pub tasks: Vec<String>,
    /// Address.
    pub address: String,
    /// The agent's version.
    pub agent_version: String,
    /// How it contains work.
    pub containment: String,
    /// The load average of its machine over one minute, in hundredths; none where its agent does not tell, or it is a part of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_hundredths: Option<u32>,
    /// Memory of its machine that holds nothing at all, in bytes; none where the same is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_idle_bytes: Option<u64>,
    /// Advance reservations that have it, the earliest window first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_for: Vec<KeptFor>,
}

/// What a pool is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolStateRequest {
    /// That.
    pub state: PoolState,
}

/// A list of pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolList {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// In the configuration's order.
    pub pools: Vec<PoolView>,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Name.
    pub name: String,
    /// Whether jobs that name no pool come here.
    pub default: bool,
    /// What it does at present.
    #[serde(default)]
    pub state: PoolState,
    /// Host list.
    pub node_list: String,
    /// Time limit of tasks that name none, in seconds.
    pub time_default_s: u64,
    /// Longest time limit, in seconds.
    pub time_max_s: u64,
    /// Its part of the priority sum.
    #[serde(default)]
    pub priority: i32,
    /// Jobs of pools of a higher tier are considered first.
    #[serde(default)]
    pub tier: u32,
    /// What becomes of its tasks when a pool of a higher tier needs their place.
    #[serde(default)]
    pub preempt: Preempt,
    /// Between SIGTERM and SIGKILL when a task of it is preempted, in seconds.
    #[serde(default)]
    pub grace_s: u64,
    /// Memory for each core of tasks that name none, in bytes; the node's memory divided by its cores without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_per_core_bytes: Option<u64>,
}
