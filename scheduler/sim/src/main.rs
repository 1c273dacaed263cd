//! Runs the engine against faults, seed after seed.

use std::process::ExitCode;

use clap::Parser;
use muster_sim::{WorldOptions, run};

/// Runs the engine against simulated faults in virtual time, seed after seed, and stops at the first broken
/// promise.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  muster-sim --seeds 1000\n  muster-sim --first 4711 --seeds 1   repeat one run"
)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Nodes of each world.
    #[arg(long, default_value_t = 6)]
    nodes: u32,
    /// Steps of half a virtual second with faults.
    #[arg(long, default_value_t = 400)]
    steps: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (mut jobs, mut started, mut faults, mut records) = (0, 0, 0, 0);
    for seed in options.first..options.first + options.seeds {
        let world = WorldOptions {
            seed,
            nodes: options.nodes.max(1),
            stormy_steps: options.steps,
            calm_steps_max: 20_000,
        };
        match run(world) {
            Ok(outcome) => {
                jobs += outcome.jobs;
                started += outcome.started;
                faults += outcome.faults;
                records += outcome.records;
            }
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                eprintln!("repeat it with: muster-sim --first {seed} --seeds 1 --nodes {}", options.nodes);
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{} worlds, {jobs} jobs, {started} starts, {faults} faults, {records} records: every promise kept",
        options.seeds
    );
    ExitCode::SUCCESS
}
