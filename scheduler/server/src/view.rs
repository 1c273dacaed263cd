//! The state as the client API shows it. Pure functions over the durable state and the plan of the last pass.

use std::collections::BTreeMap;

use muster_client::api::{
    EndView, HoldView, JobDetail, JobSummary, NotesView, SCHEMA, ShareView, TASKS_SHOWN_MAX, TaskState,
    TaskView,
};
use muster_core::event::{Allocation, FinishedKind, Usage, Verdict, WaitingEnd};
use muster_core::ids::{JobId, TaskIndex};
use muster_core::notation::{format_hosts, format_size, format_time_s};
use muster_core::plan::{Plan, Reason};
use muster_core::spec::{JobSpec, Memory};
use muster_core::state::{Finished, FinishedHow, Job, Live, LivePhase, State, Tried};
use nix::sys::signal::Signal;

use crate::node_view;
use crate::outputs::{self, Outputs};
use crate::task_lines::held_alone;

/// Exit code and signal of a verdict.
#[must_use]
pub fn verdict_exit(verdict: &Verdict) -> (Option<u32>, Option<u32>) {
    match verdict {
        Verdict::Exited { code } => (Some(*code), None),
        Verdict::Signalled { signal } => (None, Some(*signal)),
        Verdict::OutOfMemory { code, signal: 0 } => (Some(*code), None),
        Verdict::OutOfMemory { signal, .. } => (None, Some(*signal)),
        _ => (None, None),
    }
}

/// How a task ended, as a sentence.
#[must_use]
pub fn verdict_reason(state: &State, spec: &JobSpec, own_limit_s: Option<u64>, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Exited { code } => format!("exit code {code}"),
        Verdict::Signalled { signal } => format!("killed by {}", signal_name(*signal)),
        Verdict::OutOfMemory { .. } => match spec.request.memory {
            Memory::PerNodeBytes(bytes) => {
                format!("ran out of memory: its limit was {} on each node", format_size(bytes))
            }
            Memory::PerCoreBytes(bytes) => {
                format!("ran out of memory: its limit was {} for each core", format_size(bytes))
            }
            Memory::PoolDefault => {
                "ran out of memory: it asked for none, and got the pool's default for each core".to_owned()
            }
            Memory::WholeNode => "ran out of memory: it had all memory of its nodes".to_owned(),
        },
        Verdict::TimedOut => match own_limit_s.or(spec.time_limit_s) {
            Some(limit) => format!("ran out of its time limit of {}", format_time_s(limit)),
            None => "ran out of its time limit".to_owned(),
        },
        Verdict::Cancelled { by_uid } => format!("cancelled by {}", user_name(spec, *by_uid)),
        other => muster_core::engine::describe(state, other),
    }
}

fn signal_name(signal: u32) -> String {
    match i32::try_from(signal).ok().and_then(|number| Signal::try_from(number).ok()) {
        Some(name) => format!("signal {signal} ({name})"),
        None => format!("signal {signal}"),
    }
}

/// The login name of a user id, as far as it is known without asking the system.
fn user_name(spec: &JobSpec, uid: u32) -> String {
    match uid {
        _ if uid == spec.user.uid => spec.user.name.clone(),
        0 => "root".to_owned(),
        _ => format!("user id {uid}"),
    }
}

/// The state of a live attempt.
pub(crate) fn live_state(live: &Live) -> TaskState {
    match live.phase {
        LivePhase::Preparing => TaskState::Preparing,
        LivePhase::Running { .. } => TaskState::Running,
        LivePhase::Ending { .. } => TaskState::Ending,
    }
}

/// The state of a finished task.
#[must_use]
pub fn finished_state(how: &FinishedHow) -> TaskState {
    how.kind().into()
}

/// How a live task is being ended, if it is.
#[must_use]
pub fn live_end(live: &Live) -> Option<EndView> {
    match &live.phase {
        LivePhase::Ending { verdict, .. } => Some(verdict.into()),
        _ => None,
    }
}

/// How a task finished, for programs.
#[must_use]
pub fn finished_end(how: &FinishedHow) -> EndView {
    match how {
        FinishedHow::CancelledWaiting { by_uid, .. } => EndView::Cancelled { by_uid: *by_uid },
        FinishedHow::EndedWaiting { why: WaitingEnd::Deadline, .. } => EndView::Deadline,
        FinishedHow::EndedWaiting { why: WaitingEnd::Dependency, .. } => EndView::Unfulfillable,
        FinishedHow::Ran { verdict, .. } => verdict.into(),
    }
}

