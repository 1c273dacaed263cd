//! Taking the place of attempts with a lower claim.
//!
//! A job with a right over others that does not fit looks for victims among those over which it has a right, the
//! cheapest first, until it would fit once they have left; then those that it does not need after all are let go,
//! the dearest first. What the victims hold is kept for it from then on, and before anything else is considered, a
//! pass starts what waited for victims that have left. So nobody takes what was cleared, and nobody is ended twice
//! for the same task.
//!
//! A pass looks for victims at most [`SEARCHES_MAX`] times, and at [`LOOKS_MAX`] attempts in all of them together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::leaving::HeldRoom;
use super::pass::Pass;
use super::ranges;
use super::refused::Refused;
use super::reserve::{Count, Reservation};
use super::span::Span;
use super::{Preemption, Reason, Waiting, advance, eligible};
use crate::cluster::PoolConfig;
use crate::event::Verdict;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::place::{Candidate, Chosen};
use crate::preempt::{Standing, Terms};
use crate::state::{Job, LivePhase, State, Taken};

/// How often a pass looks for victims at most. One search goes over the nodes of a pool.
pub(super) const SEARCHES_MAX: u32 = 64;
/// How many attempts a pass looks at in all of its searches.
const LOOKS_MAX: u32 = 50_000;
/// Of so many victims at most each is asked anew whether the task could be somewhere else without it.
const RECHOSEN_MAX: usize = 16;

/// What a pass knows of places that are being cleared.
#[derive(Default)]
pub(super) struct Clearing {
    /// Tasks that have started in the place of others, or for which room is kept until others have left.
    settled: BTreeMap<JobId, BTreeSet<TaskIndex>>,
    /// What is being ended holds this; none until somebody asks.
    leaving: Option<HashMap<NodeId, NodeRoom>>,
    /// What found no victims, by where it stands.
    denied: HashMap<Standing, Refused>,
    /// How long victims may take to leave, in seconds, while they are looked for: nodes may close before they have.
    slack_s: u64,
    pub searches: u32,
    looks: u32,
    /// Where the tasks stand that this pass has started.
    placed: BTreeSet<Standing>,
    /// The attempts that this pass ends, with the instant at which they would have ended at the latest.
    ended: Vec<(AttemptKey, Timestamp)>,
}

/// An attempt that would have to leave.
struct Victim {
    key: AttemptKey,
    terms: Terms,
    /// When it ends at the latest.
    end: Timestamp,
    held: Vec<HeldRoom>,
}

/// What victims would leave on a node, and when they would have ended otherwise.
pub(super) type Left = HashMap<NodeId, Vec<(usize, Timestamp, NodeRoom)>>;

/// What is left on the nodes of a victim without it.
fn without(left: &Left, place: usize, victim: &Victim) -> Left {
    let others =
        |node| left.get(&node).into_iter().flatten().filter(|(of, ..)| *of != place).copied().collect();
    victim.held.iter().map(|held| (held.node, others(held.node))).collect()
}

/// Who has to leave, and where the task is then.
struct Place {
    victims: Vec<Victim>,
    chosen: Vec<Chosen>,
}

impl Clearing {
    /// Whether a task has been taken care of.
    pub fn has_settled(&self, job: JobId, index: TaskIndex) -> bool {
        self.settled.get(&job).is_some_and(|indices| indices.contains(&index))
    }

    /// How many tasks of a job have been taken care of.
    pub fn settled(&self, job: JobId) -> u64 {
        self.settled.get(&job).map_or(0, |indices| indices.len() as u64)
    }

    fn settle(&mut self, task: TaskId) {
        self.settled.entry(task.job).or_default().insert(task.index);
    }
}

/// What an attempt holds at present.
fn held(state: &State, key: AttemptKey) -> Vec<HeldRoom> {
    let Some(live) = state.live_attempt(key.task) else { return Vec::new() };
    let shares = live.allocation.shares.iter().zip(&live.instances);
    let held = shares.filter(|(_, instance)| instance.holds_share());
    held.map(|(share, _)| HeldRoom { node: share.node, room: NodeRoom::of(state.node(share.node), share) })
        .collect()
}

