//! The cluster as the configuration declares it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::gres::Gres;

/// What the configuration says, checked as a whole before it comes here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ClusterConfig {
    /// The cluster's name.
    pub name: String,
    /// All nodes, each name once.
    pub nodes: Vec<NodeConfig>,
    /// All pools; the first marked one, else the first, is the default.
    pub pools: Vec<PoolConfig>,
    /// The network tree; empty: all nodes hang on one switch.
    pub switches: Vec<SwitchConfig>,
    /// Policy numbers.
    pub policy: Policy,
    /// Accounts that usage is charged to; empty: every user is an account of one share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountConfig>,
    /// Qualities of service that jobs may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qos: Vec<QosConfig>,
    /// The time zone in which recurring jobs are told their times, as a rule of POSIX; empty is UTC.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time_zone: String,
    /// How many licences of each kind there are for all running tasks together, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub licenses: BTreeMap<String, u32>,
}

/// A declared account: a node of the tree over which the cluster is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountConfig {
    /// The account's name.
    pub name: String,
    /// The account that it is a part of; the whole cluster without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its part of its parent, relative to its siblings; at least 1.
    pub shares: u32,
    /// Login names of those who may charge it, each with shares relative to the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<String, u32>,
}

/// A declared quality of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosConfig {
    /// Its name.
    pub name: String,
    /// Added to the priority of its jobs.
    pub priority: i32,
    /// Names of the qualities of service whose running tasks its jobs may end.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub preempts: BTreeSet<String>,
    /// What becomes of its own tasks when another needs their place.
    #[serde(default)]
    pub preempt: Preempt,
    /// Between SIGTERM and SIGKILL when a task of it is preempted, in seconds; 0: [`Policy::kill_grace_ms`].
    #[serde(default)]
    pub grace_s: u64,
    /// Accounts that may use it; all without.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accounts: BTreeSet<String>,
    /// Most tasks of one user that run in it at once; no limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_per_user_max: Option<u32>,
    /// Percent of the usage that is charged: 100 charges it all, 0 nothing.
    pub usage_percent: u32,
}

impl Default for QosConfig {
    /// One without a name that changes nothing.
    fn default() -> Self {
        Self {
            name: String::new(),
            priority: 0,
            preempts: BTreeSet::new(),
            preempt: Preempt::default(),
            grace_s: 0,
            accounts: BTreeSet::new(),
            running_per_user_max: None,
            usage_percent: 100,
        }
    }
}

/// What becomes of a task when another with a higher claim needs its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Preempt {
    /// It goes on: nobody may take its place.
    #[default]
    Off,
    /// It is ended and waits for another attempt.
    Requeue,
    /// It is ended for good.
    Cancel,
}

/// A declared node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeConfig {
    /// The node's name, which is its host name.
    pub name: String,
    /// How many cores tasks may use.
    pub cores: u32,
    /// How much memory tasks may use, in bytes.
    pub memory_bytes: u64,
    /// Whether the node declares more cores than it has: core c then runs on real core c modulo the real ones.
    pub wrap_cores: bool,
    /// Features that tasks may ask for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// Devices, each kind once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<Gres>,
    /// Hardware threads of each core, until the node's agent says how many there are; 1 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_per_core: Option<u32>,
    /// The NUMA node of each device, by the name of the devices and in the order of their numbers, where the node's
    /// agent cannot see it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gres_numa: BTreeMap<String, Vec<u32>>,
    /// The file of each device on the node, by the name of the devices and in the order of their numbers: tasks cannot open
    /// those of devices that they do not hold. The node's agent looks for those of GPUs without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gres_files: BTreeMap<String, Vec<String>>,
    /// Whether the node is held back if its agent finds fewer devices than are declared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gres_check: bool,
    /// Set for a node that the site's programs bring up and take down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<ElasticNode>,
}

/// How long what is done about a node may take that the site's programs bring up and take down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElasticNode {
    /// From the wish for it to its agent's hello, in seconds.
    pub up_timeout_s: u64,
    /// How long it stays when nobody wants it, in seconds.
    pub idle_s: u64,
}

/// A declared pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// The pool's name.
    pub name: String,
    /// Names of its nodes.
    pub nodes: Vec<String>,
    /// Whether jobs that name no pool come here.
    pub default: bool,
    /// Time limit of tasks that name none, in seconds.
    pub time_default_s: u64,
    /// Longest time limit, in seconds.
    pub time_max_s: u64,
    /// Memory for each core of tasks that name none, in bytes; without: the node's memory divided by its cores.
    pub memory_per_core_bytes: Option<u64>,
    /// Whether tasks of one node are packed onto few nodes or spread over many.
    pub fill: Fill,
    /// In which order its jobs are considered.
    #[serde(default)]
    pub order: Order,
    /// What may overtake.
    #[serde(default)]
    pub backfill: Backfill,
    /// Its part of the priority sum; see [`PriorityPolicy`].
    #[serde(default)]
    pub priority: i32,
    /// Jobs of pools of a higher tier are considered first, and may take the place of tasks of pools of a lower one
    /// on nodes that both have.
    #[serde(default)]
    pub tier: u32,
    /// What becomes of its tasks when a pool of a higher tier needs their place.
    #[serde(default)]
    pub preempt: Preempt,
    /// Between SIGTERM and SIGKILL when a task of it is preempted, in seconds; 0: [`Policy::kill_grace_ms`].
    #[serde(default)]
    pub grace_s: u64,
    /// Whether its tasks may take each other's place, as far as their ranks allow it ([`crate::preempt::Rank`]): pools of the
    /// batch service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_rank: bool,
}

