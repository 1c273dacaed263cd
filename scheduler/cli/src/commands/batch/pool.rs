//! `muster batch pool`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Subcommand, ValueEnum};
use muster_batch::query::encode;
use muster_batch_client::Service;
use serde_json::{Value, json};

use super::listing::{Column, ListArgs, at, lines, print_list, when};
use super::{Common, body, duration, gone, set};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::tell;
use crate::table::Side::{Left, Right};

/// How often a pool is looked at.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a pool that borrows nodes from the cluster
    Create(CreateArgs),
    /// Show all about a pool
    Show {
        /// The pool
        #[arg(value_name = "POOL")]
        id: String,
    },
    /// List the pools
    List {
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the nodes of a pool
    Nodes {
        /// The pool
        #[arg(value_name = "POOL")]
        id: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Give a pool more nodes, or fewer
    #[command(after_help = "Examples:\n  muster batch pool resize farm --nodes 8\n  \
        muster batch pool resize farm --nodes 0 --how taskcompletion   what runs may end first")]
    Resize {
        /// The pool
        #[arg(value_name = "POOL")]
        id: String,
        /// How many nodes it is to have
        #[arg(long, value_name = "COUNT", required_unless_present = "low_priority")]
        nodes: Option<u32>,
        /// How many idle nodes it is to have until others need them
        #[arg(long, value_name = "COUNT")]
        low_priority: Option<u32>,
        /// What becomes of the tasks of nodes that leave
        #[arg(long, value_enum)]
        how: Option<How>,
        /// How long it may take (minutes, or H:MM:SS)
        #[arg(long, value_name = "TIME", value_parser = duration)]
        within: Option<String>,
        /// Wait until it is so
        #[arg(long)]
        wait: bool,
    },
    /// Wait until a pool has the nodes that it is to have
    Wait {
        /// The pool
        #[arg(value_name = "POOL")]
        id: String,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Delete a pool; its nodes go back to the cluster
    Delete {
        /// Pools
        #[arg(value_name = "POOL", required = true)]
        ids: Vec<String>,
    },
    /// Let a pool scale itself by a formula, stop that, or try a formula
    #[command(
        after_help = "Examples:\n  muster batch pool autoscale farm --formula-file grow.txt --every 5\n  \
        muster batch pool autoscale farm --formula '$TargetDedicatedNodes = 2' --try   what it would do\n  \
        muster batch pool autoscale farm --off"
    )]
    Autoscale {
        /// The pool
        #[arg(value_name = "POOL")]
        id: String,
        #[command(flatten)]
        scaling: Scaling,
        /// Only say what the formula finds now
        #[arg(long = "try", conflicts_with = "off")]
        only_try: bool,
        /// Stop it: the pool keeps the nodes that it has
        #[arg(long, conflicts_with_all = ["formula", "formula_file", "every"])]
        off: bool,
    },
}

/// Arguments of `muster batch pool create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch pool create farm --class main --nodes 4 --slots 8\n  \
        muster batch pool create mpi --class main --nodes 2 --mpi --wait\n  \
        muster batch pool create farm --class main --formula-file grow.txt\n  \
        muster batch pool create farm --json-file pool.json   whatever the protocol has")]
pub(crate) struct CreateArgs {
    /// The pool
    #[arg(value_name = "POOL")]
    id: Option<String>,
    /// The pool of the cluster that lends the nodes (the protocol's vmSize)
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// How many nodes it is to have
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["formula", "formula_file"])]
    nodes: Option<u32>,
    /// How many idle nodes it is to have until others need them
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["formula", "formula_file"])]
    low_priority: Option<u32>,
    /// Tasks that a node runs at once
    #[arg(long, value_name = "COUNT")]
    slots: Option<u32>,
    /// Whether a node is filled before the next, or all evenly
    #[arg(long, value_enum)]
    fill: Option<Fill>,
    /// Tasks may run on several nodes, with MPI
    #[arg(long)]
    mpi: bool,
    #[command(flatten)]
    scaling: Scaling,
    /// The pool as the protocol has it; options have the last word
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Wait until it has its nodes
    #[arg(long)]
    wait: bool,
}

/// By what a pool scales itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Scaling {
    /// The formula
    #[arg(long, value_name = "TEXT", conflicts_with = "formula_file")]
    formula: Option<String>,
    /// The file with the formula
    #[arg(long, value_name = "FILE")]
    formula_file: Option<PathBuf>,
    /// How often it is evaluated (minutes, or H:MM:SS)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    every: Option<String>,
}

impl Scaling {
    fn formula(&self) -> Result<Option<String>, CliError> {
        match &self.formula_file {
            None => Ok(self.formula.clone()),
            Some(path) => std::fs::read_to_string(path).map(Some).map_err(|source| CliError::File {
                action: "read",
                path: path.clone(),
                source,
            }),
        }
    }
}

