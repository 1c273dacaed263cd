//! The measurements.

use std::time::{Duration, Instant};

use muster_core::cluster::{Backfill, ClusterConfig, Order, Policy, PoolConfig};
use muster_core::engine::Engine;
use muster_core::event::HardwareCore;
use muster_core::ids::{TaskId, Timestamp};
use muster_core::input::{Caller, Input};
use muster_core::plan::Forecast;
use muster_core::spec::{ArraySpec, IndexRange, JobSpec};
use serde::Serialize;

use super::cluster::Topology;
use super::mix;
use crate::replay::machine::{blank_spec, declare};
use crate::{Rng, SimError, Stage};

/// Elements of the array whose memory is measured.
pub const ARRAY_ELEMENTS: u32 = 1_000_000;
/// How long a forecast may look ahead.
pub const FORECAST_WITHIN: Duration = Duration::from_secs(5);
const GIB: u64 = 1 << 30;

/// What is measured.
#[derive(Debug, Clone)]
pub struct ScaleOptions {
    /// The cluster.
    pub topology: Topology,
    /// Cores of each node.
    pub cores_per_node: u32,
    /// Jobs that wait.
    pub pending: usize,
    /// How many tasks end, one after the other.
    pub rounds: usize,
    /// The order of the pool.
    pub order: Order,
    /// The backfill of the pool.
    pub backfill: Backfill,
    /// Decides the mix.
    pub seed: u64,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct ScaleReport {
    /// Nodes.
    pub nodes: usize,
    /// Cores of all nodes.
    pub cores: u64,
    /// Jobs that waited.
    pub pending_jobs: usize,
    /// Their tasks.
    pub pending_tasks: u64,
    /// Mean time of one submit, in microseconds.
    pub submit_us: f64,
    /// The passes.
    pub passes: Passes,
    /// What follows the end of one task.
    pub incremental: Incremental,
    /// What it takes to foresee when everything starts.
    pub forecast: Foreseen,
    /// What the queue costs.
    pub memory: Memory,
}

/// A forecast on the full cluster that looks ahead for at most [`FORECAST_WITHIN`].
#[derive(Debug, Clone, Serialize)]
pub struct Foreseen {
    /// Jobs whose start it told.
    pub jobs: usize,
    /// How long it took to copy the state and to look ahead, in milliseconds.
    pub took_ms: f64,
}

/// Full passes.
#[derive(Debug, Clone, Serialize)]
pub struct Passes {
    /// Over the whole queue on an empty cluster, in milliseconds.
    pub empty_ms: f64,
    /// How many tasks it started.
    pub empty_started: usize,
    /// Over the whole queue on the full cluster by an engine that has just been made, in milliseconds.
    pub full_ms: f64,
    /// Cores that were free then.
    pub full_free_cores: u64,
    /// Live attempts then.
    pub full_live: usize,
}

/// Passes after the end of one task, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Incremental {
    /// How many ends.
    pub rounds: usize,
    /// How many tasks started because of them.
    pub started: usize,
    /// Median of a pass.
    pub median_us: f64,
    /// 95th percentile of a pass.
    pub p95_us: f64,
    /// The longest pass.
    pub max_us: f64,
    /// Median of the reports of one end and the starts that followed, without the pass.
    pub reports_median_us: f64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// Of a waiting job of the mix.
    pub per_waiting_job: f64,
    /// Of a waiting task of the mix.
    pub per_waiting_task: f64,
    /// Of one array of [`ARRAY_ELEMENTS`] waiting elements.
    pub million_array: usize,
    /// Of everything, on the full cluster.
    pub engine: usize,
}

