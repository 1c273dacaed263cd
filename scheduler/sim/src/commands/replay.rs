//! `muster-sim replay`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use muster_sim::replay::{JobRun, Metrics, ReplayPolicy, Window, Workload, replay};
use muster_sim::{SimError, plot, swf};
use serde::Serialize;

/// Replay a trace of a real site through the scheduler, and measure the schedule
#[derive(Debug, Args)]
#[command(after_help = "\
Traces are in the Standard Workload Format (the Parallel Workloads Archive has many), packed with gzip or not.
The machine has the header's MaxProcs, else its MaxNodes, else --procs processors; jobs that did not run or are
wider than the machine are left out; a job that runs longer than it asked for is ended then.

Examples:
  muster-sim replay KTH-SP2-1996-2.1-cln.swf.gz
  muster-sim replay METACENTRUM-2009-2.swf.gz --procs 806 --policy easy
  muster-sim replay CEA-Curie-2011-2.1-cln.swf.gz --skip 80000 --limit 10000 --policy conservative --json
  muster-sim replay log.swf --policy default --dump starts.csv --plots plots/")]
pub struct ReplayArgs {
    /// The trace
    trace: PathBuf,
    /// In which order jobs are considered, and what may overtake
    #[arg(long, value_enum, default_value_t = ReplayPolicy::Default)]
    policy: ReplayPolicy,
    /// Processors of the machine, where the trace's header does not say
    #[arg(long)]
    procs: Option<u64>,
    /// Leave out so many usable jobs at the start
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Take so many usable jobs then [default: all]
    #[arg(long)]
    limit: Option<usize>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
    /// Write submit, start and end of every job to this file
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Draw utilisation, queue and waits into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    policy: ReplayPolicy,
    processors: u32,
    #[serde(flatten)]
    metrics: Metrics,
    /// Reading and unpacking the trace, in seconds.
    read_s: f64,
    /// The replay alone, in seconds.
    wall_s: f64,
}

/// Replays the trace.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let trace = swf::read_file(&args.trace)?;
    let window = Window { skip: args.skip, limit: args.limit };
    let workload = Workload::from_trace(&trace, args.procs, window)?;
    if args.procs.is_some_and(|procs| procs != u64::from(workload.processors)) {
        eprintln!(
            "muster-sim: the trace's header says {} processors: --procs is not used",
            workload.processors
        );
    }
    drop(trace);
    let read_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let runs = replay(&workload, args.policy.order(), args.policy.backfill())?;
    let wall_s = started.elapsed().as_secs_f64();
    if let Some(path) = &args.dump {
        dump(path, &runs).map_err(|source| SimError::Write { path: path.clone(), source })?;
    }
    if let Some(folder) = &args.plots {
        let name = trace_name(&args.trace);
        plot::write_all(folder, &format!("{name}, {}", args.policy), &runs, workload.processors)?;
    }
    let metrics = Metrics::of(&runs, workload.processors);
    let report = Report { policy: args.policy, processors: workload.processors, metrics, read_s, wall_s };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table(&report));
    }
    Ok(ExitCode::SUCCESS)
}

/// The file's name without what says how it is written.
fn trace_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(".gz").trim_end_matches(".swf").to_owned()
}

fn table(report: &Report) -> String {
    let metrics = &report.metrics;
    let rows = [
        ("policy", report.policy.to_string()),
        ("processors", report.processors.to_string()),
        ("jobs", metrics.jobs.to_string()),
        ("average wait", format!("{:.1} s", metrics.avg_wait_s)),
        ("95 % wait at most", format!("{} s", metrics.p95_wait_s)),
        ("longest wait", format!("{} s", metrics.max_wait_s)),
        ("average bounded slowdown", format!("{:.2}", metrics.avg_bounded_slowdown)),
        ("95 % slow down at most", format!("{:.2}", metrics.p95_bounded_slowdown)),
        ("utilisation", format!("{:.2} %", metrics.utilisation * 100.0)),
        ("makespan", format!("{} s", metrics.makespan_s)),
        ("trace read in", format!("{:.2} s", report.read_s)),
        ("replayed in", format!("{:.2} s", report.wall_s)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<26}{value}\n")).collect()
}

fn dump(path: &Path, runs: &[JobRun]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "job,submit_s,start_s,end_s")?;
    for run in runs {
        writeln!(out, "{},{},{},{}", run.number, run.submit_s, run.start_s, run.end_s)?;
    }
    out.flush()
}