/// How tasks fill nodes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Fill {
    Pack,
    Spread,
}

/// What becomes of tasks on nodes that leave.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum How {
    Requeue,
    Terminate,
    Taskcompletion,
}

const POOLS: [Column; 7] = [
    ("POOL", Left, |pool| at(pool, "id")),
    ("STATE", Left, |pool| match at(pool, "state").as_str() {
        "active" => at(pool, "allocationState"),
        other => other.to_owned(),
    }),
    ("NODES", Right, |pool| {
        format!("{}/{}", at(pool, "currentDedicatedNodes"), at(pool, "targetDedicatedNodes"))
    }),
    ("LOW", Right, |pool| low(pool).map_or(String::new(), |(now, target)| format!("{now}/{target}"))),
    ("SLOTS", Right, |pool| at(pool, "taskSlotsPerNode")),
    ("CLASS", Left, |pool| at(pool, "vmSize")),
    ("SCALES", Left, |pool| if pool["enableAutoScale"] == true { "itself" } else { "" }.to_owned()),
];

/// How many low-priority nodes a pool has, and how many it is to have; none if it is to have none.
fn low(pool: &Value) -> Option<(u64, u64)> {
    let of = |name: &str| pool[name].as_u64().unwrap_or(0);
    let (now, target) = (of("currentLowPriorityNodes"), of("targetLowPriorityNodes"));
    (now + target > 0).then_some((now, target))
}

const NODES: [Column; 6] = [
    ("NODE", Left, |node| at(node, "id")),
    ("STATE", Left, |node| at(node, "state")),
    ("KEPT", Left, |node| if node["isDedicated"] == false { "until needed" } else { "" }.to_owned()),
    ("TASKS", Right, |node| at(node, "runningTasksCount")),
    ("ADDRESS", Left, |node| at(node, "ipAddress")),
    ("REASON", Left, |node| at(node, "errors/0/message")),
];

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, CliError> {
    let service = common.connect()?;
    let path = |id: &str| format!("/pools/{}", encode(id));
    match command {
        Command::Create(args) => {
            let body = creation(args)?;
            let id = at(&body, "id");
            service.post("/pools", &body)?;
            if args.wait {
                return await_steady(common, &service, &id, None);
            }
            common.done(&format!("pool {id} is made"), || service.get(&path(&id)))
        }
        Command::Show { id } => common.show(&service.get_with_stats(&path(id))?, describe),
        Command::List { list } => print_list(common, &service, "/pools", "pools", &list.listing(&[]), &POOLS),
        Command::Nodes { id, list } => {
            let nodes = format!("{}/nodes", path(id));
            print_list(common, &service, &nodes, "nodes", &list.listing(&[]), &NODES)
        }
        Command::Resize { id, nodes, low_priority, how, within, wait } => {
            let mut body = json!({});
            set(&mut body, "targetDedicatedNodes", *nodes);
            set(&mut body, "targetLowPriorityNodes", *low_priority);
            set(&mut body, "resizeTimeout", within.clone());
            set(&mut body, "nodeDeallocationOption", how.map(word));
            service.post(&format!("{}/resize", path(id)), &body)?;
            if *wait {
                return await_steady(common, &service, id, None);
            }
            let kinds = [(nodes, "nodes"), (low_priority, "low-priority nodes")];
            let said = kinds.iter().filter_map(|(count, what)| Some(format!("{} {what}", (**count)?)));
            let said = said.collect::<Vec<_>>().join(" and ");
            common.done(&format!("pool {id} is to have {said}"), || service.get(&path(id)))
        }
        Command::Wait { id, timeout } => await_steady(common, &service, id, timeout.map(Duration::from_secs)),
        Command::Delete { ids } => {
            ids.iter().try_for_each(|id| service.delete(&path(id), false))?;
            common.done(&format!("deleted: {}", ids.join(" ")), || {
                Ok(ids.iter().map(|id| gone("pool", id)).collect())
            })
        }
        Command::Autoscale { id, scaling, only_try, off } => {
            if *off {
                service.post(&format!("{}/disableautoscale", path(id)), &json!({}))?;
                return common.done(&format!("pool {id} scales itself no more"), || service.get(&path(id)));
            }
            let formula = scaling.formula()?;
            let mut body = json!({});
            if *only_try {
                let missing = CliError::BatchUsage("which formula? Give --formula or --formula-file");
                body["autoScaleFormula"] = formula.ok_or(missing)?.into();
                return common
                    .show(&service.post(&format!("{}/evaluateautoscale", path(id)), &body)?, evaluation);
            }
            if formula.is_none() && scaling.every.is_none() {
                return Err(CliError::BatchUsage(
                    "name something: --formula, --formula-file, --every or --off",
                ));
            }
            set(&mut body, "autoScaleFormula", formula);
            set(&mut body, "autoScaleEvaluationInterval", scaling.every.clone());
            service.post(&format!("{}/enableautoscale", path(id)), &body)?;
            common.done(&format!("pool {id} scales itself"), || service.get(&path(id)))
        }
    }
}

