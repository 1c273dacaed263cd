//! Low-priority nodes are taken back.

use super::{chore, end, event};
use crate::batch::{BatchEvent, BatchPoolKey, EndWish, NodeMove};
use crate::event::Event;
use crate::ids::{JobId, NodeId, Timestamp};
use crate::state::State;

/// Takes a node back for a pool of the batch service that wants it as a node of its own, if another one has it until others need it.
pub(super) fn take_back(state: &State, node: NodeId, by: &BatchPoolKey, now: Timestamp) -> Vec<Event> {
    match state.batch_holder(node) {
        // Its own nodes that come nearer.
        Some(holder) if holder == by && !state.may_take_back(node) => Vec::new(),
        Some(_) => preempt(state, node, None, now),
        None => Vec::new(),
    }
}

/// Takes nodes back for jobs of the cluster that can start with them.
pub(in crate::engine) fn taken_back(state: &State, nodes: &[(NodeId, JobId)], now: Timestamp) -> Vec<Event> {
    nodes.iter().flat_map(|(node, job)| preempt(state, *node, Some(*job), now)).collect()
}

/// A node leaves its pool. What runs there waits again, which counts as nothing: no user has asked for it.
fn preempt(state: &State, node: NodeId, needed_by: Option<JobId>, now: Timestamp) -> Vec<Event> {
    let Some(holder) = state.batch_holder(node).filter(|_| state.may_take_back(node)) else {
        return Vec::new();
    };
    let mut events = Vec::new();
    for attempt in &state.node(node).attempts {
        let Some(key) = state.batch_task_of(attempt.task.job) else { continue };
        let Some((_, task)) = state.batch_task(key) else { continue };
        events.extend(end::end(state, key, task, EndWish::Unqueue, EndWish::Unqueue, now));
    }
    events.extend(chore::clear(state, node, now));
    let moves = vec![(node, NodeMove::Preempted)];
    events.push(event(BatchEvent::NodesMoved { pool: holder.clone(), moves, needed_by }));
    events
}
