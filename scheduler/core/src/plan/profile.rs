//! What is free over time.

use super::fit::{self, NodeRoom};
use super::index::Planner;
use crate::ids::Timestamp;
use crate::spec::Request;

/// What a task keeps on a slot of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub slot: u32,
    pub ranks: u32,
    pub room: NodeRoom,
}

/// What a task keeps, and from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stay<'a> {
    pub from: Timestamp,
    /// The end of time for a task without a limit.
    pub to: Timestamp,
    pub kept: &'a [Kept],
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    pub request: &'a Request,
    /// What the task keeps at present: it counts as free, and only an earlier start is looked for.
    pub own: Option<&'a Stay<'a>>,
}

/// The room on every slot of a pool, from now on, in steps.
pub(super) struct Profile {
    slots: usize,
    steps: Vec<Step>,
    /// One row of slots for each step, in no order: a new step costs one row at the end.
    rooms: Vec<NodeRoom>,
    /// A row to calculate with.
    least: Vec<NodeRoom>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    from: Timestamp,
    /// Free cores of all slots together: most steps that are too small are seen at that.
    cores: u64,
    row: usize,
}

impl Stay<'_> {
    fn cores(&self) -> u64 {
        self.kept.iter().map(|kept| u64::from(kept.room.cores)).sum()
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}

impl Profile {
    /// What is free if everything that runs uses its whole time limit.
    pub fn new(planner: &Planner, pool: usize, now: Timestamp) -> Self {
        let slots = &planner.pools[pool].slots;
        let view = |slot: usize| &planner.nodes[slots[slot].0 as usize];
        let closed = NodeRoom::default();
        let open = |slot: usize| if view(slot).takes_work { view(slot).room } else { closed };
        let mut room: Vec<NodeRoom> = (0..slots.len()).map(open).collect();
        let mut profile =
            Self { slots: slots.len(), steps: Vec::new(), rooms: Vec::new(), least: Vec::new() };
        profile.push(now, &room);
        for ((end, _), leaving) in &planner.ends {
            // What is overdue may leave at any instant, but not at this one.
            let end = (*end).max(Timestamp(now.0 + 1));
            for held in leaving.shares() {
                let slot = planner.pools[pool].slot(held.node).filter(|slot| view(*slot).takes_work);
                let Some(slot) = slot else { continue };
                room[slot].give(held.room, planner.nodes[held.node.0 as usize].whole);
            }
            profile.push(end, &room);
        }
        profile
    }

    /// Adds a step at the end, or changes the last one if it begins then.
    fn push(&mut self, from: Timestamp, room: &[NodeRoom]) {
        let cores = room.iter().map(|room| u64::from(room.cores)).sum();
        match self.steps.last_mut() {
            Some(last) if last.from == from => {
                last.cores = cores;
                let row = last.row;
                self.row_mut(row).copy_from_slice(room);
            }
            _ => {
                self.steps.push(Step { from, cores, row: self.rooms.len() });
                self.rooms.extend_from_slice(room);
            }
        }
    }

    /// Makes instants from which more may fit than before, though nothing leaves, steps of their own.
    pub fn cut_at(&mut self, instants: impl IntoIterator<Item = Timestamp>) {
        for at in instants {
            self.split(at);
        }
    }

    /// From when on nothing changes any more.
    pub fn last(&self) -> Timestamp {
        self.steps.last().map_or(Timestamp(0), |step| step.from)
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.steps.len() * self.slots
    }

    fn row(&self, step: Step) -> &[NodeRoom] {
        &self.rooms[step.row..step.row + self.slots]
    }

    fn row_mut(&mut self, row: usize) -> &mut [NodeRoom] {
        &mut self.rooms[row..row + self.slots]
    }

