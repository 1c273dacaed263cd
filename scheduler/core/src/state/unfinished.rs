//! Which of the jobs in memory have not finished: beside ten thousand that have, there may be few.

use std::collections::BTreeSet;
use std::ops::RangeBounds;
use std::sync::{Arc, OnceLock};

use super::{Job, State};
use crate::ids::JobId;

/// The jobs that have not finished: found when they are first asked for, and followed from then on. A state is equal to another
/// whether or not that has happened, and a copy finds them anew.
#[derive(Debug, Default)]
pub(super) struct Unfinished(OnceLock<BTreeSet<JobId>>);

impl Clone for Unfinished {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Unfinished {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Unfinished {}

impl Unfinished {
    /// A job was accepted.
    pub fn submitted(&mut self, job: JobId) {
        if let Some(jobs) = self.0.get_mut() {
            jobs.insert(job);
        }
    }

    /// A job has finished.
    pub fn finished(&mut self, job: JobId) {
        if let Some(jobs) = self.0.get_mut() {
            jobs.remove(&job);
        }
    }
}

impl State {
    /// The jobs of these ids that have not finished, rising.
    pub fn unfinished(&self, ids: impl RangeBounds<JobId>) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        let jobs = self.unfinished.0.get_or_init(|| self.find_unfinished().collect());
        jobs.range(ids).filter_map(|id| self.jobs.get(id))
    }

    fn find_unfinished(&self) -> impl Iterator<Item = JobId> {
        self.jobs.iter().filter(|(_, job)| job.finished_at.is_none()).map(|(id, _)| *id)
    }

    /// Whether what was followed is what there is.
    pub(super) fn unfinished_are_followed(&self) -> bool {
        self.unfinished.0.get().is_none_or(|followed| followed.iter().copied().eq(self.find_unfinished()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ANN, Bench, config, job};

    #[test]
    fn jobs_are_followed_from_the_first_question_on() {
        let mut bench = Bench::new(config(&[4]));
        let ids = |state: &State| state.unfinished(..).map(|job| job.id).collect::<Vec<_>>();
        let [first, second, third] = [(); 3].map(|()| bench.submit(ANN, job(ANN)).unwrap());
        let key = bench.key(second);
        bench.start(key);
        bench.exit(key, 0);
        assert_eq!(ids(bench.engine.state()), [first, third]);

        let fourth = bench.submit(ANN, job(ANN)).unwrap();
        let key = bench.key(first);
        bench.start(key);
        bench.exit(key, 0);
        let state = bench.engine.state();
        assert_eq!(ids(state), [third, fourth]);
        assert_eq!(state.unfinished(..fourth).rev().map(|job| job.id).collect::<Vec<_>>(), [third]);
        assert_eq!(ids(&state.clone()), [third, fourth], "a copy finds them anew");
        state.check_invariants().unwrap();

        let mut missed = state.clone();
        assert_eq!(missed.unfinished(..).count(), 2);
        missed.unfinished.finished(third);
        assert!(missed.check_invariants().is_err());
    }
}
