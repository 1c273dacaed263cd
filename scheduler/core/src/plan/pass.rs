//! One pass over what waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::advance;
use super::fit::NodeRoom;
use super::index::Planner;
use super::limits::{self, Budgets};
use super::order::{Rank, Ranking};
use super::preempt::Clearing;
use super::queue::{Head, Queue, first_queue, keeps_all};
use super::refused::{Need, Refused};
use super::reserve::Reservation;
use super::span::Span;
use super::{Placement, Plan, Reason, Waiting, eligible};
use crate::cluster::{Backfill, PoolConfig};
use crate::event::{Allocation, Share};
use crate::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use crate::place::Chosen;
use crate::state::{Job, State};

impl Planner {
    /// One pass at `now`: what starts, and what ends for it. What it places counts as taken from here on, and what it
    /// preempts as being ended, so all of that must happen before the planner is asked again.
    pub fn pass(&mut self, state: &State, now: Timestamp) -> Plan {
        self.run(state, now, false)
    }

    /// One pass at `now` that also says why everything else waits.
    pub fn explain(&mut self, state: &State, now: Timestamp) -> Plan {
        self.run(state, now, true)
    }

    fn run(&mut self, state: &State, now: Timestamp, explain: bool) -> Plan {
        self.unpark_due(state, now);
        self.look_ahead(state, now);
        let mut plan = Plan::default();
        for id in self.take_fresh() {
            let Some(job) = state.jobs.get(&id).filter(|job| !job.waiting.is_empty()) else { continue };
            let Some((reason, until)) = not_yet(state, job, now) else { continue };
            self.park(state, job, until);
            if explain {
                plan.waiting.insert(id, Waiting::new(reason, until));
            }
        }
        self.weigh(state, now);
        let config = Arc::clone(&self.config);
        let none_refused = || config.pools.iter().map(|_| Refused::default()).collect();
        (self.is_denied, self.is_unfinished) = (false, false);
        let mut pass = Pass {
            refused: none_refused(),
            away: none_refused(),
            planner: self,
            state,
            now,
            explain,
            reservations: Vec::new(),
            clearing: Clearing::default(),
            budgets: Budgets::default(),
            plan,
        };
        pass.leave_reservations();
        let mut queues = pass.queues(&config.pools);
        if !(pass.planner.victims.under_way().is_empty() && pass.planner.cleared.is_empty()) {
            pass.take_cleared_places();
        }
        let mut below = Some(u32::MAX);
        while let Some(tier) = highest_tier(&config.pools, below) {
            below = tier.checked_sub(1);
            let of_tier = |pool: usize| config.pools[pool].tier == tier;
            for (pool, config) in config.pools.iter().enumerate().filter(|(pool, _)| of_tier(*pool)) {
                if keeps_all(config) {
                    pass.conservative(config, pool, &mut queues[pool]);
                }
            }
            // Pools may share nodes, so whoever comes first in any of them goes first: by priority, then by age.
            while let Some(first) = first_queue(&queues, of_tier) {
                let pool = queues[first].pool;
                pass.step(&config.pools[pool], pool, &mut queues[first]);
            }
        }
        if !explain {
            pass.line_up(&queues);
        }
        let (plan, clearing) = (std::mem::take(&mut pass.plan), std::mem::take(&mut pass.clearing));
        self.passed(now);
        clearing.tell(self);
        plan
    }
}

/// The highest tier of the pools that is not above `most`; none without.
fn highest_tier(pools: &[PoolConfig], most: Option<u32>) -> Option<u32> {
    pools.iter().map(|pool| pool.tier).filter(|tier| most.is_some_and(|most| *tier <= most)).max()
}

