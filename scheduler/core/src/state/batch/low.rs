//! Low-priority nodes: idle ones that a pool has until others need them.
//!
//! A pool takes nodes for this that are empty and that nobody else holds, whenever it has fewer than it wants. They go back when a
//! job of a configured pool could start with them and not without ([`crate::plan`]), and when a pool of the batch service
//! wants them as nodes of its own ([`super::pool::work`]).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::happen::set;
use super::moves::refresh_pool;
use super::pool::{BatchPool, PoolAllocation, Seat};
use crate::batch::{BatchPoolKey, NodeMove};
use crate::event::Event;
use crate::ids::{JobId, NodeId, Timestamp};
use crate::state::State;

impl BatchPool {
    /// All nodes that clients see: those that it has or that are on their way, and those that others have taken back.
    pub fn seats(&self) -> impl Iterator<Item = (NodeId, Cow<'_, Seat>)> {
        let gone = |since: Timestamp| Seat {
            at: NodeMove::Preempted,
            since,
            enabled: true,
            low: true,
            retained_until: None,
            setup: None,
            start: None,
        };
        let gone = self.preempted.iter().map(move |(node, since)| (*node, Cow::Owned(gone(*since))));
        self.nodes.iter().map(|(node, seat)| (*node, Cow::Borrowed(seat))).chain(gone)
    }

    /// How many nodes it has that others may take back.
    #[must_use]
    pub fn low(&self) -> u32 {
        self.nodes.values().filter(|seat| seat.low && seat.at == NodeMove::Lent).count() as u32
    }

    /// Whether it wants more of them than it has.
    pub(super) fn scavenges(&self) -> bool {
        self.deleting.is_none() && self.low() < self.wanted_low
    }

    /// Of how many nodes that were taken back it wants others: those that a resize is about to remove do not count.
    fn preempted_most(&self) -> usize {
        let goes = |node: &NodeId| match &self.allocation {
            PoolAllocation::Resizing { remove, .. } => remove.contains(node),
            PoolAllocation::Steady => false,
        };
        let stays = |(node, seat): &(&NodeId, &Seat)| seat.low && seat.at == NodeMove::Lent && !goes(node);
        (self.wanted_low as usize).saturating_sub(self.nodes.iter().filter(stays).count())
    }

    /// Forgets nodes that were taken back and are not wanted any more, those that were taken first.
    pub(super) fn forget_preempted(&mut self) {
        let most = self.preempted_most();
        while self.preempted.len() > most {
            let oldest = self.preempted.iter().min_by_key(|(node, since)| (**since, **node));
            let Some(oldest) = oldest.map(|(node, _)| *node) else { return };
            self.preempted.remove(&oldest);
        }
    }
}

/// Idle nodes that a pool takes, those first that it has had before, but for those that are kept out. One that is taken down
/// when nobody wants it is nobody's leftover.
pub(super) fn scavenged(
    state: &State,
    pool: &BatchPool,
    kept_out: &BTreeSet<NodeId>,
) -> Vec<(NodeId, NodeMove)> {
    let lacking = if pool.scavenges() { pool.wanted_low - pool.low() } else { 0 };
    if lacking == 0 {
        return Vec::new();
    }
    let is_idle = |node: &NodeId| {
        let it = state.node(*node);
        it.attempts.is_empty()
            && it.elastic.is_none()
            && !state.batch.taken_back.contains_key(node)
            && !kept_out.contains(node)
    };
    let mut idle: Vec<NodeId> = super::pool::candidates(state, pool).filter(is_idle).collect();
    idle.sort_by_key(|node| !pool.preempted.contains_key(node));
    idle.into_iter().take(lacking as usize).map(|node| (node, NodeMove::LentLow)).collect()
}

/// Nodes of a class that pools have until others need them.
pub(super) fn takeable<'a>(state: &'a State, pool: &BatchPool) -> impl Iterator<Item = NodeId> + 'a {
    let all = state.pool_nodes(&pool.spec.home).into_iter().flat_map(|nodes| nodes.ids.iter().copied());
    all.filter(|node| state.node(*node).takes_work() && state.may_take_back(*node))
}

/// Whether a job of the cluster waits.
fn waits(state: &State, job: JobId) -> bool {
    state.jobs.get(&job).is_some_and(|job| !job.waiting.is_empty())
}

/// Whether anything of it depends on what happens to nodes.
pub(super) fn follows_nodes(state: &State) -> bool {
    !(state.batch.scavengers.is_empty() && state.batch.taken_back.is_empty())
}

