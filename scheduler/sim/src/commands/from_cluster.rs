//! `muster-sim from-cluster`

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use muster_core::ids::Timestamp;
use muster_core::notation::format_time_s;
use muster_sim::replay::ReplayPolicy;
use muster_sim::whatif::{Change, Forecast, forecast, instant, read_state};
use serde::Serialize;

/// Ask what would start when on a real cluster, as it is and after a change
#[derive(Debug, Args)]
#[command(after_help = "\
The state is what musterd --print-state prints, as root on the controller's host. It is played forward: nothing new is submitted, nodes that are away
stay away, and every task uses its whole time limit.

Examples:
  musterd --print-state >state.json
  muster-sim from-cluster state.json
  muster-sim from-cluster state.json --add-nodes 16 --pool batch
  muster-sim from-cluster state.json --policy conservative --json")]
pub struct FromClusterArgs {
    /// The state of a controller, as JSON
    state: PathBuf,
    /// What if every pool had this order and backfill?
    #[arg(long, value_enum)]
    policy: Option<ReplayPolicy>,
    /// What if there were so many more nodes, like the pool's last one?
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    add_nodes: u32,
    /// The pool that gets them [default: the first]
    #[arg(long, requires = "add_nodes")]
    pool: Option<String>,
    /// Seconds since 1970 at which to begin [default: the last instant that the state knows]
    #[arg(long)]
    now: Option<u64>,
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    now_s: u64,
    before: Forecast,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Forecast>,
}

/// Plays the state forward, twice if something is to be changed.
pub fn run(args: &FromClusterArgs) -> anyhow::Result<ExitCode> {
    let state = read_state(&args.state)?;
    let now = args.now.map_or_else(|| instant(&state), |seconds| Timestamp(0).plus_seconds(seconds));
    let change = Change {
        policy: args.policy.map(|policy| (policy.order(), policy.backfill())),
        add_nodes: args.add_nodes,
        pool: args.pool.clone(),
    };
    let before = forecast(state.clone(), now, &Change::default())?;
    let after = if change == Change::default() { None } else { Some(forecast(state, now, &change)?) };
    let report = Report { now_s: now.seconds(), before, after };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", table(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let start = |start: Option<u64>| start.map_or("never".to_owned(), |s| format!("in {}", format_time_s(s)));
    let after = |text: String| if report.after.is_some() { text } else { String::new() };
    writeln!(
        out,
        "{:>8}  {:<16} {:<12} {:>8}  {:<16} {}",
        "JOB",
        "NAME",
        "USER",
        "WAITING",
        "FIRST START",
        after("AFTER THE CHANGE".to_owned())
    )?;
    for (id, job) in &report.before.jobs {
        let changed = report.after.as_ref().and_then(|after| after.jobs.get(id));
        let then = after(start(changed.and_then(|job| job.first_start_s)));
        let (name, user, first) = (&job.name, &job.user, start(job.first_start_s));
        writeln!(out, "{:>8}  {name:<16} {user:<12} {:>8}  {first:<16} {then}", id.to_string(), job.waiting)?;
    }
    let summary = |forecast: &Forecast| {
        let mean = forecast.mean_first_start_s().map_or("-".to_owned(), |s| format_time_s(s as u64));
        let idle = format_time_s(forecast.idle_after_s);
        format!("first starts in {mean} on average, idle in {idle}, {} tasks never start", forecast.never())
    };
    writeln!(out, "now:              {}", summary(&report.before))?;
    if let Some(forecast) = &report.after {
        writeln!(out, "after the change: {}", summary(forecast))?;
    }
    Ok(out)
}
