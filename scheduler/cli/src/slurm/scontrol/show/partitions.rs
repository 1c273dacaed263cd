//! `scontrol show partition`.

use muster_client::api::{NodeView, PoolView};
use muster_core::cluster::Preempt;
use serde_json::{Value, json};

use super::Shown;
use crate::slurm::fault::{self, Fault};
use crate::slurm::job_json::{document, limit};
use crate::slurm::time::long_span;
use crate::slurm::units;

/// The record of a partition, or those of all.
pub(super) fn text(shown: &mut Shown<'_>, name: Option<&str>) -> Result<String, Fault> {
    let pools = shown.client.pools().map_err(Fault::client(shown.doing))?.pools;
    let nodes = shown.client.nodes().map_err(Fault::client(shown.doing))?.nodes;
    let found: Vec<&PoolView> =
        pools.iter().filter(|pool| name.is_none_or(|name| pool.name == name)).collect();
    if let (true, Some(name)) = (found.is_empty(), name) {
        fault::print(&format!("Partition {name} not found\n"))?;
        return Err(Fault::Silent);
    }
    if shown.how.json {
        let list: Vec<Value> = found.iter().map(|pool| entry(pool, &nodes)).collect();
        return Ok(document("show partition", json!({ "partitions": list })));
    }
    let mut out = String::new();
    found.iter().for_each(|pool| shown.add(&groups(pool, &nodes), &mut out));
    Ok(out)
}

/// Number of nodes, cores and bytes of memory.
fn size(pool: &PoolView, nodes: &[NodeView]) -> (u32, u32, u64) {
    let own = nodes.iter().filter(|node| node.pools.contains(&pool.name));
    own.fold((0, 0, 0), |(count, cores, bytes), node| {
        (count + 1, cores + node.cores, bytes + node.memory_bytes)
    })
}

fn preempt_mode(pool: &PoolView) -> &'static str {
    match pool.preempt {
        Preempt::Off => "OFF",
        Preempt::Requeue => "REQUEUE",
        Preempt::Cancel => "CANCEL",
    }
}

fn groups(pool: &PoolView, nodes: &[NodeView]) -> Vec<String> {
    let (count, cores, bytes) = size(pool, nodes);
    let memory = match pool.memory_per_core_bytes {
        Some(bytes) => format!("DefMemPerCPU={} MaxMemPerNode=UNLIMITED", bytes >> 20),
        None => "DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED".to_owned(),
    };
    vec![
        format!("PartitionName={}", pool.name),
        "AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL".to_owned(),
        format!("AllocNodes=ALL Default={} QoS=N/A", if pool.default { "YES" } else { "NO" }),
        format!(
            "DefaultTime={} DisableRootJobs=NO ExclusiveUser=NO GraceTime={} Hidden=NO",
            long_span(pool.time_default_s),
            pool.grace_s
        ),
        format!(
            "MaxNodes=UNLIMITED MaxTime={} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED",
            long_span(pool.time_max_s)
        ),
        format!("Nodes={}", pool.node_list),
        format!(
            "PriorityJobFactor={} PriorityTier={} RootOnly=NO ReqResv=NO OverSubscribe=NO",
            pool.priority, pool.tier
        ),
        format!("OverTimeLimit=NONE PreemptMode={}", preempt_mode(pool)),
        format!(
            "State={} TotalCPUs={cores} TotalNodes={count} SelectTypeParameters=NONE",
            pool.state.word().to_ascii_uppercase()
        ),
        "JobDefaults=(null)".to_owned(),
        memory,
        format!("TRES={}", units::tres(cores.into(), bytes, count, &[])),
    ]
}

fn entry(pool: &PoolView, nodes: &[NodeView]) -> Value {
    let (count, cores, bytes) = size(pool, nodes);
    json!({
        "name": pool.name,
        "nodes": { "configured": pool.node_list, "total": count },
        "cpus": { "total": cores },
        "defaults": { "time": limit(Some(pool.time_default_s.div_ceil(60))) },
        "maximums": { "time": limit(Some(pool.time_max_s.div_ceil(60))) },
        "priority": { "job_factor": pool.priority, "tier": pool.tier },
        "partition": { "state": [pool.state.word().to_ascii_uppercase()] },
        "tres": { "configured": units::tres(cores.into(), bytes, count, &[]) },
    })
}