/// Something happened by which nodes may have become idle, or needed.
pub(super) fn happened(state: &mut State, event: &Event) {
    if !follows_nodes(state) {
        return;
    }
    let before = state.batch.taken_back.len();
    let kept: Vec<NodeId> = {
        let entries = state.batch.taken_back.iter();
        entries.filter(|(_, job)| waits(state, **job)).map(|(node, _)| *node).collect()
    };
    state.batch.taken_back.retain(|node, _| kept.contains(node));
    let concerns_all = kept.len() < before
        || matches!(
            event,
            Event::ReservationMade { .. } | Event::ReservationRemoved { .. } | Event::ReservationEnded { .. }
        );
    // What is to take nodes may have lost them to others; what is not may only have got more to choose from.
    let (is_of_interest, may_be_idle) = concern(state, event);
    let concerned = |key: &&BatchPoolKey| {
        concerns_all || may_be_idle || is_of_interest && state.batch.pools_due.contains(key)
    };
    let keys: Vec<BatchPoolKey> = state.batch.scavengers.iter().filter(concerned).cloned().collect();
    keys.iter().for_each(|key| refresh_pool(state, key));
}

/// Whether an event is about nodes that a pool might take, and whether one may have become idle by it.
fn concern(state: &State, event: &Event) -> (bool, bool) {
    let is_idle = |node: NodeId| {
        let it = state.node(node);
        it.attempts.is_empty() && it.takes_work() && state.batch.holder(node).is_none()
    };
    match event {
        Event::InstanceGone { key, instance, .. } | Event::InstanceLost { key, instance } => {
            let live = state.live_attempt(key.task);
            let share = live.and_then(|live| live.allocation.shares.get(*instance as usize));
            (true, share.is_none_or(|share| is_idle(share.node)))
        }
        Event::AttemptPlaced { .. } => (true, false),
        Event::AttemptReturned { .. } => (true, true),
        Event::NodeUp { node, .. }
        | Event::StaleGone { node, .. }
        | Event::NodeLost { node, .. }
        | Event::NodeHeld { node, .. }
        | Event::NodeReleased { node }
        | Event::NodeHealth { node, .. } => (true, is_idle(*node)),
        _ => (false, false),
    }
}

/// Puts a pool among those that want more low-priority nodes, or takes it out.
pub(super) fn refresh(state: &mut State, key: &BatchPoolKey) {
    let scavenges = state.batch.pool(key).is_some_and(BatchPool::scavenges);
    set(&mut state.batch.scavengers, key, scavenges);
}

/// A node was taken back for a job that waits.
pub(super) fn taken_back(state: &mut State, node: NodeId, by: JobId) {
    if waits(state, by) {
        state.batch.taken_back.insert(node, by);
    }
}

/// Whether what is known of nodes that were taken back follows from the rest.
pub(super) fn is_sound(state: &State) -> bool {
    let pools = state.batch.pools().filter(|(_, pool)| pool.scavenges()).map(|(key, _)| key);
    let kept = |pool: &BatchPool| {
        pool.preempted.keys().all(|node| !pool.nodes.contains_key(node))
            && pool.preempted.len() <= pool.preempted_most()
    };
    let (ids, nodes) = ((0..).map(NodeId), &state.nodes);
    pools.eq(state.batch.scavengers.iter().cloned())
        && state.batch.pools().all(|(_, pool)| kept(pool))
        && state
            .batch
            .taken_back
            .iter()
            .all(|(node, job)| state.batch.holder(*node).is_none() && waits(state, *job))
        && ids.zip(nodes).all(|(id, node)| node.low_priority == state.is_low_priority(id))
}

impl State {
    /// Whether a pool of the batch service has a node that others may take back.
    #[must_use]
    pub(super) fn is_low_priority(&self, node: NodeId) -> bool {
        let pool = self.batch.holders.get(&node).and_then(|key| self.batch.pool(key));
        pool.and_then(|pool| pool.nodes.get(&node)).is_some_and(|seat| seat.low)
    }

    /// Whether a node is lent until others need it, and not on its way back yet.
    #[must_use]
    pub(crate) fn may_take_back(&self, node: NodeId) -> bool {
        let pool = self.batch.holders.get(&node).and_then(|key| self.batch.pool(key));
        pool.and_then(|pool| pool.nodes.get(&node)).is_some_and(|seat| seat.low && seat.at == NodeMove::Lent)
    }

    /// Whether nodes were taken back for a job that waits; for any, without one.
    #[must_use]
    pub(crate) fn was_given_back(&self, job: Option<JobId>) -> bool {
        match job {
            None => !self.batch.taken_back.is_empty(),
            Some(job) => self.batch.taken_back.values().any(|of| *of == job),
        }
    }

    /// Whether the manager task of a job of the batch service runs on a node.
    pub(super) fn runs_batch_manager(&self, node: NodeId) -> bool {
        let is_manager = |job: JobId| {
            let key = self.batch.made.get(&job)?;
            Some(self.batch.job(&key.job_key())?.is_manager(&key.task))
        };
        self.node(node).attempts.iter().any(|key| is_manager(key.task.job) == Some(true))
    }
}
