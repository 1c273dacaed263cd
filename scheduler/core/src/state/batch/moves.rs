//! Pools whose nodes move, and what follows from that and from what happens to nodes.

use std::sync::Arc;

use super::happen::{refresh_job, set};
use super::pool::{BatchPool, PoolAllocation, Seat, with_pools, work};
use super::scale::Scale;
use super::{chore, low, retained, setup, stats};
use crate::batch::{BatchJobKey, BatchPoolKey, ChoreKey, NodeMove};
use crate::cluster::ClusterConfig;
use crate::event::Event;
use crate::ids::{JobId, NodeId, Timestamp};
use crate::state::{State, power};

pub(super) fn with_pool(state: &mut State, key: &BatchPoolKey, change: impl FnOnce(&mut BatchPool)) {
    if let Some(PoolAllocation::Resizing { until, .. }) = state.batch.pool(key).map(|pool| &pool.allocation) {
        let until = *until;
        state.batch.give_up.remove(&(until, key.clone()));
    }
    let Some(pool) = state.batch.pool_mut(key) else { return };
    change(pool);
    if let PoolAllocation::Resizing { until, .. } = pool.allocation
        && pool.deleting.is_none()
    {
        state.batch.give_up.insert((until, key.clone()));
    }
    pool_moved(state, key);
}

/// Changes what is known of how a pool scales itself. The planner has nothing to do with it.
pub(super) fn with_scale(state: &mut State, key: &BatchPoolKey, change: impl FnOnce(&mut BatchPool)) {
    let Some(pool) = state.batch.pool_mut(key) else { return };
    let before = pool.scale.as_ref().map(Scale::due);
    change(pool);
    let after = pool.scale.as_ref().map(Scale::due);
    if let Some(before) = before {
        state.batch.scales.remove(&(before, key.clone()));
    }
    if let Some(after) = after {
        state.batch.scales.insert((after, key.clone()));
    }
}

pub(super) fn nodes_moved(
    state: &mut State,
    key: &BatchPoolKey,
    moves: &[(NodeId, NodeMove)],
    needed_by: Option<JobId>,
    at: Timestamp,
) {
    for (node, _) in moves {
        meter(state, key, *node, at);
    }
    let number = state.batch.changes;
    let Some(account) = state.batch.accounts.get_mut(&key.account) else { return };
    let Some(pool) = account.pools.get_mut(&key.pool) else { return };
    for (node, to) in moves {
        let before = pool.nodes.get(node);
        let (to, low) = match to {
            NodeMove::Back | NodeMove::Preempted => {
                let was_low = pool.nodes.remove(node).is_some_and(|seat| seat.low);
                if *to == NodeMove::Preempted && was_low && pool.deleting.is_none() {
                    pool.preempted.insert(*node, at);
                }
                continue;
            }
            NodeMove::LentLow => (NodeMove::Lent, true),
            NodeMove::Leaving => (NodeMove::Leaving, before.is_some_and(|seat| seat.low)),
            NodeMove::Claimed | NodeMove::Lent => (*to, false),
        };
        let retained_until = before.and_then(|seat| seat.retained_until);
        let start = chore::seated(pool, to, before, at);
        let setup = setup::seated(pool, &account.applications, to, before, number, at);
        pool.preempted.remove(node);
        pool.nodes
            .insert(*node, Seat { at: to, since: at, enabled: true, low, retained_until, setup, start });
    }
    pool.forget_preempted();
    let has_left = |to: &NodeMove| matches!(to, NodeMove::Back | NodeMove::Preempted);
    for (node, to) in moves {
        match has_left(to) {
            true => drop(state.batch.holders.remove(node)),
            false => {
                state.batch.holders.insert(*node, key.clone());
                state.batch.taken_back.remove(node);
            }
        }
        if let (NodeMove::Preempted, Some(by)) = (to, needed_by) {
            low::taken_back(state, *node, by);
        }
    }
    for (node, to) in moves {
        if has_left(to) {
            chore::forget_node(state, *node, true);
            if let Some(node) = state.nodes.get_mut(node.0 as usize) {
                power::used(node, at);
            }
        }
        chore::refresh(state, &ChoreKey::start(key, *node));
        chore::node_changed(state, *node);
        chore::refresh_ready(state, *node);
    }
    pool_moved(state, key);
    // Others may have waited for what has come back.
    let batch = &state.batch;
    let others: Vec<BatchPoolKey> = batch.resizing.union(&batch.scavengers).cloned().collect();
    others.iter().for_each(|key| refresh_pool(state, key));
}

/// A node of a pool changes its place, or leaves it: what the pool has had of it is added up.
fn meter(state: &mut State, key: &BatchPoolKey, node: NodeId, at: Timestamp) {
    let seat = state.batch.pool(key).and_then(|pool| pool.nodes.get(&node)).cloned();
    if let Some(seat) = seat {
        let cores = state.node(node).cores;
        stats::seat_ended(&mut state.batch, key, &seat, cores, at);
    }
}

