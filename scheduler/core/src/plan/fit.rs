//! How much of a request a node, or a pool, can hold.

use std::borrow::Cow;

pub(super) use super::room::NodeRoom;
use crate::cluster::PoolConfig;
use crate::gres::{self, Counts, GresShortage};
use crate::ids::NodeId;
use crate::input::Refusal;
use crate::notation::{counted, format_size};
use crate::spec::{Memory, Request};
use crate::state::{Node, State};

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
        let usable = usable(node, room, request);
        let ranks = ranks_within(NodeRoom::whole(node), pool, room, usable, request);
        if request.has_gres() { ranks.min(gres::ranks(&node.gres, room.gres, request)) } else { ranks }
    } else {
        0
    }
}

/// How many cores of the room on a node a request may use: those with enough hardware threads.
pub(super) fn usable(node: &Node, room: NodeRoom, request: &Request) -> u32 {
    match request.threads_per_core {
        None => room.cores,
        Some(threads) => node.threads.kind_with(threads).map_or(0, |kind| room.cores_from(kind)),
    }
}

/// How many ranks of a request the room on a node of this size holds, given how many of its cores are usable, if the
/// node suits it otherwise.
pub(super) fn ranks_within(
    whole: NodeRoom,
    pool: &PoolConfig,
    room: NodeRoom,
    usable: u32,
    request: &Request,
) -> u32 {
    if request.exclusive && room.cores < whole.cores {
        return 0;
    }
    let by_cores = usable / request.cores_per_rank;
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
    let gres = match request.has_gres() || request.exclusive {
        true => gres::choose(&node.gres, room.gres, request, ranks),
        false => Counts::default(),
    };
    let memory_bytes = memory_bytes(node, pool, request, ranks);
    if request.exclusive {
        return NodeRoom { memory_bytes, gres, ..NodeRoom::whole(node) };
    }
    let kind = request.threads_per_core.and_then(|threads| node.threads.kind_with(threads)).unwrap_or(0);
    room.part(kind, ranks * request.cores_per_rank, memory_bytes, gres)
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
    let with = request.threads_per_core.filter(|threads| *threads > 1);
    let with = with.map_or(String::new(), |threads| format!(" with {threads} threads"));
    let most_cores =
        kinds.iter().map(|(node, _)| usable(node, NodeRoom::whole(node), request)).max().unwrap_or(0);
    if request.cores_per_rank > most_cores {
        return never(format!(
            "one rank asks for {} cores{with}, the largest node has {most_cores}",
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
                    "it asks for {} with {} of {}{with} on each ({}{devices}); {} can hold that, and the largest has {}",
                    counted(count, "node"),
                    counted(high, "rank"),
                    counted(request.cores_per_rank, "core"),
                    counted(cores, "core"),
                    counted(able, "node"),
                    counted(most_cores, "core")
                ));
            }
        }
        None => {
            let most: u64 = fitting.iter().map(|(ranks, count)| u64::from(*ranks) * u64::from(*count)).sum();
            if u64::from(request.ranks) > most {
                return never(format!(
                    "it asks for {} of {}{with}; all the pool has, {}, can hold {most}",
                    counted(request.ranks, "rank"),
                    counted(request.cores_per_rank, "core"),
                    counted(present, "node")
                ));
            }
        }
    }
    Ok(())
}

/// The kinds of a pool's nodes with how many there are of each. A request with lists of names, or for hardware threads,
/// tells nodes apart that are otherwise alike.
fn kinds<'a>(state: &'a State, pool: &PoolConfig, request: &Request) -> Vec<(&'a Node, u32)> {
    let Some(nodes) = state.pool_nodes(&pool.name) else { return Vec::new() };
    let by_name = !request.nodelist.is_empty() || !request.exclude.is_empty();
    // Agents find threads at any time, which must not make the kinds be found anew.
    if !by_name && request.threads_per_core.is_none() {
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
    /// Where its nodes must follow each other: how many usable ones do at most, and how many that have room now.
    pub adjacent: Option<(u32, u32)>,
    /// Memory, if nodes have the cores for a part of it and not the memory.
    pub memory: Option<MemoryShortage>,
    /// Devices that it needs, kind by kind.
    pub gres: Vec<GresShortage>,
    /// Whether it would fit at once, were nothing reserved for another job.
    pub fits_now: bool,
}

/// Memory that a request lacks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryShortage {
    /// What a part of it needs on one node.
    pub needed_bytes: u64,
    /// The most that is free on one of the nodes that have everything else.
    pub free_bytes: u64,
}

/// The request for the fewest nodes that will do.
pub(super) fn least(request: &Request) -> Cow<'_, Request> {
    match request.nodes_max {
        Some(_) => Cow::Owned(request.with_nodes(request.nodes_min())),
        None => Cow::Borrowed(request),
    }
}

/// Whether nodes that each hold so many ranks suffice for one of the numbers of nodes from the least to the most, over
/// which the same ranks are spread: more nodes may do where fewer do not, because each then holds less.
fn suffices_for_some(request: &Request, most: u32, ranks: impl Iterator<Item = u32>) -> bool {
    let mut ranks: Vec<u32> = ranks.filter(|ranks| *ranks > 0).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    let with = |least: u32| ranks.partition_point(|ranks| *ranks >= least) as u32;
    let most = most.min(ranks.len() as u32);
    (request.nodes_min().max(1)..=most).any(|count| {
        let (low, larger) = split(request.ranks, count);
        with(low) >= count && with(low + 1) >= larger
    })
}

/// Whether nodes that each hold so many ranks suffice for a request.
pub(super) fn suffices(request: &Request, ranks: impl Iterator<Item = u32>) -> bool {
    if let Some(most) = request.nodes_max.filter(|_| !request.ranks_grow) {
        return suffices_for_some(request, most, ranks);
    }
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
        adjacent: None,
        memory: None,
        gres: Vec::new(),
        fits_now: false,
    };
    let mut ranks_free = 0;
    let mut gres = GresShortage::all(request, short.nodes_needed);
    for (id, room) in nodes {
        let node = state.node(id);
        let now = ranks_that_fit(node, pool, room, request);
        let whole = NodeRoom::whole(node);
        short.nodes_usable += u32::from(ranks_that_fit(node, pool, whole, request) >= part);
        short.nodes_free += u32::from(now >= part);
        let all_memory = NodeRoom { memory_bytes: whole.memory_bytes, ..room };
        if part > 0 && now < part && ranks_that_fit(node, pool, all_memory, request) >= part {
            let needed_bytes = memory_bytes(node, pool, request, part);
            let most = short.memory.map_or(0, |memory| memory.free_bytes);
            let free_bytes = most.max(room.memory_bytes);
            short.memory = Some(MemoryShortage { needed_bytes, free_bytes });
        }
        short.cores_free += u64::from(usable(node, room, request));
        ranks_free += u64::from(now);
        for (wish, short) in &mut gres {
            short.count(wish, &node.gres, room.gres);
        }
    }
    short.gres = gres.into_iter().map(|(_, short)| short).collect();
    short.fits_now = short.nodes_free >= short.nodes_needed && ranks_free >= u64::from(request.ranks);
    short
}
