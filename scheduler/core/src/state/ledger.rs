//! What accounts and users have used, and how many tasks of a user run in each quality of service.
//!
//! Usage is charged for the cores that an attempt holds, from its placement until each of its instances is gone, and
//! is forgotten exponentially ([`Decay`]). An entry keeps the rate at which its live attempts are charged, so that
//! nobody has to look at them to know what they have used by now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::State;
use crate::ids::{JobId, Timestamp};
use crate::priority::decay::Decay;
use crate::spec::JobSpec;

/// Most pairs of an account and a user that are remembered. Beyond it, those that used least are forgotten.
pub const ENTRIES_MAX: usize = 100_000;
/// Below one core-second, usage is forgotten.
const FORGOTTEN_CORE_US: u64 = 1_000_000;
/// The first number of entries at which those that decayed to nothing are looked for.
const SWEEP_MIN: usize = 1_024;

/// What an account's user has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    /// Decayed usage at `at`, in core microseconds.
    core_us: u64,
    /// The instant up to which usage is counted in `core_us`.
    at: Timestamp,
    /// Cores that are charged since then, in hundredths: a quality of service may charge a part only.
    charged: u64,
}

impl Used {
    fn at(&self, now: Timestamp, half_life_s: u64) -> u64 {
        Decay::over(now.micros_since(self.at), half_life_s).apply(self.core_us, self.charged)
    }

    fn advance(&mut self, now: Timestamp, half_life_s: u64) {
        self.core_us = self.at(now, half_life_s);
        self.at = self.at.max(now);
    }

    fn is_nothing(&self) -> bool {
        self.charged == 0 && self.core_us < FORGOTTEN_CORE_US
    }
}

/// All that is charged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Since when usage is counted: the first event that this state saw.
    since: Option<Timestamp>,
    /// By account, empty for none, and by login name.
    used: BTreeMap<String, BTreeMap<String, Used>>,
    entries: usize,
    /// At how many entries those that decayed to nothing are looked for next.
    sweep_at: usize,
    /// Live attempts in each quality of service, by user id.
    live_in_qos: BTreeMap<String, BTreeMap<u32, u32>>,
    /// Licences that live attempts hold, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    licenses_held: BTreeMap<String, u64>,
}

