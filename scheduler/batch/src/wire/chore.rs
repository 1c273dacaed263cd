//! Start tasks of pools, and preparation and release tasks of jobs.

use muster_core::batch::{
    BatchJobKey, ChoreSpec, FoldedId, PREPARATION_ID, RELEASE_ID, RELEASE_MAX_S, Retries, task_folder,
};
use muster_core::ids::NodeId;
use muster_core::spec::User;
use muster_core::staging::{RETENTION_MAX_S, Staging};
use muster_core::state::{BatchJob, ChoreRun, ChoreState, JobNode, State};
use serde_json::{Value, json};

use super::fields::Fields;
use super::files::inputs;
use super::job::retries;
use super::task::failure_info;
use super::{container, iso};
use crate::error::BatchError;

/// What all chores say.
fn read(fields: &Fields<'_>, user: &User) -> Result<ChoreSpec, BatchError> {
    Ok(ChoreSpec {
        user: user.clone(),
        id: String::new(),
        command: fields.required("commandLine")?.into(),
        wall_clock_max_s: None,
        retries: Retries::AtMost(0),
        waits: fields.flag("waitForSuccess")?.unwrap_or(true),
        reruns: true,
        // What chores bring is there for as long as tasks may use it.
        staging: Staging {
            inputs: inputs(fields, "resourceFiles")?,
            retention_s: RETENTION_MAX_S,
            ..Staging::default()
        },
        container: container::settings(fields)?,
        environment: fields.pairs("environmentSettings")?,
    })
}

fn keep_for(chore: &mut ChoreSpec, retention_s: Option<Option<u64>>) {
    if let Some(seconds) = retention_s.flatten() {
        chore.staging.retention_s = seconds.max(1);
    }
}

/// The start task of a pool.
pub(super) fn start(fields: &Fields<'_>, user: &User) -> Result<ChoreSpec, BatchError> {
    Ok(ChoreSpec { retries: retries(fields)?.unwrap_or(Retries::AtMost(0)), ..read(fields, user)? })
}

/// The preparation task of a job.
pub(super) fn preparation(fields: &Fields<'_>, user: &User) -> Result<ChoreSpec, BatchError> {
    let mut chore = ChoreSpec {
        id: fields.text("id")?.unwrap_or(PREPARATION_ID).to_owned(),
        reruns: fields.flag("rerunOnNodeRebootAfterSuccess")?.unwrap_or(true),
        ..read(fields, user)?
    };
    if let Some(constraints) = fields.inner("constraints")? {
        chore.wall_clock_max_s = constraints.duration_s("maxWallClockTime")?.flatten();
        chore.retries = retries(&constraints)?.unwrap_or(Retries::AtMost(0));
        keep_for(&mut chore, constraints.duration_s("retentionTime")?);
    }
    Ok(chore)
}

/// The release task of a job.
pub(super) fn release(fields: &Fields<'_>, user: &User) -> Result<ChoreSpec, BatchError> {
    let limit_s = fields.duration_s("maxWallClockTime")?.flatten().unwrap_or(RELEASE_MAX_S);
    let mut chore = ChoreSpec {
        id: fields.text("id")?.unwrap_or(RELEASE_ID).to_owned(),
        wall_clock_max_s: Some(limit_s),
        ..read(fields, user)?
    };
    keep_for(&mut chore, fields.duration_s("retentionTime")?);
    Ok(chore)
}

/// Whether a chore runs or has ended, as the protocol calls it.
#[must_use]
pub fn chore_word(run: &ChoreRun) -> &'static str {
    if run.is_over() { "completed" } else { "running" }
}

/// How a chore went, as the protocol calls it; none before its end.
#[must_use]
pub fn chore_result(run: &ChoreRun) -> Option<&'static str> {
    run.is_over().then_some(if run.has_succeeded() { "success" } else { "failure" })
}

/// When a chore began to run, or to wait for that.
#[must_use]
pub fn chore_began(run: &ChoreRun) -> muster_core::ids::Timestamp {
    let started = match &run.state {
        ChoreState::Ended(ended) => ended.started,
        _ => run.made().and_then(|made| made.started),
    };
    started.unwrap_or(run.since)
}

/// How a chore stands, as clients see it.
pub(super) fn show_run(run: &ChoreRun) -> Value {
    let mut shown = json!({ "state": chore_word(run), "startTime": iso(chore_began(run)), "retryCount": run.retries.count });
    if let Some(at) = run.retries.last {
        shown["lastRetryTime"] = iso(at).into();
    }
    if let Some(ended) = run.ended() {
        shown["endTime"] = iso(run.since).into();
        shown["result"] = chore_result(run).into();
        if let Some(code) = ended.exit_code {
            shown["exitCode"] = code.into();
        }
        if let Some(failure) = &ended.failure {
            shown["failureInfo"] = failure_info(failure);
        }
    }
    shown
}

/// What a job has done to a node, as clients see it.
#[must_use]
pub fn show_job_node(
    state: &State,
    key: &BatchJobKey,
    job: &BatchJob,
    node: NodeId,
    row: &JobNode,
    base: &str,
) -> Value {
    let name = &state.node(node).name;
    let node_url = format!("{base}/pools/{}/nodes/{name}", row.pool);
    let with_folder = |run: &ChoreRun, id: &str| {
        let folder = task_folder(&key.job, FoldedId::of(id).as_str());
        let mut shown = show_run(run);
        shown["taskRootDirectoryUrl"] = format!("{node_url}/files/{folder}").into();
        shown["taskRootDirectory"] = folder.into();
        shown
    };
    let mut shown = json!({ "poolId": row.pool.as_str(), "nodeId": name, "nodeUrl": node_url });
    if let Some(spec) = &job.spec.preparation {
        shown["jobPreparationTaskExecutionInfo"] = with_folder(&row.preparation, &spec.id);
    }
    if let Some((run, spec)) = row.release.as_ref().zip(job.spec.release.as_ref()) {
        shown["jobReleaseTaskExecutionInfo"] = with_folder(run, &spec.id);
    }
    shown
}
