//! Facts. The journal is a sequence of them, and the state is what they add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::batch::BatchEvent;
use crate::cluster::ClusterConfig;
use crate::cores::CoreSet;
use crate::cron::Crontab;
use crate::gres::ShareGres;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, Timestamp};
use crate::reservation::AdvanceReservation;
use crate::spec::{IndexRange, JobSpec};
use crate::staging::StagingFailure;
use crate::state::{CronId, PoolState, Power};

/// An event with its instant, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was decided.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// What happened. Variants and fields are only ever added: journals live longer than versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A configuration came into force.
    Configured {
        /// All of it.
        config: Arc<ClusterConfig>,
    },
    /// A job was accepted.
    JobSubmitted {
        /// Its new id.
        job: JobId,
        /// Its spec, defaults filled in.
        spec: Arc<JobSpec>,
        /// The client's key for this request: the same key of the same user gets the same job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_key: Option<String>,
    },
    /// Waiting tasks were cancelled.
    WaitingCancelled {
        /// The job.
        job: JobId,
        /// Which of its waiting tasks.
        indices: Vec<IndexRange>,
        /// Who asked.
        by_uid: u32,
    },
    /// Waiting tasks were ended because they can no longer start.
    WaitingEnded {
        /// The job.
        job: JobId,
        /// Which of its waiting tasks.
        indices: Vec<IndexRange>,
        /// Why.
        why: WaitingEnd,
    },
    /// A job was changed after it was accepted.
    JobUpdated {
        /// The job.
        job: JobId,
        /// All of its spec from now on.
        spec: Arc<JobSpec>,
    },
    /// A job's waiting tasks were held back.
    JobHeld {
        /// The job.
        job: JobId,
        /// Who asked.
        by_uid: u32,
        /// Whether only an admin may let them go.
        by_admin: bool,
    },
    /// A held job's waiting tasks were let go.
    JobReleased {
        /// The job.
        job: JobId,
        /// Whether an admin said so: single tasks that an admin holds go as well then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_admin: bool,
    },
    /// One task of an array was held back.
    TaskHeld {
        /// The task.
        task: TaskId,
        /// Who asked.
        by_uid: u32,
        /// Whether only an admin may let it go.
        by_admin: bool,
    },
    /// One task of an array was let go.
    TaskReleased {
        /// The task.
        task: TaskId,
    },
    /// An attempt was given its allocation; from this instant its cores are its own.
    AttemptPlaced {
        /// The attempt.
        key: AttemptKey,
        /// What it holds, in the order of its instances.
        allocation: Arc<Allocation>,
        /// The start or end of a reservation by which it must have ended even if its time limit, which counts from the
        /// word to start, is not over then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends_by: Option<Timestamp>,
        /// Its own time limit, in seconds, if that was lowered so that it could start earlier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_limit_s: Option<u64>,
    },
    /// An instance is prepared.
    InstanceReady {
        /// The attempt.
        key: AttemptKey,
        /// Which instance.
        instance: u32,
        /// Where the others reach it.
        endpoint: Endpoint,
    },
    /// All instances are ready: the word to start was given.
    AttemptGo {
        /// The attempt.
        key: AttemptKey,
    },
    /// The script was started.
    AttemptRunning {
        /// The attempt.
        key: AttemptKey,
        /// The node's clock at its exec.
        started_at: Timestamp,
    },
    /// The signal that the job wished for before its end is due: it is sent once.
    AttemptSignalled {
        /// The attempt.
        key: AttemptKey,
    },
    /// The attempt has run for a part of its time limit of which somebody is to be told: once of each.
    AttemptRanFor {
        /// The attempt.
        key: AttemptKey,
        /// The part, in percent.
        percent: u8,
    },
    /// The attempt's end was decided; its processes may still be there.
    AttemptEnding {
        /// The attempt.
        key: AttemptKey,
        /// How it ends.
        verdict: Verdict,
    },
    /// Nothing of the attempt is left on this instance's node, whose share of the allocation is free again.
    InstanceGone {
        /// The attempt.
        key: AttemptKey,
        /// Which instance.
        instance: u32,
        /// What it used.
        usage: Usage,
    },
    /// The instance's node was given up, and the instance with it.
    InstanceLost {
        /// The attempt.
        key: AttemptKey,
        /// Which instance.
        instance: u32,
    },
    /// The last instance is gone: the task finished, or waits again.
    AttemptEnded {
        /// The attempt.
        key: AttemptKey,
        /// How it ended.
        verdict: Verdict,
        /// Whether the task waits for another attempt, and from when.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_not_before: Option<Timestamp>,
    },
    /// A node's agent said hello.
    NodeUp {
        /// The node.
        node: NodeId,
        /// Changes with every boot.
        boot_id: String,
        /// What the agent found.
        hardware: Arc<Hardware>,
        /// Attempts that it still holds although they ended here: it gets no work before they are gone.
        stale: Vec<AttemptKey>,
    },
    /// A stale attempt is gone from a node.
    StaleGone {
        /// The node.
        node: NodeId,
        /// The attempt.
        key: AttemptKey,
    },
    /// A node was given up.
    NodeLost {
        /// The node.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// A node gets no new work.
    NodeHeld {
        /// The node.
        node: NodeId,
        /// Why, for people.
        reason: String,
        /// Until then; until it is released without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// The admin who said so; the engine did without.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by_uid: Option<u32>,
        /// Whether it is down: what runs on it ends as well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        down: bool,
    },
    /// A held node gets work again.
    NodeReleased {
        /// The node.
        node: NodeId,
    },
    /// The check of a node's health came to another end than before.
    NodeHealth {
        /// The node.
        node: NodeId,
        /// What is wrong with it, for people; none if it is fit for work.
        problem: Option<String>,
    },
    /// A node is being brought up or taken down, or is off.
    NodePower {
        /// The node.
        node: NodeId,
        /// Which of these.
        power: Power,
    },
    /// An admin said what a pool does from now on.
    PoolChanged {
        /// The pool.
        pool: String,
        /// What it does.
        state: PoolState,
        /// Who asked.
        by_uid: u32,
    },
    /// An advance reservation was made.
    ReservationMade {
        /// All of it.
        reservation: Arc<AdvanceReservation>,
    },
    /// An advance reservation was taken back.
    ReservationRemoved {
        /// Its name.
        name: String,
        /// Who asked.
        by_uid: u32,
    },
    /// A window of an advance reservation ended.
    ReservationEnded {
        /// Its name.
        name: String,
        /// When the next one starts; without, the reservation is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_start: Option<Timestamp>,
    },
    /// A user's table of recurring jobs was set or removed.
    CrontabSet {
        /// User id of its owner.
        uid: u32,
        /// All of it; none if it was removed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        crontab: Option<Arc<Crontab>>,
        /// Who asked.
        by_uid: u32,
    },
    /// An entry of a table has made its next job, which was submitted just before.
    CronMade {
        /// The entry.
        id: CronId,
        /// The job.
        job: JobId,
        /// For which instant.
        begin: Timestamp,
    },
    /// An entry of a table makes no more jobs.
    CronStopped {
        /// The entry.
        id: CronId,
        /// Why, for people.
        reason: String,
    },
    /// Something happened in the batch service.
    Batch {
        /// What.
        batch: Arc<BatchEvent>,
    },
}