impl<'a> Pass<'a> {
    /// Starts what waited for victims that have left, and keeps what was cleared for those whose victims are leaving.
    pub(super) fn take_cleared_places(&mut self) {
        let state = self.state;
        let cleared = std::mem::take(&mut self.planner.cleared);
        let has_left = |task: &TaskId| cleared.contains_key(task);
        let ordered = |(task, order): (TaskId, u64)| {
            // Who cleared a place first does not lose it to whoever comes before it in the queue.
            Some((order, task, self.planner.pool_of(state.jobs.get(&task.job)?)?))
        };
        let under_way = self.planner.victims.under_way().iter();
        let under_way = under_way.filter_map(|(task, victims)| Some((*task, victims.first()?.0)));
        let mut tasks: Vec<_> = cleared.clone().into_iter().chain(under_way).filter_map(ordered).collect();
        tasks.sort_unstable();
        self.look_at_leaving();
        let config = std::sync::Arc::clone(&self.planner.config);
        for (order, task, pool) in tasks {
            let Some(job) = state.jobs.get(&task.job).filter(|job| self.may_start(job, task.index)) else {
                continue;
            };
            let config = &config.pools[pool];
            let span = Span::longest(job, self.now);
            if let Some(chosen) = self.choose_now(config, pool, job, span.end, None) {
                self.start(config, job, task.index, &chosen, span, None);
                self.clearing.settle(task);
            } else if let Some(chosen) = self.choose_after(config, pool, job, &Left::default()) {
                let left = self.left_after(job, &chosen);
                self.keep(config, job, task, &chosen, &left);
                self.say_preempting(job, task);
                // Its victims are not all that has to leave: the rest was being ended anyway.
                if has_left(&task) {
                    self.planner.cleared.insert(task, order);
                }
            }
        }
    }

    fn may_start(&self, job: &Job, index: TaskIndex) -> bool {
        job.waiting.contains(index.0)
            && eligible::task(job, index, self.now).is_ok()
            && advance::lets_start_here(self.state, job, self.now).is_ok()
            && job.tried.get(&index).is_none_or(|tried| tried.not_before <= self.now)
            && self.clearing.settled(job.id) < job.may_start()
            && self.budgets.left(self.state, job) > 0
    }

    /// The tasks of a job from `index` on that may start and for which no place is kept yet: no more than `budget`, and than a
    /// pass can look for.
    pub(super) fn unsettled(&self, job: &Job, index: TaskIndex, budget: u64) -> Vec<TaskIndex> {
        let waits = |index: &TaskIndex| {
            job.tried.get(index).is_none_or(|tried| tried.not_before <= self.now)
                && !self.clearing.has_settled(job.id, *index)
        };
        let from = eligible::indices(job, self.now).skip_while(|first| *first != index);
        let most = usize::try_from(budget.min(u64::from(SEARCHES_MAX) + 1)).unwrap_or(usize::MAX);
        from.filter(waits).take(most).collect()
    }

    /// Makes room for the tasks of a job from `index` on that may start, as many as `budget`, by ending attempts over
    /// which it has a right. Says whether room is now kept for all of them.
    pub(super) fn clear_places(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        job: JobId,
        index: TaskIndex,
        budget: u64,
    ) -> bool {
        if self.planner.rights.are_none() {
            return false;
        }
        let Some(job) = self.state.jobs.get(&job) else { return false };
        let standing = self.planner.standing(job);
        if !self.planner.rights.over_anybody(standing) {
            return false;
        }
        // Tasks with ranks are many, and nodes too: nobody looks where none of them yields.
        let (victims, is_ranked) = (&self.planner.victims, standing.rank.is_some());
        if is_ranked && victims.are_none() && victims.under_way().is_empty() {
            return false;
        }
        for index in self.unsettled(job, index, budget) {
            // Whatever has become of its place, it waits for those that are leaving before it asks for more.
            let is_under_way = self.planner.victims.under_way().contains_key(&TaskId { job: job.id, index });
            if is_under_way || self.budgets.left(self.state, job) == 0 {
                return false;
            }
            let Some(place) = self.find_place(config, pool, job, standing) else {
                self.deny(standing);
                return false;
            };
            let task = TaskId { job: job.id, index };
            for victim in place.victims {
                self.end(job, task, victim);
            }
            let left = self.left_after(job, &place.chosen);
            self.keep(config, job, task, &place.chosen, &left);
            self.say_preempting(job, task);
        }
        true
    }

