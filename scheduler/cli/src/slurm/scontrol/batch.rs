//! `scontrol write batch_script`, `scontrol wait_job` and `scontrol completing`.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use muster_client::TaskFilter;
use muster_client::api::TaskState;
use muster_core::ids::JobRef;

use super::change::job_refs;
use crate::slurm::connect::connect;
use crate::slurm::fault::{Fault, print};

/// How long one question for news of a job may take.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

fn one_job(word: Option<&String>) -> Result<JobRef, Fault> {
    let refs = job_refs(&word.cloned().into_iter().collect::<Vec<_>>())?;
    refs.first().copied().ok_or_else(|| Fault::Said("too few arguments for this keyword".to_owned()))
}

/// `write batch_script JOB [FILE|-]`
pub(super) fn write(words: &[String]) -> Result<ExitCode, Fault> {
    const DOING: &str = "job script retrieval failed";
    let (what, words) =
        words.split_first().ok_or_else(|| Fault::Said("too few arguments for keyword:write".to_owned()))?;
    if !what.eq_ignore_ascii_case("batch_script") {
        return Err(Fault::Said(format!(
            "scontrol: write {what} is not supported: write batch_script JOB is"
        )));
    }
    let job = one_job(words.first())?;
    let script = connect(DOING)?.script(job).map_err(Fault::client(DOING))?.script;
    let path = words.get(1).cloned().unwrap_or_else(|| format!("slurm-{job}.sh"));
    if path == "-" {
        return print(&script).map(|()| ExitCode::SUCCESS);
    }
    fs::write(&path, script)
        .map_err(|error| Fault::Said(format!("failed to open file `{path}`: {error}")))?;
    print(&format!("batch script for job {job} written to {path}\n")).map(|()| ExitCode::SUCCESS)
}

/// `wait_job JOB`: until its nodes are ready, which they are when its script starts.
pub(super) fn wait(words: &[String]) -> Result<ExitCode, Fault> {
    const DOING: &str = "slurm_job_node_ready error";
    let job = one_job(words.first())?;
    let mut client = connect(DOING)?;
    let mut seen = None;
    loop {
        let detail = client.wait_change(job, seen, ASK_AGAIN_AFTER).map_err(Fault::client(DOING))?;
        let state = detail
            .task_list
            .iter()
            .find(|task| job.task.is_none_or(|index| index.0 == task.index))
            .map_or(detail.summary.state, |task| task.state);
        match state {
            TaskState::Waiting | TaskState::Preparing => seen = Some(detail.version),
            TaskState::Running | TaskState::Ending => return Ok(ExitCode::SUCCESS),
            _ => return Err(Fault::Said("Job is no longer running".to_owned())),
        }
    }
}

/// `completing`: jobs that are being ended, with their nodes.
pub(super) fn completing() -> Result<ExitCode, Fault> {
    const DOING: &str = "slurm_load_jobs error";
    let tasks = connect(DOING)?.tasks(&TaskFilter::default()).map_err(Fault::client(DOING))?;
    let mut out = String::new();
    for line in tasks.lines.iter().filter(|line| line.state == TaskState::Ending) {
        out.push_str(&format!(
            "JobId={} Nodes(COMPLETING)={}\n",
            crate::slurm::job::id_text(line, None, usize::MAX),
            line.node_list
        ));
    }
    print(&out).map(|()| ExitCode::SUCCESS)
}