fn creation(args: &CreateArgs) -> Result<Value, CliError> {
    let CreateArgs { id, class, nodes, low_priority, slots, fill, mpi, scaling, json_file, wait: _ } = args;
    let mut body = body(json_file.as_ref())?;
    set(&mut body, "id", id.clone());
    set(&mut body, "vmSize", class.clone());
    set(&mut body, "targetDedicatedNodes", *nodes);
    set(&mut body, "targetLowPriorityNodes", *low_priority);
    set(&mut body, "taskSlotsPerNode", *slots);
    if let Some(fill) = fill {
        body["taskSchedulingPolicy"] = json!({ "nodeFillType": word(*fill) });
    }
    if *mpi {
        body["enableInterNodeCommunication"] = true.into();
    }
    if let Some(formula) = scaling.formula()? {
        body["enableAutoScale"] = true.into();
        body["autoScaleFormula"] = formula.into();
    }
    set(&mut body, "autoScaleEvaluationInterval", scaling.every.clone());
    if body["id"].is_null() || body["vmSize"].is_null() {
        return Err(CliError::BatchUsage("a pool needs its name and --class, or --json-file with both"));
    }
    Ok(body)
}

/// A value of an option as the protocol says it.
pub(super) fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn await_steady(
    common: &Common,
    service: &Service,
    id: &str,
    limit: Option<Duration>,
) -> Result<ExitCode, CliError> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        let pool = service.get(&format!("/pools/{}", encode(id)))?;
        if at(&pool, "allocationState") == "steady" {
            let short = at(&pool, "currentDedicatedNodes") != at(&pool, "targetDedicatedNodes")
                || low(&pool).is_some_and(|(now, target)| now != target);
            common.show(&pool, describe)?;
            return Ok(if short { Exit::SomeFailed } else { Exit::Ok }.into());
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            tell(&format!("muster batch: pool {id} has not all of its nodes yet"));
            return Ok(Exit::TimeOut.into());
        }
        std::thread::sleep(LOOK);
    }
}

fn describe(pool: &Value) -> String {
    let errors = pool["resizeErrors"].as_array();
    let errors: Vec<String> = errors.into_iter().flatten().map(|error| at(error, "message")).collect();
    lines(&[
        ("Pool", at(pool, "id")),
        ("State", format!("{}, {}", at(pool, "state"), at(pool, "allocationState"))),
        ("Nodes", format!("{} of {}", at(pool, "currentDedicatedNodes"), at(pool, "targetDedicatedNodes"))),
        ("Low priority", low(pool).map_or(String::new(), |(now, target)| format!("{now} of {target}"))),
        ("Class", at(pool, "vmSize")),
        ("Slots", at(pool, "taskSlotsPerNode")),
        ("Fill", at(pool, "taskSchedulingPolicy/nodeFillType")),
        ("MPI", if pool["enableInterNodeCommunication"] == true { "yes" } else { "no" }.to_owned()),
        ("Made", when(pool, "creationTime")),
        ("Used", used(&pool["stats"]["resourceStats"])),
        ("Scales by", at(pool, "autoScaleFormula")),
        ("Found", at(pool, "autoScaleRun/results")),
        ("Trouble", at(pool, "autoScaleRun/error/message")),
        ("Resize", errors.join("; ")),
    ])
}

/// What a node of the pool has used on average, over the pool's life.
fn used(stats: &Value) -> String {
    let number = |name: &str| stats[name].as_f64();
    let (Some(busy), Some(memory_gib), Some(disk_gib)) =
        (number("avgCPUPercentage"), number("avgMemoryGiB"), number("avgDiskGiB"))
    else {
        return String::new();
    };
    format!(
        "{busy:.1} per cent of the cores, {memory_gib:.1} GiB of memory, {disk_gib:.1} GiB of disks, on average"
    )
}

fn evaluation(run: &Value) -> String {
    let results = at(run, "results");
    let mut all: Vec<String> =
        results.split(';').filter(|result| !result.is_empty()).map(str::to_owned).collect();
    if !run["error"].is_null() {
        all.push(format!("{}: {}", at(run, "error/code"), at(run, "error/message")));
    }
    all.iter().map(|line| format!("{}\n", crate::text::tame(line))).collect()
}
