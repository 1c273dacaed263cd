//! `GET /v1/jobs`: the newest jobs that match, oldest first, made and sent in parts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shell};
use axum::response::Response;
use muster_client::api::{JobDetail, JobSummary, SCHEMA, TaskState};
use muster_core::ids::{JobId, Timestamp};
use muster_core::plan::Plan;
use muster_core::state::{Job, State};
use muster_store::JobRow;
use serde::Deserialize;

use super::App;
use super::answer::ApiError;
use super::parts::{self, LOOKED_AT_ONCE, PART_ENTRIES, Part, Parts, add_entry};
use crate::view;

/// Most jobs in one list.
const JOBS_LISTED_MAX: usize = 100_000;

/// The query of `GET /v1/jobs`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    state: Option<String>,
    user: Option<String>,
    all: Option<String>,
    limit: Option<usize>,
    starts: Option<String>,
}

/// What a list is to hold.
struct Filter {
    states: Vec<TaskState>,
    user: Option<String>,
    finished: bool,
    limit: usize,
    /// Whether it says when what waits is expected to start.
    starts: bool,
}

impl Filter {
    fn new(query: ListQuery) -> Result<Self, ApiError> {
        let words = query.state.unwrap_or_default();
        let state = |word: &str| {
            let known = || TaskState::ALL.map(TaskState::word).join(", ");
            let found = TaskState::ALL.into_iter().find(|state| state.word() == word);
            found.ok_or_else(|| ApiError::BadState { word: word.to_owned(), known: known() })
        };
        let states: Vec<TaskState> =
            words.split(',').filter(|word| !word.is_empty()).map(state).collect::<Result<_, _>>()?;
        let is_set = |value: Option<String>| value.is_some_and(|v| !matches!(v.as_str(), "" | "0" | "false"));
        let (all, starts) = (is_set(query.all), is_set(query.starts));
        let finished = all || states.iter().any(|state| state.is_finished());
        let limit = query.limit.unwrap_or(JOBS_LISTED_MAX).min(JOBS_LISTED_MAX);
        Ok(Self { states, user: query.user, finished, limit, starts })
    }

    fn takes(&self, summary: &JobSummary) -> bool {
        (self.states.is_empty() || self.states.iter().any(|state| summary.tasks.contains_key(state)))
            && self.user.as_ref().is_none_or(|user| *user == summary.user)
    }

    /// The jobs in memory before this one that may match, newest first.
    fn of_memory<'a>(&self, state: &'a State, below: JobId) -> Box<dyn Iterator<Item = &'a Job> + 'a> {
        match self.finished {
            true => Box::new(state.jobs.range(..below).rev().map(|(_, job)| &**job)),
            false => Box::new(state.unfinished(..below).rev().map(|job| &**job)),
        }
    }

    fn takes_job(&self, state: &State, plan: &Plan, job: &Job) -> bool {
        self.user.as_ref().is_none_or(|user| *user == job.spec.user.name)
            && (self.states.is_empty() || self.takes(&view::summary(state, plan, job)))
    }

    /// A job of the accounting as a line, if it matches.
    fn of_history(&self, row: &JobRow) -> Option<JobSummary> {
        let detail = serde_json::from_str::<JobDetail>(&row.detail).ok()?;
        Some(detail.summary).filter(|summary| self.takes(summary))
    }
}

/// `GET /v1/jobs`
pub async fn list(
    Shell(app): Shell<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let filter = Filter::new(query?.0)?;
    parts::answer(app, move |app| JobParts::new(app, filter)).await
}

/// A list under way.
struct JobParts {
    filter: Filter,
    plan: Arc<Plan>,
    /// The jobs that are listed, rising.
    ids: Vec<JobId>,
    /// Those that are to be made yet.
    left: Range<usize>,
    starts: BTreeMap<JobId, Timestamp>,
    cut: bool,
    /// Whether no line was made so far.
    is_empty: bool,
}

