//! How much of a request a node, or a pool, can hold.

use std::borrow::Cow;

use crate::cluster::PoolConfig;
use crate::event::Share;
use crate::gres::{self, Counts, GresShortage};
use crate::ids::NodeId;
use crate::input::Refusal;
use crate::notation::format_size;
use crate::spec::{Memory, Request};
use crate::state::{Node, State};

/// Counts of what is free on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NodeRoom {
    pub cores: u32,
    pub memory_bytes: u64,
    pub gres: Counts,
}

impl NodeRoom {
    pub fn free(node: &Node) -> Self {
        Self { cores: node.free.len(), memory_bytes: node.free_memory_bytes, gres: Counts::free(&node.gres) }
    }

    pub fn whole(node: &Node) -> Self {
        Self { cores: node.cores, memory_bytes: node.memory_bytes, gres: Counts::whole(&node.gres) }
    }

    pub fn at_most(self, other: Self) -> Self {
        Self {
            cores: self.cores.min(other.cores),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            gres: self.gres.at_most(other.gres),
        }
    }

    /// What a share on `node` holds.
    pub fn of(node: &Node, share: &Share) -> Self {
        let gres = Counts::held(&node.gres, &share.gres);
        Self { cores: share.cores.len(), memory_bytes: share.memory_bytes, gres }
    }

    pub fn take(&mut self, less: Self) {
        self.cores = self.cores.saturating_sub(less.cores);
        self.memory_bytes = self.memory_bytes.saturating_sub(less.memory_bytes);
        self.gres = self.gres.minus(less.gres);
    }

    /// Whether it is at least as much as `other`.
    pub fn holds(self, other: Self) -> bool {
        self.cores >= other.cores && self.memory_bytes >= other.memory_bytes && self.gres.holds(other.gres)
    }

    pub fn add(&mut self, more: Self) {
        self.cores = self.cores.saturating_add(more.cores);
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.gres = self.gres.plus(more.gres);
    }

    /// More room, but never more than `whole`.
    pub fn give(&mut self, more: Self, whole: Self) {
        self.add(more);
        *self = self.at_most(whole);
    }
}

/// The declared nodes of a pool, in the order of their ids.
pub(super) fn pool_nodes<'a>(state: &'a State, pool: &PoolConfig) -> impl Iterator<Item = NodeId> + 'a {
    state.pool_nodes(&pool.name).into_iter().flat_map(|nodes| nodes.ids.iter().copied())
}

/// Memory that each core gets where the job does not say.
fn memory_per_core(whole: NodeRoom, pool: &PoolConfig) -> u64 {
    pool.memory_per_core_bytes.unwrap_or_else(|| whole.memory_bytes / u64::from(whole.cores.max(1)))
}

/// The memory of a share with `ranks` ranks on `node`.
pub(super) fn memory_bytes(node: &Node, pool: &PoolConfig, request: &Request, ranks: u32) -> u64 {
    let cores = u64::from(ranks) * u64::from(request.cores_per_rank);
    match request.memory {
        Memory::WholeNode => node.memory_bytes,
        Memory::PerNodeBytes(bytes) => bytes,
        Memory::PerCoreBytes(bytes) => bytes.saturating_mul(cores),
        Memory::PoolDefault if request.exclusive => node.memory_bytes,
        Memory::PoolDefault => memory_per_core(NodeRoom::whole(node), pool).saturating_mul(cores),
    }
}

/// How many ranks of a request the room on a node holds.
pub(super) fn ranks_that_fit(node: &Node, pool: &PoolConfig, room: NodeRoom, request: &Request) -> u32 {
    if super::suits::suits(node, request) {
        let ranks = ranks_within(NodeRoom::whole(node), pool, room, request);
        if request.has_gres() { ranks.min(gres::ranks(&node.gres, room.gres, request)) } else { ranks }
    } else {
        0
    }
}

