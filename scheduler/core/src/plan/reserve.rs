//! Keeping room for the first job that does not fit (EASY: Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995).

use super::closures::Closures;
use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::leaving::HeldRoom;
use super::ranges::{self, spreads_wide};
use crate::cluster::PoolConfig;
use crate::event::Allocation;
use crate::ids::{JobId, NodeId, TaskId, Timestamp};
use crate::place::{Candidate, Chosen};
use crate::spec::Request;
use crate::state::{Job, State};

/// Nodes and cores that are kept for a job from an instant on.
pub(super) struct Reservation {
    /// When everything that runs, running to its time limit, has left enough.
    pub start: Timestamp,
    /// When a task that starts then has ended at the latest.
    pub end: Timestamp,
    /// The task for which others are being ended; without, what runs ends by itself.
    pub clears_for: Option<TaskId>,
    /// What is kept.
    pub kept: Vec<HeldRoom>,
    /// What each node has left at `start` beyond what is kept.
    spare: Vec<NodeRoom>,
    /// Where a node stands in `kept` and `spare`, by node id; `NONE` if nothing is kept on it.
    place: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Reservation {
    /// Keeps parts of nodes, of each of which so much is left at `start` without it. `nodes` is the number of all nodes.
    pub fn new(
        nodes: usize,
        start: Timestamp,
        end: Timestamp,
        clears_for: Option<TaskId>,
        parts: &[(HeldRoom, NodeRoom)],
    ) -> Self {
        let kept = parts.iter().map(|(kept, _)| *kept).collect();
        let mut reservation =
            Self { start, end, clears_for, kept, spare: Vec::new(), place: vec![NONE; nodes] };
        for (kept, left) in parts {
            let mut spare = *left;
            spare.take(kept.room);
            reservation.place[kept.node.0 as usize] = reservation.spare.len() as u32;
            reservation.spare.push(spare);
        }
        reservation
    }

    /// What a node has to spare at `start`, if something is kept on it.
    pub fn spare(&self, node: NodeId) -> Option<NodeRoom> {
        match self.place[node.0 as usize] {
            NONE => None,
            place => Some(self.spare[place as usize]),
        }
    }

    /// Something else is kept that lasts beyond `start`.
    pub fn take_kept(&mut self, kept: &[HeldRoom]) {
        for kept in kept {
            match self.place[kept.node.0 as usize] {
                NONE => {}
                place => self.spare[place as usize].take(kept.room),
            }
        }
    }

    /// Something that would have lasted beyond `start` leaves before.
    pub fn give(&mut self, held: HeldRoom, whole: NodeRoom) {
        match self.place[held.node.0 as usize] {
            NONE => {}
            place => self.spare[place as usize].give(held.room, whole),
        }
    }

    /// What of `room` on a node may be used beyond `start`.
    pub fn limit(&self, node: NodeId, room: NodeRoom) -> NodeRoom {
        self.spare(node).map_or(room, |spare| room.at_most(spare))
    }

    /// What is kept on a node, if anything is.
    pub fn kept_on(&self, node: NodeId) -> Option<NodeRoom> {
        self.kept.get(self.place[node.0 as usize] as usize).map(|kept| kept.room)
    }

    /// Something was started that lasts beyond `start`.
    pub fn take(&mut self, state: &State, allocation: &Allocation) {
        for share in &allocation.shares {
            match self.place[share.node.0 as usize] {
                NONE => {}
                place => self.spare[place as usize].take(NodeRoom::of(state.node(share.node), share)),
            }
        }
    }
}

impl Planner {
    /// Lets everything that runs leave at its time limit, the earliest first, until the request fits on nodes that stay
    /// open for as long as it may run. Tasks for which `others` clear a place start there at once, and leave at their
    /// time limit as well.
    pub(super) fn reserve(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        job: JobId,
        now: Timestamp,
        others: &[Reservation],
    ) -> Option<Reservation> {
        let job = state.jobs.get(&job)?;
        let request = &job.spec.request;
        let slots = &self.pools[pool].wide();
        let using = self.advance.using(job.spec.reservation.as_ref());
        // It may start as soon as its shortest attempt fits.
        let shortest_s = job.spec.eligibility.time_min_s.or(job.spec.time_limit_s);
        let mut closures = Closures::new(&self.advance, slots, using, shortest_s, now);
        let fits = |closures: &Option<Closures<'_>>, slot: usize, room: NodeRoom| {
            let is_open = closures.as_ref().is_none_or(|closures| closures.is_open(slot));
            match is_open && self.nodes[slots[slot].0 as usize].takes_work {
                true => self.ranks_on(state, config, slots[slot], room, request),
                false => 0,
            }
        };
        // What is lent until others need it is given back as soon as the rest is free.
        let own = self.pools[pool].slots.len();
        let room_of = |(slot, node): (usize, &NodeId)| {
            let view = &self.nodes[node.0 as usize];
            if slot < own { view.room } else { view.whole }
        };
        let mut room: Vec<NodeRoom> = slots.iter().enumerate().map(room_of).collect();
        let now_fits: Vec<u32> =
            room.iter().enumerate().map(|(slot, room)| fits(&closures, slot, *room)).collect();
        let mut count = Count::new(request, &now_fits);
        let mut ranks = now_fits.clone();
        let mut moves = self.moves(now, others).peekable();
        let (mut horizon, mut changed) = (None, Vec::new());
        loop {
            let end = moves.peek().map(|(at, _)| *at);
            let flip = closures.as_ref().and_then(Closures::next);
            // When all that has a limit is gone, what repeats is over some day as well.
            if end.is_none_or(|end| end.0 == u64::MAX)
                && let (Some(closures), Some(flip)) = (&closures, flip)
                && flip > *horizon.get_or_insert_with(|| closures.horizon(flip))
            {
                return None;
            }
            let at = end.into_iter().chain(flip).min()?;
            if let Some(closures) = closures.as_mut().filter(|_| flip == Some(at)) {
                closures.pass_to(at, |slot| changed.push(slot));
            }
            // All that moves at the same instant moves together.
            while let Some((_, change)) = moves.next_if(|(when, _)| *when == at) {
                for held in change.shares() {
                    let Some(slot) = self.pools[pool].wide_slot(held.node) else { continue };
                    match change {
                        Move::Leave(_) => room[slot].give(held.room, self.nodes[held.node.0 as usize].whole),
                        Move::Come(_) => room[slot].take(held.room),
                    }
                    changed.push(slot);
                }
            }
            for slot in changed.drain(..) {
                let fitting = fits(&closures, slot, room[slot]);
                count.change(ranks[slot], fitting);
                ranks[slot] = fitting;
            }
            if !count.suffices() {
                continue;
            }
            if let Some(kept) = self.kept(state, config, pool, job, at, &room, &ranks, &now_fits) {
                return Some(self.reservation(state, config, pool, job, at, &room, &kept));
            }
        }
    }

