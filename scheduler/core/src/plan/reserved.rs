//! What advance reservations mean for a pass: who is kept out, and who says so.

use std::collections::BTreeMap;

use super::advance::Using;
use super::class::ClassKey;
use super::closures::never_on;
use super::fit::{self, NodeRoom};
use super::pass::Pass;
use super::{Reason, Waiting};
use crate::cluster::PoolConfig;
use crate::ids::{NodeId, Timestamp};
use crate::place::Chosen;
use crate::state::Job;

impl Pass<'_> {
    /// Sets jobs aside whose reservation does not let them start.
    pub(super) fn leave_reservations(&mut self) {
        for (job, reason, from) in self.planner.leave_reservations(self.state, self.now) {
            if self.explain {
                self.plan.waiting.insert(job, Waiting::new(reason, from));
            }
        }
    }

    /// The groups of a pool that use a reservation, by its name: each reservation has a queue of its own, so that whoever
    /// waits in it holds up nobody outside.
    pub(super) fn reserved_classes(&self, pool: usize) -> Vec<Vec<u32>> {
        let classes = &self.planner.pools[pool].classes;
        let mut by_name: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for class in classes.reserved() {
            let name = classes.get(class).and_then(|class| class.key.reservation.as_deref());
            by_name.entry(name.unwrap_or_default()).or_default().push(class);
        }
        by_name.into_values().collect()
    }

    /// The room on a node for what ends at `end`: nothing once the node is closed, and of what would outlast the start
    /// of a job's reservation only what that leaves.
    pub(super) fn room_until(&self, node: NodeId, end: Timestamp, using: Using) -> NodeRoom {
        if end > self.planner.advance.closes(node, using) {
            return NodeRoom::default();
        }
        self.unclosed_room_until(node, end)
    }

    /// The instants ahead at which a job sees less than before because of reservations.
    pub(super) fn closings_ahead(&self, job: &Job) -> Vec<Timestamp> {
        let advance = &self.planner.advance;
        let used = advance.used(advance.using(job.spec.reservation.as_ref()));
        let window = used.and_then(|used| used.windows.first_open(self.now)).map(|window| window.end);
        advance.closings().iter().copied().chain(window).filter(|at| *at > self.now).collect()
    }

    /// By when the attempt must have ended on these nodes, if its time limit, which counts from the word to start, could
    /// last longer than that.
    pub(super) fn ends_by(&self, chosen: &[Chosen], end: Timestamp, using: Using) -> Option<Timestamp> {
        let advance = &self.planner.advance;
        let closes = chosen.iter().map(|chosen| advance.must_end_by(chosen.node, using)).min()?;
        let latest = end.plus_seconds(self.planner.config.policy.prepare_timeout_s);
        (closes < latest).then_some(closes)
    }

    /// Why the jobs of a group can never run because of reservations on these nodes of the pool; none if they may, some
    /// day.
    pub(super) fn never_open(&self, config: &PoolConfig, slots: &[NodeId], key: &ClassKey) -> Option<String> {
        let (state, advance) = (self.state, &self.planner.advance);
        let using = advance.using(key.reservation.as_ref());
        if advance.is_empty() && using == Using::Nothing {
            return None;
        }
        never_on(state, config, advance, slots, using, &key.request, key.shortest_s(), self.now)
    }

    /// The reservation that alone keeps a group from starting now.
    pub(super) fn kept_back(&self, config: &PoolConfig, pool: usize, key: &ClassKey) -> Option<Reason> {
        let advance = &self.planner.advance;
        if advance.is_empty() {
            return None;
        }
        let using = advance.using(key.reservation.as_ref());
        let fits = |room: &dyn Fn(NodeId) -> NodeRoom| {
            let slots = self.planner.pools[pool].slots.iter();
            let usable = slots.filter(|node| self.planner.nodes[node.0 as usize].takes_work);
            let kept = usable.filter(|node| advance.used(using).is_none_or(|used| used.keeps(**node)));
            let ranks =
                kept.map(|node| self.planner.ranks_on(self.state, config, *node, room(*node), &key.request));
            fit::suffices(&key.request, ranks)
        };
        let limit =
            |limit_s: Option<u64>| limit_s.map_or(Timestamp(u64::MAX), |limit| self.now.plus_seconds(limit));
        let end = limit(key.shortest_s());
        if fits(&|node| self.room_until(node, end, using))
            || !fits(&|node| self.unclosed_room_until(node, end))
        {
            return None;
        }
        // The latest of the instants at which nodes close by which it would have to end. Whoever ends earlier sees more.
        let closings: Vec<Timestamp> =
            advance.closings().iter().copied().filter(|at| self.now < *at && *at < end).collect();
        let could = closings.partition_point(|at| fits(&|node| self.room_until(node, *at, using)));
        let limit_max_s = could
            .checked_sub(1)
            .map(|last| closings[last].micros_since(self.now) / 1_000_000)
            .filter(|limit| *limit > 0);
        let from = could.checked_sub(1).map(|last| closings[last]);
        let slots = self.planner.pools[pool].slots.iter();
        let closed = slots.filter_map(|node| advance.closed_by(*node, using)).filter(|(.., at)| match from {
            Some(from) => *at == from,
            None => *at < end,
        });
        let (by, from, _) = closed.min_by_key(|(_, at, _)| *at)?;
        Some(Reason::Reserved { name: by.name.clone(), from, limit_max_s })
    }
}
