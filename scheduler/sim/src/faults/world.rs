//! Everything together: the loop of virtual time, the faults, and the checkers.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_core::cluster::{Backfill, ClusterConfig, NodeConfig, Order, Policy, PoolConfig};
use muster_core::ids::{AttemptKey, JobId, JobRef, TaskIndex, Timestamp};
use muster_core::input::{Caller, Effect, Input, InstanceReport, Reply};
use muster_core::plan::plan;
use muster_core::spec::{ArraySpec, IndexRange, JobSpec, Request};
use muster_core::state::PoolState;

use super::controller::Controller;
use super::link::{Link, Mishaps};
use super::node::SimNode;
use super::violation::Violation;
use super::{changes, claims, crontabs, reservations, wishes};
use crate::rng::Rng;

/// One step of virtual time, in microseconds.
const STEP_US: u64 = 500_000;
const GIB: u64 = 1 << 30;

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub struct WorldOptions {
    /// Decides everything else.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: u32,
    /// Steps with faults.
    pub stormy_steps: u64,
    /// Steps without, in which everything must come to its end.
    pub calm_steps_max: u64,
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Jobs accepted.
    pub jobs: u64,
    /// Scripts started.
    pub started: u64,
    /// Scripts of recurring jobs started.
    pub recurred: u64,
    /// Attempts that gave way to others.
    pub preempted: u64,
    /// Controller crashes, node reboots and cut links.
    pub faults: u64,
    /// What went wrong with messages.
    pub messages: Mishaps,
    /// Attempts that were lined up behind others.
    pub lined_up: u64,
    /// Records in the journal.
    pub records: u64,
    /// Steps that the calm phase took.
    pub calm_steps: u64,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Timestamp,
    pub(super) controller: Controller,
    pub(super) nodes: Vec<SimNode>,
    /// Messages under way to each node, in order, and from each.
    pub(super) to_node: Vec<Link<Effect>>,
    pub(super) from_node: Vec<Link<InstanceReport>>,
    /// Attempts of which nodes were told, with the instance.
    placed: BTreeSet<(AttemptKey, u32)>,
    started: BTreeSet<AttemptKey>,
    accepted: Vec<JobId>,
    /// Nobody has a right over others or a reservation in it, and all tasks count as short ones: arrays are handed out in lines.
    plain: bool,
    pub(super) outcome: Outcome,
}

/// Runs one world to its end.
///
/// # Errors
/// The first promise that was broken.
pub fn run(options: WorldOptions) -> Result<Outcome, Violation> {
    let mut world = World::new(options)?;
    for _ in 0..options.stormy_steps {
        world.submit_some()?;
        world.faults()?;
        world.step(false)?;
    }
    for node in &mut world.nodes {
        node.linked = true;
    }
    world.release_all()?;
    while !world.is_idle() {
        if world.outcome.calm_steps >= options.calm_steps_max {
            let state = world.controller.engine.state();
            let (waiting, live) = (state.waiting_count(), state.live_count());
            let why = world.what_is_left();
            return Err(Violation::NeverEnds { why, waiting, live, steps: options.calm_steps_max });
        }
        world.step(true)?;
        world.outcome.calm_steps += 1;
    }
    world.check_accepted()?;
    world.outcome.records = world.controller.journal_len() as u64;
    Ok(world.outcome)
}

impl World {
    fn new(options: WorldOptions) -> Result<Self, Violation> {
        let mut rng = Rng::new(options.seed);
        let nodes: Vec<SimNode> =
            (1..=options.nodes).map(|i| SimNode::new(format!("n{i}"), 1 + rng.below(8) as u32)).collect();
        let mut world = Self {
            rng,
            now: Timestamp(1_000_000_000),
            controller: Controller::new(),
            to_node: nodes.iter().map(|_| Link::new()).collect(),
            from_node: nodes.iter().map(|_| Link::new()).collect(),
            nodes,
            placed: BTreeSet::new(),
            started: BTreeSet::new(),
            accepted: Vec::new(),
            plain: options.seed.is_multiple_of(4),
            outcome: Outcome::default(),
        };
        let mut config = world.config();
        if !world.plain {
            wishes::share(&mut world.rng, &mut config);
        }
        world.input(&Input::Configure(Arc::new(config)))?;
        Ok(world)
    }