    /// What leaves and comes from now on, in the order of time.
    fn moves<'a>(
        &'a self,
        now: Timestamp,
        others: &'a [Reservation],
    ) -> impl Iterator<Item = (Timestamp, Move<'a>)> {
        let mut ends = self
            .ends
            .iter()
            .map(move |((end, _), leaving)| ((*end).max(now), Move::Leave(leaving.shares())))
            .peekable();
        let cleared = || others.iter().filter(|other| other.clears_for.is_some());
        let come = cleared().map(move |other| (now, Move::Come(&other.kept)));
        let mut leave: Vec<_> = cleared().map(|other| (other.end, Move::Leave(&other.kept))).collect();
        leave.sort_by_key(|(end, _)| *end);
        let mut others = come.chain(leave).peekable();
        // Of what moves at the same instant, the victims leave before others come.
        std::iter::from_fn(move || match (ends.peek(), others.peek()) {
            (Some((end, _)), Some((other, _))) if other < end => others.next(),
            (Some(_), _) => ends.next(),
            (None, _) => others.next(),
        })
    }

    /// How many ranks are kept on which slots.
    #[expect(clippy::too_many_arguments, reason = "the walk's own view of the pool")]
    fn kept(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        at: Timestamp,
        room: &[NodeRoom],
        ranks: &[u32],
        now_fits: &[u32],
    ) -> Option<Vec<(usize, u32)>> {
        let slots = &self.pools[pool].wide();
        let request = &job.spec.request;
        let anywhere = request.nodes.is_none() && request.switches.is_none() && request.nodelist.is_empty();
        if !anywhere || request.contiguous || spreads_wide(request) {
            let mut candidates: Vec<Candidate> = (0..slots.len())
                .filter(|slot| ranks[*slot] > 0)
                .filter_map(|slot| self.candidate(state, config, slots[slot], room[slot], request))
                .collect();
            candidates.sort_by_key(|candidate| candidate.position);
            let fill = ranges::fill(config, request);
            let chosen = self.choose_for(state, pool, job, at, &candidates, fill)?;
            let kept = |chosen: Chosen| Some((self.pools[pool].wide_slot(chosen.node)?, chosen.ranks));
            return chosen.into_iter().map(kept).collect();
        }
        // A request that may lie anywhere first takes what is not free yet, so that what is free now stays usable.
        let mut left = request.ranks;
        let mut kept = vec![0; slots.len()];
        for (slot, ranks) in ranks.iter().enumerate() {
            kept[slot] = ranks.saturating_sub(now_fits[slot]).min(left);
            left -= kept[slot];
        }
        for (slot, ranks) in ranks.iter().enumerate() {
            let more = (ranks - kept[slot].min(*ranks)).min(left);
            kept[slot] += more;
            left -= more;
        }
        Some(kept.into_iter().enumerate().filter(|(_, ranks)| *ranks > 0).collect())
    }

    #[expect(clippy::too_many_arguments, reason = "the walk's own view of the pool")]
    fn reservation(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        start: Timestamp,
        room: &[NodeRoom],
        kept: &[(usize, u32)],
    ) -> Reservation {
        let slots = self.pools[pool].wide();
        let part = |&(slot, ranks): &(usize, u32)| {
            let node = slots[slot];
            let part = fit::part_of(state.node(node), config, room[slot], &job.spec.request, ranks);
            (HeldRoom { node, room: part }, room[slot])
        };
        let parts: Vec<_> = kept.iter().map(part).collect();
        let end = job.spec.time_limit_s.map_or(Timestamp(u64::MAX), |limit| start.plus_seconds(limit));
        Reservation::new(self.nodes.len(), start, end, None, &parts)
    }
}

