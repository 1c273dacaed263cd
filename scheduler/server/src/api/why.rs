//! `/v1/jobs/{ref}/why`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shell};
use muster_client::api::{
    GresShortageView, HolderView, HoldersView, KeptForView, NodeAwayView, NodesAwayView, SCHEMA,
    ShortageView, TaskState, Why,
};
use muster_core::ids::{JobId, JobRef, Timestamp};
use muster_core::plan::{self, Holder, Holders, Plan, Reason, Shortage, Waiting};
use muster_core::priority::factors;
use muster_core::state::{Job, State};

use super::answer::{Answered, ApiError};
use super::{App, blocking, jobs};
use crate::forecasts::Forecasts;
use crate::shared::Shared;

/// `GET /v1/jobs/{ref}/why`
pub async fn why(Shell(app): Shell<Arc<App>>, Path(target): Path<String>) -> Answered<Why> {
    let target: JobRef = target.parse()?;
    blocking(&app, move |app| explain(app, target)).await.map(Json)
}

fn explain(app: &App, target: JobRef) -> Result<Why, ApiError> {
    let detail = jobs::detail(app, target)?;
    let task = target.task.and_then(|_| detail.task_list.first());
    let state = task.map_or(detail.summary.state, |task| task.state);
    let reason = task.map_or(&detail.summary.reason, |task| &task.reason).clone();
    let mut why = blank(target.job, state);
    match state {
        TaskState::Waiting => explain_waiting(&app.shared, &app.forecasts, target, reason, &mut why),
        TaskState::Preparing => {
            why.sentences.push(format!("its nodes prepare it: {}", detail.summary.node_list))
        }
        TaskState::Running => why.sentences.push(format!("it runs on {}", detail.summary.node_list)),
        TaskState::Ending => why.sentences.push(format!("it is being ended: {reason}")),
        _ => why.sentences.push(reason),
    }
    Ok(why)
}

fn blank(job: JobId, state: TaskState) -> Why {
    Why {
        schema: SCHEMA,
        job: job.0,
        state,
        code: state.word().to_owned(),
        sentences: Vec::new(),
        expected_start_us: None,
        shortage: None,
        holders: None,
        kept_for: None,
        nodes_away: None,
    }
}

/// Why the only task of a job waits, for a task of the batch service that was made into it; none if it does not wait.
pub(crate) fn of_made(shared: &Shared, forecasts: &Forecasts, job: JobId) -> Option<Why> {
    let plan = shared.plan(shared.now(), Some(job));
    let reason = plan.waiting.get(&job)?.reason.to_string();
    let mut why = blank(job, TaskState::Waiting);
    explain_waiting(shared, forecasts, JobRef { job, task: None }, reason, &mut why);
    Some(why)
}

fn explain_waiting(shared: &Shared, forecasts: &Forecasts, target: JobRef, reason: String, why: &mut Why) {
    why.sentences.push(reason);
    let now = shared.now();
    let plan = shared.plan(now, Some(target.job));
    let Some(waiting) = plan.waiting.get(&target.job) else { return };
    let hold = |index| shared.read().state().jobs.get(&target.job)?.hold_of(index);
    if let Some(held) = target.task.and_then(hold) {
        why.code = Reason::Held { by_admin: held.by_admin }.code().to_owned();
        return;
    }
    why.code = waiting.reason.code().to_owned();
    {
        let reading = shared.read();
        if let Some(job) = reading.state().jobs.get(&target.job) {
            numbers(reading.state(), &plan, job, waiting, why);
            let sum = factors(reading.state(), job, now);
            why.sentences.extend(sum.map(|sum| format!("its priority is {sum}")));
        }
    }
    let foreseen = |job| forecasts.starts(shared, &[job], now).get(&job).copied();
    why.expected_start_us = waiting.expected_start.or_else(|| foreseen(target.job)).map(|at| at.0.max(now.0));
}

/// What stands behind the reason, in numbers.
fn numbers(state: &State, plan: &Plan, job: &Job, waiting: &Waiting, why: &mut Why) {
    match &waiting.reason {
        Reason::Resources(short) => {
            why.shortage = Some(shortage(short));
            let held = waiting.holders.clone().or_else(|| plan::holders(state, job));
            why.holders = held.map(|held| holders(state, &held));
        }
        Reason::NodesAway(short) => {
            why.shortage = Some(shortage(short));
            let (named, count) = plan::nodes_away(state, job);
            let others = (count - named.len()) as u64;
            let view = |id: &muster_core::ids::NodeId| {
                let node = state.node(*id);
                let reason = node.why_no_work().unwrap_or_default();
                NodeAwayView { node: node.name.clone(), reason }
            };
            why.nodes_away = Some(NodesAwayView { nodes: named.iter().map(view).collect(), others });
        }
        Reason::Behind { job } => {
            let first = plan.waiting.get(job).and_then(|waiting| waiting.expected_start);
            let expected_start_us = first.map(|Timestamp(us)| us);
            why.kept_for = Some(KeptForView { job: job.0, expected_start_us });
        }
        _ => {}
    }
}

fn shortage(short: &Shortage) -> ShortageView {
    let gres = short.gres.iter().map(|short| GresShortageView {
        kind: short.kind.clone(),
        needed: short.needed,
        free: short.free,
        present: short.present,
    });
    ShortageView {
        nodes_needed: short.nodes_needed,
        nodes_free: short.nodes_free,
        nodes_usable: short.nodes_usable,
        nodes_in_pool: short.nodes_in_pool,
        cores_needed: short.cores_needed,
        cores_free: short.cores_free,
        memory_needed_bytes: short.memory.map(|memory| memory.needed_bytes),
        memory_free_bytes: short.memory.map(|memory| memory.free_bytes),
        gres: gres.collect(),
    }
}

fn holders(state: &State, held: &Holders) -> HoldersView {
    HoldersView {
        counted_on: held.counted_on,
        jobs: held.named.iter().map(|holder| view(state, holder)).collect(),
        others: held.others as u64,
        until_us: held.until.map(|at| at.0),
    }
}

fn view(state: &State, holder: &Holder) -> HolderView {
    let job = state.jobs.get(&holder.task.job);
    let is_element = holder.tasks == 1 && job.is_some_and(|job| job.is_array());
    HolderView {
        task: if is_element { holder.task.to_string() } else { holder.task.job.to_string() },
        user: job.map(|job| job.spec.user.name.clone()).unwrap_or_default(),
        tasks: holder.tasks,
        nodes: holder.nodes,
        cores: holder.cores,
        until_us: holder.until.map(|at| at.0),
    }
}
