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
    /// longest, and where. `spans` tells the end of both, of what starts at an instant.
    pub fn earliest(
        &mut self,
        search: &Search<'_>,
        spans: impl Fn(Timestamp) -> (Timestamp, Timestamp),
        fits: impl Fn(usize, NodeRoom) -> u32,
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
            if suffices(&self.least) {
                let Some(kept) = choose(&self.least) else {
                    first += 1;
                    continue;
                };
                let longer = self.longer(search, first, (end, longest), &suffices, &choose);
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What holds at each instant, kept plainly: a row for every second.
    const SECONDS: u64 = 40;

    fn room(cores: u32, gib: u64) -> NodeRoom {
        NodeRoom { cores, memory_bytes: gib << 30, ..NodeRoom::default() }
    }

    fn second(at: u64) -> Timestamp {
        Timestamp(0).plus_seconds(at)
    }

    /// Steps that rise, as nodes get free.
    fn profile(steps: &[(u64, Vec<(u32, u64)>)]) -> Profile {
        let slots = 3;
        let mut rows = vec![room(0, 0); slots];
        let mut profile = Profile { slots, steps: Vec::new(), rooms: Vec::new(), least: Vec::new() };
        let mut at = 0;
        for (after, more) in steps {
            for (row, (cores, gib)) in rows.iter_mut().zip(more) {
                row.put(room(*cores, *gib));
            }
            profile.push(second(at), &rows);
            at += after;
        }
        profile
    }

    fn at(profile: &Profile, second_of: u64) -> Vec<NodeRoom> {
        let i = profile.steps.partition_point(|step| step.from <= second(second_of)) - 1;
        profile.row(profile.steps[i]).to_vec()
    }

    /// One rank of these cores and this memory on each of so many slots.
    fn ranks(need: NodeRoom) -> impl Fn(usize, NodeRoom) -> u32 {
        move |_, room| u32::from(room.holds(need))
    }

    fn choose(need: NodeRoom, nodes: u32) -> impl Fn(&[NodeRoom]) -> Option<Vec<Kept>> {
        move |room| {
            let fitting = room.iter().enumerate().filter(|(_, room)| room.holds(need));
            let kept = fitting.map(|(slot, _)| Kept { slot: slot as u32, ranks: 1, room: need });
            let kept: Vec<Kept> = kept.take(nodes as usize).collect();
            (kept.len() == nodes as usize).then_some(kept)
        }
    }

    /// Looks at every second, with nothing skipped.
    fn plainly(
        profile: &Profile,
        need: NodeRoom,
        nodes: u32,
        limit_s: u64,
        own: Option<&Stay<'_>>,
    ) -> Option<u64> {
        let latest = own.map_or(SECONDS * 4, |own| own.from.seconds());
        (0..latest).find(|start| {
            let mut least = at(profile, *start);
            for second_of in *start..start + limit_s {
                let mut row = at(profile, second_of);
                for kept in own.filter(|own| own.covers(second(second_of))).map_or(&[][..], |own| own.kept) {
                    row[kept.slot as usize].put(kept.room);
                }
                if second_of == *start {
                    least.clone_from(&row);
                }
                least = least.iter().zip(&row).map(|(a, b)| a.at_most(*b)).collect();
            }
            choose(need, nodes)(&least).is_some()
        })
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Vec<(u32, u64)>)>> {
        prop::collection::vec((1..9u64, prop::collection::vec((0..4u32, 0..4u64), 3)), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_earliest_start_is_the_one_that_a_plain_look_at_every_second_finds(
            steps in steps(),
            tasks in prop::collection::vec((1..4u32, 0..4u64, 1..4u32, 1..12u64), 1..8),
        ) {
            let mut profile = profile(&steps);
            let mut kept: Vec<(u64, u64, NodeRoom, u32, Vec<Kept>)> = Vec::new();
            for (cores, gib, nodes, limit_s) in tasks {
                let need = room(cores, gib);
                let request = Request { nodes: Some(nodes), ranks: nodes, cores_per_rank: cores, ..Request::default() };
                let search = Search { request: &request, own: None };
                let spans = |start: Timestamp| (start.plus_seconds(limit_s), start.plus_seconds(limit_s));
                let found = profile.earliest(&search, spans, ranks(need), choose(need, nodes));
                let plain = plainly(&profile, need, nodes, limit_s, None);
                prop_assert_eq!(found.as_ref().map(|(start, ..)| start.seconds()), plain);
                let Some((start, _, room)) = found else { continue };
                let taken = profile.take(&Stay { from: start, to: start.plus_seconds(limit_s), kept: &room });
                prop_assert!(taken);
                kept.push((start.seconds(), limit_s, need, nodes, room));
            }
            // Each is lifted once, as if what it keeps were free.
            for (start, limit_s, need, nodes, room) in &kept {
                let own = Stay { from: second(*start), to: second(start + limit_s), kept: room };
                let request =
                    Request { nodes: Some(*nodes), ranks: *nodes, cores_per_rank: need.cores, ..Request::default() };
                let search = Search { request: &request, own: Some(&own) };
                let spans = |start: Timestamp| (start.plus_seconds(*limit_s), start.plus_seconds(*limit_s));
                let found = profile.earliest(&search, spans, ranks(*need), choose(*need, *nodes));
                let plain = plainly(&profile, *need, *nodes, *limit_s, Some(&own));
                prop_assert_eq!(found.map(|(start, ..)| start.seconds()), plain);
                let within = profile.least_within(&own).to_vec();
                prop_assert!(choose(*need, *nodes)(&within).is_some(), "its own place holds it");
            }
        }

        #[test]
        fn what_is_taken_at_once_is_what_is_taken_one_after_the_other(
            steps in steps(),
            spans in prop::collection::vec((0..SECONDS, 1..20u64, 0..3u32, 0..3u32, 0..3u64), 0..8),
        ) {
            let base = profile(&steps);
            let kept: Vec<_> = spans
                .iter()
                .map(|(from, long, slot, cores, gib)| (*from, *long, [Kept { slot: *slot, ranks: 1, room: room(*cores, *gib) }]))
                .collect();
            let spans: Vec<Stay<'_>> = kept
                .iter()
                .map(|(from, long, kept)| Stay { from: second(*from), to: second(from + long), kept })
                .collect();
            let mut one_by_one = profile(&steps);
            let all_there = spans.iter().all(|span| one_by_one.take(span));
            match base.without(&spans) {
                None => prop_assert!(!all_there),
                Some(at_once) => {
                    prop_assert!(all_there);
                    for second_of in 0..SECONDS + 25 {
                        prop_assert_eq!(at(&at_once, second_of), at(&one_by_one, second_of));
                    }
                    for profile in [&at_once, &one_by_one] {
                        for step in &profile.steps {
                            let cores: u64 = profile.row(*step).iter().map(|room| u64::from(room.cores)).sum();
                            prop_assert_eq!(step.cores, cores);
                        }
                    }
                    for span in &spans {
                        one_by_one.give(span);
                    }
                    for second_of in 0..SECONDS + 25 {
                        prop_assert_eq!(at(&base, second_of), at(&one_by_one, second_of));
                    }
                }
            }
        }
    }
}
