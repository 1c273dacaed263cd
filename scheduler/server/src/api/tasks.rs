//! `/v1/tasks`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shell};
use axum::response::Response;
use muster_client::api::{LINES_MAX, SCHEMA, STEPS_MAX, StepView, TaskLine, TaskList, TaskState, Which};
use muster_core::ids::{JobId, JobRef, Timestamp};
use muster_core::plan::Plan;
use muster_core::state::{Job, State};
use muster_store::{JobRow, JobSpan, Period, TaskRow};
use serde::Deserialize;

use super::App;
use super::answer::ApiError;
use super::parts::{self, LOOKED_AT_ONCE, PART_ENTRIES, Part, Parts, add_entry};
use crate::task_lines::{Lines, of_history};
use crate::view;

/// The query of `GET /v1/tasks`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TasksQuery {
    job: Option<String>,
    user: Option<String>,
    finished_s: Option<u64>,
    since_us: Option<u64>,
    until_us: Option<u64>,
    #[serde(default)]
    detail: bool,
    #[serde(default)]
    starts: bool,
    #[serde(default)]
    steps: bool,
}

/// What a list is to hold.
struct Filter {
    /// Empty: all.
    jobs: Vec<JobRef>,
    /// Empty: all.
    users: BTreeSet<String>,
    /// Finished tasks are listed if they finished then or later.
    finished_from: Option<Timestamp>,
    /// Whether the accounting is asked as well; tasks of before the instant and submitted after the second are left out.
    period: Option<(Timestamp, Timestamp)>,
    detail: bool,
    starts: bool,
    steps: bool,
}

impl Filter {
    fn new(mut query: TasksQuery, now: Timestamp) -> Result<Self, ApiError> {
        let words = |text: Option<String>| -> Vec<String> {
            let text = text.unwrap_or_default();
            text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let jobs = words(query.job.take()).iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        let ago = |seconds: u64| Timestamp(now.0.saturating_sub(seconds.saturating_mul(1_000_000)));
        let period =
            query.since_us.map(|since| (Timestamp(since), Timestamp(query.until_us.unwrap_or(u64::MAX))));
        let finished_from = period.map(|(since, _)| since).or(query.finished_s.map(ago));
        let users = words(query.user.take()).into_iter().collect();
        let TasksQuery { detail, starts, steps, .. } = query;
        Ok(Self { jobs, users, finished_from, period, detail, starts, steps })
    }

    fn takes_user(&self, user: &str) -> bool {
        self.users.is_empty() || self.users.contains(user)
    }

    fn takes_job(&self, job: &Job) -> bool {
        let is_there = job.finished_at.is_none_or(|at| self.finished_from.is_some_and(|from| at >= from));
        is_there
            && self.takes_user(&job.spec.user.name)
            && self.period.is_none_or(|(_, until)| job.submitted_at <= until)
    }

    fn takes_line(&self, line: &TaskLine) -> bool {
        self.jobs.is_empty()
            || self.jobs.iter().any(|job| job.job.0 == line.job && line.which.holds(job.task))
    }

    /// The ids of the jobs that are asked for, each once, rising.
    fn ids(&self) -> BTreeSet<JobId> {
        self.jobs.iter().map(|job| job.job).collect()
    }
}

/// `GET /v1/tasks`
pub async fn list(
    Shell(app): Shell<Arc<App>>,
    query: Result<Query<TasksQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let filter = Filter::new(query?.0, app.shared.now())?;
    parts::answer(app, move |app| Ok(TaskParts::new(app, filter))).await
}

/// A list under way. What is in memory alone is sent line by line; what needs the accounting, or more of each job than its
/// lines, is put together first.
struct TaskParts {
    filter: Filter,
    now: Timestamp,
    plan: Arc<Plan>,
    /// Which jobs are looked at next.
    cursor: Cursor,
    known: Vec<u64>,
    sent: usize,
}

impl TaskParts {
    fn new(app: &App, filter: Filter) -> Self {
        let now = app.shared.now();
        let plan = app.shared.plan(now, filter.jobs.first().map(|job| job.job));
        let cursor = Cursor::new(&filter);
        Self { filter, now, plan, cursor, known: Vec::new(), sent: 0 }
    }

