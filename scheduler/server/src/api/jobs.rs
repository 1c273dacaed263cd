//! `/v1/jobs`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, FromRequest as _, Path, Query, State as Shell};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use muster_client::api::{
    CancelAnswer, JobDetail, SCHEMA, SubmitAnswer, SubmitRequest, TASKS_SHOWN_MAX, TestView,
};
use muster_core::engine;
use muster_core::event::{Allocation, Event};
use muster_core::ids::{JobId, JobRef, TaskIndex};
use muster_core::input::{Input, Refusal, Reply};
use muster_core::notation::format_hosts;
use muster_core::plan::Forecast;
use muster_core::spec::{JobSpec, User};
use muster_store::TaskRow;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answered, ApiError, read_json};
use super::peer::Peer;
use super::{App, BODY_BYTES_MAX, blocking, parts};
use crate::accounting;
use crate::view;

/// Longest wait of one request.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// How long the controller looks ahead for a job that is only tested.
const TEST_TIME_MAX: Duration = Duration::from_secs(2);
/// Changes of a running array within this time are answered as one: an answer shows thousands of tasks. The time is longer by
/// as much for each [`ARRAY_TASKS`] that it shows, so that who waits for a swarm does not take the time that it needs itself.
const ARRAY_PAUSE: Duration = Duration::from_millis(200);
const ARRAY_TASKS: u32 = 2_000;

/// `POST /v1/jobs`, which comes more often than all else and has no router before it.
pub async fn submit(app: &Arc<App>, peer: &Peer, request: hyper::Request<Incoming>) -> Response {
    let begun = std::time::Instant::now();
    let mut request = request.map(Body::new);
    DefaultBodyLimit::max(BODY_BYTES_MAX).apply(&mut request);
    let body = Bytes::from_request(request, &()).await;
    let response = submitted(app, peer, body).await.into_response();
    app.diagnostics.asked("POST /v1/jobs", Some(peer.uid), begun.elapsed());
    response
}

async fn submitted(
    app: &Arc<App>,
    peer: &Peer,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<SubmitAnswer>), ApiError> {
    let mut request: SubmitRequest = read_json(body)?;
    let user = peer.user().ok_or(ApiError::NoUser { uid: peer.uid })?;
    let (request_key, test_only) = (request.request_key.take(), request.test_only);
    let warnings = warnings(app, &request);
    let input = Input::Submit { caller: peer.caller(), spec: Box::new(spec(request, user)), request_key };
    if test_only {
        let test = blocking(app, move |app| Ok(tested(app, &input)?)).await?;
        return Ok((StatusCode::CREATED, Json(SubmitAnswer { schema: SCHEMA, job: None, test, warnings })));
    }
    let job = match app.engine.ask(input).await? {
        Reply::Submitted(job) => Some(job.0),
        Reply::Done | Reply::Cancelled(_) | Reply::Reached(_) | Reply::Reserved(_) | Reply::Batch(_) => None,
    };
    Ok((StatusCode::CREATED, Json(SubmitAnswer { schema: SCHEMA, job, test: None, warnings })))
}

/// What a submitter should know although the job is taken.
fn warnings(app: &App, request: &SubmitRequest) -> Vec<String> {
    let untold = request.mail.is_some() && !app.mail.is_there();
    let sentence = "nobody is told of the job: the site has set no mail_program under [controller]";
    untold.then(|| sentence.to_owned()).into_iter().collect()
}

/// What would become of a submission, as far as that can be foreseen within [`TEST_TIME_MAX`].
fn tested(app: &App, input: &Input) -> Result<Option<TestView>, Refusal> {
    let now = app.shared.now();
    let (event, mut state) = {
        let reading = app.shared.read();
        let decision = engine::decide(reading.state(), input, now);
        decision.reply?;
        (decision.events.into_iter().next(), reading.state().clone())
    };
    let Some(event @ Event::JobSubmitted { .. }) = event else { return Ok(None) };
    state.evolve(&event, now);
    let Event::JobSubmitted { job, spec, .. } = event else { return Ok(None) };
    let mut forecast = Forecast::new(state.clone(), now);
    let end = std::time::Instant::now() + TEST_TIME_MAX;
    while forecast.start_of(job).is_none() && forecast.may_tell(job) && std::time::Instant::now() < end {
        forecast.step();
    }
    let allocation = forecast.allocation_of(job);
    Ok(Some(TestView {
        job: job.0,
        pool: spec.pool.clone().unwrap_or_default(),
        start_us: forecast.start_of(job).map(|at| at.0),
        cores: allocation.map_or(spec.request.cores_total(), Allocation::cores),
        node_list: allocation.map(|given| format_hosts(&state.node_names(given))).unwrap_or_default(),
    }))
}

