//! `muster show`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use muster_client::api::{JobDetail, NotesView, ShareView, TaskView};
use muster_core::cluster::Fill;
use muster_core::notation::{counted, format_hosts, format_ranges, format_size, format_time_s};
use muster_core::spec::{ArraySpec, IndexRange, Memory, Request, SignalTo};

use super::connect;
use super::queue::counts;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::text::{elapsed_s, instant, instant_or_dash, now_us, state_words, tame, time_or_dash};

/// Most tasks of an array that are shown in full.
const TASKS_IN_FULL_MAX: usize = 10;

/// Arguments of `muster show`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster show 12          all about job 12\n  muster show 12_3        one task of array 12\n  \
    muster show 12 --json   for programs"
)]
pub struct ShowArgs {
    /// Job (12) or task of an array (12_3)
    #[arg(value_name = "JOB[_TASK]")]
    job: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ShowArgs) -> Result<ExitCode, CliError> {
    let job = args.job.parse()?;
    let detail = connect()?.job(job)?;
    if args.json {
        print_json(&detail)?;
    } else {
        print(&text(&detail, now_us()))?;
    }
    Ok(Exit::Ok.into())
}

fn line(out: &mut String, name: &str, value: impl AsRef<str>) {
    let _ = writeln!(out, "{name:>14}  {}", tame(value.as_ref()));
}

fn text(detail: &JobDetail, now_us: u64) -> String {
    let job = &detail.summary;
    let mut out = String::new();
    line(&mut out, "Job", format!("{} ({})", job.job, job.name));
    line(&mut out, "User", &job.user);
    line(&mut out, "Pool", &job.pool);
    if let Some(account) = &detail.account {
        line(&mut out, "Account", account);
    }
    if let Some(qos) = &detail.qos {
        line(&mut out, "QoS", qos);
    }
    line(&mut out, "State", state_words(job.state));
    if !job.reason.is_empty() {
        line(&mut out, "Reason", &job.reason);
    }
    if let Some(array) = &detail.array_spec {
        line(&mut out, "Array", format_array(array));
        line(&mut out, "Tasks", counts(&job.tasks));
    }
    line(&mut out, "Asks for", format_request(&detail.request));
    line(&mut out, "Time limit", time_or_dash(job.time_limit_s));
    line(&mut out, "Priority", job.priority.to_string());
    write_eligibility(&mut out, detail);
    line(&mut out, "Requeue", if detail.requeue { "when a node fails" } else { "never" });
    line(&mut out, "Submitted", instant(job.submitted_at_us));
    // The only task of a job says this itself.
    if job.array || detail.task_list.is_empty() {
        line(&mut out, "Started", instant_or_dash(job.started_at_us));
        line(&mut out, "Finished", instant_or_dash(job.finished_at_us));
    }
    line(&mut out, "Directory", &detail.working_directory);
    write_notes(&mut out, &detail.notes);
    for task in detail.task_list.iter().take(TASKS_IN_FULL_MAX) {
        out.push('\n');
        if job.array {
            line(&mut out, "Task", format!("{}_{}", job.job, task.index));
            line(&mut out, "State", state_words(task.state));
        }
        write_task(&mut out, task, &job.reason, now_us);
    }
    let hidden = detail.task_list.len().saturating_sub(TASKS_IN_FULL_MAX);
    if hidden > 0 {
        let _ = writeln!(
            out,
            "\n{hidden} more tasks have started: muster show {}_INDEX shows one of them",
            job.job
        );
    }
    out
}

/// What its user said about it, and how it was submitted.
fn write_notes(out: &mut String, notes: &NotesView) {
    let texts = [
        ("Script", &notes.command),
        ("Submitted by", &notes.submit_line),
        ("Comment", &notes.comment),
        ("WCKey", &notes.wckey),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            line(out, name, text);
        }
    }
    if let Some(wish) = notes.signal {
        let to = match wish.to {
            SignalTo::Script => "the script",
            SignalTo::All => "the script and its ranks",
            SignalTo::Ranks => "what the script started",
        };
        let signal = format_signal(u32::from(wish.signal));
        line(out, "Signal wanted", format!("{signal} to {to}, {} s before the time limit", wish.before_s));
    }
    if !notes.licenses.is_empty() {
        line(out, "Licences", muster_client::format_licenses(&notes.licenses));
    }
    if let Some(mail) = &notes.mail {
        let events: Vec<&str> = mail.events.iter().map(|event| event.word()).collect();
        let to = mail.to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
        line(out, "Mail", format!("on {}{to}", events.join(", ")));
    }
}

