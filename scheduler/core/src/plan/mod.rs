//! The scheduling pass: a pure function from the state and the instant to placements and reasons.
//!
//! The queue is considered in order. What fits now is placed. The first task that does not fit gets a
//! reservation: the earliest instant at which everything that runs, running to its time limit, has left enough;
//! whatever comes after it may overtake only if it will have ended by then, or leaves enough for it (EASY
//! backfill: Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995). Since the head of the queue always has
//! a reservation that nothing can push back, nothing starves.

mod choose;
pub mod eligible;
mod fit;
mod forecast;
mod pick;
mod ranges;
mod reason;
mod suits;
mod topology;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use self::choose::{Candidate, Chosen};
use self::fit::{NodeRoom, PoolRoom};
pub use self::forecast::expected_start;
use self::ranges::choose_for;
pub use self::reason::Reason;
pub use self::suits::{never_fits, suits};
use self::topology::SwitchTree;
use crate::cluster::PoolConfig;
use crate::event::{Allocation, Share};
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::spec::Request;
use crate::state::{Job, State};

/// How many jobs one pass considers. Jobs behind them wait for a later pass.
pub const JOBS_PER_PASS_MAX: usize = 20_000;

/// What a pass decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Attempts to start now.
    pub placements: Vec<Placement>,
    /// Why each other job with waiting tasks waits.
    pub waiting: BTreeMap<JobId, Waiting>,
}

/// An attempt and exactly what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The attempt.
    pub key: AttemptKey,
    /// What it gets.
    pub allocation: Arc<Allocation>,
}

/// Why a job's next task waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why.
    pub reason: Reason,
    /// When it starts at the latest, if the pass reserved that; `expected_start` asks for any task.
    pub expected_start: Option<Timestamp>,
}

/// Nodes and cores that are kept for the first task that does not fit.
struct Reservation {
    job: JobId,
    pool: String,
    start: Timestamp,
    /// What each node has left at `start` beyond what the reservation needs.
    spare: HashMap<NodeId, NodeRoom>,
}

/// One pass at `now`.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    let mut pass = Pass::new(state, now);
    let mut considered = 0;
    for job in state.queue() {
        if let Err(reason) = eligible::job(job, now) {
            let from = eligible::from(&reason);
            pass.wait(job.id, reason, from);
            continue;
        }
        considered += 1;
        if considered > JOBS_PER_PASS_MAX {
            pass.wait(job.id, Reason::Depth { considered: JOBS_PER_PASS_MAX }, None);
            continue;
        }
        pass.consider(job);
    }
    pass.plan
}

/// The pass's own view of what is still free.
struct Pass<'a> {
    state: &'a State,
    now: Timestamp,
    tree: SwitchTree,
    pools: HashMap<&'a str, Option<PoolRoom<'a>>>,
    /// When and where the attempts that run now, or start in this pass, leave.
    reservation: Option<Reservation>,
    /// Requests that were found not to fit in this pass: equal ones need not be tried again.
    failed: HashSet<(&'a str, &'a Request, Option<u64>)>,
    free: Vec<crate::cores::CoreSet>,
    room: Vec<NodeRoom>,
    started: Vec<(Timestamp, Arc<Allocation>)>,
    plan: Plan,
}

impl<'a> Pass<'a> {
    fn new(state: &'a State, now: Timestamp) -> Self {
        let room = state.nodes.iter().map(NodeRoom::free).collect();
        Self {
            state,
            now,
            tree: SwitchTree::new(state),
            pools: HashMap::new(),
            reservation: None,
            failed: HashSet::new(),
            free: state.nodes.iter().map(|node| node.free.clone()).collect(),
            room,
            started: Vec::new(),
            plan: Plan::default(),
        }
    }

    fn wait(&mut self, job: JobId, reason: Reason, expected_start: Option<Timestamp>) {
        self.plan.waiting.insert(job, Waiting { reason, expected_start });
    }

