//! Tasks.

use std::sync::Arc;

use muster_core::batch::{
    BatchTaskKey, DependencyAction, DependsOn, ExitAction, ExitConditions, Failure, FailureCategory, IdRange,
    JobAction, Manager, MultiInstance, NewTask, TaskShape, task_folder,
};
use muster_core::ids::NodeId;
use muster_core::spec::User;
use muster_core::staging::{Command, RETENTION_DEFAULT_S, Staging};
use muster_core::state::{BatchJob, BatchTask, BatchTaskState, Counts, State, TaskWord};
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::files::{inputs, outputs};
use super::job::{pool_id, retries};
use super::pool::{said, text};
use super::{container, etag, iso, setup, without_secrets};
use crate::error::BatchError;

/// Reads a new task, and what it may have in common with others.
///
/// # Errors
/// What is wrong with it.
pub fn read_task(body: &Value, user: &User) -> Result<(NewTask, TaskShape), BatchError> {
    let fields = Fields::of(body)?;
    let task = NewTask {
        id: fields.required("id")?.to_owned(),
        command: fields.required("commandLine")?.into(),
        shape: 0,
        depends: fields.inner("dependsOn")?.map(|on| depends(&on)).transpose()?.map(Box::new),
    };
    Ok((task, shape(&fields, user)?))
}

fn shape(fields: &Fields<'_>, user: &User) -> Result<TaskShape, BatchError> {
    let token = token(fields)?;
    let constraints = fields.inner("constraints")?;
    let (wall_clock_max_s, retention_s, retries) = match &constraints {
        Some(constraints) => (
            constraints.duration_s("maxWallClockTime")?.flatten(),
            constraints.duration_s("retentionTime")?.flatten(),
            retries(constraints)?,
        ),
        None => (None, None, None),
    };
    let multi = fields.inner("multiInstanceSettings")?;
    let multi_instance = multi.as_ref().map(multi_instance).transpose()?;
    let common_inputs = match &multi {
        Some(multi) => inputs(multi, "commonResourceFiles")?,
        None => Vec::new(),
    };
    let staging = Staging {
        inputs: inputs(fields, "resourceFiles")?,
        common_inputs,
        outputs: outputs(fields)?,
        retention_s: retention_s.unwrap_or(RETENTION_DEFAULT_S).max(1),
        ..Staging::default()
    };
    let near = match fields.inner("affinityInfo")? {
        Some(affinity) => Some(affinity.required("affinityId")?.into()),
        None => None,
    };
    let mut kept = fields.object().clone();
    for name in ["id", "commandLine", "dependsOn"] {
        kept.remove(name);
    }
    Ok(TaskShape {
        user: user.clone(),
        slots: u32::try_from(fields.number("requiredSlots", 1, 65_536)?.unwrap_or(1)).unwrap_or(u32::MAX),
        multi_instance,
        wall_clock_max_s,
        retries,
        staging,
        packages: setup::references(fields)?,
        container: container::settings(fields)?,
        environment: fields.pairs("environmentSettings")?,
        token,
        near,
        dedicated: false,
        exclusive: false,
        exits: fields
            .inner("exitConditions")?
            .map(|exits| exit_conditions(&exits))
            .transpose()?
            .unwrap_or_default(),
        said: text(kept, fields)?.into(),
    })
}

/// Whether a token is asked for; a task is given one for its own job alone.
fn token(fields: &Fields<'_>) -> Result<bool, BatchError> {
    let Some(settings) = fields.inner("authenticationTokenSettings")? else { return Ok(false) };
    match settings.get("access") {
        None => Ok(false),
        Some(Value::Array(access)) if access.iter().all(is_job) => Ok(!access.is_empty()),
        Some(_) => Err(settings.wrong("access", "it must be a list of which the only word is job")),
    }
}

fn is_job(word: &Value) -> bool {
    word.as_str().is_some_and(|word| word.eq_ignore_ascii_case("job"))
}

/// Reads the task that is made with a job.
pub(super) fn manager(fields: &Fields<'_>, user: &User) -> Result<Manager, BatchError> {
    fields.without(&["multiInstanceSettings", "dependsOn", "exitConditions", "affinityInfo"])?;
    let mut read = shape(fields, user)?;
    read.exclusive = fields.flag("runExclusive")?.unwrap_or(true);
    read.dedicated = !fields.flag("allowLowPriorityNode")?.unwrap_or(true);
    // Newer versions of the protocol cannot ask for it, and without it a manager could manage nothing.
    read.token = true;
    let mut kept = said(&read.said);
    for name in ["killJobOnCompletion", "runExclusive", "allowLowPriorityNode"] {
        kept.remove(name);
    }
    read.said = text(kept, fields)?.into();
    let task = NewTask {
        id: fields.required("id")?.to_owned(),
        command: fields.required("commandLine")?.into(),
        shape: 0,
        depends: None,
    };
    let ends_job = fields.flag("killJobOnCompletion")?.unwrap_or(true);
    Ok(Manager { task, shape: Arc::new(read), ends_job })
}

