//! The reduce half of pi: sums what many map tasks wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use muster_mpi_tasks::launch::{self, EXIT_TROUBLE};
use muster_mpi_tasks::pi::{Estimate, MapResult};
use muster_mpi_tasks::report::Document;
use muster_mpi_tasks::{Error, Result, comm};
use serde::Serialize;

/// Sum the results of pi-map, each rank its share of the files, and check the estimate of pi.
///
/// Exit codes: 0 the estimate is within 5 standard deviations, every file was read and every seed is there once;
/// 1 otherwise; 2 wrong command line; 3 a folder cannot be listed.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of one line.
    #[arg(long)]
    json: bool,
    /// Fail unless there are this many files.
    #[arg(long, value_name = "N")]
    expect_files: Option<usize>,
    /// Results of pi-map, or folders that hold them as *.json; rank 0 lists the folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// The files that the command line names, folders replaced by their `*.json` in the order of names.
fn list(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |source| Error::File { action: "list", path: path.clone(), source };
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            inside.push(entry.map_err(failed)?.path());
        }
        inside.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<MapResult> {
    let text = fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let result: MapResult = serde_json::from_str(&text)
        .map_err(|source| Error::NotAPiResult { path: path.to_owned(), source })?;
    let (hits, samples) = (result.hits, result.samples);
    if samples == 0 || hits > samples {
        return Err(Error::ImpossiblePi { path: path.to_owned(), hits, samples });
    }
    Ok(result)
}

/// One rank's share.
#[derive(Default)]
struct Share {
    hits: u64,
    samples: u64,
    files: u64,
    seeds: Vec<u64>,
    troubles: String,
}

impl Share {
    /// Reads every `ranks`-th file, starting with the one of this rank's number.
    fn of(files: &[PathBuf], rank: usize, ranks: usize) -> Self {
        let mut share = Self::default();
        for path in files.iter().skip(rank).step_by(ranks) {
            match read(path) {
                Ok(result) => {
                    share.hits += result.hits;
                    share.samples += result.samples;
                    share.files += 1;
                    share.seeds.push(result.seed);
                }
                Err(error) => share.troubles += &format!("{error}\n"),
            }
        }
        share
    }
}

#[derive(Serialize)]
struct Found {
    files: usize,
    files_read: u64,
    samples: u64,
    hits: u64,
    #[serde(flatten)]
    estimate: Option<Estimate>,
    repeated_seeds: Vec<u64>,
    troubles: Vec<String>,
}

/// The seeds that occur more than once.
fn repeated(mut seeds: Vec<u64>) -> Vec<u64> {
    seeds.sort_unstable();
    let mut repeated: Vec<u64> =
        seeds.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    repeated.dedup();
    repeated
}

/// Sums one number over all ranks; only rank 0 gets the sum, the others get 0.
fn reduce(world: &SimpleCommunicator, own: u64) -> u64 {
    let root = world.process_at_rank(0);
    let mut sum = 0;
    if world.rank() == 0 {
        root.reduce_into_root(&own, &mut sum, SystemOperation::sum());
    } else {
        root.reduce_into(&own, SystemOperation::sum());
    }
    sum
}

fn tell(options: &Options, ranks: usize, found: Found) -> ExitCode {
    let count_is_right = options.expect_files.is_none_or(|expected| expected == found.files);
    let plausible = found.estimate.is_some_and(|estimate| estimate.is_plausible());
    let passed = count_is_right && plausible && found.troubles.is_empty() && found.repeated_seeds.is_empty();
    let mut text = match found.estimate {
        Some(estimate) => format!(
            "pi = {:.6} ({:.2} of 5 sigma off) from {} samples in {} files on {ranks} ranks",
            estimate.pi, estimate.sigmas_off, found.samples, found.files_read
        ),
        None => "no samples".to_owned(),
    };
    if let Some(expected) = options.expect_files.filter(|_| !count_is_right) {
        text += &format!(", {} files instead of {expected}", found.files);
    }
    if !found.repeated_seeds.is_empty() {
        text += &format!(", seeds counted more than once: {:?}", found.repeated_seeds);
    }
    for trouble in &found.troubles {
        eprintln!("pi-reduce: {trouble}");
    }
    Document { program: "pi-reduce", mpi_library: comm::library(), ranks, passed, found }
        .tell(options.json, &text)
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (_universe, world) = comm::start();
    let (rank, ranks) = (comm::index(world.rank()), comm::index(world.size()));
    // Rank 0 alone looks at the folders, so that a file that appears meanwhile is counted once or not at all.
    let listed = if rank == 0 { list(&options.paths) } else { Ok(Vec::new()) };
    let files = match listed {
        Ok(files) => files,
        Err(error) => {
            eprintln!("pi-reduce: {error}");
            world.abort(i32::from(EXIT_TROUBLE));
        }
    };
    let text = serde_json::to_string(&files).unwrap_or_else(|_| {
        eprintln!("pi-reduce: a file's name is not UTF-8: rename it");
        world.abort(i32::from(EXIT_TROUBLE))
    });
    let text = comm::share_text(&world, &text);
    let files: Vec<PathBuf> = serde_json::from_str(&text).expect("rank 0 wrote this list of names");
    let share = Share::of(&files, rank, ranks);
    let (hits, samples) = (reduce(&world, share.hits), reduce(&world, share.samples));
    let files_read = reduce(&world, share.files);
    let seeds = comm::gather(&world, &share.seeds, 0);
    let troubles = comm::gather_texts(&world, &share.troubles);
    let (Some(seeds), Some(troubles)) = (seeds, troubles) else { return ExitCode::SUCCESS };
    let found = Found {
        files: files.len(),
        files_read,
        samples,
        hits,
        estimate: Estimate::of(hits, samples),
        repeated_seeds: repeated(seeds.concat()),
        troubles: troubles.concat().lines().map(str::to_owned).collect(),
    };
    tell(&options, ranks, found)
}