    /// Places as many tasks of a job as fit; the first that does not says why.
    fn consider(&mut self, job: &'a Job) {
        let pool_name = job.spec.pool.as_deref().unwrap_or_default();
        let state = self.state;
        let room = self.pools.entry(pool_name).or_insert_with(|| PoolRoom::new(state, pool_name));
        let Some(pool) = room.as_ref().map(|room| room.pool) else {
            return self.wait(job.id, Reason::PoolGone { pool: pool_name.to_owned() }, None);
        };
        if let Err(refusal) = never_fits(state, pool, &job.spec.request) {
            return self.wait(job.id, Reason::NeverFits { why: refusal.to_string() }, None);
        }
        let signature = (pool_name, &job.spec.request, job.spec.time_limit_s);
        let mut budget = job.may_start();
        let mut delayed_until: Option<Timestamp> = None;
        for index in eligible::indices(job, self.now) {
            if budget == 0 {
                let running_max = job.spec.array.as_ref().and_then(|array| array.running_max).unwrap_or(0);
                return self.wait(job.id, Reason::Throttle { running_max }, None);
            }
            let tried = job.tried.get(&index);
            if let Some(tried) = tried.filter(|tried| tried.not_before > self.now) {
                delayed_until = Some(delayed_until.map_or(tried.not_before, |at| at.min(tried.not_before)));
                continue;
            }
            let known_failed = self.failed.contains(&signature) && job.spec.request.switches.is_none();
            let avoid = tried.and_then(|tried| tried.avoid);
            let placed = if known_failed { None } else { self.try_place(job, pool, avoid) };
            let Some(allocation) = placed else {
                self.failed.insert(signature);
                return self.blocked(job, pool);
            };
            budget -= 1;
            self.take(job, index, allocation);
        }
        if let Some(until) = delayed_until {
            self.wait(job.id, Reason::Delayed { until }, Some(until));
        } else if let Some(reason) = eligible::left_out(job, self.now) {
            self.wait(job.id, reason, None);
        }
    }

    /// Finds an allocation; a node that failed the task before is used only if no other will do.
    fn try_place(&self, job: &Job, pool: &PoolConfig, avoid: Option<NodeId>) -> Option<Allocation> {
        let chosen = avoid.and_then(|node| self.choose_now(job, pool, Some(node)));
        let chosen = chosen.or_else(|| self.choose_now(job, pool, None))?;
        Some(self.allocate(job, pool, &chosen))
    }

    fn choose_now(&self, job: &Job, pool: &PoolConfig, avoid: Option<NodeId>) -> Option<Vec<Chosen>> {
        let end = job.spec.time_limit_s.map(|limit| self.now.plus_seconds(limit));
        // What would outlast the start of the reservation may use only what that leaves.
        let reservation = self.reservation.as_ref().filter(|r| end.is_none_or(|end| end > r.start));
        let candidates: Vec<Candidate> = self
            .pool_nodes(&pool.name)
            .iter()
            .filter(|id| Some(**id) != avoid)
            .filter_map(|&id| {
                let room = self.room[id.0 as usize];
                let spare = reservation.and_then(|r| r.spare.get(&id));
                let room = spare.map_or(room, |spare| room.at_most(*spare));
                Candidate::new(self.state, pool, id, room, &job.spec.request)
            })
            .collect();
        choose_for(job, self.now, candidates, &self.tree, pool.fill)
    }

    fn pool_nodes(&self, pool: &str) -> &[NodeId] {
        self.pools.get(pool).and_then(Option::as_ref).map_or(&[], |room| &room.nodes)
    }

    /// Turns chosen nodes into exact cores.
    fn allocate(&self, job: &Job, pool: &PoolConfig, chosen: &[Chosen]) -> Allocation {
        let request = &job.spec.request;
        let shares = chosen.iter().map(|chosen| {
            let node = self.state.node(chosen.node);
            let free = &self.free[chosen.node.0 as usize];
            let cores = if request.exclusive {
                free.clone()
            } else {
                pick::pick(node, free, chosen.ranks * request.cores_per_rank)
            };
            let memory_bytes = fit::memory_bytes(node, pool, request, chosen.ranks);
            Share { node: chosen.node, cores, memory_bytes, ranks: chosen.ranks }
        });
        Allocation { shares: shares.collect(), cores_per_rank: request.cores_per_rank }
    }