    fn is_sent_in_parts(&self) -> bool {
        let Filter { finished_from, detail, starts, steps, .. } = &self.filter;
        finished_from.is_none() && !detail && !starts && !steps
    }
}

impl Parts for TaskParts {
    fn next(&mut self, app: &App) -> Result<Part, ApiError> {
        if !self.is_sent_in_parts() {
            let list = listed(app, &self.filter, &self.plan, self.now)?;
            return Ok(Part { bytes: serde_json::to_vec(&list)?, is_last: true });
        }
        let mut bytes = Vec::with_capacity(64 << 10);
        let mut list = blank(app, self.now);
        if self.sent == 0 && self.cursor.is_new {
            bytes.extend_from_slice(b"{\"lines\":[");
        }
        // Jobs that are passed over make no lines: many may be looked at for one part.
        while list.lines.is_empty() && !self.cursor.is_over() {
            self.cursor.add(app, &self.plan, &self.filter, &mut list);
        }
        self.known.append(&mut list.known);
        let mut cut = false;
        for line in list.lines.drain(..) {
            cut = self.sent == LINES_MAX;
            if cut {
                break;
            }
            let mut is_first = self.sent == 0;
            add_entry(&mut bytes, &mut is_first, &line)?;
            self.sent += 1;
        }
        let is_last = cut || self.cursor.is_over();
        if is_last {
            let end = TaskList { known: std::mem::take(&mut self.known), cut, ..list };
            close(&mut bytes, "lines", &end)?;
        }
        Ok(Part { bytes, is_last })
    }
}

/// Closes an array and the object that it is in, with the other fields of that.
fn close(out: &mut Vec<u8>, array: &str, rest: &TaskList) -> Result<(), ApiError> {
    let mut rest = serde_json::to_value(rest)?;
    if let Some(fields) = rest.as_object_mut() {
        fields.remove(array);
    }
    let rest = serde_json::to_vec(&rest)?;
    out.extend_from_slice(b"],");
    out.extend_from_slice(&rest[1..]);
    Ok(())
}

/// A list without lines.
fn blank(app: &App, now: Timestamp) -> TaskList {
    TaskList {
        schema: SCHEMA,
        cluster: app.shared.read().state().config.name.clone(),
        now_us: now.0,
        lines: Vec::new(),
        jobs: BTreeMap::new(),
        steps: Vec::new(),
        known: Vec::new(),
        cut: false,
    }
}

fn listed(app: &App, filter: &Filter, plan: &Plan, now: Timestamp) -> Result<TaskList, ApiError> {
    let mut list = blank(app, now);
    let mut cursor = Cursor::new(filter);
    while !cursor.is_over() && list.lines.len() <= LINES_MAX {
        cursor.add(app, plan, filter, &mut list);
    }
    if filter.finished_from.is_some() {
        add_past(app, filter, &cursor.seen, &mut list)?;
    }
    list.cut = list.lines.len() > LINES_MAX;
    list.lines.truncate(LINES_MAX);
    if filter.steps {
        add_steps(app, filter, &mut list)?;
    }
    if filter.starts {
        add_starts(app, &mut list.lines, now);
    }
    Ok(list)
}

/// Goes through the jobs in memory that are asked for, rising, and lets the state go now and then.
struct Cursor {
    /// The jobs that are asked for and were not looked at yet; none if all are asked for.
    asked: Option<BTreeSet<JobId>>,
    /// The next job, if there may be one.
    from: Option<JobId>,
    is_new: bool,
    /// The jobs that were in memory.
    seen: BTreeSet<JobId>,
}

impl Cursor {
    fn new(filter: &Filter) -> Self {
        let asked = (!filter.jobs.is_empty()).then(|| filter.ids());
        Self { asked, from: Some(JobId(0)), is_new: true, seen: BTreeSet::new() }
    }

    fn is_over(&self) -> bool {
        self.from.is_none()
    }