pub(super) fn spec(request: SubmitRequest, user: User) -> JobSpec {
    JobSpec {
        name: request.name,
        pool: request.pool,
        user: user.into(),
        script: request.script.into(),
        arguments: request.arguments,
        environment: request.environment.into(),
        working_directory: request.working_directory,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        append: request.append,
        umask: request.umask,
        limits: request.limits.into(),
        submit_host: request.submit_host,
        request: request.request.into(),
        time_limit_s: request.time_limit_s,
        array: request.array,
        requeue: request.requeue,
        priority: request.priority,
        eligibility: request.eligibility.into(),
        account: request.account,
        qos: request.qos,
        reservation: request.reservation,
        signal: request.signal,
        comment: request.comment,
        command: request.command,
        submit_line: request.submit_line,
        nice: request.nice,
        wckey: request.wckey,
        mail: request.mail,
        licenses: request.licenses,
        staging: request.staging,
    }
}

/// The query of `POST /v1/jobs/{ref}/cancel`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelQuery {
    /// Whether it is a recurring job, which is not to come again.
    #[serde(default)]
    cron: bool,
}

/// `POST /v1/jobs/{ref}/cancel`
pub async fn cancel(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
    query: Result<Query<CancelQuery>, QueryRejection>,
) -> Answered<CancelAnswer> {
    let (target, caller): (JobRef, _) = (target.parse()?, peer.caller());
    let input =
        if query?.0.cron { Input::StopCron { caller, target } } else { Input::Cancel { caller, target } };
    let tasks = match app.engine.ask(input).await {
        Ok(Reply::Cancelled(tasks)) => tasks,
        Ok(_) => 0,
        Err(error) => return Err(ended_before(&app, target, error.into()).await),
    };
    Ok(Json(CancelAnswer { schema: SCHEMA, tasks }))
}

/// `POST /v1/jobs/{ref}/hold`
pub async fn hold(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
) -> Answered<Value> {
    let target: JobRef = target.parse()?;
    done(&app, target, Input::HoldJob { caller: peer.caller(), target }).await
}

/// `POST /v1/jobs/{ref}/release`
pub async fn release(
    Shell(app): Shell<Arc<App>>,
    Extension(peer): Extension<Peer>,
    Path(target): Path<String>,
) -> Answered<Value> {
    let target: JobRef = target.parse()?;
    done(&app, target, Input::ReleaseJob { caller: peer.caller(), target }).await
}

pub(super) fn whole_job(text: &str) -> Result<JobId, ApiError> {
    let target: JobRef = text.parse()?;
    if target.task.is_some() { Err(ApiError::WholeJob { target }) } else { Ok(target.job) }
}

pub(super) async fn done(app: &Arc<App>, target: JobRef, input: Input) -> Answered<Value> {
    match app.engine.ask(input).await {
        Ok(_) => Ok(Json(json!({}))),
        Err(error) => Err(ended_before(app, target, error.into()).await),
    }
}

/// A job that is only in the accounting tables is not unknown: it has ended.
pub(super) async fn ended_before(app: &Arc<App>, target: JobRef, error: ApiError) -> ApiError {
    use crate::engine_loop::InputError::Refused;
    if !matches!(error, ApiError::Input(Refused(Refusal::UnknownJob { .. }))) {
        return error;
    }
    let known = blocking(app, move |app| past_detail(app, target)).await;
    if known.is_ok() { Refusal::AlreadyEnded { target }.into() } else { error }
}

/// `GET /v1/jobs/{ref}`
pub async fn show(Shell(app): Shell<Arc<App>>, Path(target): Path<String>) -> Result<Response, ApiError> {
    let target: JobRef = target.parse()?;
    parts::whole(&app, move |app| detail(app, target)).await
}

