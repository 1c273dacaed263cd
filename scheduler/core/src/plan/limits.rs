//! How many tasks of a user run in a quality of service at most, and how many licences there are.

use std::collections::BTreeSet;

use foldhash::HashMap;

use super::Reason;
use crate::state::{Job, State};

/// What was given out of the limits while the state stays as it is.
#[derive(Debug, Default)]
pub(super) struct Budgets<'a> {
    /// Tasks, by quality of service and user.
    tasks: HashMap<(&'a str, u32), u64>,
    /// Licences, by name.
    licenses: HashMap<&'a str, u64>,
    /// Licences that are kept for a job that lacks some and comes before all that ask for them after it.
    kept: BTreeSet<&'a str>,
}

impl<'a> Budgets<'a> {
    /// How many more tasks of a job may start; the largest number without a limit.
    pub fn left(&self, state: &State, job: &Job) -> u64 {
        self.tasks_left(state, job).min(self.licensed(state, job))
    }

    fn tasks_left(&self, state: &State, job: &Job) -> u64 {
        let Some(left) = state.qos_left(&job.spec) else { return u64::MAX };
        let qos = job.spec.qos.as_deref().unwrap_or_default();
        u64::from(left).saturating_sub(self.tasks.get(&(qos, job.spec.user.uid)).copied().unwrap_or(0))
    }

    /// For how many more tasks of a job there are licences.
    fn licensed(&self, state: &State, job: &Job) -> u64 {
        let tasks = job.spec.licenses.iter().map(|(name, count)| {
            if self.kept.contains(name.as_str()) {
                return 0;
            }
            let spent = self.licenses.get(name.as_str()).copied().unwrap_or(0);
            state.licenses_left(name).saturating_sub(spent) / u64::from((*count).max(1))
        });
        tasks.min().unwrap_or(u64::MAX)
    }

    /// So many tasks of a job start.
    pub fn spend(&mut self, state: &State, job: &'a Job, tasks: usize) {
        let tasks = tasks as u64;
        if let Some(qos) = job.spec.qos.as_deref().filter(|_| state.qos_left(&job.spec).is_some()) {
            *self.tasks.entry((qos, job.spec.user.uid)).or_default() += tasks;
        }
        for (name, count) in &job.spec.licenses {
            *self.licenses.entry(name).or_default() += tasks * u64::from(*count);
        }
    }

    /// A job may start no more tasks. If it is licences that it lacks, and there will be enough some day, nobody who comes
    /// after it gets some before it has them: those who ask for few could put it off for ever.
    pub fn keep_licenses(&mut self, state: &State, job: &'a Job) {
        if self.tasks_left(state, job) > 0 && can_be_licensed(state, job) {
            self.kept.extend(job.spec.licenses.keys().map(String::as_str));
        }
    }
}

/// Whether there are as many licences as a task of the job asks for, were all of them free.
fn can_be_licensed(state: &State, job: &Job) -> bool {
    let total = |name: &str| state.config.licenses.get(name).copied().unwrap_or(0);
    job.spec.licenses.iter().all(|(name, count)| *count <= total(name))
}

/// Why a task waits of which no more may start.
pub(super) fn reason(state: &State, job: &Job) -> Reason {
    let qos = state.qos_of(&job.spec);
    if state.qos_left(&job.spec) != Some(0) && !job.spec.licenses.is_empty() {
        return license_reason(state, job);
    }
    Reason::QosLimit {
        qos: qos.map(|qos| qos.name.clone()).unwrap_or_default(),
        user: job.spec.user.name.clone(),
        running_max: qos.and_then(|qos| qos.running_per_user_max).unwrap_or(0),
    }
}

/// The licence that a job lacks the most of.
fn license_reason(state: &State, job: &Job) -> Reason {
    let total = |name: &str| state.config.licenses.get(name).copied().unwrap_or(0);
    let short = |(name, count): &(&String, &u32)| {
        i64::from(**count) - i64::try_from(state.licenses_left(name)).unwrap_or(i64::MAX)
    };
    let Some((name, needed)) = job.spec.licenses.iter().max_by_key(short) else {
        return Reason::Licenses { license: String::new(), needed: 0, free: 0, total: 0 };
    };
    Reason::Licenses {
        license: name.clone(),
        needed: *needed,
        free: state.licenses_left(name),
        total: total(name),
    }
}
