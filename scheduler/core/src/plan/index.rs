//! What passes look at, kept up to date event by event.
//!
//! Everything here follows from the state: [`Planner::new`] derives it anew, and gives the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;

use super::advance::Advance;
use super::class::Classes;
use super::conservative::Promises;
use super::fit::{self, NodeRoom};
use super::leaving::{Leaving, Left};
use super::lines::CameToHold;
use super::parked::Parked;
use super::suits::{is_choosy, suits};
use super::victims::Victims;
use crate::cluster::{ClusterConfig, PoolConfig};
use crate::cores::CoreSet;
use crate::event::{Allocation, Event};
use crate::gres;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, Timestamp};
use crate::place::{Candidate, SwitchTree};
use crate::preempt::Rights;
use crate::spec::Request;
use crate::state::{Job, LivePhase, State};

/// Decides what starts. Derived from a state, and told of every event that happens in it.
#[derive(Debug, Clone)]
pub struct Planner {
    pub(super) config: Arc<ClusterConfig>,
    pub(super) tree: SwitchTree,
    pub(super) pools: Vec<Pool>,
    /// By node id.
    pub(super) nodes: Vec<NodeView>,
    /// What leaves when at the latest.
    pub(super) ends: BTreeMap<(Timestamp, AttemptKey), Leaving>,
    pub(super) end_of: HashMap<AttemptKey, Timestamp>,
    /// How many attempts of each job hold an allocation: as many as it has ends.
    pub(super) holders: HashMap<JobId, usize>,
    /// Advance reservations, as of the last pass unless that is old.
    pub(super) advance: Advance,
    pub(super) advance_is_old: bool,
    /// Who may take whose place.
    pub(super) rights: Rights,
    pub(super) victims: Victims,
    /// Tasks whose last victim has left and that have not started, with the place of its end in the order of all.
    pub(super) cleared: BTreeMap<TaskId, u64>,
    /// Whether a job with a right over others found none whose place it could take.
    pub(super) is_denied: bool,
    /// Whether the next pass could go on where the last one stopped looking.
    pub(super) is_unfinished: bool,
    /// Jobs that wait for something other than room.
    parked: Parked,
    /// Jobs that changed since the last pass: it looks whether they wait for something other than room.
    fresh: BTreeSet<JobId>,
    /// Attempts of lines that have come to hold something since the last pass.
    pub(super) came_to_hold: CameToHold,
    /// Whether something happened since the last pass that could let a task start.
    pub(super) changed: bool,
    last_pass: Timestamp,
}

/// A pool with what is free in it.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    /// Its nodes in the order of the tree. A node's place in this list is its slot.
    pub slots: Vec<NodeId>,
    /// Nodes of it that a pool of the batch service has until others need them, in the order of the tree.
    pub lent: Vec<NodeId>,
    /// By node id, up to the last of its nodes; `u32::MAX` for nodes of other pools.
    slot_of: Vec<u32>,
    /// Nodes that take work and have free cores, by how many.
    pub by_free: BTreeSet<(u32, u32)>,
    pub cores_free: u64,
    /// Whether another pool has some of the same nodes.
    pub overlaps: bool,
    pub classes: Classes,
    /// Of a pool with conservative backfill.
    pub promises: Promises,
    /// The latest planned end of what has left since the last pass: later than now, it left early.
    pub left_until: Timestamp,
}

/// A node as passes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeView {
    pub free: CoreSet,
    /// Free devices, by the kinds of the node.
    pub free_gres: Vec<CoreSet>,
    pub room: NodeRoom,
    /// The room of the empty node.
    pub whole: NodeRoom,
    pub takes_work: bool,
    /// The pools that have it, with its slot in each.
    pub seats: Vec<(u32, u32)>,
}

fn slot_of(slots: &[NodeId]) -> Vec<u32> {
    let len = slots.iter().map(|node| node.0 as usize + 1).max().unwrap_or(0);
    let mut slot_of = vec![u32::MAX; len];
    for (slot, node) in slots.iter().enumerate() {
        slot_of[node.0 as usize] = slot as u32;
    }
    slot_of
}

impl Pool {
    /// The slot of a node, if the pool has it.
    pub fn slot(&self, node: NodeId) -> Option<usize> {
        self.slot_of.get(node.0 as usize).filter(|slot| **slot != u32::MAX).map(|slot| *slot as usize)
    }