fn finished_reason(state: &State, spec: &JobSpec, how: &FinishedHow) -> String {
    match how {
        FinishedHow::CancelledWaiting { by_uid, .. } => {
            format!("cancelled by {} while it waited", user_name(spec, *by_uid))
        }
        FinishedHow::EndedWaiting { why: WaitingEnd::Deadline, .. } => {
            "ended while it waited: it could no longer end by its deadline".to_owned()
        }
        FinishedHow::EndedWaiting { why: WaitingEnd::Dependency, .. } => {
            "ended while it waited: what it waited for can no longer come true".to_owned()
        }
        FinishedHow::Ran { verdict, time_limit_s, .. } => verdict_reason(state, spec, *time_limit_s, verdict),
    }
}

/// Why the waiting tasks of a job wait.
#[must_use]
pub fn waiting_reason(job: &Job, plan: &Plan) -> String {
    let reason = match plan.waiting.get(&job.id) {
        Some(waiting) => waiting.reason.to_string(),
        None => "it is about to be looked at".to_owned(),
    };
    match job.tried.get(&TaskIndex(0)).filter(|_| !job.is_array()).and_then(preempted_by) {
        Some(by) => format!("it was preempted by job {by} and waits again; {reason}"),
        None => reason,
    }
}

/// Which job took the place of a task's last attempt.
fn preempted_by(tried: &Tried) -> Option<JobId> {
    match tried.last {
        Verdict::Preempted { by, .. } => Some(by.job),
        _ => None,
    }
}

/// How the worst of a job's finished tasks ended.
fn worst_kind(job: &Job) -> Option<FinishedKind> {
    job.finished.counts().map(|(kind, _)| kind).last()
}

/// Counts a job's tasks by state.
#[must_use]
pub fn task_counts(job: &Job) -> BTreeMap<TaskState, u64> {
    let mut counts = BTreeMap::new();
    let waiting = job.waiting.len();
    if waiting > 0 {
        counts.insert(TaskState::Waiting, waiting);
    }
    for live in job.live.values() {
        *counts.entry(live_state(live)).or_insert(0) += 1;
    }
    let finished = job.finished.counts();
    counts.extend(finished.map(|(kind, count)| (TaskState::from(kind), u64::from(count))));
    counts
}

/// The state of a job as a whole: of an array, running if any task is live, else waiting, else the worst end.
fn job_state(job: &Job, counts: &BTreeMap<TaskState, u64>) -> TaskState {
    if let Some(live) = job.live.values().next() {
        return if job.is_array() { TaskState::Running } else { live_state(live) };
    }
    if counts.contains_key(&TaskState::Waiting) {
        return TaskState::Waiting;
    }
    worst_kind(job).map_or(TaskState::Completed, TaskState::from)
}

fn job_reason(state: &State, plan: &Plan, job: &Job, of: TaskState) -> String {
    if of == TaskState::Waiting {
        return waiting_reason(job, plan);
    }
    if let Some(live) = job.live.values().next() {
        return match &live.phase {
            LivePhase::Ending { verdict, .. } => verdict_reason(state, &job.spec, live.time_limit_s, verdict),
            _ => String::new(),
        };
    }
    // The last one that ended so.
    let worst = worst_kind(job);
    let worst = job.finished.values().rev().find(|finished| Some(finished.how.kind()) == worst);
    worst.map(|finished| finished_reason(state, &job.spec, &finished.how)).unwrap_or_default()
}

/// The allocation that stands for a job's tasks: of its first live task, else of the last one that ran.
fn typical_allocation(job: &Job) -> Option<&Allocation> {
    let live = job.live.values().next().map(|live| &*live.allocation);
    live.or_else(|| job.finished.last_allocation())
}

/// Names of the nodes that a job's live tasks hold, or that its last finished task held.
fn node_list(state: &State, job: &Job) -> String {
    if job.live.is_empty() {
        return typical_allocation(job).map(|a| format_hosts(&state.node_names(a))).unwrap_or_default();
    }
    let mut names: Vec<&str> =
        job.live.values().flat_map(|live| state.node_names(&live.allocation)).collect();
    names.sort_unstable();
    names.dedup();
    format_hosts(&names)
}

