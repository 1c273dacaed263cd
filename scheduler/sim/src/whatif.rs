//! What would happen on a real cluster from here on, as it is and after a change.
//!
//! The state of a controller is played forward: nothing new is submitted, nodes that are away stay away, and every
//! task uses its whole time limit, so that each start is the latest that is to be expected.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;

use muster_core::cluster::{Backfill, ClusterConfig, Order};
use muster_core::engine::Engine;
use muster_core::event::{Hardware, HardwareCore};
use muster_core::ids::{AttemptKey, JobId, TaskId, Timestamp};
use muster_core::input::{Effect, Input};
use muster_core::state::{LivePhase, State};
use serde::Serialize;

use crate::{SimError, Stage};

/// After so many starts nobody looks further ahead.
pub const STARTS_MAX: usize = 1_000_000;
/// Added nodes are at most so many.
pub const ADDED_NODES_MAX: u32 = 100_000;
/// Tasks without a time limit are taken to run this long, in seconds.
const NO_LIMIT_S: u64 = 365 * 86_400;

/// What is changed before the clock goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Another order and backfill for every pool.
    pub policy: Option<(Order, Backfill)>,
    /// So many more nodes, each like the pool's last one.
    pub add_nodes: u32,
    /// The pool that they are added to; the first without.
    pub pool: Option<String>,
}

/// When the tasks that wait are expected to start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Jobs with waiting tasks, in the order of their ids.
    pub jobs: BTreeMap<JobId, JobForecast>,
    /// When everything has ended, in seconds from the state's instant.
    pub idle_after_s: u64,
}

/// When the waiting tasks of a job start, in seconds from the state's instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JobForecast {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Tasks that wait.
    pub waiting: u64,
    /// How many of them start.
    pub started: u64,
    /// The first start.
    pub first_start_s: Option<u64>,
    /// The last start.
    pub last_start_s: Option<u64>,
}

impl Forecast {
    /// Mean seconds until the first task of a job starts, over the jobs of which one does.
    #[must_use]
    pub fn mean_first_start_s(&self) -> Option<f64> {
        let starts: Vec<u64> = self.jobs.values().filter_map(|job| job.first_start_s).collect();
        (!starts.is_empty()).then(|| starts.iter().sum::<u64>() as f64 / starts.len() as f64)
    }

    /// Waiting tasks that never start.
    #[must_use]
    pub fn never(&self) -> u64 {
        self.jobs.values().map(|job| job.waiting.saturating_sub(job.started)).sum()
    }
}

/// Reads the state of a controller, as `musterd --print-state` prints it.
///
/// # Errors
/// [`SimError::Read`] or [`SimError::State`].
pub fn read_state(path: &Path) -> Result<State, SimError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SimError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| SimError::State { path: path.to_owned(), source })
}

/// The last instant that a state knows of.
#[must_use]
pub fn instant(state: &State) -> Timestamp {
    let jobs = state.jobs.values().flat_map(|job| {
        let live = job.live.values().map(|live| match live.phase {
            LivePhase::Preparing => live.placed_at,
            LivePhase::Running { go_at, .. } => go_at,
            LivePhase::Ending { since, .. } => since,
        });
        live.chain([job.submitted_at]).chain(job.finished.values().map(|finished| finished.at))
    });
    jobs.max().unwrap_or_default()
}

/// Plays a state forward from `now`, after a change.
///
/// # Errors
/// [`SimError::UnknownPool`], or [`SimError::Cluster`] if the engine refuses the change.
pub fn forecast(state: State, now: Timestamp, change: &Change) -> Result<Forecast, SimError> {
    let mut jobs = BTreeMap::new();
    for job in state.queue() {
        let forecast = JobForecast {
            name: job.spec.name.clone(),
            user: job.spec.user.name.clone(),
            waiting: job.waiting.len(),
            ..JobForecast::default()
        };
        jobs.insert(job.id, forecast);
    }
    let stage = changed(state, now, change)?;
    let mut player = Player {
        stage,
        now,
        start: now,
        ends: BinaryHeap::new(),
        forecast: Forecast { jobs, idle_after_s: 0 },
        starts: 0,
    };
    player.take_over();
    player.run();
    Ok(player.forecast)
}

