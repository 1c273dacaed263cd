//! Pools.

use std::sync::Arc;

use muster_core::batch::{
    BatchCommand, BatchPoolSpec, ChoreSpec, Deallocation, FoldedId, RESIZE_TIMEOUT_S, SAID_BYTES_MAX,
    SCALING_INTERVAL_S, ScaleRun, Scaling, Targets,
};
use muster_core::cluster::Fill;
use muster_core::spec::User;
use muster_core::state::{BatchPool, PoolAllocation};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{chore, etag, format_duration, iso, setup, without_secrets};
use crate::error::BatchError;

/// Reads what a new pool is to be like: what is said of it, how many nodes it is to have, and how long it may take to get them.
///
/// # Errors
/// What is wrong with it.
pub fn read_pool(body: &Value, user: &User) -> Result<NewPool, BatchError> {
    let fields = Fields::of(body)?;
    fields.without(&["certificateReferences", "cloudServiceConfiguration", "applicationLicenses"])?;
    let target = targets(&fields)?;
    let scaling = match fields.flag("enableAutoScale")?.unwrap_or(false) {
        true => {
            for name in ["targetDedicatedNodes", "targetLowPriorityNodes", "resizeTimeout"] {
                if fields.get(name).is_some() {
                    return Err(fields.wrong(name, "a pool that scales itself finds this out; leave it out"));
                }
            }
            let formula = fields.required("autoScaleFormula")?.into();
            Some(Scaling { formula, interval_s: interval_s(&fields)?.unwrap_or(SCALING_INTERVAL_S) })
        }
        false if fields.get("autoScaleFormula").is_some() => {
            return Err(fields.wrong("autoScaleFormula", "it needs enableAutoScale to be true"));
        }
        false => None,
    };
    let start = fields.inner("startTask")?.map(|start| chore::start(&start, user)).transpose()?;
    let spec = spec(&fields, start.map(Arc::new))?;
    Ok(NewPool { spec, target, timeout_s: timeout_s(&fields)?, scaling })
}

/// A new pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPool {
    /// What is said of it.
    pub spec: BatchPoolSpec,
    /// How many nodes it is to have.
    pub target: Targets,
    /// How long it may take to get them, in seconds.
    pub timeout_s: u64,
    /// By what it finds that out itself, if it does.
    pub scaling: Option<Scaling>,
}

/// How often a formula is evaluated, in seconds, if it is said.
fn interval_s(fields: &Fields<'_>) -> Result<Option<u64>, BatchError> {
    Ok(fields.duration_s("autoScaleEvaluationInterval")?.flatten())
}

/// How many nodes a pool is to have, as far as it is said.
fn targets(fields: &Fields<'_>) -> Result<Targets, BatchError> {
    let of = |name: &str| -> Result<Option<u32>, BatchError> {
        let target = fields.number(name, 0, i64::from(u32::MAX))?;
        Ok(target.map(|target| u32::try_from(target).unwrap_or(u32::MAX)))
    };
    Ok(Targets { dedicated: of("targetDedicatedNodes")?, low_priority: of("targetLowPriorityNodes")? })
}

/// Reads a resize of a pool.
///
/// # Errors
/// What is wrong with it.
pub fn read_resize(pool: FoldedId, body: &Value) -> Result<BatchCommand, BatchError> {
    let fields = Fields::of(body)?;
    let target = targets(&fields)?;
    if target == Targets::default() {
        let why = "it, or targetLowPriorityNodes, must say how many nodes the pool is to have";
        return Err(fields.wrong("targetDedicatedNodes", why));
    }
    let how = read_deallocation(&fields, "nodeDeallocationOption")?;
    Ok(BatchCommand::ResizePool { pool, target, timeout_s: timeout_s(&fields)?, how })
}

