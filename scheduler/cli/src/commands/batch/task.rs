//! `muster batch task`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use muster_batch::query::encode;
use muster_batch_client::Service;
use serde_json::{Value, json};

use super::listing::{Column, ListArgs, at, lines, print_list, when};
use super::{Common, body, constrain, duration, gone, job, set, setting, settings, told};
use crate::error::CliError;
use crate::table::Side::{Left, Right};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a task to a job
    Add(AddArgs),
    /// Show all about a task
    Show {
        /// The job
        job: String,
        /// The task
        task: String,
    },
    /// List the tasks of a job
    #[command(after_help = "Examples:\n  muster batch task list film --failed\n  \
        muster batch task list film --state running --limit 20\n  \
        muster batch task list film --filter 'executionInfo/exitCode gt 1' --json")]
    List {
        /// The job
        job: String,
        /// Only those in this state: active, preparing, running or completed
        #[arg(long)]
        state: Option<String>,
        /// Only those that have failed
        #[arg(long)]
        failed: bool,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the parts of a task on several nodes, but for its first
    Parts {
        /// The job
        job: String,
        /// The task
        task: String,
    },
    /// Say why a task waits, or what it does
    #[command(
        after_help = "Examples:\n  muster batch task why film 7\n  muster batch task why film 7 --json"
    )]
    Why {
        /// The job
        job: String,
        /// The task
        task: String,
    },
    /// Say which nodes, cores and devices a task has or had, and where its ranks are
    Placement {
        /// The job
        job: String,
        /// The task
        task: String,
    },
    /// Print a task's output
    #[command(
        after_help = "Examples:\n  muster batch task logs film 7             what it has written so far\n  \
        muster batch task logs film 7 --follow    as it comes, also if it has not started yet\n  \
        muster batch task logs film 7 --stderr\n\n\
        With --follow it ends when the task has completed; a task that is tried again is followed from its beginning."
    )]
    Logs {
        /// The job
        job: String,
        /// The task
        task: String,
        /// Go on until the task has completed and all is printed
        #[arg(short, long)]
        follow: bool,
        /// The standard error instead of the standard output
        #[arg(long)]
        stderr: bool,
    },
    /// End tasks
    Terminate {
        /// The job
        job: String,
        /// Tasks
        #[arg(value_name = "TASK", required = true)]
        tasks: Vec<String>,
    },
    /// Delete tasks with their files
    Delete {
        /// The job
        job: String,
        /// Tasks
        #[arg(value_name = "TASK", required = true)]
        tasks: Vec<String>,
    },
    /// Let failed tasks run again
    #[command(after_help = "Examples:\n  muster batch task reactivate film 7 9\n  \
        muster batch task reactivate film --all-failed")]
    Reactivate {
        /// The job
        job: String,
        /// Tasks
        #[arg(value_name = "TASK", required_unless_present = "all_failed")]
        tasks: Vec<String>,
        /// All that have failed
        #[arg(long, conflicts_with = "tasks")]
        all_failed: bool,
    },
}

/// Arguments of `muster batch task add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch task add film f1 -- blender -b scene.blend -f 1\n  \
        muster batch task add film all --after f1 --after f2 -- /bin/sh -c 'cat *.png > all'\n  \
        muster batch task add flow mpi --instances 2 -- mpirun ./flow\n  \
        muster batch task add film --json-file task.json   whatever the protocol has")]
pub(crate) struct AddArgs {
    /// The job
    job: String,
    /// The task
    task: Option<String>,
    /// A program with its arguments; no shell reads them
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// A variable
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = setting)]
    environment: Vec<(String, String)>,
    /// Slots of its node that it takes
    #[arg(long, value_name = "COUNT")]
    slots: Option<u32>,
    /// How often it is tried again after a failure; -1 for ever
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    retries: Option<i32>,
    /// How long it may run (minutes, or H:MM:SS)
    #[arg(long, value_parser = duration)]
    time: Option<String>,
    /// It starts when this task has succeeded
    #[arg(long, value_name = "TASK")]
    after: Vec<String>,
    /// It runs on so many nodes at once
    #[arg(long, value_name = "COUNT")]
    instances: Option<u32>,
    /// What runs on each of them before
    #[arg(long, value_name = "COMMAND", requires = "instances", default_value = "/bin/true")]
    coordination: String,
    /// The task as the protocol has it; options have the last word
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
}

/// The tasks that have failed.
pub(super) const FAILED: &str = "executionInfo/result eq 'failure'";

const TASKS: [Column; 7] = [
    ("TASK", Left, |task| at(task, "id")),
    ("STATE", Left, |task| at(task, "state")),
    ("RESULT", Left, |task| at(task, "executionInfo/result")),
    ("EXIT", Right, |task| at(task, "executionInfo/exitCode")),
    ("NODE", Left, |task| at(task, "nodeInfo/nodeId")),
    ("ENDED", Left, |task| when(task, "executionInfo/endTime")),
    ("REASON", Left, |task| at(task, "executionInfo/failureInfo/code")),
];

const PARTS: [Column; 4] = [
    ("PART", Right, |part| at(part, "id")),
    ("STATE", Left, |part| at(part, "state")),
    ("RESULT", Left, |part| at(part, "result")),
    ("NODE", Left, |part| at(part, "nodeInfo/nodeId")),
];

