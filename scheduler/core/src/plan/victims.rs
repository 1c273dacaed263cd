//! What could be preempted, the cheapest first, and who waits for whose place. Empty where nobody has a right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::index::Planner;
use crate::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use crate::preempt::Standing;
use crate::state::{Job, LivePhase, State, Taken};

/// What it costs to preempt an attempt. The least is the cheapest: the lowest tier, then the lowest priority, then the
/// youngest, which loses the least work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    tier: u32,
    priority: i32,
    /// Since when it runs.
    since: Reverse<Timestamp>,
    /// Of those that began at the same instant, the one that was submitted last.
    key: Reverse<AttemptKey>,
}

/// What is being prepared has not begun to run: nothing is lost with it.
const NOT_BEGUN: Timestamp = Timestamp(u64::MAX);

/// Attempts over which somebody has a right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Victims {
    /// Those whose end is not decided.
    ranked: BTreeMap<Cost, Standing>,
    cost_of: HashMap<AttemptKey, Cost>,
    /// From when on each of them may be preempted, where the policy exempts young ones.
    exempt_until: BTreeSet<(Timestamp, AttemptKey)>,
    /// Attempts that are being ended, by the task that takes their place, in the order in which that was decided.
    under_way: BTreeMap<TaskId, BTreeSet<(u64, AttemptKey)>>,
    taken: HashMap<AttemptKey, Taken>,
}

impl Victims {
    /// All whose end is not decided, the cheapest first.
    pub fn ranked(&self) -> impl Iterator<Item = (AttemptKey, Standing)> + '_ {
        self.ranked.iter().map(|(cost, standing)| (cost.key.0, *standing))
    }

    pub fn are_none(&self) -> bool {
        self.ranked.is_empty()
    }

    /// Tasks whose victims are being ended.
    pub fn under_way(&self) -> &BTreeMap<TaskId, BTreeSet<(u64, AttemptKey)>> {
        &self.under_way
    }

    /// Whether an attempt has run for long enough at `now`.
    pub fn has_run(&self, key: AttemptKey, exempt_s: u64, now: Timestamp) -> bool {
        exempt_s == 0
            || self
                .cost_of
                .get(&key)
                .is_some_and(|cost| cost.since.0 != NOT_BEGUN && cost.since.0.plus_seconds(exempt_s) <= now)
    }

    /// The first instant after `at` from which on another attempt may be preempted.
    pub fn next_exempt(&self, at: Timestamp) -> Option<Timestamp> {
        let nobody = AttemptKey { task: TaskId { job: JobId(0), index: TaskIndex(0) }, attempt: 0 };
        let after = (Timestamp(at.0.saturating_add(1)), nobody);
        self.exempt_until.range(after..).next().map(|(until, _)| *until)
    }

    fn add(&mut self, cost: Cost, standing: Standing, exempt_s: u64) {
        self.ranked.insert(cost, standing);
        self.cost_of.insert(cost.key.0, cost);
        if exempt_s > 0 && cost.since.0 != NOT_BEGUN {
            self.exempt_until.insert((cost.since.0.plus_seconds(exempt_s), cost.key.0));
        }
    }

    /// An attempt is being ended for a task.
    pub fn take(&mut self, key: AttemptKey, taken: Taken, exempt_s: u64) {
        self.forget(key, exempt_s);
        self.under_way.entry(taken.by).or_default().insert((taken.order, key));
        self.taken.insert(key, taken);
    }

    /// Says for whom the attempt was the last that had to leave.
    fn forget(&mut self, key: AttemptKey, exempt_s: u64) -> Option<Taken> {
        if let Some(cost) = self.cost_of.remove(&key) {
            self.ranked.remove(&cost);
            self.exempt_until.remove(&(cost.since.0.plus_seconds(exempt_s), key));
        }
        let taken = self.taken.remove(&key)?;
        let victims = self.under_way.get_mut(&taken.by)?;
        victims.remove(&(taken.order, key));
        if !victims.is_empty() {
            return None;
        }
        self.under_way.remove(&taken.by);
        Some(taken)
    }
}

impl Planner {
    /// Where a job stands.
    pub(super) fn standing(&self, job: &Job) -> Standing {
        let pool = self.pool_of(job).map(|pool| pool as u32);
        let rank = self.rights.rank(pool, job.spec.request.rank);
        Standing { pool, qos: self.rights.qos(&job.spec), rank }
    }

    /// Keeps the victims in step with the phase of an attempt.
    pub(super) fn follow_victim(&mut self, state: &State, key: AttemptKey, job: &Job, phase: &LivePhase) {
        if self.rights.are_none() {
            return;
        }
        let exempt_s = self.config.policy.preempt_exempt_s;
        self.victims.forget(key, exempt_s);
        let since = match phase {
            LivePhase::Preparing => NOT_BEGUN,
            LivePhase::Running { go_at, .. } => *go_at,
            LivePhase::Ending { taken, .. } => {
                if let Some(taken) = taken {
                    self.victims.take(key, *taken, exempt_s);
                }
                return;
            }
        };
        let standing = self.standing(job);
        if self.rights.under_anybody(standing) {
            let (tier, priority) = (self.rights.tier(standing), state.priority_of(&job.spec));
            let cost = Cost { tier, priority, since: Reverse(since), key: Reverse(key) };
            self.victims.add(cost, standing, exempt_s);
        }
    }

    /// An attempt has ended. Where it was the last that had to leave, the next pass looks at the place first.
    pub(super) fn forget_victim(&mut self, key: AttemptKey) {
        let last = self.victims.forget(key, self.config.policy.preempt_exempt_s);
        self.cleared.extend(last.map(|taken| (taken.by, taken.order)));
    }
}