    /// Its nodes, and behind them those that are lent until others need them.
    pub fn wide(&self) -> Vec<NodeId> {
        self.slots.iter().chain(&self.lent).copied().collect()
    }

    /// The place of a node in [`Self::wide`].
    pub fn wide_slot(&self, node: NodeId) -> Option<usize> {
        let lent = || Some(self.slots.len() + self.lent.iter().position(|lent| *lent == node)?);
        self.slot(node).or_else(lent)
    }

    /// Slots with at least so many free cores, the emptiest first, and of equal ones in the order of the tree.
    pub fn emptiest_first(&self, cores: u32) -> impl Iterator<Item = u32> + '_ {
        let most = self.by_free.last().map(|(cores, _)| *cores);
        let counts = std::iter::successors(most, move |cores| {
            self.by_free.range(..(*cores, 0)).next_back().map(|(fewer, _)| *fewer)
        });
        let of = |count: u32| self.by_free.range((count, 0)..=(count, u32::MAX)).map(|(_, slot)| *slot);
        counts.take_while(move |count| *count >= cores).flat_map(of)
    }
}

impl Planner {
    /// Derives everything from a state.
    #[must_use]
    pub fn new(state: &State) -> Self {
        let names: Vec<&str> = state.nodes.iter().map(|node| node.name.as_str()).collect();
        let tree = SwitchTree::new(&state.config.switches, &names);
        let mut planner = Self {
            config: Arc::clone(&state.config),
            tree,
            pools: Vec::new(),
            nodes: Vec::new(),
            ends: BTreeMap::new(),
            end_of: HashMap::default(),
            holders: HashMap::default(),
            advance: Advance::new(state, Timestamp(0)),
            advance_is_old: false,
            rights: Rights::new(&state.config),
            victims: Victims::default(),
            cleared: BTreeMap::new(),
            is_denied: false,
            is_unfinished: false,
            parked: Parked::default(),
            fresh: BTreeSet::new(),
            came_to_hold: CameToHold::new(),
            changed: true,
            last_pass: Timestamp(0),
        };
        planner.add_nodes(state);
        for (key, job, live) in state.live().filter(|(.., live)| live.holds_allocation()) {
            let end = live.deadline(job.spec.time_limit_s).unwrap_or(Timestamp(u64::MAX));
            planner.remember_end(state, key, end, &live.allocation);
            planner.follow_victim(state, key, job, &live.phase);
        }
        for job in state.queue() {
            planner.admit(state, job);
        }
        planner
    }

    fn add_nodes(&mut self, state: &State) {
        let blank = NodeView {
            free: CoreSet::new(),
            free_gres: Vec::new(),
            room: NodeRoom::default(),
            whole: NodeRoom::default(),
            takes_work: false,
            seats: Vec::new(),
        };
        self.nodes = vec![blank; state.nodes.len()];
        for (i, pool) in self.config.pools.iter().enumerate() {
            let seated = |node: &NodeId| state.seats(*node, &pool.name);
            let mut slots: Vec<NodeId> = fit::pool_nodes(state, pool).filter(seated).collect();
            slots.sort_by_key(|node| self.tree.position(*node));
            let is_lent = |node: &NodeId| !pool.by_rank && state.may_take_back(*node);
            let mut lent: Vec<NodeId> = fit::pool_nodes(state, pool).filter(is_lent).collect();
            lent.sort_by_key(|node| self.tree.position(*node));
            for (slot, node) in slots.iter().enumerate() {
                self.nodes[node.0 as usize].seats.push((i as u32, slot as u32));
            }
            self.pools.push(Pool {
                slot_of: slot_of(&slots),
                slots,
                lent,
                by_free: BTreeSet::new(),
                cores_free: 0,
                overlaps: false,
                classes: Classes::new(pool.order),
                promises: Promises::new(),
                left_until: Timestamp(u64::MAX),
            });
        }
        for node in 0..self.nodes.len() {
            if let [first, second, ..] = self.nodes[node].seats[..] {
                self.pools[first.0 as usize].overlaps = true;
                self.pools[second.0 as usize].overlaps = true;
            }
            self.look_at(state, NodeId(node as u32));
        }
    }

