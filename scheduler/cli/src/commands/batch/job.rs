//! `muster batch job`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use muster_batch::query::encode;
use serde_json::{Value, json};

use super::listing::{Column, ListArgs, at, lines, print_list, when};
use super::pool::word;
use super::submit::{DownloadArgs, SubmitArgs, download, submit};
use super::wait::{WaitArgs, wait};
use super::{Common, body, constrain, duration, gone, set, setting, settings};
use crate::error::CliError;
use crate::table::Side::{Left, Right};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a job file: a job with its tasks, files and merge (docs/batch-files.md)
    Submit(SubmitArgs),
    /// Make a job, whose tasks are added afterwards
    Create(CreateArgs),
    /// Show all about a job, and how many of its tasks are in which state
    Show {
        /// The job
        #[arg(value_name = "JOB")]
        id: String,
    },
    /// List the jobs
    #[command(after_help = "Examples:\n  muster batch job list --state active\n  \
        muster batch job list --filter \"startswith(id, 'film')\"")]
    List {
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Wait until a job, or all of its tasks, have ended
    Wait(WaitArgs),
    /// Bring the results of a job here that its job file sent to the store
    Download(DownloadArgs),
    /// End a job that goes on once all of its tasks have ended, or end it now
    #[command(after_help = "Examples:\n  muster batch job terminate film --reason 'wrong scene'\n  \
        muster batch job terminate film --when-complete   when all of its tasks have ended")]
    Terminate {
        /// The job
        #[arg(value_name = "JOB")]
        id: String,
        /// What is shown as the reason
        #[arg(long, conflicts_with = "when_complete")]
        reason: Option<String>,
        /// Not before all of its tasks have ended
        #[arg(long)]
        when_complete: bool,
    },
    /// Delete jobs with all of their tasks and their files
    Delete {
        /// Jobs
        #[arg(value_name = "JOB", required = true)]
        ids: Vec<String>,
    },
    /// Let a job's disabled tasks run again
    Enable {
        /// The job
        #[arg(value_name = "JOB")]
        id: String,
    },
    /// Let no more of a job's tasks start
    Disable {
        /// The job
        #[arg(value_name = "JOB")]
        id: String,
        /// What becomes of those that run
        #[arg(long, value_enum, default_value = "requeue")]
        tasks: Running,
    },
}

/// Arguments of `muster batch job create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch job create film --pool farm\n  \
        muster batch job create film --pool farm --priority 100 --env QUALITY=9 --retries 2\n  \
        muster batch job create film --json-file job.json   whatever the protocol has")]
pub(crate) struct CreateArgs {
    /// The job
    #[arg(value_name = "JOB")]
    id: Option<String>,
    /// The pool that its tasks run in
    #[arg(long)]
    pool: Option<String>,
    /// From -1000 to 1000; higher goes first
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// At most so many tasks at once
    #[arg(long, value_name = "COUNT")]
    parallel: Option<u32>,
    /// How often a failed task is tried again; -1 for ever
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    retries: Option<i32>,
    /// After which time the job is ended (minutes, or H:MM:SS)
    #[arg(long, value_parser = duration)]
    time: Option<String>,
    /// A variable of all of its tasks
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = setting)]
    environment: Vec<(String, String)>,
    /// Its tasks may depend on each other
    #[arg(long)]
    dependencies: bool,
    /// The job as the protocol has it; options have the last word
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
}

/// What becomes of tasks that run.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Running {
    Requeue,
    Terminate,
    Wait,
}

const JOBS: [Column; 6] = [
    ("JOB", Left, |job| at(job, "id")),
    ("STATE", Left, |job| at(job, "state")),
    ("POOL", Left, |job| at(job, "executionInfo/poolId")),
    ("PRIORITY", Right, |job| at(job, "priority")),
    ("MADE", Left, |job| when(job, "creationTime")),
    ("REASON", Left, |job| at(job, "executionInfo/terminateReason")),
];

