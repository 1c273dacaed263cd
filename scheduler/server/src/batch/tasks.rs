//! `/jobs/{job}/tasks`.

use std::ops::Bound;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::wire::{self, Fields};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{
    Added, BatchCommand, BatchJobKey, BatchRefusal, BatchReply, BatchTaskKey, FoldedId, NewTask,
    TASKS_PER_COLLECTION_MAX, Target, TaskShape,
};
use muster_core::ids::Timestamp;
use muster_core::state::{BatchJob, BatchTask, State};
use serde_json::{Value, json};

use super::call::{Call, Page, created, empty, tags};
use super::jobs::{find as find_job, key as job_key};
use super::{Answer, Service};

/// Tasks that are looked at before others may change the state again.
const LOOKED_AT_MAX: usize = 20_000;

struct Row<'a> {
    id: &'a FoldedId,
    task: &'a BatchTask,
}

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        let task = self.task;
        let completed = || task.completed();
        let started = || task.state.made().and_then(|made| made.started).or_else(|| completed()?.started);
        match property {
            Property::Id => Of::Text(self.id.as_str()),
            Property::State => Of::Text(task.state.word().as_str()),
            Property::StateTransitionTime => Of::Instant(task.since),
            Property::CreationTime => Of::Instant(task.created),
            Property::LastModified => Of::Instant(task.modified),
            Property::ExecutionStartTime => started().map_or(Of::None, Of::Instant),
            Property::ExecutionEndTime => completed().map_or(Of::None, |_| Of::Instant(task.since)),
            Property::ExecutionExitCode => {
                completed().and_then(|end| end.exit_code).map_or(Of::None, |code| Of::Number(code.into()))
            }
            Property::ExecutionResult => match completed() {
                Some(end) => Of::Text(if end.failure.is_none() { "success" } else { "failure" }),
                None => Of::None,
            },
            _ => Of::None,
        }
    }
}

/// A task as clients see it, with its statistics until an instant if they are asked for.
fn with_stats(
    state: &State,
    key: &BatchTaskKey,
    job: &BatchJob,
    task: &BatchTask,
    base: &str,
    until: Option<Timestamp>,
) -> Value {
    let mut shown = wire::show_task(state, key, job, task, base);
    if let Some(now) = until {
        shown["stats"] = wire::show_task_stats(state, task, &format!("{base}{}", path(key)), now);
    }
    shown
}

/// `GET /jobs/{job}/tasks`
pub async fn list(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let key = job_key(&call, &job);
    let mut page = Page::new(call.list_query(List::Tasks)?);
    let mut last = page.after().map(FoldedId::of);
    while let Some(next) = look(&service, &call, &key, &mut page, last)? {
        last = Some(next);
        tokio::task::yield_now().await;
    }
    call.page("tasks", page)
}

/// Looks at the next tasks; says where to go on, if the page is not full and there are others.
fn look(
    service: &Service,
    call: &Call,
    key: &BatchJobKey,
    page: &mut Page,
    after: Option<FoldedId>,
) -> Result<Option<FoldedId>, BatchError> {
    let reading = service.shared.read();
    let state = reading.state();
    let job = find_job(state, key)?;
    let from = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
    let (stats, now) = (page.stats(), service.shared.now());
    let mut last = after.as_ref();
    for (looked_at, (id, task)) in job.tasks.range((from, Bound::Unbounded)).enumerate() {
        if looked_at == LOOKED_AT_MAX {
            return Ok(last.cloned());
        }
        let show = || with_stats(state, &key.task(id.clone()), job, task, &call.base, stats.then_some(now));
        if page.offer(&Row { id, task }, last.map(FoldedId::as_str), show) {
            return Ok(None);
        }
        last = Some(id);
    }
    Ok(None)
}

/// `POST /jobs/{job}/tasks`
pub async fn add(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let key = job_key(&call, &job);
    let (task, shape) = wire::read_task(&call.json()?, &call.caller.user)?;
    let id = FoldedId::of(&task.id);
    let command =
        BatchCommand::AddTasks { job: key.job.clone(), shapes: vec![Arc::new(shape)], tasks: vec![task] };
    if let BatchReply::Added(added) = call.ask(&service, command).await?
        && let Some(Err(refusal)) = added.first()
    {
        return Err(wire::refused(refusal).into());
    }
    let reading = service.shared.read();
    let task_key = key.task(id);
    let (_, task) = find(reading.state(), &task_key)?;
    Ok(created(&call.base, &path(&task_key), task.version, task.modified))
}

fn path(key: &BatchTaskKey) -> String {
    format!("/jobs/{}/tasks/{}", key.job, key.task)
}

