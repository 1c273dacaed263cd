//! `/jobschedules`.

use std::ops::Bound;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shell};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::wire::{self, JobChange};
use muster_batch::{BatchError, ErrorCode};
use muster_core::batch::{
    BatchCommand, BatchRefusal, Condition, FoldedId, ScheduleKey, SchedulePhase, Target,
};
use muster_core::ids::Timestamp;
use muster_core::state::{BatchSchedule, State};
use serde_json::Value;

use super::call::{Call, Page, created, empty, tags};
use super::jobs::{Row as JobRow, with_stats as job_with_stats};
use super::{Answer, Service};

/// How often a change is tried again that another one came before.
const TRIES: u32 = 5;

fn key(call: &Call, schedule: &str) -> ScheduleKey {
    ScheduleKey { account: Arc::clone(&call.caller.account), schedule: FoldedId::of(schedule) }
}

/// A schedule of the caller's account.
fn find<'a>(state: &'a State, key: &ScheduleKey) -> Result<&'a BatchSchedule, BatchError> {
    let id = key.schedule.to_string();
    let not_found = || wire::refused(&BatchRefusal::NotFound { what: Target::Schedule, id });
    state.batch_schedule(key).ok_or_else(not_found)
}

struct Row<'a>(&'a BatchSchedule);

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        let schedule = self.0;
        let times = &schedule.spec.times;
        match property {
            Property::Id => Of::Text(&schedule.spec.id),
            Property::State => Of::Text(schedule.phase.as_str()),
            Property::StateTransitionTime => Of::Instant(schedule.since),
            Property::CreationTime => Of::Instant(schedule.created),
            Property::LastModified => Of::Instant(schedule.modified),
            Property::ExecutionEndTime if schedule.phase == SchedulePhase::Completed => {
                Of::Instant(schedule.since)
            }
            Property::ScheduleDoNotRunUntil => times.not_before.map_or(Of::None, Of::Instant),
            Property::ScheduleDoNotRunAfter => times.not_after.map_or(Of::None, Of::Instant),
            _ => Of::None,
        }
    }
}

/// A schedule as clients see it, with its statistics until an instant if they are asked for.
fn with_stats(
    state: &State,
    key: &ScheduleKey,
    schedule: &BatchSchedule,
    base: &str,
    until: Option<Timestamp>,
) -> Value {
    let mut shown = wire::show_schedule(state, key, schedule, base);
    if let Some(now) = until {
        let (stats, url) =
            (state.batch_schedule_stats(key, schedule, now), format!("{base}/jobschedules/{}", key.schedule));
        shown["stats"] = wire::show_stats(&stats, &url, schedule.created, now);
    }
    shown
}

/// `GET /jobschedules`
pub async fn list(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::Schedules)?);
    let (stats, now) = (page.stats(), service.shared.now());
    let from = page.after().map_or(Bound::Unbounded, |after| Bound::Excluded(FoldedId::of(after)));
    {
        let reading = service.shared.read();
        let state = reading.state();
        let account = state.batch_account(&call.caller.account);
        let all = account.into_iter().flat_map(|all| all.schedules.range((from.clone(), Bound::Unbounded)));
        let mut last: Option<&FoldedId> = None;
        for (id, schedule) in all {
            let key = key(&call, id.as_str());
            let show = || with_stats(state, &key, schedule, &call.base, stats.then_some(now));
            if page.offer(&Row(schedule), last.map(FoldedId::as_str), show) {
                break;
            }
            last = Some(id);
        }
    }
    call.page("jobschedules", page)
}

/// `POST /jobschedules`
pub async fn create(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let spec = Box::new(wire::read_schedule(&call.json()?, &call.caller.user)?);
    let key = key(&call, &spec.id);
    call.ask(&service, BatchCommand::CreateSchedule { spec }).await?;
    let reading = service.shared.read();
    let schedule = find(reading.state(), &key)?;
    let path = format!("/jobschedules/{}", key.schedule);
    Ok(created(&call.base, &path, schedule.version, schedule.modified))
}

