//! What comes into the engine, and what goes out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::batch::{BatchInput, BatchReply, NodeSetup, PoolReadings, SetupError};
use crate::cluster::ClusterConfig;
use crate::cron::Crontab;
use crate::eligibility::Dependency;
use crate::event::{Allocation, Endpoint, Event, Hardware, Usage, Verdict};
use crate::ids::{AttemptKey, JobId, JobRef, NodeId, TaskIndex, Timestamp};
pub use crate::refusal::Refusal;
use crate::reservation::ReservationSpec;
use crate::spec::{JobSpec, Request, SignalTo};
use crate::staging::StagingFailure;
use crate::state::PoolState;

/// Who gives a command, as the kernel knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Whether they administer the cluster.
    pub admin: bool,
}

/// Where somebody waits who looks on at a step, to be called by its starter.
#[derive(Clone, PartialEq, Eq)]
pub struct Viewer {
    /// Addresses of their host.
    pub hosts: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// With this key, in hexadecimal digits, both sides prove themselves.
    pub key: String,
}

impl fmt::Debug for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, port, key: _ } = self;
        f.debug_struct("Viewer").field("hosts", hosts).field("port", port).finish_non_exhaustive()
    }
}

/// What comes into the engine. Each input is handled at an instant that comes with it.
#[derive(Debug, Clone)]
pub enum Input {
    /// A configuration comes into force.
    Configure(Arc<ClusterConfig>),
    /// A user submits a job.
    Submit {
        /// Who.
        caller: Caller,
        /// What; the user in it was set from the caller's credentials.
        spec: Box<JobSpec>,
        /// The client's key for this request.
        request_key: Option<String>,
    },
    /// A user cancels a job or one task.
    Cancel {
        /// Who.
        caller: Caller,
        /// What.
        target: JobRef,
    },
    /// A user signals the live attempts of a job or task.
    Signal {
        /// Who.
        caller: Caller,
        /// What.
        target: JobRef,
        /// The signal's number.
        signal: u8,
        /// Who of each attempt gets it.
        to: SignalTo,
    },
    /// A user signals the ranks of one step of a running task, or ends the step.
    SignalStep {
        /// Who.
        caller: Caller,
        /// The task; a job of one task may stand for it.
        target: JobRef,
        /// The step.
        step: u32,
        /// The signal's number; without one the step is ended.
        signal: Option<u8>,
    },
    /// A user looks on at a step of a running task.
    AttachStep {
        /// Who.
        caller: Caller,
        /// The task; a job of one task may stand for it.
        target: JobRef,
        /// The step.
        step: u32,
        /// Where they wait.
        viewer: Arc<Viewer>,
    },
    /// A user puts the live tasks of a job, or one of them, back into the queue.
    Requeue {
        /// Who.
        caller: Caller,
        /// What.
        target: JobRef,
        /// Whether the job is held then.
        hold: bool,
    },
    /// A user or an admin changes a job.
    UpdateJob {
        /// Who.
        caller: Caller,
        /// Which job.
        job: JobId,
        /// What is to change.
        change: Box<JobChange>,
    },
    /// A user or an admin holds a job's waiting tasks back.
    HoldJob {
        /// Who.
        caller: Caller,
        /// Which job, or which task of an array.
        target: JobRef,
    },
    /// A user or an admin lets a held job go.
    ReleaseJob {
        /// Who.
        caller: Caller,
        /// Which job, or which task of an array.
        target: JobRef,
    },
    /// An admin drains nodes, takes them down, or lets them go on: all of them or, if one is unknown, none.
    ChangeNodes {
        /// Who.
        caller: Caller,
        /// Names of the nodes.
        nodes: Vec<String>,
        /// What is to become of them.
        change: NodeChange,
    },
    /// An admin says what a pool does from now on.
    ChangePool {
        /// Who.
        caller: Caller,
        /// The pool.
        pool: String,
        /// What it does.
        state: PoolState,
    },
    /// A node's agent opened a session.
    NodeHello {
        /// The node's name.
        node: String,
        /// Changes with every boot.
        boot_id: String,
        /// What the agent found.
        hardware: Arc<Hardware>,
        /// All attempts that the node holds, in their present phase.
        held: Vec<InstanceReport>,
    },
    /// A node reports an instance's phase.
    NodeReport {
        /// The node's name.
        node: String,
        /// The report.
        report: InstanceReport,
    },
    /// A node says how the check of its health ended.
    NodeHealth {
        /// The node's name.
        node: String,
        /// What is wrong with it, for people; none if it is fit for work.
        problem: Option<String>,
    },
    /// A node has been set up for its pool of the batch service, or could not be.
    NodeSetUp {
        /// The node's name.
        node: String,
        /// The number of what it was told.
        number: u64,
        /// Why it could not be; it was without any.
        errors: Vec<SetupError>,
    },
    /// It was heard of the nodes of a pool of the batch service what they use.
    PoolUsed(Box<PoolReadings>),
    /// The shell heard nothing from a node for too long.
    NodeSilent {
        /// The node's name.
        node: String,
        /// Why it was given up, for people.
        reason: String,
    },
    /// The program that was to bring a node up, or to take it down, came to its end.
    NodePower {
        /// The node's name.
        node: String,
        /// How.
        report: PowerReport,
    },
    /// An admin makes an advance reservation.
    MakeReservation {
        /// Who.
        caller: Caller,
        /// What.
        spec: Box<ReservationSpec>,
    },
    /// An admin takes an advance reservation back.
    RemoveReservation {
        /// Who.
        caller: Caller,
        /// Its name.
        name: String,
    },
    /// A user sets or removes their table of recurring jobs, or an admin that of somebody else.
    SetCrontab {
        /// Who.
        caller: Caller,
        /// User id of the table's owner.
        uid: u32,
        /// The table; none removes it.
        crontab: Option<Box<Crontab>>,
    },
    /// A user ends a recurring job for good: its entry makes no other.
    StopCron {
        /// Who.
        caller: Caller,
        /// Which job.
        target: JobRef,
    },
    /// A user of the batch service asks for something.
    Batch(Box<BatchInput>),
    /// Time passed: limits and holds are looked at.
    Tick,
}

