//! What could be preempted, the cheapest first, and who waits for whose place. Empty where nobody has a right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::index::Planner;
use crate::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use crate::preempt::Standing;
use crate::state::{Job, LivePhase};

/// What it costs to preempt an attempt. The least is the cheapest: the lowest tier, then the lowest priority, then the
/// youngest, which loses the least work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    tier: u32,
    priority: i64,
    /// Since when it runs.
    since: Reverse<Timestamp>,
    /// Of those that began at the same instant, the one that was submitted last.
    key: Reverse<AttemptKey>,
}

/// What is being prepared has not begun to run: nothing is lost with it.
const NOT_BEGUN: Timestamp = Timestamp(u64::MAX);

/// Attempts that are being ended for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnderWay {
    /// Since when.
    pub since: Timestamp,
    /// Those that have not left.
    pub victims: BTreeSet<AttemptKey>,
}

/// Attempts over which somebody has a right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Victims {
    /// Those whose end is not decided.
    ranked: BTreeMap<Cost, Standing>,
    cost_of: HashMap<AttemptKey, Cost>,
    /// From when on each of them may be preempted, where the policy exempts young ones.
    exempt_until: BTreeSet<(Timestamp, AttemptKey)>,
    /// Attempts that are being ended, by the task that takes their place.
    under_way: BTreeMap<TaskId, UnderWay>,
    taken_by: HashMap<AttemptKey, TaskId>,
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
    pub fn under_way(&self) -> &BTreeMap<TaskId, UnderWay> {
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
    pub fn take(&mut self, key: AttemptKey, by: TaskId, since: Timestamp, exempt_s: u64) {
        self.forget(key, exempt_s);
        let under_way = self.under_way.entry(by);
        under_way.or_insert(UnderWay { since, victims: BTreeSet::new() }).victims.insert(key);
        self.taken_by.insert(key, by);
    }

    /// Says for whom the attempt was the last that had to leave, and since when.
    fn forget(&mut self, key: AttemptKey, exempt_s: u64) -> Option<(TaskId, Timestamp)> {
        if let Some(cost) = self.cost_of.remove(&key) {
            self.ranked.remove(&cost);
            self.exempt_until.remove(&(cost.since.0.plus_seconds(exempt_s), key));
        }
        let by = self.taken_by.remove(&key)?;
        let under_way = self.under_way.get_mut(&by)?;
        under_way.victims.remove(&key);
        if !under_way.victims.is_empty() {
            return None;
        }
        self.under_way.remove(&by).map(|under_way| (by, under_way.since))
    }
}

impl Planner {
    /// Where a job stands.
    pub(super) fn standing(&self, job: &Job) -> Standing {
        Standing { pool: self.pool_of(job).map(|pool| pool as u32), qos: self.rights.qos(&job.spec) }
    }

    /// The priority of a job with that of its quality of service.
    pub(super) fn priority_of(&self, job: &Job, standing: Standing) -> i64 {
        let qos = standing.qos.and_then(|qos| self.config.qos.get(qos as usize));
        i64::from(job.spec.priority) + qos.map_or(0, |qos| i64::from(qos.priority))
    }

    /// Keeps the victims in step with the phase of an attempt.
    pub(super) fn follow_victim(&mut self, key: AttemptKey, job: &Job, phase: &LivePhase) {
        if self.rights.are_none() {
            return;
        }
        let exempt_s = self.config.policy.preempt_exempt_s;
        self.victims.forget(key, exempt_s);
        let since = match phase {
            LivePhase::Preparing => NOT_BEGUN,
            LivePhase::Running { go_at, .. } => *go_at,
            LivePhase::Ending { since, taken_by, .. } => {
                if let Some(by) = taken_by {
                    self.victims.take(key, *by, *since, exempt_s);
                }
                return;
            }
        };
        let standing = self.standing(job);
        if self.rights.under_anybody(standing) {
            let (tier, priority) = (self.rights.tier(standing), self.priority_of(job, standing));
            let cost = Cost { tier, priority, since: Reverse(since), key: Reverse(key) };
            self.victims.add(cost, standing, exempt_s);
        }
    }

    /// An attempt has ended. Where it was the last that had to leave, the next pass looks at the place first.
    pub(super) fn forget_victim(&mut self, key: AttemptKey) {
        self.cleared.extend(self.victims.forget(key, self.config.policy.preempt_exempt_s));
    }
}
