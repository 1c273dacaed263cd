//! Jobs.

use std::sync::Arc;

use muster_core::batch::{AutoPool, BatchJobSpec, FoldedId, PoolLifetime, Retries};
use muster_core::spec::User;
use muster_core::state::{BatchJob, JobPhase};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::pool::{NewPool, read_pool, said, text};
use super::task::error_info;
use super::{chore, etag, iso, task, without_secrets};
use crate::error::BatchError;

/// How a request changes a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobChange {
    /// What it names is set.
    Patch,
    /// What it may change and does not name is as it is by default.
    Put,
}

/// Properties that may change, and that a `PUT` resets.
const CHANGEABLE: [&str; 9] = [
    "priority",
    "maxParallelTasks",
    "allowTaskPreemption",
    "onAllTasksComplete",
    "constraints",
    "metadata",
    "onTaskFailure",
    "networkConfiguration",
    "displayName",
];

/// Reads what a new job is to be like.
///
/// # Errors
/// What is wrong with it.
pub fn read_job(body: &Value, user: &User) -> Result<BatchJobSpec, BatchError> {
    let fields = Fields::of(body)?;
    let manager = fields.inner("jobManagerTask")?.map(|manager| task::manager(&manager, user)).transpose()?;
    let Some(pool_info) = fields.inner("poolInfo")? else {
        return Err(fields.wrong("poolInfo", "it must name a pool: poolInfo.poolId"));
    };
    let auto_pool = pool_info
        .inner("autoPoolSpecification")?
        .map(|auto_pool| read_auto_pool(&auto_pool, user))
        .transpose()?;
    let preparation = fields.inner("jobPreparationTask")?;
    let preparation = preparation.map(|chore| chore::preparation(&chore, user)).transpose()?;
    let release = fields.inner("jobReleaseTask")?.map(|chore| chore::release(&chore, user)).transpose()?;
    let pool = match (&auto_pool, pool_info.text("poolId")?) {
        (Some(_), None) => FoldedId::of(""),
        (None, Some(pool)) => FoldedId::of(pool),
        _ => {
            return Err(
                fields.wrong("poolInfo", "exactly one of poolId and autoPoolSpecification must be set")
            );
        }
    };
    let constraints = fields.inner("constraints")?;
    let (wall_clock_max_s, retries) = match &constraints {
        Some(constraints) => (constraints.duration_s("maxWallClockTime")?.flatten(), retries(constraints)?),
        None => (None, None),
    };
    let all = [("noaction", false), ("terminatejob", true)];
    let failure = [("noaction", false), ("performexitoptionsjobaction", true)];
    let running_max = fields.number("maxParallelTasks", -1, i64::from(i32::MAX))?.unwrap_or(-1);
    if running_max == 0 {
        return Err(fields.wrong("maxParallelTasks", "it must be -1 for no limit, or at least 1"));
    }
    let mut kept = fields.object().clone();
    kept.remove("id");
    Ok(BatchJobSpec {
        schedule: None,
        id: fields.required("id")?.to_owned(),
        pool,
        auto_pool: auto_pool.map(Box::new),
        priority: i32::try_from(
            fields.number("priority", i64::from(i32::MIN), i64::from(i32::MAX))?.unwrap_or(0),
        )
        .unwrap_or(0),
        yields: fields.flag("allowTaskPreemption")?.unwrap_or(false),
        running_max: u32::try_from(running_max).ok(),
        wall_clock_max_s,
        retries: retries.unwrap_or(Retries::AtMost(0)),
        uses_dependencies: fields.flag("usesTaskDependencies")?.unwrap_or(false),
        terminate_when_complete: fields.word("onAllTasksComplete", &all)?.unwrap_or(false),
        acts_on_failure: fields.word("onTaskFailure", &failure)?.unwrap_or(false),
        environment: fields.pairs("commonEnvironmentSettings")?,
        manager: manager.map(Box::new),
        preparation: preparation.map(Arc::new),
        release: release.map(Arc::new),
        said: text(kept, &fields)?.into(),
    })
}

/// The pool that a job brings.
fn read_auto_pool(fields: &Fields<'_>, user: &User) -> Result<AutoPool, BatchError> {
    let lifetimes = [("job", PoolLifetime::Job), ("jobschedule", PoolLifetime::Schedule)];
    let lifetime = fields.word("poolLifetimeOption", &lifetimes)?;
    let lifetime =
        lifetime.ok_or_else(|| fields.wrong("poolLifetimeOption", "it must be job or jobschedule"))?;
    let mut pool = match fields.get("pool") {
        Some(Value::Object(pool)) => pool.clone(),
        _ => return Err(fields.wrong("pool", "it must say what the pool is like")),
    };
    pool.insert("id".to_owned(), "auto".into());
    let NewPool { spec: pool, target, timeout_s, scaling } = read_pool(&Value::Object(pool), user)?;
    let (target, target_low) = (target.dedicated.unwrap_or(0), target.low_priority.unwrap_or(0));
    let prefix = fields.text("autoPoolIdPrefix")?.unwrap_or_default().to_owned();
    let keep_alive = fields.flag("keepAlive")?.unwrap_or(false);
    Ok(AutoPool { prefix, pool, target, target_low, timeout_s, scaling, lifetime, keep_alive })
}

