//! `muster update`: changes a job that was accepted.

use std::process::ExitCode;

use jiff::Zoned;
use muster_client::api::{JobUpdate, SCHEMA};
use muster_core::notation::parse_time_s;

use super::{connect, job_refs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::submit::{Origin, Said, read_instant};

/// Arguments of `muster update`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster update 12 --time 2:00:00       a waiting job; of one that runs, only an admin raises it\n  \
    muster update 12 --pool big --begin 20:00   where and when it starts, while all of it waits\n  \
    muster update 14 --running-max 20      how many elements of array 14 run at once; 0: as many as fit\n  \
    muster update 12 --dependency ''       it depends on nothing any more"
)]
pub struct UpdateArgs {
    /// The job
    #[arg(value_name = "JOB")]
    job: String,
    /// Its name
    #[arg(long, short = 'J', value_name = "NAME")]
    name: Option<String>,
    /// Its time limit
    #[arg(long, short = 't', value_name = "TIME")]
    time: Option<String>,
    /// Its priority; above 0 for admins only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// By how much its priority is lowered
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    nice: Option<i32>,
    /// What you say about it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Whether its tasks are queued again when a node fails under them
    #[arg(long, value_name = "yes|no", value_parser = ["yes", "no"])]
    requeue: Option<String>,
    /// How many elements of the array run at once; 0: as many as fit
    #[arg(long, value_name = "N")]
    running_max: Option<u32>,
    /// Its pool
    #[arg(long, short = 'p', value_name = "POOL", visible_alias = "partition")]
    pool: Option<String>,
    /// The account that is charged
    #[arg(long, short = 'A', value_name = "ACCOUNT")]
    account: Option<String>,
    /// Its quality of service
    #[arg(long, short = 'q', value_name = "QOS")]
    qos: Option<String>,
    /// The advance reservation whose nodes it uses; '' for none
    #[arg(long, value_name = "NAME")]
    reservation: Option<String>,
    /// The instant before which it does not start
    #[arg(long, short = 'b', value_name = "INSTANT")]
    begin: Option<String>,
    /// What it depends on; '' for nothing
    #[arg(long, short = 'd', value_name = "DEPENDENCY")]
    dependency: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    schema: u32,
    job: String,
}

pub(crate) fn run(args: &UpdateArgs) -> Result<ExitCode, CliError> {
    let job = job_refs(std::slice::from_ref(&args.job))?[0];
    if job.task.is_some() {
        return Err(CliError::WholeJob { job });
    }
    let update = update(args)?;
    if update == JobUpdate::default() {
        return Err(CliError::NothingToUpdate);
    }
    connect()?.update_job(job.job, &update)?;
    if args.json {
        print_json(&Report { schema: SCHEMA, job: job.to_string() })?;
    } else {
        print(&format!("Updated job {job}\n"))?;
    }
    Ok(Exit::Ok.into())
}

fn update(args: &UpdateArgs) -> Result<JobUpdate, CliError> {
    let origin = |option: &str| Origin::CommandLine { option: option.to_owned() };
    let time = |text: &String| {
        parse_time_s(text).map_err(|source| CliError::Notation { origin: origin("--time"), source })
    };
    let begin = |text: &String| {
        let said = Said { value: text.clone(), origin: origin("--begin") };
        read_instant(&said, &Zoned::now()).map(|at| at.0)
    };
    Ok(JobUpdate {
        name: args.name.clone(),
        time_limit_s: args.time.as_ref().map(time).transpose()?,
        priority: args.priority,
        nice: args.nice,
        comment: args.comment.clone(),
        requeue: args.requeue.as_deref().map(|word| word == "yes"),
        running_max: args.running_max,
        pool: args.pool.clone(),
        account: args.account.clone(),
        qos: args.qos.clone(),
        reservation: args.reservation.clone(),
        begin_us: args.begin.as_ref().map(begin).transpose()?,
        dependency: args.dependency.clone(),
        request: None,
    })
}