/// Reads which nodes are to leave a pool.
///
/// # Errors
/// What is wrong with it.
pub fn read_removal(pool: FoldedId, body: &Value) -> Result<BatchCommand, BatchError> {
    let fields = Fields::of(body)?;
    let names = fields.get("nodeList").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let nodes: Option<Vec<String>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    let nodes = nodes.ok_or_else(|| fields.wrong("nodeList", "it must be a list of the ids of nodes"))?;
    let how = read_deallocation(&fields, "nodeDeallocationOption")?;
    Ok(BatchCommand::RemoveNodes { pool, nodes, timeout_s: timeout_s(&fields)?, how })
}

/// Reads by what a pool is to find out itself how many nodes it is to have.
///
/// # Errors
/// What is wrong with it.
pub fn read_scaling(pool: FoldedId, body: &Value) -> Result<BatchCommand, BatchError> {
    let fields = Fields::of(body)?;
    let formula = fields.text("autoScaleFormula")?.map(Into::into);
    Ok(BatchCommand::EnableScaling { pool, formula, interval_s: interval_s(&fields)? })
}

/// Reads the formula that is to be tried.
///
/// # Errors
/// What is wrong with it.
pub fn read_trial(body: &Value) -> Result<String, BatchError> {
    Ok(Fields::of(body)?.required("autoScaleFormula")?.to_owned())
}

/// What an evaluation has found.
#[must_use]
pub fn show_run(run: &ScaleRun) -> Value {
    let mut shown = json!({ "timestamp": iso(run.at), "results": run.results });
    if let Some(error) = &run.error {
        shown["error"] = json!({ "code": error.code, "message": error.message });
    }
    shown
}

/// How long a resize may take.
fn timeout_s(fields: &Fields<'_>) -> Result<u64, BatchError> {
    Ok(fields.duration_s("resizeTimeout")?.unwrap_or(Some(RESIZE_TIMEOUT_S)).unwrap_or(RESIZE_TIMEOUT_S))
}

fn spec(fields: &Fields<'_>, start: Option<Arc<ChoreSpec>>) -> Result<BatchPoolSpec, BatchError> {
    let fills = [("spread", Fill::Spread), ("pack", Fill::Pack)];
    let fill = match fields.inner("taskSchedulingPolicy")? {
        Some(policy) => policy.word("nodeFillType", &fills)?,
        None => None,
    };
    let slots = fields.number("taskSlotsPerNode", 1, 65_536)?.unwrap_or(1);
    let mut said = fields.object().clone();
    for name in ["id", "vmSize", "targetDedicatedNodes", "targetLowPriorityNodes", "resizeTimeout"]
        .into_iter()
        .chain(["enableAutoScale", "autoScaleFormula", "autoScaleEvaluationInterval"])
    {
        said.remove(name);
    }
    Ok(BatchPoolSpec {
        id: fields.required("id")?.to_owned(),
        home: fields.required("vmSize")?.to_owned(),
        slots_per_node: u32::try_from(slots).unwrap_or(u32::MAX),
        fill: fill.unwrap_or(Fill::Spread),
        inter_node: fields.flag("enableInterNodeCommunication")?.unwrap_or(false),
        start,
        setup: setup::pool(fields)?,
        said: text(said, fields)?.into(),
    })
}

