//! `muster-sim scale`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use muster_sim::replay::ReplayPolicy;
use muster_sim::scale::{
    ARRAY_ELEMENTS, ScaleOptions, ScaleReport, Topology, fat_tree, measure, read_topology,
};

use crate::alloc;

/// Measure scheduling passes on a large cluster with a long queue
#[derive(Debug, Args)]
#[command(after_help = "\
The cluster is a fat tree with 18 nodes on each leaf switch, or the tree of a file in the form of Slurm's
topology.conf. The queue holds serial jobs, jobs of a few cores, gangs of 1 to 512 nodes, and arrays.

Examples:
  muster-sim scale
  muster-sim scale --nodes 1024 --pending 10000 --json
  muster-sim scale --topology switch-10044.conf --policy easy
  muster-sim scale --sweep                   how the times grow with nodes and with waiting jobs")]
pub struct ScaleArgs {
    /// Number of nodes
    #[arg(long, default_value_t = 10_044, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    nodes: u32,
    /// Cores of each node
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    cores: u32,
    /// Jobs that wait
    #[arg(long, default_value_t = 100_000)]
    pending: usize,
    /// Take the nodes and switches of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "sweep"])]
    topology: Option<PathBuf>,
    /// In which order jobs are considered, and what may overtake
    #[arg(long, value_enum, default_value_t = ReplayPolicy::Default)]
    policy: ReplayPolicy,
    /// How many tasks end one after the other
    #[arg(long, default_value_t = 300)]
    rounds: usize,
    /// Decides the mix of jobs
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure smaller clusters and shorter queues too, a row for each
    #[arg(long)]
    sweep: bool,
    /// Write JSON: one object, with --sweep a list of them
    #[arg(long)]
    json: bool,
}

/// Measures.
pub fn run(args: &ScaleArgs) -> anyhow::Result<ExitCode> {
    alloc::start_counting();
    let options = |topology: Topology, pending: usize| ScaleOptions {
        topology,
        cores_per_node: args.cores,
        pending,
        rounds: args.rounds,
        order: args.policy.order(),
        backfill: args.policy.backfill(),
        seed: args.seed,
    };
    if !args.sweep {
        let topology = match &args.topology {
            Some(path) => read_topology(path)?,
            None => fat_tree(args.nodes),
        };
        let report = measure(&options(topology, args.pending), alloc::heap_bytes)?;
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", table(&report));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut reports = Vec::new();
    for nodes in [args.nodes.div_ceil(16), args.nodes.div_ceil(4), args.nodes] {
        for pending in [args.pending.div_ceil(100), args.pending.div_ceil(10), args.pending] {
            let report = measure(&options(fat_tree(nodes), pending), alloc::heap_bytes)?;
            if !args.json {
                print!("{}", row(&report, reports.is_empty()));
            }
            reports.push(report);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string(&reports)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(report: &ScaleReport) -> String {
    let (passes, incremental, memory) = (&report.passes, &report.incremental, &report.memory);
    let rows = [
        ("cluster", format!("{} nodes, {} cores", report.nodes, report.cores)),
        ("queue", format!("{} jobs, {} tasks", report.pending_jobs, report.pending_tasks)),
        ("one submit", format!("{:.1} us", report.submit_us)),
        ("pass, empty cluster", format!("{:.1} ms, {} started", passes.empty_ms, passes.empty_started)),
        (
            "pass, full cluster",
            format!(
                "{:.1} ms, {} live, {} cores free",
                passes.full_ms, passes.full_live, passes.full_free_cores
            ),
        ),
        (
            "pass after one end",
            format!(
                "median {:.1} us, 95 % {:.1} us, longest {:.1} us; {} ends, {} starts",
                incremental.median_us,
                incremental.p95_us,
                incremental.max_us,
                incremental.rounds,
                incremental.started
            ),
        ),
        ("its reports", format!("median {:.1} us", incremental.reports_median_us)),
        ("memory of a waiting job", format!("{:.0} bytes", memory.per_waiting_job)),
        ("memory of a waiting task", format!("{:.0} bytes", memory.per_waiting_task)),
        ("an array", format!("{} bytes for {ARRAY_ELEMENTS} elements", memory.million_array)),
        ("the whole engine", format!("{:.1} MiB", memory.engine as f64 / f64::from(1 << 20))),
    ];
    rows.iter().map(|(name, value)| format!("{name:<26}{value}\n")).collect()
}

fn row(report: &ScaleReport, with_head: bool) -> String {
    let head = format!(
        "{:>7} {:>8} {:>9} {:>9} {:>12} {:>12} {:>12} {:>10} {:>11}\n",
        "nodes", "jobs", "tasks", "submit us", "empty ms", "full ms", "median us", "p95 us", "bytes/task"
    );
    format!(
        "{}{:>7} {:>8} {:>9} {:>9.1} {:>12.1} {:>12.1} {:>12.1} {:>10.1} {:>11.0}\n",
        if with_head { head } else { String::new() },
        report.nodes,
        report.pending_jobs,
        report.pending_tasks,
        report.submit_us,
        report.passes.empty_ms,
        report.passes.full_ms,
        report.incremental.median_us,
        report.incremental.p95_us,
        report.memory.per_waiting_task
    )
}
