//! `muster cancel`.

use std::process::ExitCode;

use muster_client::api::{JobSummary, SCHEMA, TaskState};
use muster_client::{Client, JobFilter};
use muster_core::ids::{JobId, JobRef};

use super::{Target, connect, targets};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};

/// Arguments of `muster cancel`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster cancel 12 13        two jobs\n  muster cancel 14_3         task 3 of array 14\n  \
    muster cancel 12.0         step 0 of job 12, whose script goes on\n  \
    muster cancel --cron 15    a recurring job, for good\n  muster cancel --name sweep  all your jobs of this name\n  muster cancel --all-mine   all your jobs"
)]
pub struct CancelArgs {
    /// Jobs (12), tasks of arrays (12_3), and steps of either (12.0)
    #[arg(value_name = "JOB[_TASK][.STEP]")]
    jobs: Vec<String>,
    /// Jobs of this name; yours unless --user says otherwise
    #[arg(long, value_name = "NAME", conflicts_with = "jobs")]
    name: Option<String>,
    /// Jobs of this user; of others for admins only
    #[arg(short, long, value_name = "USER", conflicts_with_all = ["jobs", "all_mine"])]
    user: Option<String>,
    /// All your jobs
    #[arg(long, visible_alias = "me", conflicts_with = "jobs")]
    all_mine: bool,
    /// Recurring jobs, which do not come again then
    #[arg(long)]
    cron: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Cancelled {
    job: String,
    tasks: u64,
}

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    jobs: Vec<Cancelled>,
}

pub(crate) fn run(args: &CancelArgs) -> Result<ExitCode, CliError> {
    let named = targets(&args.jobs)?;
    if named.is_empty() && args.name.is_none() && args.user.is_none() && !args.all_mine {
        return Err(CliError::NothingToCancel);
    }
    let mut client = connect()?;
    let is_search = named.is_empty();
    let jobs = if is_search { search(&mut client, args)? } else { named };
    let mut report = Report { schema: SCHEMA, jobs: Vec::new() };
    let mut exit = Exit::Ok;
    for job in jobs {
        let done = match job.step {
            None if args.cron => client.stop_cron(job.job).map(|answer| answer.tasks),
            None => client.cancel(job.job).map(|answer| answer.tasks),
            Some(step) => client.signal_step(job.job, step, None).map(|answer| answer.tasks),
        };
        match done {
            Ok(tasks) => report.jobs.push(Cancelled { job: job.to_string(), tasks }),
            Err(error) => {
                let failed = Exit::of_client(&error);
                // A job that ended between the search and now is what was wanted.
                if is_search && failed == Exit::Ended {
                    continue;
                }
                if failed == Exit::Away {
                    return Err(error.into());
                }
                tell(&format!("muster cancel: {error}"));
                exit = if exit == Exit::Ok { failed } else { exit };
            }
        }
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&sentences(&report, is_search))?;
    }
    Ok(exit.into())
}

fn search(client: &mut Client, args: &CancelArgs) -> Result<Vec<Target>, CliError> {
    let user = match &args.user {
        Some(user) => user.clone(),
        None => super::queue::own_name()?,
    };
    let states = vec![TaskState::Waiting, TaskState::Preparing, TaskState::Running, TaskState::Ending];
    let list = client.jobs(&JobFilter { user: Some(user), states, ..JobFilter::default() })?;
    let wanted = list.jobs.iter().filter(|job| args.name.as_ref().is_none_or(|name| *name == job.name));
    let whole = |job: &JobSummary| Target { job: JobRef { job: JobId(job.job), task: None }, step: None };
    Ok(wanted.map(whole).collect())
}

fn sentences(report: &Report, is_search: bool) -> String {
    if report.jobs.is_empty() && is_search {
        return "No such job waits or runs\n".to_owned();
    }
    let sentence = |done: &Cancelled| match done.tasks {
        1 => format!("Cancelled job {}\n", done.job),
        tasks => format!("Cancelled job {} ({tasks} tasks)\n", done.job),
    };
    report.jobs.iter().map(sentence).collect()
}
