//! `sinfo --json`.

use serde_json::{Value, json};

use super::options::Options;
use super::rows::Cluster;
use crate::slurm::job_json::{document, limit, number};
use crate::slurm::node::{State, cores_held, sockets};
use muster_client::api::{NodeView, PoolView};

/// The document: an entry for the nodes of each partition that are in the same state.
pub(super) fn text(cluster: &Cluster<'_>, options: &Options) -> String {
    let mut groups: Vec<(&PoolView, State, Vec<&NodeView>)> = Vec::new();
    for pool in cluster.pools {
        if options.pools.as_ref().is_some_and(|names| !names.contains(&pool.name)) {
            continue;
        }
        for (node, state) in cluster.nodes.iter().filter(|(node, _)| node.pools.contains(&pool.name)) {
            if options.nodes.as_ref().is_some_and(|names| !names.contains(&node.name)) {
                continue;
            }
            match groups.iter_mut().find(|(other, of, _)| other.name == pool.name && of == state) {
                Some((.., nodes)) => nodes.push(node),
                None => groups.push((pool, *state, vec![node])),
            }
        }
    }
    let entries: Vec<Value> = groups.iter().map(|(pool, state, nodes)| entry(pool, *state, nodes)).collect();
    document("sinfo", json!({ "sinfo": entries }))
}

fn range(values: impl Iterator<Item = u64> + Clone) -> Value {
    json!({ "minimum": values.clone().min().unwrap_or(0), "maximum": values.max().unwrap_or(0) })
}

fn entry(pool: &PoolView, state: State, nodes: &[&NodeView]) -> Value {
    let mut states = vec![state.base_name().to_uppercase()];
    states.extend(state.flags().into_iter().map(str::to_owned));
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let held: u32 = nodes.iter().map(|node| cores_held(node)).sum();
    let total: u32 = nodes.iter().map(|node| node.cores).sum();
    let (idle, other) = if state.is_usable() { (total - held, 0) } else { (0, total - held) };
    let count = nodes.len();
    let busy = nodes.iter().filter(|node| cores_held(node) > 0).count();
    let (free, out) = if state.is_usable() { (count - busy, 0) } else { (0, count - busy) };
    json!({
        "node": { "state": states },
        "nodes": {
            "allocated": busy, "idle": free, "other": out, "total": count,
            "hostnames": names, "addresses": names, "nodes": names,
        },
        "cpus": {
            "minimum": nodes.iter().map(|node| node.cores).min(),
            "maximum": nodes.iter().map(|node| node.cores).max(),
            "allocated": held, "idle": idle, "other": other, "total": total,
        },
        "sockets": range(nodes.iter().map(|node| sockets(node).0.into())),
        "cores": range(nodes.iter().map(|node| sockets(node).1.into())),
        "threads": { "minimum": 1, "maximum": 1 },
        "memory": range(nodes.iter().map(|node| node.memory_bytes >> 20)),
        "features": { "total": nodes[0].features.join(","), "active": nodes[0].features.join(",") },
        "gres": { "total": nodes[0].gres.join(","), "used": nodes[0].gres_held.join(",") },
        "reason": { "description": nodes[0].reason_given },
        "partition": {
            "name": pool.name,
            "nodes": { "configured": pool.node_list },
            "maximums": { "time": limit(Some(pool.time_max_s.div_ceil(60))) },
            "defaults": { "time": number(Some(pool.time_default_s.div_ceil(60))) },
            "priority": { "job_factor": pool.priority, "tier": pool.tier },
            "partition": { "state": [pool.state.word().to_ascii_uppercase()] },
        },
    })
}
