//! The cluster on which a trace is replayed: processors without places, as the archive's logs know them.

use muster_core::cluster::{Backfill, ClusterConfig, Fill, NodeConfig, Order, Policy, PoolConfig};
use muster_core::event::HardwareCore;
use muster_core::spec::JobSpec;

use crate::{SimError, Stage};

/// Longest time limit that a replayed job may have, in seconds: some thousand years.
const TIME_MAX_S: u64 = 100_000_000_000;
/// Memory of a node, in bytes: jobs of a replay ask for none.
const NODE_MEMORY_BYTES: u64 = 1 << 40;

/// A node of a configuration.
#[must_use]
pub fn declare(name: String, cores: u32, memory_bytes: u64) -> NodeConfig {
    NodeConfig { name, cores, memory_bytes, ..NodeConfig::default() }
}

/// A stage whose one pool has `processors` cores, all of them up and free at instant 0.
///
/// # Errors
/// [`SimError::Cluster`] if the engine refuses the cluster.
pub fn stage(processors: u32, order: Order, backfill: Backfill) -> Result<Stage, SimError> {
    // One node of any size, because processors of the logs have no places: each may work with every other.
    let name = "n1".to_owned();
    let node = NodeConfig { wrap_cores: true, ..declare(name.clone(), processors, NODE_MEMORY_BYTES) };
    let pool = PoolConfig {
        name: "replay".to_owned(),
        nodes: vec![name],
        default: true,
        time_default_s: TIME_MAX_S,
        time_max_s: TIME_MAX_S,
        memory_per_core_bytes: Some(0),
        fill: Fill::Pack,
        order,
        backfill,
        ..PoolConfig::default()
    };
    let policy = Policy {
        tasks_waiting_max: u64::MAX,
        jobs_per_user_max: u32::MAX,
        finished_jobs_kept: 1,
        ..Policy::default()
    };
    let config = ClusterConfig {
        name: "replay".to_owned(),
        nodes: vec![node],
        pools: vec![pool],
        policy,
        ..ClusterConfig::default()
    };
    Stage::bring_up(config, |_| HardwareCore::default())
}

/// A job that says only what every job must say, as the first client ever would have sent it: what came later has
/// its default.
const BLANK_SPEC: &str = r##"{
    "name": "job", "pool": null, "user": {"name": "user", "uid": 1, "gid": 1}, "script": "#!/bin/sh", "arguments": [],
    "environment": {}, "working_directory": "/", "stdin": null, "stdout": null, "stderr": null, "append": false,
    "umask": 18, "limits": {}, "submit_host": "", "time_limit_s": null, "array": null, "requeue": false, "priority": 0,
    "request": {
        "nodes": null, "ranks": 1, "ranks_per_node": null, "cores_per_rank": 1, "memory": {"per_node_bytes": 0},
        "exclusive": false
    }
}"##;

/// A job of one rank on one core without memory; a replay changes its size, its limit and its user before each submit.
///
/// # Panics
/// Never: the text has every field that a spec must have.
#[must_use]
pub fn blank_spec() -> JobSpec {
    serde_json::from_str(BLANK_SPEC).expect("the blank spec has every field that has no default")
}
