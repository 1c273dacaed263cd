//! A pool of the batch service, and the nodes that are lent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore::ChoreRun;
use super::scale::Scale;
use super::setup::SetupRun;
use crate::batch::{BatchPoolKey, BatchPoolSpec, Deallocation, NodeMove, ResizeError};
use crate::cluster::{ClusterConfig, Order, PoolConfig, Preempt};
use crate::ids::{NodeId, Timestamp};
use crate::spec::User;
use crate::state::State;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPool {
    /// What is said of it.
    pub spec: Arc<BatchPoolSpec>,
    /// Who made it.
    pub by: User,
    /// When it was made.
    pub created: Timestamp,
    /// When what is said of it changed last.
    pub modified: Timestamp,
    /// Changes with it.
    pub version: u64,
    /// Since when it gives its nodes back and is gone then, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Timestamp>,
    /// How many nodes it is to have.
    pub target: u32,
    /// Whether it is on its way to that.
    pub allocation: PoolAllocation,
    /// Since when.
    pub allocation_since: Timestamp,
    /// What a resize was given, and is given by default, to come to its end, in seconds.
    pub timeout_s: u64,
    /// The nodes that it has, and those on their way.
    pub nodes: BTreeMap<NodeId, Seat>,
    /// Why it has not what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ResizeError>,
    /// By what it finds out itself how many nodes it is to have, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}

/// Whether a pool is on its way to another number of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolAllocation {
    /// It is not.
    Steady,
    /// It is.
    Resizing {
        /// When it gives up.
        until: Timestamp,
        /// What becomes of what runs on nodes that leave.
        how: Deallocation,
        /// Nodes that are among those that leave.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        remove: BTreeSet<NodeId>,
    },
}

/// A node of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Where it is on its way: never `Back`.
    pub at: NodeMove,
    /// Since when.
    pub since: Timestamp,
    /// Whether tasks may be placed on it.
    pub enabled: bool,
    /// What the node has because of the pool, if the pool wanted anything when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<SetupRun>,
    /// The pool's start task on it, if the pool has one since it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ChoreRun>,
}

impl Seat {
    /// Whether work of the pool is placed on it: what makes it ready for tasks, and tasks once it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.at == NodeMove::Lent && self.enabled
    }
}

/// What a pool has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolWork {
    /// Nodes move.
    Move(Vec<(NodeId, NodeMove)>),
    /// It has what was asked for.
    Steady,
    /// Its last node is gone.
    Gone,
}

impl BatchPool {
    /// How many nodes it has.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.nodes.values().filter(|seat| seat.at == NodeMove::Lent).count() as u32
    }

    /// How many tasks of one slot may run in it at once.
    #[must_use]
    pub fn slots(&self) -> u64 {
        let nodes = self.nodes.values().filter(|seat| self.takes_work(seat)).count() as u64;
        nodes * u64::from(self.spec.slots_per_node)
    }

    /// How many slots all its nodes have.
    pub(super) fn all_slots(&self) -> u64 {
        self.nodes.len() as u64 * u64::from(self.spec.slots_per_node)
    }

    /// Whether it can ever hold tasks of so many slots on so many nodes, as it is now.
    #[must_use]
    pub fn holds(&self, slots: u32, instances: u32) -> bool {
        let is_gang = instances > 1;
        slots <= self.spec.slots_per_node
            && (!is_gang
                || (self.spec.inter_node && self.spec.slots_per_node == 1 && instances <= self.lent()))
    }

    /// The same pool as the planner knows it.
    pub(super) fn config(&self, key: &BatchPoolKey, home: &PoolConfig, state: &State) -> PoolConfig {
        let nodes = self.nodes.keys().map(|node| state.node(*node).name.clone()).collect();
        PoolConfig {
            name: key.pool_name(),
            nodes,
            default: false,
            time_default_s: crate::batch::TASK_LIFE_MAX_S,
            time_max_s: crate::batch::TASK_LIFE_MAX_S,
            fill: self.spec.fill,
            order: Order::Fcfs,
            preempt: Preempt::Off,
            ..home.clone()
        }
    }
}

/// A configuration with the pools of the batch service beside its own.
pub(super) fn with_pools<'a>(
    declared: &ClusterConfig,
    pools: impl Iterator<Item = (BatchPoolKey, &'a BatchPool)>,
    state: &State,
) -> ClusterConfig {
    let mut config = declared.clone();
    for (key, pool) in pools {
        if let Some(home) = declared.pools.iter().find(|home| home.name == pool.spec.home) {
            config.pools.push(pool.config(&key, home, state));
        }
    }
    config
}

