//! What a user submits, and its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Fill;
use crate::common::Common;
use crate::eligibility::Eligibility;
use crate::features::Constraint;
use crate::gres::Gres;
use crate::notation::Range;
use crate::preempt::Rank;
use crate::staging::Staging;

/// Largest script, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 4 << 20;
/// Largest environment of a job, names and values, in bytes.
pub const ENVIRONMENT_BYTES_MAX: usize = 1 << 20;
/// Largest sum of a job's arguments, in bytes.
pub const ARGUMENTS_BYTES_MAX: usize = 128 << 10;
/// Longest job name, in bytes.
pub const NAME_BYTES_MAX: usize = 200;
/// Longest path, in bytes (PATH_MAX of limits.h).
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest comment, command line and other remark of a job, in bytes.
pub const NOTE_BYTES_MAX: usize = 4096;
/// Most elements in one array.
pub const ARRAY_ELEMENTS_MAX: u64 = 4_000_000;
/// Largest array index.
pub const ARRAY_INDEX_MAX: u32 = 1_000_000_000;
/// Most kinds of licences that a job may ask for.
pub const LICENSE_KINDS_MAX: usize = 64;
/// Most ranks of one task.
pub const RANKS_MAX: u32 = 1_000_000;

/// The user that a job runs as. The node resolves the groups by the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// A job as it was submitted, with the pool's defaults filled in by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The job's name, for people.
    pub name: String,
    /// The pool; the default pool without.
    pub pool: Option<String>,
    /// Whom it runs as. Set by the controller from the caller's credentials.
    pub user: Common<User>,
    /// The text of the script, which starts with `#!`.
    pub script: Common<String>,
    /// Arguments of the script.
    pub arguments: Vec<String>,
    /// The environment of the script.
    pub environment: Common<BTreeMap<String, String>>,
    /// Where it runs; absolute.
    pub working_directory: String,
    /// Pattern of the standard input's path; `/dev/null` without. Patterns follow sbatch(1), `filename pattern`.
    pub stdin: Option<String>,
    /// Pattern of the standard output's path; without: `muster-%j.out`, with an array `muster-%A_%a.out`.
    pub stdout: Option<String>,
    /// Pattern of the standard error's path; the standard output without.
    pub stderr: Option<String>,
    /// Whether output files are appended to rather than truncated.
    pub append: bool,
    /// The file mode creation mask.
    pub umask: u32,
    /// Soft limits of setrlimit(2) by lower-case name; `u64::MAX` is unlimited.
    pub limits: Common<BTreeMap<String, u64>>,
    /// The host on which it was submitted.
    pub submit_host: String,
    /// What each task needs.
    pub request: Common<Request>,
    /// How long one attempt may run, in seconds; the pool's default without.
    pub time_limit_s: Option<u64>,
    /// The elements of an array; one task without.
    pub array: Option<ArraySpec>,
    /// Whether a task is queued again when a node fails under it.
    pub requeue: bool,
    /// Higher goes first; -10,000 to 10,000, above 0 for admins only.
    pub priority: i32,
    /// When its tasks may start.
    #[serde(default, skip_serializing_if = "Eligibility::is_default")]
    pub eligibility: Common<Eligibility>,
    /// The account that is charged; the user's only or first one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// The advance reservation whose nodes it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// A signal that it wants some time before its time limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<SignalWish>,
    /// What its user says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The path of its script; none if that came from elsewhere than a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The command line that submitted it, shortened to [`NOTE_BYTES_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submit_line: Option<String>,
    /// By how much its user lowered its priority; `priority` has it in already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nice: i32,
    /// A label of the site's own bookkeeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wckey: Option<String>,
    /// Whom to tell of what becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailWish>,
    /// Licences that each of its tasks holds while it lives, by name; at least 1 of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<String, u32>,
    /// Files that are brought to its tasks and taken away from them, and the folder of each on its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<Arc<Staging>>,
}

impl JobSpec {
    /// Makes what it has in common with other jobs one with theirs; see [`Common::share`].
    pub fn share(&mut self) {
        self.user.share();
        self.script.share();
        self.environment.share();
        self.limits.share();
        self.request.share();
        self.eligibility.share();
    }

