//! The part of the story that the batch service tells.

use std::sync::Arc;

use muster_core::batch::{
    AutoPool, BatchCaller, BatchCommand, BatchInput, BatchJobKey, BatchJobSpec, BatchPoolKey, BatchPoolSpec,
    ChoreSpec, Condition, Deallocation, DependsOn, Disable, Flows, FoldedId, IdRange, ImageName, Mount,
    NewTask, NodeReading, NodeUse, PackageDigest, PackageReference, PoolContainers, PoolLifetime,
    PoolReadings, PoolSetup, Retries, ScheduleSpec, ScheduleTimes, SetupError, TaskShape,
};
use muster_core::cluster::Fill;
use muster_core::ids::{JobId, NodeId, TaskIndex};
use muster_core::input::{GoneHow, Input};
use muster_core::spec::User;
use muster_core::staging::Staging;

use super::story::Story;

fn caller() -> BatchCaller {
    let user = User { name: "ann".to_owned(), uid: 1000, gid: 1000 };
    BatchCaller { account: "lab".into(), user }
}

fn id(text: &str) -> FoldedId {
    FoldedId::of(text)
}

fn job_spec(name: &str) -> BatchJobSpec {
    BatchJobSpec {
        id: name.to_owned(),
        pool: id("Pool"),
        schedule: None,
        priority: 10,
        auto_pool: None,
        yields: false,
        running_max: None,
        wall_clock_max_s: Some(86_400),
        retries: Retries::AtMost(1),
        uses_dependencies: true,
        terminate_when_complete: false,
        acts_on_failure: false,
        environment: vec![("A".to_owned(), "b".to_owned())],
        manager: None,
        preparation: None,
        release: None,
        said: r#"{"displayName":"é"}"#.into(),
    }
}

fn shape() -> TaskShape {
    TaskShape {
        user: caller().user,
        slots: 1,
        multi_instance: None,
        wall_clock_max_s: Some(600),
        retries: None,
        staging: Staging { retention_s: 60, ..Staging::default() },
        packages: Vec::new(),
        container: None,
        environment: Vec::new(),
        near: None,
        dedicated: false,
        token: false,
        exclusive: false,
        exits: Default::default(),
        said: "{}".into(),
    }
}

impl Story {
    fn ask(&mut self, command: BatchCommand) {
        self.input(Input::Batch(Box::new(BatchInput {
            caller: caller(),
            command,
            condition: Condition::default(),
        })));
        self.due();
    }

    /// What follows at once, as the shell lets it.
    fn due(&mut self) {
        while self.state().batch_wake().is_some_and(|at| at <= self.now()) {
            self.input(Input::Tick);
        }
    }

    fn made(&self, job: &str, task: &str) -> JobId {
        let key = BatchJobKey { account: "lab".into(), job: id(job) };
        self.state().batch_job(&key).unwrap().tasks[&id(task)].state.made().unwrap().job
    }

    /// The chore that a node has now comes to its end.
    fn end_chore(&mut self, node: NodeId, code: u32) {
        let job = self.state().batch_chores_on(node).next().unwrap().0;
        let key = self.start(job, 0);
        self.exit(key, code, 0, false);
        self.due();
    }

    /// A pool whose nodes are made ready, and a job that makes them ready once more.
    fn chores(&mut self) {
        let chore = |name: &str| {
            Some(Arc::new(ChoreSpec {
                user: caller().user,
                id: name.to_owned(),
                command: "true".into(),
                wall_clock_max_s: Some(60),
                retries: Retries::AtMost(1),
                waits: true,
                reruns: true,
                staging: Staging::default(),
                container: None,
                environment: vec![("A".to_owned(), "b".to_owned())],
            }))
        };
        let key = BatchPoolKey { account: "lab".into(), pool: id("pool") };
        let before = (*self.state().batch_pool(&key).unwrap().spec).clone();
        let started = BatchPoolSpec { start: chore(""), ..before.clone() };
        self.ask(BatchCommand::UpdatePool { pool: id("pool"), spec: Box::new(started) });
        let resize = |target: u32| BatchCommand::ResizePool {
            pool: id("pool"),
            target: target.into(),
            timeout_s: 300,
            how: Deallocation::Requeue,
        };
        let nodes = self.state().batch_pool(&key).unwrap().nodes.len() as u32;
        self.ask(resize(0));
        self.ask(resize(nodes));
        let node = *self.state().batch_pool(&key).unwrap().nodes.keys().next().unwrap();
        self.end_chore(node, 1);
        self.end_chore(node, 0);
        let spec =
            BatchJobSpec { preparation: chore("before"), release: chore("after"), ..job_spec("chores") };
        self.ask(BatchCommand::CreateJob { spec: Box::new(spec) });
        let task = NewTask { id: "t".to_owned(), command: "true".into(), shape: 0, depends: None };
        self.ask(BatchCommand::AddTasks {
            job: id("chores"),
            shapes: vec![Arc::new(shape())],
            tasks: vec![task],
        });
        self.end_chore(node, 0);
        self.ask(BatchCommand::TerminateJob { job: id("chores"), reason: None });
        let made = self.made("chores", "t");
        let attempt = self.state().jobs[&made].live.values().next().unwrap().key(made, TaskIndex(0));
        self.gone(attempt, 0, GoneHow::Stopped);
        self.due();
        self.end_chore(node, 0);
        self.ask(BatchCommand::UpdatePool { pool: id("pool"), spec: Box::new(before.clone()) });
        // What the task has left there is kept for a minute.
        let (target, how) = (0.into(), Deallocation::RetainedData);
        self.ask(BatchCommand::ResizePool { pool: id("pool"), target, timeout_s: 300, how });
        self.after_s(61);
        self.due();
        self.ask(resize(nodes));
        let pool = BatchPoolSpec { home: "nowhere".to_owned(), ..before };
        let own = AutoPool {
            prefix: String::new(),
            pool,
            target: 1,
            target_low: 0,
            timeout_s: 300,
            scaling: None,
            lifetime: PoolLifetime::Job,
            keep_alive: false,
        };
        let spec = BatchJobSpec { auto_pool: Some(Box::new(own)), ..job_spec("lost") };
        self.ask(BatchCommand::CreateJob { spec: Box::new(spec) });
    }

