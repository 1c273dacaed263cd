//! A scenario's cluster in virtual time, and the transcript of what happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use muster_core::cluster::ClusterConfig;
use muster_core::engine::Engine;
use muster_core::event::{Endpoint, Hardware, HardwareCore, Usage};
use muster_core::ids::{AttemptKey, JobId, JobRef, NodeId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{
    Caller, Effect, GoneHow, Input, InstancePhase, InstanceReport, NodeChange, Refusal, Reply,
};
use muster_core::notation;
use muster_core::state::State;

use super::narrate;
use super::parse::{Line, ScenarioError};
use super::settings::{self, Cluster};

pub(super) const ADMIN: Caller = Caller { uid: 0, admin: true };
/// User id of the first user that a scenario names.
const FIRST_UID: u32 = 1000;

/// How the script of a job behaves.
#[derive(Clone, Copy)]
struct Script {
    /// How long it runs, in seconds; for ever without.
    run_s: Option<u64>,
    /// Its exit code.
    code: u32,
    /// How long it goes on after SIGTERM, in seconds.
    saves_s: u64,
}

/// The cluster with everything around the engine.
pub(super) struct World {
    pub engine: Engine,
    pub now: Timestamp,
    pub names: BTreeMap<JobId, String>,
    config: ClusterConfig,
    places: Vec<Vec<HardwareCore>>,
    users: Vec<String>,
    scripts: BTreeMap<JobId, Script>,
    ends: BTreeSet<(Timestamp, AttemptKey)>,
    /// When instances that were told to stop are gone.
    stops: BTreeSet<(Timestamp, NodeId, AttemptKey)>,
    /// Nodes that cannot be reached.
    away: BTreeSet<NodeId>,
    effects: VecDeque<Effect>,
    /// What the last command was answered with.
    pub refusal: Option<Refusal>,
    pub transcript: String,
}

impl World {
    /// Brings the cluster up, all nodes of it.
    pub fn new(cluster: Cluster) -> Result<Self, ScenarioError> {
        let mut world = Self {
            engine: Engine::new(State::new()),
            now: Timestamp(0),
            names: BTreeMap::new(),
            config: cluster.config,
            places: cluster.places,
            users: Vec::new(),
            scripts: BTreeMap::new(),
            ends: BTreeSet::new(),
            stops: BTreeSet::new(),
            away: BTreeSet::new(),
            effects: VecDeque::new(),
            refusal: None,
            transcript: String::new(),
        };
        world.apply(&Input::Configure(Arc::new(world.config.clone())));
        for node in 0..world.config.nodes.len() {
            world.hello(node);
        }
        world.transcript.clear();
        Ok(world)
    }

    pub fn echo(&mut self, raw: &str) {
        self.transcript.push_str(raw);
        self.transcript.push('\n');
    }

    pub fn say(&mut self, text: &str) {
        let clock = notation::format_time_s(self.now.seconds());
        self.transcript.push_str(&format!("    {clock}  {text}\n"));
    }

    pub fn into_transcript(self) -> String {
        self.transcript
    }

    /// Does what a line says.
    pub fn step(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        match line.verb {
            "submit" => self.submit(line)?,
            "cancel" => {
                line.only(1, &[])?;
                let target = self.job_ref(line, line.subject("a job")?)?;
                self.command(&Input::Cancel { caller: ADMIN, target });
            }
            "end" => {
                line.only(1, &["code"])?;
                let task = self.task(line, line.subject("a task")?)?;
                let code = line.number("code")?.unwrap_or(0);
                let attempt = self.engine.state().live_attempt(task).map(|live| live.attempt);
                let attempt = attempt.ok_or_else(|| line.wrong("the task does not run"))?;
                self.exit(AttemptKey { task, attempt }, code);
            }
            "reserve" | "unreserve" => self.reserve(line)?,
            "after" | "at" => self.pass_time(line)?,
            "fail" | "return" => self.node_step(line)?,
            "drain" | "down" | "resume" => self.admin_step(line)?,
            "why" | "queue" | "shares" | "show" | "expect" => return self.ask(line),
            other if line.is_setup() => {
                return Err(line.wrong(format!("'{other}' comes before everything that happens")));
            }
            other => {
                return Err(line.wrong(format!(
                    "'{other}' is not one of submit, cancel, end, after, at, fail, return, drain, down, resume, \
                     reserve, unreserve, why, queue, shares, show and expect"
                )));
            }
        }
        self.settle();
        let broken = self.engine.state().check_invariants();
        broken.map_err(|source| ScenarioError::Invariant { line: line.number, source })
    }

    fn submit(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        let mut spec = settings::job(line)?;
        if self.names.values().any(|name| *name == spec.name) {
            return Err(line.wrong(format!("there is a job '{}' already", spec.name)));
        }
        let user = self.users.iter().position(|user| *user == spec.user.name).unwrap_or_else(|| {
            self.users.push(spec.user.name.clone());
            self.users.len() - 1
        });
        spec.user.uid = FIRST_UID + user as u32;
        let script = Script {
            run_s: line.seconds("run")?,
            code: line.number("code")?.unwrap_or(0),
            saves_s: line.seconds("saves")?.unwrap_or(0),
        };
        let caller = Caller { uid: spec.user.uid, admin: spec.priority > 0 };
        let name = spec.name.clone();
        let input = Input::Submit { caller, spec: Box::new(spec), request_key: None };
        if let Some(Reply::Submitted(job)) = self.command(&input) {
            self.say(&format!("{name} is job {job}"));
            self.names.insert(job, name);
            self.scripts.insert(job, script);
        }
        Ok(())
    }

    fn node_step(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        line.only(1, &[])?;
        let names = line.to_hosts(line.subject("nodes")?)?;
        for name in names {
            let node = self.engine.state().node_by_name(&name);
            let node = node.ok_or_else(|| line.wrong(format!("there is no node '{name}'")))?;
            match line.verb {
                "fail" => {
                    self.away.insert(node);
                    self.apply(&Input::NodeSilent { node: name, reason: "it is silent".to_owned() });
                }
                _ => {
                    self.away.remove(&node);
                    self.hello(node.0 as usize);
                }
            }
        }
        Ok(())
    }

    /// An admin drains nodes, takes them down or lets them go on.
    fn admin_step(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        let (words, keys): (usize, &[&str]) = if line.verb == "resume" { (1, &[]) } else { (100, &["for"]) };
        line.only(words, keys)?;
        let nodes = line.to_hosts(line.subject("nodes")?)?;
        let reason = || line.words[1..].join(" ");
        let change = match line.verb {
            "drain" => NodeChange::Drain { reason: reason(), for_s: line.seconds("for")? },
            "down" => NodeChange::Down { reason: reason(), for_s: line.seconds("for")? },
            _ => NodeChange::Resume,
        };
        self.command(&Input::ChangeNodes { caller: ADMIN, nodes, change });
        Ok(())
    }

    /// A node says hello after a reboot: it holds nothing.
    fn hello(&mut self, node: usize) {
        let declared = &self.config.nodes[node];
        let hardware = Hardware {
            cores: self.places[node].clone(),
            memory_bytes: declared.memory_bytes,
            ..Hardware::default()
        };
        let input = Input::NodeHello {
            node: declared.name.clone(),
            boot_id: self.now.0.to_string(),
            hardware: Arc::new(hardware),
            held: Vec::new(),
        };
        self.apply(&input);
    }

    /// Lets time pass, instant by instant: ends, then what is due, then a pass.
    fn pass_time(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        line.only(1, &[])?;
        let seconds = line.to_seconds(line.subject("a time")?)?;
        let until = match line.verb {
            "after" => self.now.plus_seconds(seconds),
            _ => Timestamp(0).plus_seconds(seconds),
        };
        if until < self.now {
            return Err(line.wrong("that instant has passed"));
        }
        loop {
            let wake = self.engine.next_wake().filter(|at| *at > self.now);
            let end = self.ends.first().map(|(at, _)| *at);
            let stop = self.stops.first().map(|(at, ..)| *at);
            let next = [wake, end, stop].into_iter().flatten().min().filter(|at| *at <= until);
            self.now = next.unwrap_or(until);
            while let Some((_, key)) = self.ends.first().copied().filter(|(at, _)| *at <= self.now) {
                let code = self.scripts.get(&key.task.job).map_or(0, |script| script.code);
                self.exit(key, code);
            }
            while let Some((_, node, key)) = self.stops.first().copied().filter(|(at, ..)| *at <= self.now) {
                self.stops.pop_first();
                self.stopped(node, key);
            }
            self.apply(&Input::Tick);
            self.settle();
            if next.is_none() {
                return Ok(());
            }
        }
    }

    /// The script of an attempt exits.
    fn exit(&mut self, key: AttemptKey, code: u32) {
        self.ends.retain(|(_, other)| *other != key);
        let how = GoneHow::Exited { code, signal: 0, out_of_memory: false };
        let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
        let live = self.engine.state().live_attempt(key.task);
        let Some(node) = live.and_then(|live| live.allocation.shares.first()).map(|share| share.node) else {
            return;
        };
        self.report(node, key, 0, phase);
        self.nodes_obey();
    }

    /// A command of a user or an admin.
    pub fn command(&mut self, input: &Input) -> Option<Reply> {
        self.refusal = None;
        self.apply(input)
    }

    /// Applies an input; a refusal is told.
    fn apply(&mut self, input: &Input) -> Option<Reply> {
        let applied = self.engine.apply(input, self.now);
        self.tell(&applied.records);
        self.effects.extend(applied.effects);
        match applied.reply {
            Ok(reply) => Some(reply),
            Err(refusal) => {
                self.say(&format!("refused: {refusal}"));
                self.refusal = Some(refusal);
                None
            }
        }
    }

    fn report(&mut self, node: NodeId, key: AttemptKey, instance: u32, phase: InstancePhase) {
        let node = self.engine.state().node(node).name.clone();
        self.apply(&Input::NodeReport { node, report: InstanceReport { key, instance, phase } });
    }

    fn tell(&mut self, records: &[muster_core::event::Record]) {
        for event in records.iter().flat_map(|record| record.event.parts()) {
            if let Some(text) = narrate::event(self.engine.state(), &self.names, &event) {
                self.say(&text);
            }
        }
    }

    /// Passes until nothing starts any more.
    fn settle(&mut self) {
        loop {
            self.nodes_obey();
            let applied = self.engine.pass(self.now);
            self.tell(&applied.records);
            self.effects.extend(applied.effects);
            if self.effects.is_empty() {
                return;
            }
        }
    }

    /// Nodes that can be reached obey at once.
    fn nodes_obey(&mut self) {
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Prepare { node, key, instance, .. } if !self.away.contains(&node) => {
                    self.report(node, key, instance, InstancePhase::Ready(Endpoint::default()));
                }
                Effect::Go { node, key, .. } if !self.away.contains(&node) => self.go(node, key),
                Effect::Stop { node, key, grace_ms, .. } if !self.away.contains(&node) => {
                    self.ends.retain(|(_, other)| *other != key);
                    let saves_s = self.scripts.get(&key.task.job).map_or(0, |script| script.saves_s);
                    match saves_s.min(u64::from(grace_ms) / 1000) {
                        0 => self.stopped(node, key),
                        seconds => {
                            self.stops.insert((self.now.plus_seconds(seconds), node, key));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Nothing of an instance is left.
    fn stopped(&mut self, node: NodeId, key: AttemptKey) {
        let live = self.engine.state().live_attempt(key.task);
        let instance = live.and_then(|live| live.allocation.instance_on(node)).unwrap_or(0);
        let how = GoneHow::Stopped;
        let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
        self.report(node, key, instance, phase);
    }

    /// The primary's script starts.
    fn go(&mut self, node: NodeId, key: AttemptKey) {
        let live = self.engine.state().live_attempt(key.task);
        if live.and_then(|live| live.allocation.instance_on(node)) != Some(0) {
            return;
        }
        self.report(node, key, 0, InstancePhase::Running { started_at: self.now });
        if let Some(run_s) = self.scripts.get(&key.task.job).and_then(|script| script.run_s) {
            self.ends.insert((self.now.plus_seconds(run_s), key));
        }
    }

    /// The job or task that a word names: `A` or `A_3`.
    pub fn job_ref(&self, line: &Line<'_>, word: &str) -> Result<JobRef, ScenarioError> {
        let job = |name: &str| self.names.iter().find(|(_, known)| *known == name).map(|(job, _)| *job);
        if let Some(job) = job(word) {
            return Ok(JobRef { job, task: None });
        }
        let task = word.rsplit_once('_').and_then(|(name, index)| {
            Some(JobRef { job: job(name)?, task: Some(TaskIndex(index.parse().ok()?)) })
        });
        task.ok_or_else(|| line.wrong(format!("there is no job or task '{word}'")))
    }

    /// The task that a word names; the only one of a job without an array.
    pub fn task(&self, line: &Line<'_>, word: &str) -> Result<TaskId, ScenarioError> {
        let target = self.job_ref(line, word)?;
        Ok(TaskId { job: target.job, index: target.task.unwrap_or(TaskIndex(0)) })
    }
}
