//! What is replayed: the usable jobs of a trace and the machine's size.

use crate::SimError;
use crate::swf::{SwfJob, Trace};

/// Largest machine, in processors.
pub const PROCESSORS_MAX: u32 = 1_000_000;

/// The jobs of one replay, in the order in which they are submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Processors of the machine.
    pub processors: u32,
    /// The jobs; the first is submitted at second 0.
    pub jobs: Vec<ReplayJob>,
}

/// A job to replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayJob {
    /// Its number in the trace.
    pub number: i64,
    /// When it is submitted, in seconds from the first submit.
    pub submit_s: u64,
    /// How long it runs, in seconds; never longer than the estimate.
    pub run_s: u64,
    /// Its time limit, in seconds.
    pub estimate_s: u64,
    /// Processors that it needs.
    pub processors: u32,
    /// Its user's number in the trace.
    pub user: u32,
}

/// Which part of a trace is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Usable jobs that are left out at the start.
    pub skip: usize,
    /// Usable jobs that are taken then; all without.
    pub limit: Option<usize>,
}

impl Workload {
    /// The usable jobs of a trace: those that ran, on a machine that could hold them.
    ///
    /// The machine has the header's `MaxProcs`, else its `MaxNodes`, else `processors`. A job needs the processors
    /// that it asked for, else those that it got; its estimate is the time it asked for, else the time it ran; it is
    /// ended at its estimate. Jobs are ordered by submit time, then by their place in the file.
    ///
    /// # Errors
    /// [`SimError::NoMachine`], [`SimError::MachineSize`] or [`SimError::NoJobs`].
    pub fn from_trace(trace: &Trace, processors: Option<u64>, window: Window) -> Result<Self, SimError> {
        let processors = trace.max_procs.or(trace.max_nodes).or(processors).ok_or(SimError::NoMachine)?;
        let size = u32::try_from(processors).ok().filter(|size| (1..=PROCESSORS_MAX).contains(size));
        let size = size.ok_or(SimError::MachineSize { processors, most: PROCESSORS_MAX })?;
        let mut jobs: Vec<ReplayJob> = trace.jobs.iter().filter_map(|job| usable(job, size)).collect();
        jobs.sort_by_key(|job| job.submit_s);
        let usable = jobs.len();
        jobs.drain(..window.skip.min(usable));
        jobs.truncate(window.limit.unwrap_or(usize::MAX));
        let first = jobs.first().ok_or(SimError::NoJobs { usable, skipped: window.skip })?.submit_s;
        for job in &mut jobs {
            job.submit_s -= first;
        }
        Ok(Self { processors: size, jobs })
    }
}

fn usable(job: &SwfJob, machine: u32) -> Option<ReplayJob> {
    let known = |value: i64, otherwise: i64| if value > 0 { value } else { otherwise };
    let processors = u32::try_from(known(job.requested, job.allocated)).ok()?;
    let estimate_s = u64::try_from(known(job.requested_time_s, job.run_s)).ok()?;
    let run_s = u64::try_from(job.run_s).ok().filter(|run| *run > 0)?.min(estimate_s);
    Some(ReplayJob {
        number: job.number,
        submit_s: u64::try_from(job.submit_s).ok()?,
        run_s,
        estimate_s,
        processors: Some(processors).filter(|processors| (1..=machine).contains(processors))?,
        user: u32::try_from(job.user).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: i64, submit_s: i64, run_s: i64, processors: (i64, i64), requested_time_s: i64) -> SwfJob {
        let (requested, allocated) = processors;
        SwfJob { number, submit_s, run_s, allocated, requested, requested_time_s, user: -1 }
    }

    #[test]
    fn unusable_jobs_are_left_out_and_the_first_submit_is_zero() {
        let jobs = vec![
            job(1, 50, 10, (4, 2), 5),
            job(2, 40, 10, (-1, 2), -1),
            job(3, 60, 0, (1, 1), 5),
            job(4, 60, 5, (9, 1), 5),
            job(5, 60, 5, (0, 0), 5),
            job(6, -1, 5, (1, 1), 5),
            job(7, 50, 10, (1, 1), 20),
        ];
        let trace = Trace { max_nodes: Some(8), jobs, ..Trace::default() };
        let workload = Workload::from_trace(&trace, Some(5), Window::default()).unwrap();
        let found: Vec<_> = workload
            .jobs
            .iter()
            .map(|j| (j.number, j.submit_s, j.run_s, j.estimate_s, j.processors))
            .collect();
        assert_eq!(workload.processors, 8);
        assert_eq!(found, [(2, 0, 10, 10, 2), (1, 10, 5, 5, 4), (7, 10, 10, 20, 1)]);
        let window = Window { skip: 1, limit: Some(1) };
        let workload = Workload::from_trace(&trace, None, window).unwrap();
        assert_eq!((workload.jobs.len(), workload.jobs[0].number, workload.jobs[0].submit_s), (1, 1, 0));
        let window = Window { skip: 3, limit: None };
        assert!(matches!(
            Workload::from_trace(&trace, None, window),
            Err(SimError::NoJobs { usable: 3, .. })
        ));
    }

    #[test]
    fn a_machine_must_be_named() {
        let trace = Trace { jobs: vec![job(1, 0, 1, (1, 1), 1)], ..Trace::default() };
        assert!(matches!(Workload::from_trace(&trace, None, Window::default()), Err(SimError::NoMachine)));
        let zero = Workload::from_trace(&trace, Some(0), Window::default());
        assert!(matches!(zero, Err(SimError::MachineSize { processors: 0, .. })));
    }
}
