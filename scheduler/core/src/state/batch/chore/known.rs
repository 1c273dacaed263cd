//! What is known of chores, for whoever asks.

use std::sync::Arc;

use super::{ChoreRun, ChoreWork, can_run, chore_work, run};
use crate::batch::{BatchPoolKey, ChoreKey, ChoreOf, Container};
use crate::ids::{JobId, NodeId};
use crate::state::State;

impl State {
    /// Chores of which something is to be done.
    pub fn batch_chores_due(&self) -> impl Iterator<Item = (&ChoreKey, Option<&ChoreRun>, ChoreWork)> {
        let due = self.batch.chores_due.iter();
        due.filter_map(|key| Some((key, run(self, key), chore_work(self, key)?)))
    }

    /// Unfinished jobs of the cluster that chores on a node were made into.
    pub fn batch_chores_on(&self, node: NodeId) -> impl Iterator<Item = (JobId, &ChoreKey)> {
        let on = move |(_, key): &(&JobId, &ChoreKey)| key.node == node;
        self.batch.chores_made.iter().filter(on).map(|(job, key)| (*job, key))
    }

    /// The chore that an unfinished job of the cluster was made of, and how it stands.
    #[must_use]
    pub fn batch_chore_of(&self, job: JobId) -> Option<(&ChoreKey, &ChoreRun)> {
        let key = self.batch.chores_made.get(&job)?;
        Some((key, run(self, key)?))
    }

    /// How a chore stands, if it is known.
    #[must_use]
    pub fn batch_chore(&self, chore: &ChoreKey) -> Option<&ChoreRun> {
        run(self, chore)
    }

    /// The account of the task or chore that an unfinished job of the cluster was made of.
    #[must_use]
    pub fn batch_account_of(&self, job: JobId) -> Option<&Arc<str>> {
        let task = self.batch.made.get(&job).map(|task| &task.account);
        task.or_else(|| self.batch.chores_made.get(&job).map(|chore| &chore.account))
    }

    /// The container of the task or chore that an unfinished job of the cluster was made of, if it has one.
    #[must_use]
    pub fn batch_container_of(&self, job: JobId) -> Option<&Container> {
        if let Some(task) = self.batch_task_of(job) {
            let (job, task) = self.batch_task(task)?;
            return job.shape(task).container.as_deref();
        }
        let key = self.batch.chores_made.get(&job)?;
        let spec = match &key.of {
            ChoreOf::Start { pool } => {
                let pool = BatchPoolKey { account: Arc::clone(&key.account), pool: pool.clone() };
                self.batch_pool(&pool)?.spec.start.as_ref()
            }
            ChoreOf::Preparation { .. } => self.batch_job(&key.job_key()?)?.spec.preparation.as_ref(),
            ChoreOf::Release { .. } => self.batch_job(&key.job_key()?)?.spec.release.as_ref(),
        };
        spec?.container.as_deref()
    }

    /// Unfinished jobs of the cluster that a chore was made into.
    pub fn batch_chore_jobs<'a>(&'a self, chore: &'a ChoreKey) -> impl Iterator<Item = JobId> + 'a {
        self.batch.chores_made.iter().filter(move |(_, key)| *key == chore).map(|(job, _)| *job)
    }

    /// Whether a chore could run on its node now.
    #[must_use]
    pub fn batch_chore_can_run(&self, chore: &ChoreKey) -> bool {
        can_run(self, chore)
    }
}