/// How a program ended that was to bring a node up, or to take it down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerReport {
    /// Since when the node was in the state because of which the program was run.
    pub asked: Timestamp,
    /// What went wrong, for people.
    pub problem: Option<String>,
}

/// What is to change of a job; what is not set stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobChange {
    /// Its name.
    pub name: Option<String>,
    /// Its time limit, in seconds.
    pub time_limit_s: Option<u64>,
    /// Its priority.
    pub priority: Option<i32>,
    /// By how much its user lowers its priority.
    pub nice: Option<i32>,
    /// What its user says about it.
    pub comment: Option<String>,
    /// Whether its tasks are queued again when a node fails under them.
    pub requeue: Option<bool>,
    /// How many of the array's elements may run at once; `Some(None)` is no limit.
    pub running_max: Option<Option<u32>>,
    /// Its pool.
    pub pool: Option<String>,
    /// The account that is charged.
    pub account: Option<String>,
    /// Its quality of service.
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses.
    pub reservation: Option<Option<String>>,
    /// The instant before which it does not start.
    pub begin: Option<Timestamp>,
    /// What it depends on; `Some(None)` is nothing.
    pub dependency: Option<Option<Dependency>>,
    /// What each task needs.
    pub request: Option<Request>,
}

/// What is to become of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// They get no new work; what runs goes on.
    Drain {
        /// Why, for people.
        reason: String,
        /// For how long, in seconds; until they are resumed without.
        for_s: Option<u64>,
    },
    /// They get no new work, and what runs on them ends as if they had failed.
    Down {
        /// Why, for people.
        reason: String,
        /// For how long, in seconds; until they are resumed without.
        for_s: Option<u64>,
    },
    /// They get work again.
    Resume,
}

/// What a node says of one instance: always its whole phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceReport {
    /// The attempt.
    pub key: AttemptKey,
    /// Which instance.
    pub instance: u32,
    /// Its phase.
    pub phase: InstancePhase,
}

/// The phase of an instance on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstancePhase {
    /// Being prepared.
    Preparing,
    /// Prepared; nothing of the user's script has run.
    Ready(Endpoint),
    /// The script runs.
    Running {
        /// The instant of its exec.
        started_at: Timestamp,
    },
    /// Nothing of it is left.
    Gone {
        /// How it came to its end.
        how: GoneHow,
        /// What it used.
        usage: Usage,
        /// The instant of the script's exec, if it came to that.
        started_at: Option<Timestamp>,
    },
}

/// How an instance came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GoneHow {
    /// It could not be prepared.
    PrepareFailed {
        /// A sentence.
        reason: String,
        /// Whether the node, rather than the job, is at fault.
        node_at_fault: bool,
    },
    /// The script ended by itself.
    Exited {
        /// Exit code.
        code: u32,
        /// Terminating signal, 0 if it exited.
        signal: u32,
        /// Whether the kernel killed for lack of memory.
        out_of_memory: bool,
    },
    /// What it needs could not be brought to the node, or its coordination command failed; its script has not run.
    StageInFailed(StagingFailure),
    /// The script exited with success, but its files could not be taken away.
    StageOutFailed(StagingFailure),
    /// A stop was carried out.
    Stopped,
    /// It was in a line, and is given back: nothing of it was ever started.
    Returned,
    /// The node ended it by itself.
    Broken {
        /// A sentence.
        reason: String,
    },
}

