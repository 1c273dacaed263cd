//! A given number of nodes, near to each other.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::ops::Range;

use super::split::{self, Group, SEARCH_MAX};
use super::{Below, Candidate, Chosen, Manner, Prefer, SwitchTree, Wanted};
use crate::cluster::Fill;

/// How good a choice of nodes below switches of one level is.
#[derive(Debug, Clone, Copy)]
struct Goodness {
    leaves: u32,
    /// Levels that all pairs together are nearer than at the common switch.
    nearer: u64,
    /// How well the gang fits in: the sum over all switches of the squares of what stays free, less the squares of
    /// what was free before.
    fit: i128,
}

impl Goodness {
    /// Less is better.
    fn key(self, prefer: Prefer) -> [i128; 3] {
        let (leaves, nearer) = (i128::from(self.leaves), -i128::from(self.nearer));
        match prefer {
            Prefer::FewestLeaves => [leaves, nearer, -self.fit],
            Prefer::ShortestDistances => [nearer, leaves, -self.fit],
        }
    }
}

/// Exactly `count` nodes with equal parts; where they cannot be equal, one more rank on the first ones.
pub(super) fn choose_exactly(
    tree: &SwitchTree,
    wanted: &Wanted,
    count: u32,
    candidates: &[Candidate],
    manner: Manner,
) -> Option<Vec<Chosen>> {
    let (low, larger) = (wanted.ranks / count, wanted.ranks % count);
    let candidates: Cow<'_, [Candidate]> = if candidates.iter().all(|candidate| candidate.ranks >= low) {
        Cow::Borrowed(candidates)
    } else {
        candidates.iter().filter(|candidate| candidate.ranks >= low).copied().collect()
    };
    let all_larger = larger == 0 || candidates.iter().all(|candidate| candidate.ranks > low);
    let nodes = if all_larger {
        nearest(tree, &candidates, count, manner)?
    } else {
        nearest_with_larger(tree, &candidates, count, (low, larger), manner)?
    };
    let mut left = larger;
    let mut chosen: Vec<Chosen> = nodes
        .into_iter()
        .map(|i| {
            let candidate = candidates[i as usize];
            let more = u32::from(left > 0 && candidate.ranks > low);
            left -= more;
            Chosen { node: tree.node_at(candidate.position), ranks: low + more }
        })
        .collect();
    if !all_larger {
        chosen.sort_by_key(|chosen| Reverse(chosen.ranks));
    }
    Some(chosen)
}

/// `count` of the candidates, which are all the same to us, as rising indices.
pub(super) fn nearest(
    tree: &SwitchTree,
    candidates: &[Candidate],
    count: u32,
    manner: Manner,
) -> Option<Vec<u32>> {
    if candidates.len() < count as usize {
        return None;
    }
    let below = Below::new(tree, candidates);
    let shares = shares(&below, count, manner, |switch| below.count(switch) >= count)?;
    let mut nodes = Vec::with_capacity(count as usize);
    for (leaf, share) in shares {
        take(&below, leaf, share, |candidate| order(candidate, manner.fill), &mut nodes);
    }
    Some(nodes)
}

/// The order in which the nodes of a leaf are taken.
fn order(candidate: &Candidate, fill: Fill) -> u64 {
    match fill {
        Fill::Pack => u64::from(candidate.cores),
        Fill::Spread => u64::from(u32::MAX - candidate.cores),
    }
}

/// Takes those `count` candidates of a leaf that come first in `order`, and adds them in their own order.
fn take(below: &Below<'_>, leaf: usize, count: u32, order: impl Fn(&Candidate) -> u64, nodes: &mut Vec<u32>) {
    let range = below.on_leaf(leaf);
    let indices = range.start as u32..range.end as u32;
    let on_leaf = &below.candidates[range];
    let first = on_leaf.first().map(&order);
    if count as usize == on_leaf.len() || on_leaf.iter().all(|candidate| Some(order(candidate)) == first) {
        nodes.extend(indices.take(count as usize));
        return;
    }
    let mut keyed: Vec<(u64, u32)> = on_leaf.iter().map(&order).zip(indices).collect();
    keyed.select_nth_unstable(count as usize - 1);
    keyed.truncate(count as usize);
    let from = nodes.len();
    nodes.extend(keyed.into_iter().map(|(_, index)| index));
    nodes[from..].sort_unstable();
}