/// A pool, or what it has, changed: so does what the planner knows of it, and what its jobs may do.
pub(super) fn pool_moved(state: &mut State, key: &BatchPoolKey) {
    let declared = Arc::clone(state.declared_config());
    if state.batch.pools().next().is_none() {
        state.config = declared;
        state.batch.declared = None;
    } else {
        state.config = Arc::new(with_pools(&declared, state.batch.pools(), state));
        state.batch.declared = Some(declared);
    }
    state.derived = Default::default();
    refresh_pool(state, key);
    jobs_of_pool_changed(state, key);
}

/// What the jobs of a pool may do changed.
pub(super) fn jobs_of_pool_changed(state: &mut State, key: &BatchPoolKey) {
    let jobs: Vec<BatchJobKey> = state.batch_jobs_of(key).map(|(job, _)| job).collect();
    jobs.iter().for_each(|job| refresh_job(state, job));
}

pub(super) fn refresh_pool(state: &mut State, key: &BatchPoolKey) {
    low::refresh(state, key);
    retained::refresh(state, key);
    let pool = state.batch.pool(key);
    let is_due = pool.is_some_and(|pool| work(state, pool).is_some());
    let is_moving = pool.is_some_and(|pool| {
        pool.deleting.is_some()
            || pool.allocation != PoolAllocation::Steady
            || pool.nodes.values().any(|seat| seat.at != NodeMove::Lent)
    });
    set(&mut state.batch.pools_due, key, is_due);
    set(&mut state.batch.resizing, key, is_moving);
}

/// Whether something of the batch service follows what happens to nodes.
pub(in crate::state) fn follows_nodes(state: &State) -> bool {
    low::follows_nodes(state) || waits_for_nodes(state)
}

fn waits_for_nodes(state: &State) -> bool {
    let batch = &state.batch;
    !(batch.resizing.is_empty() && batch.preparing.is_empty() && batch.chores_open.is_empty())
}

/// Something happened to nodes that pools may wait for.
pub(in crate::state) fn node_changed(state: &mut State, event: &Event) {
    low::happened(state, event);
    if !waits_for_nodes(state) {
        return;
    }
    let is_of_interest = matches!(
        event,
        Event::InstanceGone { .. }
            | Event::InstanceLost { .. }
            | Event::NodeUp { .. }
            | Event::StaleGone { .. }
            | Event::NodeLost { .. }
            | Event::NodeHeld { .. }
            | Event::NodeReleased { .. }
            | Event::NodeHealth { .. }
            | Event::NodePower { .. }
            | Event::ReservationMade { .. }
            | Event::ReservationRemoved { .. }
            | Event::ReservationEnded { .. }
            | Event::AttemptPlaced { .. }
            | Event::AttemptReturned { .. }
    );
    if is_of_interest {
        let keys: Vec<BatchPoolKey> = state.batch.resizing.iter().cloned().collect();
        keys.iter().for_each(|key| refresh_pool(state, key));
        let keys: Vec<BatchJobKey> = state.batch.preparing.iter().cloned().collect();
        keys.iter().for_each(|key| refresh_job(state, key));
    }
    if let Event::NodeUp { node, .. }
    | Event::NodeLost { node, .. }
    | Event::NodeHeld { node, .. }
    | Event::NodeReleased { node }
    | Event::NodeHealth { node, .. } = event
    {
        chore::node_changed(state, *node);
    }
}

/// Another configuration is in force. Nodes that it no longer lends are gone from their pools.
pub(in crate::state) fn configured(state: &mut State, config: &Arc<ClusterConfig>, at: Timestamp) {
    if state.batch.is_empty() {
        return;
    }
    state.batch.declared = Some(Arc::clone(config));
    let keys: Vec<BatchPoolKey> = state.batch.pools().map(|(key, _)| key).collect();
    for key in &keys {
        let Some(pool) = state.batch.pool(key) else { continue };
        let home = config.pools.iter().find(|home| home.name == pool.spec.home);
        let has = |node: &NodeId| {
            let name = &state.node(*node).name;
            state.node(*node).declared && home.is_some_and(|home| home.nodes.contains(name))
        };
        let lost: Vec<NodeId> = pool.preempted.keys().filter(|node| !has(node)).copied().collect();
        let gone: Vec<NodeId> = pool.nodes.keys().filter(|node| !has(node)).copied().collect();
        for node in &gone {
            meter(state, key, *node, at);
        }
        if let Some(pool) = state.batch.pool_mut(key) {
            pool.nodes.retain(|node, _| !gone.contains(node));
            pool.preempted.retain(|node, _| !lost.contains(node));
        }
        for node in gone {
            state.batch.holders.remove(&node);
            chore::forget_node(state, node, true);
            chore::refresh(state, &ChoreKey::start(key, node));
        }
    }
    for key in &keys {
        pool_moved(state, key);
    }
}
