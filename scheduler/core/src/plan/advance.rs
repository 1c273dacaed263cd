//! Advance reservations as passes see them: from when on each node is closed to whom.
//!
//! Whatever may not use a reservation may only run on its nodes if it has ended, by its time limit, before the window
//! starts. What uses one runs on its nodes alone, within one window.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Reason;
use super::index::Planner;
use crate::ids::{JobId, NodeId, Timestamp};
use crate::reservation::{AdvanceReservation, REPEAT_SPAN_US, Window, Windows};
use crate::state::{Job, State};

/// Which reservation a job uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Using {
    /// None.
    Nothing,
    /// This one, by its place in the list.
    This(u32),
    /// One that is not there.
    Gone,
}

/// All reservations, and how the nodes stand at the instant of the pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Advance {
    /// In the order of their names.
    list: Vec<Arc<AdvanceReservation>>,
    /// By node id; empty without reservations.
    nodes: Vec<Closing>,
    /// The instants at which nodes close, rising, each once.
    closings: Vec<Timestamp>,
    /// The instants at which windows start and end between which the above stays as it is.
    valid: (Timestamp, Timestamp),
}

/// When a node is closed next: the starts of the first windows that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closing {
    first: Timestamp,
    /// Whose window that is.
    by: u32,
    /// The first of another reservation.
    second: Timestamp,
    second_by: u32,
    /// How long ago the last window ended, in microseconds, if that was just now.
    late_us: u64,
}

/// How late a pass may come after a window has started or ended, in microseconds, for tasks that fill the time from then on
/// to the last: no pass comes at the very instant, and what was there before takes a moment to leave. Such a task is
/// ended when its time there is over, by so much before its time limit.
const LATE_MAX_US: u64 = 60_000_000;

/// Windows of one reservation that a conservative pool looks ahead: a year of daily ones.
const OPENINGS_MAX: usize = 380;
const NEVER: Timestamp = Timestamp(u64::MAX);

impl Closing {
    fn late(&self, at: Timestamp, now: Timestamp) -> Timestamp {
        if at > now { Timestamp(at.0.saturating_add(self.late_us)) } else { at }
    }
}

/// How long ago an instant was, in microseconds, or 0 if that is too long.
pub(super) fn late_within(since: Timestamp, now: Timestamp) -> u64 {
    Some(now.micros_since(since)).filter(|late| *late <= LATE_MAX_US).unwrap_or(0)
}

/// How long ago the window before this one ended, in microseconds, if that was just now.
fn late_after(windows: &Windows, window: Window, now: Timestamp) -> Option<u64> {
    let gap_us = windows.gap_us().filter(|_| now < window.start && windows.start < window.start)?;
    Some(now.micros_since(Timestamp(window.start.0 - gap_us))).filter(|late| *late <= LATE_MAX_US)
}

impl Advance {
    pub fn new(state: &State, now: Timestamp) -> Self {
        let list: Vec<_> = state.reservations().map(|reserved| Arc::clone(&reserved.reservation)).collect();
        let mut advance = Self { list, nodes: Vec::new(), closings: Vec::new(), valid: (now, NEVER) };
        if advance.list.is_empty() {
            return advance;
        }
        let open = Closing { first: NEVER, by: u32::MAX, second: NEVER, second_by: u32::MAX, late_us: 0 };
        advance.nodes = vec![open; state.nodes.len()];
        for (by, reservation) in (0..).zip(&advance.list) {
            let Some(window) = reservation.windows.first_open(now) else { continue };
            advance.valid.1 = advance.valid.1.min(window.end);
            advance.closings.push(window.start);
            let late = late_after(&reservation.windows, window, now);
            // How late it is changes from now on.
            advance.valid.1 = advance.valid.1.min(late.map_or(NEVER, |_| Timestamp(now.0.saturating_add(1))));
            let late_us = late.unwrap_or(0);
            for node in &reservation.nodes {
                let Some(closing) = advance.nodes.get_mut(node.0 as usize) else { continue };
                if window.start < closing.first {
                    let (second, second_by) = (closing.first, closing.by);
                    *closing = Closing { first: window.start, by, second, second_by, ..*closing };
                } else if window.start < closing.second {
                    (closing.second, closing.second_by) = (window.start, by);
                }
                if late_us > 0 && (closing.late_us == 0 || late_us < closing.late_us) {
                    closing.late_us = late_us;
                }
            }
        }
        let late = advance.nodes.iter().filter(|closing| closing.late_us > 0);
        let late: BTreeSet<Timestamp> = late.map(|closing| closing.late(closing.first, now)).collect();
        advance.closings.extend(late);
        advance.closings.sort_unstable();
        advance.closings.dedup();
        advance
    }

    /// Whether no node is ever closed to anybody.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The same, derived anew from a state.
    pub fn anew(&self, state: &State) -> Self {
        Self::new(state, self.valid.0)
    }

