//! How long an attempt may run: as long as its job's time limit says, or less where a job allows it (`--time-min` of
//! sbatch(1)) and that lets it start earlier.

use std::collections::BTreeSet;

use crate::ids::Timestamp;
use crate::state::Job;

/// From its start to its latest end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// When it has ended at the latest.
    pub end: Timestamp,
    /// Its own time limit, in seconds, if that is less than its job's.
    pub limit_s: Option<u64>,
}

impl Span {
    /// The longest that a task may run which starts at `start`: its whole time limit, or up to its deadline where the
    /// limit may be lowered.
    pub fn longest(job: &Job, start: Timestamp) -> Self {
        let whole = Self::of(job, start, None);
        let deadline = job.spec.eligibility.deadline.filter(|_| job.spec.eligibility.time_min_s.is_some());
        deadline.and_then(|deadline| Self::until(job, start, deadline)).unwrap_or(whole)
    }

    /// The shortest that its job allows. Never longer than [`Span::longest`].
    pub fn shortest(job: &Job, start: Timestamp) -> Self {
        let longest = Self::longest(job, start);
        let least = job.spec.eligibility.time_min_s.map(|least| start.plus_seconds(least));
        least.and_then(|end| Self::until(job, start, end)).filter(|s| s.end < longest.end).unwrap_or(longest)
    }

    /// The span with its job's time limit, or with its own.
    pub fn of(job: &Job, start: Timestamp, limit_s: Option<u64>) -> Self {
        let limit = limit_s.or(job.spec.time_limit_s);
        Self { end: limit.map_or(Timestamp(u64::MAX), |limit| start.plus_seconds(limit)), limit_s }
    }

    /// The longest span, in whole seconds, that has ended by `end`, if that is shorter than the whole time limit and
    /// not shorter than the job allows.
    pub fn until(job: &Job, start: Timestamp, end: Timestamp) -> Option<Self> {
        let least = job.spec.eligibility.time_min_s?;
        let limit = end.micros_since(start) / 1_000_000;
        let is_lower = job.spec.time_limit_s.is_none_or(|whole| limit < whole);
        (is_lower && limit >= least).then(|| Self::of(job, start, Some(limit)))
    }

    /// The spans shorter than this one that are worth a try, the longest first: each ends by one of `instants`, from
    /// which on less may be free.
    pub fn shorter(
        self,
        job: &Job,
        start: Timestamp,
        instants: impl Iterator<Item = Timestamp>,
    ) -> Vec<Self> {
        if job.spec.eligibility.time_min_s.is_none() {
            return Vec::new();
        }
        let instants: BTreeSet<Timestamp> = instants.filter(|at| *at < self.end).collect();
        instants.into_iter().rev().filter_map(|at| Self::until(job, start, at)).collect()
    }
}