/// What is only kept, as text.
pub(super) fn text(mut said: Map<String, Value>, fields: &Fields<'_>) -> Result<String, BatchError> {
    said.retain(|_, value| !value.is_null());
    let text = Value::Object(said).to_string();
    if text.len() > SAID_BYTES_MAX {
        return Err(fields.wrong("id", &format!("what is said has more than {SAID_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// What is said of something, as an object.
pub(super) fn said(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// Applies a change of a pool. A `PUT` removes what it does not name of what it may change.
///
/// # Errors
/// What is wrong with it.
pub fn change_pool(
    pool: &BatchPool,
    body: &Value,
    replaces: bool,
    user: &User,
) -> Result<BatchPoolSpec, BatchError> {
    let fields = Fields::of(body)?;
    fields.without(&["certificateReferences"])?;
    let mut object = said(&pool.spec.said);
    if replaces {
        object.remove("applicationPackageReferences");
        object.remove("metadata");
        object.remove("startTask");
    }
    for name in [
        "metadata",
        "displayName",
        "taskSchedulingPolicy",
        "networkConfiguration",
        "userAccounts",
        "virtualMachineConfiguration",
        "startTask",
        "applicationPackageReferences",
        "mountConfiguration",
    ] {
        if let Some(value) = fields.get(name) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    object.insert("id".to_owned(), pool.spec.id.clone().into());
    object.insert("vmSize".to_owned(), pool.spec.home.clone().into());
    // What is not said anew goes on as whoever said it before.
    let start = match fields.inner("startTask")? {
        Some(start) => Some(Arc::new(chore::start(&start, user)?)),
        None if replaces => None,
        None => pool.spec.start.clone(),
    };
    spec(&Fields::of(&Value::Object(object))?, start)
}

/// Reads what becomes of what runs on nodes that leave.
///
/// # Errors
/// `InvalidPropertyValue` for another word.
pub fn read_deallocation(fields: &Fields<'_>, name: &str) -> Result<Deallocation, BatchError> {
    let words = [
        ("requeue", Deallocation::Requeue),
        ("terminate", Deallocation::Terminate),
        ("taskcompletion", Deallocation::TaskCompletion),
        ("retaineddata", Deallocation::RetainedData),
    ];
    Ok(fields.word(name, &words)?.unwrap_or_default())
}

/// A pool, as clients see it.
#[must_use]
pub fn show_pool(id: &FoldedId, pool: &BatchPool, base: &str) -> Value {
    let mut shown = Value::Object(said(&pool.spec.said));
    without_secrets(&mut shown);
    let allocation = match pool.allocation {
        _ if pool.deleting.is_some() => "resizing",
        PoolAllocation::Steady => "steady",
        PoolAllocation::Resizing { .. } => "resizing",
    };
    let fill = match pool.spec.fill {
        Fill::Pack => "pack",
        Fill::Spread => "spread",
    };
    shown["id"] = pool.spec.id.clone().into();
    shown["url"] = format!("{base}/pools/{id}").into();
    shown["eTag"] = etag(pool.version).into();
    shown["lastModified"] = iso(pool.modified).into();
    shown["creationTime"] = iso(pool.created).into();
    shown["state"] = if pool.deleting.is_some() { "deleting" } else { "active" }.into();
    shown["stateTransitionTime"] = iso(pool.deleting.unwrap_or(pool.created)).into();
    shown["allocationState"] = allocation.into();
    shown["allocationStateTransitionTime"] = iso(pool.allocation_since).into();
    shown["vmSize"] = pool.spec.home.clone().into();
    shown["resizeTimeout"] = format_duration(pool.timeout_s).into();
    shown["currentDedicatedNodes"] = pool.dedicated().into();
    shown["currentLowPriorityNodes"] = (pool.low() + pool.preempted.len() as u32).into();
    shown["targetDedicatedNodes"] = pool.target.into();
    shown["targetLowPriorityNodes"] = pool.target_low.into();
    shown["enableAutoScale"] = pool.scale.is_some().into();
    if let Some(scale) = &pool.scale {
        shown["autoScaleFormula"] = (*scale.spec.formula).into();
        shown["autoScaleEvaluationInterval"] = format_duration(scale.spec.interval_s).into();
        shown["autoScaleRun"] = scale.last.as_ref().map(show_run).into();
    }
    shown["enableInterNodeCommunication"] = pool.spec.inter_node.into();
    shown["taskSlotsPerNode"] = pool.spec.slots_per_node.into();
    shown["taskSchedulingPolicy"] = json!({ "nodeFillType": fill });
    if !pool.errors.is_empty() {
        let error =
            |error: &muster_core::batch::ResizeError| json!({ "code": error.code, "message": error.message });
        shown["resizeErrors"] = pool.errors.iter().map(error).collect();
    }
    shown
}
