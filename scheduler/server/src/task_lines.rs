//! Tasks as lines of a listing: one for all waiting elements of an array, one for each task that lives or has finished.

use std::collections::{BTreeMap, HashMap};

use muster_client::api::{EndView, JobDetail, TaskLine, TaskState, TaskView, Which};
use muster_core::event::Allocation;
use muster_core::ids::{JobId, TaskIndex, Timestamp};
use muster_core::notation::format_hosts;
use muster_core::plan::{Plan, Reason};
use muster_core::spec::{IndexRange, Request};
use muster_core::state::{Finished, FinishedHow, Job, JobHold, Live, State, TaskHold};
use muster_store::{JobRow, TaskRow};

use crate::accounting;
use crate::view::{finished_end, finished_state, live_end, live_state, task};

/// What makes lines of the jobs of a state.
pub struct Lines<'a> {
    state: &'a State,
    plan: &'a Plan,
    /// Finished tasks are shown if they finished at this instant or later.
    finished_from: Option<Timestamp>,
    /// Whether each line holds all that is known of its task.
    detail: bool,
    /// Cores of the largest node of each pool.
    largest: HashMap<&'a str, u32>,
}

impl<'a> Lines<'a> {
    /// Lines of the jobs of `state`, whose waiting tasks have the reasons of `plan`.
    #[must_use]
    pub fn new(state: &'a State, plan: &'a Plan, finished_from: Option<Timestamp>, detail: bool) -> Self {
        let cores: HashMap<&str, u32> =
            state.nodes.iter().map(|node| (node.name.as_str(), node.cores)).collect();
        let largest =
            |nodes: &[String]| nodes.iter().filter_map(|name| cores.get(name.as_str())).max().copied();
        let pools = state.config.pools.iter();
        let largest =
            pools.map(|pool| (pool.name.as_str(), largest(&pool.nodes).unwrap_or(1).max(1))).collect();
        Self { state, plan, finished_from, detail, largest }
    }

