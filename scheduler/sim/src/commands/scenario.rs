//! `muster-sim scenario`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use muster_sim::scenario::run_file;

/// Run scenarios: what happens to a cluster, told in a text file, and what the scheduler makes of it
#[derive(Debug, Args)]
#[command(after_help = "\
A scenario:
  nodes n[1-2] cores=4
  submit A nodes=2 ranks-per-node=4 time=1:00:00
  submit B ranks=2 time=30:00 run=10:00
  why B
  after 1:00:00
  expect B runs on n1

Examples:
  muster-sim scenario try.scn                  the transcript
  muster-sim scenario scenarios/*.scn --quiet  only whether all expectations hold")]
pub struct ScenarioArgs {
    /// The scenarios
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write no transcript
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the scenarios; fails if one cannot be read or an expectation is not met.
pub fn run(args: &ScenarioArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in &args.files {
        match run_file(file) {
            Ok(transcript) if !args.quiet => print!("{transcript}"),
            Ok(_) => {}
            Err(error) => {
                eprintln!("muster-sim: {:#}", anyhow::Error::new(error));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
