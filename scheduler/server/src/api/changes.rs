//! What changes jobs that were accepted, and reaches what runs of them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State as Shell};
use muster_client::api::{
    JobUpdate, ReachedAnswer, RequeueRequest, SCHEMA, ScriptAnswer, SignalRequest, StepAttachRequest,
    StepSignalRequest,
};
use muster_core::eligibility::Dependency;
use muster_core::ids::{JobRef, Timestamp};
use muster_core::input::{Input, JobChange, Refusal, Reply, Viewer};
use serde_json::Value;

use super::App;
use super::answer::{Answered, ApiError, read_json};
use super::jobs::{done, ended_before, whole_job};
use super::peer::Peer;

/// `GET /v1/jobs/{ref}/script`
pub async fn script(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
) -> Answered<ScriptAnswer> {
    let target: JobRef = target.parse()?;
    let reading = app.shared.read();
    let job = reading.state().jobs.get(&target.job).ok_or(Refusal::UnknownJob { target })?;
    let owner = &job.spec.user;
    if !peer.admin && peer.uid != owner.uid {
        return Err(Refusal::NotOwner { target, owner: owner.name.clone() }.into());
    }
    Ok(Json(ScriptAnswer { schema: SCHEMA, script: (*job.spec.script).clone() }))
}

/// `POST /v1/jobs/{ref}/signal`
pub async fn signal(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<ReachedAnswer> {
    let target: JobRef = target.parse()?;
    let SignalRequest { signal, to } = read_json(body)?;
    reached(&app, target, Input::Signal { caller: peer.caller(), target, signal, to }).await
}

/// `POST /v1/jobs/{ref}/steps/{step}/signal`
pub async fn signal_step(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path((target, step)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<ReachedAnswer> {
    let target: JobRef = target.parse()?;
    let step = step.parse().map_err(|_| ApiError::BadStep { text: step.clone() })?;
    let StepSignalRequest { signal } = read_json(body)?;
    reached(&app, target, Input::SignalStep { caller: peer.caller(), target, step, signal }).await
}

/// `POST /v1/jobs/{ref}/steps/{step}/attach`
pub async fn attach_step(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path((target, step)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<ReachedAnswer> {
    let target: JobRef = target.parse()?;
    let step = step.parse().map_err(|_| ApiError::BadStep { text: step.clone() })?;
    let StepAttachRequest { hosts, port, key } = read_json(body)?;
    let viewer = Arc::new(Viewer { hosts, port, key });
    reached(&app, target, Input::AttachStep { caller: peer.caller(), target, step, viewer }).await
}

/// `POST /v1/jobs/{ref}/requeue`
pub async fn requeue(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<ReachedAnswer> {
    let target: JobRef = target.parse()?;
    let RequeueRequest { hold } = read_json(body)?;
    reached(&app, target, Input::Requeue { caller: peer.caller(), target, hold }).await
}

/// `POST /v1/jobs/{ref}/update`
pub async fn update(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answered<Value> {
    let job = whole_job(&target)?;
    let change = Box::new(change(read_json(body)?)?);
    done(&app, JobRef { job, task: None }, Input::UpdateJob { caller: peer.caller(), job, change }).await
}

async fn reached(app: &Arc<App>, target: JobRef, input: Input) -> Answered<ReachedAnswer> {
    match app.engine.ask(input).await {
        Ok(Reply::Reached(tasks)) => Ok(Json(ReachedAnswer { schema: SCHEMA, tasks })),
        Ok(_) => Ok(Json(ReachedAnswer { schema: SCHEMA, tasks: 0 })),
        Err(error) => Err(ended_before(app, target, error.into()).await),
    }
}

fn change(update: JobUpdate) -> Result<JobChange, ApiError> {
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let dependency = |text: String| match some(text) {
        None => Ok(None),
        Some(text) => text.parse::<Dependency>().map(Some),
    };
    Ok(JobChange {
        name: update.name,
        time_limit_s: update.time_limit_s,
        priority: update.priority,
        nice: update.nice,
        comment: update.comment,
        requeue: update.requeue,
        running_max: update.running_max.map(|most| Some(most).filter(|most| *most > 0)),
        pool: update.pool,
        account: update.account,
        qos: update.qos,
        reservation: update.reservation.map(some),
        begin: update.begin_us.map(Timestamp),
        dependency: update.dependency.map(dependency).transpose()?,
        request: update.request,
    })
}
