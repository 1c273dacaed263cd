//! How many tasks of a user run in a quality of service at most.

use foldhash::HashMap;

use super::Reason;
use crate::state::{Job, State};

/// What was given out of the limits while the state stays as it is.
#[derive(Debug, Default)]
pub(super) struct Budgets<'a>(HashMap<(&'a str, u32), u64>);

impl<'a> Budgets<'a> {
    /// How many more tasks of a job may start; the largest number without a limit.
    pub fn left(&self, state: &State, job: &Job) -> u64 {
        let Some(left) = state.qos_left(&job.spec) else { return u64::MAX };
        let qos = job.spec.qos.as_deref().unwrap_or_default();
        u64::from(left).saturating_sub(self.0.get(&(qos, job.spec.user.uid)).copied().unwrap_or(0))
    }

    /// So many tasks of a job start.
    pub fn spend(&mut self, state: &State, job: &'a Job, tasks: usize) {
        if let Some(qos) = job.spec.qos.as_deref().filter(|_| state.qos_left(&job.spec).is_some()) {
            *self.0.entry((qos, job.spec.user.uid)).or_default() += tasks as u64;
        }
    }
}

/// Why a task waits of which no more may start.
pub(super) fn reason(state: &State, job: &Job) -> Reason {
    let qos = state.qos_of(&job.spec);
    Reason::QosLimit {
        qos: qos.map(|qos| qos.name.clone()).unwrap_or_default(),
        user: job.spec.user.name.clone(),
        running_max: qos.and_then(|qos| qos.running_per_user_max).unwrap_or(0),
    }
}
