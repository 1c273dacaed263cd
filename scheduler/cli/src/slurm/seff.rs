//! The face `seff`: how much of what it held a job used.

use std::process::ExitCode;

use muster_client::TaskFilter;
use muster_client::api::TaskLine;
use muster_core::ids::JobRef;

use super::connect::{connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::job;
use super::people::People;
use super::state;
use super::time::{elapsed_s, long_span};

/// What is said where Slurm's database cannot be reached.
const DOING: &str = "seff: error: Problem talking to the database";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Help,
    Version,
}

const TABLE: &[Opt<Key>] = &[
    Opt { key: Key::Help, short: Some('h'), long: &["help"], takes: Takes::Nothing },
    Opt { key: Key::Version, short: Some('V'), long: &["version"], takes: Takes::Nothing },
];

const HELP: &str = "Usage: seff [-hV] JOBID...\n";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "seff", source })?;
    match line.options.first() {
        Some((Key::Help, _)) => return print(HELP).map(|()| ExitCode::SUCCESS),
        Some((Key::Version, _)) => return print(&version()).map(|()| ExitCode::SUCCESS),
        None => {}
    }
    let bad = |word: &String| Fault::Said(format!("seff: error: '{word}' is not a job id"));
    let jobs: Vec<JobRef> =
        line.words.iter().map(|word| word.parse().map_err(|_| bad(word))).collect::<Result<_, _>>()?;
    if jobs.is_empty() {
        return Err(Fault::Said(HELP.trim_end().to_owned()));
    }
    let filter = TaskFilter { jobs: jobs.clone(), since_us: Some(0), detail: true, ..TaskFilter::default() };
    let list = connect(DOING)?.tasks(&filter).map_err(Fault::client(DOING))?;
    let people = People::default();
    for wanted in jobs {
        let own = |line: &&TaskLine| line.job == wanted.job.0 && line.which.holds(wanted.task);
        let mut lines = list.lines.iter().filter(own).peekable();
        if lines.peek().is_none() {
            return Err(Fault::Said("Job not found.".to_owned()));
        }
        for line in lines {
            let gid = list.jobs.get(&line.job).map_or(0, |job| job.gid);
            print(&text(line, &list.cluster, &people.group(gid), list.now_us))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// A size with two decimals.
#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn size(bytes: u64) -> String {
    let (mut number, mut unit) = (bytes as f64 / 1024.0, 0);
    while number >= 1024.0 && unit < 3 {
        number /= 1024.0;
        unit += 1;
    }
    format!("{number:.2} {}", ["KB", "MB", "GB", "TB"][unit])
}

fn text(line: &TaskLine, cluster: &str, group: &str, now_us: u64) -> String {
    let (used_us, peak) =
        line.task.as_ref().map_or((0, 0), |task| (task.cpu_time_us, task.memory_peak_bytes));
    let wall = u64::try_from(elapsed_s(line.started_at_us, line.finished_at_us, now_us)).unwrap_or(0);
    let core_wall = wall * line.cores;
    let shares = line.task.as_ref().map(|task| task.shares.as_slice()).unwrap_or_default();
    // The peak is of one node.
    let memory = shares.iter().map(|share| share.memory_bytes).max().unwrap_or(0);
    let mut out = format!("Job ID: {}\n", job::number(line, None));
    if let Some(index) = job::index_text(line, None, job::INDICES_MAX) {
        out.push_str(&format!("Array Job ID: {}_{index}\n", line.job));
    }
    let (code, _) = state::accounting_exit(line);
    out.push_str(&format!("Cluster: {cluster}\nUser/Group: {}/{group}\n", line.user));
    out.push_str(&format!("State: {} (exit code {code})\n", state::of(line.state).long));
    if line.node_list.is_empty() {
        out.push_str("Efficiency not available for jobs in the PENDING state.\n");
        return out;
    }
    match line.nodes {
        1 => out.push_str(&format!("Cores: {}\n", line.cores)),
        nodes => {
            out.push_str(&format!("Nodes: {nodes}\nCores per node: {}\n", line.cores / u64::from(nodes)))
        }
    }
    out.push_str(&format!(
        "CPU Utilized: {}\nCPU Efficiency: {:.2}% of {} core-walltime\nJob Wall-clock time: {}\n",
        long_span(used_us / 1_000_000),
        percent(used_us, core_wall.saturating_mul(1_000_000)),
        long_span(core_wall),
        long_span(wall)
    ));
    out.push_str(&format!(
        "Memory Utilized: {}\nMemory Efficiency: {:.2}% of {}\n",
        size(peak),
        percent(peak, memory),
        size(memory)
    ));
    if !line.state.is_finished() {
        out.push_str("WARNING: Efficiency statistics may be misleading for RUNNING jobs.\n");
    }
    out
}
