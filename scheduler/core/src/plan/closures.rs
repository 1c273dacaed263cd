//! Which nodes are open long enough for a task, as time goes on.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::advance::{Advance, Using};
use super::fit::{self, NodeRoom};
use super::reserve::Count;
use crate::cluster::PoolConfig;
use crate::ids::{NodeId, Timestamp};
use crate::notation::format_time_s;
use crate::reservation::{REPEAT_SPAN_US, Window};
use crate::spec::{JobSpec, Request};
use crate::state::State;

/// The nodes of a list that are open to a task which starts at an instant that only moves forward.
pub(super) struct Closures<'a> {
    advance: &'a Advance,
    using: Using,
    length_us: u64,
    /// How many reservations keep the task from starting on each node of the list.
    closed: Vec<u32>,
    /// For each reservation the places of its nodes in the list.
    places: Vec<Vec<u32>>,
    flips: BinaryHeap<Reverse<Flip>>,
}

/// An instant from which on a reservation lets the task start, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Flip {
    at: Timestamp,
    reservation: usize,
    opens: bool,
    /// Start of the window.
    window: Timestamp,
}

impl<'a> Closures<'a> {
    /// How the nodes stand at `from`; none if nothing ever closes one of them to such a task.
    pub fn new(
        advance: &'a Advance,
        slots: &[NodeId],
        using: Using,
        limit_s: Option<u64>,
        from: Timestamp,
    ) -> Option<Self> {
        if advance.is_empty() && using == Using::Nothing {
            return None;
        }
        let length_us = limit_s.map_or(u64::MAX, |limit| limit.saturating_mul(1_000_000));
        let is_outside = |node: &NodeId| match using {
            Using::Nothing => false,
            _ => !advance.used(using).is_some_and(|used| used.keeps(*node)),
        };
        let mut closures = Self {
            advance,
            using,
            length_us,
            closed: slots.iter().map(|node| u32::from(is_outside(node))).collect(),
            places: Vec::new(),
            flips: BinaryHeap::new(),
        };
        for (i, reservation) in advance.list().iter().enumerate() {
            let kept = (0..).zip(slots).filter(|(_, node)| reservation.keeps(**node));
            let places: Vec<u32> = kept.map(|(place, _)| place).collect();
            let window = reservation.windows.first_open(from).filter(|_| !places.is_empty());
            if closures.is_used(i) {
                // Closed but for what the flips open.
                for place in &places {
                    closures.closed[*place as usize] += 1;
                }
            }
            closures.places.push(places);
            if let Some(window) = window {
                closures.expect(i, window);
            }
        }
        closures.pass_to(from, |_| {});
        let is_open = closures.flips.is_empty() && closures.closed.iter().all(|closed| *closed == 0);
        (!is_open).then_some(closures)
    }

    fn is_used(&self, reservation: usize) -> bool {
        self.using == Using::This(reservation as u32)
    }

    fn flip(&mut self, at: u64, reservation: usize, opens: bool, window: Timestamp) {
        self.flips.push(Reverse(Flip { at: Timestamp(at), reservation, opens, window }));
    }

    /// Writes down what a window brings first: outsiders are kept out from their time limit before its start on, and
    /// those who use it are let in at its start.
    fn expect(&mut self, reservation: usize, window: Window) {
        match self.is_used(reservation) {
            true if self.length_us > window.end.micros_since(window.start) => {}
            true => self.flip(window.start.0, reservation, true, window.start),
            false => {
                let closes = (window.start.0.saturating_add(1)).saturating_sub(self.length_us);
                self.flip(closes, reservation, false, window.start);
            }
        }
    }

    /// Writes down what comes after a flip.
    fn follow(&mut self, flip: Flip) {
        let windows = self.advance.list()[flip.reservation].windows;
        let end = flip.window.plus_seconds(windows.duration_s);
        let next = windows.after(Window { start: flip.window, end });
        match (self.is_used(flip.reservation), flip.opens) {
            (true, true) => {
                let last = end.0.saturating_sub(self.length_us);
                self.flip(last.saturating_add(1), flip.reservation, false, flip.window);
            }
            (true, false) => {
                if let Some(next) = next {
                    self.expect(flip.reservation, next);
                }
            }
            // What is longer than the gap between two windows never starts again.
            (false, false) if windows.gap_us().is_some_and(|gap| self.length_us > gap) => {}
            (false, false) => self.flip(end.0, flip.reservation, true, flip.window),
            (false, true) => {
                if let Some(next) = next {
                    self.expect(flip.reservation, next);
                }
            }
        }
    }

    /// The next instant at which a node opens or closes.
    pub fn next(&self) -> Option<Timestamp> {
        self.flips.peek().map(|Reverse(flip)| flip.at)
    }

    /// Goes on to an instant and tells of each node that may have changed, by its place in the list.
    pub fn pass_to(&mut self, at: Timestamp, mut changed: impl FnMut(usize)) {
        let mut touched = Vec::new();
        while let Some(Reverse(flip)) = self.flips.peek().copied().filter(|Reverse(flip)| flip.at <= at) {
            self.flips.pop();
            for place in &self.places[flip.reservation] {
                let closed = &mut self.closed[*place as usize];
                *closed = if flip.opens { *closed - 1 } else { *closed + 1 };
            }
            touched.push(flip.reservation);
            self.follow(flip);
        }
        touched.sort_unstable();
        touched.dedup();
        for reservation in touched {
            self.places[reservation].iter().for_each(|place| changed(*place as usize));
        }
    }