    fn config(&self) -> ClusterConfig {
        let node = |n: &SimNode| NodeConfig {
            name: n.name.clone(),
            cores: n.cores,
            memory_bytes: u64::from(n.cores) * GIB,
            features: if n.name.ends_with(['1', '3', '5', '7', '9']) {
                ["odd".to_owned()].into()
            } else {
                Default::default()
            },
            ..NodeConfig::default()
        };
        let pool = PoolConfig {
            name: "main".to_owned(),
            nodes: self.nodes.iter().map(|n| n.name.clone()).collect(),
            default: true,
            time_default_s: 60,
            time_max_s: 3600,
            order: Order::Default,
            backfill: Backfill::Easy,
            ..PoolConfig::default()
        };
        let policy =
            Policy { hold_node_s: 10, prepare_timeout_s: 20, attempts_max: 1000, ..Policy::default() };
        let mut config = ClusterConfig {
            name: "sim".to_owned(),
            nodes: self.nodes.iter().map(node).collect(),
            pools: vec![pool],
            policy,
            ..ClusterConfig::default()
        };
        if self.plain {
            config.policy.short_task_ms = 1_000_000;
        } else {
            claims::declare(&mut config);
        }
        config
    }

    pub(super) fn input(&mut self, input: &Input) -> Result<Option<Reply>, Violation> {
        let (effects, reply) = self.controller.input(input, self.now)?;
        self.outcome.preempted = self.controller.preempted;
        let in_line = |effect: &&Effect| matches!(effect, Effect::Prepare { after: Some(_), .. });
        self.outcome.lined_up += effects.iter().filter(in_line).count() as u64;
        for effect in effects {
            // What is said again was placed before: of one in a line it is later that it came to hold something.
            let is_new = match &effect {
                Effect::Prepare { key, instance, .. } => self.placed.insert((*key, *instance)),
                _ => false,
            };
            let wrong = wishes::placed_on_held(self.controller.engine.state(), &effect).filter(|_| is_new);
            if let Some((node, key)) = wrong {
                return Err(Violation::PlacedOnHeld { node, key });
            }
            let node = effect.node().0 as usize;
            // What is sent to a node without a session is lost: the next hello must make up for it.
            if self.nodes[node].session {
                self.to_node[node].send(effect, &mut self.rng, &mut self.outcome.messages);
            } else {
                self.outcome.messages.lost += 1;
            }
        }
        Ok(reply.ok())
    }

    fn submit_some(&mut self) -> Result<(), Violation> {
        if self.rng.one_in(4) {
            let mut spec = self.spec();
            match self.plain {
                true => wishes::for_lines(&mut self.rng, &mut spec),
                false => claims::claim(&mut self.rng, &mut spec),
            }
            let caller = Caller { uid: spec.user.uid, admin: false };
            let input = Input::Submit { caller, spec: Box::new(spec), request_key: None };
            if let Some(Reply::Submitted(job)) = self.input(&input)? {
                self.accepted.push(job);
                self.outcome.jobs += 1;
            }
        }
        let state = self.controller.engine.state();
        let reserved = reservations::change(&mut self.rng, state, self.now, self.nodes.len());
        if let Some(input) = reserved.filter(|_| !self.plain) {
            self.input(&input)?;
        }
        if self.rng.one_in(4) {
            let spec = self.spec();
            let state = self.controller.engine.state();
            if let Some(input) = crontabs::change(&mut self.rng, state, spec, self.now) {
                self.input(&input)?;
            }
        }
        if self.rng.one_in(40) && !self.accepted.is_empty() {
            let job = self.accepted[self.rng.below(self.accepted.len() as u64) as usize];
            let caller = self.owner(job);
            self.input(&Input::Cancel { caller, target: JobRef { job, task: None } })?;
        }
        // A change may let a job depend on others, which jobs that are handed out in lines do not.
        if self.rng.one_in(30) && !self.accepted.is_empty() && !self.plain {
            let job = self.accepted[self.rng.below(self.accepted.len() as u64) as usize];
            let caller = self.owner(job);
            let state = self.controller.engine.state();
            let input = changes::change_of_job(&mut self.rng, state, caller, job, &self.accepted, self.now);
            self.input(&input)?;
        }
        if self.rng.one_in(60) {
            let pools = &self.controller.engine.state().config.pools;
            let pool = pools[self.rng.below(pools.len() as u64) as usize].name.clone();
            // Most of the time all are up.
            let closed = self.rng.one_in(3).then(|| 1 + self.rng.below(3) as usize);
            let state = PoolState::ALL[closed.unwrap_or(0)];
            self.input(&Input::ChangePool { caller: Caller { uid: 0, admin: true }, pool, state })?;
        }
        if self.rng.one_in(20) && !self.accepted.is_empty() {
            let job = self.accepted[self.rng.below(self.accepted.len() as u64) as usize];
            let caller = self.owner(job);
            let release = self.rng.one_in(2);
            // The whole job, or one of the first tasks of what may be an array.
            let task = self.rng.one_in(2).then(|| TaskIndex(self.rng.below(4) as u32));
            let target = JobRef { job, task };
            self.input(&if release {
                Input::ReleaseJob { caller, target }
            } else {
                Input::HoldJob { caller, target }
            })?;
        }
        Ok(())
    }