/// How many ranks of a request the room on a node of this size holds, if the node suits it otherwise.
pub(super) fn ranks_within(whole: NodeRoom, pool: &PoolConfig, room: NodeRoom, request: &Request) -> u32 {
    if request.exclusive && room.cores < whole.cores {
        return 0;
    }
    let by_cores = room.cores / request.cores_per_rank;
    let per_rank = |per_core: u64| per_core.saturating_mul(u64::from(request.cores_per_rank)).max(1);
    let by_memory = match request.memory {
        Memory::WholeNode if room.memory_bytes == whole.memory_bytes => u64::MAX,
        Memory::PoolDefault if request.exclusive && room.memory_bytes == whole.memory_bytes => u64::MAX,
        Memory::WholeNode => 0,
        Memory::PerNodeBytes(bytes) if bytes <= room.memory_bytes => u64::MAX,
        Memory::PerNodeBytes(_) => 0,
        Memory::PerCoreBytes(bytes) => room.memory_bytes / per_rank(bytes),
        Memory::PoolDefault => room.memory_bytes / per_rank(memory_per_core(whole, pool)),
    };
    let per_node = request.ranks_per_node.unwrap_or(u32::MAX);
    by_cores.min(u32::try_from(by_memory).unwrap_or(u32::MAX)).min(per_node).min(request.ranks)
}

/// What a share of a request with `ranks` ranks holds of the room on a node.
pub(super) fn part_of(
    node: &Node,
    pool: &PoolConfig,
    room: NodeRoom,
    request: &Request,
    ranks: u32,
) -> NodeRoom {
    let cores = if request.exclusive { node.cores } else { ranks * request.cores_per_rank };
    let gres = match request.has_gres() || request.exclusive {
        true => gres::choose(&node.gres, room.gres, request, ranks),
        false => Counts::default(),
    };
    NodeRoom { cores, memory_bytes: memory_bytes(node, pool, request, ranks), gres }
}

/// How many ranks each of `nodes` nodes holds: as equal as possible, the larger shares first.
pub(super) fn split(ranks: u32, nodes: u32) -> (u32, u32) {
    (ranks / nodes, ranks % nodes)
}

/// Refuses what the declared nodes of a pool could never hold, even empty.
///
/// # Errors
/// [`Refusal::TooManyNodes`] or [`Refusal::NeverFits`], with the numbers.
pub fn never_fits(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    let kinds = kinds(state, pool, request);
    let present: u32 = kinds.iter().map(|(_, count)| count).sum();
    let never = |why: String| Err(Refusal::NeverFits { pool: pool.name.clone(), why });
    let asked = request.nodes_min();
    if asked > present {
        return Err(Refusal::TooManyNodes { asked, pool: pool.name.clone(), present });
    }
    let most_cores = kinds.iter().map(|(node, _)| node.cores).max().unwrap_or(0);
    if request.cores_per_rank > most_cores {
        return never(format!(
            "one rank asks for {} cores, the largest node has {most_cores}",
            request.cores_per_rank
        ));
    }
    if request.has_gres()
        && let Some(why) = gres::never(kinds.iter().map(|(node, _)| node.gres.as_slice()), request)
    {
        return never(why);
    }
    let fitting: Vec<(u32, u32)> = kinds
        .iter()
        .map(|(node, count)| (ranks_that_fit(node, pool, NodeRoom::whole(node), request), *count))
        .filter(|(ranks, _)| *ranks > 0)
        .collect();
    let nodes_with = |least: u32| -> u32 {
        fitting.iter().filter(|(ranks, _)| *ranks >= least).map(|(_, count)| count).sum()
    };
    if fitting.is_empty() {
        if request.has_gres() {
            return never(
                "no node has the cores, the memory and the devices of even one rank at once".to_owned(),
            );
        }
        let most = kinds.iter().map(|(node, _)| node.memory_bytes).max().unwrap_or(0);
        return never(format!(
            "no node has the memory of even one rank, the largest has {}",
            format_size(most)
        ));
    }
    match request.nodes {
        Some(count) => {
            let (low, larger) = split(request.ranks, count);
            let high = if larger > 0 { low + 1 } else { low };
            let enough_high = nodes_with(high) >= larger.max(1);
            let enough_low = nodes_with(low) >= count;
            if !enough_high || !enough_low {
                let cores = u64::from(high) * u64::from(request.cores_per_rank);
                let able = nodes_with(high);
                let devices = if request.has_gres() { " and their devices" } else { "" };
                return never(format!(
                    "{count} nodes with {high} ranks of {} cores ({cores} cores){devices} each are asked for, {able} nodes can \
                     hold that; the largest has {most_cores} cores",
                    request.cores_per_rank
                ));
            }
        }
        None => {
            let most: u64 = fitting.iter().map(|(ranks, count)| u64::from(*ranks) * u64::from(*count)).sum();
            if u64::from(request.ranks) > most {
                return never(format!(
                    "{} ranks of {} cores are asked for, all {} nodes together hold {most}",
                    request.ranks, request.cores_per_rank, present
                ));
            }
        }
    }
    Ok(())
}

