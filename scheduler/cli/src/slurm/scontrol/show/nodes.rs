//! `scontrol show node`.

use std::env::consts::ARCH;

use muster_client::api::NodeView;
use muster_core::notation::parse_hosts;
use serde_json::{Value, json};

use super::Shown;
use crate::slurm::fault::{self, Fault};
use crate::slurm::job_json::{document, number};
use crate::slurm::node::{State, cores_held, free_mib, list_or_null, load, sockets, tres};
use crate::slurm::people::user_name;
use crate::slurm::time::Times;

/// The records of the nodes of a list, or of all.
pub(super) fn text(shown: &mut Shown<'_>, list: Option<&str>) -> Result<String, Fault> {
    let nodes = shown.client.nodes().map_err(Fault::client(shown.doing))?.nodes;
    let names = match list {
        None => nodes.iter().map(|node| node.name.clone()).collect(),
        Some(list) => parse_hosts(list).unwrap_or_else(|_| vec![list.to_owned()]),
    };
    let mut out = String::new();
    let mut found: Vec<&NodeView> = Vec::new();
    let mut missing = None;
    for name in &names {
        match nodes.iter().find(|node| node.name == *name) {
            Some(node) => found.push(node),
            None => {
                missing = Some(name);
                break;
            }
        }
    }
    if shown.how.json {
        out = json(&found, shown.times.now_us);
    } else {
        found.iter().for_each(|node| shown.add(&groups(node, &shown.times), &mut out));
    }
    if let Some(name) = missing {
        fault::print(&format!("{out}Node {name} not found\n"))?;
        return Err(Fault::Silent);
    }
    Ok(out)
}

/// At least one feature: clients expect some.
fn features(node: &NodeView) -> String {
    if node.features.is_empty() { node.name.clone() } else { node.features.join(",") }
}

fn groups(node: &NodeView, times: &Times) -> Vec<String> {
    let (sockets, cores) = sockets(node);
    let held = cores_held(node);
    let memory_held = node.memory_bytes.saturating_sub(node.memory_free_bytes);
    let state = State::of(node, times.now_us);
    let features = features(node);
    let address = if node.address.is_empty() { &node.name } else { &node.address };
    let up = times.instant(node.up_since_us, "None");
    let held_tres = if held > 0 { tres(held, memory_held, &node.gres_held) } else { String::new() };
    let version = if node.agent_version.is_empty() { "N/A" } else { &node.agent_version };
    let mut groups = vec![
        format!("NodeName={} Arch={ARCH} CoresPerSocket={cores} ", node.name),
        format!(
            "CPUAlloc={held} CPUEfctv={0} CPUTot={0} CPULoad={1}",
            node.cores,
            load(node.load_hundredths)
        ),
        format!("AvailableFeatures={features}"),
        format!("ActiveFeatures={features}"),
        format!("Gres={}", list_or_null(&node.gres)),
        format!("NodeAddr={address} NodeHostName={} Version={version}", node.name),
        "OS=Linux ".to_owned(),
        format!(
            "RealMemory={} AllocMem={} FreeMem={} Sockets={sockets} Boards=1",
            node.memory_bytes >> 20,
            memory_held >> 20,
            free_mib(node.memory_idle_bytes)
        ),
        format!("State={} ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A", state.with_flags()),
        format!("Partitions={} ", node.pools.join(",")),
        format!("BootTime=None SlurmdStartTime={up}"),
        format!("LastBusyTime={}", times.instant(None, "Unknown")),
        format!("CfgTRES={}", tres(node.cores, node.memory_bytes, &node.gres)),
        format!("AllocTRES={held_tres}"),
    ];
    if !node.reason_given.is_empty() {
        let by = user_name(node.by_uid.unwrap_or(0));
        let since = times.instant(node.since_us, "Unknown");
        groups.push(format!("Reason={} [{by}@{since}]", node.reason_given));
    }
    groups
}

/// The document of `--json`.
fn json(nodes: &[&NodeView], now_us: u64) -> String {
    let nodes: Vec<Value> = nodes.iter().map(|node| entry(node, now_us)).collect();
    document("show node", json!({ "nodes": nodes }))
}

fn entry(node: &NodeView, now_us: u64) -> Value {
    let (sockets, cores) = sockets(node);
    let state = State::of(node, now_us);
    let mut states = vec![state.base_name().to_uppercase()];
    states.extend(state.flags().into_iter().map(str::to_owned));
    let held = cores_held(node);
    let memory_held = node.memory_bytes.saturating_sub(node.memory_free_bytes);
    json!({
        "name": node.name,
        "hostname": node.name,
        "address": if node.address.is_empty() { &node.name } else { &node.address },
        "architecture": ARCH,
        "state": states,
        "features": node.features,
        "active_features": node.features,
        "gres": node.gres.join(","),
        "gres_used": node.gres_held.join(","),
        "partitions": node.pools,
        "cpus": node.cores,
        "effective_cpus": node.cores,
        "alloc_cpus": held,
        "alloc_idle_cpus": node.cores_free,
        "sockets": sockets,
        "cores": cores,
        "threads": 1,
        "boards": 1,
        "weight": 1,
        "real_memory": node.memory_bytes >> 20,
        "alloc_memory": memory_held >> 20,
        "cpu_load": node.load_hundredths.unwrap_or(0),
        "free_mem": number(node.memory_idle_bytes.map(|bytes| bytes >> 20)),
        "reason": node.reason_given,
        "reason_changed_at": number(Some(Times::seconds(node.since_us))),
        "reason_set_by_user": node.by_uid.map(user_name),
        "slurmd_start_time": number(Some(Times::seconds(node.up_since_us))),
        "tres": tres(node.cores, node.memory_bytes, &node.gres),
        "tres_used": if held > 0 { tres(held, memory_held, &node.gres_held) } else { String::new() },
        "version": node.agent_version,
    })
}