impl Ledger {
    /// Changes the entry of a job's account and user. Names are copied only for a new one: this is asked for at every
    /// start and every end.
    fn change(&mut self, spec: &JobSpec, now: Timestamp, change: impl FnOnce(&mut Used)) {
        let account = spec.account.as_deref().unwrap_or_default();
        if let Some(used) = self.used.get_mut(account).and_then(|users| users.get_mut(&spec.user.name)) {
            return change(used);
        }
        let mut used = Used { core_us: 0, at: now, charged: 0 };
        change(&mut used);
        self.entries += 1;
        self.used.entry(account.to_owned()).or_default().insert(spec.user.name.clone(), used);
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Used> {
        self.used.values_mut().flat_map(BTreeMap::values_mut)
    }

    /// Forgets what decayed to nothing, once there are twice as many entries as the last time left.
    fn sweep(&mut self, now: Timestamp, half_life_s: u64) {
        if self.entries <= self.sweep_at.clamp(SWEEP_MIN, ENTRIES_MAX) {
            return;
        }
        self.all_mut().for_each(|used| used.advance(now, half_life_s));
        self.keep(|used| !used.is_nothing());
        if self.entries > ENTRIES_MAX {
            let mut idle: Vec<u64> =
                self.all_mut().filter(|used| used.charged == 0).map(|used| used.core_us).collect();
            idle.sort_unstable();
            // A quarter goes at once, so that this is rare.
            let last = (self.entries - ENTRIES_MAX * 3 / 4).min(idle.len()).checked_sub(1);
            if let Some(least) = last.map(|last| idle[last]) {
                self.keep(|used| used.charged > 0 || used.core_us > least);
            }
        }
        self.sweep_at = 2 * self.entries;
    }

    /// An attempt of a job ended.
    pub fn ended(&mut self, spec: &JobSpec) {
        for (name, count) in &spec.licenses {
            if let Some(held) = self.licenses_held.get_mut(name) {
                *held = held.saturating_sub(u64::from(*count));
                if *held == 0 {
                    self.licenses_held.remove(name);
                }
            }
        }
        let Some(qos) = &spec.qos else { return };
        let Some(users) = self.live_in_qos.get_mut(qos) else { return };
        if let Some(live) = users.get_mut(&spec.user.uid) {
            *live -= 1;
            if *live == 0 {
                users.remove(&spec.user.uid);
            }
        }
        if users.is_empty() {
            self.live_in_qos.remove(qos);
        }
    }

    fn keep(&mut self, wanted: impl Fn(&Used) -> bool) {
        self.used.retain(|_, users| {
            users.retain(|_, used| wanted(used));
            !users.is_empty()
        });
        self.entries = self.used.values().map(BTreeMap::len).sum();
    }
}

/// Begins to count, if this state never did: what runs is charged from now on.
pub(super) fn open(state: &mut State, now: Timestamp) {
    if state.ledger.since.is_none() {
        state.ledger.since = Some(now);
        charge_all(state, now);
    }
}

/// Counts what was used up to now. Must be called before a configuration may change the half-life.
pub(super) fn settle(state: &mut State, now: Timestamp) {
    let half_life_s = state.config.policy.priority.half_life_s;
    state.ledger.all_mut().for_each(|used| used.advance(now, half_life_s));
}

/// Derives from the live attempts what is charged at present.
pub(super) fn charge_all(state: &mut State, now: Timestamp) {
    let mut ledger = std::mem::take(&mut state.ledger);
    ledger.all_mut().for_each(|used| used.charged = 0);
    for (spec, charged) in state.charges() {
        ledger.change(spec, now, |used| used.charged += charged);
    }
    ledger.live_in_qos = state.count_in_qos();
    ledger.licenses_held = state.count_licenses();
    state.ledger = ledger;
}

/// An attempt of a job was given cores.
pub(super) fn placed(state: &mut State, job: JobId, cores: u64, now: Timestamp) {
    let half_life_s = state.config.policy.priority.half_life_s;
    let Some(spec) = state.jobs.get(&job).map(|job| &job.spec) else { return };
    let charged = cores * state.usage_percent(spec);
    state.ledger.change(spec, now, |used| {
        used.advance(now, half_life_s);
        used.charged += charged;
    });
    if let Some(qos) = &spec.qos {
        *state.ledger.live_in_qos.entry(qos.clone()).or_default().entry(spec.user.uid).or_default() += 1;
    }
    for (name, count) in &spec.licenses {
        *state.ledger.licenses_held.entry(name.clone()).or_default() += u64::from(*count);
    }
    state.ledger.sweep(now, half_life_s);
}

/// Some cores of an attempt are free again.
pub(super) fn freed(state: &mut State, job: JobId, cores: u64, now: Timestamp) {
    let half_life_s = state.config.policy.priority.half_life_s;
    let Some(spec) = state.jobs.get(&job).map(|job| &job.spec) else { return };
    let charged = cores * state.usage_percent(spec);
    state.ledger.change(spec, now, |used| {
        used.advance(now, half_life_s);
        used.charged = used.charged.saturating_sub(charged);
    });
}

impl State {
    /// What each user of each account has used at `now`, in core microseconds, decayed; an empty account is none.
    pub fn usage(&self, now: Timestamp) -> impl Iterator<Item = (&str, &str, u64)> {
        let half_life_s = self.config.policy.priority.half_life_s;
        self.ledger.used.iter().flat_map(move |(account, users)| {
            users.iter().map(move |(user, used)| (account.as_str(), user.as_str(), used.at(now, half_life_s)))
        })
    }

    /// Since when usage is counted: the first event that this state saw.
    #[must_use]
    pub fn counted_since(&self) -> Option<Timestamp> {
        self.ledger.since
    }

    /// How many attempts of a user are live in a quality of service.
    #[must_use]
    pub fn live_in_qos(&self, qos: &str, uid: u32) -> u32 {
        self.ledger.live_in_qos.get(qos).and_then(|users| users.get(&uid)).copied().unwrap_or(0)
    }

    /// How many more tasks of the job's user may start in its quality of service; none without a limit.
    #[must_use]
    pub fn qos_left(&self, spec: &JobSpec) -> Option<u32> {
        let qos = self.qos_of(spec)?;
        Some(qos.running_per_user_max?.saturating_sub(self.live_in_qos(&qos.name, spec.user.uid)))
    }

    /// How many licences of a name live attempts hold.
    #[must_use]
    pub fn licenses_held(&self, name: &str) -> u64 {
        self.ledger.licenses_held.get(name).copied().unwrap_or(0)
    }

    /// How many licences of a name are free.
    #[must_use]
    pub fn licenses_left(&self, name: &str) -> u64 {
        let total = self.config.licenses.get(name).copied().unwrap_or(0);
        u64::from(total).saturating_sub(self.licenses_held(name))
    }