    /// The same for a pool whose every job has a reservation: only those may take a place that come before all that
    /// wait without a right.
    pub(super) fn clear_places_in_order(&mut self, config: &PoolConfig, pool: usize) {
        let has_lent = !self.planner.pools[pool].lent.is_empty() || self.state.was_given_back(None);
        if self.planner.victims.are_none() && !has_lent {
            return;
        }
        let started: BTreeSet<TaskId> =
            self.plan.placements.iter().map(|placement| placement.key.task).collect();
        for (job, index) in self.planner.tasks_in_order(self.state, config, pool, self.now) {
            let is_settled = self.clearing.has_settled(job.id, index);
            if is_settled || started.contains(&TaskId { job: job.id, index }) {
                continue;
            }
            let is_cleared = self.clear_places(config, pool, job.id, index, 1)
                || self.take_back(config, pool, job.id, index, 1);
            if !is_cleared {
                return;
            }
        }
    }

    /// Nobody leaves for a job that stands there.
    fn deny(&mut self, standing: Standing) {
        self.planner.is_denied = true;
        let exempt_s = self.planner.config.policy.preempt_exempt_s;
        let rights = &self.planner.rights;
        let is_over = |placed: &Standing| rights.over(standing, *placed).is_some();
        // What this pass has started itself can only be a victim of the next one.
        let may_go_on = exempt_s == 0 && self.clearing.placed.iter().any(is_over);
        let ran_out = self.clearing.searches >= SEARCHES_MAX || self.clearing.looks >= LOOKS_MAX;
        if may_go_on || (ran_out && !self.plan.preemptions.is_empty()) {
            self.planner.is_unfinished = true;
        }
    }

    /// Remembers where what starts stands.
    pub(super) fn note_placed(&mut self, job: &Job) {
        if !self.planner.rights.are_none() {
            self.clearing.placed.insert(self.planner.standing(job));
        }
    }

    /// What is being ended holds on a node.
    fn leaving(&self, node: NodeId) -> NodeRoom {
        let leaving = self.clearing.leaving.as_ref().and_then(|leaving| leaving.get(&node));
        leaving.copied().unwrap_or_default()
    }

    /// Looks at what is being ended, unless that has been done.
    pub(super) fn look_at_leaving(&mut self) {
        if self.clearing.leaving.is_some() {
            return;
        }
        let mut leaving: HashMap<NodeId, NodeRoom> = HashMap::new();
        for key in self.planner.ended_by(self.now) {
            let live = self.state.live_attempt(key.task);
            if live.is_none_or(|live| live.phase == LivePhase::Preparing) {
                continue;
            }
            for held in held(self.state, key) {
                let whole = self.planner.nodes[held.node.0 as usize].whole;
                leaving.entry(held.node).or_default().give(held.room, whole);
            }
        }
        self.clearing.leaving = Some(leaving);
    }

    /// The room on a node for what ends at `end`, once what is being ended and the victims have left.
    pub(super) fn room_after(&self, job: &Job, node: NodeId, end: Timestamp, left: &Left) -> NodeRoom {
        let using = self.planner.advance.using(job.spec.reservation.as_ref());
        if end.plus_seconds(self.clearing.slack_s) > self.planner.advance.closes(node, using) {
            return NodeRoom::default();
        }
        let view = &self.planner.nodes[node.0 as usize];
        let left = left.get(&node).map(Vec::as_slice).unwrap_or_default();
        let mut room = view.room;
        room.give(self.leaving(node), view.whole);
        for (_, _, more) in left {
            room.give(*more, view.whole);
        }
        for reservation in self.reservations.iter().filter(|r| end > r.start) {
            let Some(mut spare) = reservation.spare(node) else { continue };
            // A victim that would be there at the start of the reservation leaves it more.
            for (_, _, more) in left.iter().filter(|(_, end, _)| *end > reservation.start) {
                spare.give(*more, view.whole);
            }
            room = room.at_most(spare);
        }
        room
    }