fn multi_instance(fields: &Fields<'_>) -> Result<MultiInstance, BatchError> {
    let instances = fields.number("numberOfInstances", 1, i64::from(u32::MAX))?.unwrap_or(1);
    let line = fields.required("coordinationCommandLine")?;
    let coordination =
        Command::parse(line).map_err(|error| fields.wrong("coordinationCommandLine", &error.to_string()))?;
    Ok(MultiInstance { instances: u32::try_from(instances).unwrap_or(u32::MAX), coordination })
}

fn depends(fields: &Fields<'_>) -> Result<DependsOn, BatchError> {
    let ids = match fields.get("taskIds") {
        None => Vec::new(),
        Some(Value::Array(ids)) => ids
            .iter()
            .map(|id| {
                id.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| fields.wrong("taskIds", "it must be a list of texts"))
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(fields.wrong("taskIds", "it must be a list of texts")),
    };
    let range = |fields: Fields<'_>| {
        let bound = |name: &str| {
            let number = fields.number(name, 0, i64::from(u32::MAX))?;
            let number = number.ok_or_else(|| fields.wrong(name, "it must be a whole number"))?;
            Ok::<u32, BatchError>(u32::try_from(number).unwrap_or(u32::MAX))
        };
        Ok(IdRange { start: bound("start")?, end: bound("end")? })
    };
    let ranges = fields.list("taskIdRanges")?.into_iter().map(range).collect::<Result<_, BatchError>>()?;
    Ok(DependsOn { ids, ranges })
}

fn exit_conditions(fields: &Fields<'_>) -> Result<ExitConditions, BatchError> {
    let code = |fields: &Fields<'_>, name: &str| {
        let code = fields.number(name, i64::from(i32::MIN), i64::from(i32::MAX))?;
        let code = code.ok_or_else(|| fields.wrong(name, "it must be a whole number"))?;
        Ok::<i32, BatchError>(i32::try_from(code).unwrap_or(0))
    };
    let single = |fields: Fields<'_>| Ok((code(&fields, "code")?, action(&fields)?));
    let range = |fields: Fields<'_>| Ok((code(&fields, "start")?, code(&fields, "end")?, action(&fields)?));
    let one = |name: &str| fields.inner(name)?.as_ref().map(options).transpose();
    Ok(ExitConditions {
        codes: fields.list("exitCodes")?.into_iter().map(single).collect::<Result<_, BatchError>>()?,
        ranges: fields.list("exitCodeRanges")?.into_iter().map(range).collect::<Result<_, BatchError>>()?,
        pre_processing: one("preProcessingError")?,
        file_upload: one("fileUploadError")?,
        default: one("default")?,
    })
}

fn action(fields: &Fields<'_>) -> Result<ExitAction, BatchError> {
    fields.inner("exitOptions")?.as_ref().map(options).transpose().map(Option::unwrap_or_default)
}

fn options(fields: &Fields<'_>) -> Result<ExitAction, BatchError> {
    let dependency = [("satisfy", DependencyAction::Satisfy), ("block", DependencyAction::Block)];
    let job =
        [("none", JobAction::None), ("disable", JobAction::Disable), ("terminate", JobAction::Terminate)];
    Ok(ExitAction {
        dependency: fields.word("dependencyAction", &dependency)?,
        job: fields.word("jobAction", &job)?,
    })
}

/// Applies a change of a task: its constraints may change.
///
/// # Errors
/// What is wrong with it.
pub fn change_task(job: &BatchJob, task: &BatchTask, body: &Value) -> Result<Arc<TaskShape>, BatchError> {
    let fields = Fields::of(body)?;
    let before = job.shape(task);
    let mut object: Map<String, Value> = said(&before.said);
    object.remove("constraints");
    if let Some(constraints) = fields.get("constraints") {
        object.insert("constraints".to_owned(), constraints.clone());
    }
    Ok(Arc::new(shape(&Fields::of(&Value::Object(object))?, &before.user)?))
}

/// A task, as clients see it.
#[must_use]
pub fn show_task(state: &State, key: &BatchTaskKey, job: &BatchJob, task: &BatchTask, base: &str) -> Value {
    let shape = job.shape(task);
    let mut shown = Value::Object(said(&shape.said));
    without_secrets(&mut shown);
    shown["id"] = task.id(&key.task).into();
    shown["url"] = format!("{base}/jobs/{}/tasks/{}", key.job, key.task).into();
    shown["eTag"] = etag(task.version).into();
    shown["lastModified"] = iso(task.modified).into();
    shown["creationTime"] = iso(task.created).into();
    shown["state"] = task.state.word().as_str().into();
    shown["stateTransitionTime"] = iso(task.since).into();
    if let Some((word, since)) = task.previous {
        shown["previousState"] = word.as_str().into();
        shown["previousStateTransitionTime"] = iso(since).into();
    }
    shown["commandLine"] = (*task.command).into();
    shown["requiredSlots"] = shape.slots.into();
    if let Some(depends) = &task.depends {
        let ranges: Vec<Value> =
            depends.ranges.iter().map(|r| json!({ "start": r.start, "end": r.end })).collect();
        shown["dependsOn"] = json!({ "taskIds": depends.ids, "taskIdRanges": ranges });
    }
    if !shown["constraints"].is_object() {
        shown["constraints"] = json!({});
    }
    let defaults = [("maxWallClockTime", "P10675199DT2H48M5.4775807S"), ("retentionTime", "P7D")];
    for (name, value) in defaults {
        if shown["constraints"][name].is_null() {
            shown["constraints"][name] = value.into();
        }
    }
    if shown["constraints"]["maxTaskRetryCount"].is_null() {
        let retries = match job.spec.retries {
            muster_core::batch::Retries::AtMost(most) => i64::from(most),
            muster_core::batch::Retries::Unlimited => -1,
        };
        shown["constraints"]["maxTaskRetryCount"] = retries.into();
    }
    shown["executionInfo"] = execution(task);
    if let Some(node) = nodes(state, task).first() {
        shown["nodeInfo"] = node_info(state, key, job, *node, base);
    }
    shown
}

