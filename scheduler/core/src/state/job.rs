//! A job's record.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{FinishedTasks, IndexSet, JobHold, Known, TaskHold};
use crate::event::{Allocation, Endpoint, Usage, Verdict};
use crate::ids::{AttemptKey, JobId, NodeId, TaskId, TaskIndex, Timestamp};
use crate::spec::JobSpec;

/// A job and its tasks, by phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was submitted, defaults filled in.
    pub spec: Arc<JobSpec>,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// Its waiting tasks.
    pub waiting: IndexSet,
    /// Tasks with a live attempt. Boxed, because a map's node has room for eleven values, and most jobs have one.
    #[serde(with = "super::live")]
    pub live: BTreeMap<TaskIndex, Box<Live>>,
    /// What is remembered of tasks that were tried before and have not finished.
    pub tried: BTreeMap<TaskIndex, Tried>,
    /// Unfinished tasks whose first attempt was given back by its node from a line: the number of that attempt is used up, and it counts
    /// for nothing else.
    #[serde(default, skip_serializing_if = "IndexSet::is_empty")]
    pub returned: IndexSet,
    /// Its finished tasks.
    pub finished: FinishedTasks,
    /// When its last task finished.
    pub finished_at: Option<Timestamp>,
    /// The client's key of the request that made it.
    pub request_key: Option<Arc<str>>,
    /// Set while its waiting tasks are held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<JobHold>,
    /// What was said of single tasks of an array that have not finished; [`TaskHold::Released`] only while the job is held.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub task_holds: BTreeMap<TaskIndex, TaskHold>,
    /// What is known of each term of its dependency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<Known>,
}

/// A job's record, to write to: copies of the state keep it as it is.
pub(super) fn job_mut(jobs: &mut BTreeMap<JobId, Arc<Job>>, id: JobId) -> Option<&mut Job> {
    jobs.get_mut(&id).map(Arc::make_mut)
}

/// A task's live attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Live {
    /// Which try, from 1.
    pub attempt: u32,
    /// What it holds.
    pub allocation: Arc<Allocation>,
    /// Its instances, in the order of the shares.
    pub instances: Vec<Instance>,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// The start or end of a reservation by which it must have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_by: Option<Timestamp>,
    /// Its own time limit, in seconds, if that is less than its job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_s: Option<u64>,
    /// Whether the signal that its job wished for was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signalled: bool,
    /// The part of its time limit, in percent, of which was told last; 0 if of none.
    #[serde(default, skip_serializing_if = "is_untold")]
    pub told_percent: u8,
    /// The task of the same array before it in its line, whose allocation it goes on with; none if it holds it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<TaskIndex>,
    /// The task after it in its line, which goes on with its allocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed_by: Option<TaskIndex>,
    /// Its phase.
    pub phase: LivePhase,
}

/// The phase of a live attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum LivePhase {
    /// Its instances are being prepared.
    Preparing,
    /// The word to start was given.
    Running {
        /// When.
        go_at: Timestamp,
        /// The node's clock at the script's exec, once it reported that.
        started_at: Option<Timestamp>,
    },
    /// Its end was decided; processes may still be there.
    Ending {
        /// When.
        since: Timestamp,
        /// How it ends.
        verdict: Verdict,
        /// The node's clock at the script's exec, if it came to that.
        started_at: Option<Timestamp>,
        /// Who takes its place, also if it was cancelled after that was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        taken: Option<Taken>,
    },
}

/// A place that is being cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Taken {
    /// The task that takes it.
    pub by: TaskId,
    /// How many attempts had been preempted by then: who clears a place first does not lose it to others.
    pub order: u64,
}

/// One instance of a live attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// What is known of it.
    pub state: InstanceState,
    /// What it used; 0 until it is gone.
    pub usage: Usage,
}

/// What is known of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// The node was told to prepare it.
    Preparing,
    /// It is prepared, or runs.
    Ready(Endpoint),
    /// Nothing of it is left.
    Gone,
    /// Its node was given up.
    Lost,
}

impl Instance {
    /// Whether its share of the allocation is still taken.
    #[must_use]
    pub fn holds_share(&self) -> bool {
        matches!(self.state, InstanceState::Preparing | InstanceState::Ready(_))
    }
}

/// What is remembered of a task between two attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// How many attempts there were.
    pub attempts: u32,
    /// How many of them were preempted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub preempted: u32,
    /// How many of them somebody ended, to queue the task again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requeued: u32,
    /// It does not start before.
    pub not_before: Timestamp,
    /// A node that failed it, avoided as long as others do.
    pub avoid: Option<NodeId>,
    /// How the last attempt ended.
    pub last: Verdict,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_untold(percent: &u8) -> bool {
    *percent == 0
}

pub(super) fn is_zero(count: &u32) -> bool {
    *count == 0
}

pub(super) fn is_none_preempted(count: &u64) -> bool {
    *count == 0
}