/// `POST /jobs/{job}/addtaskcollection`
pub async fn add_collection(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let key = job_key(&call, &job);
    let body = call.json()?;
    let fields = Fields::of(&body)?;
    let Some(list) = fields.get("value").and_then(Value::as_array) else {
        return Err(fields.wrong("value", "it must be a list of tasks").into());
    };
    if list.len() > TASKS_PER_COLLECTION_MAX {
        let why = format!("at most {TASKS_PER_COLLECTION_MAX} tasks can be added at once");
        return Err(fields.wrong("value", &why).into());
    }
    // A task that cannot be read keeps none of the others out.
    let mut shapes: Vec<Arc<TaskShape>> = Vec::new();
    let mut tasks: Vec<NewTask> = Vec::new();
    let mut read: Vec<Result<(), BatchError>> = Vec::new();
    for body in list {
        read.push(wire::read_task(body, &call.caller.user).map(|(mut task, shape)| {
            if shapes.last().is_none_or(|last| **last != shape) {
                shapes.push(Arc::new(shape));
            }
            task.shape = shapes.len() as u32 - 1;
            tasks.push(task);
        }));
    }
    let command = BatchCommand::AddTasks { job: key.job.clone(), shapes, tasks };
    let added = match call.ask(&service, command).await? {
        BatchReply::Added(added) => added,
        BatchReply::Done => Vec::new(),
    };
    let reading = service.shared.read();
    let mut added = added.into_iter();
    let results: Vec<Value> = list
        .iter()
        .zip(read)
        .map(|(body, read)| {
            let id = body["id"].as_str().unwrap_or_default();
            match read {
                Err(error) => failed(id, &error),
                Ok(()) => result(&call, reading.state(), &key, id, added.next().unwrap_or(Ok(()))),
            }
        })
        .collect();
    Ok(axum::Json(json!({ "value": results })).into_response())
}

fn failed(id: &str, error: &BatchError) -> Value {
    json!({ "status": "clienterror", "taskId": id, "error": error.element() })
}

fn result(call: &Call, state: &State, key: &BatchJobKey, id: &str, added: Added) -> Value {
    match added {
        Err(refusal) => failed(id, &wire::refused(&refusal)),
        Ok(()) => {
            let task_key = key.task(FoldedId::of(id));
            let found = state.batch_task(&task_key).map(|(_, task)| (task.version, task.modified));
            let (version, modified) = found.unwrap_or((0, Timestamp(0)));
            json!({
                "status": "success", "taskId": id, "eTag": wire::etag(version),
                "lastModified": wire::iso(modified), "location": format!("{}{}", call.base, path(&task_key)),
            })
        }
    }
}

/// A task of the caller's account.
pub(super) fn find<'a>(
    state: &'a State,
    key: &BatchTaskKey,
) -> Result<(&'a BatchJob, &'a BatchTask), BatchError> {
    let job = find_job(state, &key.job_key())?;
    let not_found =
        || wire::refused(&BatchRefusal::NotFound { what: Target::Task, id: key.task.to_string() });
    Ok((job, job.tasks.get(&key.task).ok_or_else(not_found)?))
}

/// `GET /jobs/{job}/tasks/{task}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let key = job_key(&call, &job).task(FoldedId::of(&task));
    let reading = service.shared.read();
    let (job, task) = find(reading.state(), &key)?;
    let (state, now) = (reading.state(), service.shared.now());
    call.shown_of(List::Tasks, task.version, task.modified, |stats| {
        with_stats(state, &key, job, task, &call.base, stats.then_some(now))
    })
}

/// `PUT /jobs/{job}/tasks/{task}`
pub async fn put(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let key = job_key(&call, &job).task(FoldedId::of(&task));
    let body = call.json()?;
    let shape = {
        let reading = service.shared.read();
        let (job, task) = find(reading.state(), &key)?;
        wire::change_task(job, task, &body)?
    };
    let command = BatchCommand::UpdateTask { job: key.job.clone(), task: key.task.clone(), shape };
    call.ask(&service, command).await?;
    let reading = service.shared.read();
    let (_, task) = find(reading.state(), &key)?;
    Ok((StatusCode::OK, tags(task.version, task.modified)).into_response())
}

/// `DELETE /jobs/{job}/tasks/{task}`
pub async fn delete(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let command = BatchCommand::DeleteTask { job: FoldedId::of(&job), task: FoldedId::of(&task) };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::OK))
}

/// `POST /jobs/{job}/tasks/{task}/terminate`
pub async fn terminate(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let command = BatchCommand::TerminateTask { job: FoldedId::of(&job), task: FoldedId::of(&task) };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /jobs/{job}/tasks/{task}/reactivate`
pub async fn reactivate(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let command = BatchCommand::ReactivateTask { job: FoldedId::of(&job), task: FoldedId::of(&task) };
    call.ask(&service, command).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `GET /jobs/{job}/tasks/{task}/subtasksinfo`
pub async fn subtasks(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let key = job_key(&call, &job).task(FoldedId::of(&task));
    let reading = service.shared.read();
    let (job, task) = find(reading.state(), &key)?;
    if job.shape(task).multi_instance.is_none() {
        let why = "The task has no multiInstanceSettings, and so no subtasks.";
        return Err(BatchError::new(ErrorCode::InvalidInput, why).into());
    }
    let value = wire::show_subtasks(reading.state(), &key, job, task, &call.base);
    Ok(axum::Json(json!({ "value": value })).into_response())
}
