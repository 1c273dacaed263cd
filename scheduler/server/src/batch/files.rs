//! Files of tasks, and of nodes.
//!
//! A file's path is one part of the request's path, with its slashes encoded; both forms are understood.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State as Shell};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::{BatchError, ErrorCode, wire};
use muster_core::batch::FoldedId;
use muster_core::ids::{AttemptKey, TaskId, TaskIndex, Timestamp};
use serde_json::{Value, json};

use super::call::{Call, Page, RETRY_AFTER_S, empty, http_date};
use super::{Answer, Service, jobs, pools, tasks};
use crate::files::{FileError, Info, Place, stream};

/// Where files are asked for, and how the service calls that place.
pub(super) struct Desk {
    pub(super) node: String,
    pub(super) place: Place,
    url: String,
}

/// The folder of a task on the node of its primary.
pub(super) fn of_task(service: &Service, call: &Call, job: &str, task: &str) -> Result<Desk, BatchError> {
    let key = jobs::key(call, job).task(FoldedId::of(task));
    let reading = service.shared.read();
    let state = reading.state();
    let (job, task) = tasks::find(state, &key)?;
    if job.shape(task).user.uid != call.caller.user.uid {
        let why = "The task runs as another user, whose files this key does not show.";
        return Err(BatchError::new(ErrorCode::InsufficientAccountPermissions, why));
    }
    let unavailable =
        || BatchError::new(ErrorCode::TaskFilesUnavailable, "The task has no node, and so no files there.");
    let live = task.state.made().and_then(|made| {
        let live = state.jobs.get(&made.job)?.live.values().next()?;
        Some((made.job, live.attempt, live.allocation.shares.first()?.node))
    });
    let ended = || {
        let completed = task.completed()?;
        Some((completed.job?, completed.attempt, *completed.nodes.first()?))
    };
    let (job, attempt, node) = live.or_else(ended).ok_or_else(unavailable)?;
    let attempt = AttemptKey { task: TaskId { job, index: TaskIndex(0) }, attempt };
    let url = format!("{}/jobs/{}/tasks/{}/files", call.base, key.job, key.task);
    Ok(Desk { node: state.node(node).name.clone(), place: Place::Task(attempt), url })
}

/// The root for work on a node of a pool; only files of the caller are shown.
fn of_node(service: &Service, call: &Call, pool: &str, node: &str) -> Result<Desk, BatchError> {
    let key = pools::key(call, pool);
    let reading = service.shared.read();
    let state = reading.state();
    let pool = pools::find(state, &key)?;
    let has = |id: &muster_core::ids::NodeId| state.node(*id).name == node;
    if !pool.nodes.keys().any(has) {
        return Err(BatchError::new(ErrorCode::NodeNotFound, format!("The pool has no node '{node}'.")));
    }
    let url = format!("{}/pools/{}/nodes/{node}/files", call.base, key.pool);
    Ok(Desk { node: node.to_owned(), place: Place::Node { uid: call.caller.user.uid }, url })
}

/// Why a file cannot be had, in the protocol's words.
pub(super) fn problem(error: FileError) -> BatchError {
    let why = error.to_string();
    match error {
        FileError::Away { .. } | FileError::Late { .. } | FileError::Busy | FileError::Strange { .. } => {
            BatchError::new(ErrorCode::ServerBusy, why).retry_after(RETRY_AFTER_S)
        }
        FileError::NotFound { .. } => BatchError::new(ErrorCode::FileNotFound, why),
        FileError::CleanedUp { .. } => BatchError::new(ErrorCode::TaskFilesCleanedup, why),
        FileError::Denied { .. } | FileError::Failed { .. } => BatchError::new(ErrorCode::IOError, why),
        FileError::NotAFile { .. } => BatchError::new(ErrorCode::InvalidInput, why),
        FileError::NotEmpty { .. } => BatchError::new(ErrorCode::OperationInvalidForCurrentState, why),
    }
}

/// `GET /jobs/{job}/tasks/{task}/files`
pub async fn list_of_task(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task)): Path<(String, String)>,
) -> Answer {
    let desk = of_task(&service, &call, &job, &task)?;
    list(&service, &call, &desk).await
}

/// `GET /pools/{pool}/nodes/{node}/files`
pub async fn list_of_node(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node)): Path<(String, String)>,
) -> Answer {
    let desk = of_node(&service, &call, &pool, &node)?;
    list(&service, &call, &desk).await
}

struct Row<'a>(&'a Info);

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::Name => Of::Text(&self.0.path),
            _ => Of::None,
        }
    }
}

async fn list(service: &Service, call: &Call, desk: &Desk) -> Answer {
    let recursive = call.flag("recursive")?;
    let mut page = Page::new(call.list_query(List::Files)?);
    let mut after = page.after().unwrap_or_default().to_owned();
    let mut more = true;
    while more {
        let files = service.sessions.files();
        let listed = files.list(&service.sessions, &desk.node, desk.place, "", recursive, &after).await;
        let (found, others) = listed.map_err(problem)?;
        more = others && !found.is_empty();
        for info in &found {
            let last = Some(after.as_str()).filter(|after| !after.is_empty());
            if page.offer(&Row(info), last, || show(info, desk)) {
                return call.page("files", page);
            }
            after.clone_from(&info.path);
        }
    }
    call.page("files", page)
}