/// What a job waits for other than room, with the instant at which that is over if it is known.
fn not_yet(state: &State, job: &Job, now: Timestamp) -> Option<(Reason, Option<Timestamp>)> {
    if let Err(reason) = eligible::job(job, now).and_then(|()| advance::lets_start_here(state, job, now)) {
        let from = eligible::from(&reason);
        return Some((reason, from));
    }
    if job.may_start() == 0 {
        let running_max = job.spec.array.as_ref().and_then(|array| array.running_max).unwrap_or(0);
        return Some((Reason::Throttle { running_max }, None));
    }
    let mut until: Option<Timestamp> = None;
    for index in eligible::indices(job, now) {
        let delay = job.tried.get(&index).map(|tried| tried.not_before).filter(|at| *at > now)?;
        until = Some(until.map_or(delay, |at| at.min(delay)));
    }
    until.map(|until| (Reason::Delayed { until }, Some(until)))
}

pub(super) struct Pass<'a> {
    pub planner: &'a mut Planner,
    pub state: &'a State,
    pub now: Timestamp,
    pub explain: bool,
    pub reservations: Vec<Reservation>,
    /// By pool.
    pub refused: Vec<Refused>,
    /// What the pools' usable nodes could not hold even if they were empty.
    away: Vec<Refused>,
    pub clearing: Clearing,
    /// What this pass has given out of the limits of qualities of service.
    pub budgets: Budgets<'a>,
    pub plan: Plan,
}

/// What became of the first job of a group.
enum Tried {
    /// The group has more to start, or an older job of it was set aside: it takes its place in the queue anew.
    Again(JobId),
    /// Nothing of the group is left to start.
    Done,
    /// A task of it does not fit, and so no other of the group does.
    Blocked {
        job: JobId,
        index: TaskIndex,
        /// How many more of its tasks may start.
        budget: u64,
    },
}

impl<'a> Pass<'a> {
    /// A pool whose every task has a reservation.
    fn conservative(&mut self, config: &PoolConfig, pool: usize, queue: &mut Queue) {
        let is_settled = |job, index| self.clearing.has_settled(job, index);
        let due =
            self.planner.keep_promises(self.state, config, pool, self.now, &self.reservations, is_settled);
        for due in due {
            // Another pool may have given the rest of a limit away.
            if self.budgets.left(self.state, due.job) == 0 {
                continue;
            }
            self.start(config, due.job, due.index, &due.chosen, due.span, Some(&due.kept));
        }
        self.clear_places_in_order(config, pool);
        let ranks: Vec<Rank> = queue.ready.drain().collect();
        queue.blocked = None;
        if !self.explain {
            return;
        }
        let placed = self.plan.placed();
        for rank in ranks {
            let Some(class) = self.planner.pools[pool].classes.get(rank.class) else { continue };
            let left = |id: &&JobId| {
                let waiting = self.state.jobs.get(id).map_or(0, |job| job.waiting.len());
                placed.get(id).is_none_or(|placed| (*placed as u64) < waiting)
            };
            let jobs: Vec<JobId> = class.jobs.iter().filter(left).copied().collect();
            let key = class.key.clone();
            let reason = self.why(config, pool, &key, Head::Open, None);
            for id in jobs {
                let expected_start = self.planner.promised(pool, id);
                let limited = self.state.jobs.get(&id).filter(|job| self.budgets.left(self.state, job) == 0);
                let reason = limited.map_or_else(|| reason.clone(), |job| limits::reason(self.state, job));
                self.say_why(id, Waiting::new(reason, expected_start));
            }
        }
    }

    /// Considers the first group of a pool.
    fn step(&mut self, config: &PoolConfig, pool: usize, queue: &mut Queue) {
        if let Some(blocked) =
            queue.blocked.filter(|blocked| queue.ready.peek().is_none_or(|top| blocked > top))
        {
            queue.blocked = None;
            // Without anything that might overtake, nobody asks when it starts.
            let matters = !queue.ready.is_empty() || self.planner.pools[pool].overlaps;
            self.first_blocked(config, pool, queue, blocked.class, blocked.job, matters);
            if queue.head == Head::Open {
                queue.blocked = self.next_blocked(pool, queue, blocked);
            }
            return;
        }
        let Some(rank) = queue.ready.pop() else { return };
        let placed_before = self.plan.placements.len();
        let tried = self.try_class(config, pool, rank);
        self.plan.effort.groups += 1;
        if queue.head != Head::Open {
            self.plan.effort.backfilled += (self.plan.placements.len() - placed_before) as u64;
        }
        match tried {
            Tried::Done => {}
            Tried::Again(job) => {
                if let Some(rank) = self.rank(pool, queue.ranking, rank, job) {
                    queue.ready.push(rank);
                }
            }
            Tried::Blocked { job, index, budget } => {
                let is_cleared = self.clear_places(config, pool, job, index, budget)
                    || self.take_back(config, pool, job, index, budget);
                if !is_cleared || config.backfill == Backfill::None {
                    return self.first_blocked(config, pool, queue, rank.class, job, true);
                }
                let next = self.planner.pools[pool].classes.next(rank.class, job);
                queue.ready.extend(next.and_then(|job| self.rank(pool, queue.ranking, rank, job)));
            }
        }
    }

