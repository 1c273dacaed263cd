//! Replays a trace through the production engine, in virtual time.
//!
//! Users and nodes are played here: jobs are submitted when the trace says so, nodes are ready at once and report the
//! end of a job when its run time is over. At each instant come all ends, then all submits, then one pass.

pub mod machine;
mod metrics;
mod policy;
mod workload;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use muster_core::cluster::{Backfill, Order};
use muster_core::ids::{JobId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{Caller, Effect, Input};

pub(crate) use self::metrics::nearest_rank;
pub use self::metrics::{Metrics, bounded_slowdown};
pub use self::policy::ReplayPolicy;
pub use self::workload::{PROCESSORS_MAX, ReplayJob, Window, Workload};
use crate::{SimError, Stage};

/// How a job of the trace fared, in seconds from the first submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRun {
    /// Its number in the trace.
    pub number: i64,
    /// When it was submitted.
    pub submit_s: u64,
    /// When it started.
    pub start_s: u64,
    /// When it ended.
    pub end_s: u64,
    /// Its processors.
    pub processors: u32,
}

impl JobRun {
    /// How long it waited, in seconds.
    #[must_use]
    pub fn wait_s(&self) -> u64 {
        self.start_s - self.submit_s
    }
}

/// Replays a workload to its end. The runs are in the order of the submits.
///
/// # Errors
/// [`SimError::Refused`], [`SimError::EndedByEngine`] or [`SimError::Starved`] if the engine does what it should not.
pub fn replay(workload: &Workload, order: Order, backfill: Backfill) -> Result<Vec<JobRun>, SimError> {
    let mut driver = Driver::new(workload, order, backfill)?;
    while let Some(second) = driver.next_instant() {
        driver.instant(second)?;
    }
    driver.finish()
}

/// Plays users and nodes. The engine's job `n` is the workload's job `n - 1`.
struct Driver<'a> {
    workload: &'a Workload,
    stage: Stage,
    /// Starts of the jobs, in seconds; none while a job waits.
    starts: Vec<Option<u64>>,
    submitted: usize,
    /// How many have started.
    started: usize,
    /// The instant before.
    now: Timestamp,
    /// Ends to come: second and place in the workload.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    /// The submit, changed for each job.
    submit: Input,
}

impl<'a> Driver<'a> {
    fn new(workload: &'a Workload, order: Order, backfill: Backfill) -> Result<Self, SimError> {
        let stage = machine::stage(workload.processors, order, backfill)?;
        let submit = Input::Submit {
            caller: Caller { uid: 1, admin: false },
            spec: Box::new(machine::blank_spec()),
            request_key: None,
        };
        Ok(Self {
            workload,
            starts: vec![None; workload.jobs.len()],
            submitted: 0,
            started: 0,
            now: Timestamp(0),
            ends: BinaryHeap::new(),
            submit,
            stage,
        })
    }

    /// The next second at which something happens. What the engine wants to do of itself comes in between: a
    /// reservation may fall on an instant at which nothing else happens.
    fn next_instant(&self) -> Option<u64> {
        let wake =
            self.stage.engine.next_wake().filter(|at| *at > self.now).map(|at| at.0.div_ceil(1_000_000));
        let end = self.ends.peek().map(|Reverse((second, _))| *second);
        let submit = self.workload.jobs.get(self.submitted).map(|job| job.submit_s);
        [wake.filter(|_| self.started < self.workload.jobs.len()), end, submit].into_iter().flatten().min()
    }

    fn instant(&mut self, second: u64) -> Result<(), SimError> {
        let now = Timestamp(0).plus_seconds(second);
        self.now = now;
        while let Some(Reverse((_, job))) = self.ends.peek().copied().filter(|Reverse((at, _))| *at == second)
        {
            self.ends.pop();
            let task = TaskId { job: JobId(job as u64 + 1), index: TaskIndex(0) };
            self.stage.end(task, 0, now);
        }
        while self.workload.jobs.get(self.submitted).is_some_and(|job| job.submit_s == second) {
            self.submit(now)?;
        }
        if self.stage.engine.next_wake().is_some_and(|at| at <= now) {
            let due = self.stage.engine.apply(&Input::Tick, now);
            if let Some(Effect::Stop { key, .. }) = due.effects.first() {
                return Err(SimError::EndedByEngine { job: key.task.job, seconds: second });
            }
        }
        let effects = self.stage.engine.pass(now).effects;
        let (ends, starts, jobs) = (&mut self.ends, &mut self.starts, &self.workload.jobs);
        let mut started = 0;
        self.stage.obey(&effects, now, |key| {
            let place = key.task.job.0 as usize - 1;
            starts[place] = Some(second);
            started += 1;
            ends.push(Reverse((second + jobs[place].run_s, place)));
        });
        self.started += started;
        Ok(())
    }

    fn submit(&mut self, now: Timestamp) -> Result<(), SimError> {
        let job = self.workload.jobs[self.submitted];
        self.submitted += 1;
        if let Input::Submit { caller, spec, .. } = &mut self.submit {
            // User 0 is root, who may not submit.
            caller.uid = job.user.saturating_add(1);
            spec.user.uid = caller.uid;
            spec.request.ranks = job.processors;
            spec.time_limit_s = Some(job.estimate_s);
        }
        let applied = self.stage.engine.apply(&self.submit, now);
        applied.reply.map(|_| ()).map_err(|source| SimError::Refused { number: job.number, source })
    }

    fn finish(self) -> Result<Vec<JobRun>, SimError> {
        let waiting = self.starts.iter().filter(|start| start.is_none()).count();
        let runs = self.workload.jobs.iter().zip(&self.starts).map(|(job, start)| {
            let start_s = start.ok_or(SimError::Starved { waiting, number: job.number })?;
            Ok(JobRun {
                number: job.number,
                submit_s: job.submit_s,
                start_s,
                end_s: start_s + job.run_s,
                processors: job.processors,
            })
        });
        runs.collect()
    }
}
