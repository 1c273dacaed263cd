//! `muster wait`, and the waiting of `muster submit --wait`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use muster_client::Client;
use muster_client::api::{JobDetail, TaskState, TaskView};
use muster_core::ids::JobRef;

use super::queue::counts;
use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::tell;
use crate::text::{state_words, tame};

/// Arguments of `muster wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster wait 12                 end as job 12 does\n  \
    muster wait 12 13_4            wait for both; the highest exit code counts\n  \
    muster wait 12 --timeout 60    give up after a minute, with exit code 124\n\n\
    Exit code: 0 if all succeeded; a task's own exit code; 128 + N if signal N\n\
    ended it; 1 if it ended otherwise.")]
pub struct WaitArgs {
    /// Jobs (12) and tasks of arrays (12_3)
    #[arg(value_name = "JOB[_TASK]", required = true)]
    jobs: Vec<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub(crate) fn run(args: &WaitArgs) -> Result<ExitCode, CliError> {
    let jobs = job_refs(&args.jobs)?;
    let mut client = connect()?;
    wait_for(&mut client, &jobs, args.timeout.map(Duration::from_secs), true)
}

/// Waits for `jobs` and ends as they do. On a terminal, and if not `quiet`, the progress is shown.
pub(super) fn wait_for(
    client: &mut Client,
    jobs: &[JobRef],
    time: Option<Duration>,
    shows_progress: bool,
) -> Result<ExitCode, CliError> {
    let end = time.and_then(|time| Instant::now().checked_add(time));
    let shows_progress = shows_progress && std::io::stderr().is_terminal();
    let mut code = 0;
    for &job in jobs {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let detail = if shows_progress {
            let progress = bar();
            let detail = client.watch_finished(job, left, |detail| show(&progress, job, detail))?;
            progress.finish_and_clear();
            detail
        } else {
            client.wait_finished(job, left)?
        };
        let Some(detail) = detail else {
            tell(&format!("muster wait: job {job} has not ended yet"));
            return Ok(Exit::TimeOut.into());
        };
        let ended = job_code(job, &detail);
        if shows_progress {
            tell(&sentence(job, &detail));
        }
        code = code.max(ended);
    }
    Ok(ExitCode::from(code))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {wide_bar} {pos}/{len} {msg}")
        .expect("the template is fixed and right");
    let bar = ProgressBar::new(1).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(progress: &ProgressBar, job: JobRef, detail: &JobDetail) {
    let tasks = &detail.summary.tasks;
    let ended: u64 = tasks.iter().filter(|(state, _)| state.is_finished()).map(|(_, count)| count).sum();
    progress.set_length(tasks.values().sum());
    progress.set_position(ended);
    progress.set_message(format!("job {job}: {}", counts(tasks)));
}

fn asked(job: JobRef, detail: &JobDetail) -> impl Iterator<Item = &TaskView> {
    detail.task_list.iter().filter(move |task| job.task.is_none_or(|index| index.0 == task.index))
}

fn sentence(job: JobRef, detail: &JobDetail) -> String {
    let (state, reason) = match asked(job, detail).next() {
        Some(task) if job.task.is_some() || !detail.summary.array => (task.state, task.reason.as_str()),
        _ => (detail.summary.state, detail.summary.reason.as_str()),
    };
    let colon = if reason.is_empty() { "" } else { ": " };
    tame(&format!("Job {job} {}{colon}{reason}", state_words(state)))
}

/// The highest code of the tasks; at least 1 if one did not succeed.
fn job_code(job: JobRef, detail: &JobDetail) -> u8 {
    let highest = asked(job, detail).map(task_code).max().unwrap_or(0);
    let all_succeeded = match job.task {
        Some(_) => highest == 0,
        // The list of tasks may be cut, their counts are not.
        None => detail.summary.tasks.keys().all(|state| *state == TaskState::Completed),
    };
    if all_succeeded { highest } else { highest.max(1) }
}

/// The exit code of a task as a shell would see it.
fn task_code(task: &TaskView) -> u8 {
    let code = match (task.signal, task.exit_code) {
        (Some(signal), _) => 128 + signal.min(127),
        (None, Some(code)) => code.min(255),
        (None, None) => 0,
    };
    let code = u8::try_from(code).expect("both are cut to a byte");
    if task.state == TaskState::Completed { code } else { code.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(state: TaskState, exit_code: Option<u32>, signal: Option<u32>) -> TaskView {
        TaskView {
            index: 0,
            state,
            attempt: 1,
            preempted: 0,
            shares: vec![],
            placed_at_us: None,
            started_at_us: None,
            finished_at_us: None,
            time_limit_s: None,
            exit_code,
            signal,
            reason: String::new(),
            end: None,
            cpu_time_us: 0,
            memory_peak_bytes: 0,
            stdout_path: String::new(),
            stderr_path: String::new(),
        }
    }

    #[test]
    fn a_task_ends_as_a_shell_would_say() {
        for (task, code) in [
            (task(TaskState::Completed, Some(0), None), 0),
            (task(TaskState::Failed, Some(3), None), 3),
            (task(TaskState::Failed, Some(300), None), 255),
            (task(TaskState::Failed, None, Some(9)), 137),
            (task(TaskState::TimedOut, Some(0), None), 1),
            (task(TaskState::TimedOut, None, Some(15)), 143),
            (task(TaskState::Cancelled, None, None), 1),
            (task(TaskState::NodeFailed, None, None), 1),
        ] {
            assert_eq!(task_code(&task), code, "{task:?}");
        }
    }
}
