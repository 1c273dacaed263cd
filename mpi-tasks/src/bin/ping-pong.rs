//! Latency and bandwidth between the first and the last rank.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mpi::point_to_point as p2p;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use muster_mpi_tasks::report::{self, Document};
use muster_mpi_tasks::{checks, comm, launch};
use serde::Serialize;

/// Measure latency and bandwidth by message size between rank 0 and the last rank, and verify every byte.
///
/// With one rank it sends to itself. Exit codes: 0 all data arrived unchanged; 1 some did not; 2 wrong command
/// line.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of one line.
    #[arg(long)]
    json: bool,
    /// Round trips that are measured for each size.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    iterations: u32,
    /// Round trips for each size before measuring.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warmup: u32,
    /// Largest message in bytes; sizes go up from 1 by factors of four.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 28))]
    max_bytes: u32,
}

/// What was measured for one size.
#[derive(Serialize)]
struct Size {
    bytes: usize,
    /// Half a round trip, in microseconds.
    latency_us: f64,
    /// Bytes of one direction over half a round trip, in units of 10^6 bytes per second.
    megabytes_per_s: f64,
    wrong_bytes: usize,
}

#[derive(Serialize)]
struct Found {
    from_host: String,
    to_host: String,
    iterations: u32,
    size: Vec<Size>,
}

/// One round trip as rank 0 sees it; the answer is in `buffer`, its first byte raised by the partner and again
/// here, so that the next round sends something new.
fn bounce(world: &SimpleCommunicator, buffer: &mut Vec<u8>, answer: &mut Vec<u8>) {
    let last = world.size() - 1;
    let partner = world.process_at_rank(last);
    if last == 0 {
        p2p::send_receive_into(&buffer[..], &partner, &mut answer[..], &partner);
        answer[0] = answer[0].wrapping_add(1);
    } else {
        partner.send(&buffer[..]);
        partner.receive_into(&mut answer[..]);
    }
    answer[0] = answer[0].wrapping_add(1);
    std::mem::swap(buffer, answer);
}

/// Rank 0's part for one size.
fn measure(world: &SimpleCommunicator, options: &Options, bytes: usize) -> Size {
    let mut buffer = checks::message(bytes);
    let mut answer = vec![0; bytes];
    for _ in 0..options.warmup {
        bounce(world, &mut buffer, &mut answer);
    }
    let start = Instant::now();
    for _ in 0..options.iterations {
        bounce(world, &mut buffer, &mut answer);
    }
    let one_way_s = start.elapsed().as_secs_f64() / f64::from(options.iterations) / 2.0;
    // Each round trip carries what the one before brought, so one look at the end verifies them all.
    let bounces = 2 * (options.iterations + options.warmup) as usize;
    Size {
        bytes,
        latency_us: one_way_s * 1e6,
        megabytes_per_s: bytes as f64 / one_way_s / 1e6,
        wrong_bytes: checks::wrong_bytes(&buffer, bounces),
    }
}

/// The last rank's part for one size.
fn answer(world: &SimpleCommunicator, options: &Options, bytes: usize) {
    let first = world.process_at_rank(0);
    let mut buffer = vec![0_u8; bytes];
    for _ in 0..options.iterations + options.warmup {
        first.receive_into(&mut buffer[..]);
        buffer[0] = buffer[0].wrapping_add(1);
        first.send(&buffer[..]);
    }
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (_universe, world) = comm::start();
    let (rank, ranks) = (comm::index(world.rank()), comm::index(world.size()));
    let hosts = comm::gather_texts(&world, &report::host());
    let largest = options.max_bytes as usize;
    let sizes =
        std::iter::successors(Some(1_usize), |size| Some(size * 4)).take_while(|size| *size <= largest);
    let mut measured = Vec::new();
    for bytes in sizes {
        if rank == 0 {
            measured.push(measure(&world, &options, bytes));
        } else if rank == ranks - 1 {
            answer(&world, &options, bytes);
        }
    }
    // The ranks between the two have nothing to do, and must not disturb the measurement by spinning.
    comm::wait_politely(&world);
    let Some(hosts) = hosts else { return ExitCode::SUCCESS };
    let wrong: usize = measured.iter().map(|size| size.wrong_bytes).sum();
    let (small, large) = (measured.first(), measured.last());
    let text = match (small, large) {
        (Some(small), Some(large)) => format!(
            "rank 0 ({}) and rank {} ({}): {:.2} us at 1 B, {:.0} MB/s at {}, {wrong} wrong bytes",
            hosts[0],
            ranks - 1,
            hosts[ranks - 1],
            small.latency_us,
            large.megabytes_per_s,
            report::bytes(large.bytes),
        ),
        _ => "no size measured".to_owned(),
    };
    Document {
        program: "ping-pong",
        mpi_library: comm::library(),
        ranks,
        passed: wrong == 0 && !measured.is_empty(),
        found: Found {
            from_host: hosts[0].clone(),
            to_host: hosts[ranks - 1].clone(),
            iterations: options.iterations,
            size: measured,
        },
    }
    .tell(options.json, &text)
}
