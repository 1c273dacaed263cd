//! The map half of pi: an independent task without MPI.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use muster_mpi_tasks::launch::{self, EXIT_TROUBLE};
use muster_mpi_tasks::pi::{self, Estimate, MapProgram, MapResult};
use muster_mpi_tasks::report::{self, Document};
use muster_mpi_tasks::{Error, Result};

/// Count random points in the quarter circle and write the counts to a file, for pi-reduce.
///
/// Exit codes: 0 written; 2 wrong command line; 3 the file cannot be written.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of one line.
    #[arg(long)]
    json: bool,
    /// Stream of random points; each task takes its own.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// Points to draw.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 48))]
    samples: u64,
    /// File for the result; it appears complete or not at all.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the result beside its place first, so that a killed task leaves no half file for the reduce.
fn write(path: &PathBuf, result: &MapResult) -> Result<()> {
    let mut text = serde_json::to_string(result).expect("a result holds only what JSON can write");
    text.push('\n');
    let mut name = path.clone().into_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let failed = |source| Error::File { action: "write", path: path.clone(), source };
    fs::write(&part, text).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let start = Instant::now();
    let hits = pi::count_hits(options.seed, options.samples);
    let result = MapResult {
        program: MapProgram::PiMap,
        seed: options.seed,
        samples: options.samples,
        hits,
        seconds: start.elapsed().as_secs_f64(),
        host: report::host(),
    };
    if let Err(error) = write(&options.out, &result) {
        eprintln!("pi-map: {error}");
        return ExitCode::from(EXIT_TROUBLE);
    }
    if options.json {
        println!("{}", serde_json::to_string(&result).expect("a result holds only what JSON can write"));
        return ExitCode::SUCCESS;
    }
    let estimate = Estimate::of(hits, options.samples).map_or(f64::NAN, |estimate| estimate.pi);
    let text =
        format!("seed {}: {hits} hits in {} samples, pi = {estimate:.6}", options.seed, options.samples);
    Document { program: "pi-map", mpi_library: None, ranks: 1, passed: true, found: () }.tell(false, &text)
}
