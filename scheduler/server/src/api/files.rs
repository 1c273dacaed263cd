//! Files of tasks on their nodes.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State as Shell};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use muster_client::api::{FileList, FileView, SCHEMA};
use muster_core::ids::{AttemptKey, JobRef, TaskId, TaskIndex};
use muster_core::input::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answered, ApiError};
use super::{App, Peer, blocking, jobs};
use crate::files::{Info, PART_BYTES_MAX, Place};

/// What is asked for in a task's folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesQuery {
    #[serde(default)]
    path: String,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    after: String,
    /// Which instance of a gang; the primary without.
    #[serde(default)]
    instance: usize,
    #[serde(default)]
    offset: u64,
    length: Option<u32>,
}

/// Where the files of a task are.
struct Holder {
    node: String,
    place: Place,
}

/// Finds the node that has, or last had, an instance of a task, for those who may see its files.
async fn holder(app: &Arc<App>, peer: &Peer, target: &str, instance: usize) -> Result<Holder, ApiError> {
    let target: JobRef = target.parse()?;
    let index = target.task.unwrap_or(TaskIndex(0));
    let asked = JobRef { task: Some(index), ..target };
    let detail = blocking(app, move |app| jobs::detail(app, asked)).await?;
    if !peer.admin && peer.uid != detail.uid {
        return Err(Refusal::NotOwner { target, owner: detail.summary.user }.into());
    }
    let task = detail.task_list.into_iter().find(|task| task.index == index.0);
    let share = task.as_ref().and_then(|task| task.shares.get(instance));
    let Some((task, share)) = task.as_ref().zip(share) else { return Err(ApiError::NoFiles { target }) };
    let key = AttemptKey { task: TaskId { job: target.job, index }, attempt: task.attempt };
    Ok(Holder { node: share.node.clone(), place: Place::Task(key) })
}

fn view(info: Info) -> FileView {
    FileView {
        path: info.path,
        directory: info.directory,
        bytes: info.bytes,
        changed_at_us: info.changed_at_us,
        mode: info.mode,
    }
}

/// `GET /v1/tasks/{ref}/files`
pub async fn list(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    query: Result<Query<FilesQuery>, QueryRejection>,
) -> Answered<FileList> {
    let query = query?.0;
    let Holder { node, place } = holder(&app, &peer, &target, query.instance).await?;
    let (sessions, files) = (&app.sessions, app.sessions.files());
    let about = files.stat(sessions, &node, place, &query.path).await?;
    if !about.directory {
        return Ok(Json(FileList { schema: SCHEMA, node, files: vec![view(about)], more: false }));
    }
    let (found, more) =
        files.list(sessions, &node, place, &query.path, query.recursive, &query.after).await?;
    Ok(Json(FileList { schema: SCHEMA, node, files: found.into_iter().map(view).collect(), more }))
}

/// `GET /v1/tasks/{ref}/files/data`: a part of a file; nothing after its end.
pub async fn data(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    query: Result<Query<FilesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let query = query?.0;
    let Holder { node, place } = holder(&app, &peer, &target, query.instance).await?;
    let length = query.length.unwrap_or(PART_BYTES_MAX);
    let (sessions, files) = (&app.sessions, app.sessions.files());
    let (data, _) = files.read(sessions, &node, place, &query.path, query.offset, length).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], data).into_response())
}

/// `DELETE /v1/tasks/{ref}/files`
pub async fn remove(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    query: Result<Query<FilesQuery>, QueryRejection>,
) -> Answered<Value> {
    let query = query?.0;
    let Holder { node, place } = holder(&app, &peer, &target, query.instance).await?;
    app.sessions.files().delete(&app.sessions, &node, place, &query.path, query.recursive).await?;
    Ok(Json(json!({})))
}