/// When its tasks may start, as far as anything was said of it.
fn write_eligibility(out: &mut String, detail: &JobDetail) {
    let when = &detail.eligibility;
    if let Some(held) = &detail.held {
        line(out, "Held", format!("by {}, since {}", held.by, instant(held.since_us)));
    }
    if !detail.tasks_held.is_empty() {
        line(out, "Held tasks", format_indices(&detail.tasks_held));
    }
    if let Some(begin) = when.begin {
        line(out, "Begin", instant(begin.0));
    }
    if let Some(deadline) = when.deadline {
        line(out, "Deadline", instant(deadline.0));
    }
    if when.time_min_s.is_some() {
        line(out, "Shortest time", time_or_dash(when.time_min_s));
    }
    if let Some(reservation) = &detail.reservation {
        line(out, "Reservation", reservation);
    }
    if let Some(dependency) = &when.dependency {
        let rest = if when.cancel_unfulfillable { "; cancelled if that can never be" } else { "" };
        line(out, "Depends on", format!("{dependency}{rest}"));
    }
}

/// Everything about a task; its reason only if the job has not said it already.
fn write_task(out: &mut String, task: &TaskView, job_reason: &str, now_us: u64) {
    if task.attempt > 0 {
        line(out, "Attempt", task.attempt.to_string());
    }
    if task.preempted > 0 {
        line(out, "Preempted", format!("{} times", task.preempted));
    }
    for share in &task.shares {
        line(out, "Node", format_share(share));
    }
    if task.time_limit_s.is_some() {
        line(
            out,
            "Its limit",
            format!("{}, so that it could start earlier", time_or_dash(task.time_limit_s)),
        );
    }
    line(out, "Started", instant_or_dash(task.started_at_us));
    line(out, "Finished", instant_or_dash(task.finished_at_us));
    let elapsed = elapsed_s(task.started_at_us, task.finished_at_us, now_us);
    if task.started_at_us.is_some() {
        line(out, "Elapsed", format_time_s(elapsed));
    }
    match (task.exit_code, task.signal) {
        (_, Some(signal)) => line(out, "Signal", format_signal(signal)),
        (Some(code), None) => line(out, "Exit code", code.to_string()),
        (None, None) => {}
    }
    if !task.reason.is_empty() && *task.reason != *job_reason {
        line(out, "Reason", &task.reason);
    }
    if !task.stdout_path.is_empty() {
        line(out, "Output", &task.stdout_path);
        if task.stderr_path != task.stdout_path {
            line(out, "Error", &task.stderr_path);
        }
    }
    if task.cpu_time_us > 0 {
        line(out, "CPU time", format_efficiency(task));
    }
    if task.memory_peak_bytes > 0 {
        let granted = task.shares.iter().map(|share| share.memory_bytes).max().unwrap_or(0);
        let peak = format_size(task.memory_peak_bytes);
        line(out, "Memory", format!("{peak} of {} at most on one node", format_size(granted)));
    }
}

fn format_signal(number: u32) -> String {
    let name = i32::try_from(number).ok().and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
    name.map_or_else(|| number.to_string(), |name| format!("{number} ({})", name.as_str()))
}

fn format_share(share: &ShareView) -> String {
    let (ranks, memory) = (share.ranks, format_size(share.memory_bytes));
    let noun = if ranks == 1 { "rank" } else { "ranks" };
    format!("{}: cores {}, {ranks} {noun}, {memory}", share.node, share.cores)
}

/// CPU time against what the cores could have given in the elapsed time.
fn format_efficiency(task: &TaskView) -> String {
    let used = format_time_s(task.cpu_time_us / 1_000_000);
    let cores: u64 = task.shares.iter().map(|share| core_count(&share.cores)).sum();
    match (task.started_at_us, task.finished_at_us) {
        (Some(started), Some(finished)) if finished > started && cores > 0 => {
            let possible_us = u128::from(cores) * u128::from(finished - started);
            let percent = u128::from(task.cpu_time_us) * 100 / possible_us;
            let possible = format_time_s(u64::try_from(possible_us / 1_000_000).unwrap_or(u64::MAX));
            let noun = if cores == 1 { "core" } else { "cores" };
            format!("{used}: {percent} % of {possible} ({cores} {noun})")
        }
        _ => used,
    }
}

pub(super) fn core_count(cores: &str) -> u64 {
    let ranges = muster_core::notation::parse_ranges(cores, u32::MAX).unwrap_or_default();
    ranges.iter().map(|range| u64::from((range.last - range.first) / range.step) + 1).sum()
}

