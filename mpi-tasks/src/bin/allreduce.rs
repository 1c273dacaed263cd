//! Sums over all ranks, checked against the closed form.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mpi::collective::SystemOperation;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use muster_mpi_tasks::report::Document;
use muster_mpi_tasks::{checks, comm, launch};
use serde::Serialize;

/// Sum vectors of growing size over all ranks; every rank checks every element.
///
/// Exit codes: 0 all sums are exact; 1 some are not; 2 wrong command line.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of one line.
    #[arg(long)]
    json: bool,
    /// Sums that are measured for each size.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Largest number of elements of 8 bytes; sizes go up from 1 by factors of eight.
    #[arg(long, value_name = "N", default_value_t = 1 << 18, value_parser = clap::value_parser!(u32).range(1..=1 << 27))]
    max_elements: u32,
}

/// What was measured for one size.
#[derive(Serialize)]
struct Size {
    elements: usize,
    /// Mean time of one sum on the slowest rank, in microseconds.
    time_us: f64,
    /// Wrong elements over all ranks and iterations.
    wrong_elements: u64,
}

#[derive(Serialize)]
struct Found {
    iterations: u32,
    size: Vec<Size>,
}

fn measure(world: &SimpleCommunicator, iterations: u32, elements: usize) -> Size {
    let (rank, ranks) = (comm::index(world.rank()), comm::index(world.size()));
    let own: Vec<f64> = (0..elements).map(|index| checks::summand(rank, index)).collect();
    let mut sums = vec![0.0; elements];
    let mut wrong = 0_u64;
    let mut spent_s = 0.0;
    for _ in 0..iterations {
        // What an earlier sum left must not pass for this one's result.
        sums.fill(f64::NAN);
        let start = Instant::now();
        world.all_reduce_into(&own[..], &mut sums[..], SystemOperation::sum());
        spent_s += start.elapsed().as_secs_f64();
        let is_wrong =
            |(index, sum): (usize, &f64)| sum.to_bits() != checks::expected_sum(ranks, index).to_bits();
        wrong += sums.iter().enumerate().filter(|&element| is_wrong(element)).count() as u64;
    }
    let mut slowest_s = 0.0;
    let mut wrong_elements = 0;
    world.all_reduce_into(&spent_s, &mut slowest_s, SystemOperation::max());
    world.all_reduce_into(&wrong, &mut wrong_elements, SystemOperation::sum());
    Size { elements, time_us: slowest_s / f64::from(iterations) * 1e6, wrong_elements }
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (_universe, world) = comm::start();
    let largest = options.max_elements as usize;
    let size: Vec<Size> = std::iter::successors(Some(1_usize), |size| Some(size * 8))
        .take_while(|size| *size <= largest)
        .map(|elements| measure(&world, options.iterations, elements))
        .collect();
    if world.rank() != 0 {
        return ExitCode::SUCCESS;
    }
    let ranks = comm::index(world.size());
    let wrong: u64 = size.iter().map(|size| size.wrong_elements).sum();
    let largest = size.last().map_or((0, 0.0), |size| (size.elements, size.time_us));
    let text = format!(
        "{ranks} ranks, {} sizes up to {} elements ({:.0} us a sum), {wrong} wrong sums",
        size.len(),
        largest.0,
        largest.1
    );
    Document {
        program: "allreduce",
        mpi_library: comm::library(),
        ranks,
        passed: wrong == 0,
        found: Found { iterations: options.iterations, size },
    }
    .tell(options.json, &text)
}
