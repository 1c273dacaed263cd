//! What can never run as the cluster is configured now.

use super::index::Planner;
use super::{Reason, never_fits};
use crate::ids::JobId;
use crate::state::{Job, State};

/// Waiting jobs that can never run, all for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impossible {
    /// Why.
    pub reason: Reason,
    /// At least one, rising.
    pub jobs: Vec<JobId>,
}

impl Planner {
    /// The waiting jobs that can never run as the configuration is: each group of equal ones is looked at once. They
    /// stay in the queue, hold up nobody, and can run again once the configuration says otherwise.
    #[must_use]
    pub fn impossible(&self, state: &State) -> Vec<Impossible> {
        let mut found: Vec<Impossible> = Vec::new();
        for (pool, config) in self.pools.iter().zip(&self.config.pools) {
            for (class, _) in pool.classes.heads() {
                let Some(class) = pool.classes.get(class) else { continue };
                if let Err(refusal) = never_fits(state, config, &class.key.request) {
                    let reason = Reason::NeverFits { why: refusal.to_string() };
                    found.push(Impossible { reason, jobs: class.jobs.iter().copied().collect() });
                }
            }
        }
        let without_pool = |job: &&Job| self.pool_of(job).is_none();
        for job in state.queue().filter(without_pool) {
            let reason = Reason::PoolGone { pool: job.spec.pool.clone().unwrap_or_default() };
            match found.iter_mut().find(|known| known.reason == reason) {
                Some(known) => known.jobs.push(job.id),
                None => found.push(Impossible { reason, jobs: vec![job.id] }),
            }
        }
        for impossible in &mut found {
            impossible.jobs.sort_unstable();
        }
        found.sort_by_key(|impossible| impossible.jobs.first().copied());
        found
    }
}
