//! Choices of nodes beyond "this many of any": nodes that must be among them, and numbers that may vary.

use super::adjacent;
use super::index::Planner;
use super::suits::is_required;
use crate::cluster::{Fill, PoolConfig};
use crate::ids::Timestamp;
use crate::place::{self, Candidate, Chosen, Wanted};
use crate::spec::Request;
use crate::state::{Job, State};

/// How a request is distributed over its pool's nodes.
pub(super) fn fill(pool: &PoolConfig, request: &Request) -> Fill {
    request.fill.unwrap_or(pool.fill)
}

/// Whether a request itself says that it is to be on as many nodes as possible. A pool that spreads only says which
/// nodes come first.
pub(super) fn spreads_wide(request: &Request) -> bool {
    request.fill == Some(Fill::Spread) && request.nodes.is_none() && request.ranks > 1
}

impl Planner {
    /// Chooses nodes for a job's request at an instant: under as few leaf switches as it wishes, until it has waited
    /// for them long enough. The candidates are in the order of their positions.
    pub(super) fn choose_for(
        &self,
        state: &State,
        pool: usize,
        job: &Job,
        at: Timestamp,
        candidates: &[Candidate],
        fill: Fill,
    ) -> Option<Vec<Chosen>> {
        let request = &job.spec.request;
        let wish = request.switches.filter(|_| job.switches_wished_until().is_none_or(|until| at < until));
        let leaves_max = wish.map(|wish| wish.switches_max);
        self.choose_within(state, pool, request, leaves_max, candidates, fill)
    }

    /// Chooses nodes for a request on so many leaf switches at most.
    pub(super) fn choose_within(
        &self,
        state: &State,
        pool: usize,
        request: &Request,
        leaves_max: Option<u32>,
        candidates: &[Candidate],
        fill: Fill,
    ) -> Option<Vec<Chosen>> {
        let choice = Choice { planner: self, state, pool, leaves_max, fill };
        let Some(most) = request.nodes_max else { return choice.with_required(request, candidates) };
        let least = request.nodes_min();
        // Each node holds a rank at least.
        let ranks = if request.ranks_grow { u32::MAX } else { request.ranks };
        let most = most.min(u32::try_from(candidates.len()).unwrap_or(u32::MAX)).min(ranks);
        (least..=most).rev().find_map(|count| choice.with_required(&request.with_nodes(count), candidates))
    }
}

/// What all choices of one task share.
struct Choice<'a> {
    planner: &'a Planner,
    state: &'a State,
    pool: usize,
    leaves_max: Option<u32>,
    fill: Fill,
}

impl Choice<'_> {
    fn wanted(&self, request: &Request) -> Wanted {
        Wanted { leaves_max: self.leaves_max, ..Wanted::anywhere(request.nodes, request.ranks) }
    }

    fn any(&self, request: &Request, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
        if spreads_wide(request) {
            return place::choose_widest(&self.planner.tree, request.ranks, candidates);
        }
        place::choose(&self.planner.tree, &self.wanted(request), candidates, self.fill)
    }

    /// Chooses nodes that follow each other.
    fn adjacent(&self, request: &Request, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
        let tree = &self.planner.tree;
        let mut slots = self.planner.pools[self.pool].wide();
        slots.sort_by_key(|node| tree.position(*node));
        let order: Vec<u32> = slots.iter().map(|node| tree.position(*node)).collect();
        let required = adjacent::required(self.state, &slots, &order, request)?;
        let adjacent = place::Adjacent { order: &order, required: &required };
        place::choose_adjacent(tree, &self.wanted(request), candidates, adjacent, self.fill)
    }

    /// Chooses nodes so that those that the request must have are among them.
    fn with_required(&self, request: &Request, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
        if request.contiguous {
            return self.adjacent(request, candidates);
        }
        let listed = request.nodelist.len();
        if listed == 0 {
            return self.any(request, candidates);
        }
        let tree = &self.planner.tree;
        let count = request.nodes.unwrap_or(0) as usize;
        let is_listed = |c: &Candidate| is_required(self.state.node(tree.node_at(c.position)), request);
        let (required, others): (Vec<_>, Vec<_>) = candidates.iter().partition(|c| is_listed(c));
        if required.len() < listed || count < listed {
            return None;
        }
        // Whatever uses as many nodes as are listed uses them all.
        if count == listed {
            return self.any(request, &required);
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
            chosen.push(Chosen { node: tree.node_at(candidate.position), ranks });
        }
        let rest = Request {
            nodes: Some((count - listed) as u32),
            ranks: request.ranks - given,
            nodelist: Default::default(),
            ..request.clone()
        };
        chosen.extend(self.any(&rest, &others)?);
        chosen.sort_by_key(|c| (std::cmp::Reverse(c.ranks), tree.position(c.node)));
        let nodes: Vec<_> = chosen.iter().map(|c| c.node).collect();
        self.leaves_max.is_none_or(|most| tree.leaves_of(&nodes) <= most).then_some(chosen)
    }
}
