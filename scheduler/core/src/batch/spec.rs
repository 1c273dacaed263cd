//! What users say of pools, jobs and tasks. What the engine does not look at is kept as the text that the protocol gave.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chore::ChoreSpec;
use super::container::Container;
use super::exit::ExitConditions;
use super::ids::FoldedId;
use super::package::PackageReference;
use super::scaling::Scaling;
use super::setup::PoolSetup;
use crate::cluster::Fill;
use crate::spec::User;
use crate::staging::{Command, Staging};

/// A pool as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPoolSpec {
    /// Its id, as typed.
    pub id: String,
    /// The configured pool that lends its nodes.
    pub home: String,
    /// Into how many slots a node's cores and memory are divided.
    pub slots_per_node: u32,
    /// Whether tasks are packed onto few nodes or spread over many.
    pub fill: Fill,
    /// Whether tasks may have several nodes.
    pub inter_node: bool,
    /// What runs on each node that is lent to it, before its tasks do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Arc<ChoreSpec>>,
    /// What is on each node that is lent to it, before anything of it runs there.
    #[serde(default, skip_serializing_if = "PoolSetup::is_empty")]
    pub setup: PoolSetup,
    /// All that was said of it, as JSON.
    pub said: Arc<str>,
}

/// A job as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJobSpec {
    /// Its id, as typed.
    pub id: String,
    /// The schedule that has made it, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<FoldedId>,
    /// Its pool, which need not be there yet.
    pub pool: FoldedId,
    /// Set if the job brings a pool of its own, which `pool` names then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pool: Option<Box<AutoPool>>,
    /// Higher goes first; at most [`super::PRIORITY_MAX`] from 0.
    pub priority: i32,
    /// Whether tasks of a higher priority may take the place of its running ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
    /// How many of its tasks may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// How long after its creation it is terminated, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_clock_max_s: Option<u64>,
    /// How often its tasks are tried again that say nothing of it.
    pub retries: Retries,
    /// Whether its tasks may depend on each other.
    pub uses_dependencies: bool,
    /// Whether it is terminated once all of its tasks have completed.
    pub terminate_when_complete: bool,
    /// Whether the ends of its tasks may have a say in what becomes of it.
    pub acts_on_failure: bool,
    /// Variables of all its tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// The task that is made with it, before all others of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Box<Manager>>,
    /// What runs on each of its nodes before its first task there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparation: Option<Arc<ChoreSpec>>,
    /// What runs at its end on each node where its preparation ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Arc<ChoreSpec>>,
    /// All that was said of it, as JSON.
    pub said: Arc<str>,
}

/// The task of a job that makes its other tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// The task.
    pub task: NewTask,
    /// What else is said of it.
    pub shape: Arc<TaskShape>,
    /// Whether the job ends with it.
    pub ends_job: bool,
}

/// A pool that is made with a job, and is gone with it or with its schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoPool {
    /// How its id begins.
    pub prefix: String,
    /// What it is like; its id is not looked at.
    pub pool: BatchPoolSpec,
    /// How many nodes it is to have.
    pub target: u32,
    /// How many low-priority nodes it is to have.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_low: u32,
    /// How long it tries to get them, in seconds.
    pub timeout_s: u64,
    /// By what it finds out itself how many nodes it is to have, if it does; `target` is 0 then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// How long it is there.
    #[serde(default)]
    pub lifetime: PoolLifetime,
    /// Whether it stays when that is over.
    pub keep_alive: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How long an automatic pool is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolLifetime {
    /// As long as the job that it was made with.
    #[default]
    Job,
    /// As long as the schedule of that job: all jobs of the schedule use it.
    Schedule,
}

/// How often a task is tried again whose command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retries {
    /// So often at most.
    AtMost(u32),
    /// For ever.
    Unlimited,
}

impl Retries {
    /// Whether one more is allowed after so many.
    #[must_use]
    pub fn allow(self, after: u32) -> bool {
        match self {
            Self::AtMost(most) => after < most,
            Self::Unlimited => true,
        }
    }
}

/// What tasks have in common but for their ids and commands: thousands of tasks share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskShape {
    /// Whom they run as: who added them.
    pub user: User,
    /// Slots that each takes.
    pub slots: u32,
    /// Set for tasks of several nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_instance: Option<MultiInstance>,
    /// How long an attempt may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_clock_max_s: Option<u64>,
    /// How often they are tried again; as their job says without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Their files: what is brought and taken away, and how long it is kept.
    #[serde(default)]
    pub staging: Staging,
    /// Packages that are unpacked on their nodes before they start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<PackageReference>,
    /// The container in which they run, if they run in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Box<Container>>,
    /// Variables of their commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// Whether each is given a token by which it may ask about its own job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub token: bool,
    /// The name of a node on which each is placed if that has room when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Box<str>>,
    /// Whether each has its node for as long as it runs: not one that others may take back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// Whether each has its node alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// What follows from their ends.
    #[serde(default, skip_serializing_if = "ExitConditions::is_default")]
    pub exits: ExitConditions,
    /// All else that was said of them, as JSON.
    pub said: Arc<str>,
}

/// A task of several nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultiInstance {
    /// How many nodes.
    pub instances: u32,
    /// The command that runs on each before the task's own.
    pub coordination: Command,
}

impl TaskShape {
    /// How many nodes a task needs.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.multi_instance.as_ref().map_or(1, |multi| multi.instances)
    }
}

/// A task that is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// Its id, as typed.
    pub id: String,
    /// Its command line.
    pub command: Box<str>,
    /// Which of the shapes that come with it is its.
    pub shape: u32,
    /// What it depends on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends: Option<Box<DependsOn>>,
}

/// What a task depends on, in its job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DependsOn {
    /// Ids of tasks, as typed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Ranges of tasks whose ids are numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<IdRange>,
}

/// Numbers from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first.
    pub start: u32,
    /// The last.
    pub end: u32,
}
