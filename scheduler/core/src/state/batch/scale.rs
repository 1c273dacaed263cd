//! Pools that scale themselves: when they are sampled and evaluated, and what was seen.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::job::{BatchJob, JobPhase};
use super::pool::BatchPool;
use crate::autoscale::{History, Metric, Metrics, SAMPLE_PERIOD_S, Sample};
use crate::batch::{BatchPoolKey, PoolSample, ScaleRun, Scaling};
use crate::ids::Timestamp;
use crate::state::State;

/// Samples that are kept of a pool: those of a day.
const SAMPLES_MAX: usize = 86_400 / SAMPLE_PERIOD_S as usize;

/// What is known of a pool that scales itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Its formula.
    pub spec: Arc<Scaling>,
    /// Since when it does.
    pub since: Timestamp,
    /// When the formula is evaluated next.
    pub run_at: Timestamp,
    /// When the next sample is taken.
    pub sample_at: Timestamp,
    /// What the last evaluation has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScaleRun>,
    /// The samples, the oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub samples: VecDeque<(Timestamp, PoolSample)>,
}

impl Scale {
    pub(super) fn begin(spec: &Arc<Scaling>, at: Timestamp) -> Self {
        Self {
            spec: Arc::clone(spec),
            since: at,
            run_at: at,
            sample_at: at,
            last: None,
            samples: VecDeque::new(),
        }
    }

    /// When there is something to do next.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.run_at.min(self.sample_at)
    }

    pub(super) fn sampled(&mut self, sample: PoolSample, at: Timestamp) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((at, sample));
        self.sample_at = at.plus_seconds(u64::from(SAMPLE_PERIOD_S));
    }

    pub(super) fn ran(&mut self, run: ScaleRun) {
        self.run_at = run.at.plus_seconds(self.spec.interval_s);
        self.last = Some(run);
    }
}

/// Instances of a job's tasks that could run and do not yet.
fn active_tasks(job: &BatchJob) -> u64 {
    if job.phase != JobPhase::Active {
        return 0;
    }
    let first = |slots, instances| (slots, instances, 0, crate::batch::FoldedId::of(""));
    // Tasks of several instances have one slot each.
    let more: u64 =
        job.ready.range(first(1, 2)..first(2, 0)).map(|(_, instances, ..)| u64::from(*instances) - 1).sum();
    job.ready.len() as u64 + more + job.queued
}

impl State {
    /// How a pool of the batch service and its jobs stand.
    #[must_use]
    pub fn batch_sample(&self, key: &BatchPoolKey, pool: &BatchPool) -> PoolSample {
        let mut sample = PoolSample {
            nodes: pool.dedicated(),
            low_nodes: pool.low(),
            preempted_nodes: pool.preempted.len() as u32,
            usable_nodes: pool
                .nodes
                .iter()
                .filter(|(node, seat)| pool.takes_work(seat) && self.node(**node).takes_work())
                .count() as u32,
            ..PoolSample::default()
        };
        for (_, job) in self.batch_jobs_of(key) {
            sample.active_tasks += active_tasks(job);
            sample.running_tasks += job.counts.running.tasks;
            sample.succeeded_tasks += job.counts.succeeded.tasks;
            sample.failed_tasks += job.counts.failed.tasks;
        }
        sample
    }

    /// What a pool's formula looks at, if `stands` is how the pool stands. It was taken as a sample if that is so.
    #[must_use]
    pub fn batch_metrics(
        &self,
        pool: &BatchPool,
        stands: PoolSample,
        is_taken: bool,
        now: Timestamp,
    ) -> Metrics {
        let of = |metric: Metric, sample: &PoolSample| -> Option<f64> {
            #[expect(clippy::cast_precision_loss, reason = "numbers of tasks are far below 2^52")]
            let count = |count: u64| count as f64;
            Some(match metric {
                Metric::ActiveTasks => count(sample.active_tasks),
                Metric::RunningTasks => count(sample.running_tasks),
                Metric::PendingTasks => count(sample.active_tasks + sample.running_tasks),
                Metric::SucceededTasks => count(sample.succeeded_tasks),
                Metric::FailedTasks => count(sample.failed_tasks),
                Metric::CurrentDedicatedNodes | Metric::SampleNodeCount => f64::from(sample.nodes),
                Metric::CurrentLowPriorityNodes => f64::from(sample.low_nodes + sample.preempted_nodes),
                Metric::PreemptedNodeCount => f64::from(sample.preempted_nodes),
                Metric::UsableNodeCount => f64::from(sample.usable_nodes),
                Metric::TaskSlotsPerNode => f64::from(pool.spec.slots_per_node),
                // What nodes use comes from them.
                _ => return None,
            })
        };
        let samples = pool.scale.as_ref().map(|scale| &scale.samples);
        let history = |metric: Metric| {
            let kept = samples.into_iter().flatten().copied();
            let all = kept.chain(is_taken.then_some((now, stands)));
            let all = all.filter_map(|(at, sample)| Some(Sample { at, value: of(metric, &sample)? }));
            let counted = of(metric, &stands).map(|current| History { current, samples: all.collect() });
            Some((metric, counted.or_else(|| pool.use_history(metric, now))?))
        };
        Metric::ALL.iter().filter_map(|metric| history(*metric)).collect()
    }

    /// Pools that are to be sampled or evaluated by `now`.
    pub fn batch_scales_due(&self, now: Timestamp) -> impl Iterator<Item = (&BatchPoolKey, &BatchPool)> {
        let due = self.batch.scales.iter().take_while(move |(at, _)| *at <= now);
        due.filter_map(|(_, key)| Some((key, self.batch.pool(key)?)))
    }
}