    /// Takes over what the state says of a node.
    pub(super) fn look_at(&mut self, state: &State, id: NodeId) {
        let node = state.node(id);
        let Some(view) = self.nodes.get_mut(id.0 as usize) else { return };
        let before = (view.takes_work, view.room.cores);
        view.free.clone_from(&node.free);
        view.free_gres.clear();
        view.free_gres.extend(node.gres.iter().map(|gres| gres.free.clone()));
        view.room = NodeRoom::free(node);
        view.whole = NodeRoom::whole(node);
        view.takes_work = node.takes_work();
        self.reseat(id, before);
    }

    /// Keeps the pools' indices in step with a node whose room or readiness changed.
    fn reseat(&mut self, id: NodeId, (took_work, cores_before): (bool, u32)) {
        let view = &self.nodes[id.0 as usize];
        if (took_work, cores_before) == (view.takes_work, view.room.cores) {
            return;
        }
        for &(pool, slot) in &view.seats {
            let pool = &mut self.pools[pool as usize];
            if took_work != view.takes_work {
                pool.left_until = Timestamp(u64::MAX);
            }
            if took_work && cores_before > 0 {
                pool.by_free.remove(&(cores_before, slot));
                pool.cores_free -= u64::from(cores_before);
            }
            if view.takes_work && view.room.cores > 0 {
                pool.by_free.insert((view.room.cores, slot));
                pool.cores_free += u64::from(view.room.cores);
            }
        }
    }

    /// Slots of a pool that take work and have at least so many free cores, rising.
    pub(super) fn slots_with(&self, pool: usize, cores: u32) -> Vec<u32> {
        let pool = &self.pools[pool];
        // Where most nodes have room, going through all of them in order is faster than sorting those that have.
        if pool.by_free.len() > pool.slots.len() / 8 {
            let has = |node: &NodeId| {
                let view = &self.nodes[node.0 as usize];
                view.takes_work && view.room.cores >= cores.max(1)
            };
            return (0..).zip(&pool.slots).filter(|(_, node)| has(node)).map(|(slot, _)| slot).collect();
        }
        let mut slots: Vec<u32> = pool.by_free.range((cores, 0)..).map(|(_, slot)| *slot).collect();
        slots.sort_unstable();
        slots
    }

    /// A node as a candidate for a request, if its room holds at least one rank.
    pub(super) fn candidate(
        &self,
        state: &State,
        config: &PoolConfig,
        id: NodeId,
        room: NodeRoom,
        request: &Request,
    ) -> Option<Candidate> {
        let ranks = self.ranks_on(state, config, id, room, request);
        (ranks > 0).then(|| Candidate { position: self.tree.position(id), ranks, cores: room.cores })
    }

    /// How many ranks of a request the room on a node holds.
    pub(super) fn ranks_on(
        &self,
        state: &State,
        config: &PoolConfig,
        id: NodeId,
        room: NodeRoom,
        request: &Request,
    ) -> u32 {
        // The node itself lies elsewhere in memory, so it is looked at only where it matters.
        if is_choosy(request) && !suits(state.node(id), request) {
            return 0;
        }
        let usable = match request.threads_per_core {
            None => room.cores,
            Some(_) => fit::usable(state.node(id), room, request),
        };
        let ranks = fit::ranks_within(self.nodes[id.0 as usize].whole, config, room, usable, request);
        match ranks > 0 && request.has_gres() {
            true => ranks.min(gres::ranks(&state.node(id).gres, room.gres, request)),
            false => ranks,
        }
    }

    /// The pool of a job, if the configuration still has it.
    pub(super) fn pool_of(&self, job: &Job) -> Option<usize> {
        let name = job.spec.pool.as_deref().unwrap_or_default();
        self.config.pools.iter().position(|pool| pool.name == name)
    }

    fn admit(&mut self, state: &State, job: &Job) {
        if let Some(pool) = self.pool_of(job) {
            self.pools[pool].classes.admit(state, job);
            self.fresh.insert(job.id);
        }
    }

    pub(super) fn dismiss(&mut self, state: &State, job: &Job) {
        if let Some(pool) = self.pool_of(job) {
            self.pools[pool].classes.dismiss(state, job.id);
        }
    }

    /// Sets a job aside that waits for something other than room.
    pub(super) fn park(&mut self, state: &State, job: &Job, until: Option<Timestamp>) {
        self.dismiss(state, job);
        self.parked.insert(job.id, until);
    }

    /// The jobs that changed since the last pass.
    pub(super) fn take_fresh(&mut self) -> BTreeSet<JobId> {
        std::mem::take(&mut self.fresh)
    }