impl JobParts {
    /// Finds which jobs are listed.
    fn new(app: &App, filter: Filter) -> Result<Self, ApiError> {
        let now = app.shared.now();
        let plan = app.shared.plan(now, None);
        // One more than the limit, to know whether there are more.
        let most = filter.limit.saturating_add(1);
        let (mut ids, waiting) = present(app, &filter, &plan, most);
        if filter.finished {
            ids.extend(past(app, &filter, most)?);
            ids.sort_unstable();
            ids.dedup();
        } else {
            ids.reverse();
        }
        let cut = ids.len() > filter.limit;
        ids.drain(..ids.len().saturating_sub(filter.limit));
        let starts = match filter.starts {
            true => app.forecasts.starts(&app.shared, &waiting, now),
            false => BTreeMap::new(),
        };
        let left = 0..ids.len();
        Ok(Self { filter, plan, ids, left, starts, cut, is_empty: true })
    }
}

impl Parts for JobParts {
    fn next(&mut self, app: &App) -> Result<Part, ApiError> {
        let mut out = Vec::with_capacity(64 << 10);
        if self.left.start == 0 {
            out.extend_from_slice(format!("{{\"schema\":{SCHEMA},\"jobs\":[").as_bytes());
        }
        let end = self.left.end.min(self.left.start + PART_ENTRIES);
        for mut summary in self.summaries(app, &self.ids[self.left.start..end])?.into_values() {
            summary.expected_start_us = self.starts.get(&JobId(summary.job)).map(|at| at.0);
            add_entry(&mut out, &mut self.is_empty, &summary)?;
        }
        self.left.start = end;
        if self.left.is_empty() {
            out.extend_from_slice(format!("],\"cut\":{}}}", self.cut).as_bytes());
        }
        Ok(Part { bytes: out, is_last: self.left.is_empty() })
    }
}

impl JobParts {
    /// The lines of some jobs, rising: from memory, else from the accounting.
    fn summaries(&self, app: &App, ids: &[JobId]) -> Result<BTreeMap<u64, JobSummary>, ApiError> {
        let mut lines = BTreeMap::new();
        let mut past = Vec::new();
        {
            let reading = app.shared.read();
            for id in ids {
                match reading.state().jobs.get(id) {
                    Some(job) => drop(lines.insert(id.0, view::summary(reading.state(), &self.plan, job))),
                    None => past.push(*id),
                }
            }
        }
        let (Some(first), Some(last)) = (past.first(), past.last()) else { return Ok(lines) };
        let mut below = JobId(last.0 + 1);
        while below > *first {
            let rows = history_below(app, &self.filter, below, PART_ENTRIES)?;
            for row in rows.iter().filter(|row| past.binary_search(&row.job).is_ok()) {
                lines.extend(self.filter.of_history(row).map(|summary| (row.job.0, summary)));
            }
            let Some(lowest) = rows.last() else { break };
            below = lowest.job;
        }
        Ok(lines)
    }
}

fn history_below(app: &App, filter: &Filter, below: JobId, most: usize) -> Result<Vec<JobRow>, ApiError> {
    app.history().jobs(below, filter.user.as_deref(), most).map_err(ApiError::History)
}

/// The jobs in memory that match, newest first, and which of them wait.
fn present(app: &App, filter: &Filter, plan: &Plan, most: usize) -> (Vec<JobId>, Vec<JobId>) {
    let (mut ids, mut waiting) = (Vec::new(), Vec::new());
    let mut below = JobId(u64::MAX);
    loop {
        let reading = app.shared.read();
        let state = reading.state();
        let mut looked_at = 0;
        for job in filter.of_memory(state, below).take(LOOKED_AT_ONCE) {
            looked_at += 1;
            below = job.id;
            if !filter.takes_job(state, plan, job) {
                continue;
            }
            ids.push(job.id);
            waiting.extend((!job.waiting.is_empty()).then_some(job.id));
            if ids.len() == most {
                return (ids, waiting);
            }
        }
        if looked_at < LOOKED_AT_ONCE {
            return (ids, waiting);
        }
    }
}

/// The jobs of the accounting that match, among the newest `most`.
fn past(app: &App, filter: &Filter, most: usize) -> Result<Vec<JobId>, ApiError> {
    let (mut ids, mut below, mut left) = (Vec::new(), JobId(u64::MAX), most);
    while left > 0 {
        let rows = history_below(app, filter, below, left.min(PART_ENTRIES))?;
        let Some(lowest) = rows.last() else { break };
        (below, left) = (lowest.job, left - rows.len());
        let takes = |row: &&JobRow| filter.states.is_empty() || filter.of_history(row).is_some();
        ids.extend(rows.iter().filter(takes).map(|row| row.job));
    }
    Ok(ids)
}
