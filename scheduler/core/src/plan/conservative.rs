//! Conservative backfill: every task that waits has a reservation from its arrival on, and nothing that comes later
//! may delay it (Mu'alem and Feitelson, TPDS 2001).
//!
//! When something ends before its time limit, each waiting task is lifted in the order of the queue and put down at
//! the earliest instant at which it fits; it never moves back.

use std::collections::BTreeMap;

use super::advance::late_within;
use super::class::Head;
use super::eligible;
use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::leaving::HeldRoom;
use super::limits;
use super::order::{Rank, Ranking};
use super::profile::{Kept, Profile, Search, Stay};
use super::reserve::Reservation;
use super::span::Span;
use crate::cluster::PoolConfig;
use crate::ids::{JobId, TaskId, TaskIndex, Timestamp};
use crate::place::{Candidate, Chosen};
use crate::state::{Job, State};

/// How many tasks of a pool have a reservation at most. Those behind them wait for their turn to get one.
const RESERVATIONS_MAX: usize = 10_000;
/// How large the picture of the future may grow, in steps times nodes.
const PROFILE_MAX: usize = 4_000_000;

/// A reservation: when, and what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    pub start: Timestamp,
    /// Its own time limit, in seconds, if that is less than its job's.
    pub limit_s: Option<u64>,
    pub kept: Vec<Kept>,
}

/// What a conservative pool remembers between passes.
pub(super) type Promises = BTreeMap<TaskId, Promise>;

/// A task that may start now, and where.
pub(super) struct Due<'a> {
    pub job: &'a Job,
    pub index: TaskIndex,
    pub chosen: Vec<Chosen>,
    pub span: Span,
    /// What was kept for it, one entry for each of the chosen.
    pub kept: Vec<NodeRoom>,
}