/// What a pool has to do next, unless it waits for time to pass or for something else to happen.
pub(super) fn work(state: &State, pool: &BatchPool) -> Option<PoolWork> {
    let is_empty = |node: &NodeId| state.node(*node).attempts.is_empty();
    let mut moves: Vec<(NodeId, NodeMove)> = Vec::new();
    for (node, seat) in &pool.nodes {
        match seat.at {
            NodeMove::Leaving if is_empty(node) => moves.push((*node, NodeMove::Back)),
            NodeMove::Claimed if pool.deleting.is_some() => moves.push((*node, NodeMove::Back)),
            NodeMove::Claimed if is_empty(node) && state.node(*node).takes_work() => {
                moves.push((*node, NodeMove::Lent));
            }
            NodeMove::Lent if pool.deleting.is_some() => moves.push((*node, NodeMove::Leaving)),
            _ => {}
        }
    }
    if !moves.is_empty() {
        return Some(PoolWork::Move(moves));
    }
    if pool.deleting.is_some() {
        return pool.nodes.is_empty().then_some(PoolWork::Gone);
    }
    let PoolAllocation::Resizing { remove, .. } = &pool.allocation else { return None };
    let moves = towards(state, pool, remove);
    if !moves.is_empty() {
        return Some(PoolWork::Move(moves));
    }
    let is_settled = pool.nodes.values().all(|seat| seat.at == NodeMove::Lent);
    (is_settled && pool.lent() == pool.target).then_some(PoolWork::Steady)
}

/// The next steps to the number of nodes that was asked for: those that were named leave, then those with the least on them;
/// those come that are empty, then those that will be first.
fn towards(state: &State, pool: &BatchPool, remove: &BTreeSet<NodeId>) -> Vec<(NodeId, NodeMove)> {
    let held = |node: NodeId| {
        let node = state.node(node);
        node.cores.saturating_sub(node.free.len())
    };
    let mut moves: Vec<(NodeId, NodeMove)> = Vec::new();
    let at = |node: &NodeId| pool.nodes.get(node).map(|seat| seat.at);
    moves.extend(
        remove.iter().filter(|node| at(node) == Some(NodeMove::Lent)).map(|n| (*n, NodeMove::Leaving)),
    );
    let stays = |seat: &Seat| matches!(seat.at, NodeMove::Lent | NodeMove::Claimed);
    let have = pool.nodes.values().filter(|seat| stays(seat)).count() - moves.len();
    let target = pool.target as usize;
    if have > target {
        let named: BTreeSet<NodeId> = moves.iter().map(|(node, _)| *node).collect();
        let mut others: Vec<(bool, u32, NodeId)> = pool
            .nodes
            .iter()
            .filter(|(node, seat)| stays(seat) && !named.contains(node))
            .map(|(node, seat)| (seat.at == NodeMove::Lent, held(*node), *node))
            .collect();
        others.sort_unstable();
        let leave = |(is_lent, _, node): (bool, u32, NodeId)| match is_lent {
            true => (node, NodeMove::Leaving),
            false => (node, NodeMove::Back),
        };
        moves.extend(others.into_iter().take(have - target).map(leave));
    } else if have < target {
        let mut free: Vec<(u32, NodeId)> = candidates(state, pool)
            .filter(|node| !remove.contains(node))
            .map(|node| (held(node), node))
            .collect();
        free.sort_unstable();
        let come = |(held, node): (u32, NodeId)| match held {
            0 if state.node(node).attempts.is_empty() => (node, NodeMove::Lent),
            _ => (node, NodeMove::Claimed),
        };
        moves.extend(free.into_iter().take(target - have).map(come));
    }
    moves
}

/// The nodes that could be lent to a pool.
pub(super) fn candidates<'a>(state: &'a State, pool: &BatchPool) -> impl Iterator<Item = NodeId> + 'a {
    let all = state.pool_nodes(&pool.spec.home).into_iter().flat_map(|nodes| nodes.ids.iter().copied());
    all.filter(|node| {
        let is_reserved = || state.reservations().any(|reserved| reserved.reservation.keeps(*node));
        state.batch.holder(*node).is_none() && state.node(*node).takes_work() && !is_reserved()
    })
}