/// Why a waiting task can no longer start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingEnd {
    /// It could no longer end by its deadline.
    Deadline,
    /// What it depends on can no longer come true.
    Dependency,
}

/// What an attempt holds: one share for each instance; the first is the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The shares, in the order of the instances.
    pub shares: Vec<Share>,
    /// Cores of one rank.
    pub cores_per_rank: u32,
}

/// What an attempt holds on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// The node.
    pub node: NodeId,
    /// Exactly these cores.
    pub cores: CoreSet,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Ranks here.
    pub ranks: u32,
    /// Exactly these devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<ShareGres>,
}

impl Allocation {
    /// Cores on all nodes together.
    #[must_use]
    pub fn cores(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.cores.len())).sum()
    }

    /// Ranks on all nodes together.
    #[must_use]
    pub fn ranks(&self) -> u32 {
        self.shares.iter().map(|share| share.ranks).sum()
    }

    /// Which instance runs on `node`.
    #[must_use]
    pub fn instance_on(&self, node: NodeId) -> Option<u32> {
        self.shares.iter().position(|share| share.node == node).map(|i| i as u32)
    }
}

/// Where the other instances of a gang reach one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Endpoint {
    /// Host name.
    pub host: String,
    /// IP address.
    pub address: String,
    /// Port of the attempt's own SSH endpoint; 0 for a task on one node.
    pub ssh_port: u16,
    /// Its host key, one line in OpenSSH's public key format.
    pub ssh_host_key: String,
    /// Port of the gang's membership on the primary, else 0.
    pub gang_port: u16,
}