    /// Adds the lines of a job.
    pub fn of_job(&self, job: &Job, lines: &mut Vec<TaskLine>) {
        if !job.waiting.is_empty() {
            self.add_waiting(job, lines);
        }
        let finished_from = self.finished_from;
        let is_shown = |finished: &Finished| finished_from.is_some_and(|from| finished.at >= from);
        let mut live = job.live.iter().peekable();
        let mut ended = job.finished.iter().filter(|(_, finished)| is_shown(finished)).peekable();
        loop {
            let is_live_next = match (live.peek(), ended.peek()) {
                (None, None) => return,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((a, _)), Some((b, _))) => a < b,
            };
            if is_live_next {
                if let Some((index, attempt)) = live.next() {
                    lines.push(self.live(job, *index, attempt));
                }
            } else if let Some((index, finished)) = ended.next() {
                self.add_finished(job, *index, finished, lines);
            }
        }
    }

    fn blank(&self, job: &Job, which: Which, state: TaskState) -> TaskLine {
        let (spec, request) = (&job.spec, &job.spec.request);
        let pool = spec.pool.clone().unwrap_or_default();
        TaskLine {
            job: job.id.0,
            which,
            running_max: None,
            name: spec.name.clone(),
            user: spec.user.name.clone(),
            uid: spec.user.uid,
            account: spec.account.clone(),
            qos: spec.qos.clone(),
            reservation: spec.reservation.clone(),
            licenses: spec.licenses.clone(),
            state,
            reason_code: String::new(),
            end: None,
            restarts: 0,
            priority: spec.priority,
            nodes: nodes_needed(request, self.largest.get(pool.as_str()).copied().unwrap_or(1)),
            pool,
            ranks: request.ranks,
            cores: request.cores_total(),
            node_list: String::new(),
            primary: String::new(),
            submitted_at_us: job.submitted_at.0,
            begin_us: spec.eligibility.begin.map(|begin| begin.0),
            started_at_us: None,
            finished_at_us: None,
            ends_by_us: None,
            expected_start_us: None,
            time_limit_s: spec.time_limit_s,
            task: None,
        }
    }

    /// Waiting elements are one line, but for those that are held, or let go, by themselves.
    fn add_waiting(&self, job: &Job, lines: &mut Vec<TaskLine>) {
        let planned = self.plan.waiting.get(&job.id).map(|waiting| waiting.reason.code());
        let planned = planned.unwrap_or_default();
        let code = |hold: Option<JobHold>| match hold {
            Some(held) => Reason::Held { by_admin: held.by_admin }.code(),
            None => planned,
        };
        if job.spec.array.is_none() {
            lines.push(self.waiting(job, Which::Job, planned));
            return;
        }
        if job.task_holds.is_empty() {
            lines.push(self.waiting(job, Which::Elements(job.waiting.ranges().collect()), planned));
            return;
        }
        let mut alike: BTreeMap<&str, Vec<IndexRange>> = BTreeMap::new();
        for index in job.task_holds.keys().filter(|index| job.waiting.contains(index.0)) {
            extend(alike.entry(code(job.hold_of(*index))).or_default(), index.0);
        }
        let rest: Vec<IndexRange> = job.waiting_with_the_job().ranges().collect();
        if !rest.is_empty() {
            lines.push(self.waiting(job, Which::Elements(rest), code(job.held)));
        }
        let alone = alike.into_iter().map(|(code, ranges)| self.waiting(job, Which::Elements(ranges), code));
        lines.extend(alone);
    }

    fn waiting(&self, job: &Job, which: Which, reason_code: &str) -> TaskLine {
        let array = job.spec.array.as_ref();
        let first = match &which {
            Which::Elements(ranges) => TaskIndex(ranges.first().map_or(0, |range| range.first)),
            _ => TaskIndex(job.waiting.iter().next().unwrap_or(0)),
        };
        TaskLine {
            running_max: array.and_then(|array| array.running_max),
            reason_code: reason_code.to_owned(),
            restarts: if array.is_none() {
                job.attempts_until(first, job.next_attempt(first)) - 1
            } else {
                0
            },
            task: self.detail(job, first),
            ..self.blank(job, which, TaskState::Waiting)
        }
    }

    fn live(&self, job: &Job, index: TaskIndex, live: &Live) -> TaskLine {
        let line = TaskLine {
            end: live_end(live),
            restarts: job.attempts_until(index, live.attempt).saturating_sub(1),
            started_at_us: Some(live.started_at().unwrap_or(live.placed_at).0),
            ends_by_us: live.deadline(job.spec.time_limit_s).map(|at| at.0),
            time_limit_s: live.time_limit_s.or(job.spec.time_limit_s),
            task: self.detail(job, index),
            ..self.blank(job, element(job, index), live_state(live))
        };
        self.with_allocation(line, &live.allocation)
    }

    /// Elements that were cancelled together while they waited are one line, as those that wait are.
    fn add_finished(&self, job: &Job, index: TaskIndex, finished: &Finished, lines: &mut Vec<TaskLine>) {
        let end = finished_end(&finished.how);
        let never_ran = finished.how.attempts().0 == 0;
        if never_ran
            && let Some(TaskLine {
                job: of,
                which: Which::Elements(ranges),
                end: Some(last),
                finished_at_us,
                ..
            }) = lines.last_mut()
            && (*of, &*last, *finished_at_us) == (job.id.0, &end, Some(finished.at.0))
        {
            extend(ranges, index.0);
            return;
        }
        let which = match element(job, index) {
            Which::Element(index) if never_ran => {
                Which::Elements(vec![IndexRange { first: index.0, last: index.0, step: 1 }])
            }
            which => which,
        };
        let line = TaskLine {
            end: Some(end),
            restarts: finished.how.attempts().0.saturating_sub(1),
            finished_at_us: Some(finished.at.0),
            task: self.detail(job, index),
            ..self.blank(job, which, finished_state(&finished.how))
        };
        lines.push(match &finished.how {
            FinishedHow::Ran { allocation, placed_at, time_limit_s, started_at, .. } => {
                let line = TaskLine {
                    started_at_us: Some(started_at.unwrap_or(*placed_at).0),
                    time_limit_s: time_limit_s.or(job.spec.time_limit_s),
                    ..line
                };
                self.with_allocation(line, allocation)
            }
            _ => line,
        });
    }

    fn with_allocation(&self, line: TaskLine, allocation: &Allocation) -> TaskLine {
        let names = self.state.node_names(allocation);
        TaskLine {
            nodes: names.len() as u32,
            ranks: allocation.ranks(),
            cores: allocation.cores(),
            node_list: format_hosts(&names),
            primary: names.first().map(|name| (*name).to_owned()).unwrap_or_default(),
            ..line
        }
    }

    fn detail(&self, job: &Job, index: TaskIndex) -> Option<Box<TaskView>> {
        if self.detail { task(self.state, self.plan, job, index).map(Box::new) } else { None }
    }
}

fn element(job: &Job, index: TaskIndex) -> Which {
    if job.is_array() { Which::Element(index) } else { Which::Job }
}

