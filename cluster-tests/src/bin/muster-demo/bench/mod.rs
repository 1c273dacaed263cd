//! The suite of all measurements: its parts one after another, and one report of what they told.

mod adapt;
mod parts;
mod plot;
mod report;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use muster_cluster_tests::figures::Told;

use self::parts::{PARTS, Part};
use self::report::{Machine, Outcome, Ran, Report};

/// How often a terminal shows that time goes on.
const TICK: Duration = Duration::from_millis(200);

/// What to run, and where the report goes.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Only these parts
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The folder of the report
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    out: PathBuf,
    /// Fewer of everything: to see that all parts run, not to quote
    #[arg(long)]
    quick: bool,
    /// Say which parts there are
    #[arg(long)]
    list: bool,
    /// Run nothing: make table, Markdown and plots anew of the report that is there
    #[arg(long, conflicts_with_all = ["only", "quick", "list"])]
    again: bool,
}

/// Runs the suite.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.list {
        for part in &PARTS {
            println!("{:10} {}", part.name, part.what);
        }
        return Ok(());
    }
    if args.again {
        let path = args.out.join("report.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        return finish(&report, &args.out);
    }
    let wanted = wanted(&args.only)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{} cannot be made", args.out.display()))?;
    let mut report = Report { machine: Machine::here(), quick: args.quick, parts: Vec::new() };
    for part in wanted {
        report.parts.push(run_part(part, args)?);
        // What was measured is kept, whatever becomes of the parts that follow.
        report.write(&args.out)?;
    }
    finish(&report, &args.out)
}

fn wanted(only: &[String]) -> Result<Vec<&'static Part>> {
    if only.is_empty() {
        return Ok(PARTS.iter().collect());
    }
    for name in only {
        let known = || PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
        ensure!(
            PARTS.iter().any(|part| part.name == name),
            "there is no part '{name}': there are {}",
            known()
        );
    }
    Ok(PARTS.iter().filter(|part| only.iter().any(|name| name == part.name)).collect())
}

/// Runs one part to its end; that it fails is a part of the report.
fn run_part(part: &Part, args: &BenchArgs) -> Result<Ran> {
    let load = Machine::load();
    let started = Instant::now();
    let bar = progress(part);
    let outcome = match attempt(part, args) {
        Ok(told) => Outcome::Measured { told },
        Err(error) => Outcome::Failed { why: format!("{error:#}") },
    };
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let words = match &outcome {
        Outcome::Measured { told } => format!("{} figures", told.figures.len() + told.peers.len()),
        Outcome::Failed { why } => format!("failed: {why}"),
    };
    println!("{:10} {seconds:>7.1} s  {words}", part.name);
    std::io::stdout().flush()?;
    Ok(Ran { name: part.name.to_owned(), what: part.what.to_owned(), seconds, load, outcome })
}

fn attempt(part: &Part, args: &BenchArgs) -> Result<Told> {
    let path = |ending: &str| args.out.join(format!("{}.{ending}", part.name));
    let (out, err) = (path("out"), path("err"));
    let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
    let mut command = part.command(args.quick)?;
    command.stdin(Stdio::null()).stdout(create(&out)?).stderr(create(&err)?);
    let status = command
        .status()
        .with_context(|| format!("{} cannot be run", command.get_program().to_string_lossy()))?;
    let read = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let said = read(&out);
    if !status.success() {
        let complaint = read(&err);
        let last = complaint.lines().chain(said.lines()).find(|line| is_complaint(line)).unwrap_or_default();
        bail!("{status}; {} and {} say more; {last}", err.display(), out.display());
    }
    part.told(&said).with_context(|| format!("{} ends without", out.display()))
}

/// Whether a line says why a program or a test failed.
fn is_complaint(line: &str) -> bool {
    ["muster-", "error", "thread '"].iter().any(|begin| line.trim_start().starts_with(begin))
}

fn progress(part: &Part) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(format!("{}: {}", part.name, part.what));
    bar.enable_steady_tick(TICK);
    bar
}

/// Writes and prints everything, and says where it is.
fn finish(report: &Report, out: &Path) -> Result<()> {
    report.write(out)?;
    print!("\n{}", report.table());
    println!("\n{0}/report.md, {0}/report.json, {0}/bars.svg, {0}/beside.svg", out.display());
    let failed: Vec<&str> = report.failed();
    ensure!(failed.is_empty(), "these parts failed: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn parts_are_asked_for_by_name() {
        assert_eq!(wanted(&[]).unwrap().len(), PARTS.len());
        let two = wanted(&["scale".to_owned(), "swarm".to_owned()]).unwrap();
        assert_eq!(two.iter().map(|part| part.name).collect::<Vec<_>>(), ["swarm", "scale"]);
        let error = wanted(&["swam".to_owned()]).err().unwrap().to_string();
        assert!(error.starts_with("there is no part 'swam': there are latency, swarm, "), "{error}");
    }
}
