//! What must be true at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use muster_client::api::{JobDetail, TaskState, TaskView};
use muster_cluster_tests::site::Site;
use muster_core::ids::JobId;
use muster_core::notation::parse_ranges;
use serde_json::Value;

/// A directory of the user's own that all hosts see.
pub fn user_directory(site: &Site, user: &str) -> Result<PathBuf> {
    let mut command = site.cluster.exec("head", Some(user))?;
    let output = command.args(["/bin/sh", "-c", "cd && mkdir -p demo && cd demo && pwd"]).output()?;
    ensure!(output.status.success(), "no home directory: {}", String::from_utf8_lossy(&output.stderr));
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Linux has had 100 ticks a second in the files of `/proc` for all its life (`USER_HZ`).
pub const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time of the controller, in seconds (proc(5), `/proc/PID/stat`).
pub fn controller_cpu(site: &Site) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", site.controller_pid()?))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("the controller has no CPU time")?;
    Ok((user + system) / TICKS_PER_SECOND)
}

pub fn all_completed(detail: &JobDetail) -> bool {
    detail.summary.tasks.keys().all(|state| *state == TaskState::Completed)
}

/// What a task that did not complete says, with the end of its output.
pub fn complaint(detail: &JobDetail) -> String {
    let Some(task) = detail.task_list.iter().find(|task| task.state != TaskState::Completed) else {
        return detail.summary.reason.clone();
    };
    let output = std::fs::read_to_string(&task.stdout_path).unwrap_or_default();
    let lines: Vec<&str> = output.lines().rev().take(8).collect();
    let end: Vec<&str> = lines.into_iter().rev().collect();
    format!("task {}: {}; the end of {}:\n{}", task.index, task.reason, task.stdout_path, end.join("\n"))
}

/// The line in which a stencil program says that its result equals the serial one.
pub fn stencil(detail: &JobDetail) -> Result<String> {
    let task = detail.task_list.first().context("the job has no task")?;
    let output = std::fs::read_to_string(&task.stdout_path).with_context(|| task.stdout_path.clone())?;
    let line = output
        .lines()
        .find(|line| line.contains("passed") && line.contains(" 0 cells differ"))
        .unwrap_or_default();
    ensure!(!line.is_empty(), "the stencil does not say that its result equals the serial one: {output}");
    Ok(line.to_owned())
}

/// From submit to end.
pub fn whole_time(detail: &JobDetail) -> Result<Duration> {
    let end = detail.summary.finished_at_us.context("the job has not ended")?;
    Ok(Duration::from_micros(end.saturating_sub(detail.summary.submitted_at_us)))
}

/// Adds up what the tasks of the array counted, each exactly once.
pub fn pi(work: &Path, array: JobId, tasks: u64, samples_per_task: u64) -> Result<f64> {
    let dir = work.join(format!("pi-{array}"));
    let (mut files, mut hits, mut samples) = (0, 0, 0);
    for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
        let text = std::fs::read_to_string(entry?.path())?;
        let result: Value = serde_json::from_str(&text)?;
        hits += number(&result, "hits")?;
        samples += number(&result, "samples")?;
        files += 1;
    }
    ensure!(files == tasks, "{tasks} tasks wrote {files} results");
    ensure!(samples == tasks * samples_per_task, "{samples} samples were counted");
    let pi = 4.0 * hits as f64 / samples as f64;
    // Five standard deviations of the estimate: once in a million honest runs it lies outside.
    let sigma =
        4.0 * (0.25 * std::f64::consts::PI * (1.0 - 0.25 * std::f64::consts::PI) / samples as f64).sqrt();
    ensure!((pi - std::f64::consts::PI).abs() < 5.0 * sigma, "pi came out as {pi}");
    Ok(pi)
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("no number '{key}' in {value}"))
}

/// From when to when a task held a core, in microseconds, and which task.
type Held = Vec<(u64, u64, String)>;

