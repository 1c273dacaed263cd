//! What users ask of pools.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Decided, chore, container, end, event, invalid, not_found, package, scale};
use crate::batch::{
    BatchCommand, BatchEvent, BatchInput, BatchPoolKey, BatchPoolSpec, BatchRefusal, Deallocation, EndWish,
    FoldedId, NODES_PER_REMOVAL_MAX, NodeMove, POOLS_PER_ACCOUNT_MAX, RESIZE_TIMEOUT_MIN_S, ResizeError,
    SAID_BYTES_MAX, SCALING_INTERVAL_S, SLOTS_PER_NODE_MAX, Scaling, Target, Targets, is_id,
};
use crate::event::Event;
use crate::ids::{NodeId, Timestamp};
use crate::state::{BatchPool, BatchTask, PoolAllocation, Seat, State};

pub(super) fn decide(state: &State, input: &BatchInput, now: Timestamp) -> Decided {
    match &input.command {
        BatchCommand::CreatePool { spec, target, timeout_s, scaling } => {
            let mut events = create(state, input, spec, *target, *timeout_s, now)?;
            if let Some(scaling) = scaling {
                scale::check(scaling)?;
                let pool = input.pool_key(&FoldedId::of(&spec.id));
                let scaling = Some(Arc::new((**scaling).clone()));
                events.push(event(BatchEvent::PoolScaling { pool, scaling }));
            }
            Ok(events)
        }
        BatchCommand::EnableScaling { pool, formula, interval_s } => {
            enable_scaling(state, input, pool, formula.as_ref(), *interval_s)
        }
        BatchCommand::DisableScaling { pool } => {
            let (key, pool) = active(state, input, pool)?;
            if pool.scale.is_none() {
                return Err(BatchRefusal::InvalidState { why: "the pool does not scale itself" });
            }
            Ok(vec![event(BatchEvent::PoolScaling { pool: key, scaling: None })])
        }
        BatchCommand::UpdatePool { pool, spec } => {
            let (pool, before) = active(state, input, pool)?;
            check_spec(state, spec)?;
            package::check_setup(state, &pool.account, &spec.setup)?;
            container::check_start(spec)?;
            let is_same = spec.id == before.spec.id && spec.home == before.spec.home;
            if !is_same || spec.slots_per_node != before.spec.slots_per_node {
                return Err(invalid("taskSlotsPerNode", "vmSize, id and slots of a pool stay as they are"));
            }
            // What waits was made for nodes that are made ready as the pool said before.
            let is_as_before = spec.start == before.spec.start && spec.setup == before.spec.setup;
            let mut events = match is_as_before {
                true => Vec::new(),
                false => unqueue(state, &pool, now),
            };
            events.insert(0, event(BatchEvent::PoolUpdated { pool, spec: spec.clone().into() }));
            Ok(events)
        }
        BatchCommand::ResizePool { pool, target, timeout_s, how } => {
            let (key, pool) = steady(state, input, pool)?;
            if pool.scale.is_some() {
                return Err(BatchRefusal::InvalidState { why: "the pool scales itself: disable that first" });
            }
            if *target == Targets::default() {
                return Err(invalid("targetDedicatedNodes", "say it, targetLowPriorityNodes, or both"));
            }
            let to =
                (target.dedicated.unwrap_or(pool.target), target.low_priority.unwrap_or(pool.target_low));
            resize(state, &key, to, Vec::new(), *timeout_s, *how, now)
        }
        BatchCommand::RemoveNodes { pool, nodes, timeout_s, how } => {
            let (key, pool) = steady(state, input, pool)?;
            let remove = named(state, pool, nodes)?;
            let is_low = |node: &&NodeId| pool.nodes.get(node).is_none_or(|seat| seat.low);
            let removed_low = remove.iter().filter(is_low).count() as u32;
            let dedicated = pool.dedicated().saturating_sub(remove.len() as u32 - removed_low);
            let low = (pool.low() + pool.preempted.len() as u32).saturating_sub(removed_low);
            resize(state, &key, (dedicated, low), remove, *timeout_s, *how, now)
        }
        BatchCommand::StopResize { pool } => {
            let (key, pool) = active(state, input, pool)?;
            if pool.allocation == PoolAllocation::Steady {
                return Err(BatchRefusal::InvalidState { why: "the pool is not being resized" });
            }
            let error = ResizeError {
                code: "ResizeStopped".to_owned(),
                message: "the resize was stopped by a user".to_owned(),
            };
            let wanted_low = pool.low() + pool.preempted.len() as u32;
            Ok(stop(&key, pool, vec![error], Some(wanted_low.min(pool.target_low))))
        }
        BatchCommand::DeletePool { pool } => {
            let (key, _) = active(state, input, pool)?;
            Ok(delete(state, key, now))
        }
        BatchCommand::ScheduleNode { pool, node, disable } => {
            let (key, pool) = active(state, input, pool)?;
            schedule(state, key, pool, node, *disable, now)
        }
        _ => Ok(Vec::new()),
    }
}