/// Measures a cluster. `heap_bytes` says how much memory is allocated at present.
///
/// # Errors
/// [`SimError::Cluster`] if the engine refuses the cluster or a job of the mix.
pub fn measure(options: &ScaleOptions, heap_bytes: fn() -> usize) -> Result<ScaleReport, SimError> {
    let before = heap_bytes();
    let mut bench = Bench::new(options)?;
    let million_array = bench.array_bytes(heap_bytes)?;
    let empty = heap_bytes();
    let clock = Instant::now();
    bench.top_up()?;
    let submit_us = clock.elapsed().as_secs_f64() * 1e6 / bench.waiting_jobs().max(1) as f64;
    let (pending_jobs, pending_tasks) = (bench.waiting_jobs(), bench.stage.engine.state().waiting_count());
    let queue_bytes = heap_bytes().saturating_sub(empty) as f64;
    let (empty_time, empty_started) = bench.pass();
    bench.top_up()?;
    bench.pass();
    bench.top_up()?;
    let full_free_cores =
        bench.stage.engine.state().nodes.iter().map(|node| u64::from(node.free.len())).sum();
    let full_live = bench.stage.engine.state().live_count();
    let engine = heap_bytes().saturating_sub(before);
    let full_time = bench.full_pass();
    let forecast = bench.forecast();
    let incremental = bench.incremental(options.rounds)?;
    Ok(ScaleReport {
        nodes: options.topology.nodes.len(),
        cores: options.topology.nodes.len() as u64 * u64::from(options.cores_per_node),
        pending_jobs,
        pending_tasks,
        submit_us,
        passes: Passes {
            empty_ms: empty_time.as_secs_f64() * 1e3,
            empty_started,
            full_ms: full_time.as_secs_f64() * 1e3,
            full_free_cores,
            full_live,
        },
        incremental,
        forecast,
        memory: Memory {
            per_waiting_job: queue_bytes / pending_jobs.max(1) as f64,
            per_waiting_task: queue_bytes / pending_tasks.max(1) as f64,
            million_array,
            engine,
        },
    })
}

struct Bench<'a> {
    options: &'a ScaleOptions,
    stage: Stage,
    rng: Rng,
    now: Timestamp,
    live: Vec<TaskId>,
}

impl<'a> Bench<'a> {
    fn new(options: &'a ScaleOptions) -> Result<Self, SimError> {
        let stage = Stage::bring_up(config(options), |core| HardwareCore {
            package: core / 32,
            numa: core / 16,
            l3: core / 8,
            threads: 1,
        })?;
        let start = Timestamp(0).plus_seconds(1);
        Ok(Self { options, stage, rng: Rng::new(options.seed), now: start, live: Vec::new() })
    }

    fn submit(&mut self, spec: JobSpec) -> Result<(), SimError> {
        let caller = Caller { uid: spec.user.uid, admin: false };
        let input = Input::Submit { caller, spec: Box::new(spec), request_key: None };
        self.stage.engine.apply(&input, self.now).reply.map(|_| ()).map_err(SimError::Cluster)
    }

    fn waiting_jobs(&self) -> usize {
        self.stage.engine.state().queue_len()
    }

    /// Submits until as many jobs wait as should.
    fn top_up(&mut self) -> Result<(), SimError> {
        let nodes = self.options.topology.nodes.len() as u32;
        for _ in self.waiting_jobs()..self.options.pending {
            let spec = mix::job(&mut self.rng, nodes, self.options.cores_per_node);
            self.submit(spec)?;
        }
        Ok(())
    }

    /// What one array costs that waits, gone again afterwards.
    fn array_bytes(&mut self, heap_bytes: fn() -> usize) -> Result<usize, SimError> {
        let mut spec = blank_spec();
        let range = IndexRange { first: 0, last: ARRAY_ELEMENTS - 1, step: 1 };
        spec.array = Some(ArraySpec { indices: vec![range], running_max: None });
        spec.time_limit_s = Some(3600);
        let kept = self.stage.engine.clone();
        let before = heap_bytes();
        self.submit(spec)?;
        let bytes = heap_bytes().saturating_sub(before);
        self.stage.engine = kept;
        Ok(bytes)
    }

