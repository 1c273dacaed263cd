//! One pass over what waits.

use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::limits::{self, Budgets};
use super::order::{Rank, Ranking};
use super::preempt::Clearing;
use super::ranges::{self, spreads_wide};
use super::refused::{Need, Refused};
use super::reserve::Reservation;
use super::span::Span;
use super::{Placement, Plan, Reason, Waiting, eligible, never_fits};
use crate::cluster::{Backfill, Fill, PoolConfig};
use crate::event::Allocation;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::place::{Candidate, Chosen};
use crate::preempt::Standing;
use crate::spec::Request;
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
        let mut plan = Plan::default();
        for id in self.take_fresh() {
            let Some(job) = state.jobs.get(&id).filter(|job| !job.waiting.is_empty()) else { continue };
            let Some((reason, until)) = not_yet(job, now) else { continue };
            self.park(state, job, until);
            if explain {
                plan.waiting.insert(id, Waiting::new(reason, until));
            }
        }
        self.weigh(state, now);
        let config = Arc::clone(&self.config);
        let mut queues: Vec<Queue> =
            config.pools.iter().enumerate().map(|(i, pool)| self.queue(i, pool, now, explain)).collect();
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
        if !(pass.planner.victims.under_way().is_empty() && pass.planner.cleared.is_empty()) {
            pass.take_cleared_places();
        }
        let mut tiers: Vec<u32> = config.pools.iter().map(|pool| pool.tier).collect();
        tiers.sort_unstable_by(|a, b| b.cmp(a));
        tiers.dedup();
        for tier in tiers {
            let of_tier = |pool: &usize| config.pools[*pool].tier == tier;
            for pool in (0..queues.len()).filter(of_tier) {
                if config.pools[pool].backfill == Backfill::Conservative {
                    pass.conservative(&config.pools[pool], pool, &mut queues[pool]);
                }
            }
            // Pools may share nodes, so whoever comes first in any of them goes first: by priority, then by age.
            while let Some(pool) = first_pool(&queues, of_tier) {
                pass.step(&config.pools[pool], pool, &mut queues[pool]);
            }
        }
        let (plan, clearing) = (std::mem::take(&mut pass.plan), std::mem::take(&mut pass.clearing));
        self.passed(now);
        clearing.tell(self);
        plan
    }

    /// What a pass considers of a pool: every group that might fit, and the first of those that cannot.
    fn queue(&self, index: usize, config: &PoolConfig, now: Timestamp, explain: bool) -> Queue {
        let pool = &self.pools[index];
        let ranking = Ranking::of_pool(config.order, &self.config.policy.priority);
        let may_preempt = !self.victims.are_none();
        let mut queue =
            Queue { blocked: None, others: None, ready: BinaryHeap::new(), head: Head::Open, ranking };
        let mut ready = Vec::new();
        for (class, head) in pool.classes.heads() {
            let rank = ranking.rank(class, head, now);
            let might_fit = head.cores <= pool.cores_free && head.nodes_min as usize <= pool.by_free.len();
            let stands = |qos| Standing { pool: Some(index as u32), qos };
            let might_preempt = may_preempt && self.rights.over_anybody(stands(head.qos));
            // What may not start must not stand for those that cannot fit: that shows only when it is looked at.
            if might_fit || explain || head.limited || might_preempt {
                ready.push(rank);
            } else if queue.blocked.is_none_or(|first| rank > first) {
                queue.blocked = Some(rank);
            }
        }
        queue.ready = BinaryHeap::from(ready);
        queue
    }
}

