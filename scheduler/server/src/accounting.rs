//! Accounting rows from records: what ended, as the client API shows it.

mod beyond;

use std::collections::{BTreeMap, BTreeSet};

use muster_client::api::{TaskState, TaskView};
use muster_core::event::{Event, Record};
use muster_core::ids::{AttemptKey, JobId, NodeId, TaskIndex, Timestamp};
use muster_core::notation::{self, format_hosts};
use muster_core::plan::Plan;
use muster_core::spec::IndexRange;
use muster_core::state::{Finished, Job, Node, State};
use muster_store::{AttemptRow, AwayRow, HistoryRow, JobRow, TaskRow, TaskSpan};

pub use self::beyond::view_of;
use crate::view;

/// Adds the rows that follow from `records`, which have just brought `state` about. A job that has ended stays in
/// memory at least until the next input, so that all that is needed is still there.
pub fn add_rows(rows: &mut Vec<HistoryRow>, state: &State, records: &[Record]) {
    let mut ended: BTreeSet<JobId> = BTreeSet::new();
    for Record { at, event } in records {
        let is_end = matches!(
            event,
            Event::AttemptEnded { again_not_before: None, .. }
                | Event::AttemptRan { .. }
                | Event::AttemptsRan { .. }
                | Event::WaitingCancelled { .. }
                | Event::WaitingEnded { .. }
        );
        let job = event.job().filter(|_| is_end).and_then(|id| state.jobs.get(&id));
        let Some(job) = job else { continue };
        match event {
            Event::AttemptEnded { key, .. } => rows.extend(task_row(state, job, key.task.index)),
            Event::WaitingCancelled { indices, .. } | Event::WaitingEnded { indices, .. } => {
                let parts = indices.iter().flat_map(|range| apart(&job.finished, *range));
                rows.extend(parts.map(|range| ended_waiting_row(state, job, range, *at)));
            }
            ran => rows.extend(ran.ran().filter_map(|key| task_row(state, job, key.task.index))),
        }
        if job.finished_at.is_some() && ended.insert(job.id) {
            rows.extend(job_row(state, job));
        }
    }
}

/// Adds the rows of attempts after which their tasks wait again, and of nodes that came and went, between two states.
pub fn add_follow_ups(rows: &mut Vec<HistoryRow>, before: &State, after: &State, records: &[Record]) {
    for Record { at, event } in records {
        match event {
            Event::AttemptEnded { key, again_not_before: Some(_), .. } => {
                rows.extend(attempt_row(before, *key, *at));
            }
            Event::Configured { .. } => {
                let all = 0..after.nodes.len() as u32;
                rows.extend(all.filter_map(|id| away_row(before, after, NodeId(id), *at)));
            }
            event => {
                let mut last = None;
                let ran = event.ran().filter_map(|key| node_of_share(before, key, 0));
                // Many that ran on one node follow each other.
                let nodes = ran.filter(|node| last.replace(*node) != Some(*node));
                rows.extend(nodes.filter_map(|id| away_row(before, after, id, *at)));
                rows.extend(node_of(before, event).and_then(|id| away_row(before, after, id, *at)));
            }
        }
    }
}

fn attempt_row(before: &State, key: AttemptKey, at: Timestamp) -> Option<HistoryRow> {
    let job = before.jobs.get(&key.task.job)?;
    let live = job.live.get(&key.task.index).filter(|live| live.attempt == key.attempt)?;
    let task = view::task(before, &Plan::default(), job, key.task.index)?;
    Some(HistoryRow::Attempt(Box::new(AttemptRow {
        attempt: key,
        user: job.spec.user.name.clone(),
        account: job.spec.account.clone(),
        pool: job.spec.pool.clone().unwrap_or_default(),
        cores: live.allocation.cores(),
        started_us: live.started_at().unwrap_or(live.placed_at).0,
        ended_us: at.0,
        view: serde_json::to_string(&task).ok()?,
    })))
}