/// What an instance used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Usage {
    /// CPU time of all its processes, in microseconds.
    pub cpu_time_us: u64,
    /// Memory high-water mark, in bytes; 0 if unknown.
    pub memory_peak_bytes: u64,
    /// The kernel's part of the CPU time, in microseconds; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cpu_system_us: u64,
    /// Bytes that were read from block devices; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub read_bytes: u64,
    /// Bytes that were written to them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub write_bytes: u64,
    /// How often something was read from them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub read_operations: u64,
    /// How often something was written to them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub write_operations: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// What both used together; the higher one of their high-water marks.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_time_us: self.cpu_time_us.saturating_add(other.cpu_time_us),
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            cpu_system_us: self.cpu_system_us.saturating_add(other.cpu_system_us),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            write_bytes: self.write_bytes.saturating_add(other.write_bytes),
            read_operations: self.read_operations.saturating_add(other.read_operations),
            write_operations: self.write_operations.saturating_add(other.write_operations),
        }
    }
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Verdict {
    /// The script exited: 0 is success.
    Exited {
        /// Exit code.
        code: u32,
    },
    /// The script was killed by a signal that Muster did not send.
    Signalled {
        /// The signal's number.
        signal: u32,
    },
    /// The kernel killed processes because the allocation's memory was used up.
    OutOfMemory {
        /// Exit code of the script.
        code: u32,
        /// Signal of the script, 0 if it exited.
        signal: u32,
    },
    /// It ran longer than its time limit.
    TimedOut,
    /// It ran until its job's deadline.
    Deadline,
    /// Somebody cancelled it.
    Cancelled {
        /// Who.
        by_uid: u32,
    },
    /// Somebody put its task back into the queue. How its script ends from here on does not count.
    Requeued {
        /// Who.
        by_uid: u32,
    },
    /// A job with a higher claim took its place. How its script ends from here on does not count.
    Preempted {
        /// The task that takes its place.
        by: TaskId,
        /// Whether it waits for another attempt.
        requeue: bool,
        /// Between SIGTERM and SIGKILL, in milliseconds.
        grace_ms: u32,
    },
    /// It could not be started, and that was the job's own fault.
    LaunchFailed {
        /// A sentence.
        reason: String,
    },
    /// The files that it needs could not be brought to a node, or its coordination command failed: it would fail again.
    StageInFailed {
        /// The node.
        node: NodeId,
        /// What went wrong.
        failure: StagingFailure,
    },
    /// Its script succeeded, but its files could not be taken away.
    StageOutFailed {
        /// What went wrong.
        failure: StagingFailure,
    },
    /// A node could not prepare it; the task goes back to the queue.
    PrepareFailed {
        /// The node.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
    /// A node failed under it.
    NodeFailed {
        /// The node.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
    /// The gang broke: a remote daemon was killed, contact was lost.
    Broken {
        /// The node that said so.
        node: NodeId,
        /// A sentence.
        reason: String,
    },
}

impl Verdict {
    /// Whether the task did what it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// The node that ended the attempt, if one did.
    #[must_use]
    pub fn failing_node(&self) -> Option<NodeId> {
        match self {
            Self::PrepareFailed { node, .. } | Self::NodeFailed { node, .. } | Self::Broken { node, .. } => {
                Some(*node)
            }
            _ => None,
        }
    }

    /// Whether the script came to an end, good or bad, so that its nodes did what they should.
    #[must_use]
    pub fn came_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Exited { .. }
                | Self::Signalled { .. }
                | Self::OutOfMemory { .. }
                | Self::TimedOut
                | Self::StageOutFailed { .. }
        )
    }
}

/// What a node's agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Hardware {
    /// Usable cores, by index.
    pub cores: Vec<HardwareCore>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The address at which other nodes reach it.
    pub address: String,
    /// The agent's version.
    pub agent_version: String,
    /// How it contains attempts: `cgroup_v2`, `cgroup_hybrid` or `subreaper`.
    pub containment: String,
    /// Devices that it found, in the order of their PCI addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<HardwareDevice>,
    /// Anything that a later version reports.
    #[serde(default, flatten)]
    pub more: BTreeMap<String, String>,
}

/// A device that an agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareDevice {
    /// What it is: `gpu` or `nic`.
    pub name: String,
    /// The number of the NUMA node that it is attached to, if it is attached to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// The number of the package that it is attached to, if it is attached to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<u32>,
    /// Its address, such as `0000:3b:00.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pci_address: String,
}

/// Where a core sits, and how wide it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareCore {
    /// Package number.
    pub package: u32,
    /// NUMA node number.
    pub numa: u32,
    /// Number of the last-level cache group.
    pub l3: u32,
    /// How many of its hardware threads may be used.
    #[serde(default = "one_thread", skip_serializing_if = "is_one_thread")]
    pub threads: u32,
}

fn one_thread() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one_thread(threads: &u32) -> bool {
    *threads == 1
}

impl Default for HardwareCore {
    fn default() -> Self {
        Self { package: 0, numa: 0, l3: 0, threads: 1 }
    }
}

impl Event {
    /// The job that the event is about.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::JobSubmitted { job, .. }
            | Self::WaitingCancelled { job, .. }
            | Self::WaitingEnded { job, .. }
            | Self::JobUpdated { job, .. }
            | Self::JobHeld { job, .. }
            | Self::JobReleased { job, .. }
            | Self::CronMade { job, .. } => Some(*job),
            Self::TaskHeld { task, .. } | Self::TaskReleased { task } => Some(task.job),
            Self::AttemptPlaced { key, .. }
            | Self::InstanceReady { key, .. }
            | Self::AttemptGo { key }
            | Self::AttemptRunning { key, .. }
            | Self::AttemptSignalled { key }
            | Self::AttemptRanFor { key, .. }
            | Self::AttemptEnding { key, .. }
            | Self::InstanceGone { key, .. }
            | Self::InstanceLost { key, .. }
            | Self::AttemptEnded { key, .. } => Some(key.task.job),
            _ => None,
        }
    }

    /// The name of the advance reservation that the event is about.
    #[must_use]
    pub fn reservation(&self) -> Option<&str> {
        match self {
            Self::ReservationMade { reservation } => Some(&reservation.name),
            Self::ReservationRemoved { name, .. } | Self::ReservationEnded { name, .. } => Some(name),
            _ => None,
        }
    }
}
