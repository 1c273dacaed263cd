//! `muster-sim scale`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use muster_sim::replay::ReplayPolicy;
use muster_sim::scale::{
    ARRAY_ELEMENTS, FORECAST_WITHIN, ScaleOptions, ScaleReport, Topology, fat_tree, measure, read_topology,
};

use crate::alloc;

/// Nodes that a sweep measures, with the queue that was asked for.
const SWEEP_NODES: [u32; 5] = [1_000, 4_000, 10_044, 32_000, 65_000];
/// Queues that a sweep measures, on the cluster that was asked for.
const SWEEP_PENDING: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

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
    /// Measure 1,000 to 65,000 nodes with --pending jobs, then 1,000 to a million jobs on --nodes nodes, a row for each
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
    let by_nodes = SWEEP_NODES.map(|nodes| (nodes, args.pending));
    let by_pending = SWEEP_PENDING.map(|pending| (args.nodes, pending));
    for (nodes, pending) in by_nodes.into_iter().chain(by_pending) {
        let report = measure(&options(fat_tree(nodes), pending), alloc::heap_bytes)?;
        if !args.json {
            print!("{}", row(&report, reports.is_empty()));
        }
        reports.push(report);
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
        (
            "a forecast",
            format!(
                "{} starts of {} told in {:.0} ms (at most {} s)",
                report.forecast.jobs,
                report.pending_jobs,
                report.forecast.took_ms,
                FORECAST_WITHIN.as_secs()
            ),
        ),
        ("memory of a waiting job", format!("{:.0} bytes", memory.per_waiting_job)),
        ("memory of a waiting task", format!("{:.0} bytes", memory.per_waiting_task)),
        ("an array", format!("{} bytes for {ARRAY_ELEMENTS} elements", memory.million_array)),
        ("the whole engine", format!("{:.1} MiB", memory.engine as f64 / f64::from(1 << 20))),
    ];
    rows.iter().map(|(name, value)| format!("{name:<26}{value}\n")).collect()
}

fn row(report: &ScaleReport, with_head: bool) -> String {
    let head = format!(
        "{:>7} {:>8} {:>10} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9} {:>10} {:>11} {:>11} {:>10}\n",
        "nodes",
        "jobs",
        "tasks",
        "submit us",
        "empty ms",
        "full ms",
        "median us",
        "95 % us",
        "foreseen",
        "in ms",
        "bytes/job",
        "array bytes",
        "engine MiB"
    );
    format!(
        "{}{:>7} {:>8} {:>10} {:>9.1} {:>9.1} {:>9.1} {:>10.1} {:>10.1} {:>9} {:>10.0} {:>11.0} {:>11} {:>10.1}\n",
        if with_head { head } else { String::new() },
        report.nodes,
        report.pending_jobs,
        report.pending_tasks,
        report.submit_us,
        report.passes.empty_ms,
        report.passes.full_ms,
        report.incremental.median_us,
        report.incremental.p95_us,
        report.forecast.jobs,
        report.forecast.took_ms,
        report.memory.per_waiting_job,
        report.memory.million_array,
        report.memory.engine as f64 / f64::from(1 << 20)
    )
}