    /// The next of the groups that cannot fit, after one that nobody has to wait for.
    fn next_blocked(&mut self, pool: usize, queue: &mut Queue, after: Rank) -> Option<Rank> {
        if queue.others.is_none() {
            let ready: BTreeSet<u32> = queue.ready.iter().map(|rank| rank.class).collect();
            let mut others = Vec::new();
            for (class, head) in self.heads(pool, &queue.reserved) {
                let rank = queue.ranking.rank(class, head, self.now);
                if rank < after && !ready.contains(&class) {
                    others.push(rank);
                }
            }
            others.sort_unstable();
            queue.others = Some(others);
        }
        let classes = &self.planner.pools[pool].classes;
        // With advance reservations, how long a task may be has a say as well.
        let is_comparable = self.planner.advance.is_empty() && queue.reserved.is_none();
        let need = |class: u32| Need::of(&classes.get(class).filter(|_| is_comparable)?.key.request, 0, 0);
        if let Some(need) = need(after.class) {
            self.away[pool].add(need);
        }
        // What asks for as much as one that can never run cannot run either.
        while let Some(next) = queue.others.as_mut()?.pop() {
            if !need(next.class).is_some_and(|need| self.away[pool].knows(&need)) {
                return Some(next);
            }
        }
        None
    }

    /// Where the group stands once `job` is its oldest.
    fn rank(&self, pool: usize, ranking: Ranking, before: Rank, job: JobId) -> Option<Rank> {
        let submitted_at = self.state.jobs.get(&job)?.submitted_at;
        let shape = self.planner.pools[pool].classes.shape(before.class, submitted_at)?;
        Some(Rank { score: ranking.score(shape, self.now), job, ..before })
    }

    /// A group does not fit: says why, and keeps room for it if it is the first.
    fn first_blocked(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        queue: &mut Queue,
        class: u32,
        job: JobId,
        reserve: bool,
    ) {
        let Some(key) = self.planner.pools[pool].classes.get(class).map(|class| class.key.clone()) else {
            return;
        };
        let (mut expected_start, mut holders) = (None, None);
        let first = queue.head == Head::Open;
        let never = first.then(|| self.never(config, pool, &key)).flatten();
        if first && never.is_none() {
            queue.head = Head::Waits(job);
            queue.blocked = None;
            let ranking = queue.ranking.of_backfill(config.order, config.backfill);
            if config.backfill == Backfill::None && !self.explain {
                queue.ready.clear();
            } else if ranking != queue.ranking {
                queue.ranking = ranking;
                let ranks: Vec<Rank> = queue.ready.drain().collect();
                let again = |rank: Rank| self.rank(pool, ranking, rank, rank.job);
                queue.ready = ranks.into_iter().filter_map(again).collect();
            }
            if reserve && config.backfill != Backfill::None {
                let reservation =
                    self.planner.reserve(self.state, config, pool, job, self.now, &self.reservations);
                expected_start = reservation.as_ref().map(|reservation| reservation.start);
                if self.explain {
                    holders = reservation.as_ref().and_then(|kept| self.planner.counted_on(kept, self.now));
                }
                self.reservations.extend(reservation);
            }
        }
        if self.explain {
            self.explain_class(config, pool, queue.head, class, job, never);
            if let Some(waiting) = self.plan.waiting.get_mut(&job) {
                (waiting.expected_start, waiting.holders) = (expected_start, holders);
            }
        }
    }