fn format_request(request: &Request) -> String {
    let mut parts = Vec::new();
    match (request.nodes, request.nodes_max) {
        (Some(least), Some(most)) => parts.push(format!("{least} to {most} nodes")),
        (Some(nodes), None) => parts.push(counted(nodes, "node")),
        (None, _) => {}
    }
    parts.push(counted(request.ranks, "rank") + if request.ranks_grow { " or more" } else { "" });
    if let Some(per_node) = request.ranks_per_node {
        parts.push(format!("{per_node} on each node"));
    }
    parts.push(format!("{} for each rank", counted(request.cores_per_rank, "core")));
    match request.memory {
        Memory::PoolDefault => {}
        Memory::PerNodeBytes(bytes) => parts.push(format!("{} on each node", format_size(bytes))),
        Memory::PerCoreBytes(bytes) => parts.push(format!("{} for each core", format_size(bytes))),
        Memory::WholeNode => parts.push("all memory of each node".to_owned()),
    }
    if request.exclusive {
        parts.push("whole nodes".to_owned());
    }
    for (list, whose) in [(&request.gres_per_node, "on each node"), (&request.gres_per_rank, "for each rank")]
    {
        parts.extend(list.iter().map(|gres| format!("{gres} {whose}")));
    }
    if let Some(constraint) = &request.constraint {
        parts.push(format!("features {constraint}"));
    }
    let hosts = |names: &BTreeSet<String>| format_hosts(&names.iter().collect::<Vec<_>>());
    if !request.nodelist.is_empty() {
        parts.push(format!("on {}", hosts(&request.nodelist)));
    }
    if !request.exclude.is_empty() {
        parts.push(format!("not on {}", hosts(&request.exclude)));
    }
    match request.fill {
        Some(Fill::Spread) => parts.push("spread".to_owned()),
        Some(Fill::Pack) => parts.push("packed".to_owned()),
        None => {}
    }
    if let Some(wish) = request.switches {
        let wait = wish.wait_s.map(|wait| format!(" for up to {}", format_time_s(wait))).unwrap_or_default();
        parts.push(format!("under {}{wait}", counted(wish.switches_max, "leaf switch")));
    }
    if request.contiguous {
        parts.push("nodes that follow each other".to_owned());
    }
    if let Some(threads) = request.threads_per_core {
        parts.push(format!("{} of each core", counted(threads, "thread")));
    }
    parts.join(", ")
}

fn format_array(array: &ArraySpec) -> String {
    let limit = array.running_max.map(|limit| format!(", {limit} at once")).unwrap_or_default();
    format!("{}{limit}", format_indices(&array.indices))
}

fn format_indices(ranges: &[IndexRange]) -> String {
    let part = |range: &IndexRange| match range.step {
        1 => format_ranges(range.first..=range.last),
        _ if range.first == range.last => range.first.to_string(),
        step => format!("{}-{}:{step}", range.first, range.last),
    };
    ranges.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_arrays_are_told_in_words() {
        let request = Request {
            nodes: Some(2),
            ranks: 8,
            ranks_per_node: Some(4),
            cores_per_rank: 1,
            memory: Memory::PerCoreBytes(2 << 30),
            exclusive: true,
            constraint: Some("a&!b".parse().unwrap()),
            nodelist: ["n1", "n2"].map(str::to_owned).into(),
            ..Request::default()
        };
        assert_eq!(
            format_request(&request),
            "2 nodes, 8 ranks, 4 on each node, 1 core for each rank, 2G for each core, whole nodes, \
             features a&!b, on n[1-2]"
        );
        let range = |first, last, step| IndexRange { first, last, step };
        let array = ArraySpec {
            indices: vec![range(0, 9, 1), range(20, 40, 5), range(50, 50, 1)],
            running_max: Some(3),
        };
        assert_eq!(format_array(&array), "0-9,20-40:5,50, 3 at once");
    }

    #[test]
    fn efficiency_is_cpu_time_over_core_time() {
        let share = |cores: &str| ShareView {
            node: "n".into(),
            cores: cores.into(),
            ranks: 2,
            memory_bytes: 1 << 30,
            gres: Vec::new(),
        };
        let task = TaskView {
            index: 0,
            state: muster_client::api::TaskState::Completed,
            attempt: 1,
            preempted: 0,
            shares: vec![share("0-1"), share("2,4")],
            placed_at_us: Some(0),
            started_at_us: Some(1_000_000),
            finished_at_us: Some(11_000_000),
            time_limit_s: None,
            exit_code: Some(0),
            signal: None,
            reason: String::new(),
            end: None,
            cpu_time_us: 30_000_000,
            memory_peak_bytes: 1 << 29,
            stdout_path: "/w/o".into(),
            stderr_path: "/w/o".into(),
        };
        assert_eq!(format_efficiency(&task), "00:00:30: 75 % of 00:00:40 (4 cores)");
        let mut out = String::new();
        write_task(&mut out, &task, "", 0);
        assert!(out.contains("Memory  512M of 1G at most on one node"), "{out}");
        assert!(out.contains("Node  n: cores 2,4, 2 ranks, 1G") && !out.contains("Error"), "{out}");
        assert_eq!(format_signal(9), "9 (SIGKILL)");
    }
}