pub(super) fn path(job: &str, task: &str) -> String {
    format!("{}/tasks/{}", job::path(job), encode(task))
}

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, CliError> {
    let service = common.connect()?;
    match command {
        Command::Add(args) => {
            let body = addition(args)?;
            let (job, id) = (&args.job, at(&body, "id"));
            service.post(&format!("{}/tasks", job::path(job)), &body)?;
            common.done(&format!("task {id} is added to job {job}"), || service.get(&path(job, &id)))
        }
        Command::Show { job, task } => common.show(&service.get(&path(job, task))?, describe),
        Command::List { job, state, failed, list } => {
            let mut more: Vec<String> = Vec::new();
            more.extend(state.as_ref().map(|state| format!("state eq '{}'", state.replace('\'', "''"))));
            more.extend(failed.then(|| FAILED.to_owned()));
            let tasks = format!("{}/tasks", job::path(job));
            print_list(common, &service, &tasks, "tasks", &list.listing(&more), &TASKS)
        }
        Command::Parts { job, task } => {
            let parts = format!("{}/subtasksinfo", path(job, task));
            print_list(common, &service, &parts, "parts", &ListArgs::default().listing(&[]), &PARTS)
        }
        Command::Why { job, task } => told::why(common, &service, &path(job, task)),
        Command::Placement { job, task } => told::placement(common, &service, &path(job, task)),
        Command::Logs { job, task, follow, stderr } => {
            told::logs(service, &path(job, task), if *stderr { "stderr" } else { "stdout" }, *follow)
        }
        Command::Terminate { job, tasks } => {
            post_each(&service, job, tasks, "terminate")?;
            common.done(&format!("ended: {}", tasks.join(" ")), || each(&service, job, tasks))
        }
        Command::Delete { job, tasks } => {
            tasks.iter().try_for_each(|task| service.delete(&path(job, task), false))?;
            common.done(&format!("deleted: {}", tasks.join(" ")), || {
                Ok(tasks.iter().map(|task| gone("task", task)).collect())
            })
        }
        Command::Reactivate { job, tasks, all_failed } => {
            let tasks = match all_failed {
                true => failed_tasks(&service, job)?,
                false => tasks.clone(),
            };
            post_each(&service, job, &tasks, "reactivate")?;
            common.done(&format!("reactivated: {}", tasks.join(" ")), || each(&service, job, &tasks))
        }
    }
}

/// The ids of the tasks that have failed.
fn failed_tasks(service: &Service, job: &str) -> Result<Vec<String>, CliError> {
    let mut listing = ListArgs::default().listing(&[FAILED.to_owned()]);
    listing.select = Some("id".to_owned());
    let rows = service.list(&format!("{}/tasks", job::path(job)), &listing, &[])?;
    Ok(rows.iter().map(|row| at(row, "id")).collect())
}

fn post_each(service: &Service, job: &str, tasks: &[String], action: &str) -> Result<(), CliError> {
    for task in tasks {
        service.post(&format!("{}/{action}", path(job, task)), &json!({}))?;
    }
    Ok(())
}

fn each(
    service: &Service,
    job: &str,
    tasks: &[String],
) -> Result<Value, muster_batch_client::BatchClientError> {
    tasks.iter().map(|task| service.get(&path(job, task))).collect()
}

fn addition(args: &AddArgs) -> Result<Value, CliError> {
    let AddArgs {
        job: _,
        task,
        command,
        environment,
        slots,
        retries,
        time,
        after,
        instances,
        coordination,
        json_file,
    } = args;
    let mut body = body(json_file.as_ref())?;
    set(&mut body, "id", task.clone());
    if !command.is_empty() {
        body["commandLine"] = muster_batch_client::jobfile::command_line(command).into();
    }
    set(&mut body, "requiredSlots", *slots);
    constrain(&mut body, *retries, time.as_ref());
    if !environment.is_empty() {
        body["environmentSettings"] = settings(environment);
    }
    if !after.is_empty() {
        body["dependsOn"] = json!({ "taskIds": after });
    }
    if let Some(instances) = instances {
        body["multiInstanceSettings"] =
            json!({ "numberOfInstances": instances, "coordinationCommandLine": coordination });
    }
    if body["id"].is_null() || body["commandLine"].is_null() {
        let right = "a task needs its name and a command after --, or --json-file with both";
        return Err(CliError::BatchUsage(right));
    }
    Ok(body)
}

fn describe(task: &Value) -> String {
    let failure = match at(task, "executionInfo/failureInfo/message") {
        message if message.is_empty() => at(task, "executionInfo/failureInfo/code"),
        message => format!("{message} ({})", at(task, "executionInfo/failureInfo/code")),
    };
    let nonzero = |path: &str| Some(at(task, path)).filter(|count| count != "0").unwrap_or_default();
    lines(&[
        ("Task", at(task, "id")),
        ("State", at(task, "state")),
        ("Result", at(task, "executionInfo/result")),
        ("Exit code", at(task, "executionInfo/exitCode")),
        ("Failure", failure),
        ("Command", at(task, "commandLine")),
        ("Node", at(task, "nodeInfo/nodeId")),
        ("Instances", at(task, "multiInstanceSettings/numberOfInstances")),
        ("Folder", at(task, "nodeInfo/taskRootDirectory")),
        ("Retried", nonzero("executionInfo/retryCount")),
        ("Requeued", nonzero("executionInfo/requeueCount")),
        ("Added", when(task, "creationTime")),
        ("Started", when(task, "executionInfo/startTime")),
        ("Ended", when(task, "executionInfo/endTime")),
    ])
}
