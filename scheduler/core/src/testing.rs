//! Builders for tests: a scenario reads like the story it tells.

use std::sync::Arc;

use crate::cluster::{
    AccountConfig, Backfill, ClusterConfig, Fill, NodeConfig, Order, PoolConfig, Preempt, QosConfig,
    SwitchConfig,
};
use crate::engine::{Applied, Engine};
use crate::event::{Endpoint, Hardware, HardwareCore, Record, Usage};
use crate::ids::{AttemptKey, JobId, JobRef, TaskId, TaskIndex, Timestamp};
use crate::input::{
    Caller, Effect, GoneHow, Input, InstancePhase, InstanceReport, MadeReservation, NodeChange, Refusal,
    Reply,
};
use crate::reservation::{Repeat, ReservationSpec, ReservedNodes, Windows};
use crate::spec::{ArraySpec, IndexRange, JobSpec, Memory, User};
use crate::state::{Finished, State};

/// An ordinary user.
pub const ANN: Caller = Caller { uid: 1000, admin: false };
/// Another one.
pub const BOB: Caller = Caller { uid: 1001, admin: false };
/// An admin.
pub const ROOT: Caller = Caller { uid: 0, admin: true };

/// One GiB, in bytes.
pub const GIB: u64 = 1 << 30;

/// A configuration with one pool `main` over nodes `n1..` with these numbers of cores and 1 GiB for each core.
#[must_use]
pub fn config(cores: &[u32]) -> ClusterConfig {
    let nodes: Vec<NodeConfig> = cores
        .iter()
        .enumerate()
        .map(|(i, &cores)| NodeConfig {
            name: format!("n{}", i + 1),
            cores,
            memory_bytes: u64::from(cores) * GIB,
            ..NodeConfig::default()
        })
        .collect();
    let pool = PoolConfig {
        name: "main".to_owned(),
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
        default: true,
        time_default_s: 3600,
        time_max_s: 7 * 86_400,
        order: Order::Fcfs,
        backfill: Backfill::Easy,
        ..PoolConfig::default()
    };
    ClusterConfig { name: "test".to_owned(), nodes, pools: vec![pool], ..ClusterConfig::default() }
}

/// A declared account with its users and their shares.
#[must_use]
pub fn account(name: &str, parent: Option<&str>, shares: u32, users: &[(&str, u32)]) -> AccountConfig {
    let users = users.iter().map(|(user, shares)| ((*user).to_owned(), *shares)).collect();
    AccountConfig { name: name.to_owned(), parent: parent.map(str::to_owned), shares, users }
}

/// A declared quality of service that adds `priority`.
#[must_use]
pub fn qos(name: &str, priority: i32) -> QosConfig {
    QosConfig { name: name.to_owned(), priority, ..QosConfig::default() }
}

/// A quality of service that preempts others, and what becomes of its own tasks when one preempts it.
#[must_use]
pub fn preempting(name: &str, preempts: &[&str], preempt: Preempt) -> QosConfig {
    let preempts = preempts.iter().map(|name| (*name).to_owned()).collect();
    QosConfig { name: name.to_owned(), preempts, preempt, ..QosConfig::default() }
}

/// A leaf switch.
#[must_use]
pub fn leaf(name: &str, nodes: &[&str]) -> SwitchConfig {
    let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
    SwitchConfig { name: name.to_owned(), nodes, switches: Vec::new() }
}