    fn holds_at(&self, now: Timestamp) -> bool {
        self.is_empty() || (self.valid.0 <= now && now < self.valid.1)
    }

    pub fn list(&self) -> &[Arc<AdvanceReservation>] {
        &self.list
    }

    pub fn using(&self, reservation: Option<&String>) -> Using {
        let Some(name) = reservation else { return Using::Nothing };
        match self.list.binary_search_by(|known| known.name.cmp(name)) {
            Ok(place) => Using::This(place as u32),
            Err(_) => Using::Gone,
        }
    }

    /// The reservation that is used.
    pub fn used(&self, using: Using) -> Option<&AdvanceReservation> {
        match using {
            Using::This(place) => self.list.get(place as usize).map(Arc::as_ref),
            _ => None,
        }
    }

    /// The instant by which what starts on a node in this pass must have ended, and by how much, in microseconds, it may
    /// seem to last longer because the pass is late.
    fn closing(&self, node: NodeId, using: Using) -> (Timestamp, u64) {
        let Some(closing) = self.nodes.get(node.0 as usize) else {
            return (if using == Using::Nothing { NEVER } else { Timestamp(0) }, 0);
        };
        match using {
            Using::Nothing => (closing.first, closing.late_us),
            Using::Gone => (Timestamp(0), 0),
            Using::This(place) => {
                let (used, now) = (&self.list[place as usize], self.valid.0);
                let window = used.windows.first_open(now).filter(|w| w.start <= now);
                let Some(window) = window.filter(|_| used.keeps(node)) else { return (Timestamp(0), 0) };
                let other = if closing.by == place { closing.second } else { closing.first };
                (window.end.min(other), late_within(window.start, now))
            }
        }
    }

    /// The instant by which what starts on a node in this pass must have ended.
    pub fn must_end_by(&self, node: NodeId, using: Using) -> Timestamp {
        self.closing(node, using).0
    }

    /// The same for what counts its time limit from now on, although the pass may be a moment late.
    pub fn closes(&self, node: NodeId, using: Using) -> Timestamp {
        let (at, late_us) = self.closing(node, using);
        if at > self.valid.0 { Timestamp(at.0.saturating_add(late_us)) } else { at }
    }

    /// How many of the instants at which nodes close what ends at `end` would outlast.
    pub fn outlasted(&self, end: Timestamp) -> u32 {
        self.closings.partition_point(|closing| *closing < end) as u32
    }

    /// The instants ahead at which nodes close, rising.
    pub fn closings(&self) -> &[Timestamp] {
        &self.closings
    }

    /// Whose window closes a node first, from when on, and when that counts as the end of what starts now.
    pub fn closed_by(
        &self,
        node: NodeId,
        using: Using,
    ) -> Option<(&AdvanceReservation, Timestamp, Timestamp)> {
        let closing = self.nodes.get(node.0 as usize)?;
        let (by, at) = match Using::This(closing.by) == using {
            true => (closing.second_by, closing.second),
            false => (closing.by, closing.first),
        };
        let counts = if using == Using::Nothing { closing.late(at, self.valid.0) } else { at };
        Some((self.list.get(by as usize)?, at, counts))
    }

    /// Whether a reservation lets what uses `using` run on its nodes from `from` to `to`.
    fn lets(&self, place: usize, from: Timestamp, to: Timestamp, using: Using) -> bool {
        let windows = &self.list[place].windows;
        let Some(window) = windows.first_open(from) else { return using != Using::This(place as u32) };
        let is_now = from == self.valid.0;
        let on_time = |late_us: u64| Timestamp(to.0.saturating_sub(if is_now { late_us } else { 0 }));
        match using == Using::This(place as u32) {
            true => window.start <= from && on_time(late_within(window.start, from)) <= window.end,
            false => on_time(late_after(windows, window, from).unwrap_or(0)) <= window.start,
        }
    }

    /// Whether nodes are open from `from` to `to` to what uses `using`.
    pub fn are_open(
        &self,
        mut nodes: impl Iterator<Item = NodeId>,
        from: Timestamp,
        to: Timestamp,
        using: Using,
    ) -> bool {
        let keeping: Vec<usize> =
            (0..self.list.len()).filter(|place| !self.lets(*place, from, to, using)).collect();
        let is_open = |node| {
            (using == Using::Nothing || self.used(using).is_some_and(|used| used.keeps(node)))
                && !keeping.iter().any(|place| self.list[*place].keeps(node))
        };
        nodes.all(is_open)
    }

    /// Tells of the nodes that are not open from `from` to `to` to what uses `using`; `all` are those that it may tell
    /// of, each as often as it has a reason.
    pub fn each_closed(
        &self,
        all: &[NodeId],
        from: Timestamp,
        to: Timestamp,
        using: Using,
        mut closed: impl FnMut(NodeId),
    ) {
        if using != Using::Nothing {
            let outside = |node: &&NodeId| !self.used(using).is_some_and(|used| used.keeps(**node));
            all.iter().filter(outside).for_each(|node| closed(*node));
        }
        for (place, reservation) in self.list.iter().enumerate() {
            if !self.lets(place, from, to, using) {
                reservation.nodes.iter().for_each(|node| closed(*node));
            }
        }
    }