    /// Nothing may be held, and no node kept, for ever, so that everything comes to its end.
    fn release_all(&mut self) -> Result<(), Violation> {
        for job in self.accepted.clone() {
            let caller = Caller { uid: 0, admin: true };
            self.input(&Input::ReleaseJob { caller, target: JobRef { job, task: None } })?;
        }
        let pools = self.controller.engine.state().config.pools.clone();
        for pool in pools {
            let caller = Caller { uid: 0, admin: true };
            self.input(&Input::ChangePool { caller, pool: pool.name, state: PoolState::Up })?;
        }
        for input in reservations::give_up(self.controller.engine.state(), &self.accepted) {
            self.input(&input)?;
        }
        for input in crontabs::give_up(self.controller.engine.state()) {
            self.input(&input)?;
        }
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for node in &nodes {
            self.input(&wishes::health(node, None))?;
        }
        self.input(&wishes::resume(nodes))?;
        Ok(())
    }

    fn owner(&self, job: JobId) -> Caller {
        let known = self.controller.engine.state().jobs.get(&job);
        Caller { uid: known.map_or(0, |job| job.spec.user.uid), admin: false }
    }

    fn spec(&mut self) -> JobSpec {
        let (rng, state) = (&mut self.rng, self.controller.engine.state());
        let mut request = Request { ranks: 1 + rng.below(4) as u32, ..Request::default() };
        if rng.one_in(2) {
            request.nodes = Some(1 + rng.below(4) as u32);
            request.ranks = request.nodes.unwrap_or(1) * (1 + rng.below(2) as u32);
        }
        wishes::places(rng, &mut request, self.nodes.len());
        let limit_s = 5 + rng.below(30);
        let array = rng.one_in(4).then(|| ArraySpec {
            indices: vec![IndexRange { first: 0, last: rng.below(20) as u32, step: 1 }],
            running_max: rng.one_in(2).then(|| 1 + rng.below(4) as u32),
        });
        let (user, account, qos) = wishes::charge(rng);
        let reservation = reservations::wish(rng, state);
        JobSpec {
            name: "sim".to_owned(),
            pool: None,
            user: user.into(),
            script: "#!/bin/sh\n".to_owned().into(),
            arguments: Vec::new(),
            environment: Default::default(),
            working_directory: "/".to_owned(),
            stdin: None,
            stdout: None,
            stderr: None,
            append: false,
            umask: 0o022,
            limits: Default::default(),
            submit_host: String::new(),
            request: request.into(),
            time_limit_s: Some(limit_s),
            array,
            requeue: !rng.one_in(4),
            priority: 0,
            eligibility: wishes::eligibility(rng, state, &self.accepted, self.now, limit_s).into(),
            account,
            qos,
            reservation,
            signal: changes::signal(rng),
            comment: None,
            command: None,
            submit_line: None,
            nice: 0,
            wckey: None,
            mail: None,
            licenses: Default::default(),
            staging: None,
        }
    }