/// The node that an event may take from work, or give back to it.
fn node_of(before: &State, event: &Event) -> Option<NodeId> {
    match event {
        Event::NodeUp { node, .. }
        | Event::NodeLost { node, .. }
        | Event::NodeHeld { node, .. }
        | Event::NodeReleased { node }
        | Event::NodeHealth { node, .. }
        | Event::NodePower { node, .. } => Some(*node),
        Event::InstanceGone { key, instance, .. } | Event::InstanceLost { key, instance } => {
            node_of_share(before, *key, *instance)
        }
        _ => None,
    }
}

fn node_of_share(before: &State, key: AttemptKey, instance: u32) -> Option<NodeId> {
    let live = before.live_attempt(key.task).filter(|live| live.attempt == key.attempt)?;
    live.allocation.shares.get(instance as usize).map(|share| share.node)
}

fn away_row(before: &State, after: &State, id: NodeId, at: Timestamp) -> Option<HistoryRow> {
    let node = after.nodes.get(id.0 as usize)?;
    let was_away = before.nodes.get(id.0 as usize).is_some_and(Node::is_away);
    match (was_away, node.is_away()) {
        (false, true) => Some(HistoryRow::Away(Box::new(AwayRow {
            node: node.name.clone(),
            since_us: at.0,
            until_us: None,
            reason: node.why_no_work().unwrap_or_default(),
        }))),
        (true, false) => Some(HistoryRow::Back { node: node.name.clone(), at_us: at.0 }),
        _ => None,
    }
}

fn blank(job: &Job, span: TaskSpan, state: TaskState, ended: Timestamp) -> TaskRow {
    TaskRow {
        job: job.id,
        span,
        attempts: 0,
        name: job.spec.name.clone(),
        user: job.spec.user.name.clone(),
        uid: job.spec.user.uid,
        pool: job.spec.pool.clone().unwrap_or_default(),
        state: state.word().to_owned(),
        exit_code: None,
        signal: None,
        reason: String::new(),
        nodes: String::new(),
        cores: 0,
        submitted_us: job.submitted_at.0,
        started_us: None,
        ended_us: ended.0,
        cpu_time_us: 0,
        memory_peak_bytes: 0,
        view: None,
    }
}

fn task_row(state: &State, job: &Job, index: TaskIndex) -> Option<HistoryRow> {
    let finished = job.finished.get(&index)?;
    let task = view::finished_task(state, job, index, finished);
    Some(HistoryRow::Task(Box::new(row_of(job, task, finished.at))))
}

fn row_of(job: &Job, task: TaskView, at: Timestamp) -> TaskRow {
    with_view(blank(job, TaskSpan::one(TaskIndex(task.index)), task.state, at), task)
}

fn with_view(blank: TaskRow, task: TaskView) -> TaskRow {
    let view = beyond::the_columns(&task);
    // Most tasks have one node and one core, of which nothing has to be counted.
    let nodes = match &task.shares[..] {
        [share] => share.node.clone(),
        shares => format_hosts(&shares.iter().map(|share| &share.node).collect::<Vec<_>>()),
    };
    TaskRow {
        attempts: task.attempt,
        exit_code: task.exit_code,
        signal: task.signal,
        reason: task.reason,
        nodes,
        cores: task.shares.iter().map(|share| count(&share.cores)).sum(),
        started_us: task.started_at_us,
        cpu_time_us: task.cpu_time_us,
        memory_peak_bytes: task.memory_peak_bytes,
        view,
        ..blank
    }
}

/// How many numbers a range list such as `0-3,8` holds.
fn count(ranges: &str) -> u64 {
    if ranges.parse::<u32>().is_ok() {
        return 1;
    }
    let ranges = notation::parse_ranges(ranges, u32::MAX).unwrap_or_default();
    ranges.iter().map(|range| u64::from(range.last - range.first) + 1).sum()
}