    /// Finds nodes for a task once victims have left.
    fn choose_after(&self, config: &PoolConfig, pool: usize, job: &Job, left: &Left) -> Option<Vec<Chosen>> {
        let end = Span::longest(job, self.now).end;
        let candidate = |node: &NodeId| {
            let takes_work = self.planner.nodes[node.0 as usize].takes_work;
            let room = takes_work.then(|| self.room_after(job, *node, end, left))?;
            self.planner.candidate(self.state, config, *node, room, &job.spec.request)
        };
        let candidates: Vec<Candidate> =
            self.planner.pools[pool].slots.iter().filter_map(candidate).collect();
        self.planner.choose_for(
            self.state,
            pool,
            job,
            self.now,
            &candidates,
            ranges::fill(config, &job.spec.request),
        )
    }

    /// Who has to leave so that a task of a job can start, and where; nobody, if those that are being ended are enough.
    fn find_place(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        standing: Standing,
    ) -> Option<Place> {
        let end = Span::longest(job, self.now).end;
        let slack_s = self.grace_max_s();
        let closings = self.planner.advance.outlasted(end.plus_seconds(slack_s));
        let need = self.need(job, end).map(|need| need.with_closings(closings));
        let denied = self.clearing.denied.entry(standing).or_default();
        if need.is_some_and(|need| denied.knows(&need)) || self.clearing.searches >= SEARCHES_MAX {
            return None;
        }
        self.clearing.searches += 1;
        self.clearing.slack_s = slack_s;
        let place = self.search(config, pool, job, standing);
        self.clearing.slack_s = 0;
        if let (None, Some(need)) = (&place, need) {
            self.clearing.denied.entry(standing).or_default().add(need);
        }
        place
    }

    /// How long victims may take to leave, in whole seconds.
    fn grace_max_s(&self) -> u64 {
        let config = &self.planner.config;
        let pools = config.pools.iter().map(|pool| pool.grace_s);
        let longest = pools.chain(config.qos.iter().map(|qos| qos.grace_s)).max().unwrap_or(0);
        longest.max(u64::from(config.policy.kill_grace_ms).div_ceil(1000))
    }

    fn search(&mut self, config: &PoolConfig, pool: usize, job: &Job, standing: Standing) -> Option<Place> {
        self.look_at_leaving();
        let (request, end) = (&job.spec.request, Span::longest(job, self.now).end);
        let fitting =
            |pass: &Self, node: NodeId, left: &Left| match pass.planner.nodes[node.0 as usize].takes_work {
                true => pass.planner.ranks_on(
                    pass.state,
                    config,
                    node,
                    pass.room_after(job, node, end, left),
                    request,
                ),
                false => 0,
            };
        let mut left = Left::default();
        let slots = &self.planner.pools[pool].slots;
        let mut ranks: Vec<u32> = slots.iter().map(|node| fitting(self, *node, &left)).collect();
        let mut count = Count::new(request, &ranks);
        let mut victims: Vec<Victim> = Vec::new();
        if count.suffices()
            && let Some(chosen) = self.choose_after(config, pool, job, &left)
        {
            return Some(Place { victims, chosen });
        }
        // Where nodes are many and their arrangement matters, not every further victim is worth another choice.
        let (mut tried, mut next_try) = (0, 1);
        let mut ranked = self.planner.victims.ranked();
        loop {
            let looked = self.clearing.looks < LOOKS_MAX;
            let next = if looked { ranked.next() } else { None };
            if let Some((key, stands)) = next {
                self.clearing.looks += 1;
                let Some(victim) = self.victim(pool, standing, key, stands) else { continue };
                for held in &victim.held {
                    let Some(slot) = self.planner.pools[pool].slot(held.node) else { continue };
                    left.entry(held.node).or_default().push((victims.len(), victim.end, held.room));
                    let fits = fitting(self, held.node, &left);
                    count.change(ranks[slot], fits);
                    ranks[slot] = fits;
                }
                victims.push(victim);
            }
            let is_due = victims.len() >= next_try || next.is_none();
            if is_due && victims.len() > tried && count.suffices() {
                tried = victims.len();
                if let Some(chosen) = self.choose_after(config, pool, job, &left) {
                    return Some(self.spare_some(config, pool, job, victims, left, chosen));
                }
                next_try = 2 * tried;
            }
            next?;
        }
    }

