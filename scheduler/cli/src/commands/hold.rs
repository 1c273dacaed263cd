//! `muster hold` and `muster release`.

use std::process::ExitCode;

use muster_client::api::SCHEMA;
use muster_client::{Client, ClientError};
use muster_core::ids::JobRef;

use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};

/// Arguments of `muster hold`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster hold 12 13   their waiting tasks do not start; what runs goes on\n  \
    muster hold 14_3     the same for one task of an array\n  muster release 12   lets job 12 go again\n\nA job that an admin holds is released by an admin only."
)]
pub struct HoldArgs {
    /// Jobs, or tasks of arrays
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `muster release`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster release 12 13   lets held jobs go; others stay as they are\n  muster release 14_3    lets one task of an array go, be all of it held"
)]
pub struct ReleaseArgs {
    /// Jobs, or tasks of arrays
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    jobs: Vec<String>,
}

pub(crate) fn hold(args: &HoldArgs) -> Result<ExitCode, CliError> {
    each("hold", "Held", &args.jobs, args.json, Client::hold_job)
}

pub(crate) fn release(args: &ReleaseArgs) -> Result<ExitCode, CliError> {
    each("release", "Released", &args.jobs, args.json, Client::release_job)
}

/// Does it to every job, those after one that failed as well.
fn each(
    name: &str,
    done: &str,
    jobs: &[String],
    json: bool,
    act: fn(&mut Client, JobRef) -> Result<(), ClientError>,
) -> Result<ExitCode, CliError> {
    let jobs = job_refs(jobs)?;
    let mut client = connect()?;
    let mut report = Report { schema: SCHEMA, jobs: Vec::new() };
    let mut exit = Exit::Ok;
    for job in jobs {
        match act(&mut client, job) {
            Ok(()) => report.jobs.push(job.to_string()),
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
        print(&report.jobs.iter().map(|job| format!("{done} job {job}\n")).collect::<String>())?;
    }
    Ok(exit.into())
}