/// An engine in this state with the change in force.
fn changed(state: State, now: Timestamp, change: &Change) -> Result<Stage, SimError> {
    let mut config: ClusterConfig = (*state.config).clone();
    if let Some((order, backfill)) = change.policy {
        for pool in &mut config.pools {
            (pool.order, pool.backfill) = (order, backfill);
        }
    }
    let added = add_nodes(&mut config, change)?;
    let mut engine = Engine::new(state);
    engine.apply(&Input::Configure(Arc::new(config)), now).reply.map_err(SimError::Cluster)?;
    for (node, cores) in added {
        let hardware =
            Hardware { cores: vec![HardwareCore::default(); cores as usize], ..Hardware::default() };
        let hello = Input::NodeHello {
            node,
            boot_id: "1".to_owned(),
            hardware: Arc::new(hardware),
            held: Vec::new(),
        };
        engine.apply(&hello, now).reply.map_err(SimError::Cluster)?;
    }
    Ok(Stage::new(engine))
}

/// Declares the added nodes, and names them with their cores.
fn add_nodes(config: &mut ClusterConfig, change: &Change) -> Result<Vec<(String, u32)>, SimError> {
    let mut added = Vec::new();
    if change.add_nodes == 0 {
        return Ok(added);
    }
    let known = || config.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>().join(", ");
    let wanted = change.pool.as_ref();
    let place = config.pools.iter().position(|pool| wanted.is_none_or(|name| *name == pool.name));
    let unknown = || SimError::UnknownPool { pool: wanted.cloned().unwrap_or_default(), known: known() };
    let pool = place.ok_or_else(unknown)?;
    let last = config.pools[pool].nodes.last();
    let Some(model) = last.and_then(|name| config.nodes.iter().find(|node| node.name == *name)).cloned()
    else {
        return Ok(added);
    };
    for i in 1..=change.add_nodes.min(ADDED_NODES_MAX) {
        let mut node = model.clone();
        node.name = format!("added-{i}");
        added.push((node.name.clone(), node.cores));
        config.pools[pool].nodes.push(node.name.clone());
        config.nodes.push(node);
    }
    Ok(added)
}

struct Player {
    stage: Stage,
    start: Timestamp,
    now: Timestamp,
    ends: BinaryHeap<Reverse<(Timestamp, AttemptKey)>>,
    forecast: Forecast,
    starts: usize,
}

impl Player {
    /// What is live goes on: prepared instances are ready, what is ending is gone, the rest runs to its limit.
    fn take_over(&mut self) {
        let live: Vec<(AttemptKey, LivePhase, Option<Timestamp>)> = self
            .stage
            .engine
            .state()
            .live()
            .map(|(key, job, live)| (key, live.phase.clone(), live.deadline(job.spec.time_limit_s)))
            .collect();
        for (key, phase, deadline) in live {
            match phase {
                LivePhase::Ending { .. } => self.stage.end(key.task, 0, self.now),
                LivePhase::Preparing => {
                    self.stage.ready(key, self.now);
                    self.ends.push(Reverse((self.end_of(key.task), key)));
                }
                LivePhase::Running { .. } => {
                    let end = deadline.unwrap_or(self.now.plus_seconds(NO_LIMIT_S)).max(self.now);
                    self.ends.push(Reverse((end, key)));
                }
            }
        }
    }

    /// When a task that starts now ends.
    fn end_of(&self, task: TaskId) -> Timestamp {
        let state = self.stage.engine.state();
        let own = state.live_attempt(task).and_then(|live| live.time_limit_s);
        let whole = || state.jobs.get(&task.job).and_then(|job| job.spec.time_limit_s);
        self.now.plus_seconds(own.or_else(whole).unwrap_or(NO_LIMIT_S))
    }

    fn run(&mut self) {
        loop {
            while let Some(Reverse((_, key))) =
                self.ends.peek().copied().filter(|Reverse((at, _))| *at <= self.now)
            {
                self.ends.pop();
                // It may have been preempted, and its task may run again.
                let live = self.stage.engine.state().live_attempt(key.task);
                if live.is_none_or(|live| live.attempt != key.attempt) {
                    continue;
                }
                self.stage.end(key.task, 0, self.now);
                self.forecast.idle_after_s = self.since_start();
            }
            self.stage.engine.apply(&Input::Tick, self.now);
            while self.pass() {}
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let wake = self.stage.engine.next_wake().filter(|at| *at > self.now);
            // What is released or delayed may still start; deadlines belong to tasks whose end is in the heap.
            match [end, wake].into_iter().flatten().min() {
                Some(next) if self.starts < STARTS_MAX => self.now = next.max(self.now),
                _ => return,
            }
        }
    }

