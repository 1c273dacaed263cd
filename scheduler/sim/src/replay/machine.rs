//! The cluster on which a trace is replayed: processors without places, as the archive's logs know them.

use std::sync::Arc;

use muster_core::cluster::{Backfill, ClusterConfig, Fill, NodeConfig, Order, Policy, PoolConfig};
use muster_core::engine::Engine;
use muster_core::event::{Hardware, HardwareCore};
use muster_core::ids::Timestamp;
use muster_core::input::Input;
use muster_core::spec::{JobSpec, Memory, Request, User};
use muster_core::state::State;

use crate::SimError;

/// Longest time limit that a replayed job may have, in seconds: some thousand years.
const TIME_MAX_S: u64 = 100_000_000_000;
/// Memory of a node, in bytes: jobs of a replay ask for none.
const NODE_MEMORY_BYTES: u64 = 1 << 40;

/// An engine whose one pool has `processors` cores, all of them up and free at instant 0.
///
/// # Errors
/// [`SimError::Cluster`] if the engine refuses the cluster.
pub fn engine(processors: u32, order: Order, backfill: Backfill) -> Result<Engine, SimError> {
    // One node of any size, because processors of the logs have no places: each may work with every other.
    let sizes = [processors];
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
    bring_up(config)
}

/// An engine with this configuration, all of whose nodes say hello at instant 0.
///
/// # Errors
/// [`SimError::Cluster`] if the engine refuses the configuration or a node.
pub fn bring_up(config: ClusterConfig) -> Result<Engine, SimError> {
    let nodes: Vec<(String, u32)> = config.nodes.iter().map(|node| (node.name.clone(), node.cores)).collect();
    let mut engine = Engine::new(State::new());
    let start = Timestamp(0);
    engine.apply(&Input::Configure(Arc::new(config)), start).reply.map_err(SimError::Cluster)?;
    let mut last: Option<Arc<Hardware>> = None;
    for (node, cores) in nodes {
        let same = last.take().filter(|hardware| hardware.cores.len() == cores as usize);
        let hardware = same.unwrap_or_else(|| {
            Arc::new(Hardware {
                cores: vec![HardwareCore::default(); cores as usize],
                memory_bytes: NODE_MEMORY_BYTES,
                ..Hardware::default()
            })
        });
        last = Some(Arc::clone(&hardware));
        let hello = Input::NodeHello { node, boot_id: "1".to_owned(), hardware, held: Vec::new() };
        engine.apply(&hello, start).reply.map_err(SimError::Cluster)?;
    }
    Ok(engine)
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