    /// How long a node may take to prepare a task beyond the cluster's own limit, because of its files, in seconds.
    #[must_use]
    pub fn prepares_for_s(&self) -> u64 {
        self.staging.as_ref().map_or(0, |staging| staging.prepares_for_s())
    }

    /// Whether an attempt on so many nodes is told to start with the word to prepare: where nobody waits for anybody, and no
    /// files are waited for, a second round trip would bring nothing.
    #[must_use]
    pub fn starts_at_once(&self, nodes: usize) -> bool {
        nodes == 1 && self.staging.is_none()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Whom to tell of what becomes of a job, as `--mail-type` and `--mail-user` of sbatch(1) say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailWish {
    /// What to tell of; not empty.
    pub events: BTreeSet<MailEvent>,
    /// The address; the job's user without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What can become of a job that somebody may want to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailEvent {
    /// Its first task started.
    Begin,
    /// Its last task ended with success.
    End,
    /// It ended otherwise.
    Fail,
    /// A task of it waits for another attempt.
    Requeue,
    /// What it depends on can no longer come true.
    InvalidDepend,
    /// It ran out of its time limit.
    TimeLimit,
    /// It has run for 90 % of its time limit.
    #[serde(rename = "time_limit_90")]
    TimeLimit90,
    /// It has run for 80 % of its time limit.
    #[serde(rename = "time_limit_80")]
    TimeLimit80,
    /// It has run for half of its time limit.
    #[serde(rename = "time_limit_50")]
    TimeLimit50,
    /// The same events of each task of an array, rather than of the whole.
    ArrayTasks,
}

impl MailEvent {
    /// Every event, in the order of a job's life.
    pub const ALL: [Self; 10] = [
        Self::Begin,
        Self::End,
        Self::Fail,
        Self::Requeue,
        Self::InvalidDepend,
        Self::TimeLimit,
        Self::TimeLimit90,
        Self::TimeLimit80,
        Self::TimeLimit50,
        Self::ArrayTasks,
    ];

    /// As Slurm writes it, in lower case, such as `time_limit`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
            Self::Fail => "fail",
            Self::Requeue => "requeue",
            Self::InvalidDepend => "invalid_depend",
            Self::TimeLimit => "time_limit",
            Self::TimeLimit90 => "time_limit_90",
            Self::TimeLimit80 => "time_limit_80",
            Self::TimeLimit50 => "time_limit_50",
            Self::ArrayTasks => "array_tasks",
        }
    }
}

impl MailEvent {
    /// The part of its time limit, in percent, at which something is told of what still runs.
    #[must_use]
    pub fn percent_of_limit(self) -> Option<u8> {
        match self {
            Self::TimeLimit50 => Some(50),
            Self::TimeLimit80 => Some(80),
            Self::TimeLimit90 => Some(90),
            _ => None,
        }
    }
}

/// A signal that a job wishes for before its time is over, after `--signal` of sbatch(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalWish {
    /// Its number.
    pub signal: u8,
    /// How long before the end, in seconds.
    pub before_s: u32,
    /// Who gets it.
    pub to: SignalTo,
}

/// Who of an attempt gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalTo {
    /// The script alone.
    Script,
    /// What the script has started: launchers such as mpirun and srun pass it on to their ranks.
    Ranks,
    /// Both.
    All,
}

/// The largest number of a signal, after signal(7).
pub const SIGNAL_MAX: u8 = 64;
/// How long before the end a signal is sent at most, in seconds (sbatch(1)).
pub const SIGNAL_BEFORE_MAX_S: u32 = 65_535;