/// How often something is tried again, if it is said.
pub(super) fn retries(constraints: &Fields<'_>) -> Result<Option<Retries>, BatchError> {
    let count = constraints.number("maxTaskRetryCount", -1, i64::from(i32::MAX))?;
    Ok(count.map(|count| u32::try_from(count).map_or(Retries::Unlimited, Retries::AtMost)))
}

/// Applies a change of a job.
///
/// # Errors
/// What is wrong with it.
pub fn change_job(job: &BatchJob, body: &Value, change: JobChange) -> Result<BatchJobSpec, BatchError> {
    let fields = Fields::of(body)?;
    let mut object: Map<String, Value> = said(&job.spec.said);
    if change == JobChange::Put {
        // What tasks rest on stays, or a request that says nothing of it would be refused.
        let kept = ["onAllTasksComplete", "onTaskFailure", "displayName", "networkConfiguration"];
        object.retain(|name, _| !CHANGEABLE.contains(&name.as_str()) || kept.contains(&name.as_str()));
    }
    for (name, value) in fields.object().iter().filter(|(_, value)| !value.is_null()) {
        if CHANGEABLE.contains(&name.as_str()) || name == "poolInfo" {
            object.insert(name.clone(), value.clone());
        }
    }
    object.insert("id".to_owned(), job.spec.id.clone().into());
    let mut spec = read_job(&Value::Object(object), &job.by)?;
    spec.schedule.clone_from(&job.spec.schedule);
    if spec.auto_pool.is_some() {
        spec.pool = job.spec.pool.clone();
    }
    Ok(spec)
}

/// The id of a job's pool, as it was typed.
pub(super) fn pool_id(job: &BatchJob) -> Value {
    match said(&job.spec.said).get("poolInfo").map(|info| info["poolId"].clone()) {
        Some(Value::String(id)) => id.into(),
        _ => job.spec.pool.as_str().into(),
    }
}

/// A job, as clients see it.
#[must_use]
pub fn show_job(id: &FoldedId, job: &BatchJob, base: &str) -> Value {
    let mut shown = Value::Object(said(&job.spec.said));
    without_secrets(&mut shown);
    let spec = &job.spec;
    let retries = match spec.retries {
        Retries::AtMost(most) => i64::from(most),
        Retries::Unlimited => -1,
    };
    shown["id"] = spec.id.clone().into();
    shown["url"] = format!("{base}/jobs/{id}").into();
    shown["eTag"] = etag(job.version).into();
    shown["lastModified"] = iso(job.modified).into();
    shown["creationTime"] = iso(job.created).into();
    shown["state"] = job.phase.word().as_str().into();
    shown["stateTransitionTime"] = iso(job.since).into();
    if let Some((word, since)) = job.previous {
        shown["previousState"] = word.as_str().into();
        shown["previousStateTransitionTime"] = iso(since).into();
    }
    shown["priority"] = spec.priority.into();
    shown["maxParallelTasks"] = spec.running_max.map_or(-1, i64::from).into();
    shown["allowTaskPreemption"] = spec.yields.into();
    shown["usesTaskDependencies"] = spec.uses_dependencies.into();
    shown["onAllTasksComplete"] =
        if spec.terminate_when_complete { "terminatejob" } else { "noaction" }.into();
    shown["onTaskFailure"] =
        if spec.acts_on_failure { "performexitoptionsjobaction" } else { "noaction" }.into();
    for (name, chore) in [("jobPreparationTask", &spec.preparation), ("jobReleaseTask", &spec.release)] {
        if let Some(chore) = chore {
            shown[name]["id"] = chore.id.clone().into();
        }
    }
    if !shown["constraints"].is_object() {
        shown["constraints"] = json!({});
    }
    if shown["constraints"]["maxWallClockTime"].is_null() {
        shown["constraints"]["maxWallClockTime"] = "P10675199DT2H48M5.4775807S".into();
    }
    shown["constraints"]["maxTaskRetryCount"] = retries.into();
    let mut info = json!({ "startTime": iso(job.created) });
    if !job.spec.pool.as_str().is_empty() {
        info["poolId"] = pool_id(job);
    }
    if let JobPhase::Completed { reason, error } = &job.phase {
        info["endTime"] = iso(job.since).into();
        match error {
            None => info["terminateReason"] = reason.clone().into(),
            Some(error) => {
                info["schedulingError"] = error_info(error.category, &error.code, &error.message);
            }
        }
    }
    shown["executionInfo"] = info;
    shown
}