/// Splits a range so that each task that had an attempt before stands alone: its row tells of that.
fn apart(finished: &BTreeMap<TaskIndex, Finished>, range: IndexRange) -> Vec<IndexRange> {
    let of_range = finished.range(TaskIndex(range.first)..=TaskIndex(range.last));
    let tried = of_range.filter(|(_, finished)| finished.how.attempts().0 > 0).map(|(index, _)| index.0);
    let mut parts = Vec::new();
    let mut first = range.first;
    for index in tried.filter(|index| (index - range.first).is_multiple_of(range.step)) {
        if first < index {
            parts.push(IndexRange { first, last: index - range.step, step: range.step });
        }
        parts.push(IndexRange { first: index, last: index, step: range.step });
        first = index + range.step;
    }
    if first <= range.last {
        parts.push(IndexRange { first, ..range });
    }
    parts
}

/// A million elements that ended while they waited are one row, as they were one record.
fn ended_waiting_row(state: &State, job: &Job, range: IndexRange, at: Timestamp) -> HistoryRow {
    let first = TaskIndex(range.first);
    let task = view::task(state, &Plan::default(), job, first);
    let task = match task {
        Some(task) if range.first == range.last => return HistoryRow::Task(Box::new(row_of(job, task, at))),
        task => task,
    };
    let span = TaskSpan { first: range.first, last: range.last, step: range.step };
    let (ended, reason) =
        task.map_or((TaskState::Cancelled, String::new()), |task| (task.state, task.reason));
    HistoryRow::Task(Box::new(TaskRow { reason, ..blank(job, span, ended, at) }))
}

fn job_row(state: &State, job: &Job) -> Option<HistoryRow> {
    let detail = view::frame(state, &Plan::default(), job, 0);
    let summary = &detail.summary;
    Some(HistoryRow::Job(Box::new(JobRow {
        job: job.id,
        name: summary.name.clone(),
        user: summary.user.clone(),
        uid: job.spec.user.uid,
        pool: summary.pool.clone(),
        state: summary.state.word().to_owned(),
        tasks: summary.tasks.values().sum(),
        submitted_us: summary.submitted_at_us,
        started_us: summary.started_at_us,
        ended_us: summary.finished_at_us.unwrap_or_default(),
        detail: serde_json::to_string(&detail).ok()?,
    })))
}

#[cfg(test)]
mod tests {
    use muster_core::state::FinishedHow;

    use super::*;

    #[test]
    fn tasks_that_had_an_attempt_stand_apart_from_those_that_never_ran() {
        let ended = |tried: &[u32]| -> BTreeMap<TaskIndex, Finished> {
            let one = |index: u32| {
                let attempts = u32::from(tried.contains(&index));
                let how = FinishedHow::CancelledWaiting { by_uid: 1, attempts, preempted: 0 };
                (TaskIndex(index), Finished { how, at: Timestamp(1) })
            };
            (0..=9).map(one).collect()
        };
        let parts = |tried: &[u32], (first, last, step)| -> Vec<(u32, u32)> {
            let parts = apart(&ended(tried), IndexRange { first, last, step });
            assert!(parts.iter().all(|part| part.step == step));
            parts.iter().map(|part| (part.first, part.last)).collect()
        };
        assert_eq!(parts(&[], (0, 9, 1)), [(0, 9)]);
        assert_eq!(parts(&[4], (0, 9, 1)), [(0, 3), (4, 4), (5, 9)]);
        assert_eq!(parts(&[0, 1, 9], (0, 9, 1)), [(0, 0), (1, 1), (2, 8), (9, 9)]);
        assert_eq!(parts(&[3, 4], (0, 8, 2)), [(0, 2), (4, 4), (6, 8)], "3 is not of this range");
        assert_eq!(parts(&[5], (5, 5, 1)), [(5, 5)]);
    }
}
