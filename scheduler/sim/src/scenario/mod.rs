//! Scenarios: a cluster, what happens to it, and what is expected, told in a text file.
//!
//! ```text
//! nodes n[1-2] cores=4                    the cluster comes first
//! pool main order=fcfs backfill=easy
//!
//! submit A nodes=2 time=1:00:00           then what happens
//! submit B ranks=2 time=2:00:00
//! why B
//! after 1:00:00
//! expect B runs on n1
//! ```
//!
//! A run gives a transcript: every line of the file with what the engine decided because of it.
//! `docs/simulator.md` describes all lines.

mod ask;
mod narrate;
mod parse;
mod settings;
mod sharing;
mod world;

use std::path::Path;

pub use self::parse::{LINES_MAX, ScenarioError};
use crate::SimError;

/// Runs the scenario of a file and gives its transcript.
///
/// # Errors
/// [`SimError::Read`], or [`SimError::Scenario`] with the line that cannot be read or whose expectation failed.
pub fn run_file(path: &Path) -> Result<String, SimError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SimError::Read { path: path.to_owned(), source })?;
    run(&text).map_err(|source| SimError::Scenario { path: path.to_owned(), source })
}

/// Runs a scenario and gives its transcript.
///
/// # Errors
/// [`ScenarioError`], with the line.
pub fn run(text: &str) -> Result<String, ScenarioError> {
    let lines = parse::lines(text)?;
    let setup = lines.iter().position(|line| !line.is_setup()).unwrap_or(lines.len());
    let mut world = world::World::new(settings::cluster(&lines[..setup])?)?;
    let mut steps = lines[setup..].iter().peekable();
    for (i, raw) in text.lines().enumerate() {
        world.echo(raw);
        if let Some(step) = steps.next_if(|step| step.number == i + 1) {
            world.step(step)?;
        }
    }
    Ok(world.into_transcript())
}

#[cfg(test)]
mod tests;