/// `GET /jobschedules/{schedule}`
pub async fn show(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    let key = key(&call, &schedule);
    let reading = service.shared.read();
    let schedule = find(reading.state(), &key)?;
    let (state, now) = (reading.state(), service.shared.now());
    call.shown_of(List::Schedules, schedule.version, schedule.modified, |stats| {
        with_stats(state, &key, schedule, &call.base, stats.then_some(now))
    })
}

/// `HEAD /jobschedules/{schedule}`
pub async fn exists(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    let reading = service.shared.read();
    let schedule = find(reading.state(), &key(&call, &schedule))?;
    Ok((StatusCode::OK, tags(schedule.version, schedule.modified)).into_response())
}

/// `PATCH /jobschedules/{schedule}`
pub async fn patch(service: Shell<Arc<Service>>, call: Extension<Call>, schedule: Path<String>) -> Answer {
    change(&service.0, &call.0, &schedule.0, JobChange::Patch).await
}

/// `PUT /jobschedules/{schedule}`
pub async fn put(service: Shell<Arc<Service>>, call: Extension<Call>, schedule: Path<String>) -> Answer {
    change(&service.0, &call.0, &schedule.0, JobChange::Put).await
}

async fn change(service: &Service, call: &Call, schedule: &str, how: JobChange) -> Answer {
    let (key, body, wished) = (key(call, schedule), call.json()?, call.condition()?);
    let mut tries = if wished == Condition::default() { TRIES } else { 1 };
    loop {
        let (spec, version) = {
            let reading = service.shared.read();
            let schedule = find(reading.state(), &key)?;
            (Box::new(wire::change_schedule(schedule, &body, how)?), schedule.version)
        };
        // What was read must still be there when the change is made of it.
        let condition = Condition { matches: wished.matches.or(Some(Some(version))), ..wished.clone() };
        let command = BatchCommand::UpdateSchedule { schedule: key.schedule.clone(), spec };
        match call.ask_if(service, command, condition).await {
            Err(error) if error.code == ErrorCode::ConditionNotMet && tries > 1 => tries -= 1,
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    let reading = service.shared.read();
    let schedule = find(reading.state(), &key)?;
    Ok((StatusCode::OK, tags(schedule.version, schedule.modified)).into_response())
}

/// `DELETE /jobschedules/{schedule}`
pub async fn delete(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::DeleteSchedule { schedule: FoldedId::of(&schedule) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /jobschedules/{schedule}/terminate`
pub async fn terminate(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::TerminateSchedule { schedule: FoldedId::of(&schedule) }).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `POST /jobschedules/{schedule}/disable`
pub async fn disable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::DisableSchedule { schedule: FoldedId::of(&schedule) }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /jobschedules/{schedule}/enable`
pub async fn enable(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    call.ask(&service, BatchCommand::EnableSchedule { schedule: FoldedId::of(&schedule) }).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `GET /jobschedules/{schedule}/jobs`
pub async fn jobs(
    Shell(service): Shell<Arc<Service>>,
    Extension(call): Extension<Call>,
    Path(schedule): Path<String>,
) -> Answer {
    let key = key(&call, &schedule);
    let mut page = Page::new(call.list_query(List::JobsOfSchedule)?);
    let (stats, now) = (page.stats(), service.shared.now());
    let after = page.after().map(FoldedId::of);
    {
        let reading = service.shared.read();
        let state = reading.state();
        find(state, &key)?;
        let mut last: Option<&FoldedId> = None;
        for (id, job) in state.batch_jobs_of_schedule(&key) {
            if after.as_ref().is_some_and(|after| id <= after) {
                continue;
            }
            let show = || job_with_stats(state, id, job, &call.base, stats.then_some(now));
            if page.offer(&JobRow { job }, last.map(FoldedId::as_str), show) {
                break;
            }
            last = Some(id);
        }
    }
    call.page("jobs", page)
}