/// How many nodes of which leaf, in the order of the leaves.
fn shares(
    below: &Below<'_>,
    count: u32,
    manner: Manner,
    holds: impl Fn(usize) -> bool,
) -> Option<Vec<(usize, u32)>> {
    let tree = below.tree;
    for level in tree.by_level.chunk_by(|a, b| level(tree, *a) == level(tree, *b)) {
        let able: Vec<usize> = level.iter().map(|i| *i as usize).filter(|switch| holds(*switch)).collect();
        let leaf = able.iter().filter(|switch| is_leaf(tree, **switch)).min_by_key(|s| below.count(**s));
        // A leaf of nodes that hang on an inner switch is as high as that, and others may be nearer below it.
        let leaf =
            leaf.filter(|leaf| manner.prefer == Prefer::FewestLeaves || tree.switches[**leaf].level == 1);
        if let Some(leaf) = leaf {
            return Some(vec![(tree.switches[*leaf].leaf_first as usize, count)]);
        }
        let found = manner.attempts().find_map(|manner| {
            let (goodness, shares) = best_below(below, &able, count, manner.prefer)?;
            manner.allows(goodness.leaves).then_some(shares)
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

fn level(tree: &SwitchTree, switch: u32) -> u32 {
    tree.switches[switch as usize].level
}

fn is_leaf(tree: &SwitchTree, switch: usize) -> bool {
    tree.switches[switch].below_end as usize == switch + 1
}

fn fewest_leaves(below: &Below<'_>, switch: usize, count: u32) -> u32 {
    let switch = &below.tree.switches[switch];
    let leaves = switch.leaf_first as usize..switch.leaf_end as usize;
    let rooms = leaves.map(|leaf| below.on_leaf(leaf).len() as u32);
    split::fewest(rooms, count).unwrap_or(u32::MAX)
}

/// The best split below one of these switches, each of which has room.
fn best_below(
    below: &Below<'_>,
    switches: &[usize],
    count: u32,
    prefer: Prefer,
) -> Option<(Goodness, Vec<(usize, u32)>)> {
    let tree = below.tree;
    let fewest: Vec<u32> = match prefer {
        Prefer::FewestLeaves => switches.iter().map(|switch| fewest_leaves(below, *switch, count)).collect(),
        Prefer::ShortestDistances => vec![0; switches.len()],
    };
    let least = fewest.iter().copied().min()?;
    let mut left = SEARCH_MAX;
    let mut best: Option<(Goodness, usize, Vec<u32>)> = None;
    for (&switch, _) in switches.iter().zip(&fewest).filter(|(_, fewest)| **fewest == least) {
        let groups = groups(below, switch);
        let mut consider = |parts: Vec<u32>| {
            let goodness = goodness(tree, switch, &groups, &parts);
            if best.as_ref().is_none_or(|(other, ..)| goodness.key(prefer) < other.key(prefer)) {
                best = Some((goodness, switch, parts));
            }
            goodness.leaves
        };
        let steps = u64::from(count) * u64::from(groups[0].room);
        let mut parts = vec![0; groups.len()];
        if !groups[0].alike && steps <= left {
            left -= steps;
            split::best(&groups, count, &|i, x| worth(tree, switch, &groups, i, x, prefer), &mut parts);
            consider(parts);
            continue;
        }
        split::guess(&groups, 0, count, &mut parts);
        if consider(parts) > least && prefer == Prefer::FewestLeaves {
            consider(fullest_leaves(tree, switch, &groups, count));
        }
    }
    let (goodness, switch, parts) = best?;
    let leaves = (switch..).zip(parts).filter(|(_, share)| *share > 0);
    let shares = leaves.map(|(switch, share)| (tree.switches[switch].leaf_first as usize, share)).collect();
    Some((goodness, shares))
}

/// The switch and those below it, with their candidates.
fn groups(below: &Below<'_>, switch: usize) -> Vec<Group> {
    let tree = below.tree;
    let end = tree.switches[switch].below_end as usize;
    let mut groups: Vec<Group> = (switch..end)
        .map(|i| Group {
            below_end: tree.switches[i].below_end - switch as u32,
            room: below.count(i),
            alike: false,
        })
        .collect();
    for group in 0..groups.len() - 1 {
        // The first switch below it, if it has any.
        let gain = tree.gain(switch + group + 1);
        let alike = |i: usize| is_leaf(tree, switch + i) && tree.gain(switch + i) == gain;
        groups[group].alike = !is_leaf(tree, switch + group) && split::below(&groups, group).all(alike);
    }
    groups
}

/// What it is worth that `x` nodes below a switch are taken, as one number.
///
/// The search takes no more than `SEARCH_MAX` nodes times room, and no more nodes than there is room, so it takes
/// at most 2⁹ nodes. Distances add up to at most levels × nodes² ÷ 2 < 2²⁴, and fits to levels × 2 × nodes × room
/// < 2²⁶.
fn worth(tree: &SwitchTree, top: usize, groups: &[Group], group: usize, x: u32, prefer: Prefer) -> i64 {
    if x == 0 {
        return 0;
    }
    let (of_leaf, of_nearer) = match prefer {
        Prefer::FewestLeaves => (1 << (26 + 24), 1 << 26),
        Prefer::ShortestDistances => (1 << 26, 1 << (26 + 10)),
    };
    let (nearer, fit) = parts_of_worth(tree, top, groups, group, x);
    let leaf = if is_leaf(tree, top + group) { of_leaf } else { 0 };
    nearer as i64 * of_nearer + fit as i64 - leaf
}

fn parts_of_worth(tree: &SwitchTree, top: usize, groups: &[Group], group: usize, x: u32) -> (u64, i128) {
    let pairs = u64::from(x) * u64::from(x.saturating_sub(1)) / 2;
    let gain = if group == 0 { 0 } else { tree.gain(top + group) };
    let fit = i128::from(x) * (i128::from(x) - 2 * i128::from(groups[group].room));
    (u64::from(gain) * pairs, fit)
}

fn goodness(tree: &SwitchTree, top: usize, groups: &[Group], parts: &[u32]) -> Goodness {
    let mut counts = parts.to_vec();
    let (mut nearer, mut fit) = (0, 0);
    for group in (0..groups.len()).rev() {
        let x = counts[group];
        if x == 0 {
            continue;
        }
        let (more_nearer, more_fit) = parts_of_worth(tree, top, groups, group, x);
        nearer += more_nearer;
        fit += more_fit;
        if group > 0 {
            counts[tree.switches[top + group].parent as usize - top] += x;
        }
    }
    let leaves = parts.iter().filter(|share| **share > 0).count() as u32;
    Goodness { leaves, nearer, fit }
}

/// The fewest leaves: the fullest ones, of equal ones those under the fullest switch; what is left goes onto a leaf
/// near to them.
fn fullest_leaves(tree: &SwitchTree, top: usize, groups: &[Group], count: u32) -> Vec<u32> {
    let parent = |leaf: usize| tree.switches[top + leaf].parent as usize - top;
    let mut leaves: Vec<usize> = (0..groups.len()).filter(|i| is_leaf(tree, top + i)).collect();
    leaves.sort_by_key(|leaf| (Reverse(groups[*leaf].room), Reverse(groups[parent(*leaf)].room)));
    let mut parts = vec![0; groups.len()];
    let mut used = vec![false; groups.len()];
    let mut left = count;
    for (i, &leaf) in leaves.iter().enumerate() {
        if left <= groups[leaf].room {
            let fitting = leaves[i..].iter().filter(|leaf| groups[**leaf].room >= left);
            let nearest = fitting.min_by_key(|leaf| (!used[parent(**leaf)], groups[**leaf].room));
            parts[*nearest.unwrap_or(&leaf)] = left;
            break;
        }
        parts[leaf] = groups[leaf].room;
        used[parent(leaf)] = true;
        left -= groups[leaf].room;
    }
    parts
}

/// `count` of the candidates, as rising indices, `larger` of them with room for more than `low` ranks.
fn nearest_with_larger(
    tree: &SwitchTree,
    candidates: &[Candidate],
    count: u32,
    (low, larger): (u32, u32),
    manner: Manner,
) -> Option<Vec<u32>> {
    let below = Below::new(tree, candidates);
    let mut able = vec![0_u32];
    for candidate in candidates {
        able.push(able[able.len() - 1] + u32::from(candidate.ranks > low));
    }
    let able_in = |range: Range<usize>| able[range.end] - able[range.start];
    let holds = |switch: usize| {
        let range = below.range(switch);
        range.len() >= count as usize && able_in(range) >= larger
    };
    let shares = shares(&below, count, manner, &holds)?;
    let has: u32 = shares.iter().map(|(leaf, share)| able_in(below.on_leaf(*leaf)).min(*share)).sum();
    if has >= larger {
        let mut nodes = Vec::with_capacity(count as usize);
        for (leaf, share) in shares {
            let first = |candidate: &Candidate| {
                u64::from(candidate.ranks <= low) << 32 | order(candidate, manner.fill)
            };
            take(&below, leaf, share, first, &mut nodes);
        }
        return Some(nodes);
    }
    // The nearest nodes are too small.
    lowest(&below, manner, holds, |range, manner| {
        larger_first(tree, candidates, range, (low, larger), count, manner)
    })
}

/// The larger nodes of a range of candidates are placed first, and the others near to them; or all nodes are larger
/// ones, if that is nearer.
fn larger_first(
    tree: &SwitchTree,
    candidates: &[Candidate],
    range: Range<usize>,
    (low, larger): (u32, u32),
    count: u32,
    manner: Manner,
) -> Option<Vec<u32>> {
    let is_larger = |i: &u32| candidates[*i as usize].ranks > low;
    let indices: Vec<u32> = (range.start as u32..range.end as u32).filter(is_larger).collect();
    let larger_ones: Vec<Candidate> = indices.iter().map(|i| candidates[*i as usize]).collect();
    let place = |count: u32| -> Option<Vec<u32>> {
        let nodes = nearest(tree, &larger_ones, count, manner.unlimited())?;
        Some(nodes.into_iter().map(|i| indices[i as usize]).collect())
    };
    let mut mixed = place(larger)?;
    let others: Vec<u32> =
        (range.start as u32..range.end as u32).filter(|i| mixed.binary_search(i).is_err()).collect();
    add_nearest(tree, candidates, &mut mixed, &others, count - larger);
    let both = [Some(mixed), place(count)];
    both.into_iter().flatten().min_by_key(|nodes| spread(tree, candidates, nodes).key(manner.prefer))
}

/// How good nodes are that are given as indices of candidates; only to be compared below switches of one level.
pub(super) fn spread(tree: &SwitchTree, candidates: &[Candidate], nodes: &[u32]) -> Spread {
    let nodes: Vec<_> = nodes.iter().map(|i| tree.node_at(candidates[*i as usize].position)).collect();
    Spread { leaves: tree.leaves_of(&nodes), distance: tree.pair_distance(&nodes) }
}

/// Leaf switches and distance of nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    leaves: u32,
    distance: u64,
}

impl Spread {
    /// Less is better.
    pub fn key(self, prefer: Prefer) -> [u64; 2] {
        match prefer {
            Prefer::FewestLeaves => [u64::from(self.leaves), self.distance],
            Prefer::ShortestDistances => [self.distance, u64::from(self.leaves)],
        }
    }
}

/// The best of what `place` finds in the ranges of candidates below those lowest switches that hold what is wanted.
pub(super) fn lowest(
    below: &Below<'_>,
    manner: Manner,
    holds: impl Fn(usize) -> bool,
    place: impl Fn(Range<usize>, Manner) -> Option<Vec<u32>>,
) -> Option<Vec<u32>> {
    let tree = below.tree;
    tree.by_level.chunk_by(|a, b| level(tree, *a) == level(tree, *b)).find_map(|level| {
        manner.attempts().find_map(|manner| {
            let able = level.iter().map(|i| *i as usize).filter(|switch| holds(*switch));
            let (spread, nodes) = able
                .filter_map(|switch| place(below.range(switch), manner))
                .map(|nodes| (spread(tree, below.candidates, &nodes), nodes))
                .min_by_key(|(spread, _)| spread.key(manner.prefer))?;
            manner.allows(spread.leaves).then_some(nodes)
        })
    })
}

fn leaf(tree: &SwitchTree, candidates: &[Candidate], index: u32) -> u32 {
    tree.leaf_of(candidates[index as usize].position)
}

/// Adds `count` of `others` to the nodes, leaf by leaf, always those that are nearest to all that are there.
///
/// `others` rises and has at least `count`; `nodes` rises and rises again.
pub(super) fn add_nearest(
    tree: &SwitchTree,
    candidates: &[Candidate],
    nodes: &mut Vec<u32>,
    others: &[u32],
    count: u32,
) {
    let mut on_switch = vec![0_u64; tree.switches.len()];
    let add = |on_switch: &mut Vec<u64>, leaf: u32, count: u64| {
        let mut at = tree.leaves[leaf as usize];
        loop {
            on_switch[at as usize] += count;
            let parent = tree.switches[at as usize].parent;
            if parent == at {
                return;
            }
            at = parent;
        }
    };
    for node in nodes.iter() {
        add(&mut on_switch, leaf(tree, candidates, *node), 1);
    }
    let same_leaf = |a: &u32, b: &u32| leaf(tree, candidates, *a) == leaf(tree, candidates, *b);
    let mut leaves: Vec<&[u32]> = others.chunk_by(same_leaf).collect();
    let mut left = count as usize;
    while left > 0 {
        // How much nearer a node on the leaf is to those chosen than at the top.
        let nearer = |on_leaf: &&[u32]| {
            let mut at = tree.leaves[leaf(tree, candidates, on_leaf[0]) as usize];
            let used = on_switch[at as usize] > 0;
            let mut sum = 0;
            while tree.switches[at as usize].parent != at {
                sum += on_switch[at as usize] * u64::from(tree.gain(at as usize));
                at = tree.switches[at as usize].parent;
            }
            (used, sum, on_leaf.len().min(left))
        };
        let best = (0..leaves.len()).max_by_key(|i| (nearer(&leaves[*i]), Reverse(*i)));
        let Some(best) = best else { break };
        let on_leaf = leaves.swap_remove(best);
        let taken = &on_leaf[..on_leaf.len().min(left)];
        nodes.extend_from_slice(taken);
        add(&mut on_switch, leaf(tree, candidates, on_leaf[0]), taken.len() as u64);
        left -= taken.len();
    }
    nodes.sort_unstable();
}