impl Default for PoolConfig {
    /// A pool without a name or nodes, with the limits and policies of one that says nothing of them.
    fn default() -> Self {
        Self {
            name: String::new(),
            nodes: Vec::new(),
            default: false,
            time_default_s: 3600,
            time_max_s: 7 * 86_400,
            memory_per_core_bytes: None,
            fill: Fill::default(),
            order: Order::default(),
            backfill: Backfill::default(),
            priority: 0,
            tier: 0,
            preempt: Preempt::default(),
            grace_s: 0,
            by_rank: false,
        }
    }
}

/// The order in which a pool considers its jobs. A job's priority goes before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The job that is due first: three time limits after its submission, at most two days or two limits; what may
    /// overtake it goes by time limit ÷ (wait + one day).
    #[default]
    Default,
    /// First come, first served.
    Fcfs,
    /// The shortest time limit first.
    Sjf,
    /// The largest (wait ÷ time limit)³ × cores first (Tang, Lan, Desai, Buettner, CLUSTER 2009).
    Wfp3,
    /// The smallest log₁₀(time limit) × cores + 870 log₁₀(submit time) first (Carastan-Santos, de Camargo, SC 2017).
    F1,
    /// The greatest sum of weighted factors first; see [`PriorityPolicy`].
    Multifactor,
}

/// What may overtake a job that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Backfill {
    /// Nothing.
    None,
    /// Whatever does not delay the first job that waits (Lifka, JSSPP 1995), in the pool's order.
    #[default]
    Easy,
    /// The same, the shortest time limit first (Tsafrir, Etsion, Feitelson, TPDS 2007).
    EasyShortest,
    /// Whatever delays no job that waits: each has a reservation from its arrival on.
    Conservative,
}

/// How tasks that fit on one node are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// Onto as few nodes as possible, so that whole nodes stay free for gangs.
    #[default]
    Pack,
    /// Onto the emptiest nodes first.
    Spread,
}

/// A declared switch: joins nodes (a leaf) or switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchConfig {
    /// The switch's name.
    pub name: String,
    /// Names of the nodes on it.
    pub nodes: Vec<String>,
    /// Names of the switches below it.
    pub switches: Vec<String>,
}

/// Numbers that steer the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Whether root may submit.
    pub root_may_submit: bool,
    /// Most tasks that may wait, all jobs together.
    pub tasks_waiting_max: u64,
    /// Most jobs that one user may have unfinished.
    pub jobs_per_user_max: u32,
    /// Attempts of one task before it fails for good.
    pub attempts_max: u32,
    /// How long a node that failed a prepare is held back, in seconds.
    pub hold_node_s: u64,
    /// How long after a node failed under it a task waits before its next attempt, in seconds.
    pub requeue_delay_s: u64,
    /// Between SIGTERM and SIGKILL, in milliseconds.
    pub kill_grace_ms: u32,
    /// How long a gang may take to prepare, in seconds.
    pub prepare_timeout_s: u64,
    /// How many finished jobs stay in memory.
    pub finished_jobs_kept: usize,
    /// How many tasks the finished jobs that stay in memory have at most, all together. Journals of before this was said kept
    /// all of them.
    #[serde(default = "all_tasks")]
    pub finished_tasks_kept: u64,
    /// Tasks of an array of which the last ones took no longer than this, in milliseconds, are handed to nodes in lines; 0: none are.
    #[serde(default = "short_task_ms")]
    pub short_task_ms: u64,
    /// A task that has run for less than this is not preempted, in seconds.
    #[serde(default)]
    pub preempt_exempt_s: u64,
    /// The weights of the order `multifactor`, and how usage is forgotten.
    #[serde(default)]
    pub priority: PriorityPolicy,
}

fn short_task_ms() -> u64 {
    50
}

fn all_tasks() -> u64 {
    u64::MAX
}

/// What the order `multifactor` adds up: each factor is between 0 and 1 and is multiplied by its weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityPolicy {
    /// How long the job has waited, as a part of `age_max_s`.
    pub age_weight: u32,
    /// How long a job waits until its age counts in full, in seconds.
    pub age_max_s: u64,
    /// How large the job is, as a part of its pool.
    pub size_weight: u32,
    /// Whether small jobs, rather than large ones, get the larger part.
    pub small_first: bool,
    /// The job's user among all users, ranked by how much less than their shares they and their accounts have used.
    pub fair_share_weight: u32,
    /// After how long usage counts half, in seconds.
    pub half_life_s: u64,
    /// Where the pool's priority lies between the lowest and the highest one, 0 among them.
    pub pool_weight: u32,
    /// Where the job's own priority lies between the lowest and the highest possible one: one half without any.
    pub job_weight: u32,
    /// Where the priority of the job's quality of service lies between the lowest and the highest one, 0 among them.
    pub qos_weight: u32,
}

impl Default for PriorityPolicy {
    fn default() -> Self {
        Self {
            age_weight: 1_000,
            age_max_s: 7 * 86_400,
            size_weight: 0,
            small_first: false,
            fair_share_weight: 10_000,
            half_life_s: 7 * 86_400,
            pool_weight: 1_000,
            job_weight: 1_000,
            qos_weight: 1_000,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            root_may_submit: false,
            tasks_waiting_max: 10_000_000,
            jobs_per_user_max: 10_000,
            attempts_max: 5,
            hold_node_s: 300,
            requeue_delay_s: 2,
            kill_grace_ms: 5_000,
            prepare_timeout_s: 60,
            finished_jobs_kept: 10_000,
            finished_tasks_kept: 250_000,
            short_task_ms: short_task_ms(),
            preempt_exempt_s: 0,
            priority: PriorityPolicy::default(),
        }
    }
}
