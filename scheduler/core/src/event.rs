//! Facts. The journal is a sequence of them, and the state is what they add up to.

mod allocation;
mod hardware;
mod ran;
mod verdict;

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::allocation::{Allocation, Endpoint, Share, Usage};
pub use self::hardware::{Hardware, HardwareCore, HardwareDevice};
pub use self::ran::{RAN_TOGETHER_MAX, Ran};
pub use self::verdict::{FinishedKind, Verdict};
use crate::batch::BatchEvent;
use crate::cluster::ClusterConfig;
use crate::cron::Crontab;
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, Timestamp};
use crate::reservation::AdvanceReservation;
use crate::spec::{IndexRange, JobSpec};
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
        request_key: Option<Arc<str>>,
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
    /// Tasks of an array, each in its first attempt, were lined up behind another attempt of the same array: one after the other they
    /// go on with what it holds, as its node ends and starts them, and hold nothing until then.
    LineMade {
        /// The attempt that is the last in its line so far.
        behind: AttemptKey,
        /// The tasks, in their order.
        indices: Vec<IndexRange>,
    },
    /// An attempt in a line was given back by its node: nothing of it was ever started there. Its task waits as if it had never been
    /// lined up.
    AttemptReturned {
        /// The attempt.
        key: AttemptKey,
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
    /// All of an attempt of one instance that started without a word to: it started, its script ended by itself, and
    /// nothing of it is left. Means what its [`Event::parts`] mean.
    AttemptRan {
        /// The attempt.
        key: AttemptKey,
        /// When the script was started.
        started_at: Timestamp,
        /// What it used.
        usage: Usage,
        /// How it ended: in a way after which its task has finished.
        verdict: Verdict,
    },
    /// Several attempts of one job's tasks ran and ended in the same way, one after the other in this order: each [`Event::AttemptRan`].
    AttemptsRan {
        /// The job.
        job: JobId,
        /// How all of them ended.
        verdict: Verdict,
        /// Each of them.
        #[serde(with = "ran")]
        ran: Vec<Ran>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingEnd {
    /// It could no longer end by its deadline.
    Deadline,
    /// What it depends on can no longer come true.
    Dependency,
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
            | Self::AttemptsRan { job, .. }
            | Self::CronMade { job, .. } => Some(*job),
            Self::TaskHeld { task, .. } | Self::TaskReleased { task } => Some(task.job),
            Self::LineMade { behind: key, .. }
            | Self::AttemptReturned { key }
            | Self::AttemptPlaced { key, .. }
            | Self::InstanceReady { key, .. }
            | Self::AttemptGo { key }
            | Self::AttemptRunning { key, .. }
            | Self::AttemptSignalled { key }
            | Self::AttemptRanFor { key, .. }
            | Self::AttemptEnding { key, .. }
            | Self::InstanceGone { key, .. }
            | Self::InstanceLost { key, .. }
            | Self::AttemptRan { key, .. }
            | Self::AttemptEnded { key, .. } => Some(key.task.job),
            _ => None,
        }
    }

    /// The attempts of which this event tells that they ran, from their start to their end.
    pub fn ran(&self) -> impl Iterator<Item = AttemptKey> {
        let (one, many) = match self {
            Self::AttemptRan { key, .. } => (Some(*key), None),
            Self::AttemptsRan { job, ran, .. } => (None, Some(ran.iter().map(|ran| ran.key(*job)))),
            _ => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The events that this one stands for, in their order: itself, unless it tells of several at once. For whoever looks for
    /// events of some kind.
    pub fn parts(&self) -> impl Iterator<Item = Cow<'_, Self>> {
        let (whole, one, many) = match self {
            Self::AttemptRan { key, started_at, usage, verdict } => {
                (None, Some((Ran::of(*key, *started_at, *usage), key.task.job, verdict)), None)
            }
            Self::AttemptsRan { job, verdict, ran } => (None, None, Some((ran, *job, verdict))),
            other => (Some(Cow::Borrowed(other)), None, None),
        };
        let many =
            many.into_iter().flat_map(|(ran, job, verdict)| ran.iter().map(move |ran| (*ran, job, verdict)));
        let ran = one.into_iter().chain(many).flat_map(|(ran, job, verdict)| ran.parts(job, verdict));
        whole.into_iter().chain(ran.map(Cow::Owned))
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