/// What a job waits for other than room, with the instant at which that is over if it is known.
fn not_yet(job: &Job, now: Timestamp) -> Option<(Reason, Option<Timestamp>)> {
    if let Err(reason) = eligible::job(job, now) {
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

/// A pool's part of a pass.
struct Queue {
    /// The first group of those that cannot fit, until it was looked at.
    blocked: Option<Rank>,
    /// Those after it, the first of them last, once it has turned out that it can never run.
    others: Option<Vec<Rank>>,
    /// Groups that might fit.
    ready: BinaryHeap<Rank>,
    head: Head,
    ranking: Ranking,
}

/// The first job of a pool that does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Everything fitted so far.
    Open,
    /// It has a reservation, or stands in the way.
    Waits(JobId),
}

impl Queue {
    fn first(&self) -> Option<Rank> {
        self.ready.peek().copied().max(self.blocked)
    }
}

fn first_pool(queues: &[Queue], of_tier: impl Fn(&usize) -> bool) -> Option<usize> {
    let queues = || queues.iter().enumerate().filter(|(i, _)| of_tier(i));
    let firsts = queues().filter_map(|(i, queue)| Some((i, queue.first()?)));
    // Sums can be compared with sums only; otherwise the priority decides, and then the age.
    let first = if queues().all(|(_, queue)| matches!(queue.ranking, Ranking::Sum(_))) {
        firsts.max_by_key(|(_, rank)| *rank)
    } else {
        firsts.max_by_key(|(_, rank)| (rank.between_pools, std::cmp::Reverse(rank.job)))
    };
    first.map(|(i, _)| i)
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
            let request = class.key.request.clone();
            let reason = self.why(config, pool, &request, Head::Open, None);
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
        match self.try_class(config, pool, rank) {
            Tried::Done => {}
            Tried::Again(job) => {
                if let Some(rank) = self.rank(pool, queue.ranking, rank, job) {
                    queue.ready.push(rank);
                }
            }
            Tried::Blocked { job, index, budget } => {
                let is_cleared = self.clear_places(config, pool, job, index, budget);
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
            let seen = &self.planner.pools[pool];
            let ready: BTreeSet<u32> = queue.ready.iter().map(|rank| rank.class).collect();
            let mut others = Vec::new();
            for (class, head) in seen.classes.heads() {
                let rank = queue.ranking.rank(class, head, self.now);
                if rank < after && !ready.contains(&class) {
                    others.push(rank);
                }
            }
            others.sort_unstable();
            queue.others = Some(others);
        }
        let classes = &self.planner.pools[pool].classes;
        let need = |class: u32| Need::of(&classes.get(class)?.key.request, 0);
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
        let Some(request) =
            self.planner.pools[pool].classes.get(class).map(|class| class.key.request.clone())
        else {
            return;
        };
        let (mut expected_start, mut holders) = (None, None);
        let first = queue.head == Head::Open;
        let never = first.then(|| self.never(config, pool, &request)).flatten();
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

    /// Whether nodes are missing that nobody knows when they return: such a job may not hold up the others.
    fn never(&self, config: &PoolConfig, pool: usize, request: &Request) -> Option<Reason> {
        let state = self.state;
        if let Err(refusal) = never_fits(state, config, request) {
            return Some(Reason::NeverFits { why: refusal.to_string() });
        }
        let usable = |node: &NodeId| self.planner.nodes[node.0 as usize].takes_work;
        let rooms = self.planner.pools[pool].slots.iter().filter(|node| usable(node)).map(|node| {
            fit::ranks_that_fit(state.node(*node), config, NodeRoom::whole(state.node(*node)), request)
        });
        if fit::suffices(request, rooms)
            && (!request.contiguous || self.planner.could_be_adjacent(state, config, pool, request))
        {
            return None;
        }
        Some(Reason::NodesAway(self.shortage(config, pool, request)))
    }

    fn shortage(&self, config: &PoolConfig, pool: usize, request: &Request) -> fit::Shortage {
        let nodes = &self.planner.nodes;
        let usable = self.planner.pools[pool].slots.iter().filter(|node| nodes[node.0 as usize].takes_work);
        let rooms = usable.map(|node| (*node, nodes[node.0 as usize].room));
        let mut short = fit::shortage(self.state, config, rooms, request);
        if request.contiguous {
            self.planner.count_adjacent(self.state, config, pool, request, &mut short);
        }
        short
    }

    /// Writes down why the jobs of a group from `job` on wait.
    fn explain_class(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        head: Head,
        class: u32,
        job: JobId,
        never: Option<Reason>,
    ) {
        let Some(group) = self.planner.pools[pool].classes.get(class) else { return };
        let jobs: Vec<JobId> = group.jobs.range(job..).copied().collect();
        let request = group.key.request.clone();
        let reason = never.unwrap_or_else(|| self.why(config, pool, &request, head, Some(job)));
        for id in jobs {
            self.say_why(id, Waiting::new(reason.clone(), None));
        }
    }

    /// Writes down why a job waits, unless that is said already because others leave for it.
    fn say_why(&mut self, job: JobId, waiting: Waiting) {
        if self.clearing.settled(job) == 0 {
            self.plan.waiting.insert(job, waiting);
        }
    }

    /// Why a request does not start, given who comes first.
    fn why(
        &self,
        config: &PoolConfig,
        pool: usize,
        request: &Request,
        head: Head,
        job: Option<JobId>,
    ) -> Reason {
        if let Some(never) = self.never(config, pool, request) {
            return never;
        }
        let short = self.shortage(config, pool, request);
        match head {
            Head::Waits(first) if short.fits_now && Some(first) != job => Reason::Behind { job: first },
            _ => Reason::Resources(short),
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

    /// Writes down that no more of a group from `job` on may start.
    fn explain_limit(&mut self, pool: usize, class: u32, job: &Job) {
        let Some(group) = self.planner.pools[pool].classes.get(class).filter(|_| self.explain) else {
            return;
        };
        let reason = limits::reason(self.state, job);
        for id in group.jobs.range(job.id..) {
            self.plan.waiting.insert(*id, Waiting::new(reason.clone(), None));
        }
    }

    fn set_aside(&mut self, job: &Job, reason: Reason, until: Option<Timestamp>) {
        if self.explain {
            self.say_why(job.id, Waiting::new(reason, until));
        } else if self.clearing.settled(job.id) == 0 {
            self.planner.park(self.state, job, until);
        }
    }

    /// Finds nodes for a task now, and says how long it may run there: less than its time limit only where its job
    /// allows that and it would have to wait otherwise.
    fn choose_with_span(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        avoid: Option<NodeId>,
    ) -> Option<(Vec<Chosen>, Span)> {
        let longest = Span::longest(job, self.now);
        let chosen = avoid.and_then(|node| self.choose_now(config, pool, job, longest.end, Some(node)));
        let chosen = chosen.or_else(|| self.choose_unless_refused(config, pool, job, longest.end));
        if let Some(chosen) = chosen {
            return Some((chosen, longest));
        }
        // Only at these instants becomes less what a task may use.
        let instants = self.reservations.iter().map(|reservation| reservation.start);
        let shorter = longest.shorter(job, self.now, instants);
        shorter
            .into_iter()
            .find_map(|span| Some((self.choose_unless_refused(config, pool, job, span.end)?, span)))
    }

    /// Finds nodes for a task that starts now and ends by `end`, unless it is known that there are none.
    fn choose_unless_refused(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        end: Timestamp,
    ) -> Option<Vec<Chosen>> {
        let need = self.need(job, end);
        if need.is_some_and(|need| self.refused[pool].knows(&need)) {
            debug_assert_eq!(
                self.choose_now(config, pool, job, end, None),
                None,
                "what was refused fits after all"
            );
            return None;
        }
        let chosen = self.choose_now(config, pool, job, end, None);
        if let Some(need) = need.filter(|_| chosen.is_none()) {
            self.refused[pool].add(need);
        }
        chosen
    }

    /// What a task of a job needs that starts now and ends by `end`, as far as it can be compared.
    pub(super) fn need(&self, job: &Job, end: Timestamp) -> Option<Need> {
        let outlasts = self.reservations.iter().map(|reservation| end > reservation.start);
        let outlasts = (self.reservations.len() <= 64)
            .then(|| outlasts.enumerate().fold(0, |bits, (i, beyond)| bits | (u64::from(beyond) << i)));
        outlasts.and_then(|outlasts| Need::of(&job.spec.request, outlasts))
    }

    /// Finds nodes for a task that starts now and ends by `end`.
    pub(super) fn choose_now(
        &self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        end: Timestamp,
        avoid: Option<NodeId>,
    ) -> Option<Vec<Chosen>> {
        let request = &job.spec.request;
        let seen = &self.planner.pools[pool];
        if request.cores_total() > seen.cores_free || request.nodes_min() as usize > seen.by_free.len() {
            return None;
        }
        let candidate = |slot: u32| {
            let node = seen.slots[slot as usize];
            if Some(node) == avoid {
                return None;
            }
            let room = self.room_until(node, end);
            self.planner.candidate(self.state, config, node, room, request)
        };
        let plain = request.nodes_max.is_none() && request.nodelist.is_empty() && !spreads_wide(request);
        if plain && request.nodes.is_none_or(|nodes| nodes == 1) {
            let enough = |slot: &u32| candidate(*slot).is_some_and(|c| c.ranks >= request.ranks);
            let cores = u32::try_from(request.cores_total()).unwrap_or(u32::MAX);
            let slot = match ranges::fill(config, request) {
                Fill::Pack => seen.by_free.range((cores, 0)..).map(|(_, slot)| *slot).find(enough),
                Fill::Spread => seen.emptiest_first(cores).find(enough),
            };
            if let Some(slot) = slot {
                return Some(vec![Chosen { node: seen.slots[slot as usize], ranks: request.ranks }]);
            }
            if request.nodes == Some(1) {
                return None;
            }
        }
        let candidates: Vec<Candidate> =
            self.planner.slots_with(pool, request.cores_per_rank).into_iter().filter_map(candidate).collect();
        let fill = ranges::fill(config, request);
        self.planner.choose_for(self.state, pool, job, self.now, &candidates, fill)
    }

    /// The room on a node for what ends at `end`: what would outlast the start of a reservation may use only what
    /// that leaves.
    pub(super) fn room_until(&self, node: NodeId, end: Timestamp) -> NodeRoom {
        let mut room = self.planner.nodes[node.0 as usize].room;
        for reservation in self.reservations.iter().filter(|r| end > r.start) {
            room = reservation.limit(node, room);
        }
        room
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
        let allocation =
            Arc::new(Allocation { shares: shares.collect(), cores_per_rank: request.cores_per_rank });
        for reservation in self.reservations.iter_mut().filter(|r| end > r.start) {
            reservation.take(self.state, &allocation);
        }
        self.planner.take(self.state, &allocation);
        self.budgets.spend(self.state, job, 1);
        let key = AttemptKey { task: TaskId { job: job.id, index }, attempt: job.next_attempt(index) };
        self.planner.remember_end(self.state, key, end, &allocation);
        self.note_placed(job);
        self.plan.placements.push(Placement { key, allocation, time_limit_s: limit_s });
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