/// The kinds of a pool's nodes with how many there are of each. A request with lists of names tells nodes apart that
/// are otherwise alike.
fn kinds<'a>(state: &'a State, pool: &PoolConfig, request: &Request) -> Vec<(&'a Node, u32)> {
    let Some(nodes) = state.pool_nodes(&pool.name) else { return Vec::new() };
    if request.nodelist.is_empty() && request.exclude.is_empty() {
        nodes.kinds.iter().map(|kind| (state.node(kind.node), kind.count)).collect()
    } else {
        nodes.ids.iter().map(|id| (state.node(*id), 1)).collect()
    }
}

/// What is short for a request, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Nodes that it needs at least.
    pub nodes_needed: u32,
    /// Nodes of the pool that take work and could hold a part of it when empty.
    pub nodes_usable: u32,
    /// Nodes that could hold a part of it now.
    pub nodes_free: u32,
    /// Nodes of the pool.
    pub nodes_in_pool: u32,
    /// Cores that it needs.
    pub cores_needed: u64,
    /// Cores that are free on the pool's usable nodes.
    pub cores_free: u64,
    /// Devices that it needs, kind by kind.
    pub gres: Vec<GresShortage>,
    /// Whether it would fit at once, were nothing reserved for another job.
    pub fits_now: bool,
}

/// The request for the fewest nodes that will do.
pub(super) fn least(request: &Request) -> Cow<'_, Request> {
    match request.nodes_max {
        Some(_) => Cow::Owned(request.with_nodes(request.nodes_min())),
        None => Cow::Borrowed(request),
    }
}

/// Whether nodes that each hold so many ranks suffice for a request.
pub(super) fn suffices(request: &Request, ranks: impl Iterator<Item = u32>) -> bool {
    let request = &least(request);
    match request.nodes {
        None => ranks.map(u64::from).sum::<u64>() >= u64::from(request.ranks),
        Some(count) => {
            let (low, larger) = split(request.ranks, count);
            let (mut nodes, mut able) = (0, 0);
            for ranks in ranks {
                nodes += u32::from(ranks >= low);
                able += u32::from(ranks > low);
            }
            nodes >= count && able >= larger
        }
    }
}

/// What is short on nodes with so much room.
pub(super) fn shortage(
    state: &State,
    pool: &PoolConfig,
    nodes: impl Iterator<Item = (NodeId, NodeRoom)>,
    request: &Request,
) -> Shortage {
    let part = request.nodes.map_or(1, |count| split(request.ranks, count).0);
    let mut short = Shortage {
        nodes_needed: request.nodes_min(),
        nodes_usable: 0,
        nodes_free: 0,
        nodes_in_pool: pool.nodes.len() as u32,
        cores_needed: request.cores_total(),
        cores_free: 0,
        gres: Vec::new(),
        fits_now: false,
    };
    let mut ranks_free = 0;
    let mut gres = GresShortage::all(request, short.nodes_needed);
    for (id, room) in nodes {
        let node = state.node(id);
        let now = ranks_that_fit(node, pool, room, request);
        short.nodes_usable += u32::from(ranks_that_fit(node, pool, NodeRoom::whole(node), request) >= part);
        short.nodes_free += u32::from(now >= part);
        short.cores_free += u64::from(room.cores);
        ranks_free += u64::from(now);
        for (wish, short) in &mut gres {
            short.count(wish, &node.gres, room.gres);
        }
    }
    short.gres = gres.into_iter().map(|(_, short)| short).collect();
    short.fits_now = short.nodes_free >= short.nodes_needed && ranks_free >= u64::from(request.ranks);
    short
}