    /// Starts what it can of a group's first job.
    fn try_class(&mut self, config: &PoolConfig, pool: usize, rank: Rank) -> Tried {
        let state = self.state;
        let Some(job) = state.jobs.get(&rank.job) else { return Tried::Done };
        let next = self.planner.pools[pool].classes.next(rank.class, job.id);
        let again = |next: Option<JobId>| next.map_or(Tried::Done, Tried::Again);
        let mut budget = job.may_start().saturating_sub(self.clearing.settled(job.id));
        let mut delayed_until: Option<Timestamp> = None;
        for index in eligible::indices(job, self.now) {
            if self.clearing.has_settled(job.id, index) {
                continue;
            }
            if self.budgets.left(state, job) == 0 {
                self.budgets.keep_licenses(state, job);
                self.explain_limit(pool, rank.class, job);
                return Tried::Done;
            }
            if budget == 0 {
                let running_max = job.spec.array.as_ref().and_then(|array| array.running_max).unwrap_or(0);
                self.set_aside(job, Reason::Throttle { running_max }, None);
                return again(next);
            }
            let tried = job.tried.get(&index);
            if let Some(tried) = tried.filter(|tried| tried.not_before > self.now) {
                delayed_until = Some(delayed_until.map_or(tried.not_before, |at| at.min(tried.not_before)));
                continue;
            }
            let avoid = tried.and_then(|tried| tried.avoid);
            let Some((chosen, span)) = self.choose_with_span(config, pool, job, avoid) else {
                return Tried::Blocked { job: job.id, index, budget };
            };
            budget -= 1;
            self.start(config, job, index, &chosen, span, None);
        }
        if let Some(until) = delayed_until {
            self.set_aside(job, Reason::Delayed { until }, Some(until));
        } else if let Some(reason) = eligible::left_out(job, self.now) {
            self.set_aside(job, reason, None);
        }
        again(next)
    }

    fn set_aside(&mut self, job: &Job, reason: Reason, until: Option<Timestamp>) {
        if self.explain {
            self.say_why(job.id, Waiting::new(reason, until));
        } else if self.clearing.settled(job.id) == 0 {
            self.planner.park(self.state, job, until);
        }
    }

    /// Gives a task its exact cores and devices; `kept` is what a promise has kept for it on each node.
    pub(super) fn start(
        &mut self,
        config: &PoolConfig,
        job: &'a Job,
        index: TaskIndex,
        chosen: &[Chosen],
        Span { end, limit_s }: Span,
        kept: Option<&[NodeRoom]>,
    ) {
        let request = &job.spec.request;
        let shares = chosen
            .iter()
            .enumerate()
            .map(|(i, chosen)| self.share(config, request, end, *chosen, kept.map(|kept| kept[i])));
        let shares: Vec<Share> = shares.collect();
        let using = self.planner.advance.using(job.spec.reservation.as_ref());
        let ends_by = self.ends_by(chosen, end, using);
        let end = ends_by.map_or(end, |by| by.min(end));
        let allocation = Arc::new(Allocation { shares, cores_per_rank: request.cores_per_rank });
        for reservation in self.reservations.iter_mut().filter(|r| end > r.start) {
            reservation.take(self.state, &allocation);
        }
        self.planner.take(self.state, &allocation);
        self.budgets.spend(self.state, job, 1);
        let key = AttemptKey { task: TaskId { job: job.id, index }, attempt: job.next_attempt(index) };
        self.planner.remember_end(self.state, key, end, &allocation);
        self.note_placed(job);
        self.plan.placements.push(Placement { key, allocation, time_limit_s: limit_s, ends_by });
    }
}

impl Plan {
    /// The placements of each job, for tests and reports.
    #[must_use]
    pub fn placed(&self) -> HashMap<JobId, usize> {
        let mut placed = HashMap::new();
        for placement in &self.placements {
            *placed.entry(placement.key.task.job).or_default() += 1;
        }
        placed
    }
}
