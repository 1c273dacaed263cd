//! A pool of the batch service, and the nodes that are lent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore::ChoreRun;
use super::low;
use super::scale::Scale;
use super::setup::SetupRun;
use super::used::Used;
use crate::batch::{BatchPoolKey, BatchPoolSpec, Deallocation, NodeMove, ResizeError};
use crate::cluster::{ClusterConfig, Order, PoolConfig, Preempt};
use crate::ids::{NodeId, Timestamp};
use crate::spec::User;
use crate::state::{Node, Power, State};

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
    /// How many it is to have beside them that others may take back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_low: u32,
    /// How many of those it looks for whenever nodes are idle: as many as it is to have, unless a user has stopped it before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wanted_low: u32,
    /// Nodes that others have taken back and for which it has no other yet, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preempted: BTreeMap<NodeId, Timestamp>,
    /// How long it has had how many cores of nodes that have left again and that nobody takes back, together, in milliseconds.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) core_ms: u64,
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
    /// What its nodes use, once it was heard of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Box<Used>>,
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
    /// Where it is on its way: `Claimed`, `Lent` or `Leaving`.
    pub at: NodeMove,
    /// Since when.
    pub since: Timestamp,
    /// Whether tasks may be placed on it.
    pub enabled: bool,
    /// Whether others may take it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low: bool,
    /// Until when what tasks have left there is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_until: Option<Timestamp>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
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

    /// How many of them nobody takes back.
    #[must_use]
    pub fn dedicated(&self) -> u32 {
        self.lent() - self.low()
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
            by_rank: true,
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
            NodeMove::Leaving if is_empty(node) && !pool.is_retained(seat) => {
                moves.push((*node, NodeMove::Back))
            }
            NodeMove::Claimed if state.node(*node).power.as_ref().is_some_and(Power::has_failed) => {
                moves.push((*node, NodeMove::Back));
            }
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
    let mut kept_out: BTreeSet<NodeId> = BTreeSet::new();
    if let PoolAllocation::Resizing { remove, .. } = &pool.allocation {
        let named = |node: &&NodeId| pool.nodes.get(node).is_some_and(|seat| seat.at == NodeMove::Lent);
        moves.extend(remove.iter().filter(named).map(|node| (*node, NodeMove::Leaving)));
        moves.extend(leaving(state, pool, remove, true, pool.target_low as usize));
        moves.extend(leaving(state, pool, remove, false, pool.target as usize));
        // What leaves does not come in the same step.
        kept_out.extend(moves.iter().map(|(node, _)| *node));
        moves.extend(coming(state, pool, remove).filter(|(node, _)| !kept_out.contains(node)));
        kept_out.extend(remove.iter().chain(moves.iter().map(|(node, _)| node)).copied());
    }
    moves.extend(low::scavenged(state, pool, &kept_out));
    if !moves.is_empty() {
        return Some(PoolWork::Move(moves));
    }
    if pool.allocation == PoolAllocation::Steady {
        return None;
    }
    let is_settled = pool.nodes.values().all(|seat| seat.at == NodeMove::Lent);
    let has_all = pool.dedicated() == pool.target && pool.low() == pool.target_low;
    (is_settled && has_all).then_some(PoolWork::Steady)
}

fn held(state: &State, node: NodeId) -> u32 {
    let node = state.node(node);
    node.cores.saturating_sub(node.free.len())
}

/// The nodes of a kind that leave because there are more than were asked for, beside those that were named: those that have not
/// come yet, then those with the least on them, the managers' at last.
fn leaving(
    state: &State,
    pool: &BatchPool,
    remove: &BTreeSet<NodeId>,
    low: bool,
    target: usize,
) -> Vec<(NodeId, NodeMove)> {
    let stays = |(node, seat): &(&NodeId, &Seat)| {
        seat.low == low && matches!(seat.at, NodeMove::Lent | NodeMove::Claimed) && !remove.contains(node)
    };
    let mut all: Vec<(bool, bool, u32, NodeId)> = pool
        .nodes
        .iter()
        .filter(stays)
        .map(|(node, seat)| {
            (seat.at == NodeMove::Lent, state.runs_batch_manager(*node), held(state, *node), *node)
        })
        .collect();
    all.sort_unstable();
    let more = all.len().saturating_sub(target);
    let leave = |(is_lent, _, _, node): (bool, bool, u32, NodeId)| match is_lent {
        true => (node, NodeMove::Leaving),
        false => (node, NodeMove::Back),
    };
    all.into_iter().take(more).map(leave).collect()
}

/// How soon a node can be lent, the soonest first: what runs on one may take longer than to bring another up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    Empty,
    /// A pool has it until others need it.
    EmptyLow,
    BusyLow,
    Off,
    Busy,
}

impl Readiness {
    fn of(node: &Node, low: bool) -> Self {
        match (node.takes_work(), node.attempts.is_empty(), low) {
            (false, ..) => Self::Off,
            (true, true, false) => Self::Empty,
            (true, true, true) => Self::EmptyLow,
            (true, false, true) => Self::BusyLow,
            (true, false, false) => Self::Busy,
        }
    }
}

/// The nodes that come because there are fewer than were asked for and that nobody takes back: those that are ready first.
fn coming<'a>(
    state: &'a State,
    pool: &BatchPool,
    remove: &BTreeSet<NodeId>,
) -> impl Iterator<Item = (NodeId, NodeMove)> + use<'a> {
    let stays = |seat: &Seat| !seat.low && matches!(seat.at, NodeMove::Lent | NodeMove::Claimed);
    let have = pool.nodes.iter().filter(|(node, seat)| stays(seat) && !remove.contains(node)).count();
    let lacking = (pool.target as usize).saturating_sub(have);
    let mut free: Vec<(Readiness, u32, NodeId)> = Vec::new();
    if lacking > 0 {
        let of = |low| move |node| (Readiness::of(state.node(node), low), held(state, node), node);
        free.extend(candidates(state, pool).filter(|node| !remove.contains(node)).map(of(false)));
        free.extend(low::takeable(state, pool).filter(|node| !remove.contains(node)).map(of(true)));
        free.sort_unstable();
    }
    let come = |(readiness, _, node): (Readiness, u32, NodeId)| match readiness {
        Readiness::Empty | Readiness::EmptyLow => (node, NodeMove::Lent),
        Readiness::BusyLow | Readiness::Off | Readiness::Busy => (node, NodeMove::Claimed),
    };
    free.into_iter().take(lacking).map(come)
}

/// The nodes that could be lent to a pool.
pub(super) fn candidates<'a>(state: &'a State, pool: &BatchPool) -> impl Iterator<Item = NodeId> + 'a {
    let all = state.pool_nodes(&pool.spec.home).into_iter().flat_map(|nodes| nodes.ids.iter().copied());
    all.filter(|node| {
        let is_reserved = || state.reservations().any(|reserved| reserved.reservation.keeps(*node));
        let comes = state.node(*node).takes_work() || state.node(*node).may_come();
        state.batch.holder(*node).is_none() && comes && !is_reserved()
    })
}

impl State {
    /// Cores and memory that every declared node of a configured pool has.
    #[must_use]
    pub(crate) fn smallest_node(&self, home: &str) -> Option<(u32, u64)> {
        let kinds = self.pool_nodes(home).map(|nodes| nodes.kinds.as_slice()).unwrap_or_default();
        let nodes = || kinds.iter().map(|kind| self.node(kind.node));
        Some((nodes().map(|node| node.cores).min()?, nodes().map(|node| node.memory_bytes).min()?))
    }
}
