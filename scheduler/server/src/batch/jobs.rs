//! `/jobs`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::wire::{self, Fields, JobChange};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{BatchCommand, BatchJobKey, BatchRefusal, Disable, FoldedId, Target};
use muster_core::ids::{NodeId, Timestamp};
use muster_core::state::{BatchJob, ChoreRun, JobNode, State};

use serde_json::Value;

use super::call::{Call, Page, created, empty};
use super::{Answer, Service};

/// How often a change is tried again that another one came before.
const TRIES: u32 = 5;

pub(super) fn key(call: &Call, job: &str) -> BatchJobKey {
    BatchJobKey { account: Arc::clone(&call.caller.account), job: FoldedId::of(job) }
}

/// A job of the caller's account.
pub(super) fn find<'a>(state: &'a State, key: &BatchJobKey) -> Result<&'a BatchJob, BatchError> {
    let not_found = || wire::refused(&BatchRefusal::NotFound { what: Target::Job, id: key.job.to_string() });
    state.batch_job(key).ok_or_else(not_found)
}

/// A job in a list.
pub(super) struct Row<'a> {
    pub(super) job: &'a BatchJob,
}

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        let job = self.job;
        match property {
            Property::Id => Of::Text(&job.spec.id),
            Property::State => Of::Text(job.phase.word().as_str()),
            Property::StateTransitionTime => Of::Instant(job.since),
            Property::CreationTime | Property::ExecutionStartTime => Of::Instant(job.created),
            Property::LastModified => Of::Instant(job.modified),
            Property::ExecutionEndTime if job.is_completed() => Of::Instant(job.since),
            Property::ExecutionPoolId => Of::Text(job.spec.pool.as_str()),
            _ => Of::None,
        }
    }
}

/// A job as clients see it, with its statistics until an instant if they are asked for.
pub(super) fn with_stats(
    state: &State,
    id: &FoldedId,
    job: &BatchJob,
    base: &str,
    until: Option<Timestamp>,
) -> Value {
    let mut shown = wire::show_job(id, job, base);
    if let Some(now) = until {
        let stats = state.batch_job_stats(job, now);
        shown["stats"] = wire::show_stats(&stats, &format!("{base}/jobs/{id}"), job.created, now);
    }
    shown
}

/// `GET /jobs`
pub async fn list(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::Jobs)?);
    let (stats, now) = (page.stats(), service.shared.now());
    let from = page.after().map_or(Bound::Unbounded, |after| Bound::Excluded(FoldedId::of(after)));
    {
        let reading = service.shared.read();
        let state = reading.state();
        let account = state.batch_account(&call.caller.account);
        let mut last: Option<&FoldedId> = None;
        for (id, job) in account.into_iter().flat_map(|all| all.jobs.range((from.clone(), Bound::Unbounded)))
        {
            let show = || with_stats(state, id, job, &call.base, stats.then_some(now));
            if page.offer(&Row { job }, last.map(FoldedId::as_str), show) {
                break;
            }
            last = Some(id);
        }
    }
    call.page("jobs", page)
}

/// `POST /jobs`
pub async fn create(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let spec = Box::new(wire::read_job(&call.json()?, &call.caller.user)?);
    let key = key(&call, &spec.id);
    call.ask(&service, BatchCommand::CreateJob { spec }).await?;
    let reading = service.shared.read();
    let job = find(reading.state(), &key)?;
    Ok(created(&call.base, &format!("/jobs/{}", key.job), job.version, job.modified))
}

/// `GET /jobs/{job}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let key = key(&call, &job);
    let reading = service.shared.read();
    let job = find(reading.state(), &key)?;
    let (state, now) = (reading.state(), service.shared.now());
    call.shown_of(List::Jobs, job.version, job.modified, |stats| {
        with_stats(state, &key.job, job, &call.base, stats.then_some(now))
    })
}

/// `PATCH /jobs/{job}`
pub async fn patch(service: Shell<Arc<Service>>, call: Extension<Call>, job: Path<String>) -> Answer {
    change(&service.0, &call.0, &job.0, JobChange::Patch).await
}

/// `PUT /jobs/{job}`
pub async fn put(service: Shell<Arc<Service>>, call: Extension<Call>, job: Path<String>) -> Answer {
    change(&service.0, &call.0, &job.0, JobChange::Put).await
}