fn enable_scaling(
    state: &State,
    input: &BatchInput,
    pool: &FoldedId,
    formula: Option<&Arc<str>>,
    interval_s: Option<u64>,
) -> Decided {
    let (key, pool) = active(state, input, pool)?;
    let before = pool.scale.as_ref().map(|scale| &scale.spec);
    let Some(formula) = formula.or(before.map(|spec| &spec.formula)) else {
        return Err(invalid("autoScaleFormula", "a pool that does not scale itself yet needs a formula"));
    };
    let before_s = before.map_or(SCALING_INTERVAL_S, |spec| spec.interval_s);
    let scaling = Scaling { formula: Arc::clone(formula), interval_s: interval_s.unwrap_or(before_s) };
    scale::check(&scaling)?;
    Ok(vec![event(BatchEvent::PoolScaling { pool: key, scaling: Some(Arc::new(scaling)) })])
}

/// A pool that is not going.
fn active<'a>(
    state: &'a State,
    input: &BatchInput,
    id: &FoldedId,
) -> Result<(BatchPoolKey, &'a BatchPool), BatchRefusal> {
    let (key, pool) = input.pool(state, id)?;
    if pool.deleting.is_some() { Err(BatchRefusal::PoolBeingDeleted) } else { Ok((key, pool)) }
}

/// A pool that is not going, and not being resized.
fn steady<'a>(
    state: &'a State,
    input: &BatchInput,
    id: &FoldedId,
) -> Result<(BatchPoolKey, &'a BatchPool), BatchRefusal> {
    let (key, pool) = active(state, input, id)?;
    match pool.allocation {
        PoolAllocation::Steady => Ok((key, pool)),
        PoolAllocation::Resizing { .. } => Err(BatchRefusal::PoolBeingResized),
    }
}

pub(super) fn create(
    state: &State,
    input: &BatchInput,
    spec: &BatchPoolSpec,
    target: Targets,
    timeout_s: u64,
    now: Timestamp,
) -> Decided {
    if !is_id(&spec.id) {
        return Err(invalid("id", "must have 1 to 64 letters, digits, hyphens or underscores"));
    }
    let key = input.pool_key(&FoldedId::of(&spec.id));
    if let Some(pool) = state.batch_pool(&key) {
        return Err(match pool.deleting {
            Some(_) => BatchRefusal::PoolBeingDeleted,
            None => BatchRefusal::Exists { what: Target::Pool, id: spec.id.clone() },
        });
    }
    let pools = state.batch_account(&key.account).map_or(0, |account| account.pools.len());
    if pools >= POOLS_PER_ACCOUNT_MAX {
        return Err(BatchRefusal::Quota { what: "pools", limit: POOLS_PER_ACCOUNT_MAX });
    }
    check_spec(state, spec)?;
    package::check_setup(state, &key.account, &spec.setup)?;
    container::check_start(spec)?;
    let created = event(BatchEvent::PoolCreated {
        pool: key.clone(),
        spec: spec.clone().into(),
        by: input.caller.user.clone(),
    });
    let mut events = vec![created];
    let target = (target.dedicated.unwrap_or(0), target.low_priority.unwrap_or(0));
    if target != (0, 0) {
        events.extend(resize(state, &key, target, Vec::new(), timeout_s, Deallocation::Requeue, now)?);
    }
    Ok(events)
}

fn check_spec(state: &State, spec: &BatchPoolSpec) -> Result<(), BatchRefusal> {
    let pools = &state.declared_config().pools;
    let Some(home) = pools.iter().find(|pool| pool.name == spec.home) else {
        let known: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
        let reason = format!("there is no class of nodes '{}'; there are: {}", spec.home, known.join(", "));
        return Err(invalid("vmSize", reason));
    };
    if spec.said.len() > SAID_BYTES_MAX {
        return Err(invalid("id", format!("what is said of the pool has more than {SAID_BYTES_MAX} bytes")));
    }
    if let Some(start) = &spec.start {
        chore::check(start, "startTask")?;
    }
    let cores = state.smallest_node(&home.name).map_or(0, |(cores, _)| cores);
    let most = SLOTS_PER_NODE_MAX.min(cores);
    if spec.slots_per_node == 0 || spec.slots_per_node > most {
        let reason = format!("must be 1 to {most}: nodes of '{}' have {cores} cores", home.name);
        return Err(invalid("taskSlotsPerNode", reason));
    }
    Ok(())
}

fn resize(
    state: &State,
    key: &BatchPoolKey,
    (target, target_low): (u32, u32),
    remove: Vec<NodeId>,
    timeout_s: u64,
    how: Deallocation,
    now: Timestamp,
) -> Decided {
    if timeout_s < RESIZE_TIMEOUT_MIN_S {
        return Err(invalid("resizeTimeout", format!("must be at least {RESIZE_TIMEOUT_MIN_S} seconds")));
    }
    let declared = state.nodes.iter().filter(|node| node.declared).count();
    for (target, property) in [(target, "targetDedicatedNodes"), (target_low, "targetLowPriorityNodes")] {
        if target as usize > declared {
            return Err(invalid(property, format!("the cluster has {declared} nodes")));
        }
    }
    let until = now.plus_seconds(timeout_s);
    Ok(vec![event(BatchEvent::PoolResizing { pool: key.clone(), target, target_low, remove, how, until })])
}

