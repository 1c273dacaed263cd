//! Which nodes: under as few switches as possible, leaving as little broken up as possible.

use super::fit::{NodeRoom, ranks_that_fit, split};
use super::topology::SwitchTree;
use crate::cluster::{Fill, PoolConfig};
use crate::ids::NodeId;
use crate::spec::Request;
use crate::state::State;

/// A node that could hold a part of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub node: NodeId,
    /// How many ranks it could hold.
    pub ranks: u32,
    /// Free cores.
    pub cores: u32,
    /// Whether the request must have it.
    pub required: bool,
}

/// A node and how many ranks it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    pub node: NodeId,
    pub ranks: u32,
}

impl Candidate {
    /// The node as a candidate, if the room on it holds at least one rank.
    pub fn new(
        state: &State,
        pool: &PoolConfig,
        node: NodeId,
        room: NodeRoom,
        request: &Request,
    ) -> Option<Self> {
        let ranks = ranks_that_fit(state.node(node), pool, room, request);
        let required = super::suits::is_required(state.node(node), request);
        (ranks > 0).then_some(Self { node, ranks, cores: room.cores, required })
    }
}

/// Chooses nodes for a request, in the order of the tree, so that neighbouring instances are neighbours.
pub(super) fn choose(
    request: &Request,
    candidates: Vec<Candidate>,
    tree: &SwitchTree,
    fill: Fill,
) -> Option<Vec<Chosen>> {
    // The smallest switch that holds the whole request.
    let mut chosen = tree.smallest_first().find_map(|switch| {
        let below: Vec<Candidate> = candidates.iter().filter(|c| switch.holds(c.node)).copied().collect();
        choose_below(request, below, fill)
    });
    if chosen.is_none() {
        chosen = choose_below(request, candidates, fill);
    }
    let mut chosen = chosen?;
    chosen.sort_by_key(|c| (std::cmp::Reverse(c.ranks), tree.position(c.node), c.node));
    Some(chosen)
}

fn choose_below(request: &Request, mut candidates: Vec<Candidate>, fill: Fill) -> Option<Vec<Chosen>> {
    match request.nodes {
        Some(count) => choose_exactly(request.ranks, count, candidates, fill),
        None => {
            let total: u64 = candidates.iter().map(|c| u64::from(c.ranks)).sum();
            if total < u64::from(request.ranks) {
                return None;
            }
            // One node is enough if one has room: the fullest that fits, or the emptiest.
            let fits = candidates.iter().filter(|c| c.ranks >= request.ranks);
            let one = match fill {
                Fill::Pack => fits.min_by_key(|c| (c.cores, c.node)),
                Fill::Spread => fits.max_by_key(|c| (c.cores, std::cmp::Reverse(c.node))),
            };
            if let Some(one) = one {
                return Some(vec![Chosen { node: one.node, ranks: request.ranks }]);
            }
            candidates.sort_by_key(|c| (std::cmp::Reverse(c.ranks), c.node));
            let mut left = request.ranks;
            let mut chosen = Vec::new();
            for candidate in candidates {
                let ranks = candidate.ranks.min(left);
                chosen.push(Chosen { node: candidate.node, ranks });
                left -= ranks;
                if left == 0 {
                    break;
                }
            }
            Some(chosen)
        }
    }
}

/// `count` nodes with equal parts; where they cannot be equal, one more rank on the first ones.
fn choose_exactly(ranks: u32, count: u32, mut candidates: Vec<Candidate>, fill: Fill) -> Option<Vec<Chosen>> {
    let (low, larger) = split(ranks, count);
    candidates.retain(|c| c.ranks >= low);
    if candidates.len() < count as usize {
        return None;
    }
    match fill {
        Fill::Pack => candidates.sort_by_key(|c| (c.cores, c.node)),
        Fill::Spread => candidates.sort_by_key(|c| (std::cmp::Reverse(c.cores), c.node)),
    }
    let (able, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.ranks > low);
    if able.len() < larger as usize {
        return None;
    }
    let mut chosen: Vec<Chosen> =
        able[..larger as usize].iter().map(|c| Chosen { node: c.node, ranks: low + 1 }).collect();
    // The others get the small part; those that could not hold a large one go first.
    let others = rest.iter().chain(&able[larger as usize..]).take((count - larger) as usize);
    chosen.extend(others.map(|c| Chosen { node: c.node, ranks: low }));
    Some(chosen)
}