/// How a task runs, or has run.
pub(super) fn execution(task: &BatchTask) -> Value {
    let mut info = json!({ "retryCount": task.retries.count, "requeueCount": task.requeues.count });
    if let Some(at) = task.retries.last {
        info["lastRetryTime"] = iso(at).into();
    }
    if let Some(at) = task.requeues.last {
        info["lastRequeueTime"] = iso(at).into();
    }
    let completed = task.completed();
    let made = task.state.made().and_then(|made| made.started);
    if let Some(started) = made.or_else(|| completed?.started) {
        info["startTime"] = iso(started).into();
    }
    if let Some(completed) = completed {
        info["endTime"] = iso(task.since).into();
        info["result"] = if completed.failure.is_none() { "success" } else { "failure" }.into();
        if let Some(code) = completed.exit_code {
            info["exitCode"] = code.into();
        }
        if let Some(failure) = &completed.failure {
            info["failureInfo"] = failure_info(failure);
        }
    }
    info
}

pub(super) fn failure_info(failure: &Failure) -> Value {
    error_info(failure.category, &failure.code, &failure.message)
}

/// What went wrong with a task or a job, as clients see it.
pub(super) fn error_info(category: FailureCategory, code: &str, message: &str) -> Value {
    let category = match category {
        FailureCategory::User => "usererror",
        FailureCategory::Server => "servererror",
    };
    json!({ "category": category, "code": code, "message": message, "details": [] })
}

/// The nodes that a task runs on, or has run on last; the primary's first.
fn nodes(state: &State, task: &BatchTask) -> Vec<NodeId> {
    match &task.state {
        BatchTaskState::Completed(completed) => completed.nodes.clone(),
        BatchTaskState::Made(made) => {
            let live = state.jobs.get(&made.job).and_then(|job| job.live.values().next());
            live.into_iter().flat_map(|live| live.allocation.shares.iter().map(|share| share.node)).collect()
        }
        BatchTaskState::Preparing { node } => vec![*node],
        BatchTaskState::Waiting { .. } | BatchTaskState::Settling(_) => Vec::new(),
    }
}

fn node_info(state: &State, key: &BatchTaskKey, job: &BatchJob, node: NodeId, base: &str) -> Value {
    let name = &state.node(node).name;
    let folder = task_folder(&key.job, key.task.as_str());
    let node_url = format!("{base}/pools/{}/nodes/{name}", job.spec.pool);
    json!({
        "affinityId": name,
        "nodeId": name,
        "nodeUrl": node_url,
        "poolId": pool_id(job),
        "taskRootDirectory": folder,
        "taskRootDirectoryUrl": format!("{node_url}/files/{folder}"),
    })
}

/// The parts of a task of several nodes but for the primary's.
#[must_use]
pub fn show_subtasks(
    state: &State,
    key: &BatchTaskKey,
    job: &BatchJob,
    task: &BatchTask,
    base: &str,
) -> Vec<Value> {
    let word = match task.state.word() {
        TaskWord::Completed => "completed",
        TaskWord::Active | TaskWord::Preparing => "preparing",
        TaskWord::Running => "running",
    };
    let part = |(i, node): (usize, &NodeId)| {
        let mut part = execution(task);
        if let Value::Object(part) = &mut part {
            part.retain(|name, _| {
                !matches!(name.as_str(), "retryCount" | "requeueCount" | "lastRetryTime" | "lastRequeueTime")
            });
        }
        part["id"] = i.into();
        part["nodeInfo"] = node_info(state, key, job, *node, base);
        part["state"] = word.into();
        part["stateTransitionTime"] = iso(task.since).into();
        part
    };
    nodes(state, task).iter().enumerate().skip(1).map(part).collect()
}

/// How many tasks there are in each state.
#[must_use]
pub fn task_counts(counts: &Counts) -> Value {
    let all = |of: fn(&muster_core::state::Counted) -> u64| {
        json!({
            "active": of(&counts.active), "running": of(&counts.running), "completed": of(&counts.completed),
            "succeeded": of(&counts.succeeded), "failed": of(&counts.failed),
        })
    };
    json!({ "taskCounts": all(|counted| counted.tasks), "taskSlotCounts": all(|counted| counted.slots) })
}