    /// The attempt as a victim, if the job that stands at `by` has a right over it and it is on nodes of the pool.
    fn victim(&self, pool: usize, by: Standing, key: AttemptKey, stands: Standing) -> Option<Victim> {
        let terms = self.planner.rights.over(by, stands)?;
        let exempt_s = self.planner.config.policy.preempt_exempt_s;
        if !self.planner.victims.has_run(key, exempt_s, self.now) {
            return None;
        }
        let held = held(self.state, key);
        let is_here = |held: &HeldRoom| self.planner.pools[pool].slot(held.node).is_some();
        let end = *self.planner.end_of.get(&key)?;
        held.iter().any(is_here).then_some(Victim { key, terms, end, held })
    }

    /// Lets victims go that are not needed where the task will be, the dearest first; then those, if they are few,
    /// without which it could be somewhere else.
    fn spare_some(
        &self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        victims: Vec<Victim>,
        mut left: Left,
        mut chosen: Vec<Chosen>,
    ) -> Place {
        let end = Span::longest(job, self.now).end;
        let ranks: HashMap<NodeId, u32> = chosen.iter().map(|chosen| (chosen.node, chosen.ranks)).collect();
        let holds = |node: NodeId, left: &Left| {
            let room = self.room_after(job, node, end, left);
            let fits = self.planner.ranks_on(self.state, config, node, room, &job.spec.request);
            ranks.get(&node).is_none_or(|ranks| fits >= *ranks)
        };
        let mut needed = Vec::new();
        for (place, victim) in victims.into_iter().enumerate().rev() {
            let without = without(&left, place, &victim);
            if without.keys().all(|node| holds(*node, &without)) {
                left.extend(without);
            } else {
                needed.push((place, victim));
            }
        }
        if (2..=RECHOSEN_MAX).contains(&needed.len()) {
            needed.retain(|(place, victim)| {
                let mut fewer = left.clone();
                fewer.extend(without(&left, *place, victim));
                let Some(elsewhere) = self.choose_after(config, pool, job, &fewer) else { return true };
                (left, chosen) = (fewer, elsewhere);
                false
            });
        }
        Place { victims: needed.into_iter().map(|(_, victim)| victim).collect(), chosen }
    }

    /// Decides the end of a victim.
    fn end(&mut self, job: &Job, by: TaskId, victim: Victim) {
        let Victim { key, terms, end, held } = victim;
        for held in &held {
            let whole = self.planner.nodes[held.node.0 as usize].whole;
            if let Some(leaving) = &mut self.clearing.leaving {
                leaving.entry(held.node).or_default().give(held.room, whole);
            }
            for reservation in self.reservations.iter_mut().filter(|r| end > r.start) {
                reservation.give(*held, whole);
            }
        }
        debug_assert_ne!(key.task.job, job.id, "a job has no right over itself");
        // What was refused before may fit beside reservations that have more to spare now.
        self.refused.iter_mut().for_each(|refused| *refused = Refused::default());
        // Slurm cancels what cannot be requeued as well (slurm.conf(5), PreemptMode).
        let may_requeue = self.state.jobs.get(&key.task.job).is_some_and(|job| job.spec.requeue);
        let requeue = terms.requeue && may_requeue;
        let verdict = Verdict::Preempted { by, requeue, grace_ms: terms.grace_ms };
        let order = self.state.preempted + self.plan.preemptions.len() as u64 + 1;
        self.planner.end_early(self.state, key, Taken { by, order }, self.now);
        self.clearing.ended.push((key, end));
        self.plan.preemptions.push(Preemption { victim: key, verdict });
    }

