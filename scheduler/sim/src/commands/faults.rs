//! `muster-sim faults`

use std::process::ExitCode;

use clap::Args;
use muster_sim::faults::{Mishaps, WorldOptions, run as run_world};

/// Run the engine against crashes, reboots, cut links, and late, doubled and reordered messages, seed after seed, up to the first broken promise
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
    let (mut jobs, mut started, mut preempted, mut faults, mut records) = (0, 0, 0, 0, 0);
    let mut messages = Mishaps::default();
    for seed in args.seed..args.seed.saturating_add(seeds) {
        let world =
            WorldOptions { seed, nodes: args.nodes, stormy_steps: args.steps, calm_steps_max: 20_000 };
        match run_world(world) {
            Ok(outcome) => {
                jobs += outcome.jobs;
                started += outcome.started;
                preempted += outcome.preempted;
                faults += outcome.faults;
                records += outcome.records;
                messages.delayed += outcome.messages.delayed;
                messages.doubled += outcome.messages.doubled;
                messages.reordered += outcome.messages.reordered;
                messages.lost += outcome.messages.lost;
            }
            Err(violation) => {
                eprintln!("seed {seed}: {:#}", anyhow::Error::from(violation));
                eprintln!(
                    "repeat it with: muster-sim faults --seed {seed} --seeds 1 --nodes {} --steps {}",
                    args.nodes, args.steps
                );
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    println!(
        "{seeds} worlds, {jobs} jobs, {started} starts, {preempted} preempted, {records} events; {faults} crashes, reboots and cut links; messages: \
         {} lost, {} doubled, {} reordered, {} delays: every promise kept",
        messages.lost, messages.doubled, messages.reordered, messages.delayed
    );
    Ok(ExitCode::SUCCESS)
}