    /// Puts jobs back whose time has come.
    pub(super) fn unpark_due(&mut self, state: &State, now: Timestamp) {
        for job in self.parked.due(now) {
            self.readmit(state, job);
        }
    }

    fn readmit(&mut self, state: &State, id: JobId) {
        self.parked.remove(id);
        if let Some(job) = state.jobs.get(&id).filter(|job| !job.waiting.is_empty()) {
            self.admit(state, job);
        }
    }

    /// Whether a pass could start something that the last one did not.
    pub(crate) fn is_due(&self, state: &State, now: Timestamp) -> bool {
        self.changed || self.next_wake(state).is_some_and(|at| at <= now)
    }

    pub(super) fn passed(&mut self, now: Timestamp) {
        self.changed = self.is_unfinished;
        self.last_pass = now;
        for pool in &mut self.pools {
            pool.left_until = Timestamp(0);
        }
    }

    /// The next instant at which a parked job may go on or a promised start has come.
    #[must_use]
    pub fn next_wake(&self, state: &State) -> Option<Timestamp> {
        let promised = self.pools.iter().flat_map(|pool| pool.promises.values()).map(|promise| promise.start);
        let eligible = state.next_eligible(self.last_pass);
        let exempt = self.victims.next_exempt(self.last_pass).filter(|_| self.is_denied);
        let unfinished = self.is_unfinished.then_some(self.last_pass);
        let reservation = state.next_reservation_instant(self.last_pass);
        let others = [self.parked.next(), eligible, exempt, unfinished, reservation].into_iter().flatten();
        promised.chain(others).min()
    }

    /// Lets an event happen in the state, and follows.
    pub fn follow(&mut self, state: &mut State, event: &Event, at: Timestamp) {
        if let Event::AttemptsRan { job, verdict, ran } = event {
            return ran.iter().for_each(|ran| self.follow(state, &ran.alone(*job, verdict), at));
        }
        // What other jobs wait for may have come true; afterwards nobody remembers who they are.
        let dependents: Vec<JobId> =
            event.job().map(|job| state.dependents(job).collect()).unwrap_or_default();
        let threads = match event {
            Event::NodeUp { node, .. } => state.nodes.get(node.0 as usize).map(|node| node.threads.clone()),
            _ => None,
        };
        let left = Left::by(state, event);
        if let Event::JobUpdated { job, .. } = event
            && let Some(job) = state.jobs.get(job)
        {
            // Afterwards nobody remembers where it was.
            self.parked.remove(job.id);
            self.dismiss(state, job);
        }
        state.evolve(event, at);
        self.happened(state, event);
        if let (Event::NodeUp { node, .. }, Some(threads)) = (event, threads)
            && state.node(*node).threads != threads
        {
            self.recount_ends(state, *node);
        }
        if let Some(left) = left {
            self.follow_left(state, &left);
        }
        for job in dependents {
            self.job_changed(state, job);
        }
    }