fn show(info: &Info, desk: &Desk) -> Value {
    let mut shown = json!({ "name": info.path, "url": url(info, desk), "isDirectory": info.directory });
    if !info.directory {
        shown["properties"] = json!({
            "contentLength": info.bytes.to_string(),
            "contentType": "application/octet-stream",
            "creationTime": wire::iso(Timestamp(info.changed_at_us)),
            "lastModified": wire::iso(Timestamp(info.changed_at_us)),
            "fileMode": format!("{:04o}", info.mode & 0o7777),
        });
    }
    shown
}

fn url(info: &Info, desk: &Desk) -> String {
    format!("{}/{}", desk.url, muster_batch::query::encode(&info.path))
}

/// `GET /jobs/{job}/tasks/{task}/files/{path}`
pub async fn get_of_task(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_task(&service, &call, &job, &task)?;
    get(&service, &call, desk, path).await
}

/// `GET /pools/{pool}/nodes/{node}/files/{path}`
pub async fn get_of_node(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_node(&service, &call, &pool, &node)?;
    get(&service, &call, desk, path).await
}

async fn about(service: &Service, desk: &Desk, path: &str) -> Result<Info, BatchError> {
    service.sessions.files().stat(&service.sessions, &desk.node, desk.place, path).await.map_err(problem)
}

async fn get(service: &Service, call: &Call, desk: Desk, path: String) -> Answer {
    let info = about(service, &desk, &path).await?;
    if info.directory {
        return Err(BatchError::new(ErrorCode::InvalidInput, format!("'{path}' is a folder.")).into());
    }
    let (from, to) = range(call, info.bytes)?;
    let headers = headers(&info, &desk, to - from);
    let body =
        Body::from_stream(stream(Arc::clone(&service.sessions), desk.node, desk.place, path, from, to));
    // Both generations of the SDK fail at a 206, whatever part they asked for.
    Ok((StatusCode::OK, headers, body).into_response())
}

/// The part of a file that is asked for.
fn range(call: &Call, bytes: u64) -> Result<(u64, u64), BatchError> {
    let Some(text) = call.header("ocp-range").or_else(|| call.header("range")) else { return Ok((0, bytes)) };
    let bad = || {
        let why =
            format!("The range {text} is none of this file, which has {bytes} bytes: write bytes=0-1023.");
        BatchError::new(ErrorCode::InvalidRange, why)
    };
    let (from, to) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-')).ok_or_else(bad)?;
    let from: u64 = from.parse().map_err(|_| bad())?;
    let to = if to.is_empty() { u64::MAX } else { to.parse::<u64>().map_err(|_| bad())? };
    if from > to || (from >= bytes && bytes > 0) {
        return Err(bad());
    }
    Ok((from.min(bytes), to.saturating_add(1).min(bytes)))
}

fn headers(info: &Info, desk: &Desk, length: u64) -> HeaderMap {
    let changed = http_date(Timestamp(info.changed_at_us));
    let texts = [
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::LAST_MODIFIED, changed.clone()),
        (HeaderName::from_static("ocp-creation-time"), changed),
        (HeaderName::from_static("ocp-batch-file-isdirectory"), info.directory.to_string()),
        (HeaderName::from_static("ocp-batch-file-url"), url(info, desk)),
        (HeaderName::from_static("ocp-batch-file-mode"), format!("{:04o}", info.mode & 0o7777)),
    ];
    texts.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
}

/// `HEAD /jobs/{job}/tasks/{task}/files/{path}`
pub async fn head_of_task(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_task(&service, &call, &job, &task)?;
    head(&service, &desk, &path).await
}

/// `HEAD /pools/{pool}/nodes/{node}/files/{path}`
pub async fn head_of_node(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_node(&service, &call, &pool, &node)?;
    head(&service, &desk, &path).await
}

async fn head(service: &Service, desk: &Desk, path: &str) -> Answer {
    let info = about(service, desk, path).await?;
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers(&info, desk, info.bytes);
    Ok(response)
}

/// `DELETE /jobs/{job}/tasks/{task}/files/{path}`
pub async fn delete_of_task(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((job, task, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_task(&service, &call, &job, &task)?;
    delete(&service, &call, &desk, &path).await
}

/// `DELETE /pools/{pool}/nodes/{node}/files/{path}`
pub async fn delete_of_node(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path((pool, node, path)): Path<(String, String, String)>,
) -> Answer {
    let desk = of_node(&service, &call, &pool, &node)?;
    delete(&service, &call, &desk, &path).await
}

async fn delete(service: &Service, call: &Call, desk: &Desk, path: &str) -> Answer {
    let recursive = call.flag("recursive")?;
    let files = service.sessions.files();
    files.delete(&service.sessions, &desk.node, desk.place, path, recursive).await.map_err(problem)?;
    Ok(empty(StatusCode::OK))
}
