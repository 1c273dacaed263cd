//! What is free over time.

use super::fit::NodeRoom;
use super::index::Planner;
use crate::cluster::PoolConfig;
use crate::ids::Timestamp;
use crate::spec::Request;
use crate::state::State;

/// What a task keeps on a slot of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub slot: u32,
    pub ranks: u32,
    pub room: NodeRoom,
}

/// The room on every slot of a pool, from now on, in steps.
pub(super) struct Profile {
    steps: Vec<Step>,
}

struct Step {
    from: Timestamp,
    room: Vec<NodeRoom>,
}

impl Profile {
    /// What is free if everything that runs uses its whole time limit.
    pub fn new(planner: &Planner, pool: usize, now: Timestamp) -> Self {
        let slots = &planner.pools[pool].slots;
        let view = |slot: usize| &planner.nodes[slots[slot].0 as usize];
        let closed = NodeRoom::default();
        let open = |slot: usize| if view(slot).takes_work { view(slot).room } else { closed };
        let mut room: Vec<NodeRoom> = (0..slots.len()).map(open).collect();
        let mut steps = vec![Step { from: now, room: room.clone() }];
        for ((end, _), leaving) in &planner.ends {
            // What is overdue may leave at any instant, but not at this one.
            let end = (*end).max(Timestamp(now.0 + 1));
            for held in leaving.shares() {
                let slot = planner.pools[pool].slot(held.node).filter(|slot| view(*slot).takes_work);
                let Some(slot) = slot else { continue };
                room[slot].give(held.room, planner.nodes[held.node.0 as usize].whole);
            }
            match steps.last_mut() {
                Some(last) if last.from == end => last.room.clone_from(&room),
                _ => steps.push(Step { from: end, room: room.clone() }),
            }
        }
        Self { steps }
    }

    /// Makes instants from which more may fit than before, though nothing leaves, steps of their own.
    pub fn cut_at(&mut self, instants: impl IntoIterator<Item = Timestamp>) {
        for at in instants {
            self.cut(at, at);
        }
    }

    /// From when on nothing changes any more.
    pub fn last(&self) -> Timestamp {
        self.steps.last().map_or(Timestamp(0), |step| step.from)
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.steps.len() * self.steps[0].room.len()
    }

    /// The steps that overlap `from..to`, after making its ends steps of their own.
    fn cut(&mut self, from: Timestamp, to: Timestamp) -> std::ops::Range<usize> {
        let mut split = |at: Timestamp| match self.steps.binary_search_by_key(&at, |step| step.from) {
            Ok(i) => i,
            Err(0) => 0,
            Err(i) => {
                let room = self.steps[i - 1].room.clone();
                self.steps.insert(i, Step { from: at, room });
                i
            }
        };
        let first = split(from);
        let last = split(to);
        first..last
    }

    /// Takes what is kept out of an interval; `false`, and nothing taken, if it is not there.
    pub fn take(&mut self, from: Timestamp, to: Timestamp, kept: &[Kept]) -> bool {
        let range = self.cut(from, to);
        let there = |step: &Step| kept.iter().all(|kept| step.room[kept.slot as usize].holds(kept.room));
        if !self.steps[range.clone()].iter().all(there) {
            return false;
        }
        for step in &mut self.steps[range] {
            for kept in kept {
                step.room[kept.slot as usize].take(kept.room);
            }
        }
        true
    }

    /// Puts what was kept back.
    pub fn give(&mut self, from: Timestamp, to: Timestamp, kept: &[Kept]) {
        let range = self.cut(from, to);
        for step in &mut self.steps[range] {
            for kept in kept {
                let room = &mut step.room[kept.slot as usize];
                room.cores += kept.room.cores;
                room.memory_bytes = room.memory_bytes.saturating_add(kept.room.memory_bytes);
                room.gres = room.gres.plus(kept.room.gres);
            }
        }
    }

    /// The earliest instant from which a request fits for `limit_s`, and where. `close` takes the room of slots that are
    /// closed between two instants.
    pub fn earliest(
        &self,
        request: &Request,
        limit_s: Option<u64>,
        fits: impl Fn(usize, NodeRoom) -> u32,
        close: impl Fn(Timestamp, Timestamp, &mut [NodeRoom]),
        choose: impl Fn(&[NodeRoom]) -> Option<Vec<Kept>>,
    ) -> Option<(Timestamp, Vec<Kept>)> {
        let suffices = |room: &[NodeRoom]| {
            super::fit::suffices(request, room.iter().enumerate().map(|(slot, room)| fits(slot, *room)))
        };
        let mut first = 0;
        'start: while first < self.steps.len() {
            let start = self.steps[first].from;
            let end = limit_s.map_or(Timestamp(u64::MAX), |limit| start.plus_seconds(limit));
            let mut least = self.steps[first].room.clone();
            close(start, end, &mut least);
            if !suffices(&least) {
                first += 1;
                continue;
            }
            for (i, step) in self.steps.iter().enumerate().skip(first + 1) {
                if step.from >= end {
                    break;
                }
                for (least, room) in least.iter_mut().zip(&step.room) {
                    *least = least.at_most(*room);
                }
                if !suffices(&least) {
                    // Where the step alone is too small, no earlier start can span it.
                    first = if suffices(&step.room) { first + 1 } else { i + 1 };
                    continue 'start;
                }
            }
            match choose(&least) {
                Some(kept) => return Some((start, kept)),
                None => first += 1,
            }
        }
        None
    }
}

/// How many ranks of a request the room on a slot holds.
pub(super) fn fits(
    planner: &Planner,
    state: &State,
    config: &PoolConfig,
    pool: usize,
    request: &Request,
    slot: usize,
    room: NodeRoom,
) -> u32 {
    planner.ranks_on(state, config, planner.pools[pool].slots[slot], room, request)
}
