//! Clusters and jobs from lines.

use std::collections::BTreeMap;

use muster_core::cluster::{
    Backfill, ClusterConfig, Fill, NodeConfig, Order, Policy, PoolConfig, Preempt, SwitchConfig,
};
use muster_core::eligibility::BadDependency;
use muster_core::event::HardwareCore;
use muster_core::gres::Gres;
use muster_core::ids::Timestamp;
use muster_core::notation;
use muster_core::preempt;
use muster_core::spec::{ArraySpec, IndexRange, JobSpec, Memory};

use super::parse::{self, Line, ScenarioError};
use super::sharing;
use crate::replay::machine::{blank_spec, declare};

/// Memory for each core of nodes that say nothing, in bytes.
const MEMORY_PER_CORE_BYTES: u64 = 1 << 30;

/// Words for how tasks are distributed.
const FILLS: [(&str, Fill); 2] = [("pack", Fill::Pack), ("spread", Fill::Spread)];

/// The cluster of a scenario.
pub(super) struct Cluster {
    pub config: ClusterConfig,
    /// Cores of each node, by place; in the order of the nodes.
    pub places: Vec<Vec<HardwareCore>>,
}

/// Reads the lines that describe the cluster.
pub(super) fn cluster(lines: &[Line<'_>]) -> Result<Cluster, ScenarioError> {
    let mut config =
        ClusterConfig { name: "scenario".to_owned(), policy: Policy::default(), ..ClusterConfig::default() };
    let mut places = Vec::new();
    for line in lines {
        match line.verb {
            "nodes" => nodes(line, &mut config.nodes, &mut places)?,
            "switch" => config.switches.push(switch(line)?),
            "policy" => policy(line, &mut config.policy)?,
            "account" => sharing::account(line, &mut config)?,
            "qos" => sharing::qos(line, &mut config)?,
            "priority" => sharing::priority(line, &mut config.policy.priority)?,
            _ => {}
        }
    }
    if let (Some(circle), Some(line)) = (preempt::circle(&config.qos), lines.iter().find(|l| l.verb == "qos"))
    {
        return Err(line.wrong(format!("these preempt each other in a circle: {}", circle.join(", "))));
    }
    if config.nodes.is_empty() {
        let problem = "a scenario begins with its nodes: nodes n[1-4] cores=8".to_owned();
        return Err(ScenarioError::Line { line: lines.first().map_or(1, |line| line.number), problem });
    }
    for line in lines.iter().filter(|line| line.verb == "pool") {
        let pool = pool(line, &config)?;
        config.pools.push(pool);
    }
    if config.pools.is_empty() {
        let unsaid = parse::lines("pool main")?;
        config.pools.push(pool(&unsaid[0], &config)?);
    }
    Ok(Cluster { config, places })
}

fn nodes(
    line: &Line<'_>,
    nodes: &mut Vec<NodeConfig>,
    places: &mut Vec<Vec<HardwareCore>>,
) -> Result<(), ScenarioError> {
    line.only(
        1,
        &["cores", "memory", "gres", "gres-numa", "threads", "wide-cores", "l3", "numa", "package"],
    )?;
    let cores: u32 = line.number("cores")?.ok_or_else(|| line.wrong("'nodes' needs cores=NUMBER"))?;
    if cores == 0 || cores > muster_core::cores::CORES_PER_NODE_MAX {
        return Err(
            line.wrong(format!("cores={cores} is not 1 to {}", muster_core::cores::CORES_PER_NODE_MAX))
        );
    }
    let memory_bytes = line.bytes("memory")?.unwrap_or(u64::from(cores) * MEMORY_PER_CORE_BYTES);
    let gres = line.gres("gres")?;
    let size = |key: &str| Ok(line.number::<u32>(key)?.unwrap_or(cores).max(1));
    let (l3, numa, package) = (size("l3")?, size("numa")?, size("package")?);
    let threads: u32 = line.number("threads")?.unwrap_or(1);
    // Those with so many threads; the others have one.
    let wide: u32 = line.number("wide-cores")?.unwrap_or(cores);
    let gres_numa = gres_numa(line, &gres)?;
    for name in line.to_hosts(line.subject("names such as n[1-4]")?)? {
        if nodes.iter().any(|node| node.name == name) {
            return Err(line.wrong(format!("node '{name}' is there already")));
        }
        let blank = declare(name, cores, memory_bytes);
        nodes.push(NodeConfig { gres: gres.clone(), gres_numa: gres_numa.clone(), ..blank });
        let place = |i: u32| HardwareCore {
            package: i / package,
            numa: i / numa,
            l3: i / l3,
            threads: if i < wide { threads } else { 1 },
        };
        places.push((0..cores).map(place).collect());
    }
    Ok(())
}

/// The NUMA nodes of the devices of the first name, such as `0,0,1,1`.
fn gres_numa(line: &Line<'_>, gres: &[Gres]) -> Result<BTreeMap<String, Vec<u32>>, ScenarioError> {
    let Some(text) = line.text("gres-numa") else { return Ok(BTreeMap::new()) };
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    let numbers =
        numbers.map_err(|_| line.wrong(format!("gres-numa={text} is not a list such as 0,0,1,1")))?;
    let name = gres.first().map(|gres| gres.name.clone()).unwrap_or_default();
    let declared: u32 = gres.iter().filter(|gres| gres.name == name).map(|gres| gres.count).sum();
    if numbers.len() as u64 != u64::from(declared) {
        return Err(line.wrong(format!("gres-numa={text} places {} of {declared} devices", numbers.len())));
    }
    Ok([(name, numbers)].into())
}

fn switch(line: &Line<'_>) -> Result<SwitchConfig, ScenarioError> {
    line.only(1, &["nodes", "switches"])?;
    let name = line.subject("a name")?.to_owned();
    let (nodes, switches) = (line.hosts("nodes")?, line.hosts("switches")?);
    if nodes.is_some() == switches.is_some() {
        return Err(line.wrong("a switch has either nodes=LIST or switches=LIST"));
    }
    Ok(SwitchConfig { name, nodes: nodes.unwrap_or_default(), switches: switches.unwrap_or_default() })
}

fn policy(line: &Line<'_>, policy: &mut Policy) -> Result<(), ScenarioError> {
    line.only(
        0,
        &["hold-node", "requeue-delay", "attempts", "jobs-per-user", "tasks-waiting", "preempt-exempt"],
    )?;
    policy.preempt_exempt_s = line.seconds("preempt-exempt")?.unwrap_or(policy.preempt_exempt_s);
    policy.hold_node_s = line.seconds("hold-node")?.unwrap_or(policy.hold_node_s);
    policy.requeue_delay_s = line.seconds("requeue-delay")?.unwrap_or(policy.requeue_delay_s);
    policy.attempts_max = line.number("attempts")?.unwrap_or(policy.attempts_max);
    policy.jobs_per_user_max = line.number("jobs-per-user")?.unwrap_or(policy.jobs_per_user_max);
    policy.tasks_waiting_max = line.number("tasks-waiting")?.unwrap_or(policy.tasks_waiting_max);
    Ok(())
}

const PREEMPTS: [(&str, Preempt); 3] =
    [("off", Preempt::Off), ("requeue", Preempt::Requeue), ("cancel", Preempt::Cancel)];

fn pool(line: &Line<'_>, config: &ClusterConfig) -> Result<PoolConfig, ScenarioError> {
    let sizes = ["default-time", "max-time", "memory-per-core"];
    let manners = ["nodes", "order", "backfill", "fill", "priority", "tier", "preempt", "grace"];
    line.only(1, &[&manners[..], &sizes].concat())?;
    let all = || config.nodes.iter().map(|node| node.name.clone()).collect();
    let nodes: Vec<String> = line.hosts("nodes")?.unwrap_or_else(all);
    if let Some(name) = nodes.iter().find(|name| !config.nodes.iter().any(|node| node.name == **name)) {
        return Err(line.wrong(format!("there is no node '{name}'")));
    }
    let orders = [
        ("default", Order::Default),
        ("fcfs", Order::Fcfs),
        ("sjf", Order::Sjf),
        ("wfp3", Order::Wfp3),
        ("f1", Order::F1),
        ("multifactor", Order::Multifactor),
    ];
    let backfills = [
        ("none", Backfill::None),
        ("easy", Backfill::Easy),
        ("easy-shortest", Backfill::EasyShortest),
        ("conservative", Backfill::Conservative),
    ];
    Ok(PoolConfig {
        name: line.subject("a name")?.to_owned(),
        nodes,
        default: config.pools.is_empty(),
        time_default_s: line.seconds("default-time")?.unwrap_or(3600),
        time_max_s: line.seconds("max-time")?.unwrap_or(30 * 86_400),
        memory_per_core_bytes: line.bytes("memory-per-core")?,
        fill: line.choice("fill", &FILLS)?.unwrap_or_default(),
        order: line.choice("order", &orders)?.unwrap_or_default(),
        backfill: line.choice("backfill", &backfills)?.unwrap_or_default(),
        priority: line.number("priority")?.unwrap_or(0),
        tier: line.number("tier")?.unwrap_or(0),
        preempt: line.choice("preempt", &PREEMPTS)?.unwrap_or_default(),
        grace_s: line.seconds("grace")?.unwrap_or(0),
        by_rank: false,
    })
}

/// Reads the job of a `submit`.
pub(super) fn job(line: &Line<'_>) -> Result<JobSpec, ScenarioError> {
    line.only(
        3,
        &[
            "user",
            "pool",
            "nodes",
            "ranks",
            "ranks-per-node",
            "gres",
            "gres-per-rank",
            "nodelist",
            "threads-per-core",
            "cores-per-rank",
            "memory",
            "memory-per-core",
            "time",
            "run",
            "array",
            "priority",
            "account",
            "qos",
            "code",
            "time-min",
            "deadline",
            "dependency",
            "fill",
            "saves",
            "reservation",
        ],
    )?;
    let mut spec = blank_spec();
    line.subject("a name for the job")?.clone_into(&mut spec.name);
    spec.user.name = line.text("user").unwrap_or("ann").to_owned();
    spec.pool = line.text("pool").map(str::to_owned);
    spec.requeue = true;
    let request = &mut spec.request;
    request.nodes = line.number("nodes")?;
    request.ranks_per_node = line.number("ranks-per-node")?;
    request.gres_per_node = line.gres("gres")?;
    request.gres_per_rank = line.gres("gres-per-rank")?;
    request.cores_per_rank = line.number("cores-per-rank")?.unwrap_or(1);
    let implied = request.nodes.unwrap_or(1).saturating_mul(request.ranks_per_node.unwrap_or(1));
    request.ranks = line.number("ranks")?.unwrap_or(implied);
    request.memory = match (line.bytes("memory")?, line.bytes("memory-per-core")?) {
        (Some(_), Some(_)) => return Err(line.wrong("memory and memory-per-core exclude each other")),
        (Some(bytes), None) => Memory::PerNodeBytes(bytes),
        (None, Some(bytes)) => Memory::PerCoreBytes(bytes),
        (None, None) => Memory::PoolDefault,
    };
    request.nodelist = line.hosts("nodelist")?.unwrap_or_default().into_iter().collect();
    request.threads_per_core = line.number("threads-per-core")?;
    for word in line.words.iter().skip(1) {
        match *word {
            "exclusive" => request.exclusive = true,
            "contiguous" => request.contiguous = true,
            word => {
                let problem = format!("'{word}' means nothing here; 'exclusive' or 'contiguous' would");
                return Err(line.wrong(problem));
            }
        }
    }
    request.fill = line.choice("fill", &FILLS)?;
    spec.reservation = line.text("reservation").map(str::to_owned);
    spec.time_limit_s = line.seconds("time")?;
    spec.eligibility.time_min_s = line.seconds("time-min")?;
    spec.eligibility.deadline = line.seconds("deadline")?.map(|at| Timestamp(0).plus_seconds(at));
    let dependency = |text: &str| text.parse().map_err(|e: BadDependency| line.wrong(e.to_string()));
    spec.eligibility.dependency = line.text("dependency").map(dependency).transpose()?;
    spec.priority = line.number("priority")?.unwrap_or(0);
    spec.account = line.text("account").map(str::to_owned);
    spec.qos = line.text("qos").map(str::to_owned);
    spec.array = line.text("array").map(|text| array(line, text)).transpose()?;
    Ok(spec)
}

/// `0-9`, or `0-9%2`.
fn array(line: &Line<'_>, text: &str) -> Result<ArraySpec, ScenarioError> {
    let (indices, limit) = text.split_once('%').map_or((text, None), |(i, limit)| (i, Some(limit)));
    let ranges = notation::parse_ranges(indices, muster_core::spec::ARRAY_INDEX_MAX)
        .map_err(|error| line.wrong(error.to_string()))?;
    let limit = limit
        .map(|limit| limit.parse().map_err(|_| line.wrong(format!("'{limit}' is not a number of tasks"))))
        .transpose()?;
    Ok(ArraySpec { indices: ranges.into_iter().map(IndexRange::from).collect(), running_max: limit })
}
