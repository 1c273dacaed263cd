//! `muster-sim`: the production engine in virtual time.

mod alloc;
mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static HEAP: alloc::Counted = alloc::Counted;

/// Runs the production scheduler in virtual time: against traces of real sites, against scale, and against faults.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(commands::replay::ReplayArgs),
    Scale(commands::scale::ScaleArgs),
    Scenario(commands::scenario::ScenarioArgs),
    FromCluster(commands::from_cluster::FromClusterArgs),
    Faults(commands::faults::FaultsArgs),
    Launch(commands::launch::LaunchArgs),
}

fn main() -> ExitCode {
    let outcome = match Options::parse().command {
        Command::Replay(args) => commands::replay::run(&args),
        Command::Scale(args) => commands::scale::run(&args),
        Command::Scenario(args) => commands::scenario::run(&args),
        Command::FromCluster(args) => commands::from_cluster::run(&args),
        Command::Faults(args) => commands::faults::run(&args),
        Command::Launch(args) => commands::launch::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("muster-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