    fn faults(&mut self) -> Result<(), Violation> {
        if self.rng.one_in(60) {
            self.outcome.faults += 1;
            self.controller.crash(self.rng.one_in(2))?;
            for i in 0..self.nodes.len() {
                self.drop_session(i);
            }
        }
        if self.rng.one_in(100) && !self.plain {
            let mut config = ClusterConfig::clone(&self.controller.engine.state().config);
            wishes::share_otherwise(&mut self.rng, &mut config);
            self.input(&Input::Configure(Arc::new(config)))?;
        }
        let i = self.rng.below(self.nodes.len() as u64) as usize;
        if self.rng.one_in(25) {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            let input = wishes::change_of_nodes(&mut self.rng, &names);
            self.outcome.faults += 1;
            self.input(&input)?;
        }
        match self.rng.below(50) {
            0 => {
                self.outcome.faults += 1;
                self.nodes[i].reboot();
                self.drop_session(i);
            }
            1 => {
                self.outcome.faults += 1;
                self.nodes[i].linked = false;
            }
            // The agent restarts: its session breaks, what it supervises lives on.
            2 => self.drop_session(i),
            3..10 => self.nodes[i].linked = true,
            _ => {}
        }
        Ok(())
    }

    fn step(&mut self, calm: bool) -> Result<(), Violation> {
        self.now = Timestamp(self.now.0 + STEP_US);
        for i in 0..self.nodes.len() {
            self.node_lives(i, calm)?;
            self.messages(i, calm)?;
            self.silence(i)?;
        }
        if self.controller.engine.next_wake().is_some_and(|at| at <= self.now) {
            self.input(&Input::Tick)?;
        }
        for node in &self.nodes {
            if let Some((first, second)) = node.core_twice() {
                return Err(Violation::CoreTwice { node: node.name.clone(), first, second });
            }
        }
        Ok(())
    }

    fn node_lives(&mut self, i: usize, calm: bool) -> Result<(), Violation> {
        for happened in self.nodes[i].live(&mut self.rng, calm) {
            self.happened(i, happened)?;
        }
        Ok(())
    }

    /// The script of a gang may start only while every instance stands, unless a node was lost since the word was
    /// given: then the engine is on its way to end it.
    pub(super) fn check_start(&mut self, key: AttemptKey) -> Result<(), Violation> {
        self.outcome.started += 1;
        if !self.started.insert(key) {
            return Err(Violation::StartedTwice { key });
        }
        let state = self.controller.engine.state();
        if !wishes::is_in_place(state, key) {
            return Err(Violation::OutOfPlace { key });
        }
        let placed_at = self.controller.placed_at(key);
        if !wishes::was_free_to_start(state, key, placed_at, self.now) {
            return Err(Violation::StartedEarly { key });
        }
        if !crontabs::is_alone_and_due(state, key, self.now) {
            return Err(Violation::RecursWrongly { key });
        }
        self.outcome.recurred += u64::from(crontabs::recurs(state, key.task.job));
        if !wishes::keeps_to_its_limit(state, key.task.job) {
            return Err(Violation::TooManyRun { key });
        }
        let Some(live) = state.live_attempt(key.task).filter(|live| live.attempt == key.attempt) else {
            return Ok(());
        };
        for (share, instance) in live.allocation.shares.iter().zip(&live.instances) {
            let node = &self.nodes[share.node.0 as usize];
            let was_ready = matches!(instance.state, muster_core::state::InstanceState::Preparing);
            if was_ready && !node.stands(key) {
                return Err(Violation::StartedAlone { key, node: node.name.clone() });
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let state = self.controller.engine.state();
        state.waiting_count() == 0 && state.live_count() == 0
    }

    fn what_is_left(&self) -> String {
        let state = self.controller.engine.state();
        if let Some((key, _, live)) = state.live().next() {
            return format!("{key} is {:?}", live.phase);
        }
        let waiting = plan(state, self.now).waiting;
        waiting
            .into_iter()
            .next()
            .map_or_else(String::new, |(job, waiting)| format!("job {job} waits: {}", waiting.reason))
    }

    fn check_accepted(&self) -> Result<(), Violation> {
        let state = self.controller.engine.state();
        let kept = state.config.policy.finished_jobs_kept;
        match self.accepted.iter().find(|job| !state.jobs.contains_key(job)) {
            Some(job) if self.accepted.len() <= kept => Err(Violation::JobLost { job: *job }),
            _ => Ok(()),
        }
    }
}