/// A job from memory, else from the accounting tables.
pub(super) fn detail(app: &App, target: JobRef) -> Result<JobDetail, ApiError> {
    let plan = app.shared.plan(app.shared.now(), Some(target.job));
    {
        let reading = app.shared.read();
        if let Some(job) = reading.state().jobs.get(&target.job) {
            let version = reading.version(target.job);
            let detail = view::detail(reading.state(), &plan, job, target.task, version);
            return detail.ok_or_else(|| Refusal::UnknownJob { target }.into());
        }
    }
    past_detail(app, target)
}

fn past_detail(app: &App, target: JobRef) -> Result<JobDetail, ApiError> {
    let unknown = || ApiError::from(Refusal::UnknownJob { target });
    let history = app.history();
    let row = history.job(target.job).map_err(ApiError::History)?.ok_or_else(unknown)?;
    let mut detail: JobDetail = serde_json::from_str(&row.detail)?;
    detail.task_list = match target.task {
        Some(index) => {
            let row = history.task(target.job, index).map_err(ApiError::History)?.ok_or_else(unknown)?;
            vec![accounting::view_of(&detail, &row, index)]
        }
        None => {
            let rows = history.tasks(target.job, TASKS_SHOWN_MAX).map_err(ApiError::History)?;
            let view = |row: &TaskRow| accounting::view_of(&detail, row, TaskIndex(row.span.first));
            rows.iter().map(view).collect()
        }
    };
    Ok(detail)
}

/// The query of `GET /v1/jobs/{ref}/wait`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    timeout_ms: Option<u64>,
    seen: Option<u64>,
    /// Only the end of what is named is news.
    #[serde(default)]
    finished: bool,
}

/// `GET /v1/jobs/{ref}/wait`
pub async fn wait(
    Shell(app): Shell<Arc<App>>,
    Path(target): Path<String>,
    query: Result<Query<WaitQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let target: JobRef = target.parse()?;
    let query = query?.0;
    let time = Duration::from_millis(query.timeout_ms.unwrap_or(u64::MAX)).min(WAIT_MAX);
    let start = Instant::now();
    let end = start + time;
    // Subscribed before the first look, so that no change can fall between the two.
    let mut changes = app.shared.subscribe(target.job);
    let mut stopping = app.stopping.clone();
    loop {
        let news = if query.finished { end_of(&app, target) } else { news(&app, target.job, query.seen) };
        let now = Instant::now();
        let due = match news {
            News::None => end,
            News::OfArray { shown } => end.min(start + ARRAY_PAUSE * (1 + shown / ARRAY_TASKS)),
            News::Now => now,
        };
        if due <= now || *stopping.borrow() {
            return parts::whole(&app, move |app| detail(app, target)).await;
        }
        tokio::select! {
            _ = timeout_at(due, changes.changed()) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Whether a job changed since the version that the caller has seen.
enum News {
    None,
    /// One of many tasks changed: others will soon.
    OfArray {
        /// How many have been placed so far.
        shown: u32,
    },
    Now,
}

/// Nothing, for as long as something of a job or of a task goes on. Who waits for the end of a large array is not told of all that happens
/// to its tasks until then.
fn end_of(app: &App, target: JobRef) -> News {
    let reading = app.shared.read();
    let goes_on = reading.state().jobs.get(&target.job).is_some_and(|job| match target.task {
        None => !job.waiting.is_empty() || !job.live.is_empty(),
        Some(task) => job.waiting.contains(task.0) || job.live.contains_key(&task),
    });
    if goes_on { News::None } else { News::Now }
}

fn news(app: &App, job: JobId, seen: Option<u64>) -> News {
    let reading = app.shared.read();
    let (Some(known), Some(seen)) = (reading.state().jobs.get(&job), seen) else { return News::Now };
    if reading.version(job) == seen {
        News::None
    } else if known.is_array() && known.finished_at.is_none() {
        News::OfArray { shown: u32::try_from(known.live.len() + known.finished.len()).unwrap_or(u32::MAX) }
    } else {
        News::Now
    }
}
