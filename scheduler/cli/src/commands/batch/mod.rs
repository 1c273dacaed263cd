//! `muster batch`: the batch service for people who write no program. What is printed as JSON is the protocol's own.

mod app;
mod events;
mod file;
mod job;
mod listing;
mod place;
mod pool;
mod progress;
mod submit;
mod task;
mod told;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use muster_batch_client::{AccountSource, Service};
use serde_json::Value;

use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};

/// Arguments of `muster batch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster batch pool create farm --class main --nodes 4 --slots 8\n  \
    muster batch job submit film.toml --dry-run      the tasks that a job file stands for\n  \
    muster batch job submit film.toml --download .   submits, waits, and brings the results here\n  \
    muster batch task list film --failed\n  muster batch file cat film/7/stderr.txt\n  \
    muster batch task why film 7                     why it waits\n  \
    muster batch events --job film --follow          what happens, as it comes\n\n\
    Whom and as whom it asks is taken from the options, else from AZURE_BATCH_ACCOUNT, AZURE_BATCH_ENDPOINT and\n\
    AZURE_BATCH_KEY_FILE (or AZURE_BATCH_ACCESS_KEY, the key itself), else from ~/.config/muster/batch.toml, which\n\
    nobody else may read:\n\n    account = \"lab\"\n    endpoint = \"https://head:8443\"\n    key_file = \"lab.key\"")]
pub struct BatchArgs {
    /// What it is about.
    #[command(subcommand)]
    subject: Subject,
    #[command(flatten)]
    common: Common,
}

/// What all of these commands take.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// The account of the batch service
    #[arg(long, global = true, value_name = "NAME")]
    account: Option<String>,
    /// The address of the batch service, such as https://head:8443
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// The file with the account's key, which nobody else may read
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted beside the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Print JSON, as the protocol has it
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Pools: create, show, list, resize, scale, delete them
    #[command(subcommand)]
    Pool(pool::Command),
    /// Jobs: submit job files, create, show, list, wait for, end, delete them
    #[command(subcommand)]
    Job(job::Command),
    /// Tasks: add, show, list, end, delete, reactivate them, ask why they wait, read their output
    #[command(subcommand)]
    Task(task::Command),
    /// Files of tasks and of the store: list, print, copy, remove them
    #[command(subcommand)]
    File(file::Command),
    /// Application packages: add, list, show, remove them
    #[command(subcommand)]
    App(app::Command),
    /// What happened of late: pools, tasks and chores; with --follow what happens, as it comes
    Events(events::EventsArgs),
    /// Print the OpenAPI document of all that the service answers
    Openapi,
}

pub(crate) fn run(args: &BatchArgs) -> Result<ExitCode, CliError> {
    match &args.subject {
        Subject::Pool(command) => pool::run(command, &args.common),
        Subject::Job(command) => job::run(command, &args.common),
        Subject::Task(command) => task::run(command, &args.common),
        Subject::File(command) => file::run(command, &args.common),
        Subject::Events(events) => events::run(events, &args.common),
        Subject::Openapi => {
            print_json(&args.common.connect()?.document()?)?;
            Ok(Exit::Ok.into())
        }
        Subject::App(command) => app::run(command, &args.common),
    }
}

impl Common {
    fn connect(&self) -> Result<Service, CliError> {
        let source = AccountSource {
            account: self.account.clone(),
            endpoint: self.endpoint.clone(),
            key_file: self.key_file.clone(),
            ca_file: self.ca_file.clone(),
        };
        Ok(Service::new(source.find()?)?)
    }

    /// Says what was done: a sentence for people, and for programs the thing as it is now.
    fn done(
        &self,
        sentence: &str,
        now: impl FnOnce() -> Result<Value, muster_batch_client::BatchClientError>,
    ) -> Result<ExitCode, CliError> {
        if self.json {
            print_json(&now()?)?;
        } else {
            print(&format!("{sentence}\n"))?;
        }
        Ok(Exit::Ok.into())
    }

    /// Shows a thing.
    fn show(&self, thing: &Value, lines: impl FnOnce(&Value) -> String) -> Result<ExitCode, CliError> {
        if self.json {
            print_json(thing)?;
        } else {
            print(&lines(thing))?;
        }
        Ok(Exit::Ok.into())
    }
}

/// A thing that is no more.
fn gone(kind: &str, id: &str) -> Value {
    serde_json::json!({ kind: id, "deleted": true })
}

/// A body that a file holds as JSON, or an empty one.
fn body(file: Option<&PathBuf>) -> Result<Value, CliError> {
    let Some(path) = file else { return Ok(serde_json::json!({})) };
    let failed = |source| CliError::File { action: "read", path: path.clone(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text)
        .map_err(|error| failed(std::io::Error::other(format!("it is no JSON: {error}"))))
}

/// Sets a property that an option says.
fn set<T: Into<Value>>(body: &mut Value, name: &str, value: Option<T>) {
    if let Some(value) = value {
        body[name] = value.into();
    }
}

/// Sets what a job or a task may take.
fn constrain(body: &mut Value, retries: Option<i32>, time: Option<&String>) {
    if retries.is_some() || time.is_some() {
        let mut constraints = body["constraints"].take();
        set(&mut constraints, "maxTaskRetryCount", retries);
        set(&mut constraints, "maxWallClockTime", time.cloned());
        body["constraints"] = constraints;
    }
}

/// Reads `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Variables as the protocol has them.
fn settings(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, value)| serde_json::json!({ "name": name, "value": value })).collect()
}

/// Reads a time such as `90`, `1:30:00` or `2-0` into the protocol's notation.
fn duration(text: &str) -> Result<String, String> {
    muster_core::notation::parse_time_s(text)
        .map(muster_batch_client::format_duration)
        .map_err(|error| error.to_string())
}
