//! Until when what tasks have left is kept on nodes, for those that leave their pools once it is not.

use super::moves::refresh_pool;
use super::pool::{BatchPool, PoolAllocation, Seat};
use crate::batch::{BatchPoolKey, BatchTaskKey, Deallocation, NodeMove};
use crate::ids::{NodeId, Timestamp};
use crate::state::State;

impl BatchPool {
    /// Whether nodes that leave wait for the end of what tasks have left on them.
    fn keeps_data(&self) -> bool {
        let PoolAllocation::Resizing { how, .. } = &self.allocation else { return false };
        *how == Deallocation::RetainedData && self.deleting.is_none()
    }

    /// Whether a node that leaves has to stay because of what tasks have left on it.
    pub(super) fn is_retained(&self, seat: &Seat) -> bool {
        self.keeps_data() && seat.retained_until.is_some()
    }

    /// When the first of those that leave may go.
    pub(super) fn retained_until(&self) -> Option<Timestamp> {
        let waits = |seat: &&Seat| seat.at == NodeMove::Leaving && self.keeps_data();
        self.nodes.values().filter(waits).filter_map(|seat| seat.retained_until).min()
    }
}

/// A task has completed: what it has left on its nodes is kept for a while.
pub(super) fn completed(state: &mut State, key: &BatchTaskKey, at: Timestamp) {
    let job_key = key.job_key();
    let Some(job) = state.batch.job(&job_key) else { return };
    let Some(task) = job.tasks.get(&key.task) else { return };
    let until = at.plus_seconds(job.shape(task).staging.retention_s);
    let nodes: Vec<NodeId> = task.completed().map(|completed| completed.nodes.clone()).unwrap_or_default();
    let pool_key = BatchPoolKey { account: job_key.account, pool: job.spec.pool.clone() };
    let Some(pool) = state.batch.pool_mut(&pool_key) else { return };
    for node in nodes {
        if let Some(seat) = pool.nodes.get_mut(&node) {
            seat.retained_until = seat.retained_until.max(Some(until));
        }
    }
    if state.batch.pool(&pool_key).is_some_and(BatchPool::keeps_data) {
        refresh_pool(state, &pool_key);
    }
}

/// Nothing of tasks is kept on nodes any more.
pub(super) fn lapsed(state: &mut State, key: &BatchPoolKey, nodes: &[NodeId], at: Timestamp) {
    let Some(pool) = state.batch.pool_mut(key) else { return };
    for node in nodes {
        if let Some(seat) = pool.nodes.get_mut(node) {
            seat.retained_until = seat.retained_until.filter(|until| *until > at);
        }
    }
    refresh_pool(state, key);
}

/// Says anew when nodes of a pool may go.
pub(super) fn refresh(state: &mut State, key: &BatchPoolKey) {
    let until = state.batch.pool(key).and_then(BatchPool::retained_until);
    // There are few at any time.
    state.batch.retained.retain(|(_, other)| other != key);
    state.batch.retained.extend(until.map(|until| (until, key.clone())));
}

impl State {
    /// Pools with nodes that leave and may go now, as far as what tasks have left there is concerned, and which.
    pub fn batch_retention_lapsed(&self, now: Timestamp) -> Vec<(&BatchPoolKey, Vec<NodeId>)> {
        let due = self.batch.retained.iter().take_while(|(at, _)| *at <= now);
        let with_nodes = due.filter_map(|(_, key)| {
            let is_over = |seat: &Seat| seat.retained_until.is_some_and(|until| until <= now);
            let nodes = self.batch.pool(key)?.nodes.iter().filter(|(_, seat)| is_over(seat));
            Some((key, nodes.map(|(node, _)| *node).collect()))
        });
        with_nodes.collect()
    }
}