impl Job {
    /// Whether the job is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.spec.array.is_some()
    }

    /// Whether all of its tasks have finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.waiting.is_empty() && self.live.is_empty()
    }

    /// How many more of its tasks may start now: the array's throttle.
    #[must_use]
    pub fn may_start(&self) -> u64 {
        match self.spec.array.as_ref().and_then(|array| array.running_max) {
            Some(limit) => u64::from(limit).saturating_sub(self.live.len() as u64),
            None => u64::MAX,
        }
    }

    /// The instant from which on its waiting tasks can no longer end by the deadline.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.spec
            .eligibility
            .latest_start(self.spec.time_limit_s)
            .map(|last| Timestamp(last.0.saturating_add(1)))
    }

    /// When an attempt to which the word to start was given at `go_at` must have ended.
    #[must_use]
    pub fn must_end_at(&self, live: &Live, go_at: Timestamp) -> Option<Timestamp> {
        let limit = live.time_limit_s.or(self.spec.time_limit_s).map(|limit| go_at.plus_seconds(limit));
        limit.into_iter().chain(live.ends_by).chain(self.spec.eligibility.deadline).min()
    }

    /// When an attempt to which the word to start was given at `go_at` gets the signal that was wished for, unless it has
    /// had it.
    #[must_use]
    pub fn signal_at(&self, live: &Live, go_at: Timestamp) -> Option<Timestamp> {
        let wish = self.spec.signal.filter(|_| !live.signalled)?;
        let end = self.must_end_at(live, go_at)?;
        Some(Timestamp(end.0.saturating_sub(u64::from(wish.before_s) * 1_000_000)).max(go_at))
    }

    /// The parts of its time limit of which somebody is yet to be told of an attempt to which the word to start was given at
    /// `go_at`, in percent, with the instants at which it has run for them; rising.
    pub fn marks(&self, live: &Live, go_at: Timestamp) -> impl Iterator<Item = (Timestamp, u8)> + '_ {
        let limit_s = live.time_limit_s.or(self.spec.time_limit_s);
        let told = live.told_percent;
        let wished = self.spec.mail.iter().flat_map(|wish| wish.events.iter().rev());
        let percents =
            wished.filter_map(|event| event.percent_of_limit()).filter(move |percent| *percent > told);
        percents.filter_map(move |percent| {
            let run_us = limit_s?.saturating_mul(10_000 * u64::from(percent));
            Some((Timestamp(go_at.0.saturating_add(run_us)), percent))
        })
    }

    /// From when on its tasks no longer wait for few leaf switches, if they do not wait for ever.
    #[must_use]
    pub fn switches_wished_until(&self) -> Option<Timestamp> {
        let from =
            self.spec.eligibility.begin.map_or(self.submitted_at, |begin| begin.max(self.submitted_at));
        self.spec.request.switches.and_then(|wish| wish.wait_s).map(|wait| from.plus_seconds(wait))
    }

    /// Whether time or other jobs may have a say in when its tasks start.
    #[must_use]
    pub(super) fn is_indexed(&self) -> bool {
        !self.spec.eligibility.is_default() || self.spec.request.switches.is_some()
    }

    /// The number of the task's next attempt.
    #[must_use]
    pub fn next_attempt(&self, index: TaskIndex) -> u32 {
        let returned = u32::from(self.returned.contains(index.0));
        self.tried.get(&index).map_or(returned, |tried| tried.attempts) + 1
    }

    /// How many attempts of a task there were with the one of this number, without one that its node gave back.
    #[must_use]
    pub fn attempts_until(&self, index: TaskIndex, attempt: u32) -> u32 {
        attempt.saturating_sub(u32::from(self.returned.contains(index.0)))
    }
}

impl Live {
    /// Its key.
    #[must_use]
    pub fn key(&self, job: JobId, index: TaskIndex) -> AttemptKey {
        AttemptKey { task: TaskId { job, index }, attempt: self.attempt }
    }

    /// Whether its allocation is its own, and not yet that of another attempt of its array before it in a line.
    #[must_use]
    pub fn holds_allocation(&self) -> bool {
        self.follows.is_none()
    }

    /// Whether all instances have said that they are ready. One that starts at once never does: the word to start came with
    /// its place.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.instances.iter().all(|instance| matches!(instance.state, InstanceState::Ready(_)))
    }

    /// When the attempt must have ended: its own time limit, or its job's, counts from the word to start.
    #[must_use]
    pub fn deadline(&self, job_limit_s: Option<u64>) -> Option<Timestamp> {
        let from = match &self.phase {
            LivePhase::Running { go_at, .. } => *go_at,
            LivePhase::Preparing => self.placed_at,
            LivePhase::Ending { since, .. } => return Some(*since),
        };
        let limit = self.time_limit_s.or(job_limit_s).map(|limit| from.plus_seconds(limit));
        limit.into_iter().chain(self.ends_by).min()
    }

    /// The node's clock at the script's exec, if it came to that.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.phase {
            LivePhase::Preparing => None,
            LivePhase::Running { started_at, .. } | LivePhase::Ending { started_at, .. } => *started_at,
        }
    }

    /// What its instances used so far as is known.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.instances.iter().fold(Usage::default(), |sum, instance| sum.plus(instance.usage))
    }
}