/// Checks that no core was held by two tasks at the same instant; says how many shares there were.
pub fn no_core_twice(details: &[JobDetail]) -> Result<usize> {
    let mut held: BTreeMap<(&str, u32), Held> = BTreeMap::new();
    let mut shares = 0;
    for detail in details {
        for task in &detail.task_list {
            let (Some(from), Some(to)) = (task.placed_at_us, task.finished_at_us) else {
                bail!("task {}_{} has no times", detail.summary.job, task.index);
            };
            for share in &task.shares {
                shares += 1;
                for core in cores(&share.cores)? {
                    let who = format!("{}_{}", detail.summary.job, task.index);
                    held.entry((&share.node, core)).or_default().push((from, to, who));
                }
            }
        }
    }
    for ((node, core), mut times) in held {
        times.sort_unstable();
        for pair in times.windows(2) {
            // A gang's share on one node may be free before its last one: those instants count as held.
            let overlap = pair[0].1 > pair[1].0 && !released_early(details, &pair[0].2);
            ensure!(!overlap, "core {core} of {node} was held by {} and {}", pair[0].2, pair[1].2);
        }
    }
    Ok(shares)
}

/// Whether a task held several nodes, whose shares become free one by one before the task has finished.
fn released_early(details: &[JobDetail], who: &str) -> bool {
    let is = |detail: &JobDetail, task: &TaskView| format!("{}_{}", detail.summary.job, task.index) == who;
    details.iter().any(|detail| detail.task_list.iter().any(|task| is(detail, task) && task.shares.len() > 1))
}

fn cores(text: &str) -> Result<Vec<u32>> {
    Ok(parse_ranges(text, u32::MAX - 1)?.into_iter().flat_map(|range| range.first..=range.last).collect())
}

/// Compares where the ranks say that they run, and on which cores, with the allocation; says how many there were.
pub fn pinning(detail: &JobDetail) -> Result<usize> {
    let task = detail.task_list.first().context("the job has no task")?;
    let text = std::fs::read_to_string(&task.stdout_path).with_context(|| task.stdout_path.clone())?;
    let start = text.find('{').with_context(|| format!("no report in {text:?}"))?;
    let report: Value = serde_json::from_str(&text[start..]).context("the report cannot be read")?;
    let ranks = report["rank"].as_array().with_context(|| format!("no ranks in {report}"))?;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut used: BTreeSet<(&str, u32)> = BTreeSet::new();
    for rank in ranks {
        let host = rank["host"].as_str().unwrap_or_default();
        let share = task.shares.iter().find(|share| share.node == host);
        let share = share.with_context(|| format!("a rank ran on {host}, which was not allocated"))?;
        // Open MPI starts ranks through our rank starter, which tells each its cores; Hydra binds by itself.
        if let Some(told) = rank["muster_rank_cores"].as_str() {
            let allowed = cores(&share.cores)?;
            for core in cores(told)? {
                ensure!(
                    allowed.contains(&core),
                    "a rank on {host} was given core {core}, not one of {}",
                    share.cores
                );
                ensure!(used.insert((host, core)), "two ranks on {host} were given core {core}");
            }
        }
        *seen.entry(host).or_default() += 1;
    }
    for share in &task.shares {
        let found = seen.get(share.node.as_str()).copied().unwrap_or(0);
        ensure!(
            found == share.ranks as usize,
            "{} ranks ran on {}, {} were meant",
            found,
            share.node,
            share.ranks
        );
    }
    Ok(ranks.len())
}

/// Checks that nothing of the cluster is left on the machine.
pub fn nothing_left(name: &str) -> Result<()> {
    let state = Path::new("/run/muster-cluster").join(name);
    ensure!(!state.exists(), "{} is left behind", state.display());
    for dir in ["/run/netns", "/etc/netns"] {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        for entry in entries {
            let path = entry?.path();
            let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
            ensure!(!file.starts_with(&format!("{name}-")), "{} is left behind", path.display());
        }
    }
    Ok(())
}