    /// What is left on nodes for a task once those have left that are being ended.
    fn left_after(&self, job: &Job, chosen: &[Chosen]) -> Vec<NodeRoom> {
        let end = Span::longest(job, self.now).end;
        chosen.iter().map(|chosen| self.room_after(job, chosen.node, end, &Left::default())).collect()
    }

    /// Keeps room for a task until those that are in its place have left; `left` is what is there then on each of its nodes.
    pub(super) fn keep(
        &mut self,
        config: &PoolConfig,
        job: &'a Job,
        task: TaskId,
        chosen: &[Chosen],
        left: &[NodeRoom],
    ) {
        let (request, end) = (&job.spec.request, Span::longest(job, self.now).end);
        let kept = chosen.iter().zip(left).map(|(chosen, left)| {
            let left = *left;
            let room = fit::part_of(self.state.node(chosen.node), config, left, request, chosen.ranks);
            (HeldRoom { node: chosen.node, room }, left)
        });
        let kept: Vec<_> = kept.collect();
        let nodes = self.planner.nodes.len();
        let reservation = Reservation::new(nodes, self.now, end, Some(task), &kept);
        for other in self.reservations.iter_mut().filter(|r| end > r.start) {
            other.take_kept(&reservation.kept);
        }
        self.reservations.push(reservation);
        self.budgets.spend(self.state, job, 1);
        self.clearing.settle(task);
    }

    /// Writes down that a job waits until its victims have left.
    fn say_preempting(&mut self, job: &Job, task: TaskId) {
        if !self.explain {
            return;
        }
        let mut jobs = BTreeSet::new();
        let mut expected_start = self.now;
        for (_, victim) in self.planner.victims.under_way().get(&task).into_iter().flatten() {
            jobs.insert(victim.task.job);
            let live = self.state.live_attempt(victim.task);
            let new = self.plan.preemptions.iter().find(|new| new.victim == *victim);
            let (since, verdict) = match (live.map(|live| &live.phase), new) {
                (Some(LivePhase::Ending { since, verdict, .. }), _) => (*since, verdict),
                (_, Some(new)) => (self.now, &new.verdict),
                _ => continue,
            };
            if let Verdict::Preempted { grace_ms, .. } = verdict {
                expected_start = expected_start.max(Timestamp(since.0 + u64::from(*grace_ms) * 1000));
            }
        }
        // Of what leaves by itself, nobody knows here how long it takes.
        let expected_start = (!jobs.is_empty()).then_some(expected_start);
        let reason = Reason::Preempting { jobs: jobs.into_iter().collect() };
        let waiting = Waiting::new(reason, expected_start);
        self.plan.waiting.entry(job.id).or_insert(waiting);
    }
}

impl Planner {
    /// Attempts that end at `now` or should have ended before.
    fn ended_by(&self, now: Timestamp) -> impl Iterator<Item = AttemptKey> + '_ {
        self.ends
            .iter()
            .map(|((end, key), _)| (*end, *key))
            .take_while(move |(end, _)| *end <= now)
            .map(|(_, key)| key)
    }

    /// A victim leaves from now on, until the state says the same.
    fn end_early(&mut self, state: &State, key: AttemptKey, taken: Taken, now: Timestamp) {
        if let Some(live) = state.live_attempt(key.task) {
            self.forget_end(key);
            self.remember_end(state, key, now, &live.allocation);
        }
        self.victims.take(key, taken, self.config.policy.preempt_exempt_s);
    }
}

impl Clearing {
    /// Tells the pools that victims of this pass leave before their time.
    pub fn tell(self, planner: &mut Planner) {
        for (key, end) in self.ended {
            planner.left_early(key, end);
        }
    }
}
