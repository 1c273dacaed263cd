//! What copies of a state have in common: records of jobs that are small or do not change any more. Whoever writes to a record
//! that others have as well copies it first.

use std::sync::Arc;

use super::{Job, State};
use crate::ids::JobId;

impl Job {
    /// Whether nothing of it has started, or all of it has ended.
    fn is_at_rest(&self) -> bool {
        let is_untouched = self.finished.is_empty() && self.tried.is_empty() && self.task_holds.is_empty();
        self.live.is_empty() && (self.waiting.is_empty() || is_untouched)
    }
}

impl State {
    /// Makes the records of these jobs one with those of `other`, to which the same has happened.
    pub fn share_with(&mut self, other: &Self, jobs: impl IntoIterator<Item = JobId>) {
        for id in jobs {
            if let Some(own) = self.jobs.get_mut(&id)
                && let Some(theirs) = other.jobs.get(&id).filter(|job| job.is_at_rest())
            {
                debug_assert_eq!(own, theirs, "the same has happened to both");
                *own = Arc::clone(theirs);
            }
        }
    }

    /// Takes records that may be large and go on changing for its own, so that it need not copy one when it is first written to.
    pub fn part(&mut self) {
        for job in self.jobs.values_mut().filter(|job| !job.is_at_rest()) {
            Arc::make_mut(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ANN, Bench, config, job};

    fn have_in_common(one: &State, other: &State, id: JobId) -> bool {
        Arc::ptr_eq(&one.jobs[&id], &other.jobs[&id])
    }

    /// Lets what has happened on the bench since then happen to the state as well.
    fn follow(state: &mut State, bench: &Bench, from: usize) {
        bench.records[from..].iter().for_each(|record| state.evolve(&record.event, record.at));
    }

    #[test]
    fn jobs_at_rest_are_in_common_and_each_copy_goes_on_by_itself() {
        let mut bench = Bench::new(config(&[1]));
        let mut readers = bench.engine.state().clone();
        let seen = bench.records.len();
        let [runs, waits, array] = [job(ANN), job(ANN).limit_s(5), job(ANN).array(2, None)];
        let [runs, waits, array] = [runs, waits, array].map(|spec| bench.submit(ANN, spec).unwrap());
        follow(&mut readers, &bench, seen);
        assert!(!have_in_common(bench.engine.state(), &readers, waits));
        readers.share_with(bench.engine.state(), [runs, waits, array]);
        let common = |readers: &State, bench: &Bench| {
            [runs, waits, array].map(|id| have_in_common(bench.engine.state(), readers, id))
        };
        assert_eq!(common(&readers, &bench), [false, true, true], "the first one is live");

        let seen = bench.records.len();
        let key = bench.key(runs);
        bench.start(key);
        bench.exit(key, 0);
        bench.hold(ANN, array).unwrap();
        assert_ne!(bench.engine.state().jobs[&array], readers.jobs[&array], "nothing is durable of it yet");
        assert!(readers.jobs[&waits].live.is_empty() && !bench.engine.state().jobs[&waits].live.is_empty());
        follow(&mut readers, &bench, seen);
        assert_eq!(*bench.engine.state(), readers);
        readers.share_with(bench.engine.state(), [runs, waits, array]);
        assert_eq!(common(&readers, &bench), [true, false, true]);
        readers.check_invariants().unwrap();

        let mut copy = readers.clone();
        copy.part();
        let still = [runs, waits, array].map(|id| have_in_common(&copy, &readers, id));
        assert_eq!((still, &copy), ([true, false, true], &readers));
    }
}