async fn change(service: &Service, call: &Call, job: &str, how: JobChange) -> Answer {
    let (key, body, wished) = (key(call, job), call.json()?, call.condition()?);
    let mut tries = TRIES;
    loop {
        let (spec, version) = {
            let reading = service.shared.read();
            let job = find(reading.state(), &key)?;
            if !wished.holds(job.version, job.modified) {
                return Err(wire::refused(&BatchRefusal::ConditionNotMet).into());
            }
            (Box::new(wire::change_job(job, &body, how)?), job.version)
        };
        // What was read must still be there when the change is made of it.
        let condition = muster_core::batch::Condition { matches: Some(Some(version)), ..wished.clone() };
        let command = BatchCommand::UpdateJob { job: key.job.clone(), spec };
        match call.ask_if(service, command, condition).await {
            Err(error) if error.code == ErrorCode::ConditionNotMet && tries > 1 => tries -= 1,
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let reading = service.shared.read();
    let job = find(reading.state(), &key)?;
    Ok((StatusCode::OK, super::call::tags(job.version, job.modified)).into_response())
}

/// `DELETE /jobs/{job}`
pub async fn delete(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::DeleteJob { job: FoldedId::of(&job) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /jobs/{job}/terminate`
pub async fn terminate(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let body = call.json()?;
    let reason = Fields::of(&body)?.text("terminateReason")?.map(str::to_owned);
    call.ask(&service, BatchCommand::TerminateJob { job: FoldedId::of(&job), reason }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /jobs/{job}/disable`
pub async fn disable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let body = call.json()?;
    let fields = Fields::of(&body)?;
    fields.required("disableTasks")?;
    let words = [("requeue", Disable::Requeue), ("terminate", Disable::Terminate), ("wait", Disable::Wait)];
    let how = fields.word("disableTasks", &words)?.unwrap_or(Disable::Requeue);
    call.ask(&service, BatchCommand::DisableJob { job: FoldedId::of(&job), how }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /jobs/{job}/enable`
pub async fn enable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::EnableJob { job: FoldedId::of(&job) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `GET /jobs/{job}/taskcounts`
pub async fn counts(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let reading = service.shared.read();
    let job = find(reading.state(), &key(&call, &job))?;
    Ok(axum::Json(wire::task_counts(&job.counts)).into_response())
}

struct NodeRow<'a> {
    node: &'a str,
    row: &'a JobNode,
}

impl Properties for NodeRow<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        use Property as P;
        let (preparation, release) = (Some(&self.row.preparation), self.row.release.as_ref());
        match property {
            P::PoolId => Of::Text(self.row.pool.as_str()),
            P::NodeId => Of::Text(self.node),
            P::PreparationState => state_of(preparation),
            P::PreparationResult => result_of(preparation),
            P::PreparationExitCode => code_of(preparation),
            P::PreparationStartTime => began(preparation),
            P::PreparationEndTime => ended(preparation),
            P::ReleaseState => state_of(release),
            P::ReleaseResult => result_of(release),
            P::ReleaseExitCode => code_of(release),
            P::ReleaseStartTime => began(release),
            P::ReleaseEndTime => ended(release),
            _ => Of::None,
        }
    }
}

/// Whether a chore runs or has ended, for filters.
pub(super) fn state_of(run: Option<&ChoreRun>) -> Of<'_> {
    run.map_or(Of::None, |run| Of::Text(wire::chore_word(run)))
}

/// How a chore went, for filters.
pub(super) fn result_of(run: Option<&ChoreRun>) -> Of<'_> {
    run.and_then(wire::chore_result).map_or(Of::None, Of::Text)
}

/// The exit code of a chore, for filters.
pub(super) fn code_of(run: Option<&ChoreRun>) -> Of<'_> {
    let code = run.and_then(|run| run.ended()?.exit_code);
    code.map_or(Of::None, |code| Of::Number(i64::from(code)))
}

/// When a chore began, for filters.
pub(super) fn began(run: Option<&ChoreRun>) -> Of<'_> {
    run.map_or(Of::None, |run| Of::Instant(wire::chore_began(run)))
}

/// When a chore ended, for filters.
pub(super) fn ended(run: Option<&ChoreRun>) -> Of<'_> {
    run.filter(|run| run.is_over()).map_or(Of::None, |run| Of::Instant(run.since))
}

/// `GET /jobs/{job}/jobpreparationandreleasetaskstatus`
pub async fn preparation(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(job): Path<String>,
) -> Answer {
    let key = key(&call, &job);
    let mut page = Page::new(call.list_query(List::PreparationAndRelease)?);
    let after = page.after().map(str::to_owned);
    {
        let reading = service.shared.read();
        let state = reading.state();
        let job = find(state, &key)?;
        if job.spec.preparation.is_none() {
            let why = "The job has no preparation task.";
            return Err(BatchError::new(ErrorCode::JobPreparationTaskNotSpecified, why).into());
        }
        let named = |(id, row): (&NodeId, _)| (state.node(*id).name.as_str(), (*id, row));
        let rows: BTreeMap<&str, (NodeId, &JobNode)> = job.nodes.iter().map(named).collect();
        let mut last: Option<&str> = None;
        for (name, (id, row)) in rows {
            if after.as_deref().is_some_and(|after| name <= after) {
                continue;
            }
            let show = || wire::show_job_node(state, &key, job, id, row, &call.base);
            if page.offer(&NodeRow { node: name, row }, last, show) {
                break;
            }
            last = Some(name);
        }
    }
    call.page("jobpreparationandreleasetaskstatuslist", page)
}
