//! Nodes that follow each other in the order of the tree, with no node of the pool between them.

use std::cmp::Reverse;

use super::{Candidate, Chosen, Prefer, SwitchTree, Wanted};
use crate::cluster::Fill;

/// What nodes that follow each other must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adjacent<'a> {
    /// Positions of all nodes of the pool, rising: two of them are next to each other if none lies between.
    pub order: &'a [u32],
    /// Positions that must be among the chosen ones, rising.
    pub required: &'a [u32],
}

/// Candidates that follow each other, as a range of their indices.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: usize,
    end: usize,
}

/// Chooses nodes that follow each other, or none if no such nodes hold what is wanted.
///
/// The best are below the lowest switch, then on the fewest leaf switches (without a number of nodes: the fewest
/// nodes, then the fewest leaf switches), then in the shortest run of candidates, at an end of it if possible. The
/// search is over all windows, so nothing better is passed over.
///
/// Candidates are in rising order of their positions, all of which are in [`Adjacent::order`]. The answer has nodes
/// with more ranks first, and otherwise follows the tree.
#[must_use]
pub fn choose_adjacent(
    tree: &SwitchTree,
    wanted: &Wanted,
    candidates: &[Candidate],
    adjacent: Adjacent<'_>,
    fill: Fill,
) -> Option<Vec<Chosen>> {
    let able: Vec<Candidate> = match wanted.nodes {
        Some(0) => return None,
        // Nodes that cannot hold their part are as good as taken.
        Some(count) => candidates.iter().filter(|c| c.ranks >= wanted.ranks / count).copied().collect(),
        None => candidates.iter().filter(|c| c.ranks > 0).copied().collect(),
    };
    let mut leaves = vec![0_u32; able.len()];
    for i in 1..able.len() {
        let [a, b] = [i - 1, i].map(|i| tree.leaf_of(able[i].position));
        leaves[i] = leaves[i - 1] + u32::from(a != b);
    }
    let mut best: Option<([u64; 6], Run)> = None;
    for run in runs(&able, adjacent.order) {
        for window in windows(&able, run, wanted) {
            let (first, last) = (able[window.first].position, able[window.end - 1].position);
            let has_required = match (adjacent.required.first(), adjacent.required.last()) {
                (Some(lowest), Some(highest)) => first <= *lowest && *highest <= last,
                _ => true,
            };
            let on_leaves = leaves[window.end - 1] - leaves[window.first] + 1;
            if !has_required || wanted.leaves_max.is_some_and(|most| on_leaves > most) {
                continue;
            }
            let level = tree.height(&[tree.node_at(first), tree.node_at(last)]);
            let (before, after) = (window.first - run.first, run.end - window.end);
            let cores: u64 = able[window.first..window.end].iter().map(|c| u64::from(c.cores)).sum();
            let key = [
                u64::from(level),
                if wanted.nodes.is_none() { (window.end - window.first) as u64 } else { 0 },
                u64::from(on_leaves),
                (before + after) as u64,
                before.min(after) as u64,
                if fill == Fill::Pack { cores } else { u64::MAX - cores },
            ];
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, window));
            }
        }
    }
    let (_, window) = best?;
    Some(give_ranks(tree, wanted, &able[window.first..window.end]))
}

/// How many of some positions follow each other at most; `order` as in [`Adjacent::order`].
#[must_use]
pub fn longest_run(positions: impl Iterator<Item = u32>, order: &[u32]) -> u32 {
    let candidates: Vec<Candidate> =
        positions.map(|position| Candidate { position, ranks: 1, cores: 1 }).collect();
    runs(&candidates, order).map(|run| (run.end - run.first) as u32).max().unwrap_or(0)
}

/// The longest sequences of candidates that follow each other.
fn runs<'a>(candidates: &'a [Candidate], order: &'a [u32]) -> impl Iterator<Item = Run> + 'a {
    let mut first = 0;
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = candidates.get(first)?.position;
        at += order[at..].partition_point(|position| *position < start);
        let follows =
            candidates[first..].iter().zip(&order[at..]).take_while(|(c, next)| c.position == **next).count();
        // A position outside the order, which no caller gives, stands alone.
        let run = Run { first, end: first + follows.max(1) };
        first = run.end;
        Some(run)
    })
}

/// The windows of a run that hold what is wanted: those of the right length, or without a number of nodes the shortest
/// one from each candidate on.
fn windows<'a>(able: &'a [Candidate], run: Run, wanted: &'a Wanted) -> impl Iterator<Item = Run> + 'a {
    let (low, larger) = wanted.nodes.map_or((0, 0), |count| (wanted.ranks / count, wanted.ranks % count));
    let is_larger = move |i: usize| u32::from(able[i].ranks > low);
    let (mut end, mut ranks, mut large) = (run.first, 0_u64, 0);
    (run.first..run.end).filter_map(move |first| {
        let is_short = |end: usize, ranks: u64| match wanted.nodes {
            Some(count) => end - first < count as usize,
            None => ranks < u64::from(wanted.ranks),
        };
        while end < run.end && is_short(end, ranks) {
            ranks += u64::from(able[end].ranks);
            large += is_larger(end);
            end += 1;
        }
        let holds = !is_short(end, ranks) && large >= larger;
        let window = Run { first, end };
        ranks -= u64::from(able[first].ranks);
        large -= is_larger(first);
        holds.then_some(window)
    })
}

/// Ranks of the nodes of a window, each of which gets one at least.
fn give_ranks(tree: &SwitchTree, wanted: &Wanted, window: &[Candidate]) -> Vec<Chosen> {
    let mut ranks: Vec<u32>;
    match wanted.nodes {
        Some(count) => {
            let (low, mut larger) = (wanted.ranks / count, wanted.ranks % count);
            let part = |candidate: &Candidate| {
                let more = u32::from(larger > 0 && candidate.ranks > low);
                larger -= more;
                low + more
            };
            ranks = window.iter().map(part).collect();
        }
        None => {
            ranks = vec![1; window.len()];
            let mut left = wanted.ranks - window.len() as u32;
            let mut fullest: Vec<usize> = (0..window.len()).collect();
            fullest.sort_by_key(|i| Reverse(window[*i].ranks));
            for i in fullest {
                let more = left.min(window[i].ranks - 1);
                ranks[i] += more;
                left -= more;
            }
        }
    }
    let nodes = window.iter().map(|candidate| tree.node_at(candidate.position));
    let mut chosen: Vec<Chosen> = nodes.zip(ranks).map(|(node, ranks)| Chosen { node, ranks }).collect();
    chosen.sort_by_key(|chosen| Reverse(chosen.ranks));
    chosen
}

impl Wanted {
    /// So many ranks on so many nodes, or on as few as hold them, wherever they are.
    #[must_use]
    pub fn anywhere(nodes: Option<u32>, ranks: u32) -> Self {
        Self { nodes, ranks, leaves_max: None, prefer: Prefer::default() }
    }
}