    /// The same with all these spans taken out at once; none if one of them is not there.
    pub fn without(&self, spans: &[Stay<'_>]) -> Option<Self> {
        let mut changes: Vec<(Timestamp, bool, &Stay<'_>)> =
            spans.iter().flat_map(|span| [(span.from, true, span), (span.to, false, span)]).collect();
        changes.sort_unstable_by_key(|(at, begins, _)| (*at, *begins));
        let mut changes = changes.into_iter().peekable();
        let mut taken = vec![NodeRoom::default(); self.slots];
        let mut room = self.row(self.steps[0]).to_vec();
        let (steps, rooms) = (Vec::with_capacity(self.steps.len()), Vec::with_capacity(self.rooms.len()));
        let mut profile = Self { slots: self.slots, steps, rooms, least: Vec::new() };
        let mut next = 0;
        loop {
            let step = self.steps.get(next).map(|step| step.from);
            let change = changes.peek().map(|(at, ..)| *at).filter(|at| *at < Timestamp(u64::MAX));
            let Some(at) = step.into_iter().chain(change).min() else { return Some(profile) };
            next += usize::from(step == Some(at));
            while let Some((_, begins, span)) = changes.next_if(|(when, ..)| *when == at) {
                for kept in span.kept {
                    let taken = &mut taken[kept.slot as usize];
                    if !begins {
                        taken.take(kept.room);
                        continue;
                    }
                    let others = *taken;
                    taken.put(kept.room);
                    // More than can be counted is more than there is.
                    if taken.gres.minus(kept.room.gres) != others.gres {
                        return None;
                    }
                }
            }
            let base = self.row(self.steps[next - 1]);
            for ((room, base), taken) in room.iter_mut().zip(base).zip(&taken) {
                if !base.holds(*taken) {
                    return None;
                }
                *room = *base;
                room.take(*taken);
            }
            profile.push(at, &room);
        }
    }

    /// The steps that overlap a span, after making its ends steps of their own.
    fn cut(&mut self, span: &Stay<'_>) -> std::ops::Range<usize> {
        let first = self.split(span.from);
        let last = self.split(span.to);
        first..last
    }

    fn split(&mut self, at: Timestamp) -> usize {
        match self.steps.binary_search_by_key(&at, |step| step.from) {
            Ok(i) => i,
            Err(0) => 0,
            Err(i) if at == Timestamp(u64::MAX) => i,
            Err(i) => {
                let before = self.steps[i - 1];
                let row = self.rooms.len();
                self.rooms.extend_from_within(before.row..before.row + self.slots);
                self.steps.insert(i, Step { from: at, row, ..before });
                i
            }
        }
    }

    /// Takes what is kept out of a span; `false`, and nothing taken, if it is not there.
    pub fn take(&mut self, span: &Stay<'_>) -> bool {
        let range = self.cut(span);
        let there = |step: &Step| {
            let row = self.row(*step);
            span.kept.iter().all(|kept| row[kept.slot as usize].holds(kept.room))
        };
        if !self.steps[range.clone()].iter().all(there) {
            return false;
        }
        let cores = span.cores();
        for i in range {
            self.steps[i].cores -= cores;
            let row = self.row_mut(self.steps[i].row);
            for kept in span.kept {
                row[kept.slot as usize].take(kept.room);
            }
        }
        true
    }

    /// Takes what somebody else keeps out of an interval, as far as it is there.
    pub fn hold(&mut self, from: Timestamp, to: Timestamp, held: impl Iterator<Item = (usize, NodeRoom)>) {
        let range = self.cut(&Stay { from, to, kept: &[] });
        for (slot, held) in held {
            for i in range.clone() {
                let room = &mut self.row_mut(self.steps[i].row)[slot];
                let before = room.cores;
                room.take(held);
                let less = before - room.cores;
                self.steps[i].cores -= u64::from(less);
            }
        }
    }

    /// Puts what was kept back.
    pub fn give(&mut self, span: &Stay<'_>) {
        let cores = span.cores();
        for i in self.cut(span) {
            self.steps[i].cores += cores;
            let row = self.row_mut(self.steps[i].row);
            for kept in span.kept {
                row[kept.slot as usize].put(kept.room);
            }
        }
    }

    /// The least room that each slot has within a span, where what the span keeps counts as free.
    pub fn least_within(&mut self, span: &Stay<'_>) -> &[NodeRoom] {
        let first = self.steps.partition_point(|step| step.from < span.from);
        let last = self.steps.partition_point(|step| step.from < span.to);
        self.least_of(first..last, Some(span));
        &self.least
    }

    fn least_of(&mut self, range: std::ops::Range<usize>, own: Option<&Stay<'_>>) {
        let mut least = std::mem::take(&mut self.least);
        least.clear();
        for step in &self.steps[range] {
            self.lessen(&mut least, *step, own);
        }
        self.least = least;
    }

    /// Takes a step into account.
    fn lessen(&self, least: &mut Vec<NodeRoom>, step: Step, own: Option<&Stay<'_>>) {
        let row = self.row(step);
        let own = own.filter(|own| own.covers(step.from)).map_or(&[][..], |own| own.kept);
        if least.is_empty() {
            least.extend_from_slice(row);
            for kept in own {
                least[kept.slot as usize].put(kept.room);
            }
            return;
        }
        let with_own = |kept: &Kept| {
            let mut room = row[kept.slot as usize];
            room.put(kept.room);
            (kept.slot as usize, room.at_most(least[kept.slot as usize]))
        };
        let with_own: Vec<(usize, NodeRoom)> = own.iter().map(with_own).collect();
        for (least, room) in least.iter_mut().zip(row) {
            *least = least.at_most(*room);
        }
        for (slot, room) in with_own {
            least[slot] = room;
        }
    }

    /// The earliest instant from which a task fits for its shortest span, how long it may stay there, up to its
    /// longest, and where. `spans` tells the end of both, of what starts at an instant; `close` takes the room of slots
    /// that are closed between two instants.
    pub fn earliest(
        &mut self,
        search: &Search<'_>,
        spans: impl Fn(Timestamp) -> (Timestamp, Timestamp),
        fits: impl Fn(usize, NodeRoom) -> u32,
        close: impl Fn(Timestamp, Timestamp, &mut [NodeRoom]),
        choose: impl Fn(&[NodeRoom]) -> Option<Vec<Kept>>,
    ) -> Option<(Timestamp, Timestamp, Vec<Kept>)> {
        let suffices = |room: &[NodeRoom]| {
            fit::suffices(search.request, room.iter().enumerate().map(|(slot, room)| fits(slot, *room)))
        };
        let needed = search.request.cores_total();
        let own_cores = search.own.map_or(0, Stay::cores);
        let is_own = |step: &Step| search.own.is_some_and(|own| own.covers(step.from));
        let large = |step: &Step| step.cores + if is_own(step) { own_cores } else { 0 } >= needed;
        let before = search
            .own
            .map_or(self.steps.len(), |own| self.steps.partition_point(|step| step.from < own.from));
        let mut first = 0;
        while first < before {
            if !large(&self.steps[first]) {
                first += 1;
                continue;
            }
            let start = self.steps[first].from;
            let (end, longest) = spans(start);
            // Where a step alone is too small, no earlier start can span it.
            let window = self.steps[first..].iter().take_while(|step| step.from < end || step.from == start);
            let mut last = first;
            let mut small = None;
            for step in window {
                if !large(step) {
                    small = Some(last);
                    break;
                }
                last += 1;
            }
            if let Some(small) = small {
                first = small + 1;
                continue;
            }
            self.least_of(first..last, search.own);
            close(start, end, &mut self.least);
            if suffices(&self.least) {
                let Some(kept) = choose(&self.least) else {
                    first += 1;
                    continue;
                };
                let longer = self.longer(search, first, (end, longest), &suffices, &close, &choose);
                let (end, kept) = longer.unwrap_or((end, kept));
                return Some((start, end, kept));
            } else {
                first = self.after_the_obstacle(first..last, search.own, &suffices);
            }
        }
        None
    }

    /// How long beyond `end` a task may stay from the step `first` on, up to its longest span, and where. What is the
    /// least up to `end` was found just before.
    fn longer(
        &mut self,
        search: &Search<'_>,
        first: usize,
        (end, longest): (Timestamp, Timestamp),
        suffices: &impl Fn(&[NodeRoom]) -> bool,
        close: &impl Fn(Timestamp, Timestamp, &mut [NodeRoom]),
        choose: &impl Fn(&[NodeRoom]) -> Option<Vec<Kept>>,
    ) -> Option<(Timestamp, Vec<Kept>)> {
        if end >= longest {
            return None;
        }
        let mut least = std::mem::take(&mut self.least);
        let (mut ends, mut is_open) = (Vec::new(), true);
        let beyond = self.steps[first + 1..].iter().filter(|step| step.from >= end);
        for step in beyond.take_while(|step| step.from < longest) {
            if step.from > end {
                ends.push(step.from);
            }
            self.lessen(&mut least, *step, search.own);
            if !suffices(&least) {
                is_open = false;
                break;
            }
        }
        ends.extend(is_open.then_some(longest));
        ends.into_iter().rev().find_map(|end| {
            let last = self.steps.partition_point(|step| step.from < end);
            self.least_of(first..last, search.own);
            close(self.steps[first].from, end, &mut self.least);
            Some((end, choose(&self.least)?))
        })
    }

    /// The first step from which a request may fit that does not fit throughout a range of steps.
    fn after_the_obstacle(
        &self,
        range: std::ops::Range<usize>,
        own: Option<&Stay<'_>>,
        suffices: &impl Fn(&[NodeRoom]) -> bool,
    ) -> usize {
        let mut least = Vec::new();
        for i in range.clone() {
            self.lessen(&mut least, self.steps[i], own);
            if !suffices(&least) {
                let mut alone = Vec::new();
                self.lessen(&mut alone, self.steps[i], own);
                return if suffices(&alone) { range.start + 1 } else { i + 1 };
            }
        }
        range.start + 1
    }
}

#[cfg(test)]
mod tests;