/// What one task needs: ranks, the cores of each, memory, and how they spread over nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Number of nodes; without: as few as hold the ranks.
    pub nodes: Option<u32>,
    /// Number of ranks of all nodes together.
    pub ranks: u32,
    /// Ranks on each node, at most; needed exactly when `nodes` × this equals `ranks`.
    pub ranks_per_node: Option<u32>,
    /// Cores of one rank.
    pub cores_per_rank: u32,
    /// Memory.
    pub memory: Memory,
    /// Whether whole nodes are wanted, shared with nobody.
    pub exclusive: bool,
    /// The most nodes it may have, where `nodes` is the least; as many as possible are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_max: Option<u32>,
    /// Whether more nodes than the least bring more ranks, in the same proportion, rather than the same ranks spread
    /// wider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ranks_grow: bool,
    /// Features that each node must, or must not, have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// Names of nodes that must all be among those it gets.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub nodelist: BTreeSet<String>,
    /// Names of nodes that it must not get.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exclude: BTreeSet<String>,
    /// How many leaf switches its nodes may hang on, and how long it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<SwitchWish>,
    /// Devices that it has on each of its nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres_per_node: Vec<Gres>,
    /// Devices that it has for each rank, on the rank's node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres_per_rank: Vec<Gres>,
    /// Pools and jobs of the batch service for which each node must have been made ready.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ready_for: BTreeSet<String>,
    /// Whether it may not have nodes that others may take back from its pool of the batch service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// Whether its nodes must follow each other in the order of the tree, with none between them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub contiguous: bool,
    /// Hardware threads of each core that it uses: nodes whose cores have fewer do not suit it. All of them without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_per_core: Option<u32>,
    /// Whether it is packed onto few nodes or spread over many; as its pool says without. Spread without a number of
    /// nodes, it is on as many as there are ranks, or as have room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
    /// The name of a node on which it is placed if that has room when it starts; a request for one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<String>,
    /// Whose place it may take among the tasks of its pool of the batch service, and who may take its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<Rank>,
}

/// A wish for few leaf switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SwitchWish {
    /// At most so many leaf switches.
    pub switches_max: u32,
    /// How long to wait for them at most, in seconds, before any switches will do; for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            nodes: None,
            ranks: 1,
            ranks_per_node: None,
            cores_per_rank: 1,
            memory: Memory::PoolDefault,
            exclusive: false,
            nodes_max: None,
            ranks_grow: false,
            constraint: None,
            nodelist: BTreeSet::new(),
            exclude: BTreeSet::new(),
            switches: None,
            gres_per_node: Vec::new(),
            gres_per_rank: Vec::new(),
            ready_for: BTreeSet::new(),
            dedicated: false,
            contiguous: false,
            threads_per_core: None,
            fill: None,
            near: None,
            rank: None,
        }
    }
}

impl Request {
    /// How many nodes the task needs at least: 1 where one node may do.
    #[must_use]
    pub fn nodes_min(&self) -> u32 {
        self.nodes
            .unwrap_or_else(|| self.ranks_per_node.map_or(1, |per_node| self.ranks.div_ceil(per_node.max(1))))
    }

    /// The same request for exactly `count` nodes, with the ranks that come with them.
    #[must_use]
    pub fn with_nodes(&self, count: u32) -> Self {
        let per_node = self.nodes.map_or(0, |nodes| self.ranks / nodes.max(1));
        let ranks = if self.ranks_grow { per_node * count } else { self.ranks };
        Self { nodes: Some(count), nodes_max: None, ranks_grow: false, ranks, ..self.clone() }
    }

    /// Whether it asks for devices.
    #[must_use]
    pub fn has_gres(&self) -> bool {
        !self.gres_per_node.is_empty() || !self.gres_per_rank.is_empty()
    }

    /// Cores of all ranks together.
    #[must_use]
    pub fn cores_total(&self) -> u64 {
        u64::from(self.ranks) * u64::from(self.cores_per_rank)
    }
}

/// How much memory a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// The pool's default for each core.
    PoolDefault,
    /// Bytes on each node.
    PerNodeBytes(u64),
    /// Bytes for each core.
    PerCoreBytes(u64),
    /// All memory of each node.
    WholeNode,
}

/// The elements of an array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArraySpec {
    /// Index ranges, rising and disjoint.
    pub indices: Vec<IndexRange>,
    /// How many elements may run at once; no limit without.
    pub running_max: Option<u32>,
}

/// The indices `first..=last`, every `step`th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IndexRange {
    /// First index.
    pub first: u32,
    /// Last index, one that the step hits.
    pub last: u32,
    /// Distance, at least 1.
    pub step: u32,
}

impl IndexRange {
    /// Its indices, rising.
    pub fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        (self.first..=self.last).step_by(self.step as usize)
    }

    /// How many indices it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::from((self.last - self.first) / self.step) + 1
    }

    /// Never: a range holds at least one index.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl From<Range> for IndexRange {
    fn from(range: Range) -> Self {
        let last = range.last - (range.last - range.first) % range.step;
        Self { first: range.first, last, step: range.step }
    }
}
