//! Which nodes a task gets now.

use super::fit::NodeRoom;
use super::pass::Pass;
use super::ranges::{self, spreads_wide};
use super::refused::Need;
use super::span::Span;
use crate::cluster::{Fill, PoolConfig};
use crate::ids::{NodeId, Timestamp};
use crate::place::{Candidate, Chosen};
use crate::state::Job;

impl Pass<'_> {
    /// Finds nodes for a task now, and says how long it may run there: less than its time limit only where its job
    /// allows that and it would have to wait otherwise.
    pub(super) fn choose_with_span(
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
        let instants = instants.chain(self.closings_ahead(job));
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
        // What uses an advance reservation sees other nodes than the rest.
        let outlasts = outlasts.filter(|_| job.spec.reservation.is_none());
        let closings = self.planner.advance.outlasted(end);
        outlasts.and_then(|outlasts| Need::of(&job.spec.request, outlasts, closings))
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
        let using = self.planner.advance.using(job.spec.reservation.as_ref());
        let seen = &self.planner.pools[pool];
        if request.cores_total() > seen.cores_free || request.nodes_min() as usize > seen.by_free.len() {
            return None;
        }
        let candidate = |slot: u32| {
            let node = seen.slots[slot as usize];
            if Some(node) == avoid {
                return None;
            }
            let room = self.room_until(node, end, using);
            self.planner.candidate(self.state, config, node, room, request)
        };
        if let Some(near) = request.near.as_ref().and_then(|name| self.state.node_by_name(name))
            && request.nodes == Some(1)
            && let Some(slot) = seen.slot(near)
            && candidate(slot as u32).is_some_and(|there| there.ranks >= request.ranks)
        {
            return Some(vec![Chosen { node: near, ranks: request.ranks }]);
        }
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

    /// The room on a node for what ends at `end`, if the node is not closed: what would outlast the start of a job's
    /// reservation may use only what that leaves.
    pub(super) fn unclosed_room_until(&self, node: NodeId, end: Timestamp) -> NodeRoom {
        let mut room = self.planner.nodes[node.0 as usize].room;
        for reservation in self.reservations.iter().filter(|r| end > r.start) {
            room = reservation.limit(node, room);
        }
        room
    }
}
