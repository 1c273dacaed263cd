//! Why the jobs of a group do not start, found in the pass itself.

use super::class::ClassKey;
use super::fit;
use super::limits;
use super::pass::Pass;
use super::queue::Head;
use super::{Reason, Waiting, never_fits};
use crate::cluster::PoolConfig;
use crate::ids::{JobId, NodeId};
use crate::spec::Request;
use crate::state::Job;

impl Pass<'_> {
    /// Whether nodes are missing that nobody knows when they return: such a job may not hold up the others.
    pub(super) fn never(&self, config: &PoolConfig, pool: usize, key: &ClassKey) -> Option<Reason> {
        let (state, request) = (self.state, &key.request);
        let slots = &self.planner.pools[pool].wide();
        // What the nodes that take work could hold, and wishes for nothing else, need not be asked about any further.
        let is_plain = request.switches.is_none() && request.nodelist.is_empty() && !request.contiguous;
        if is_plain && self.planner.advance.is_empty() && self.could_hold(config, slots, request) {
            return None;
        }
        if let Err(refusal) = never_fits(state, config, request) {
            return Some(Reason::NeverFits { why: refusal.to_string() });
        }
        if let Some(why) = self.never_open(config, slots, key) {
            return Some(Reason::NeverFits { why });
        }
        let used = self.planner.advance.used(self.planner.advance.using(key.reservation.as_ref()));
        let usable = |node: &NodeId| {
            self.planner.nodes[node.0 as usize].takes_work && used.is_none_or(|used| used.keeps(*node))
        };
        let usable: Vec<NodeId> = slots.iter().copied().filter(usable).collect();
        let adjacent = || !request.contiguous || self.planner.could_be_adjacent(state, config, pool, request);
        if self.could_hold(config, &usable, request) && adjacent() {
            if self.planner.advance.is_empty() {
                return None;
            }
            self.never_open(config, &usable, key)?;
        }
        Some(Reason::NodesAway(self.shortage(config, pool, key)))
    }

    /// Whether those of some nodes that take work could hold a request if they were empty.
    fn could_hold(&self, config: &PoolConfig, nodes: &[NodeId], request: &Request) -> bool {
        let usable = nodes.iter().filter(|node| self.planner.nodes[node.0 as usize].takes_work);
        let rooms = usable.map(|node| {
            let whole = self.planner.nodes[node.0 as usize].whole;
            self.planner.ranks_on(self.state, config, *node, whole, request)
        });
        fit::suffices(request, rooms)
    }

    fn shortage(&self, config: &PoolConfig, pool: usize, key: &ClassKey) -> fit::Shortage {
        let nodes = &self.planner.nodes;
        let used = self.planner.advance.used(self.planner.advance.using(key.reservation.as_ref()));
        let usable = self.planner.pools[pool].slots.iter().filter(|node| nodes[node.0 as usize].takes_work);
        let usable = usable.filter(|node| used.is_none_or(|used| used.keeps(**node)));
        let rooms = usable.map(|node| (*node, nodes[node.0 as usize].room));
        let mut short = fit::shortage(self.state, config, rooms, &key.request);
        if key.request.contiguous {
            self.planner.count_adjacent(self.state, config, pool, &key.request, &mut short);
        }
        short
    }

    /// Writes down why the jobs of a group from `job` on wait.
    pub(super) fn explain_class(
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
        let key = group.key.clone();
        let reason = never.unwrap_or_else(|| self.why(config, pool, &key, head, Some(job)));
        for id in jobs {
            self.say_why(id, Waiting::new(reason.clone(), None));
        }
    }

    /// Writes down why a job waits, unless that is said already because others leave for it.
    pub(super) fn say_why(&mut self, job: JobId, waiting: Waiting) {
        if self.clearing.settled(job) == 0 {
            self.plan.waiting.insert(job, waiting);
        }
    }

    /// Why the jobs of a group do not start, given who comes first.
    pub(super) fn why(
        &self,
        config: &PoolConfig,
        pool: usize,
        key: &ClassKey,
        head: Head,
        job: Option<JobId>,
    ) -> Reason {
        if let Some(never) = self.never(config, pool, key) {
            return never;
        }
        if let Some(reserved) = self.kept_back(config, pool, key) {
            return reserved;
        }
        let short = self.shortage(config, pool, key);
        match head {
            Head::Waits(first) if short.fits_now && Some(first) != job => Reason::Behind { job: first },
            _ => Reason::Resources(short),
        }
    }

    /// Writes down that no more of a group from `job` on may start.
    pub(super) fn explain_limit(&mut self, pool: usize, class: u32, job: &Job) {
        let Some(group) = self.planner.pools[pool].classes.get(class).filter(|_| self.explain) else {
            return;
        };
        let reason = limits::reason(self.state, job);
        for id in group.jobs.range(job.id..) {
            self.plan.waiting.insert(*id, Waiting::new(reason.clone(), None));
        }
    }
}