/// A line of the queue.
#[must_use]
pub fn summary(state: &State, plan: &Plan, job: &Job) -> JobSummary {
    let tasks = task_counts(job);
    let whole = job_state(job, &tasks);
    let allocation = typical_allocation(job);
    let started = job.live.values().filter_map(|live| live.started_at());
    let started = started.chain(job.finished.first_start()).min();
    let request = &job.spec.request;
    JobSummary {
        job: job.id.0,
        name: job.spec.name.clone(),
        user: job.spec.user.name.clone(),
        pool: job.spec.pool.clone().unwrap_or_default(),
        state: whole,
        tasks,
        array: job.is_array(),
        nodes: allocation.map_or(request.nodes_min(), |a| a.shares.len() as u32),
        ranks: allocation.map_or(request.ranks, Allocation::ranks),
        cores: allocation.map_or(request.cores_total(), Allocation::cores),
        node_list: node_list(state, job),
        submitted_at_us: job.submitted_at.0,
        started_at_us: started.map(|at| at.0),
        finished_at_us: job.finished_at.map(|at| at.0),
        time_limit_s: job.spec.time_limit_s,
        priority: job.spec.priority,
        reason: job_reason(state, plan, job, whole),
        expected_start_us: None,
        reason_code: plan
            .waiting
            .get(&job.id)
            .filter(|_| whole == TaskState::Waiting)
            .map(|waiting| waiting.reason.code().to_owned())
            .unwrap_or_default(),
    }
}

/// A job with its tasks, or with one of them; none if it has no such task.
#[must_use]
pub fn detail(
    state: &State,
    plan: &Plan,
    job: &Job,
    only: Option<TaskIndex>,
    version: u64,
) -> Option<JobDetail> {
    let task_list = match only {
        Some(index) => vec![task(state, plan, job, index)?],
        None => shown_tasks(state, plan, job),
    };
    Some(JobDetail { task_list, ..frame(state, plan, job, version) })
}

/// A job without its tasks.
#[must_use]
pub fn frame(state: &State, plan: &Plan, job: &Job, version: u64) -> JobDetail {
    JobDetail {
        schema: SCHEMA,
        summary: summary(state, plan, job),
        working_directory: job.spec.working_directory.clone(),
        stdin: job.spec.stdin.clone(),
        uid: job.spec.user.uid,
        gid: job.spec.user.gid,
        submit_host: job.spec.submit_host.clone(),
        has_folders: job.spec.staging.is_some(),
        stdout: job.spec.stdout.clone(),
        stderr: job.spec.stderr.clone(),
        request: (*job.spec.request).clone(),
        array_spec: job.spec.array.clone(),
        requeue: job.spec.requeue,
        eligibility: (*job.spec.eligibility).clone(),
        account: job.spec.account.clone(),
        qos: job.spec.qos.clone(),
        reservation: job.spec.reservation.clone(),
        notes: NotesView::from(&*job.spec),
        held: job.held.map(|held| HoldView {
            since_us: held.since.0,
            by: user_name(&job.spec, held.by_uid),
            by_admin: held.by_admin,
        }),
        tasks_held: held_alone(job),
        task_list: Vec::new(),
        version,
    }
}

/// Live tasks first, since they matter most where the list is cut; by index.
fn shown_tasks(state: &State, plan: &Plan, job: &Job) -> Vec<TaskView> {
    let indices = job.live.keys().chain(job.finished.keys()).take(TASKS_SHOWN_MAX);
    let mut tasks: Vec<TaskView> = indices.filter_map(|index| task(state, plan, job, *index)).collect();
    tasks.sort_unstable_by_key(|task| task.index);
    tasks
}

/// One task of a job.
#[must_use]
pub fn task(state: &State, plan: &Plan, job: &Job, index: TaskIndex) -> Option<TaskView> {
    if let Some(live) = job.live.get(&index) {
        return Some(with_paths(live_task(state, job, index, live), job));
    }
    if let Some(finished) = job.finished.get(&index) {
        return Some(with_paths(finished_task(state, job, index, finished), job));
    }
    job.waiting.contains(index.0).then(|| {
        let tried = job.tried.get(&index);
        let is_said = !job.is_array() && tried.and_then(preempted_by).is_some();
        let last =
            tried.filter(|_| !is_said).map(|tried| verdict_reason(state, &job.spec, None, &tried.last));
        let attempts = job.attempts_until(index, job.next_attempt(index) - 1);
        let mut reason = match job.hold_of(index) {
            Some(held) => Reason::Held { by_admin: held.by_admin }.to_string(),
            None => waiting_reason(job, plan),
        };
        if job.partner_failed(index) {
            reason = "the task of the same index, for which it waits, ended without success".to_owned();
        }
        if let Some(last) = last {
            reason = format!("{reason} (attempt {attempts} ended: {last})");
        }
        TaskView {
            attempt: attempts,
            preempted: preempted(job, index),
            ..blank_task(index, TaskState::Waiting, reason)
        }
    })
}