    /// One pass, obeyed at once. Says whether another one may start what has waited for others to leave.
    fn pass(&mut self) -> bool {
        let effects = self.stage.engine.pass(self.now).effects;
        let mut started = Vec::new();
        self.stage.obey(&effects, self.now, |key| started.push(key));
        for key in started {
            self.started(key);
        }
        effects.iter().any(|effect| matches!(effect, Effect::Stop { .. }))
    }

    fn since_start(&self) -> u64 {
        self.now.micros_since(self.start) / 1_000_000
    }

    fn started(&mut self, key: AttemptKey) {
        let end = self.end_of(key.task);
        self.ends.push(Reverse((end, key)));
        self.starts += 1;
        let second = self.since_start();
        if let Some(job) = self.forecast.jobs.get_mut(&key.task.job) {
            job.started += 1;
            job.first_start_s.get_or_insert(second);
            job.last_start_s = Some(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::cluster::PoolConfig;
    use muster_core::input::{Caller, Reply};

    use super::*;
    use crate::replay::machine::{blank_spec, declare};

    /// Two nodes of 4 cores, both full for an hour; a gang of both and a single task wait.
    fn state() -> State {
        let pool = PoolConfig {
            name: "main".to_owned(),
            nodes: vec!["n1".to_owned(), "n2".to_owned()],
            default: true,
            time_default_s: 3600,
            time_max_s: 86_400,
            order: Order::Fcfs,
            backfill: Backfill::Easy,
            ..PoolConfig::default()
        };
        let config = ClusterConfig {
            name: "test".to_owned(),
            nodes: vec![declare("n1".to_owned(), 4, 1 << 30), declare("n2".to_owned(), 4, 1 << 30)],
            pools: vec![pool],
            ..ClusterConfig::default()
        };
        let mut stage = Stage::bring_up(config, |_| HardwareCore::default()).unwrap();
        for (ranks, limit_s) in [(8, 3600), (8, 1800), (4, 600)] {
            let mut spec = blank_spec();
            spec.request.ranks = ranks;
            spec.time_limit_s = Some(limit_s);
            let caller = Caller { uid: 1, admin: false };
            let input = Input::Submit { caller, spec: Box::new(spec), request_key: None };
            let applied = stage.engine.apply(&input, Timestamp(0));
            assert!(matches!(applied.reply, Ok(Reply::Submitted(_))));
            let effects = stage.engine.pass(Timestamp(0)).effects;
            stage.obey(&effects, Timestamp(0), |_| {});
        }
        stage.engine.into_state()
    }

    fn starts(forecast: &Forecast) -> Vec<Option<u64>> {
        forecast.jobs.values().map(|job| job.first_start_s).collect()
    }

    #[test]
    fn a_state_survives_its_text_and_is_played_forward() {
        let text = serde_json::to_string(&state()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let state = read_state(file.path()).unwrap();
        assert_eq!(instant(&state), Timestamp(0));
        let now = Timestamp(0).plus_seconds(60);
        let before = forecast(state.clone(), now, &Change::default()).unwrap();
        assert_eq!(starts(&before), [Some(3540), Some(5340)]);
        assert_eq!((before.idle_after_s, before.never()), (5940, 0));
        let more = Change { add_nodes: 1, ..Change::default() };
        let after = forecast(state.clone(), now, &more).unwrap();
        assert_eq!(starts(&after), [Some(3540), Some(0)]);
        let unknown = Change { add_nodes: 1, pool: Some("x".to_owned()), ..Change::default() };
        assert!(matches!(forecast(state, now, &unknown), Err(SimError::UnknownPool { .. })));
        std::fs::write(file.path(), "{}").unwrap();
        assert!(matches!(read_state(file.path()), Err(SimError::State { .. })));
    }
}
