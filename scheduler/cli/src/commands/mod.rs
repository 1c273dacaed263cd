//! One file for each command.

pub mod cancel;
pub(crate) mod config;
pub(crate) mod generate;
pub(crate) mod help;
pub mod hold;
pub mod layout;
pub mod licenses;
pub mod logs;
pub mod migrate;
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

/// Reads job ids.
fn job_refs(texts: &[String]) -> Result<Vec<JobRef>, CliError> {
    texts.iter().map(|text| Ok(text.parse::<JobRef>()?)).collect()
}