    /// One pass; what it starts is brought to run, which is not part of its time.
    fn pass(&mut self) -> (Duration, usize) {
        let clock = Instant::now();
        let applied = self.stage.engine.pass(self.now);
        let took = clock.elapsed();
        let before = self.live.len();
        let live = &mut self.live;
        self.stage.obey(&applied.effects, self.now, |key| live.push(key.task));
        (took, self.live.len() - before)
    }

    /// The pass of an engine that knows nothing but the state, as after a restart.
    fn full_pass(&self) -> Duration {
        let mut engine = Engine::new(self.stage.engine.state().clone());
        let clock = Instant::now();
        engine.pass(self.now);
        clock.elapsed()
    }

    /// Looks ahead from here.
    fn forecast(&self) -> Foreseen {
        let state = self.stage.engine.state();
        let clock = Instant::now();
        let mut forecast = Forecast::new(state.clone(), self.now);
        while !forecast.is_over() && clock.elapsed() < FORECAST_WITHIN {
            forecast.step();
        }
        let took_ms = clock.elapsed().as_secs_f64() * 1e3;
        let jobs = state.queue().filter(|job| forecast.start_of(job.id).is_some()).count();
        Foreseen { jobs, took_ms }
    }

    /// Lets single tasks end, each followed by a pass.
    fn incremental(&mut self, rounds: usize) -> Result<Incremental, SimError> {
        let (mut passes, mut reports, mut started) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            if self.live.is_empty() {
                break;
            }
            self.now = self.now.plus_seconds(1);
            let place = self.rng.below(self.live.len() as u64) as usize;
            let task = self.live.swap_remove(place);
            let clock = Instant::now();
            self.stage.end(task, 0, self.now);
            let (took, starts) = self.pass();
            reports.push(clock.elapsed().saturating_sub(took));
            passes.push(took);
            started += starts;
            self.top_up()?;
        }
        passes.sort_unstable();
        reports.sort_unstable();
        let at = |times: &[Duration], percent| {
            let place = crate::replay::nearest_rank(times.len(), percent);
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Ok(Incremental {
            rounds: passes.len(),
            started,
            median_us: at(&passes, 50),
            p95_us: at(&passes, 95),
            max_us: at(&passes, 100),
            reports_median_us: at(&reports, 50),
        })
    }
}

fn config(options: &ScaleOptions) -> ClusterConfig {
    let names = &options.topology.nodes;
    let memory_bytes = u64::from(options.cores_per_node) * 4 * GIB;
    let node = |name: &String| declare(name.clone(), options.cores_per_node, memory_bytes);
    let pool = PoolConfig {
        name: "batch".to_owned(),
        nodes: names.clone(),
        default: true,
        time_default_s: 3600,
        time_max_s: 30 * 86_400,
        order: options.order,
        backfill: options.backfill,
        ..PoolConfig::default()
    };
    let policy = Policy {
        tasks_waiting_max: u64::MAX,
        jobs_per_user_max: u32::MAX,
        finished_jobs_kept: 1,
        ..Policy::default()
    };
    ClusterConfig {
        name: "scale".to_owned(),
        nodes: names.iter().map(node).collect(),
        pools: vec![pool],
        switches: options.topology.switches.clone(),
        policy,
        ..ClusterConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::fat_tree;

    #[test]
    fn a_small_cluster_is_filled_and_what_ends_is_replaced() {
        let options = ScaleOptions {
            topology: fat_tree(40),
            cores_per_node: 16,
            pending: 400,
            rounds: 50,
            order: Order::Fcfs,
            backfill: Backfill::Easy,
            seed: 1,
        };
        let report = measure(&options, || 0).unwrap();
        assert_eq!((report.nodes, report.cores, report.pending_jobs), (40, 640, 400));
        assert!(report.passes.full_free_cores < report.cores / 4, "{report:?}");
        assert!(report.passes.empty_started > 0 && report.incremental.started > 0, "{report:?}");
        assert_eq!(report.incremental.rounds, 50);
        assert!(report.forecast.jobs > 0, "{report:?}");
    }
}
