//! Conservative backfill: every task that waits has a reservation from its arrival on, and nothing that comes later
//! may delay it (Mu'alem and Feitelson, TPDS 2001).
//!
//! When something ends before its time limit, each waiting task is lifted in the order of the queue and put down at
//! the earliest instant at which it fits; it never moves back.

use std::collections::BTreeMap;

use super::eligible;
use super::fit::{self, NodeRoom};
use super::index::Planner;
use super::order::{Rank, Ranking};
use super::profile::{Kept, Profile, fits};
use crate::cluster::PoolConfig;
use crate::gres::Counts;
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
    pub kept: Vec<Kept>,
}

/// What a conservative pool remembers between passes.
pub(super) type Promises = BTreeMap<TaskId, Promise>;

/// A task that may start now, and where.
pub(super) struct Due<'a> {
    pub job: &'a Job,
    pub index: TaskIndex,
    pub chosen: Vec<Chosen>,
    /// The devices that were kept for it, one entry for each of the chosen.
    pub gres: Vec<Counts>,
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
        if !self.advance.is_empty() {
            let last = profile.last();
            profile.cut_at(self.advance.openings(now, last));
        }
        let mut promises = Promises::new();
        // What was promised stands before anything new is promised.
        for (job, index) in &tasks {
            let task = TaskId { job: job.id, index: *index };
            let Some(promise) = old.remove(&task) else { continue };
            let stands = promise.start >= now && self.stays_open(pool, job, &promise);
            if stands && profile.take(promise.start, end(job, promise.start), &promise.kept) {
                promises.insert(task, promise);
            }
        }
        let mut due = Vec::new();
        for (job, index) in tasks {
            let task = TaskId { job: job.id, index };
            let mut promise = promises.remove(&task);
            if let Some(known) = promise.take_if(|_| freed_early) {
                profile.give(known.start, end(job, known.start), &known.kept);
            }
            let promise = promise.map(|promise| (promise, true));
            let found = || {
                if promises.len() >= RESERVATIONS_MAX || profile.len() > PROFILE_MAX {
                    return None;
                }
                let (start, kept) = self.earliest(state, config, pool, &profile, job)?;
                Some((Promise { start, kept }, false))
            };
            let Some((promise, taken)) = promise.or_else(found) else { continue };
            if !taken {
                profile.take(promise.start, end(job, promise.start), &promise.kept);
            }
            if promise.start == now {
                let slots = &self.pools[pool].slots;
                let chosen = promise
                    .kept
                    .iter()
                    .map(|kept| Chosen { node: slots[kept.slot as usize], ranks: kept.ranks });
                let chosen = chosen.collect();
                let gres = promise.kept.iter().map(|kept| kept.room.gres).collect();
                due.push(Due { job, index, chosen, gres });
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
        let mut ranks: Vec<Rank> = Vec::new();
        for (class, head) in classes.heads() {
            let Some(group) = classes.get(class) else { continue };
            for id in &group.jobs {
                let Some(job) = state.jobs.get(id) else { continue };
                let Some(shape) = classes.shape(class, job.submitted_at) else { continue };
                ranks.push(Rank {
                    priority: head.priority,
                    score: Ranking::Order(config.order).score(shape, now),
                    job: *id,
                    class,
                });
            }
        }
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        let mut tasks = Vec::new();
        for rank in ranks {
            let Some(job) = state.jobs.get(&rank.job) else { continue };
            let budget = usize::try_from(job.may_start()).unwrap_or(usize::MAX).min(RESERVATIONS_MAX);
            let ready = |index: &TaskIndex| job.tried.get(index).is_none_or(|tried| tried.not_before <= now);
            if eligible::job(job, now).is_err() {
                continue;
            }
            let indices = eligible::indices(job, now).filter(ready).take(budget);
            tasks.extend(indices.map(|index| (job, index)));
            if tasks.len() >= RESERVATIONS_MAX {
                break;
            }
        }
        tasks
    }

    /// Whether no advance reservation has come in the way of a promise.
    fn stays_open(&self, pool: usize, job: &Job, promise: &Promise) -> bool {
        let using = self.advance.using(job.spec.reservation.as_ref());
        let slots = &self.pools[pool].slots;
        let nodes = promise.kept.iter().map(|kept| slots[kept.slot as usize]);
        self.advance.are_open(nodes, promise.start, end(job, promise.start), using)
    }

    fn earliest(
        &self,
        state: &State,
        config: &PoolConfig,
        pool: usize,
        profile: &Profile,
        job: &Job,
    ) -> Option<(Timestamp, Vec<Kept>)> {
        let request = &job.spec.request;
        let ranks = |slot: usize, room: NodeRoom| fits(self, state, config, pool, request, slot, room);
        let kept = |room: &[NodeRoom]| self.where_to_keep(state, config, pool, job, room);
        let using = self.advance.using(job.spec.reservation.as_ref());
        let close = |from: Timestamp, to: Timestamp, room: &mut [NodeRoom]| {
            let seen = &self.pools[pool];
            self.advance.each_closed(&seen.slots, from, to, using, |node| {
                if let Some(slot) = seen.slot(node) {
                    room[slot] = NodeRoom::default();
                }
            });
        };
        profile.earliest(request, job.spec.time_limit_s, ranks, close, kept)
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
        let chosen = self.choose_for(state, job, job.submitted_at, &candidates, config.fill)?;
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

fn end(job: &Job, start: Timestamp) -> Timestamp {
    job.spec.time_limit_s.map_or(Timestamp(u64::MAX), |limit| start.plus_seconds(limit))
}
