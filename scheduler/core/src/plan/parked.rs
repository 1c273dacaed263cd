//! Jobs that wait for something other than room, and when that is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{JobId, Timestamp};

/// Jobs that wait for something other than room. However many there are, the first that may go on is found at once: the engine
/// asks after each input.
#[derive(Debug, Clone, Default)]
pub(super) struct Parked {
    /// With the instant at which each may go on, if that is known.
    jobs: BTreeMap<JobId, Option<Timestamp>>,
    /// Those whose instant is known, by it.
    due: BTreeSet<(Timestamp, JobId)>,
}

impl Parked {
    /// Sets a job aside until an instant, if one is known.
    pub fn insert(&mut self, job: JobId, until: Option<Timestamp>) {
        self.remove(job);
        self.jobs.insert(job, until);
        self.due.extend(until.map(|until| (until, job)));
    }

    /// Takes a job out, if it is here.
    pub fn remove(&mut self, job: JobId) {
        if let Some(Some(until)) = self.jobs.remove(&job) {
            self.due.remove(&(until, job));
        }
    }

    /// The first instant at which one may go on.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Those that may go on by `now`, the lowest number first.
    pub fn due(&self, now: Timestamp) -> Vec<JobId> {
        let mut due: Vec<JobId> =
            self.due.iter().take_while(|(until, _)| *until <= now).map(|(_, job)| *job).collect();
        due.sort_unstable();
        due
    }

    /// All of them.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.keys()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_instant_follows_what_comes_and_goes() {
        let mut parked = Parked::default();
        parked.insert(JobId(1), None);
        assert_eq!((parked.next(), parked.len()), (None, 1));
        parked.insert(JobId(3), Some(Timestamp(5)));
        parked.insert(JobId(2), Some(Timestamp(7)));
        parked.insert(JobId(4), Some(Timestamp(9)));
        assert_eq!(parked.next(), Some(Timestamp(5)));
        assert_eq!(parked.due(Timestamp(7)), [JobId(2), JobId(3)]);
        // One that is set aside again has its last instant alone.
        parked.insert(JobId(3), Some(Timestamp(8)));
        assert_eq!((parked.next(), parked.due(Timestamp(6))), (Some(Timestamp(7)), vec![]));
        parked.remove(JobId(2));
        parked.insert(JobId(3), None);
        assert_eq!((parked.next(), parked.len()), (Some(Timestamp(9)), 3));
        assert_eq!(parked.jobs().copied().collect::<Vec<_>>(), [JobId(1), JobId(3), JobId(4)]);
    }
}
