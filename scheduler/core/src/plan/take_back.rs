//! Taking nodes back that a pool of the batch service has until others need them.
//!
//! A job that does not fit, and for which nobody can be ended, is given them if it can start with them: as few as there have to be, and
//! each as a whole. Until they are empty its place is kept, so that what waits behind it does not take it.

use super::advance;
use super::fit::NodeRoom;
use super::pass::Pass;
use super::preempt::{Left, SEARCHES_MAX};
use super::ranges;
use super::span::Span;
use crate::cluster::PoolConfig;
use crate::ids::{JobId, NodeId, TaskId, TaskIndex};
use crate::place::{Candidate, Chosen};
use crate::state::Job;

impl Pass<'_> {
    /// Makes room for the tasks of a job from `index` on that may start, as many as `budget`. Says whether room is now kept for all of
    /// them.
    pub(super) fn take_back(
        &mut self,
        config: &PoolConfig,
        pool: usize,
        job: JobId,
        index: TaskIndex,
        budget: u64,
    ) -> bool {
        if self.planner.pools[pool].lent.is_empty() && !self.state.was_given_back(Some(job)) {
            return false;
        }
        let Some(job) = self.state.jobs.get(&job) else { return false };
        if advance::lets_start_here(self.state, job, self.now).is_err() {
            return false;
        }
        for index in self.unsettled(job, index, budget) {
            if self.clearing.searches >= SEARCHES_MAX || self.budgets.left(self.state, job) == 0 {
                return false;
            }
            self.clearing.searches += 1;
            self.look_at_leaving();
            let Some((chosen, left)) = self.choose_wide(config, pool, job) else { return false };
            for node in chosen.iter().map(|chosen| chosen.node) {
                let is_lent = self.planner.pools[pool].lent.contains(&node);
                if is_lent && !self.plan.taken_back.iter().any(|(taken, _)| *taken == node) {
                    self.plan.taken_back.push((node, job.id));
                }
            }
            self.keep(config, job, TaskId { job: job.id, index }, &chosen, &left);
        }
        true
    }

    /// Finds nodes for a task among those of the pool and as few as possible of those that it has lent, once what is being ended has
    /// left; says what is left there.
    fn choose_wide(
        &self,
        config: &PoolConfig,
        pool: usize,
        job: &Job,
    ) -> Option<(Vec<Chosen>, Vec<NodeRoom>)> {
        let lent = self.planner.pools[pool].lent.len();
        let mut found = self.choose_with(config, pool, job, lent)?;
        // With more of them it fits as well.
        let (mut too_few, mut enough): (Option<usize>, usize) = (None, lent);
        while too_few.map_or(0, |few| few + 1) < enough {
            let between = too_few.map_or(0, |few| few + 1).midpoint(enough);
            match self.choose_with(config, pool, job, between) {
                Some(chosen) => (found, enough) = (chosen, between),
                None => too_few = Some(between),
            }
        }
        let end = Span::longest(job, self.now).end;
        let left = found.iter().map(|chosen| self.room_wide(pool, job, chosen.node, end)).collect();
        Some((found, left))
    }

    /// Finds nodes for a task among those of the pool and the first so many of those that it has lent.
    fn choose_with(&self, config: &PoolConfig, pool: usize, job: &Job, lent: usize) -> Option<Vec<Chosen>> {
        let (request, end) = (&job.spec.request, Span::longest(job, self.now).end);
        let seen = &self.planner.pools[pool];
        let mut nodes: Vec<NodeId> = seen.slots.iter().chain(&seen.lent[..lent]).copied().collect();
        nodes.sort_by_key(|node| self.planner.tree.position(*node));
        let candidate = |node: &NodeId| {
            let takes_work = self.planner.nodes[node.0 as usize].takes_work;
            let room = takes_work.then(|| self.room_wide(pool, job, *node, end))?;
            self.planner.candidate(self.state, config, *node, room, request)
        };
        let candidates: Vec<Candidate> = nodes.iter().filter_map(candidate).collect();
        let fill = ranges::fill(config, request);
        self.planner.choose_for(self.state, pool, job, self.now, &candidates, fill)
    }

    /// The room on a node for what ends at `end`: of one that is lent all of it, but for what others have a reservation on.
    fn room_wide(&self, pool: usize, job: &Job, node: NodeId, end: crate::ids::Timestamp) -> NodeRoom {
        if self.planner.pools[pool].slot(node).is_some() {
            return self.room_after(job, node, end, &Left::default());
        }
        let using = self.planner.advance.using(job.spec.reservation.as_ref());
        if end > self.planner.advance.closes(node, using) {
            return NodeRoom::default();
        }
        let whole = self.planner.nodes[node.0 as usize].whole;
        let ahead = self.reservations.iter().filter(|reservation| end > reservation.start);
        ahead.fold(whole, |room, reservation| reservation.limit(node, room))
    }
}