pub(super) fn path(id: &str) -> String {
    format!("/jobs/{}", encode(id))
}

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, CliError> {
    match command {
        // A dry run asks nobody.
        Command::Submit(args) => submit(args, common),
        Command::Create(args) => {
            let body = creation(args)?;
            let (service, id) = (common.connect()?, at(&body, "id"));
            service.post("/jobs", &body)?;
            common.done(&format!("job {id} is made"), || service.get(&path(&id)))
        }
        Command::Show { id } => {
            let service = common.connect()?;
            let mut job = service.get(&path(id))?;
            let counts = service.get(&format!("{}/taskcounts", path(id)))?;
            job["taskCounts"] = counts["taskCounts"].clone();
            common.show(&job, describe)
        }
        Command::List { state, list } => {
            let state = state.as_ref().map(|state| format!("state eq '{}'", state.replace('\'', "''")));
            let listing = list.listing(state.as_slice());
            print_list(common, &common.connect()?, "/jobs", "jobs", &listing, &JOBS)
        }
        Command::Wait(args) => wait(args, common, common.connect()?),
        Command::Download(args) => download(args, common, &common.connect()?),
        Command::Terminate { id, when_complete: true, .. } => {
            let service = common.connect()?;
            service.patch(&path(id), &json!({ "onAllTasksComplete": "terminatejob" }))?;
            common.done(&format!("job {id} ends with its tasks"), || service.get(&path(id)))
        }
        Command::Terminate { id, reason, .. } => {
            let mut body = json!({});
            set(&mut body, "terminateReason", reason.clone());
            act(common, id, "terminate", &body, "is ended")
        }
        Command::Delete { ids } => {
            let service = common.connect()?;
            ids.iter().try_for_each(|id| service.delete(&path(id), false))?;
            common.done(&format!("deleted: {}", ids.join(" ")), || {
                Ok(ids.iter().map(|id| gone("job", id)).collect())
            })
        }
        Command::Enable { id } => act(common, id, "enable", &json!({}), "goes on"),
        Command::Disable { id, tasks } => {
            act(common, id, "disable", &json!({ "disableTasks": word(*tasks) }), "is disabled")
        }
    }
}

/// Does something with a job, and says so.
fn act(common: &Common, id: &str, action: &str, body: &Value, done: &str) -> Result<ExitCode, CliError> {
    let service = common.connect()?;
    service.post(&format!("{}/{action}", path(id)), body)?;
    common.done(&format!("job {id} {done}"), || service.get(&path(id)))
}

fn creation(args: &CreateArgs) -> Result<Value, CliError> {
    let CreateArgs { id, pool, priority, parallel, retries, time, environment, dependencies, json_file } =
        args;
    let mut body = body(json_file.as_ref())?;
    set(&mut body, "id", id.clone());
    if let Some(pool) = pool {
        body["poolInfo"] = json!({ "poolId": pool });
    }
    set(&mut body, "priority", *priority);
    set(&mut body, "maxParallelTasks", *parallel);
    constrain(&mut body, *retries, time.as_ref());
    if !environment.is_empty() {
        body["commonEnvironmentSettings"] = settings(environment);
    }
    if *dependencies {
        body["usesTaskDependencies"] = true.into();
    }
    if body["id"].is_null() || body["poolInfo"].is_null() {
        return Err(CliError::BatchUsage("a job needs its name and --pool, or --json-file with both"));
    }
    Ok(body)
}

fn describe(job: &Value) -> String {
    let count = |name: &str| at(job, &format!("taskCounts/{name}"));
    let counts = format!(
        "{} waiting, {} running, {} succeeded, {} failed",
        count("active"),
        count("running"),
        count("succeeded"),
        count("failed")
    );
    lines(&[
        ("Job", at(job, "id")),
        ("State", at(job, "state")),
        ("Reason", at(job, "executionInfo/terminateReason")),
        ("Pool", at(job, "executionInfo/poolId")),
        ("Priority", at(job, "priority")),
        ("Tasks", counts),
        ("Made", when(job, "creationTime")),
        ("Ended", when(job, "executionInfo/endTime")),
    ])
}
