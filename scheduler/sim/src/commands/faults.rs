//! `muster-sim faults`

use std::process::ExitCode;

use clap::Args;
use muster_sim::faults::{WorldOptions, run as run_world};

/// Run the engine against crashes, cut links and reboots, seed after seed, up to the first broken promise
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster-sim faults --seeds 1000       a thousand worlds
  muster-sim faults --seed 4711        repeat one of them")]
pub struct FaultsArgs {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds [default: 1 from a seed above 1, else 100]
    #[arg(long)]
    seeds: Option<u64>,
    /// Nodes of each world
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    nodes: u32,
    /// Steps of half a virtual second with faults
    #[arg(long, default_value_t = 400)]
    steps: u64,
}

/// Runs the worlds.
pub fn run(args: &FaultsArgs) -> anyhow::Result<ExitCode> {
    let seeds = args.seeds.unwrap_or(if args.seed == 1 { 100 } else { 1 });
    let (mut jobs, mut started, mut faults, mut records) = (0, 0, 0, 0);
    for seed in args.seed..args.seed.saturating_add(seeds) {
        let world =
            WorldOptions { seed, nodes: args.nodes, stormy_steps: args.steps, calm_steps_max: 20_000 };
        match run_world(world) {
            Ok(outcome) => {
                jobs += outcome.jobs;
                started += outcome.started;
                faults += outcome.faults;
                records += outcome.records;
            }
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                eprintln!(
                    "repeat it with: muster-sim faults --seed {seed} --seeds 1 --nodes {} --steps {}",
                    args.nodes, args.steps
                );
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    println!(
        "{seeds} worlds, {jobs} jobs, {started} starts, {faults} faults, {records} records: every promise kept"
    );
    Ok(ExitCode::SUCCESS)
}
