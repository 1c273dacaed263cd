//! A story that the real engine decides, in which everything happens that can be an event.

use std::sync::Arc;

use muster_core::cluster::{ClusterConfig, ElasticNode};
use muster_core::cron::{CronEntry, Crontab, Schedule};
use muster_core::engine::Engine;
use muster_core::event::{Endpoint, Hardware, HardwareCore, Record, Usage};
use muster_core::ids::{AttemptKey, JobId, JobRef, TaskId, TaskIndex, Timestamp};
use muster_core::input::{
    Caller, GoneHow, Input, InstancePhase, InstanceReport, JobChange, NodeChange, PowerReport, Reply,
};
use muster_core::reservation::{ReservationSpec, ReservedNodes, Windows};
use muster_core::spec::JobSpec;
use muster_core::state::{PoolState, Power, State};
use serde_json::{Value, json};

use super::line_story;

pub(super) const ANN: Caller = Caller { uid: 1000, admin: false };
const ROOT: Caller = Caller { uid: 0, admin: true };
const CORES: u32 = 4;

/// The engine, the clock, and every record so far.
pub struct Story {
    engine: Engine,
    now: Timestamp,
    pub records: Vec<Record>,
}

/// A configuration of nodes `n1..=n4`, and one for lines; from JSON, so that later fields have their defaults.
fn config() -> ClusterConfig {
    let node = |i: u32| {
        json!({
            "name": format!("n{i}"), "cores": CORES, "memory_bytes": 8u64 << 30, "wrap_cores": false,
            "features": if i.is_multiple_of(2) { json!(["ib", "intel"]) } else { json!(["intel"]) },
            "gres": [{"name": "gpu", "type": "a100", "count": 2}, {"name": "nic", "count": 1}],
        })
    };
    let names: Vec<String> = (1..=4).map(|i| format!("n{i}")).collect();
    let pool = |name: &str, order: &str, backfill: &str| {
        json!({
            "name": name, "nodes": names, "default": name == "main", "time_default_s": 600,
            "time_max_s": 86_400, "memory_per_core_bytes": null, "fill": "pack", "order": order,
            "backfill": backfill,
        })
    };
    let mut quick = pool("quick", "default", "easy");
    quick["nodes"] = json!([line_story::NODE]);
    let mut config: ClusterConfig = serde_json::from_value(json!({
        "name": "shelf",
        "nodes": (1..=5).map(node).collect::<Vec<_>>(),
        "pools": [pool("main", "default", "easy"), pool("other", "fcfs", "conservative"), quick],
        "switches": [
            {"name": "leaf1", "nodes": ["n1", "n2"], "switches": []},
            {"name": "leaf2", "nodes": ["n3", "n4"], "switches": []},
            {"name": "top", "nodes": [], "switches": ["leaf1", "leaf2"]},
        ],
        "policy": ClusterConfig::default().policy,
    }))
    .unwrap();
    config.policy.requeue_delay_s = 2;
    config.policy.kill_grace_ms = 1000;
    config
}

/// A job of one task on one core with what `more` says.
pub fn spec(name: &str, more: Value) -> JobSpec {
    let mut spec = json!({
        "name": name, "pool": null, "user": {"name": "ann", "uid": ANN.uid, "gid": 1000},
        "script": "#!/bin/sh\necho é\n", "arguments": ["one", "two words"],
        "environment": {"A": "é\n\"quoted\"", "PATH": "/bin"}, "working_directory": "/home/ann",
        "stdin": null, "stdout": "%j.out", "stderr": null, "append": false, "umask": 18,
        "limits": {"nofile": 1024, "stack": u64::MAX}, "submit_host": "head",
        "request": muster_core::spec::Request::default(), "time_limit_s": 600, "array": null,
        "requeue": true, "priority": 0,
    });
    let (Value::Object(spec_fields), Value::Object(more)) = (&mut spec, more) else { panic!("objects") };
    for (key, value) in more {
        match (spec_fields.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => inner.extend(value),
            (_, value) => {
                spec_fields.insert(key, value);
            }
        }
    }
    serde_json::from_value(spec).unwrap()
}

impl Story {
    pub fn new() -> Self {
        Self { engine: Engine::new(State::new()), now: Timestamp(1_700_000_000_000_000), records: Vec::new() }
    }