/// What changes on nodes at an instant.
#[derive(Clone, Copy)]
enum Move<'a> {
    Leave(&'a [HeldRoom]),
    Come(&'a [HeldRoom]),
}

impl<'a> Move<'a> {
    fn shares(self) -> &'a [HeldRoom] {
        match self {
            Self::Leave(shares) | Self::Come(shares) => shares,
        }
    }
}

/// Whether a pool suffices for a request, kept up to date as nodes change.
pub(super) struct Count {
    ranks_needed: u64,
    nodes_needed: u32,
    /// Ranks of the smaller part, and how many nodes need one more.
    split: Option<(u32, u32)>,
    ranks: u64,
    nodes_low: u32,
    nodes_high: u32,
}

impl Count {
    pub fn new(request: &Request, fitting: &[u32]) -> Self {
        let is_range = request.nodes_max.is_some() && !request.ranks_grow;
        let request = &fit::least(request);
        let mut count = Self {
            ranks_needed: u64::from(request.ranks),
            nodes_needed: request.nodes.unwrap_or(0),
            split: request.nodes.map(|nodes| match is_range {
                // Over more nodes than the least, each may hold as little as one rank: the choice itself decides.
                true => (1, 0),
                false => fit::split(request.ranks, nodes),
            }),
            ranks: 0,
            nodes_low: 0,
            nodes_high: 0,
        };
        for ranks in fitting {
            count.change(0, *ranks);
        }
        count
    }

    pub fn change(&mut self, before: u32, after: u32) {
        self.ranks = self.ranks + u64::from(after) - u64::from(before);
        if let Some((low, _)) = self.split {
            self.nodes_low = self.nodes_low + u32::from(after >= low) - u32::from(before >= low);
            self.nodes_high = self.nodes_high + u32::from(after > low) - u32::from(before > low);
        }
    }

    pub fn suffices(&self) -> bool {
        match self.split {
            Some((_, larger)) => {
                let nodes = self.nodes_low >= self.nodes_needed && self.nodes_high >= larger;
                nodes && self.ranks >= self.ranks_needed
            }
            None => self.ranks >= self.ranks_needed,
        }
    }
}