    /// Whether the task may start on a node now, if it has room.
    pub fn is_open(&self, place: usize) -> bool {
        self.closed[place] == 0
    }

    /// After this instant nothing new comes, if what runs has ended by `idle`.
    pub fn horizon(&self, idle: Timestamp) -> Timestamp {
        Timestamp(self.advance.settles_at().max(idle).0.saturating_add(REPEAT_SPAN_US))
    }
}

/// A request on nodes that hold so many ranks of it.
pub(super) struct OnNodes<'a> {
    pub advance: &'a Advance,
    pub slots: &'a [NodeId],
    /// Ranks that each of the nodes holds when empty.
    pub ranks: &'a [u32],
    pub request: &'a Request,
    /// Whether a node must be among those that it gets.
    pub required: &'a [bool],
    pub using: Using,
}

impl OnNodes<'_> {
    /// Whether enough nodes are ever open at once for so long.
    pub fn ever(&self, limit_s: Option<u64>, now: Timestamp) -> bool {
        let closures = Closures::new(self.advance, self.slots, self.using, limit_s, now);
        let Some(mut closures) = closures else {
            return fit::suffices(self.request, self.ranks.iter().copied());
        };
        let mut held: Vec<u32> = self.ranks.to_vec();
        let open = |closures: &Closures<'_>, i: usize| if closures.is_open(i) { self.ranks[i] } else { 0 };
        for (i, held) in held.iter_mut().enumerate() {
            *held = open(&closures, i);
        }
        let mut count = Count::new(self.request, &held);
        let horizon = closures.horizon(now);
        loop {
            let has_required = |held: &[u32]| self.required.iter().zip(held).all(|(must, h)| !must || *h > 0);
            if count.suffices() && has_required(&held) {
                return true;
            }
            let Some(at) = closures.next().filter(|at| *at <= horizon) else { return false };
            let mut changed = Vec::new();
            closures.pass_to(at, |i| changed.push(i));
            for i in changed {
                let now_held = open(&closures, i);
                count.change(held[i], now_held);
                held[i] = now_held;
            }
        }
    }

    /// The longest time for which enough nodes are ever open at once, in seconds, below `limit_s`.
    fn longest_s(&self, limit_s: u64, now: Timestamp) -> u64 {
        let (mut fits, mut too_long) = (0, limit_s);
        while too_long - fits > 1 {
            let between = fits + (too_long - fits) / 2;
            match self.ever(Some(between), now) {
                true => fits = between,
                false => too_long = between,
            }
        }
        fits
    }

    /// Why the request never runs for so long because of reservations; none if it may, some day.
    pub fn never(&self, limit_s: Option<u64>, now: Timestamp) -> Option<String> {
        if self.ever(limit_s, now) {
            return None;
        }
        let longest = self.longest_s(limit_s.unwrap_or(REPEAT_SPAN_US / 1_000_000), now);
        let limit = limit_s.map_or("none".to_owned(), format_time_s);
        Some(match (self.advance.used(self.using), longest) {
            (Some(used), 0) => {
                format!(
                    "the nodes of reservation '{}' that its pool has cannot hold it in any window",
                    used.name
                )
            }
            (_, 0) => "reservations keep the nodes that could hold it for good".to_owned(),
            (_, longest) => format!(
                "its time limit is {limit}, and the longest gap between reservations in which enough nodes are free of \
                 them at once is {}",
                format_time_s(longest)
            ),
        })
    }
}

/// Why a job never runs because of reservations, even if nothing else did; none if it may, some day.
#[must_use]
pub fn never_open(state: &State, pool: &PoolConfig, spec: &JobSpec, now: Timestamp) -> Option<String> {
    // Only what comes again and again can keep a job out for ever.
    let repeats = || state.reservations().any(|reserved| reserved.reservation.windows.repeat.is_some());
    if spec.reservation.is_none() && !repeats() {
        return None;
    }
    let advance = Advance::new(state, now);
    let using = advance.using(spec.reservation.as_ref());
    let slots: Vec<NodeId> = fit::pool_nodes(state, pool).collect();
    let shortest_s = spec.eligibility.time_min_s.or(spec.time_limit_s);
    never_on(state, pool, &advance, &slots, using, &spec.request, shortest_s, now)
}

/// The same on nodes of the pool that are known.
#[expect(clippy::too_many_arguments, reason = "what a pass and a submission have in common")]
pub(super) fn never_on(
    state: &State,
    pool: &PoolConfig,
    advance: &Advance,
    slots: &[NodeId],
    using: Using,
    request: &Request,
    limit_s: Option<u64>,
    now: Timestamp,
) -> Option<String> {
    let whole = |node: &NodeId| {
        let node = state.node(*node);
        fit::ranks_that_fit(node, pool, NodeRoom::whole(node), request)
    };
    let ranks: Vec<u32> = slots.iter().map(whole).collect();
    let required: Vec<bool> = match request.nodelist.is_empty() {
        true => Vec::new(),
        false => slots.iter().map(|node| super::suits::is_required(state.node(*node), request)).collect(),
    };
    let on = OnNodes { advance, slots, ranks: &ranks, request, required: &required, using };
    // Without reservations that is told elsewhere, in other numbers.
    fit::suffices(request, ranks.iter().copied()).then(|| on.never(limit_s, now)).flatten()
}
