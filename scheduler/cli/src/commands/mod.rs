//! One file for each command.

pub mod attach;
pub mod batch;
pub mod cancel;
pub(crate) mod config;
pub mod cron;
pub mod files;
pub(crate) mod generate;
pub(crate) mod help;
pub mod hold;
pub mod layout;
pub mod licenses;
pub mod logs;
pub mod migrate;
pub mod node;
pub mod nodes;
pub(crate) mod ping;
pub mod pools;
pub mod priority;
pub mod queue;
pub mod reach;
pub mod reservation;
pub mod run;
pub mod shares;
pub mod show;
pub mod steps;
pub mod submit;
pub mod update;
pub mod wait;
pub(crate) mod why;

use muster_client::{Client, Options, default_sockets};
use muster_core::ids::JobRef;

use crate::error::CliError;

/// The controller that the environment names.
fn connect() -> Result<Client, CliError> {
    Ok(Client::connect_with(Options::of(default_sockets()))?)
}

/// A job or task, or a step of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    job: JobRef,
    step: Option<u32>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            None => self.job.fmt(f),
            Some(step) => write!(f, "{}.{step}", self.job),
        }
    }
}

/// Reads job ids, and those of steps.
fn targets(texts: &[String]) -> Result<Vec<Target>, CliError> {
    let read = |text: &String| {
        let step = text.rsplit_once('.').and_then(|(job, step)| Some((job, step.parse().ok()?)));
        match step {
            Some((job, step)) => Ok(Target { job: job.parse()?, step: Some(step) }),
            None => Ok(Target { job: text.parse()?, step: None }),
        }
    };
    texts.iter().map(read).collect()
}

/// Reads job ids.
fn job_refs(texts: &[String]) -> Result<Vec<JobRef>, CliError> {
    texts.iter().map(|text| Ok(text.parse::<JobRef>()?)).collect()
}
