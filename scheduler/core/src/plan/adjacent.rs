//! Requests whose nodes must follow each other in the order of the tree.

use super::fit::{self, NodeRoom, Shortage};
use super::index::Planner;
use super::suits::is_required;
use crate::cluster::{Fill, PoolConfig};
use crate::ids::NodeId;
use crate::input::Refusal;
use crate::place::{Adjacent, Candidate, Wanted, choose_adjacent, longest_run};
use crate::spec::Request;
use crate::state::State;

/// Positions of the nodes that a request must have, given a pool's nodes with their positions in the order of the
/// tree; none if the pool lacks one.
pub(super) fn required(
    state: &State,
    slots: &[NodeId],
    order: &[u32],
    request: &Request,
) -> Option<Vec<u32>> {
    if request.nodelist.is_empty() {
        return Some(Vec::new());
    }
    let listed = slots.iter().zip(order).filter(|(node, _)| is_required(state.node(**node), request));
    let listed: Vec<u32> = listed.map(|(_, position)| *position).collect();
    (listed.len() == request.nodelist.len()).then_some(listed)
}

/// Refuses a request for nodes that follow each other, if no such nodes of the pool hold it, even when empty.
pub(super) fn never_adjacent(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    if !request.contiguous {
        return Ok(());
    }
    let tree = state.tree();
    let mut slots: Vec<NodeId> = fit::pool_nodes(state, pool).collect();
    slots.sort_by_key(|node| tree.position(*node));
    let order: Vec<u32> = slots.iter().map(|node| tree.position(*node)).collect();
    let candidate = |(id, position): (&NodeId, &u32)| {
        let node = state.node(*id);
        let ranks = fit::ranks_that_fit(node, pool, NodeRoom::whole(node), request);
        (ranks > 0).then_some(Candidate { position: *position, ranks, cores: node.cores })
    };
    let candidates: Vec<Candidate> = slots.iter().zip(&order).filter_map(candidate).collect();
    let leaves_max = request.switches.filter(|wish| wish.wait_s.is_none()).map(|wish| wish.switches_max);
    let wanted = Wanted { leaves_max, ..Wanted::anywhere(request.nodes, request.ranks) };
    let found = required(state, &slots, &order, request).and_then(|required| {
        let adjacent = Adjacent { order: &order, required: &required };
        choose_adjacent(tree, &wanted, &candidates, adjacent, Fill::Pack)
    });
    if found.is_some() {
        return Ok(());
    }
    let most = longest_run(candidates.iter().map(|candidate| candidate.position), &order);
    let asked = request.nodes_min();
    let why = if asked > most {
        format!(
            "{asked} nodes that follow each other are asked for, and of those that it may use at most {most} do in \
             the order of the switches"
        )
    } else {
        "no nodes that follow each other in the order of the switches hold it as it is asked for".to_owned()
    };
    Err(Refusal::NeverFits { pool: pool.name.clone(), why })
}

impl Planner {
    /// Whether the nodes that take work, when empty, hold a request for nodes that follow each other.
    pub(super) fn could_be_adjacent(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        request: &Request,
    ) -> bool {
        let candidate = |id: &NodeId| {
            let view = &self.nodes[id.0 as usize];
            let room = if view.takes_work { view.whole } else { NodeRoom::default() };
            self.candidate(state, config, *id, room, request)
        };
        let mut candidates: Vec<Candidate> = self.pools[pool].wide().iter().filter_map(candidate).collect();
        candidates.sort_by_key(|candidate| candidate.position);
        let leaves_max = request.switches.filter(|wish| wish.wait_s.is_none()).map(|wish| wish.switches_max);
        self.choose_within(state, pool, request, leaves_max, &candidates, config.fill).is_some()
    }

    /// Adds to what is short how many nodes follow each other.
    pub(super) fn count_adjacent(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        request: &Request,
        short: &mut Shortage,
    ) {
        let part = request.nodes.map_or(1, |count| fit::split(request.ranks, count).0.max(1));
        let slots = &self.pools[pool].slots;
        let order: Vec<u32> = slots.iter().map(|node| self.tree.position(*node)).collect();
        let longest = |room: &dyn Fn(NodeId) -> NodeRoom| {
            let holds = |id: &NodeId| {
                self.nodes[id.0 as usize].takes_work
                    && self.ranks_on(state, config, *id, room(*id), request) >= part
            };
            let able = slots.iter().filter(|id| holds(id)).map(|id| self.tree.position(*id));
            longest_run(able, &order)
        };
        let usable = longest(&|id| self.nodes[id.0 as usize].whole);
        let free = longest(&|id| self.nodes[id.0 as usize].room);
        short.adjacent = Some((usable, free));
        short.fits_now &= free >= short.nodes_needed;
    }
}