    /// Adds the lines of the next jobs to a list, and as much else of them as is asked for.
    fn add(&mut self, app: &App, plan: &Plan, filter: &Filter, list: &mut TaskList) {
        self.is_new = false;
        let Some(from) = self.from.take() else { return };
        let reading = app.shared.read();
        let state = reading.state();
        let lines = Lines::new(state, plan, filter.finished_from, filter.detail);
        let (mut looked_at, before) = (0, list.lines.len());
        let mut add = |job: &Job| {
            looked_at += 1;
            if filter.finished_from.is_some() {
                self.seen.insert(job.id);
            }
            add_present(&lines, state, plan, filter, job, list);
            // Whether this was the last one for now.
            looked_at == LOOKED_AT_ONCE || list.lines.len() - before >= PART_ENTRIES
        };
        let last = match &mut self.asked {
            None if filter.finished_from.is_none() => {
                state.unfinished(from..).find(|job| add(job)).map(|job| job.id)
            }
            None => state.jobs.range(from..).find(|(_, job)| add(job)).map(|(id, _)| *id),
            Some(asked) => {
                let ids = std::mem::take(asked);
                for job in ids.into_iter().filter_map(|id| state.jobs.get(&id)) {
                    add(job);
                }
                None
            }
        };
        self.from = last.map(|last| JobId(last.0 + 1));
    }
}

/// Adds a job that is in memory.
fn add_present(
    lines: &Lines<'_>,
    state: &State,
    plan: &Plan,
    filter: &Filter,
    job: &Job,
    list: &mut TaskList,
) {
    if list.lines.len() > LINES_MAX || !filter.takes_job(job) {
        return;
    }
    list.known.extend((!filter.jobs.is_empty()).then_some(job.id.0));
    let from = list.lines.len();
    lines.of_job(job, &mut list.lines);
    if !filter.jobs.is_empty() {
        let mut new = list.lines.split_off(from);
        new.retain(|line| filter.takes_line(line));
        list.lines.append(&mut new);
    }
    if filter.detail && list.lines.len() > from {
        list.jobs.insert(job.id.0, view::frame(state, plan, job, 0));
    }
}

/// Adds what has left the memory.
fn add_past(
    app: &App,
    filter: &Filter,
    in_memory: &BTreeSet<JobId>,
    list: &mut TaskList,
) -> Result<(), ApiError> {
    let rows = past_rows(app, filter, in_memory)?;
    if rows.is_empty() {
        return Ok(());
    }
    for (row, tasks) in rows {
        if list.lines.len() > LINES_MAX {
            break;
        }
        let Some((job, lines)) = of_history(&row, &tasks, filter.detail) else { continue };
        list.known.extend((!filter.jobs.is_empty()).then_some(row.job.0));
        let is_shown = |line: &TaskLine| {
            filter.takes_line(line)
                && filter.finished_from.is_none_or(|from| line.finished_at_us.is_none_or(|at| at >= from.0))
        };
        let before = list.lines.len();
        list.lines.extend(lines.into_iter().filter(is_shown));
        if filter.detail && list.lines.len() > before {
            list.jobs.insert(row.job.0, job);
        }
    }
    list.lines.sort_by_key(|line| line.job);
    Ok(())
}

/// Jobs of the accounting that are no longer in memory, with their tasks.
fn past_rows(
    app: &App,
    filter: &Filter,
    in_memory: &BTreeSet<JobId>,
) -> Result<Vec<(JobRow, Vec<TaskRow>)>, ApiError> {
    let since = filter.finished_from.unwrap_or_default();
    let until = filter.period.map_or(Timestamp(u64::MAX), |(_, until)| until);
    let is_wanted = |row: &JobRow| {
        filter.takes_user(&row.user)
            && row.ended_us >= since.0
            && row.submitted_us <= until.0
            && !in_memory.contains(&row.job)
    };
    let history = app.history();
    if !filter.jobs.is_empty() {
        let mut rows = Vec::new();
        for id in filter.ids().difference(in_memory) {
            let Some(row) = history.job(*id).map_err(ApiError::History)?.filter(&is_wanted) else { continue };
            let tasks = history.tasks(*id, LINES_MAX).map_err(ApiError::History)?;
            rows.push((row, tasks));
        }
        return Ok(rows);
    }
    let only = filter.users.iter().next().filter(|_| filter.users.len() == 1);
    let period = Period { since_us: since.0, until_us: until.0, user: only.map(String::as_str) };
    let (jobs, tasks) = history.period(&period, LINES_MAX).map_err(ApiError::History)?;
    let mut of_job: BTreeMap<JobId, Vec<TaskRow>> = BTreeMap::new();
    for task in tasks {
        of_job.entry(task.job).or_default().push(task);
    }
    let with_tasks = |row: JobRow| {
        let tasks = of_job.remove(&row.job).unwrap_or_default();
        (row, tasks)
    };
    Ok(jobs.into_iter().filter(is_wanted).map(with_tasks).collect())
}

/// Adds the steps of the tasks that are listed: of the accounting only where that is asked.
fn add_steps(app: &App, filter: &Filter, list: &mut TaskList) -> Result<(), ApiError> {
    // By job, the elements that are listed; none where the whole job is.
    let mut listed: BTreeMap<JobId, BTreeSet<u32>> = BTreeMap::new();
    for line in &list.lines {
        let tasks = listed.entry(JobId(line.job)).or_default();
        match &line.which {
            Which::Job => drop(tasks.insert(0)),
            Which::Element(index) => drop(tasks.insert(index.0)),
            // What never ran has no steps.
            Which::Elements(_) => {}
        }
    }
    let is_listed = |job: JobId, task: u32| listed.get(&job).is_some_and(|tasks| tasks.contains(&task));
    let mut steps = app.shared.steps.of(|job| listed.contains_key(&job));
    let span = listed.first_key_value().zip(listed.last_key_value());
    if let Some(((first, _), (last, _))) = span.filter(|_| filter.finished_from.is_some()) {
        let span = JobSpan { first: *first, last: *last };
        let rows = app.history().steps(span, STEPS_MAX + 1).map_err(ApiError::History)?;
        list.cut |= rows.len() > STEPS_MAX;
        steps.extend(rows.iter().filter_map(|row| serde_json::from_str::<StepView>(&row.view).ok()));
    }
    steps.retain(|step| is_listed(JobId(step.job), step.task));
    steps.sort_by_key(|step| (step.job, step.task, step.attempt, step.step));
    // One that ended between the two readings is in both.
    steps.dedup_by_key(|step| (step.job, step.task, step.attempt, step.step));
    list.steps = steps;
    Ok(())
}

/// Adds when what waits is expected to start, as far as that can be told in a moment.
fn add_starts(app: &App, lines: &mut [TaskLine], now: Timestamp) {
    let waits = |line: &TaskLine| line.state == TaskState::Waiting;
    let waiting: Vec<JobId> = lines.iter().filter(|line| waits(line)).map(|line| JobId(line.job)).collect();
    let starts = app.forecasts.starts(&app.shared, &waiting, now);
    for line in lines.iter_mut().filter(|line| waits(line)) {
        line.expected_start_us = starts.get(&JobId(line.job)).map(|at| at.0);
    }
}
