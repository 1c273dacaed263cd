//! As few nodes as hold the ranks, for a task that may be on any number of them.

use std::cmp::Reverse;

use super::gang::{add_nearest, lowest, nearest};
use super::{Below, Candidate, Chosen, SwitchTree, Wanted};
use crate::cluster::Fill;

/// More than one node, as few as possible below the lowest switch that holds the ranks.
pub(super) fn choose_few(
    tree: &SwitchTree,
    wanted: &Wanted,
    candidates: &[Candidate],
    fill: Fill,
) -> Option<Vec<Chosen>> {
    let most = candidates.iter().map(|candidate| candidate.ranks).max().filter(|most| *most > 0)?;
    let nodes = if candidates.iter().all(|candidate| candidate.ranks == most) {
        nearest(tree, candidates, wanted.ranks.div_ceil(most), wanted.leaves_max, fill)?
    } else {
        of_unequal(tree, wanted, candidates, fill)?
    };
    // The fullest are filled first, so that only one node gets less than it could hold.
    let mut nodes: Vec<Candidate> = nodes.into_iter().map(|i| candidates[i as usize]).collect();
    nodes.sort_by_key(|candidate| Reverse(candidate.ranks));
    let mut left = wanted.ranks;
    let mut chosen = Vec::with_capacity(nodes.len());
    for candidate in nodes {
        let ranks = candidate.ranks.min(left);
        if ranks == 0 {
            break;
        }
        chosen.push(Chosen { node: tree.node_at(candidate.position), ranks });
        left -= ranks;
    }
    Some(chosen)
}

fn of_unequal(
    tree: &SwitchTree,
    wanted: &Wanted,
    candidates: &[Candidate],
    fill: Fill,
) -> Option<Vec<u32>> {
    let below = Below::new(tree, candidates);
    let mut ranks_before = vec![0_u64];
    for candidate in candidates {
        ranks_before.push(ranks_before[ranks_before.len() - 1] + u64::from(candidate.ranks));
    }
    let holds = |switch: usize| {
        let range = below.range(switch);
        ranks_before[range.end] - ranks_before[range.start] >= u64::from(wanted.ranks)
    };
    // Fewest nodes go before near nodes, so switches that need more than the best of their level are passed over.
    let fewest_below = |switch: usize| {
        fewest(&candidates[below.range(switch)], wanted.ranks).map_or(usize::MAX, |fewest| fewest.nodes)
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
    lowest(&below, wanted.leaves_max, able, |range| few_in(tree, wanted, candidates, range, fill))
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

/// The fewest nodes of a range of candidates.
fn few_in(
    tree: &SwitchTree,
    wanted: &Wanted,
    candidates: &[Candidate],
    range: std::ops::Range<usize>,
    fill: Fill,
) -> Option<Vec<u32>> {
    let Fewest { nodes: count, smallest } = fewest(&candidates[range.clone()], wanted.ranks)?;
    let with_ranks = |test: &dyn Fn(u32) -> bool| -> Vec<u32> {
        (range.start as u32..range.end as u32).filter(|i| test(candidates[*i as usize].ranks)).collect()
    };
    // Any so many nodes that hold an equal part each will do.
    let part = wanted.ranks.div_ceil(count as u32);
    let enough = with_ranks(&|ranks| ranks >= part);
    if enough.len() >= count {
        let able: Vec<Candidate> = enough.iter().map(|i| candidates[*i as usize]).collect();
        let nodes = nearest(tree, &able, count as u32, None, fill)?;
        return Some(nodes.into_iter().map(|i| enough[i as usize]).collect());
    }
    // Otherwise the fullest; of the smallest of them, those that are nearest to the others.
    let mut nodes = with_ranks(&|ranks| ranks > smallest);
    let rest = count - nodes.len();
    add_nearest(tree, candidates, &mut nodes, &with_ranks(&|ranks| ranks == smallest), rest as u32);
    Some(nodes)
}
