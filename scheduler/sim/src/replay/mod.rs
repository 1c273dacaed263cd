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
use std::sync::Arc;

use muster_core::cluster::{Backfill, Order};
use muster_core::engine::Engine;
use muster_core::event::{Allocation, Endpoint, Usage};
use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{Caller, Effect, GoneHow, Input, InstancePhase, InstanceReport};

pub use self::metrics::{Metrics, bounded_slowdown};
pub use self::policy::ReplayPolicy;
pub use self::workload::{PROCESSORS_MAX, ReplayJob, Window, Workload};
use crate::SimError;

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
    engine: Engine,
    /// Starts of the jobs, in seconds; none while a job waits.
    starts: Vec<Option<u64>>,
    submitted: usize,
    /// How many have started.
    started: usize,
    /// The instant before.
    now: Timestamp,
    /// Ends to come: second and place in the workload.
    ends: BinaryHeap<Reverse<(u64, usize)>>,
    /// One input of each kind, changed for each use: whole logs make millions of them.
    submit: Input,
    /// One report of each node.
    reports: Vec<Input>,
}

impl<'a> Driver<'a> {
    fn new(workload: &'a Workload, order: Order, backfill: Backfill) -> Result<Self, SimError> {
        let engine = machine::engine(workload.processors, order, backfill)?;
        let nobody = AttemptKey { task: TaskId { job: JobId(0), index: TaskIndex(0) }, attempt: 1 };
        let reports = engine.state().nodes.iter().map(|node| Input::NodeReport {
            node: node.name.clone(),
            report: InstanceReport { key: nobody, instance: 0, phase: InstancePhase::Preparing },
        });
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
            reports: reports.collect(),
            engine,
        })
    }

    /// The next second at which something happens. What the engine wants to do of itself comes in between: a
    /// reservation may fall on an instant at which nothing else happens.
    fn next_instant(&self) -> Option<u64> {
        let wake = self.engine.next_wake().filter(|at| *at > self.now).map(|at| at.0.div_ceil(1_000_000));
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
            self.end(job, now);
        }
        while self.workload.jobs.get(self.submitted).is_some_and(|job| job.submit_s == second) {
            self.submit(now)?;
        }
        if self.engine.next_wake().is_some_and(|at| at <= now) {
            let due = self.engine.apply(&Input::Tick, now);
            if let Some(Effect::Stop { key, .. }) = due.effects.first() {
                return Err(SimError::EndedByEngine { job: key.task.job, seconds: second });
            }
        }
        let effects = self.engine.pass(now).effects;
        for effect in effects {
            self.obey(&effect, now, second);
        }
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
        let applied = self.engine.apply(&self.submit, now);
        applied.reply.map(|_| ()).map_err(|source| SimError::Refused { number: job.number, source })
    }

    /// A node obeys at once: what is to be prepared is ready, and what may go runs.
    fn obey(&mut self, effect: &Effect, now: Timestamp, second: u64) {
        let Effect::Prepare { node, key, instance, .. } = effect else { return };
        let ready = InstancePhase::Ready(Endpoint::default());
        let applied = self.report(node.0 as usize, *key, *instance, ready, now);
        let goes = applied.iter().any(|effect| matches!(effect, Effect::Go { .. }));
        if goes {
            let place = key.task.job.0 as usize - 1;
            self.starts[place] = Some(second);
            self.started += 1;
            self.ends.push(Reverse((second + self.workload.jobs[place].run_s, place)));
        }
    }

    /// The script ends, and every node says that nothing is left.
    fn end(&mut self, place: usize, now: Timestamp) {
        let task = TaskId { job: JobId(place as u64 + 1), index: TaskIndex(0) };
        let Some(live) = self.engine.state().live_attempt(task) else { return };
        let key = AttemptKey { task, attempt: live.attempt };
        let allocation: Arc<Allocation> = Arc::clone(&live.allocation);
        for (instance, share) in allocation.shares.iter().enumerate() {
            let how = match instance {
                0 => GoneHow::Exited { code: 0, signal: 0, out_of_memory: false },
                _ => GoneHow::Stopped,
            };
            let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
            self.report(share.node.0 as usize, key, instance as u32, phase, now);
        }
    }

    fn report(
        &mut self,
        node: usize,
        key: AttemptKey,
        instance: u32,
        phase: InstancePhase,
        now: Timestamp,
    ) -> Vec<Effect> {
        if let Input::NodeReport { report, .. } = &mut self.reports[node] {
            *report = InstanceReport { key, instance, phase };
        }
        self.engine.apply(&self.reports[node], now).effects
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
