//! `muster signal` and `muster requeue`: what reaches tasks that run.

use std::process::ExitCode;

use muster_client::api::{ReachedAnswer, SCHEMA};
use muster_client::{Client, ClientError};
use muster_core::spec::SignalTo;

use super::{Target, connect, job_refs, targets};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::submit::signal_number;

/// Arguments of `muster signal`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster signal USR1 12           to what the script of job 12 has started: its ranks and programs\n  \
    muster signal USR1 12 --script   to the script's own shell\n  muster signal 10 14_3 --all      to both, of task 3 of array 14\n  \
    muster signal USR1 12.0          to the ranks of step 0 of job 12"
)]
pub struct SignalArgs {
    /// The signal, such as USR1, SIGUSR1 or 10
    #[arg(value_name = "SIGNAL")]
    signal: String,
    /// Jobs (12), tasks of arrays (12_3), and steps of either (12.0)
    #[arg(value_name = "JOB[_TASK][.STEP]", required = true)]
    jobs: Vec<String>,
    /// To the script's own process
    #[arg(long, conflicts_with = "all")]
    script: bool,
    /// To the script and to what it has started
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `muster requeue`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster requeue 12          ends job 12, which then waits for its next attempt\n  \
    muster requeue 14_3        the same of task 3 of array 14\n  muster requeue --hold 12   and holds it"
)]
pub struct RequeueArgs {
    /// Jobs (12) and tasks of arrays (12_3)
    #[arg(value_name = "JOB[_TASK]", required = true)]
    jobs: Vec<String>,
    /// Hold the jobs then
    #[arg(long)]
    hold: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Reached {
    job: String,
    tasks: u64,
}

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    jobs: Vec<Reached>,
}

pub(crate) fn signal(args: &SignalArgs) -> Result<ExitCode, CliError> {
    let number = signal_number(&args.signal).ok_or_else(|| CliError::Signal { word: args.signal.clone() })?;
    let to = match (args.script, args.all) {
        (true, _) => SignalTo::Script,
        (_, true) => SignalTo::All,
        _ => SignalTo::Ranks,
    };
    each("signal", "Signalled", targets(&args.jobs)?, args.json, |client, target| match target.step {
        None => client.signal(target.job, number, to),
        Some(step) => client.signal_step(target.job, step, Some(number)),
    })
}

pub(crate) fn requeue(args: &RequeueArgs) -> Result<ExitCode, CliError> {
    crate::outlive_sigterm();
    let whole = |job| Target { job, step: None };
    let jobs = job_refs(&args.jobs)?.into_iter().map(whole).collect();
    each("requeue", "Put back", jobs, args.json, |client, target| client.requeue(target.job, args.hold))
}

/// Does it to every job, those after one that failed as well.
fn each(
    name: &str,
    done: &str,
    jobs: Vec<Target>,
    json: bool,
    act: impl Fn(&mut Client, Target) -> Result<ReachedAnswer, ClientError>,
) -> Result<ExitCode, CliError> {
    let mut client = connect()?;
    let mut report = Report { schema: SCHEMA, jobs: Vec::new() };
    let mut exit = Exit::Ok;
    for job in jobs {
        match act(&mut client, job) {
            Ok(answer) => report.jobs.push(Reached { job: job.to_string(), tasks: answer.tasks }),
            Err(error) => {
                let failed = Exit::of_client(&error);
                if failed == Exit::Away {
                    return Err(error.into());
                }
                tell(&format!("muster {name}: {error}"));
                exit = if exit == Exit::Ok { failed } else { exit };
            }
        }
    }
    if json {
        print_json(&report)?;
    } else {
        let sentence = |reached: &Reached| match reached.tasks {
            1 => format!("{done} job {}\n", reached.job),
            tasks => format!("{done} job {} ({tasks} tasks)\n", reached.job),
        };
        print(&report.jobs.iter().map(sentence).collect::<String>())?;
    }
    Ok(exit.into())
}