    /// Packages that come and go, and a node that is set up with one at the second try.
    fn packages(&mut self) {
        for (version, digit) in [("1", "a"), ("2", "b")] {
            self.ask(BatchCommand::AddPackage {
                application: "Render".to_owned(),
                version: version.to_owned(),
                digest: PackageDigest::try_from(digit.repeat(64)).unwrap(),
                bytes: 7,
                default: version == "1",
            });
        }
        self.ask(BatchCommand::RemovePackage { application: id("render"), version: id("2") });
        let key = BatchPoolKey { account: "lab".into(), pool: id("pool") };
        let before = (*self.state().batch_pool(&key).unwrap().spec).clone();
        let packages = vec![PackageReference { application: "render".to_owned(), version: None }];
        let mounts = vec![Mount::parse("nas:/export", "data", "ro").unwrap()];
        let containers = Some(PoolContainers { images: vec![ImageName::parse("debian:12").unwrap()] });
        let setup = PoolSetup { packages, mounts, containers };
        self.ask(BatchCommand::UpdatePool {
            pool: id("pool"),
            spec: Box::new(BatchPoolSpec { setup, ..before.clone() }),
        });
        let nodes = self.state().batch_pool(&key).unwrap().nodes.len() as u32;
        for target in [0, nodes] {
            let (pool, how) = (id("pool"), Deallocation::Requeue);
            self.ask(BatchCommand::ResizePool { pool, target: target.into(), timeout_s: 300, how });
        }
        let all: Vec<NodeId> = self.state().batch_pool(&key).unwrap().nodes.keys().copied().collect();
        let error = SetupError { code: "MountConfigurationError".to_owned(), message: "no".to_owned() };
        for errors in [vec![error], Vec::new()] {
            for node in &all {
                let number = self.state().batch_setup_of(*node).unwrap().number;
                let (node, errors) = (self.state().node(*node).name.clone(), errors.clone());
                self.input(Input::NodeSetUp { node, number, errors });
            }
        }
        self.due();
        self.ask(BatchCommand::UpdatePool { pool: id("pool"), spec: Box::new(before) });
    }

    /// A schedule that makes a job, misses a time, and goes with what it has made.
    fn schedules(&mut self) {
        let spec = |interval_s| {
            let times = ScheduleTimes { interval_s, window_s: Some(60), ..ScheduleTimes::default() };
            let (job, said) = (Arc::new(job_spec("")), "{}".into());
            Box::new(ScheduleSpec { id: "Night".to_owned(), times, job, said })
        };
        let schedule = id("night");
        self.ask(BatchCommand::CreateSchedule { spec: spec(Some(100)) });
        self.ask(BatchCommand::DisableSchedule { schedule: schedule.clone() });
        self.ask(BatchCommand::EnableSchedule { schedule: schedule.clone() });
        self.after_s(190);
        self.ask(BatchCommand::TerminateJob { job: id("night:job-1"), reason: None });
        self.ask(BatchCommand::UpdateSchedule { schedule: schedule.clone(), spec: spec(Some(1_000)) });
        self.ask(BatchCommand::TerminateSchedule { schedule: schedule.clone() });
        self.ask(BatchCommand::DeleteSchedule { schedule });
    }

    fn pool_lives(&mut self) {
        let spec = BatchPoolSpec {
            id: "Pool".to_owned(),
            home: "other".to_owned(),
            slots_per_node: 2,
            fill: Fill::Spread,
            inter_node: false,
            start: None,
            setup: Default::default(),
            said: "{}".into(),
        };
        self.ask(BatchCommand::CreatePool {
            spec: Box::new(spec.clone()),
            target: 2.into(),
            timeout_s: 300,
            scaling: None,
        });
        self.after_s(301);
        self.due();
        let said = r#"{"metadata":[]}"#.into();
        self.ask(BatchCommand::UpdatePool {
            pool: id("pool"),
            spec: Box::new(BatchPoolSpec { said, ..spec }),
        });
        self.uses();
    }

