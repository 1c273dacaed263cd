//! As few nodes as hold the ranks, for a task that may be on any number of them.

use std::cmp::Reverse;
use std::ops::Range;

use super::gang::{add_nearest, lowest, nearest, spread};
use super::{Below, Candidate, Chosen, Manner, SwitchTree};
use crate::cluster::Fill;

/// More than one node, as few as possible below the lowest switch that holds the ranks.
pub(super) fn choose_few(
    tree: &SwitchTree,
    ranks: u32,
    candidates: &[Candidate],
    manner: Manner,
) -> Option<Vec<Chosen>> {
    let most = candidates.iter().map(|candidate| candidate.ranks).max().filter(|most| *most > 0)?;
    let nodes = if candidates.iter().all(|candidate| candidate.ranks == most) {
        nearest(tree, candidates, ranks.div_ceil(most), manner)?
    } else {
        of_unequal(tree, ranks, candidates, manner)?
    };
    // The fullest are filled first, so that only one node gets less than it could hold.
    let mut nodes: Vec<Candidate> = nodes.into_iter().map(|i| candidates[i as usize]).collect();
    nodes.sort_by_key(|candidate| Reverse(candidate.ranks));
    let mut left = ranks;
    let mut chosen = Vec::with_capacity(nodes.len());
    for candidate in nodes {
        let part = candidate.ranks.min(left);
        if part == 0 {
            break;
        }
        chosen.push(Chosen { node: tree.node_at(candidate.position), ranks: part });
        left -= part;
    }
    Some(chosen)
}

fn of_unequal(tree: &SwitchTree, ranks: u32, candidates: &[Candidate], manner: Manner) -> Option<Vec<u32>> {
    let below = Below::new(tree, candidates);
    let mut ranks_before = vec![0_u64];
    for candidate in candidates {
        ranks_before.push(ranks_before[ranks_before.len() - 1] + u64::from(candidate.ranks));
    }
    let holds = |switch: usize| {
        let range = below.range(switch);
        ranks_before[range.end] - ranks_before[range.start] >= u64::from(ranks)
    };
    // Fewest nodes go before near nodes, so switches that need more than the best of their level are passed over.
    let fewest_below = |switch: usize| {
        fewest(&candidates[below.range(switch)], ranks).map_or(usize::MAX, |fewest| fewest.nodes)
    };
    let mut least = vec![usize::MAX; tree.levels() as usize + 1];
    let mut needs = vec![usize::MAX; tree.switches.len()];
    for (index, switch) in tree.switches.iter().enumerate().filter(|(index, _)| holds(*index)) {
        needs[index] = fewest_below(index);
        let least = &mut least[switch.level as usize];
        *least = (*least).min(needs[index]);
    }
    let able = |switch: usize| {
        needs[switch] != usize::MAX && needs[switch] == least[tree.switches[switch].level as usize]
    };
    lowest(&below, manner, able, |range, manner| few_in(tree, ranks, candidates, range, manner))
}

/// The fewest nodes that hold some ranks.
struct Fewest {
    nodes: usize,
    /// The ranks of the smallest of the fullest so many nodes.
    smallest: u32,
}

fn fewest(candidates: &[Candidate], ranks: u32) -> Option<Fewest> {
    let mut rooms: Vec<u32> = candidates.iter().map(|candidate| candidate.ranks).collect();
    rooms.sort_unstable_by_key(|room| Reverse(*room));
    let mut sum = 0;
    rooms.into_iter().enumerate().find_map(|(i, room)| {
        sum += u64::from(room);
        (sum >= u64::from(ranks)).then_some(Fewest { nodes: i + 1, smallest: room })
    })
}

/// Most kinds of nodes, by the ranks that they hold, among which near ones are looked for.
const KINDS_MAX: usize = 8;

/// The fewest nodes of a range of candidates: the best of several tries.
fn few_in(
    tree: &SwitchTree,
    ranks: u32,
    candidates: &[Candidate],
    range: Range<usize>,
    manner: Manner,
) -> Option<Vec<u32>> {
    let Fewest { nodes: count, smallest } = fewest(&candidates[range.clone()], ranks)?;
    let with_ranks = |test: &dyn Fn(u32) -> bool| -> Vec<u32> {
        (range.start as u32..range.end as u32).filter(|i| test(candidates[*i as usize].ranks)).collect()
    };
    // The fullest nodes; of the smallest of them, those that are nearest to the others.
    let mut fullest = with_ranks(&|ranks| ranks > smallest);
    let rest = count - fullest.len();
    add_nearest(tree, candidates, &mut fullest, &with_ranks(&|ranks| ranks == smallest), rest as u32);
    // Nodes of one leaf switch are all equally near.
    let leaf = |i: usize| tree.leaf_of(candidates[i].position);
    if leaf(range.start) == leaf(range.end - 1) {
        return Some(fullest);
    }
    // The nearest of the nodes with some ranks at least, if these are enough. Any so many nodes will do that hold an
    // equal part each.
    let part = ranks.div_ceil(count as u32);
    let mut kinds: Vec<u32> = with_ranks(&|_| true).iter().map(|i| candidates[*i as usize].ranks).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let from = kinds.partition_point(|kind| *kind <= part).saturating_sub(1);
    let kinds = kinds[..].iter().skip(from.saturating_sub(KINDS_MAX / 2)).take(KINDS_MAX);
    let tries = kinds.flat_map(|kind| {
        let able = with_ranks(&|ranks| ranks >= *kind);
        [true, false].into_iter().filter_map(move |largest| {
            let nodes = near(tree, candidates, &able, count as u32, largest, manner)?;
            let held: u64 = nodes.iter().map(|i| u64::from(candidates[*i as usize].ranks)).sum();
            (held >= u64::from(ranks)).then_some(nodes)
        })
    });
    tries.chain([fullest]).min_by_key(|nodes| spread(tree, candidates, nodes).key(manner.prefer))
}

/// So many of the able candidates that are near to each other; on a leaf the largest ones first, or those that the
/// manner of filling prefers.
fn near(
    tree: &SwitchTree,
    candidates: &[Candidate],
    able: &[u32],
    count: u32,
    largest: bool,
    manner: Manner,
) -> Option<Vec<u32>> {
    let of_kind = |i: &u32| {
        let candidate = candidates[*i as usize];
        Candidate { cores: if largest { candidate.ranks } else { candidate.cores }, ..candidate }
    };
    let of_kind: Vec<Candidate> = able.iter().map(of_kind).collect();
    let fill = if largest { Fill::Spread } else { manner.fill };
    let nodes = nearest(tree, &of_kind, count, Manner { fill, ..manner.unlimited() })?;
    Some(nodes.into_iter().map(|i| able[i as usize]).collect())
}