    /// The instants after `now` from which on nodes are open to somebody to whom they were closed, as far as they tell
    /// anything new after `last`, when all that runs has ended; rising.
    pub fn openings(&self, now: Timestamp, last: Timestamp) -> BTreeSet<Timestamp> {
        let until = self.settles_at().max(last).max(now).0.saturating_add(REPEAT_SPAN_US);
        let windows = |reservation: &Arc<AdvanceReservation>| {
            let windows = reservation.windows;
            let all = std::iter::successors(windows.first_open(now), move |window| windows.after(*window));
            all.take_while(move |window| window.start.0 <= until).take(OPENINGS_MAX)
        };
        let instants = self.list.iter().flat_map(windows).flat_map(|window| [window.start, window.end]);
        instants.filter(|at| *at > now).collect()
    }

    /// From when on everything repeats itself: the first windows of what repeats have started, and all others are over.
    pub fn settles_at(&self) -> Timestamp {
        self.list.iter().map(|reservation| reservation.windows.settle_at()).max().unwrap_or(Timestamp(0))
    }
}

/// When a job may use its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    From(Timestamp),
    Over,
}

fn turn(windows: &Windows, limit_s: Option<u64>, now: Timestamp) -> Turn {
    let Some(limit_s) = limit_s.filter(|limit| *limit <= windows.duration_s) else { return Turn::Over };
    let Some(window) = windows.first_open(now) else { return Turn::Over };
    if now < window.start {
        return Turn::From(window.start);
    }
    let started = Timestamp(now.0 - late_within(window.start, now));
    match started.plus_seconds(limit_s) <= window.end {
        true => Turn::Now,
        false => windows.after(window).map_or(Turn::Over, |next| Turn::From(next.start)),
    }
}

/// Whether a job's reservation lets it start at `now`: the job's user may use it, a window is open, and the job would
/// end within.
///
/// # Errors
/// Why not.
pub(super) fn lets_start(state: &State, job: &Job, now: Timestamp) -> Result<(), Reason> {
    let Some(name) = &job.spec.reservation else { return Ok(()) };
    let over = || Reason::ReservationOver { name: name.clone() };
    let reservation = &state.reservation(name).ok_or_else(over)?.reservation;
    if !reservation.lets(&job.spec.user.name, job.spec.account.as_deref()) {
        return Err(over());
    }
    let shortest_s = job.spec.eligibility.time_min_s.or(job.spec.time_limit_s);
    match turn(&reservation.windows, shortest_s, now) {
        Turn::Now => Ok(()),
        Turn::From(from) => Err(Reason::ReservationStart { name: name.clone(), from }),
        Turn::Over => Err(over()),
    }
}

/// Whether the job's pool and its reservation let it start at `now`.
///
/// # Errors
/// Why not.
pub(super) fn lets_start_here(state: &State, job: &Job, now: Timestamp) -> Result<(), Reason> {
    let pool = job.spec.pool.as_deref().unwrap_or_default();
    let does = state.pool_state(pool);
    if !does.starts_tasks() {
        return Err(Reason::PoolDown { pool: pool.to_owned(), state: does });
    }
    lets_start(state, job, now)
}

impl Planner {
    /// Brings what is known of reservations up to the instant of a pass.
    pub(super) fn look_ahead(&mut self, state: &State, now: Timestamp) {
        if self.advance_is_old || !self.advance.holds_at(now) {
            self.advance = Advance::new(state, now);
            self.advance_is_old = false;
        }
        // What uses a reservation goes by the instant of the pass itself.
        self.advance.valid.0 = now;
    }

    /// Sets jobs aside whose reservation does not let them start any more. Gives each with the reason.
    pub(super) fn leave_reservations(
        &mut self,
        state: &State,
        now: Timestamp,
    ) -> Vec<(JobId, Reason, Option<Timestamp>)> {
        let mut left = Vec::new();
        for pool in 0..self.pools.len() {
            let classes = &self.pools[pool].classes;
            // All jobs of a group have the same time limit and reservation.
            for class in classes.reserved().filter_map(|class| classes.get(class)) {
                let first = class.jobs.first().and_then(|job| state.jobs.get(job));
                if let Some(Err(reason)) = first.map(|job| lets_start(state, job, now)) {
                    let from = super::eligible::from(&reason);
                    left.extend(class.jobs.iter().map(|job| (*job, reason.clone(), from)));
                }
            }
        }
        for (job, _, from) in &left {
            if let Some(job) = state.jobs.get(job) {
                self.park(state, job, *from);
            }
        }
        left
    }
}
