//! What a schedule is worth, in the numbers of the literature.

use serde::Serialize;

use super::JobRun;

/// Runs shorter than this count as this long in the bounded slowdown, in seconds (Feitelson et al., JSSPP 1997).
const SLOWDOWN_BOUND_S: u64 = 10;

/// Averages and extremes over all jobs of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// How many jobs.
    pub jobs: usize,
    /// Mean wait, in seconds.
    pub avg_wait_s: f64,
    /// 95th percentile of the wait by nearest rank, in seconds.
    pub p95_wait_s: u64,
    /// Longest wait, in seconds.
    pub max_wait_s: u64,
    /// Mean of max(1, (wait + run) / max(run, 10 s)).
    pub avg_bounded_slowdown: f64,
    /// Its 95th percentile by nearest rank.
    pub p95_bounded_slowdown: f64,
    /// Used processor seconds over those of the machine within the makespan.
    pub utilisation: f64,
    /// From the first submit to the last end, in seconds.
    pub makespan_s: u64,
}

impl Metrics {
    /// The metrics of a schedule on a machine of `processors`.
    ///
    /// # Panics
    /// If there is no job.
    #[must_use]
    pub fn of(runs: &[JobRun], processors: u32) -> Self {
        assert!(!runs.is_empty(), "a schedule has jobs");
        let mut waits: Vec<u64> = runs.iter().map(JobRun::wait_s).collect();
        let mut slowdowns: Vec<f64> = runs.iter().map(bounded_slowdown).collect();
        let count = runs.len() as f64;
        let avg_wait_s = waits.iter().sum::<u64>() as f64 / count;
        let avg_bounded_slowdown = slowdowns.iter().sum::<f64>() / count;
        waits.sort_unstable();
        slowdowns.sort_unstable_by(f64::total_cmp);
        let first = runs.iter().map(|run| run.submit_s).min().unwrap_or(0);
        let makespan_s = runs.iter().map(|run| run.end_s).max().unwrap_or(0) - first;
        let area: u128 =
            runs.iter().map(|run| u128::from(run.end_s - run.start_s) * u128::from(run.processors)).sum();
        let p95 = nearest_rank(runs.len(), 95);
        Self {
            jobs: runs.len(),
            avg_wait_s,
            p95_wait_s: waits[p95],
            max_wait_s: waits[runs.len() - 1],
            avg_bounded_slowdown,
            p95_bounded_slowdown: slowdowns[p95],
            utilisation: area as f64 / (f64::from(processors) * makespan_s.max(1) as f64),
            makespan_s,
        }
    }
}

/// Where the percentile stands in a sorted list of `count`, at least 1: the smallest value that is not smaller than
/// so many percent of all.
pub(crate) fn nearest_rank(count: usize, percent: usize) -> usize {
    (count * percent).div_ceil(100).max(1) - 1
}

/// max(1, (wait + run) / max(run, 10 s)).
#[must_use]
pub fn bounded_slowdown(run: &JobRun) -> f64 {
    let long = (run.end_s - run.submit_s) as f64;
    (long / (run.end_s - run.start_s).max(SLOWDOWN_BOUND_S) as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(submit_s: u64, start_s: u64, end_s: u64, processors: u32) -> JobRun {
        JobRun { number: 1, submit_s, start_s, end_s, processors }
    }

    #[test]
    fn the_numbers_follow_their_definitions() {
        // Waits 0, 10, 30; slowdowns 1 (5 s run bounded by 10 s), 30/20, 40/10.
        let runs = [run(0, 0, 5, 4), run(0, 10, 30, 2), run(10, 40, 50, 1)];
        let metrics = Metrics::of(&runs, 4);
        assert_eq!(
            (metrics.jobs, metrics.p95_wait_s, metrics.max_wait_s, metrics.makespan_s),
            (3, 30, 30, 50)
        );
        assert!((metrics.avg_wait_s - 40.0 / 3.0).abs() < 1e-9);
        assert!((metrics.avg_bounded_slowdown - (1.0 + 1.5 + 4.0) / 3.0).abs() < 1e-9);
        assert!((metrics.p95_bounded_slowdown - 4.0).abs() < 1e-9);
        assert!((metrics.utilisation - (20.0 + 40.0 + 10.0) / 200.0).abs() < 1e-9);
    }

    #[test]
    fn the_nearest_rank_is_the_smallest_that_covers_the_percentage() {
        assert_eq!([1, 2, 19, 20, 21, 100].map(|count| nearest_rank(count, 95)), [0, 1, 18, 18, 19, 94]);
    }
}