/// The nodes of these names in a pool.
fn named(state: &State, pool: &BatchPool, names: &[String]) -> Result<Vec<NodeId>, BatchRefusal> {
    if names.is_empty() || names.len() > NODES_PER_REMOVAL_MAX {
        return Err(invalid("nodeList", format!("must name 1 to {NODES_PER_REMOVAL_MAX} nodes")));
    }
    let taken_back =
        |name: &String| state.node_by_name(name).filter(|node| pool.preempted.contains_key(node)).map(Ok);
    let of = |name: &String| taken_back(name).unwrap_or_else(|| node(state, pool, name));
    let all: BTreeSet<NodeId> = names.iter().map(of).collect::<Result<_, _>>()?;
    Ok(all.into_iter().collect())
}

fn node(state: &State, pool: &BatchPool, name: &str) -> Result<NodeId, BatchRefusal> {
    let found = state.node_by_name(name).filter(|node| pool.nodes.contains_key(node));
    found.ok_or_else(|| not_found(Target::Node, &FoldedId::of(name)))
}

/// Lets a pool give back its nodes and be gone.
pub(super) fn delete(state: &State, key: BatchPoolKey, now: Timestamp) -> Vec<Event> {
    let mut events = unqueue(state, &key, now);
    events.insert(0, event(BatchEvent::PoolDeleting { pool: key }));
    events
}

/// Lets all tasks of a pool wait again that have not started.
fn unqueue(state: &State, pool: &BatchPoolKey, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for (key, job) in state.batch_jobs_of(pool) {
        let queued = |task: &BatchTask| task.state.made().is_some_and(|made| made.started.is_none());
        for (id, task) in job.made().filter(|(_, task)| queued(task)) {
            events.extend(end::end(
                state,
                &key.task(id.clone()),
                task,
                EndWish::Unqueue,
                EndWish::Unqueue,
                now,
            ));
        }
    }
    events
}

/// The end of a resize that has not come to its end: nodes that have not come go back, those that have not left stay.
///
/// `wanted_low` is how many low-priority nodes the pool goes on to look for, if that is not what was asked for.
pub(super) fn stop(
    key: &BatchPoolKey,
    pool: &BatchPool,
    errors: Vec<ResizeError>,
    wanted_low: Option<u32>,
) -> Vec<Event> {
    let back = |seat: &Seat| match seat.at {
        NodeMove::Claimed => Some(NodeMove::Back),
        NodeMove::Leaving if seat.low => Some(NodeMove::LentLow),
        NodeMove::Leaving => Some(NodeMove::Lent),
        NodeMove::Lent | NodeMove::LentLow | NodeMove::Back | NodeMove::Preempted => None,
    };
    let moves: Vec<_> = pool.nodes.iter().filter_map(|(node, seat)| Some((*node, back(seat)?))).collect();
    let mut events = Vec::new();
    if !moves.is_empty() {
        events.push(event(BatchEvent::NodesMoved { pool: key.clone(), moves, needed_by: None }));
    }
    events.push(event(BatchEvent::PoolSteady { pool: key.clone(), errors, wanted_low }));
    events
}

fn schedule(
    state: &State,
    key: BatchPoolKey,
    pool: &BatchPool,
    name: &str,
    disable: Option<Deallocation>,
    now: Timestamp,
) -> Decided {
    let node = node(state, pool, name)?;
    let is_enabled = pool.nodes.get(&node).is_some_and(|seat| seat.enabled);
    if is_enabled == disable.is_none() {
        return Err(BatchRefusal::NodeAlreadyInTargetState);
    }
    let mut events = vec![event(BatchEvent::NodeScheduling { pool: key, node, enabled: disable.is_none() })];
    if let Some(how) = disable {
        events.extend(clear(state, node, how, now));
    }
    Ok(events)
}

/// Ends what tasks of the batch service do on a node, as far as was asked for.
pub(super) fn clear(state: &State, node: NodeId, how: Deallocation, now: Timestamp) -> Vec<Event> {
    let wish = match how {
        Deallocation::Requeue => EndWish::Requeue,
        Deallocation::Terminate => EndWish::Terminate,
        Deallocation::TaskCompletion | Deallocation::RetainedData => return Vec::new(),
    };
    let mut events = Vec::new();
    for attempt in &state.node(node).attempts {
        let Some(key) = state.batch_task_of(attempt.task.job) else { continue };
        let Some((_, task)) = state.batch_task(key) else { continue };
        events.extend(end::end(state, key, task, wish, wish, now));
    }
    events
}
