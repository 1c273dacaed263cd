//! Job schedules.

use std::sync::Arc;

use muster_core::batch::{FoldedId, ScheduleKey, ScheduleSpec, ScheduleTimes};
use muster_core::ids::Timestamp;
use muster_core::spec::User;
use muster_core::state::{BatchSchedule, State};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::job::{JobChange, read_job};
use super::pool::{said, text};
use super::{etag, iso, without_secrets};
use crate::error::BatchError;

/// What of a schedule may change.
const CHANGEABLE: [&str; 3] = ["schedule", "jobSpecification", "metadata"];

/// Reads what a new schedule is to be like.
///
/// # Errors
/// What is wrong with it.
pub fn read_schedule(body: &Value, user: &User) -> Result<ScheduleSpec, BatchError> {
    let fields = Fields::of(body)?;
    let times = match fields.inner("schedule")? {
        Some(times) => read_times(&times)?,
        None => ScheduleTimes::default(),
    };
    let Some(Value::Object(job)) = fields.get("jobSpecification") else {
        return Err(fields.wrong("jobSpecification", "it must say what each job is like"));
    };
    let mut job = job.clone();
    // Jobs have ids of their own; until then any will do.
    job.insert("id".to_owned(), "job".into());
    let job = Arc::new(read_job(&Value::Object(job), user)?);
    let id = fields.required("id")?.to_owned();
    let mut kept = fields.object().clone();
    kept.remove("id");
    Ok(ScheduleSpec { id, times, job, said: text(kept, &fields)?.into() })
}

fn read_times(fields: &Fields<'_>) -> Result<ScheduleTimes, BatchError> {
    Ok(ScheduleTimes {
        not_before: instant(fields, "doNotRunUntil")?,
        not_after: instant(fields, "doNotRunAfter")?,
        window_s: fields.duration_s("startWindow")?.flatten(),
        interval_s: fields.duration_s("recurrenceInterval")?.flatten(),
    })
}

fn instant(fields: &Fields<'_>, name: &str) -> Result<Option<Timestamp>, BatchError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let instant = text.parse::<jiff::Timestamp>();
    let instant =
        instant.map_err(|_| fields.wrong(name, "it must be a date, such as 2027-01-31T02:00:00Z"))?;
    Ok(Some(Timestamp(u64::try_from(instant.as_microsecond()).unwrap_or(0))))
}

/// Applies a change of a schedule. A `PUT` removes what it does not name of what may be left out.
///
/// # Errors
/// What is wrong with it.
pub fn change_schedule(
    schedule: &BatchSchedule,
    body: &Value,
    change: JobChange,
) -> Result<ScheduleSpec, BatchError> {
    let fields = Fields::of(body)?;
    let mut object: Map<String, Value> = said(&schedule.spec.said);
    if change == JobChange::Put {
        object.retain(|name, _| name == "jobSpecification" || !CHANGEABLE.contains(&name.as_str()));
    }
    for name in CHANGEABLE {
        if let Some(value) = fields.get(name) {
            object.insert(name.to_owned(), value.clone());
        }
    }
    object.insert("id".to_owned(), schedule.spec.id.clone().into());
    read_schedule(&Value::Object(object), &schedule.by)
}

/// A schedule, as clients see it.
#[must_use]
pub fn show_schedule(state: &State, key: &ScheduleKey, schedule: &BatchSchedule, base: &str) -> Value {
    let mut shown = Value::Object(said(&schedule.spec.said));
    without_secrets(&mut shown);
    shown["id"] = schedule.spec.id.clone().into();
    shown["url"] = format!("{base}/jobschedules/{}", key.schedule).into();
    shown["eTag"] = etag(schedule.version).into();
    shown["lastModified"] = iso(schedule.modified).into();
    shown["creationTime"] = iso(schedule.created).into();
    shown["state"] = schedule.phase.as_str().into();
    shown["stateTransitionTime"] = iso(schedule.since).into();
    if let Some((phase, since)) = schedule.previous {
        shown["previousState"] = phase.as_str().into();
        shown["previousStateTransitionTime"] = iso(since).into();
    }
    let mut info = json!({});
    if let Some(next) = schedule.next {
        info["nextRunTime"] = iso(next).into();
    }
    if let Some(last) = &schedule.last {
        info["recentJob"] = json!({ "id": id_of(state, key, last), "url": format!("{base}/jobs/{last}") });
    }
    if schedule.phase == muster_core::batch::SchedulePhase::Completed {
        info["endTime"] = iso(schedule.since).into();
    }
    shown["executionInfo"] = info;
    shown
}

/// The id of a job as it was typed, while it is there.
fn id_of(state: &State, key: &ScheduleKey, job: &FoldedId) -> String {
    let key = muster_core::batch::BatchJobKey { account: Arc::clone(&key.account), job: job.clone() };
    state.batch_job(&key).map_or_else(|| job.to_string(), |job| job.spec.id.clone())
}