/// A job of one task of one rank on one core, submitted by `caller`.
#[must_use]
pub fn job(caller: Caller) -> JobSpec {
    JobSpec {
        name: "job".to_owned(),
        pool: None,
        user: User { name: format!("user{}", caller.uid), uid: caller.uid, gid: caller.uid }.into(),
        script: "#!/bin/sh\ntrue\n".to_owned().into(),
        arguments: Vec::new(),
        environment: Default::default(),
        working_directory: "/tmp".to_owned(),
        stdin: None,
        stdout: None,
        stderr: None,
        append: false,
        umask: 0o022,
        limits: Default::default(),
        submit_host: "head".to_owned(),
        request: Default::default(),
        time_limit_s: Some(600),
        array: None,
        requeue: true,
        priority: 0,
        eligibility: Default::default(),
        account: None,
        qos: None,
        reservation: None,
        signal: None,
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

/// Maintenance of these nodes: a reservation that nobody may use.
#[must_use]
pub fn maintenance(name: &str, nodes: &[&str], start: Timestamp, duration_s: u64) -> ReservationSpec {
    ReservationSpec {
        name: name.to_owned(),
        nodes: ReservedNodes::List(nodes.iter().map(|node| (*node).to_owned()).collect()),
        windows: Windows { start, duration_s, repeat: None },
        users: Default::default(),
        accounts: Default::default(),
        maintenance: true,
        ignore_running: false,
        comment: String::new(),
    }
}

/// The same for one user rather than for nobody.
#[must_use]
pub fn reservation(
    name: &str,
    nodes: &[&str],
    start: Timestamp,
    duration_s: u64,
    user: Caller,
) -> ReservationSpec {
    let users = [format!("user{}", user.uid)].into();
    ReservationSpec { users, maintenance: false, ..maintenance(name, nodes, start, duration_s) }
}

impl ReservationSpec {
    /// Lets its window come again.
    #[must_use]
    pub fn repeated(mut self, repeat: Repeat) -> Self {
        self.windows.repeat = Some(repeat);
        self
    }
}

impl JobSpec {
    /// Goes to the pool `name`.
    #[must_use]
    pub fn pool(mut self, name: &str) -> Self {
        self.pool = Some(name.to_owned());
        self
    }

    /// Uses an advance reservation.
    #[must_use]
    pub fn within(mut self, reservation: &str) -> Self {
        self.reservation = Some(reservation.to_owned());
        self
    }

    /// Asks for `nodes` nodes with `ranks_per_node` ranks each.
    #[must_use]
    pub fn gang(mut self, nodes: u32, ranks_per_node: u32) -> Self {
        self.request.nodes = Some(nodes);
        self.request.ranks = nodes * ranks_per_node;
        self.request.ranks_per_node = Some(ranks_per_node);
        self
    }

    /// Asks for `ranks` ranks, wherever they fit.
    #[must_use]
    pub fn ranks(mut self, ranks: u32) -> Self {
        self.request.ranks = ranks;
        self
    }

    /// Asks for memory on each node, in bytes.
    #[must_use]
    pub fn memory(mut self, per_node_bytes: u64) -> Self {
        self.request.memory = Memory::PerNodeBytes(per_node_bytes);
        self
    }

    /// Sets the time limit, in seconds.
    #[must_use]
    pub fn limit_s(mut self, seconds: u64) -> Self {
        self.time_limit_s = Some(seconds);
        self
    }

    /// Is packed onto few nodes or spread over many, whatever its pool does.
    #[must_use]
    pub fn fill(mut self, fill: Fill) -> Self {
        self.request.fill = Some(fill);
        self
    }

    /// Asks for features, such as `a&!b`.
    ///
    /// # Panics
    /// If the text is not a constraint.
    #[must_use]
    pub fn constraint(mut self, text: &str) -> Self {
        self.request.constraint = Some(text.parse().expect("the test writes a constraint"));
        self
    }

    /// Must have these nodes.
    #[must_use]
    pub fn nodelist(mut self, names: &[&str]) -> Self {
        self.request.nodelist = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Must not have these nodes.
    #[must_use]
    pub fn exclude(mut self, names: &[&str]) -> Self {
        self.request.exclude = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Submits it held.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.eligibility.hold = true;
        self
    }

    /// Not before an instant.
    #[must_use]
    pub fn begin(mut self, at: Timestamp) -> Self {
        self.eligibility.begin = Some(at);
        self
    }

    /// To have ended by an instant.
    #[must_use]
    pub fn deadline(mut self, at: Timestamp) -> Self {
        self.eligibility.deadline = Some(at);
        self
    }

    /// May be shortened to so many seconds.
    #[must_use]
    pub fn time_min_s(mut self, seconds: u64) -> Self {
        self.eligibility.time_min_s = Some(seconds);
        self
    }

    /// Depends on other jobs, such as `afterok:12`.
    ///
    /// # Panics
    /// If the text is not a dependency.
    #[must_use]
    pub fn after(mut self, dependency: &str) -> Self {
        self.eligibility.dependency = Some(dependency.parse().expect("the test writes a dependency"));
        self
    }

    /// Charges an account.
    #[must_use]
    pub fn account(mut self, name: &str) -> Self {
        self.account = Some(name.to_owned());
        self
    }

    /// Asks for a quality of service.
    #[must_use]
    pub fn qos(mut self, name: &str) -> Self {
        self.qos = Some(name.to_owned());
        self
    }

    /// Makes it an array of the elements `0..count`.
    #[must_use]
    pub fn array(mut self, count: u32, running_max: Option<u32>) -> Self {
        let range = IndexRange { first: 0, last: count - 1, step: 1 };
        self.array = Some(ArraySpec { indices: vec![range], running_max });
        self
    }
}

/// An engine with a hand on the clock. Checks the invariants after every input.
pub struct Bench {
    /// The engine.
    pub engine: Engine,
    /// The present instant.
    pub now: Timestamp,
    /// Effects of everything so far.
    pub effects: Vec<Effect>,
    /// Records of everything so far.
    pub records: Vec<Record>,
}

impl Bench {
    /// An engine with this configuration, all of whose nodes are up.
    #[must_use]
    pub fn new(config: ClusterConfig) -> Self {
        let mut bench = Self {
            engine: Engine::new(State::new()),
            now: Timestamp(1_000_000_000),
            effects: Vec::new(),
            records: Vec::new(),
        };
        let nodes = config.nodes.clone();
        bench.input(Input::Configure(Arc::new(config)));
        for node in nodes {
            bench.hello(&node.name, node.cores, Vec::new());
        }
        bench
    }

    /// Applies an input and runs a pass.
    ///
    /// # Panics
    /// If an invariant does not hold afterwards.
    pub fn input(&mut self, input: Input) -> Applied {
        let applied = self.engine.apply(&input, self.now);
        self.effects.extend(applied.effects.clone());
        self.records.extend(applied.records.clone());
        let pass = self.engine.pass(self.now);
        self.effects.extend(pass.effects);
        self.records.extend(pass.records);
        self.engine.state().check_invariants().expect("invariants hold after every input");
        assert!(self.engine.is_consistent(), "the planner follows the state");
        applied
    }

    /// A node says hello; four of its cores share a cache. It has the memory that it declares, and at least 64 GiB.
    pub fn hello(&mut self, node: &str, cores: u32, held: Vec<InstanceReport>) {
        let declared = self.engine.state().config.nodes.iter().find(|declared| declared.name == node);
        let threads = declared.and_then(|declared| declared.threads_per_core).unwrap_or(1);
        let memory_bytes = declared.map_or(0, |declared| declared.memory_bytes).max(64 * GIB);
        let place = |i: u32| HardwareCore { package: i / 8, numa: i / 8, l3: i / 4, threads };
        let hardware =
            Hardware { cores: (0..cores).map(place).collect(), memory_bytes, ..Hardware::default() };
        let input = Input::NodeHello {
            node: node.to_owned(),
            boot_id: "boot".to_owned(),
            hardware: Arc::new(hardware),
            held,
        };
        self.input(input);
    }

    /// Submits a job.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn submit(&mut self, caller: Caller, spec: JobSpec) -> Result<JobId, Refusal> {
        match self.input(Input::Submit { caller, spec: Box::new(spec), request_key: None }).reply? {
            Reply::Submitted(job) => Ok(job),
            other => unreachable!("a submit is answered with an id, not with {other:?}"),
        }
    }

    /// Cancels a job.
    pub fn cancel(&mut self, caller: Caller, job: JobId) -> Result<Reply, Refusal> {
        self.input(Input::Cancel { caller, target: JobRef { job, task: None } }).reply
    }

    /// Holds a job back.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn hold(&mut self, caller: Caller, job: JobId) -> Result<Reply, Refusal> {
        self.input(Input::HoldJob { caller, target: JobRef { job, task: None } }).reply
    }

    /// Lets a held job go.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn release(&mut self, caller: Caller, job: JobId) -> Result<Reply, Refusal> {
        self.input(Input::ReleaseJob { caller, target: JobRef { job, task: None } }).reply
    }

    /// Makes an advance reservation; root asks.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn reserve(&mut self, spec: ReservationSpec) -> Result<MadeReservation, Refusal> {
        match self.input(Input::MakeReservation { caller: ROOT, spec: Box::new(spec) }).reply? {
            Reply::Reserved(made) => Ok(made),
            other => unreachable!("a reservation is answered with its nodes, not with {other:?}"),
        }
    }

    /// Takes an advance reservation back; root asks.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn unreserve(&mut self, name: &str) -> Result<Reply, Refusal> {
        self.input(Input::RemoveReservation { caller: ROOT, name: name.to_owned() }).reply
    }

    /// Drains nodes.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn drain(&mut self, caller: Caller, nodes: &[&str], for_s: Option<u64>) -> Result<Reply, Refusal> {
        self.change_nodes(caller, nodes, NodeChange::Drain { reason: "new disks".to_owned(), for_s })
    }

    /// Takes nodes down.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn down(&mut self, caller: Caller, nodes: &[&str], for_s: Option<u64>) -> Result<Reply, Refusal> {
        self.change_nodes(caller, nodes, NodeChange::Down { reason: "it smokes".to_owned(), for_s })
    }

    /// Lets nodes go on.
    ///
    /// # Errors
    /// What the engine refuses.
    pub fn resume(&mut self, caller: Caller, nodes: &[&str]) -> Result<Reply, Refusal> {
        self.change_nodes(caller, nodes, NodeChange::Resume)
    }

    pub(crate) fn change_nodes(
        &mut self,
        caller: Caller,
        nodes: &[&str],
        change: NodeChange,
    ) -> Result<Reply, Refusal> {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        self.input(Input::ChangeNodes { caller, nodes, change }).reply
    }

    /// Lets time pass.
    pub fn after_s(&mut self, seconds: u64) {
        self.now = self.now.plus_seconds(seconds);
        self.input(Input::Tick);
    }

    /// The key of the live attempt of a job's only, or first, task.
    #[must_use]
    pub fn key(&self, job: JobId) -> AttemptKey {
        self.key_of(job, 0)
    }

    /// The key of the live attempt of a task.
    #[must_use]
    pub fn key_of(&self, job: JobId, index: u32) -> AttemptKey {
        let task = TaskId { job, index: TaskIndex(index) };
        let live = self.engine.state().live_attempt(task).expect("the task is live");
        AttemptKey { task, attempt: live.attempt }
    }

    /// Names of the nodes that an attempt holds, in order.
    #[must_use]
    pub fn nodes_of(&self, key: AttemptKey) -> Vec<String> {
        let state = self.engine.state();
        let live = state.live_attempt(key.task).expect("the task is live");
        state.node_names(&live.allocation).into_iter().map(str::to_owned).collect()
    }

    /// Whether a task of the job is live.
    #[must_use]
    pub fn is_live(&self, job: JobId) -> bool {
        self.engine.state().jobs.get(&job).is_some_and(|job| !job.live.is_empty())
    }

    /// How a job's only task finished.
    #[must_use]
    pub fn finished(&self, job: JobId) -> Option<&Finished> {
        self.engine.state().jobs.get(&job)?.finished.get(&TaskIndex(0))
    }

    /// One instance reports a phase.
    pub fn report(&mut self, key: AttemptKey, instance: u32, phase: InstancePhase) -> Applied {
        let state = self.engine.state();
        let live = state.live_attempt(key.task).expect("the task is live");
        let node = state.node(live.allocation.shares[instance as usize].node).name.clone();
        self.report_from(&node, key, instance, phase)
    }

    /// A node reports a phase of an instance.
    pub fn report_from(
        &mut self,
        node: &str,
        key: AttemptKey,
        instance: u32,
        phase: InstancePhase,
    ) -> Applied {
        let report = InstanceReport { key, instance, phase };
        self.input(Input::NodeReport { node: node.to_owned(), report })
    }

    /// The present attempt's own time limit, in seconds, if it has one.
    #[must_use]
    pub fn own_limit_s(&self, job: JobId) -> Option<u64> {
        self.engine.state().live_attempt(self.key(job).task).expect("the task is live").time_limit_s
    }

    /// All instances report ready, then the primary that it runs.
    pub fn start(&mut self, key: AttemptKey) {
        for instance in 0..self.nodes_of(key).len() as u32 {
            self.report(key, instance, InstancePhase::Ready(Endpoint::default()));
        }
        self.report(key, 0, InstancePhase::Running { started_at: self.now });
    }

    /// An instance is gone.
    pub fn gone(&mut self, key: AttemptKey, instance: u32, how: GoneHow) {
        let phase = InstancePhase::Gone { how, usage: Usage::default(), started_at: None };
        self.report(key, instance, phase);
    }

    /// The primary exits with `code`, then every other instance is stopped.
    pub fn exit(&mut self, key: AttemptKey, code: u32) {
        let others = self.nodes_of(key).len() as u32;
        self.gone(key, 0, GoneHow::Exited { code, signal: 0, out_of_memory: false });
        for instance in 1..others {
            self.gone(key, instance, GoneHow::Stopped);
        }
    }
}
