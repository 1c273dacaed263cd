//! Nodes and pools as the client API shows them.

use std::collections::{BTreeSet, HashMap};

use muster_client::api::{NodeView, PoolView};
use muster_core::cores::CoreSet;
use muster_core::gres::NodeGres;
use muster_core::ids::Timestamp;
use muster_core::input::task_name;
use muster_core::notation::format_hosts;
use muster_core::state::{Node, NodeStatus, Power, State};

use crate::reservation_view;

/// All nodes that are declared, in the configuration's order; which of them are connected, and how loaded, is not known here.
#[must_use]
pub fn nodes(state: &State, now: Timestamp) -> Vec<NodeView> {
    let by_name: HashMap<&str, &Node> = state.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut pools_of: HashMap<&str, Vec<String>> = HashMap::new();
    for pool in &state.config.pools {
        for node in &pool.nodes {
            pools_of.entry(node).or_default().push(pool.name.clone());
        }
    }
    let mut kept_for = reservation_view::kept_for(state, now);
    let declared = state.config.nodes.iter().filter_map(|node| by_name.get(node.name.as_str()));
    let view = |view: &&Node| NodeView {
        kept_for: state.node_by_name(&view.name).and_then(|id| kept_for.remove(&id)).unwrap_or_default(),
        ..node(state, view, pools_of.remove(view.name.as_str()).unwrap_or_default())
    };
    declared.map(view).collect()
}

fn node(state: &State, node: &Node, pools: Vec<String>) -> NodeView {
    let hardware = node.hardware();
    let held = node.held.as_ref();
    let since = match &node.status {
        NodeStatus::Down { since, .. } if held.is_none_or(|held| !held.down) => Some(*since),
        _ => held.map(|held| held.since).or(node.unhealthy.as_ref().map(|found| found.since)),
    };
    let tasks = node.attempts.iter().map(|key| {
        let is_array = state.jobs.get(&key.task.job).is_some_and(|job| job.is_array());
        task_name(key.task.job, key.task.index, is_array)
    });
    NodeView {
        name: node.name.clone(),
        state: node_state(node).to_owned(),
        reason: node.why_no_work().unwrap_or_default(),
        since_us: since.map(|since| since.0),
        until_us: held.and_then(|held| held.until).map(|until| until.0),
        by_uid: held.and_then(|held| held.by_uid),
        pools,
        features: node.features.iter().cloned().collect(),
        cores: node.cores,
        cores_free: node.free.len(),
        memory_bytes: node.memory_bytes,
        memory_free_bytes: node.free_memory_bytes,
        cores_real: hardware.map_or(0, |hardware| hardware.cores.len() as u32),
        packages: hardware.map_or(0, |hardware| {
            hardware.cores.iter().map(|core| core.package).collect::<BTreeSet<_>>().len() as u32
        }),
        threads_per_core: hardware
            .and_then(|hardware| hardware.cores.iter().map(|core| core.threads).min())
            .unwrap_or(0),
        gres: node.gres.iter().map(|gres| format!("{}:{}", gres.kind_text(), gres.count)).collect(),
        gres_held: node.gres.iter().map(held_gres).collect(),
        up_since_us: match &node.status {
            NodeStatus::Up { since, .. } => Some(since.0),
            _ => None,
        },
        connected: false,
        drained: node.is_drained(),
        reason_given: reason_given(node),
        tasks: tasks.collect(),
        address: hardware.map(|hardware| hardware.address.clone()).unwrap_or_default(),
        agent_version: hardware.map(|hardware| hardware.agent_version.clone()).unwrap_or_default(),
        containment: hardware.map(|hardware| hardware.containment.clone()).unwrap_or_default(),
        load_hundredths: None,
        memory_idle_bytes: None,
        kept_for: Vec::new(),
    }
}

/// Devices that are held, such as `gpu:a100:2(IDX:0-1)`.
pub(crate) fn held_text(name: &str, kind: Option<&str>, devices: &CoreSet) -> String {
    let kind = kind.map(|kind| format!(":{kind}")).unwrap_or_default();
    let ids = if devices.is_empty() { "N/A".to_owned() } else { devices.to_string() };
    format!("{name}{kind}:{}(IDX:{ids})", devices.len())
}

fn held_gres(gres: &NodeGres) -> String {
    let all = gres.first..gres.first + gres.count;
    let held: CoreSet = all.filter(|device| !gres.free.contains(*device)).collect();
    held_text(&gres.name, gres.kind.as_deref(), &held)
}

/// Why a node takes no work, in the words of whoever said so.
fn reason_given(node: &Node) -> String {
    let held = node.held.as_ref().map(|held| held.reason.clone());
    let unhealthy = || node.unhealthy.as_ref().map(|found| found.problem.clone());
    let down = || match &node.status {
        NodeStatus::Down { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    held.or_else(unhealthy).or_else(down).unwrap_or_default()
}

fn node_state(node: &Node) -> &'static str {
    let held = node.held.as_ref();
    match &node.status {
        _ if held.is_some_and(|held| held.down) => "down",
        _ if matches!(node.power, Some(Power::Off { .. })) => "off",
        _ if matches!(node.power, Some(Power::PoweringUp { .. })) => "powering-up",
        _ if matches!(node.power, Some(Power::PoweringDown { .. })) => "powering-down",
        NodeStatus::Unknown => "unknown",
        NodeStatus::Down { .. } => "down",
        NodeStatus::Up { .. } if node.is_drained() && node.attempts.is_empty() => "drained",
        NodeStatus::Up { .. } if node.is_drained() => "draining",
        NodeStatus::Up { .. } if !node.takes_work() => "cleaning",
        NodeStatus::Up { .. } if node.free.is_empty() => "full",
        NodeStatus::Up { .. } if node.attempts.is_empty() => "idle",
        NodeStatus::Up { .. } => "mixed",
    }
}

/// All pools, in the configuration's order. Without a mark the first is the default.
#[must_use]
pub fn pools(state: &State) -> Vec<PoolView> {
    let pools = &state.config.pools;
    let default = pools.iter().position(|pool| pool.default).unwrap_or(0);
    let view = |(i, pool): (usize, &muster_core::cluster::PoolConfig)| PoolView {
        name: pool.name.clone(),
        default: i == default,
        state: state.pool_state(&pool.name),
        node_list: format_hosts(&pool.nodes),
        time_default_s: pool.time_default_s,
        time_max_s: pool.time_max_s,
        priority: pool.priority,
        tier: pool.tier,
        preempt: pool.preempt,
        grace_s: pool.grace_s,
        memory_per_core_bytes: pool.memory_per_core_bytes,
    };
    pools.iter().enumerate().map(view).collect()
}