/// Adds an index that is greater than all before.
fn extend(ranges: &mut Vec<IndexRange>, index: u32) {
    match ranges.last_mut() {
        Some(range) if range.first == range.last || index - range.last == range.step => {
            range.step = index - range.last;
            range.last = index;
        }
        _ => ranges.push(IndexRange { first: index, last: index, step: 1 }),
    }
}

/// Waiting tasks that are held back although their job, or the rest of it, is not.
pub(crate) fn held_alone(job: &Job) -> Vec<IndexRange> {
    let held = job.task_holds.iter().filter(|(_, said)| matches!(said, TaskHold::Held(_)));
    let mut ranges = Vec::new();
    for (index, _) in held.filter(|(index, _)| job.waiting.contains(index.0)) {
        extend(&mut ranges, index.0);
    }
    ranges
}

/// As many nodes as a request needs at least, if the largest node has so many cores.
fn nodes_needed(request: &Request, cores_of_largest: u32) -> u32 {
    let per_node = (cores_of_largest / request.cores_per_rank.max(1)).max(1);
    request.nodes_min().max(if request.nodes.is_none() { request.ranks.div_ceil(per_node) } else { 1 })
}

/// The lines of a job that has left the memory, with what it was. A row that cannot be read is left out.
#[must_use]
pub fn of_history(row: &JobRow, tasks: &[TaskRow], detail: bool) -> Option<(JobDetail, Vec<TaskLine>)> {
    let mut job: JobDetail = serde_json::from_str(&row.detail).ok()?;
    job.uid = row.uid;
    let lines = tasks.iter().map(|task| line_of_row(&job, row.job, task, detail)).collect();
    Some((job, lines))
}

fn line_of_row(job: &JobDetail, id: JobId, row: &TaskRow, detail: bool) -> TaskLine {
    let (summary, request) = (&job.summary, &job.request);
    let index = TaskIndex(row.span.first);
    let task = accounting::view_of(job, row, index);
    let which = match (summary.array, row.span.first == row.span.last && row.attempts > 0) {
        (false, _) => Which::Job,
        (true, true) => Which::Element(index),
        (true, false) => Which::Elements(vec![IndexRange {
            first: row.span.first,
            last: row.span.last,
            step: row.span.step,
        }]),
    };
    let has_run = !task.shares.is_empty();
    TaskLine {
        job: id.0,
        which,
        running_max: None,
        name: row.name.clone(),
        user: row.user.clone(),
        uid: row.uid,
        pool: row.pool.clone(),
        account: job.account.clone(),
        qos: job.qos.clone(),
        reservation: job.reservation.clone(),
        licenses: job.notes.licenses.clone(),
        state: task.state,
        reason_code: String::new(),
        end: Some(end_of(&task)),
        restarts: row.attempts.saturating_sub(1),
        priority: summary.priority,
        nodes: if has_run { task.shares.len() as u32 } else { request.nodes_min() },
        ranks: if has_run { task.shares.iter().map(|share| share.ranks).sum() } else { request.ranks },
        cores: if has_run { row.cores } else { request.cores_total() },
        node_list: row.nodes.clone(),
        primary: task.shares.first().map(|share| share.node.clone()).unwrap_or_default(),
        submitted_at_us: row.submitted_us,
        begin_us: job.eligibility.begin.map(|begin| begin.0),
        started_at_us: row.started_us.or(task.placed_at_us),
        finished_at_us: Some(row.ended_us),
        ends_by_us: None,
        expected_start_us: None,
        time_limit_s: task.time_limit_s.or(summary.time_limit_s),
        task: detail.then(|| Box::new(task)),
    }
}

/// How a task ended, also if its row is of a release that did not say.
fn end_of(task: &TaskView) -> EndView {
    if let Some(end) = &task.end {
        return end.clone();
    }
    match (task.state, task.exit_code, task.signal) {
        (TaskState::Completed, ..) => EndView::Exited { code: 0 },
        (TaskState::Failed, Some(code), _) => EndView::Exited { code },
        (TaskState::Failed, _, Some(signal)) => EndView::Signalled { signal },
        (TaskState::Failed, ..) => EndView::LaunchFailed,
        (TaskState::TimedOut, ..) => EndView::TimedOut,
        (TaskState::Deadline, ..) => EndView::Deadline,
        (TaskState::OutOfMemory, ..) => EndView::OutOfMemory,
        (TaskState::Preempted, ..) => EndView::Preempted,
        (TaskState::NodeFailed, ..) => EndView::NodeFailed,
        _ => EndView::Cancelled { by_uid: 0 },
    }
}
