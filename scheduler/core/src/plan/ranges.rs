//! Choices of nodes beyond "this many of any": nodes that must be among them, and numbers that may vary.

use std::collections::{BTreeMap, BTreeSet};

use super::choose::{Candidate, Chosen, choose as choose_any};
use super::topology::SwitchTree;
use crate::cluster::Fill;
use crate::ids::Timestamp;
use crate::spec::Request;
use crate::state::Job;

/// Chooses nodes for a job's request at an instant: under as few leaf switches as it wishes, until it has waited for
/// them long enough.
pub(super) fn choose_for(
    job: &Job,
    at: Timestamp,
    candidates: Vec<Candidate>,
    tree: &SwitchTree,
    fill: Fill,
) -> Option<Vec<Chosen>> {
    let request = &job.spec.request;
    let wish = request.switches.filter(|_| job.switches_wished_until().is_none_or(|until| at < until));
    let Some(wish) = wish else { return choose(request, candidates, tree, fill) };
    let few_enough = |chosen: &Vec<Chosen>| {
        let leaves: BTreeSet<usize> = chosen.iter().filter_map(|c| tree.leaf(c.node)).collect();
        leaves.len() <= wish.switches_max as usize
    };
    if let Some(chosen) = choose(request, candidates.clone(), tree, fill).filter(few_enough) {
        return Some(chosen);
    }
    // The leaves with the most room: nodes of a few of them may do where the common choice was spread over more.
    let mut room: BTreeMap<usize, u64> = BTreeMap::new();
    for candidate in &candidates {
        if let Some(leaf) = tree.leaf(candidate.node) {
            *room.entry(leaf).or_default() += u64::from(candidate.ranks);
        }
    }
    let mut leaves: Vec<(usize, u64)> = room.into_iter().collect();
    leaves.sort_by_key(|(leaf, ranks)| (std::cmp::Reverse(*ranks), *leaf));
    leaves.truncate(wish.switches_max as usize);
    let on_these =
        |c: &Candidate| tree.leaf(c.node).is_none_or(|leaf| leaves.iter().any(|(l, _)| *l == leaf));
    choose(request, candidates.into_iter().filter(on_these).collect(), tree, fill).filter(few_enough)
}

/// Chooses nodes for a request: as many as it may have, and those that it must have among them.
fn choose(
    request: &Request,
    candidates: Vec<Candidate>,
    tree: &SwitchTree,
    fill: Fill,
) -> Option<Vec<Chosen>> {
    let Some(most) = request.nodes_max else { return choose_with_required(request, candidates, tree, fill) };
    let least = request.nodes_min();
    // Each node holds a rank at least.
    let ranks = if request.ranks_grow { u32::MAX } else { request.ranks };
    let most = most.min(u32::try_from(candidates.len()).unwrap_or(u32::MAX)).min(ranks);
    (least..=most)
        .rev()
        .find_map(|count| choose_with_required(&request.with_nodes(count), candidates.clone(), tree, fill))
}

fn choose_with_required(
    request: &Request,
    candidates: Vec<Candidate>,
    tree: &SwitchTree,
    fill: Fill,
) -> Option<Vec<Chosen>> {
    let listed = request.nodelist.len();
    let count = request.nodes.unwrap_or(0) as usize;
    if listed == 0 {
        return choose_any(request, candidates, tree, fill);
    }
    let (required, others): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.required);
    if required.len() < listed || count < listed {
        return None;
    }
    // Whatever uses as many nodes as are listed uses them all.
    if count == listed {
        return choose_any(request, required, tree, fill);
    }
    let (low, mut larger) = super::fit::split(request.ranks, count as u32);
    let mut chosen = Vec::with_capacity(count);
    let mut given = 0;
    for candidate in required {
        let ranks = if larger > 0 && candidate.ranks > low { low + 1 } else { low };
        if candidate.ranks < ranks {
            return None;
        }
        larger -= ranks - low;
        given += ranks;
        chosen.push(Chosen { node: candidate.node, ranks });
    }
    let rest = Request {
        nodes: Some((count - listed) as u32),
        ranks: request.ranks - given,
        nodelist: Default::default(),
        ..request.clone()
    };
    chosen.extend(choose_any(&rest, others, tree, fill)?);
    chosen.sort_by_key(|c| (std::cmp::Reverse(c.ranks), tree.position(c.node), c.node));
    Some(chosen)
}