    /// The pool's nodes tell what they use.
    fn uses(&mut self) {
        let flows =
            Flows { disk_read_bytes: 4096, disk_reads: 1, network_in_bytes: 1500, ..Flows::default() };
        let used = NodeUse {
            period_ms: 30_000,
            busy_ms: 12_345,
            memory_bytes: 1 << 28,
            memory_peak_bytes: 1 << 29,
            disk_bytes: 1 << 33,
            disk_peak_bytes: 1 << 33,
            flows,
        };
        let key = BatchPoolKey { account: "lab".into(), pool: id("pool") };
        let nodes = self.state().batch_pool(&key).unwrap().nodes.keys();
        let nodes = nodes.map(|node| NodeReading { node: *node, recent: used, since: used }).collect();
        self.input(Input::PoolUsed(Box::new(PoolReadings { pool: key, nodes, left: Vec::new() })));
    }

    /// A pool, and jobs whose tasks come to every kind of end.
    pub(super) fn batch(&mut self) {
        self.pool_lives();
        self.packages();
        self.chores();
        self.schedules();
        let key = BatchPoolKey { account: "lab".into(), pool: id("pool") };
        let node = *self.state().batch_pool(&key).unwrap().nodes.keys().next().unwrap();
        let node = self.state().node(node).name.clone();
        self.ask(BatchCommand::CreateJob { spec: Box::new(job_spec("Job")) });
        let shape = Arc::new(shape());
        let task =
            |name: &str| NewTask { id: name.to_owned(), command: "true".into(), shape: 0, depends: None };
        let depends = DependsOn { ids: vec!["never".to_owned()], ranges: vec![IdRange { start: 1, end: 3 }] };
        let tasks = vec![
            task("Good"),
            task("bad"),
            task("gone"),
            NewTask { depends: Some(Box::new(depends)), ..task("waits") },
        ];
        self.ask(BatchCommand::AddTasks { job: id("job"), shapes: vec![Arc::clone(&shape)], tasks });
        let key = self.start(self.made("job", "good"), 0);
        self.exit(key, 0, 0, false);
        self.due();
        for _ in 0..2 {
            let key = self.start(self.made("job", "bad"), 0);
            self.exit(key, 3, 0, false);
            self.due();
        }
        self.ask(BatchCommand::ReactivateTask { job: id("job"), task: id("bad") });
        let waits = |shape| BatchCommand::UpdateTask { job: id("job"), task: id("waits"), shape };
        self.ask(waits(Arc::new(TaskShape { wall_clock_max_s: None, ..(*shape).clone() })));
        let key = self.start(self.made("job", "gone"), 0);
        self.ask(BatchCommand::TerminateTask { job: id("job"), task: id("gone") });
        self.gone(key, 0, GoneHow::Stopped);
        self.due();
        self.ask(BatchCommand::DeleteTask { job: id("job"), task: id("gone") });
        self.ask(BatchCommand::UpdateJob {
            job: id("job"),
            spec: Box::new(BatchJobSpec { priority: 11, ..job_spec("Job") }),
        });
        let key = self.start(self.made("job", "bad"), 0);
        self.ask(BatchCommand::DisableJob { job: id("job"), how: Disable::Requeue });
        self.gone(key, 0, GoneHow::Stopped);
        self.due();
        self.ask(BatchCommand::EnableJob { job: id("job") });
        for name in ["Short", "Done"] {
            self.ask(BatchCommand::CreateJob { spec: Box::new(job_spec(name)) });
            self.ask(BatchCommand::TerminateJob { job: id(name), reason: None });
        }
        self.ask(BatchCommand::DeleteJob { job: id("short") });
        let how = Some(Deallocation::TaskCompletion);
        for disable in [how, None] {
            self.ask(BatchCommand::ScheduleNode { pool: id("pool"), node: node.clone(), disable });
        }
        let spec = BatchPoolSpec {
            id: "brief".to_owned(),
            home: "main".to_owned(),
            slots_per_node: 1,
            fill: Fill::Pack,
            inter_node: true,
            start: None,
            setup: Default::default(),
            said: "{}".into(),
        };
        self.ask(BatchCommand::CreatePool {
            spec: Box::new(spec),
            target: 0.into(),
            timeout_s: 300,
            scaling: None,
        });
        let formula = Some("$TargetDedicatedNodes = 0".into());
        self.ask(BatchCommand::EnableScaling { pool: id("brief"), formula, interval_s: None });
        self.due();
        self.ask(BatchCommand::DisableScaling { pool: id("brief") });
        self.ask(BatchCommand::DeletePool { pool: id("brief") });
    }
}