    /// Percent of a job's usage that is charged.
    fn usage_percent(&self, spec: &JobSpec) -> u64 {
        self.qos_of(spec).map_or(100, |qos| u64::from(qos.usage_percent))
    }

    /// The specs of live attempts with the cores that each is charged, in hundredths.
    fn charges(&self) -> impl Iterator<Item = (&JobSpec, u64)> {
        self.live().filter(|(.., live)| live.holds_allocation()).map(|(_, job, live)| {
            let shares = live.allocation.shares.iter().zip(&live.instances);
            let held = shares.filter(|(_, instance)| instance.holds_share());
            let cores: u64 = held.map(|(share, _)| u64::from(share.cores.len())).sum();
            (&*job.spec, cores * self.usage_percent(&job.spec))
        })
    }

    fn count_in_qos(&self) -> BTreeMap<String, BTreeMap<u32, u32>> {
        let mut counts: BTreeMap<String, BTreeMap<u32, u32>> = BTreeMap::new();
        for (_, job, _) in self.live() {
            if let Some(qos) = &job.spec.qos {
                *counts.entry(qos.clone()).or_default().entry(job.spec.user.uid).or_default() += 1;
            }
        }
        counts
    }

    fn count_licenses(&self) -> BTreeMap<String, u64> {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        for (name, count) in self.live().flat_map(|(_, job, _)| &job.spec.licenses) {
            *held.entry(name.clone()).or_default() += u64::from(*count);
        }
        held
    }

    /// Whether what is charged follows from the live attempts.
    pub(super) fn is_charged_rightly(&self) -> bool {
        // A snapshot of an earlier version does not count yet.
        if self.ledger.since.is_none() {
            return true;
        }
        let mut owed: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (spec, charged) in self.charges() {
            *owed.entry((spec.account.as_deref().unwrap_or_default(), &spec.user.name)).or_default() +=
                charged;
        }
        let mut count = 0;
        for (account, users) in &self.ledger.used {
            for (user, used) in users {
                count += 1;
                if owed.remove(&(account.as_str(), user.as_str())).unwrap_or(0) != used.charged {
                    return false;
                }
            }
        }
        // What is charged nothing needs no entry.
        owed.values().all(|charged| *charged == 0)
            && count == self.ledger.entries
            && self.count_in_qos() == self.ledger.live_in_qos
            && self.count_licenses() == self.ledger.licenses_held
    }
}

#[cfg(test)]
impl State {
    /// Writes down what a user of an account has used.
    pub(crate) fn set_usage(&mut self, account: &str, user: &str, core_us: u64, at: Timestamp) {
        let users = self.ledger.used.entry(account.to_owned()).or_default();
        if users.insert(user.to_owned(), Used { core_us, at, charged: 0 }).is_none() {
            self.ledger.entries += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;

    fn spec(account: &str, user: &str) -> JobSpec {
        let mut spec = crate::testing::job(crate::testing::ANN);
        spec.account = Some(account.to_owned());
        spec.user.name = user.to_owned();
        spec
    }

    #[test]
    fn no_more_than_the_limit_are_remembered_and_the_most_used_are_kept() {
        let mut ledger = Ledger::default();
        let now = Timestamp(0);
        for i in 0..=ENTRIES_MAX as u64 {
            // Every other one uses more than all others, and one runs.
            ledger.change(&spec("a", &format!("u{i}")), now, |used| {
                used.core_us = if i % 2 == 0 { 1 << 50 } else { FORGOTTEN_CORE_US + i };
                used.charged = u64::from(i == 1);
            });
            ledger.sweep(now, HOUR);
            assert!(ledger.entries <= ENTRIES_MAX);
        }
        let users = &ledger.used["a"];
        assert_eq!((users.len(), ledger.entries), (ENTRIES_MAX * 3 / 4, ENTRIES_MAX * 3 / 4));
        assert!(users.contains_key("u1") && users.contains_key("u0") && !users.contains_key("u3"));
    }

    #[test]
    fn what_decayed_to_nothing_is_dropped_when_others_come() {
        let mut ledger = Ledger::default();
        for i in 0..SWEEP_MIN {
            ledger
                .change(&spec(&format!("a{i}"), "ann"), Timestamp(0), |used| used.core_us = HOUR * 1_000_000);
        }
        let later = Timestamp(0).plus_seconds(20 * HOUR);
        ledger.change(&spec("late", "ann"), later, |used| used.core_us = HOUR * 1_000_000);
        ledger.sweep(later, HOUR);
        assert_eq!((ledger.entries, ledger.used.len()), (1, 1));
    }
}