    pub fn state(&self) -> &State {
        self.engine.state()
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn input(&mut self, input: Input) -> Reply {
        self.inputs(vec![input]).pop().unwrap()
    }

    /// Decides inputs together, in one instant.
    pub(super) fn inputs(&mut self, inputs: Vec<Input>) -> Vec<Reply> {
        self.now = Timestamp(self.now.0 + 1_234);
        let mut records = Vec::new();
        let mut decide = |input: &Input| {
            let applied = self.engine.apply(input, self.now);
            records.extend(applied.records);
            applied.reply.unwrap()
        };
        let replies = inputs.iter().map(&mut decide).collect();
        records.extend(self.engine.pass(self.now).records);
        self.records.extend(Record::gathered(records));
        replies
    }

    pub(super) fn after_s(&mut self, seconds: u64) {
        self.now = self.now.plus_seconds(seconds);
        self.input(Input::Tick);
    }

    fn hello(&mut self, node: u32, held: Vec<InstanceReport>) {
        let core = |i| HardwareCore { package: i / 2, numa: i / 2, l3: i / 2, threads: 1 };
        let hardware = Hardware {
            cores: (0..CORES).map(core).collect(),
            memory_bytes: 8 << 30,
            address: format!("10.0.0.{node}"),
            agent_version: "0.1.0".to_owned(),
            containment: "cgroup_v2".to_owned(),
            ..Hardware::default()
        };
        let (node, boot_id) = (format!("n{node}"), format!("boot-{node}-{}", self.now.0));
        self.input(Input::NodeHello { node, boot_id, hardware: Arc::new(hardware), held });
    }

    pub(super) fn submit(&mut self, name: &str, more: Value) -> JobId {
        let request_key = Some(format!("key of {name}"));
        let input = Input::Submit { caller: ANN, spec: Box::new(spec(name, more)), request_key };
        match self.input(input) {
            Reply::Submitted(job) => job,
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, job: JobId, task: Option<u32>) {
        let target = JobRef { job, task: task.map(TaskIndex) };
        self.input(Input::Cancel { caller: ANN, target });
    }

    fn key(&self, job: JobId, index: u32) -> AttemptKey {
        let task = TaskId { job, index: TaskIndex(index) };
        AttemptKey { task, attempt: self.state().live_attempt(task).expect("the task is live").attempt }
    }

    /// The nodes of an attempt, by instance.
    fn nodes(&self, key: AttemptKey) -> Vec<String> {
        let live = self.state().live_attempt(key.task).unwrap();
        self.state().node_names(&live.allocation).into_iter().map(str::to_owned).collect()
    }

    fn report(&mut self, key: AttemptKey, instance: u32, phase: InstancePhase) {
        let node = self.nodes(key)[instance as usize].clone();
        self.input(Input::NodeReport { node, report: InstanceReport { key, instance, phase } });
    }

    pub(super) fn start(&mut self, job: JobId, index: u32) -> AttemptKey {
        let key = self.key(job, index);
        for (instance, node) in self.nodes(key).into_iter().enumerate() {
            let endpoint = Endpoint { host: node, ssh_port: 2200, ..Endpoint::default() };
            self.report(key, instance as u32, InstancePhase::Ready(endpoint));
        }
        self.report(key, 0, InstancePhase::Running { started_at: self.now });
        key
    }

    pub(super) fn gone(&mut self, key: AttemptKey, instance: u32, how: GoneHow) {
        let usage = Usage { cpu_time_us: 1_500_000, memory_peak_bytes: 1 << 20, ..Usage::default() };
        self.report(key, instance, InstancePhase::Gone { how, usage, started_at: None });
    }

    pub(super) fn exit(&mut self, key: AttemptKey, code: u32, signal: u32, out_of_memory: bool) {
        self.gone(key, 0, GoneHow::Exited { code, signal, out_of_memory });
    }

    /// The nodes come up, jobs run to every kind of end, others wait or are held.
    pub fn first_half(&mut self) {
        self.input(Input::Configure(Arc::new(config())));
        (1..=4).for_each(|node| self.hello(node, Vec::new()));
        let good = self.submit("good", json!({}));
        let key = self.start(good, 0);
        self.exit(key, 0, 0, false);
        let brief = self.submit("brief", json!({}));
        let (how, started_at) =
            (GoneHow::Exited { code: 0, signal: 0, out_of_memory: false }, Some(self.now));
        let usage = Usage { cpu_time_us: 1_500, ..Usage::default() };
        self.report(self.key(brief, 0), 0, InstancePhase::Gone { how, usage, started_at });
        for (name, code, signal, out_of_memory) in
            [("bad", 7, 0, false), ("killed", 0, 9, false), ("fat", 0, 9, true)]
        {
            let job = self.submit(name, json!({"request": {"gres_per_node": [{"name": "gpu", "count": 1}]}}));
            let key = self.start(job, 0);
            self.exit(key, code, signal, out_of_memory);
        }
        let gang = self.submit("gang", json!({"request": {"nodes": 2, "ranks": 8, "ranks_per_node": 4}}));
        let key = self.start(gang, 0);
        self.exit(key, 0, 0, false);
        self.gone(key, 1, GoneHow::Stopped);
        let broken = self.submit("broken", json!({"requeue": false}));
        let key = self.start(broken, 0);
        self.gone(key, 0, GoneHow::Broken { reason: "the supervisor was killed".to_owned() });
        let launch = self.submit("launch", json!({}));
        let key = self.key(launch, 0);
        let reason = "/home/ann: no such directory".to_owned();
        self.gone(key, 0, GoneHow::PrepareFailed { reason, node_at_fault: false });
        let slow = self.submit("slow", json!({"time_limit_s": 60, "mail": {"events": ["time_limit_50"]}}));
        let key = self.start(slow, 0);
        self.after_s(31);
        self.after_s(30);
        self.gone(key, 0, GoneHow::Stopped);
        let stopped = self.submit("stopped", json!({}));
        let key = self.start(stopped, 0);
        self.cancel(stopped, None);
        self.gone(key, 0, GoneHow::Stopped);
        let array = json!({"indices": [{"first": 0, "last": 99_999, "step": 1}], "running_max": 3});
        let array = self.submit("array", json!({"array": array}));
        self.start(array, 0);
        let key = self.start(array, 1);
        self.exit(key, 0, 0, false);
        self.cancel(array, Some(77_000));
    }

    /// Nodes fail, are held and come back; jobs wait for other jobs and for instants, and some for nothing.
    pub fn second_half(&mut self) {
        self.lines();
        let due = Timestamp(self.now.0 + 30_000_000);
        let due = self.submit("due", json!({"eligibility": {"deadline": due}, "time_limit_s": 10}));
        let key = self.start(due, 0);
        self.after_s(31);
        self.gone(key, 0, GoneHow::Stopped);
        let held = self.submit("held", json!({"eligibility": {"hold": true}, "priority": -5}));
        let other = self.submit("other", json!({"pool": "other", "request": {"nodelist": ["n4"]}}));
        let key = self.start(other, 0);
        self.input(Input::NodeSilent { node: "n4".to_owned(), reason: "it was silent for 5 s".to_owned() });
        let phase = InstancePhase::Running { started_at: self.now };
        self.hello(4, vec![InstanceReport { key, instance: 0, phase }]);
        let (how, usage) = (GoneHow::Stopped, Usage::default());
        let phase = InstancePhase::Gone { how, usage, started_at: None };
        let report = InstanceReport { key, instance: 0, phase };
        self.input(Input::NodeReport { node: "n4".to_owned(), report });
        self.after_s(3);
        let key = self.key(other, 0);
        let reason = "no space left on device".to_owned();
        self.gone(key, 0, GoneHow::PrepareFailed { reason, node_at_fault: true });
        for problem in [Some("it is hot".to_owned()), None] {
            self.input(Input::NodeHealth { node: "n1".to_owned(), problem });
        }
        self.changes();
        for state in [PoolState::Drain, PoolState::Up] {
            self.input(Input::ChangePool { caller: ROOT, pool: "other".to_owned(), state });
        }
        self.reservations();
        self.crontabs();
        for change in [NodeChange::Drain { reason: "a fan".to_owned(), for_s: None }, NodeChange::Resume] {
            self.input(Input::ChangeNodes { caller: ROOT, nodes: vec!["n2".to_owned()], change });
        }
        let late = Timestamp(self.now.0 + 100_000_000);
        let late = json!({"eligibility": {"deadline": late, "hold": true}, "time_limit_s": 60});
        self.submit("late", late);
        self.after_s(50);
        let never =
            json!({"eligibility": {"dependency": format!("afterok:{held}"), "cancel_unfulfillable": true}});
        self.submit("never", never);
        let whenever = json!({"eligibility": {"dependency": format!("afterany:{held}")}});
        self.submit("whenever", whenever);
        let whole = JobRef { job: held, task: None };
        self.input(Input::HoldJob { caller: ROOT, target: whole });
        self.input(Input::ReleaseJob { caller: ROOT, target: whole });
        self.cancel(held, None);
        let array = json!({"indices": [{"first": 0, "last": 3, "step": 1}]});
        let partly = self.submit("partly held", json!({"array": array, "eligibility": {"hold": true}}));
        for (index, is_held) in [(1, true), (2, false)] {
            let target = JobRef { job: partly, task: Some(TaskIndex(index)) };
            self.input(if is_held {
                Input::HoldJob { caller: ROOT, target }
            } else {
                Input::ReleaseJob { caller: ROOT, target }
            });
        }
        self.after_s(1);
        let begin = Timestamp(self.now.0 + 3_600_000_000);
        self.submit("tomorrow", json!({"eligibility": {"begin": begin}}));
        let wide = json!({"nodes": 4, "ranks": 16, "ranks_per_node": 4, "switches": {"switches_max": 2}});
        let wide = self.submit("wide", json!({"request": wide}));
        self.cancel(wide, None);
        self.batch();
        self.power();
    }

    /// A node that nobody wants is taken down, at the second try.
    fn power(&mut self) {
        let mut config = (**self.state().declared_config()).clone();
        config.nodes[1].elastic = Some(ElasticNode { up_timeout_s: 60, idle_s: 0 });
        self.input(Input::Configure(Arc::new(config)));
        self.hello(2, Vec::new());
        self.after_s(1);
        for problem in [Some("no answer".to_owned()), None] {
            let Some(Power::PoweringDown { since: asked, .. }) = self.state().nodes[1].power else {
                panic!("{:?}", self.state().nodes[1]);
            };
            let report = PowerReport { asked, problem };
            self.input(Input::NodePower { node: "n2".to_owned(), report });
        }
    }

    /// Jobs change after they were accepted: by themselves, by their owner, and by an admin.
    fn changes(&mut self) {
        let signal = json!({"signal": 10, "before_s": 50, "to": "script"});
        let again = self.submit("again", json!({"time_limit_s": 60, "signal": signal}));
        let key = self.start(again, 0);
        self.after_s(11);
        let target = JobRef { job: again, task: None };
        self.input(Input::Requeue { caller: ANN, target, hold: true });
        self.gone(key, 0, GoneHow::Stopped);
        let change =
            Box::new(JobChange { priority: Some(7), time_limit_s: Some(90), ..JobChange::default() });
        self.input(Input::UpdateJob { caller: ROOT, job: again, change });
    }

    /// Jobs recur: one is stopped for good, and the other goes on.
    fn crontabs(&mut self) {
        let user = spec("cron", json!({})).user;
        let entry = |line: u32, schedule: &str| CronEntry {
            first_line: line,
            last_line: line,
            schedule: Schedule::read(schedule).unwrap(),
            spec: Arc::new(spec("cron", json!({}))),
        };
        let entries = vec![entry(1, "*/5 8-18 * * mon-fri"), entry(2, "@yearly")];
        let crontab = Crontab {
            user: (*user).clone(),
            text: "*/5 8-18 * * mon-fri true\n@yearly true\n".to_owned(),
            entries,
        };
        self.input(Input::SetCrontab { caller: ANN, uid: ANN.uid, crontab: Some(Box::new(crontab)) });
        self.input(Input::Tick);
        let last = JobId(self.state().next_job - 1);
        self.input(Input::StopCron { caller: ANN, target: JobRef { job: last, task: None } });
    }

    /// Nodes are kept for a while: for one whose window ends, and for one that is taken back.
    fn reservations(&mut self) {
        for (name, duration_s) in [("course", 5), ("works", 600)] {
            let spec = ReservationSpec {
                name: name.to_owned(),
                nodes: ReservedNodes::List(["n3".to_owned()].into()),
                windows: Windows { start: self.now.plus_seconds(5), duration_s, repeat: None },
                users: Default::default(),
                accounts: Default::default(),
                maintenance: true,
                ignore_running: true,
                comment: String::new(),
            };
            self.input(Input::MakeReservation { caller: ROOT, spec: Box::new(spec) });
        }
        self.after_s(11);
        self.input(Input::RemoveReservation { caller: ROOT, name: "works".to_owned() });
    }
}
