//! `--wait`: ends as the job did.

use muster_client::Client;
use muster_client::api::TaskState;
use muster_core::ids::{JobId, JobRef};

use super::super::wrong::Wrong;
use super::refused;

/// Waits for the end of a job. The exit code is the highest of its tasks; 1 for what ended otherwise than by exiting.
pub(super) fn for_job(client: &mut Client, job: u64) -> Result<u8, Wrong> {
    let job = JobRef { job: JobId(job), task: None };
    let detail = client.wait_finished(job, None).map_err(refused)?;
    let Some(detail) = detail else { return Ok(1) };
    let code = |code: u32| u8::try_from(code.min(255)).expect("it was cut to a byte");
    let ended = detail.task_list.iter().map(|task| match (task.state, task.exit_code) {
        (TaskState::Completed, _) => 0,
        (_, Some(exit)) => code(exit).max(1),
        (_, None) => 1,
    });
    let highest = ended.max().unwrap_or(0);
    // The list of tasks may be cut, their counts are not.
    let all_succeeded = detail.summary.tasks.keys().all(|state| *state == TaskState::Completed);
    Ok(if all_succeeded { highest } else { highest.max(1) })
}
