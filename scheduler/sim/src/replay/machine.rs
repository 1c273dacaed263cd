//! The cluster on which a trace is replayed: processors without places, as the archive's logs know them.

use muster_core::cluster::{Backfill, ClusterConfig, Fill, NodeConfig, Order, Policy, PoolConfig};
use muster_core::cores::CORES_PER_NODE_MAX;
use muster_core::event::HardwareCore;
use muster_core::spec::{JobSpec, Memory, Request, User};

use crate::{SimError, Stage};

/// Longest time limit that a replayed job may have, in seconds: some thousand years.
const TIME_MAX_S: u64 = 100_000_000_000;
/// Memory of a node, in bytes: jobs of a replay ask for none.
const NODE_MEMORY_BYTES: u64 = 1 << 40;

/// The cores of each node: one node if it can hold all, else the fewest equal ones, else nearly equal ones.
#[must_use]
pub fn node_sizes(processors: u32) -> Vec<u32> {
    let fewest = processors.div_ceil(CORES_PER_NODE_MAX).max(1);
    // A machine whose size has only large factors is split unevenly rather than into splinters.
    let even = (fewest..=fewest.saturating_mul(4)).find(|nodes| processors.is_multiple_of(*nodes));
    let nodes = even.unwrap_or(fewest);
    (0..nodes).map(|i| processors / nodes + u32::from(i < processors % nodes)).collect()
}

/// A stage whose one pool has `processors` cores, all of them up and free at instant 0.
///
/// # Errors
/// [`SimError::Cluster`] if the engine refuses the cluster.
pub fn stage(processors: u32, order: Order, backfill: Backfill) -> Result<Stage, SimError> {
    let sizes = node_sizes(processors);
    let name = |i: usize| format!("n{}", i + 1);
    let nodes = sizes.iter().enumerate().map(|(i, &cores)| NodeConfig {
        name: name(i),
        cores,
        memory_bytes: NODE_MEMORY_BYTES,
        wrap_cores: false,
    });
    let pool = PoolConfig {
        name: "replay".to_owned(),
        nodes: (0..sizes.len()).map(name).collect(),
        default: true,
        time_default_s: TIME_MAX_S,
        time_max_s: TIME_MAX_S,
        memory_per_core_bytes: Some(0),
        fill: Fill::Pack,
        order,
        backfill,
    };
    let policy = Policy {
        tasks_waiting_max: u64::MAX,
        jobs_per_user_max: u32::MAX,
        finished_jobs_kept: 1,
        ..Policy::default()
    };
    let config = ClusterConfig {
        name: "replay".to_owned(),
        nodes: nodes.collect(),
        pools: vec![pool],
        switches: Vec::new(),
        policy,
    };
    Stage::bring_up(config, |_| HardwareCore::default())
}

/// A job of one rank on one core; a replay changes its size, its limit and its user before each submit.
#[must_use]
pub fn blank_spec() -> JobSpec {
    JobSpec {
        name: "job".to_owned(),
        pool: None,
        user: User { name: "user".to_owned(), uid: 1, gid: 1 },
        script: "#!/bin/sh".to_owned(),
        arguments: Vec::new(),
        environment: Default::default(),
        working_directory: "/".to_owned(),
        stdin: None,
        stdout: None,
        stderr: None,
        append: false,
        umask: 0o022,
        limits: Default::default(),
        submit_host: String::new(),
        request: Request { memory: Memory::PerNodeBytes(0), ..Request::default() },
        time_limit_s: None,
        array: None,
        requeue: false,
        priority: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_split_into_the_fewest_equal_nodes() {
        assert_eq!(node_sizes(1), [1]);
        assert_eq!(node_sizes(4096), [4096]);
        assert_eq!(node_sizes(93_312), vec![3888; 24]);
        // A prime number: nearly equal sizes.
        assert_eq!(node_sizes(8209), [2737, 2736, 2736]);
        assert_eq!(node_sizes(1_000_000).iter().sum::<u32>(), 1_000_000);
    }
}