    /// Writes a placement down, so that what comes after sees what is left.
    fn take(&mut self, job: &Job, index: TaskIndex, allocation: Allocation) {
        let end = job.spec.time_limit_s.map_or(Timestamp(u64::MAX), |limit| self.now.plus_seconds(limit));
        for share in &allocation.shares {
            let at = share.node.0 as usize;
            self.free[at].remove_all(&share.cores);
            self.room[at].take(share);
            let reservation = self.reservation.as_mut().filter(|r| end > r.start);
            if let Some(spare) = reservation.and_then(|r| r.spare.get_mut(&share.node)) {
                spare.take(share);
            }
        }
        let allocation = Arc::new(allocation);
        self.started.push((end, Arc::clone(&allocation)));
        let key = AttemptKey { task: TaskId { job: job.id, index }, attempt: job.next_attempt(index) };
        self.plan.placements.push(Placement { key, allocation });
    }

    /// A task did not fit: says why, and reserves for it if nothing is reserved yet.
    fn blocked(&mut self, job: &'a Job, pool: &PoolConfig) {
        let short =
            fit::shortage(self.state, pool, self.pool_nodes(&pool.name), &self.room, &job.spec.request);
        if let Some(reservation) = &self.reservation {
            let (behind, reserved_pool) = (reservation.job, reservation.pool.clone());
            let reason = if short.fits_now && reserved_pool == pool.name {
                Reason::Behind { job: behind }
            } else {
                Reason::Resources(short)
            };
            return self.wait(job.id, reason, None);
        }
        if short.nodes_usable < short.nodes_needed {
            // Nodes are missing that nobody knows when they return: this task may not hold up the others.
            return self.wait(job.id, Reason::NodesAway(short), None);
        }
        let reservation = self.reserve(job, pool);
        let start = reservation.as_ref().map(|r| r.start);
        self.reservation = reservation;
        self.wait(job.id, Reason::Resources(short), start);
    }

    /// Lets everything that runs leave at its time limit, the earliest first, until the task fits.
    fn reserve(&self, job: &Job, pool: &PoolConfig) -> Option<Reservation> {
        let nodes = self.pool_nodes(&pool.name);
        let mut room = self.room.clone();
        let mut leaving: Vec<(Timestamp, Arc<Allocation>)> = self.started.clone();
        for (_, other, live) in self.state.live() {
            let end = live.deadline(other.spec.time_limit_s).unwrap_or(Timestamp(u64::MAX)).max(self.now);
            leaving.push((end, Arc::clone(&live.allocation)));
        }
        leaving.sort_by_key(|(end, _)| *end);
        for (end, allocation) in &leaving {
            for share in &allocation.shares {
                room[share.node.0 as usize].give(share);
            }
            let candidates: Vec<Candidate> = nodes
                .iter()
                .filter_map(|&id| {
                    Candidate::new(self.state, pool, id, room[id.0 as usize], &job.spec.request)
                })
                .collect();
            let Some(chosen) = choose_for(job, *end, candidates, &self.tree, pool.fill) else { continue };
            let mut spare = HashMap::new();
            for chosen in chosen {
                let node = self.state.node(chosen.node);
                let mut left = room[chosen.node.0 as usize];
                left.take_counts(
                    if job.spec.request.exclusive {
                        node.cores
                    } else {
                        chosen.ranks * job.spec.request.cores_per_rank
                    },
                    fit::memory_bytes(node, pool, &job.spec.request, chosen.ranks),
                );
                spare.insert(chosen.node, left);
            }
            return Some(Reservation { job: job.id, pool: pool.name.clone(), start: *end, spare });
        }
        None
    }
}

#[cfg(test)]
mod places_tests;
#[cfg(test)]
mod tests;