    /// Writes down what an event that has just happened in `state` changes. Placements that a pass of this planner
    /// decided were written down by the pass.
    fn happened(&mut self, state: &State, event: &Event) {
        match event {
            Event::Configured { .. } => *self = Self::new(state),
            Event::Batch { batch } if batch.moves_nodes() => *self = Self::new(state),
            Event::JobSubmitted { job, .. }
            | Event::WaitingCancelled { job, .. }
            | Event::WaitingEnded { job, .. }
            | Event::JobHeld { job, .. }
            | Event::JobReleased { job, .. }
            | Event::TaskHeld { task: TaskId { job, .. }, .. }
            | Event::TaskReleased { task: TaskId { job, .. } } => self.job_changed(state, *job),
            Event::JobUpdated { job, .. } => {
                let live = state.jobs.get(job).into_iter().flat_map(|job| &job.live);
                let keys: Vec<_> = live.map(|(index, live)| live.key(*job, *index)).collect();
                keys.into_iter().for_each(|key| self.end_moved(state, key));
                self.job_changed(state, *job);
            }
            Event::AttemptPlaced { key, .. } => {
                let Some(job) = state.jobs.get(&key.task.job) else { return };
                self.follow_victim(state, *key, job, &LivePhase::Preparing);
                if job.waiting.is_empty() {
                    self.job_changed(state, key.task.job);
                }
            }
            Event::LineMade { behind: AttemptKey { task: TaskId { job, .. }, .. }, .. } => {
                if state.jobs.get(job).is_some_and(|job| job.waiting.is_empty()) {
                    self.job_changed(state, *job);
                }
            }
            Event::AttemptGo { key } | Event::AttemptEnding { key, .. } => self.end_moved(state, *key),
            Event::AttemptEnded { key, .. }
            | Event::AttemptRan { key, .. }
            | Event::AttemptReturned { key } => {
                self.forget_end(*key);
                self.forget_victim(*key);
                self.job_changed(state, key.task.job);
            }
            Event::NodeUp { node, .. }
            | Event::StaleGone { node, .. }
            | Event::NodeLost { node, .. }
            | Event::NodeHeld { node, .. }
            | Event::NodeReleased { node }
            | Event::NodeHealth { node, .. }
            | Event::NodePower { node, .. } => {
                self.look_at(state, *node);
                self.changed = true;
            }
            Event::PoolChanged { pool, .. } => {
                self.changed = true;
                let of_pool = |job: &&Job| job.spec.pool.as_deref() == Some(pool);
                let jobs: Vec<JobId> = state.queue().filter(of_pool).map(|job| job.id).collect();
                jobs.into_iter().for_each(|job| self.job_changed(state, job));
            }
            Event::ReservationMade { .. }
            | Event::ReservationRemoved { .. }
            | Event::ReservationEnded { .. } => self.reservation_changed(state, event),
            Event::Batch { .. }
            | Event::CrontabSet { .. }
            | Event::CronMade { .. }
            | Event::CronStopped { .. }
            | Event::InstanceReady { .. }
            | Event::InstanceGone { .. }
            | Event::InstanceLost { .. }
            | Event::AttemptRunning { .. }
            | Event::AttemptSignalled { .. }
            | Event::AttemptRanFor { .. }
            // Each of them was followed by itself.
            | Event::AttemptsRan { .. } => {}
        }
    }

    /// Whether what was kept up to date equals what follows from the state.
    #[must_use]
    pub fn is_consistent(&self, state: &State) -> bool {
        let fresh = Self::new(state);
        let pools = self.pools.iter().zip(&fresh.pools).all(|(kept, fresh)| {
            kept.by_free == fresh.by_free
                && kept.cores_free == fresh.cores_free
                && (&kept.slots, &kept.lent) == (&fresh.slots, &fresh.lent)
        });
        let parked = self.parked.jobs().filter(|job| state.jobs.contains_key(job)).count();
        let jobs = |planner: &Self| planner.pools.iter().map(|pool| pool.classes.jobs()).sum::<usize>();
        pools
            && (self.advance_is_old || self.advance == self.advance.anew(state))
            && self.nodes == fresh.nodes
            && self.ends == fresh.ends
            && self.holders == fresh.holders
            && self.victims == fresh.victims
            && jobs(self) + parked == jobs(&fresh)
            && self.parked.len() == parked
    }

    fn job_changed(&mut self, state: &State, id: JobId) {
        self.changed = true;
        let Some(job) = state.jobs.get(&id) else { return };
        if job.waiting.is_empty() {
            self.parked.remove(id);
            self.dismiss(state, job);
        } else {
            self.readmit(state, id);
        }
    }

    /// A reservation came or went, or a window of it ended.
    fn reservation_changed(&mut self, state: &State, event: &Event) {
        self.changed = true;
        self.advance_is_old = true;
        for pool in &mut self.pools {
            pool.left_until = Timestamp(u64::MAX);
        }
        for job in event.reservation().into_iter().flat_map(|name| state.jobs_of_reservation(name)) {
            self.job_changed(state, job);
        }
    }

    /// Takes an allocation out of what is free, until the state says the same.
    pub(super) fn take(&mut self, state: &State, allocation: &Allocation) {
        for share in &allocation.shares {
            let Some(view) = self.nodes.get_mut(share.node.0 as usize) else { continue };
            let before = (view.takes_work, view.room.cores);
            view.free.remove_all(&share.cores);
            let node = state.node(share.node);
            for held in &share.gres {
                for (gres, free) in node.gres.iter().zip(&mut view.free_gres) {
                    if gres.name == held.name {
                        free.remove_all(&held.devices);
                    }
                }
            }
            view.room.take(NodeRoom::of(node, share));
            self.reseat(share.node, before);
        }
    }
}