impl Planner {
    /// Brings the promises of a pool up to date and says which tasks start now, in the order of the queue. `others` is
    /// what pools of a higher tier and tasks with a right over others keep; what is settled is left out.
    pub(super) fn keep_promises<'a>(
        &mut self,
        state: &'a State,
        config: &PoolConfig,
        pool: usize,
        now: Timestamp,
        others: &[Reservation],
        is_settled: impl Fn(JobId, TaskIndex) -> bool,
    ) -> Vec<Due<'a>> {
        let freed_early = self.pools[pool].left_until > now;
        let mut tasks = self.tasks_in_order(state, config, pool, now);
        tasks.retain(|(job, index)| !is_settled(job.id, *index));
        let mut old = std::mem::take(&mut self.pools[pool].promises);
        let mut known: Vec<Option<Promise>> =
            tasks.iter().map(|(job, index)| old.remove(&TaskId { job: job.id, index: *index })).collect();
        for (known, (job, _)) in known.iter_mut().zip(&tasks) {
            *known = known.take().filter(|promise| self.stays_open(pool, job, promise, now));
        }
        let mut profile = self.profile(state, config, pool, now, others, &tasks, &mut known);
        let mut promises = Promises::new();
        let mut due = Vec::new();
        for ((job, index), known) in tasks.into_iter().zip(known) {
            // One that is to be short looks again when its time has come: what stood behind it may be gone.
            let looks_again =
                |known: &Promise| freed_early || (known.limit_s.is_some() && known.start == now);
            let promise = match known {
                Some(known) if looks_again(&known) => {
                    self.lifted(state, config, pool, &mut profile, job, known)
                }
                Some(known) => known,
                None if promises.len() >= RESERVATIONS_MAX || profile.len() > PROFILE_MAX => continue,
                None => {
                    let search = Search { request: &job.spec.request, own: None };
                    let Some(found) = self.earliest(state, config, pool, &mut profile, job, &search) else {
                        continue;
                    };
                    profile.take(&found.stay(job));
                    found
                }
            };
            if promise.start == now {
                let slots = &self.pools[pool].slots;
                let chosen = promise
                    .kept
                    .iter()
                    .map(|kept| Chosen { node: slots[kept.slot as usize], ranks: kept.ranks });
                let chosen = chosen.collect();
                let kept = promise.kept.iter().map(|kept| kept.room).collect();
                due.push(Due { job, index, chosen, span: promise.span(job), kept });
            } else {
                promises.insert(TaskId { job: job.id, index }, promise);
            }
        }
        self.pools[pool].promises = promises;
        due
    }

    /// What is free over time beside what is promised. A promise that can no longer be kept is taken back.
    #[expect(clippy::too_many_arguments, reason = "the pass's own view of the pool")]
    fn profile(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        now: Timestamp,
        others: &[Reservation],
        tasks: &[(&Job, TaskIndex)],
        known: &mut [Option<Promise>],
    ) -> Profile {
        // A pass hardly ever comes at the very instant that was promised: what is due starts now.
        let mut due = vec![None; known.len()];
        for (due, promise) in due.iter_mut().zip(known.iter_mut()) {
            let Some(promise) = promise.as_mut().filter(|promise| promise.start <= now) else { continue };
            *due = Some(std::mem::replace(&mut promise.start, now));
        }
        let mut profile = Profile::new(self, pool, now);
        if !self.advance.is_empty() {
            let last = profile.last();
            profile.cut_at(self.advance.openings(now, last));
        }
        for other in others {
            let slot = |held: &HeldRoom| Some((self.pools[pool].slot(held.node)?, held.room));
            profile.hold(other.start, other.end, other.kept.iter().filter_map(slot));
        }
        let stays = tasks.iter().zip(&*known).filter_map(|((job, _), known)| Some(known.as_ref()?.stay(job)));
        let stays: Vec<Stay> = stays.collect();
        if let Some(profile) = profile.without(&stays) {
            return profile;
        }
        // Something is there no more. What is due goes before what is promised for later, or each could be put off for
        // the other's sake; then what comes first in the queue keeps what it was promised.
        let mut order: Vec<usize> = (0..known.len()).collect();
        order.sort_by_key(|i| due[*i].map_or((1, Timestamp(0)), |start| (0, start)));
        for i in order {
            let Some(promise) = known[i].take() else { continue };
            let job = tasks[i].0;
            let search = Search { request: &job.spec.request, own: None };
            if profile.take(&promise.stay(job)) {
                known[i] = Some(promise);
            } else if due[i].is_some()
                && let Some(found) = self.earliest(state, config, pool, &mut profile, job, &search)
            {
                profile.take(&found.stay(job));
                known[i] = Some(found);
            }
        }
        profile
    }

    /// Puts a task with a promise down at the earliest instant at which it fits.
    fn lifted(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        profile: &mut Profile,
        job: &Job,
        known: Promise,
    ) -> Promise {
        let own = known.stay(job);
        if known.limit_s.is_some() {
            // It may start earlier, or run longer from the same instant on.
            profile.give(&own);
            let found = self.earliest(
                state,
                config,
                pool,
                profile,
                job,
                &Search { request: &job.spec.request, own: None },
            );
            let found = found.filter(|found| found.start <= known.start).unwrap_or(known);
            profile.take(&found.stay(job));
            return found;
        }
        let found = self.earliest(
            state,
            config,
            pool,
            profile,
            job,
            &Search { request: &job.spec.request, own: Some(&own) },
        );
        // Where it does not start earlier, it may still have better nodes.
        let found = found.or_else(|| {
            let room = (self.pools[pool].slots.len() > 1).then(|| profile.least_within(&own))?;
            let mut room = room.to_vec();
            self.close(pool, job, (own.from, own.to), &mut room);
            let kept = self.where_to_keep(state, config, pool, job, &room)?;
            Some(Promise { start: known.start, limit_s: None, kept })
        });
        let Some(found) = found.filter(|found| *found != known) else { return known };
        profile.give(&own);
        profile.take(&found.stay(job));
        found
    }

    /// Waiting tasks that may start, in the pool's order.
    pub(super) fn tasks_in_order<'a>(
        &self,
        state: &'a State,
        config: &PoolConfig,
        pool: usize,
        now: Timestamp,
    ) -> Vec<(&'a Job, TaskIndex)> {
        let classes = &self.pools[pool].classes;
        let ranking = Ranking::of_pool(config.order, &self.config.policy.priority);
        let mut ranks: Vec<Rank> = Vec::new();
        for (class, head) in classes.heads() {
            let Some(group) = classes.get(class) else { continue };
            for id in &group.jobs {
                let Some(job) = state.jobs.get(id) else { continue };
                let Some(shape) = classes.shape(class, job.submitted_at) else { continue };
                ranks.push(ranking.rank(class, &Head { job: *id, shape, ..*head }, now));
            }
        }
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        let mut tasks = Vec::new();
        let mut budgets = limits::Budgets::default();
        for rank in ranks {
            let Some(job) = state.jobs.get(&rank.job) else { continue };
            let may_start = job.may_start().min(budgets.left(state, job));
            let budget = usize::try_from(may_start).unwrap_or(usize::MAX).min(RESERVATIONS_MAX);
            let ready = |index: &TaskIndex| job.tried.get(index).is_none_or(|tried| tried.not_before <= now);
            if eligible::job(job, now).is_err() {
                continue;
            }
            let mut indices = eligible::indices(job, now).filter(ready);
            let before = tasks.len();
            tasks.extend(indices.by_ref().take(budget).map(|index| (&**job, index)));
            budgets.spend(state, job, tasks.len() - before);
            if budgets.left(state, job) == 0 && indices.next().is_some() {
                budgets.keep_licenses(state, job);
            }
            if tasks.len() >= RESERVATIONS_MAX {
                break;
            }
        }
        tasks
    }

    /// Whether no advance reservation has come in the way of a promise.
    fn stays_open(&self, pool: usize, job: &Job, promise: &Promise, now: Timestamp) -> bool {
        // A pass hardly ever comes at the very instant.
        let start = promise.start.max(Timestamp(now.0 - late_within(promise.start, now)));
        let end = Span::of(job, start, promise.limit_s).end;
        let using = self.advance.using(job.spec.reservation.as_ref());
        let slots = &self.pools[pool].slots;
        let nodes = promise.kept.iter().map(|kept| slots[kept.slot as usize]);
        self.advance.are_open(nodes, start, end, using)
    }

    /// Takes the room of the slots that are closed to a job between two instants.
    fn close(&self, pool: usize, job: &Job, (from, to): (Timestamp, Timestamp), room: &mut [NodeRoom]) {
        let using = self.advance.using(job.spec.reservation.as_ref());
        let seen = &self.pools[pool];
        self.advance.each_closed(&seen.slots, from, to, using, |node| {
            if let Some(slot) = seen.slot(node) {
                room[slot] = NodeRoom::default();
            }
        });
    }

    fn earliest(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        profile: &mut Profile,
        job: &Job,
        search: &Search<'_>,
    ) -> Option<Promise> {
        let spans = |start| (Span::shortest(job, start).end, Span::longest(job, start).end);
        let ranks = |slot: usize, room: NodeRoom| {
            self.ranks_on(state, config, self.pools[pool].slots[slot], room, search.request)
        };
        let kept = |room: &[NodeRoom]| self.where_to_keep(state, config, pool, job, room);
        let close =
            |from: Timestamp, to: Timestamp, room: &mut [NodeRoom]| self.close(pool, job, (from, to), room);
        let (start, end, kept) = profile.earliest(search, spans, ranks, close, kept)?;
        let longest = Span::longest(job, start);
        let span = if end >= longest.end { longest } else { Span::until(job, start, end)? };
        Some(Promise { start, limit_s: span.limit_s, kept })
    }

    fn where_to_keep(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
        room: &[NodeRoom],
    ) -> Option<Vec<Kept>> {
        let request = &job.spec.request;
        let slots = &self.pools[pool].slots;
        let candidates: Vec<Candidate> = room
            .iter()
            .enumerate()
            .filter_map(|(slot, room)| self.candidate(state, config, slots[slot], *room, request))
            .collect();
        let fill = super::ranges::fill(config, request);
        let chosen = self.choose_for(state, pool, job, job.submitted_at, &candidates, fill)?;
        let kept = chosen.into_iter().map(|chosen| {
            let view = &self.nodes[chosen.node.0 as usize];
            let (_, slot) = view.seats.iter().find(|seat| seat.0 as usize == pool)?;
            let node = state.node(chosen.node);
            let room = fit::part_of(node, config, room[*slot as usize], request, chosen.ranks);
            Some(Kept { slot: *slot, ranks: chosen.ranks, room })
        });
        kept.collect()
    }

    /// When a job's first task with a promise starts.
    pub(super) fn promised(&self, pool: usize, job: JobId) -> Option<Timestamp> {
        let task = |index: u32| TaskId { job, index: TaskIndex(index) };
        let range = self.pools[pool].promises.range(task(0)..=task(u32::MAX));
        range.map(|(_, promise)| promise.start).min()
    }
}

impl Promise {
    fn span(&self, job: &Job) -> Span {
        Span::of(job, self.start, self.limit_s)
    }

    /// What it takes out of the profile.
    fn stay(&self, job: &Job) -> Stay<'_> {
        Stay { from: self.start, to: self.span(job).end, kept: &self.kept }
    }
}
