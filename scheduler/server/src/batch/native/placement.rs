//! Which nodes, cores and devices a task has or had, and where its ranks are.

use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::response::IntoResponse as _;
use muster_core::batch::FoldedId;
use muster_core::cores::CoreSet;
use muster_core::event::Allocation;
use muster_core::ids::{JobId, NodeId};
use muster_core::state::{BatchTask, FinishedHow, State};
use serde_json::{Value, json};

use super::super::call::Call;
use super::super::{Answer, Service, jobs, tasks};
use crate::node_view;

/// `GET /muster/v1/jobs/{job}/tasks/{task}/placement`
pub async fn placement(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let key = jobs::key(&call, &job).task(FoldedId::of(&task));
    let reading = service.shared.read();
    let state = reading.state();
    let (job, task) = tasks::find(state, &key)?;
    let mut shown = json!({
        "jobId": job.spec.id,
        "taskId": task.id(&key.task),
        "state": task.state.word().as_str(),
        "instances": [],
    });
    if let Some(placed) = placed(state, task) {
        shown["clusterJob"] = placed.job.0.into();
        shown["attempt"] = placed.attempt.into();
        shown["instances"] = match placed.what {
            What::Known(allocation) => of_allocation(state, &allocation),
            What::Nodes(nodes) => of_nodes(state, &nodes),
        };
    }
    Ok(axum::Json(shown).into_response())
}

struct Placed {
    job: JobId,
    attempt: u32,
    what: What,
}

/// What is known of a placement: the job of the cluster that tells of the cores is forgotten some time after its end.
enum What {
    Known(Arc<Allocation>),
    Nodes(Vec<NodeId>),
}

/// Where a task is, or was last.
fn placed(state: &State, task: &BatchTask) -> Option<Placed> {
    let finished = |job: JobId| match &state.jobs.get(&job)?.finished.values().next()?.how {
        FinishedHow::Ran { attempts, allocation, .. } => Some((*attempts, Arc::clone(allocation))),
        _ => None,
    };
    if let Some(made) = task.state.made() {
        let live = state.jobs.get(&made.job).and_then(|job| job.live.values().next());
        let live = live.map(|live| (live.attempt, Arc::clone(&live.allocation)));
        let (attempt, allocation) = live.or_else(|| finished(made.job))?;
        return Some(Placed { job: made.job, attempt, what: What::Known(allocation) });
    }
    let completed = task.completed()?;
    let job = completed.job.filter(|_| completed.attempt > 0)?;
    let what = finished(job).map(|(_, allocation)| What::Known(allocation));
    let nodes = || What::Nodes(completed.nodes.clone());
    Some(Placed { job, attempt: completed.attempt, what: what.unwrap_or_else(nodes) })
}

/// Ranks in block order: they fill share after share, each with its own cores in rising order.
fn of_allocation(state: &State, allocation: &Allocation) -> Value {
    let per_rank = allocation.cores_per_rank.max(1) as usize;
    let mut first_rank = 0;
    let instances = allocation.shares.iter().enumerate().map(|(instance, share)| {
        let cores: Vec<u32> = share.cores.iter().collect();
        let of_rank = |cores: &[u32]| cores.iter().copied().collect::<CoreSet>().to_string();
        let ranks = (first_rank..).zip(cores.chunks(per_rank)).take(share.ranks as usize);
        let ranks: Vec<Value> =
            ranks.map(|(rank, cores)| json!({ "rank": rank, "cores": of_rank(cores) })).collect();
        first_rank += share.ranks;
        let devices: Vec<String> = share
            .gres
            .iter()
            .map(|held| node_view::held_text(&held.name, held.kind.as_deref(), &held.devices))
            .collect();
        json!({
            "instance": instance,
            "nodeId": state.node(share.node).name,
            "cores": share.cores.to_string(),
            "memoryBytes": share.memory_bytes,
            "devices": devices,
            "ranks": ranks,
        })
    });
    instances.collect()
}

fn of_nodes(state: &State, nodes: &[NodeId]) -> Value {
    let instance = |(i, node): (usize, &NodeId)| json!({ "instance": i, "nodeId": state.node(*node).name });
    nodes.iter().enumerate().map(instance).collect()
}
