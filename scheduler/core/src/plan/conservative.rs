//! Conservative backfill: every task that waits has a reservation from its arrival on, and nothing that comes later
//! may delay it (Mu'alem and Feitelson, TPDS 2001).
//!
//! When something ends before its time limit, each waiting task is lifted in the order of the queue and put down at
//! the earliest instant at which it fits; it never moves back.

use std::collections::BTreeMap;

use super::eligible;
use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::limits;
use super::order::{Rank, Ranking};
use super::profile::{Kept, Profile, Spans, fits};
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

impl Promise {
    fn span(&self, job: &Job) -> Span {
        Span::of(job, self.start, self.limit_s)
    }

    fn end(&self, job: &Job) -> Timestamp {
        self.span(job).end
    }
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
    /// Brings the promises of a pool up to date and says which tasks start now, in the order of the queue.
    pub(super) fn keep_promises<'a>(
        &mut self,
        state: &'a State,
        config: &PoolConfig,
        pool: usize,
        now: Timestamp,
        freed_early: bool,
    ) -> Vec<Due<'a>> {
        let tasks = self.tasks_in_order(state, config, pool, now);
        let mut old = std::mem::take(&mut self.pools[pool].promises);
        let mut profile = Profile::new(self, pool, now);
        let mut promises = Promises::new();
        // What was promised stands before anything new is promised.
        for (job, index) in &tasks {
            let task = TaskId { job: job.id, index: *index };
            let Some(promise) = old.remove(&task) else { continue };
            if promise.start >= now && profile.take(promise.start, promise.end(job), &promise.kept) {
                promises.insert(task, promise);
            }
        }
        let mut due = Vec::new();
        for (job, index) in tasks {
            let task = TaskId { job: job.id, index };
            let mut promise = promises.remove(&task);
            // One that is to be short looks again when its time has come: what stood behind it may be gone.
            let looks_again =
                |promise: &mut Promise| freed_early || (promise.limit_s.is_some() && promise.start == now);
            if let Some(known) = promise.take_if(looks_again) {
                profile.give(known.start, known.end(job), &known.kept);
            }
            let promise = promise.map(|promise| (promise, true));
            let found = || {
                if promises.len() >= RESERVATIONS_MAX || profile.len() > PROFILE_MAX {
                    return None;
                }
                Some((self.earliest(state, config, pool, &profile, job)?, false))
            };
            let Some((promise, taken)) = promise.or_else(found) else { continue };
            if !taken {
                profile.take(promise.start, promise.end(job), &promise.kept);
            }
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
                promises.insert(task, promise);
            }
        }
        self.pools[pool].promises = promises;
        due
    }

    /// Waiting tasks that may start, in the pool's order.
    fn tasks_in_order<'a>(
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
                ranks.push(Rank {
                    priority: ranking.priority(head.priority),
                    between_pools: head.priority,
                    score: ranking.score(shape, now),
                    job: *id,
                    class,
                });
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
            let indices = eligible::indices(job, now).filter(ready).take(budget);
            let before = tasks.len();
            tasks.extend(indices.map(|index| (job, index)));
            budgets.spend(state, job, tasks.len() - before);
            if tasks.len() >= RESERVATIONS_MAX {
                break;
            }
        }
        tasks
    }

    fn earliest(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        profile: &Profile,
        job: &Job,
    ) -> Option<Promise> {
        let request = &job.spec.request;
        let ranks = |slot: usize, room: NodeRoom| fits(self, state, config, pool, request, slot, room);
        let kept = |room: &[NodeRoom]| self.where_to_keep(state, config, pool, job, room);
        let spans = Spans {
            shortest: |start| Span::shortest(job, start).end,
            longest: |start| Span::longest(job, start).end,
        };
        let (start, end, kept) = profile.earliest(request, spans, ranks, kept)?;
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