/// How many attempts of a task that has not finished were preempted.
fn preempted(job: &Job, index: TaskIndex) -> u32 {
    job.tried.get(&index).map_or(0, |tried| tried.preempted)
}

fn blank_task(index: TaskIndex, state: TaskState, reason: String) -> TaskView {
    TaskView {
        index: index.0,
        state,
        attempt: 0,
        preempted: 0,
        shares: Vec::new(),
        placed_at_us: None,
        started_at_us: None,
        finished_at_us: None,
        time_limit_s: None,
        exit_code: None,
        signal: None,
        reason,
        end: None,
        cpu_time_us: 0,
        memory_peak_bytes: 0,
        stdout_path: String::new(),
        stderr_path: String::new(),
    }
}

fn live_task(state: &State, job: &Job, index: TaskIndex, live: &Live) -> TaskView {
    let usage = live.usage();
    let (exit, reason) = match &live.phase {
        LivePhase::Ending { verdict, .. } => {
            (verdict_exit(verdict), verdict_reason(state, &job.spec, live.time_limit_s, verdict))
        }
        _ => ((None, None), String::new()),
    };
    let task = TaskView {
        attempt: job.attempts_until(index, live.attempt),
        preempted: preempted(job, index),
        placed_at_us: Some(live.placed_at.0),
        started_at_us: live.started_at().map(|at| at.0),
        time_limit_s: live.time_limit_s,
        exit_code: exit.0,
        signal: exit.1,
        end: live_end(live),
        ..blank_task(index, live_state(live), reason)
    };
    with_allocation(task, state, &live.allocation, usage)
}

/// A finished task of a job, without the paths of its output.
pub(crate) fn finished_task(state: &State, job: &Job, index: TaskIndex, finished: &Finished) -> TaskView {
    let reason = finished_reason(state, &job.spec, &finished.how);
    let (attempt, preempted) = finished.how.attempts();
    let task = TaskView {
        attempt,
        preempted,
        finished_at_us: Some(finished.at.0),
        end: Some(finished_end(&finished.how)),
        ..blank_task(index, finished_state(&finished.how), reason)
    };
    match &finished.how {
        FinishedHow::CancelledWaiting { .. } | FinishedHow::EndedWaiting { .. } => task,
        FinishedHow::Ran { verdict, allocation, placed_at, time_limit_s, started_at, usage, .. } => {
            let (exit_code, signal) = verdict_exit(verdict);
            let task = TaskView {
                placed_at_us: Some(placed_at.0),
                started_at_us: started_at.map(|at| at.0),
                time_limit_s: *time_limit_s,
                exit_code,
                signal,
                ..task
            };
            with_allocation(task, state, allocation, *usage)
        }
    }
}

/// Adds the paths of its output to a task that was placed.
fn with_paths(task: TaskView, job: &Job) -> TaskView {
    let Some(primary) = task.shares.first() else { return task };
    let names = outputs::names(job.id, &job.spec, TaskIndex(task.index), task.attempt, &primary.node);
    let (stdout_path, stderr_path) = Outputs::from(&*job.spec).shown(names);
    TaskView { stdout_path, stderr_path, ..task }
}

fn with_allocation(task: TaskView, state: &State, allocation: &Allocation, usage: Usage) -> TaskView {
    let shares = allocation.shares.iter().map(|share| ShareView {
        node: state.node(share.node).name.clone(),
        cores: share.cores.to_string(),
        ranks: share.ranks,
        memory_bytes: share.memory_bytes,
        gres: share
            .gres
            .iter()
            .map(|held| node_view::held_text(&held.name, held.kind.as_deref(), &held.devices))
            .collect(),
    });
    TaskView {
        shares: shares.collect(),
        cpu_time_us: usage.cpu_time_us,
        memory_peak_bytes: usage.memory_peak_bytes,
        ..task
    }
}