/// What the shell is to do, once the events are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell a node to prepare its instance. The shell adds the attempt's secrets.
    Prepare {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// Which instance.
        instance: u32,
        /// The whole gang.
        allocation: Arc<Allocation>,
        /// The job's spec.
        spec: Arc<JobSpec>,
        /// The time limit of this attempt, in seconds.
        time_limit_s: Option<u64>,
        /// The attempt whose end on the node it waits for, if it is in a line.
        after: Option<AttemptKey>,
    },
    /// Tell a node to start.
    Go {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// To the primary, all endpoints, by instance; to the others, that of the primary.
        peers: Vec<Endpoint>,
    },
    /// Tell a node to end an instance.
    Stop {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// Between SIGTERM and SIGKILL, in milliseconds.
        grace_ms: u32,
        /// Why, for the log.
        reason: String,
        /// Why, for the job's own error output.
        cause: StopCause,
    },
    /// Tell a node to signal what runs there of an attempt. It is lost if the node is away.
    Signal {
        /// The node of the attempt's primary.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// The signal's number.
        signal: u8,
        /// Who of the attempt gets it.
        to: SignalTo,
    },
    /// Tell a node to signal the ranks of a step, or to end it. It is lost if the node is away, or the step is over.
    SignalStep {
        /// The node of the attempt's primary.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// The step.
        step: u32,
        /// The signal's number; without one the step is ended.
        signal: Option<u8>,
    },
    /// Tell a node that somebody looks on at a step. It is lost if the node is away, or the step is over.
    AttachStep {
        /// The node of the attempt's primary.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
        /// The step.
        step: u32,
        /// Where they wait.
        viewer: Arc<Viewer>,
    },
    /// Tell a node what it is to have because of its pool of the batch service. It is told again in each of its sessions.
    SetUp {
        /// The node.
        node: NodeId,
        /// The number of what it is told; 0 for nothing.
        number: u64,
        /// What it is to have, and nothing else of that kind.
        what: Arc<NodeSetup>,
    },
    /// Tell a node that its last report is durable here.
    Forget {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
    },
}

impl Effect {
    /// The node that is told of it.
    #[must_use]
    pub fn node(&self) -> NodeId {
        let (Self::Prepare { node, .. }
        | Self::Go { node, .. }
        | Self::Stop { node, .. }
        | Self::Signal { node, .. }
        | Self::SignalStep { node, .. }
        | Self::AttachStep { node, .. }
        | Self::SetUp { node, .. }
        | Self::Forget { node, .. }) = self;
        *node
    }
}

/// Why an instance is ended, as far as its user is told in the job's own error output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Nothing is said there: it came to its end by itself, or is one that should not be there.
    None,
    /// Somebody cancelled it.
    Cancelled,
    /// Its time is over.
    TimeLimit,
    /// A job with a higher claim takes its place.
    Preemption,
    /// A node failed under it.
    NodeFailure,
    /// It is to be queued again.
    Requeue,
}

impl From<&Verdict> for StopCause {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Cancelled { .. } => Self::Cancelled,
            Verdict::TimedOut | Verdict::Deadline => Self::TimeLimit,
            Verdict::Preempted { .. } => Self::Preemption,
            Verdict::Requeued { .. } => Self::Requeue,
            Verdict::NodeFailed { .. } | Verdict::Broken { .. } => Self::NodeFailure,
            _ => Self::None,
        }
    }
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing more to say.
    Done,
    /// The job that was made, or that the same request key had made before.
    Submitted(JobId),
    /// How many tasks were or are being cancelled.
    Cancelled(u64),
    /// How many tasks were signalled, or are put back into the queue.
    Reached(u64),
    /// The advance reservation that was made.
    Reserved(MadeReservation),
    /// What the batch service answers.
    Batch(BatchReply),
}

/// What was chosen for an advance reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeReservation {
    /// Host list of its nodes.
    pub node_list: String,
    /// What runs there and may still run when it starts: it is left alone. Cut where it is long.
    pub running: Vec<RunsInto>,
}

/// A task that may still run when an advance reservation of its node starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsInto {
    /// The task, as `JOB` or `JOB_INDEX`.
    pub task: String,
    /// The node's name.
    pub node: String,
    /// When it has ended at the latest; the end of time if it has no limit.
    pub until: Timestamp,
}

/// What a decision yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The facts, in order.
    pub events: Vec<Event>,
    /// Effects that follow from the input alone rather than from an event, such as repeating a lost message.
    pub effects: Vec<Effect>,
    /// The answer, for those who asked.
    pub reply: Result<Reply, Refusal>,
}

/// A task of a job, for messages.
#[must_use]
pub fn task_name(job: JobId, index: TaskIndex, is_array: bool) -> String {
    if is_array { format!("{job}_{index}") } else { job.to_string() }
}
