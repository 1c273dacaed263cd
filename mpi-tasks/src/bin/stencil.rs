//! The heat equation on a grid that is split over all ranks, compared bit for bit with the serial result.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mpi::request::WaitGuard;
use mpi::topology::{CartesianCommunicator, Rank};
use mpi::traits::*;
use muster_mpi_tasks::grid::Split;
use muster_mpi_tasks::heat::{self, Block, Side};
use muster_mpi_tasks::launch::{self, EXIT_USAGE};
use muster_mpi_tasks::report::Document;
use muster_mpi_tasks::{Error, comm};
use serde::Serialize;

/// Solve the heat equation in two dimensions with an exchange of edges between neighbouring ranks.
///
/// Rank 0 computes the same alone and compares every cell. Exit codes: 0 all cells are equal, bit for bit;
/// 1 some differ; 2 wrong command line, or a grid that cannot be split over so many ranks.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of one line.
    #[arg(long)]
    json: bool,
    /// Columns of the grid.
    #[arg(long, value_name = "N", default_value_t = 256)]
    nx: usize,
    /// Rows of the grid.
    #[arg(long, value_name = "N", default_value_t = 256)]
    ny: usize,
    /// Steps in time.
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: u64,
    /// Steps between two lines of progress on a terminal (0: none; otherwise ten lines in all).
    #[arg(long, value_name = "STEPS")]
    progress_every: Option<u64>,
    /// Only the serial solution, without MPI.
    #[arg(long)]
    serial: bool,
}

impl Options {
    /// Says how far the work is, to people only: a job's log has no use for it.
    fn progress(&self, what: &'static str) -> impl Fn(u64) {
        let every = self.progress_every.unwrap_or_else(|| (self.steps / 10).max(1));
        let wanted = every > 0 && std::io::stderr().is_terminal();
        let steps = self.steps;
        move |step| {
            if wanted && step.is_multiple_of(every) {
                eprintln!("stencil: {what}: step {step} of {steps}");
            }
        }
    }
}

#[derive(Serialize)]
struct Found {
    nx: usize,
    ny: usize,
    steps: u64,
    /// FNV-1a over all cells' bits, in hexadecimal.
    checksum: String,
    serial_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<Parallel>,
}

#[derive(Serialize)]
struct Parallel {
    px: usize,
    py: usize,
    parallel_s: f64,
    different_cells: usize,
    /// `null` when a cell is not a number.
    largest_difference: f64,
}

/// The neighbour of a rank on each side, in the order of [`Side::ALL`].
fn neighbours(cart: &CartesianCommunicator) -> [Option<Rank>; 4] {
    let (north, south) = cart.shift(0, 1);
    let (west, east) = cart.shift(1, 1);
    [north, south, west, east]
}

/// The buffers of one side and the neighbour there.
struct Channel {
    side: Side,
    neighbour: Rank,
    outgoing: Vec<f64>,
    incoming: Vec<f64>,
}

/// Sends all edges and receives all halos, in any order.
fn exchange(cart: &CartesianCommunicator, block: &mut Block, channels: &mut [Channel]) {
    for channel in channels.iter_mut() {
        block.copy_edge(channel.side, &mut channel.outgoing);
    }
    mpi::request::scope(|scope| {
        // The guards wait when they go out of scope, so every message is done before the halos are read.
        let mut guards = Vec::with_capacity(2 * channels.len());
        let mut sends = Vec::with_capacity(channels.len());
        for channel in channels.iter_mut() {
            let process = cart.process_at_rank(channel.neighbour);
            // A message is named by the side that it leaves from, so that a wrong neighbour is an error and
            // not a wrong temperature.
            let arrives_from = tag(channel.side.opposite());
            guards.push(WaitGuard::from(process.immediate_receive_into_with_tag(
                scope,
                &mut channel.incoming[..],
                arrives_from,
            )));
            sends.push(WaitGuard::from(process.immediate_send_with_tag(
                scope,
                &channel.outgoing[..],
                tag(channel.side),
            )));
        }
    });
    for channel in channels.iter() {
        block.set_halo(channel.side, &channel.incoming);
    }
}

fn tag(side: Side) -> mpi::Tag {
    side as mpi::Tag
}

/// Advances this rank's block by all steps; gives its cells and the seconds that the slowest rank took.
fn solve(cart: &CartesianCommunicator, options: &Options, split: Split) -> (Vec<f64>, f64) {
    let rank = comm::index(cart.rank());
    let (xs, ys) = split.block(options.nx, options.ny, rank);
    let mut block = Block::new(options.nx, options.ny, xs, ys);
    let mut channels: Vec<Channel> = Side::ALL
        .into_iter()
        .zip(neighbours(cart))
        .filter_map(|(side, neighbour)| {
            let length = block.side_length(side);
            neighbour.map(|neighbour| Channel {
                side,
                neighbour,
                outgoing: vec![0.0; length],
                incoming: vec![0.0; length],
            })
        })
        .collect();
    let progress = options.progress("parallel");
    cart.barrier();
    let start = Instant::now();
    for step in 1..=options.steps {
        exchange(cart, &mut block, &mut channels);
        block.step();
        if rank == 0 {
            progress(step);
        }
    }
    let own_s = start.elapsed().as_secs_f64();
    let mut slowest_s = 0.0;
    cart.all_reduce_into(&own_s, &mut slowest_s, mpi::collective::SystemOperation::max());
    (block.inside(), slowest_s)
}

/// Puts the ranks' blocks together.
fn assemble(options: &Options, split: Split, blocks: &[Vec<f64>]) -> Vec<f64> {
    let mut grid = vec![f64::NAN; options.nx * options.ny];
    for (rank, cells) in blocks.iter().enumerate() {
        let (xs, ys) = split.block(options.nx, options.ny, rank);
        for (y, row) in ys.zip(cells.chunks(xs.len())) {
            grid[y * options.nx + xs.start..][..xs.len()].copy_from_slice(row);
        }
    }
    grid
}

/// The serial solution and the seconds it took.
fn solve_serial(options: &Options) -> (Vec<f64>, f64) {
    let start = Instant::now();
    let grid = heat::solve_serial(options.nx, options.ny, options.steps, options.progress("serial"));
    (grid, start.elapsed().as_secs_f64())
}

fn found(options: &Options, grid: &[f64], serial_s: f64, parallel: Option<Parallel>) -> Found {
    Found {
        nx: options.nx,
        ny: options.ny,
        steps: options.steps,
        checksum: format!("{:016x}", heat::checksum(grid)),
        serial_s,
        parallel,
    }
}

fn tell_serial(options: &Options) -> ExitCode {
    let (grid, serial_s) = solve_serial(options);
    let found = found(options, &grid, serial_s, None);
    let text = format!(
        "{} x {} cells, {} steps, serial {serial_s:.3} s, checksum {}",
        options.nx, options.ny, options.steps, found.checksum
    );
    Document { program: "stencil", mpi_library: None, ranks: 1, passed: true, found }
        .tell(options.json, &text)
}

/// Rank 0's part after the gathering.
fn judge(options: &Options, split: Split, blocks: &[Vec<f64>], parallel_s: f64) -> ExitCode {
    let grid = assemble(options, split, blocks);
    let (serial, serial_s) = solve_serial(options);
    let difference = heat::compare(&serial, &grid);
    let parallel = Parallel {
        px: split.px,
        py: split.py,
        parallel_s,
        different_cells: difference.cells,
        largest_difference: difference.largest,
    };
    let found = found(options, &grid, serial_s, Some(parallel));
    let text = format!(
        "{} x {} cells, {} steps on {} x {} ranks in {parallel_s:.3} s (serial {serial_s:.3} s), {} cells differ \
         (at most {:e}), checksum {}",
        options.nx,
        options.ny,
        options.steps,
        split.px,
        split.py,
        difference.cells,
        difference.largest,
        found.checksum
    );
    Document {
        program: "stencil",
        mpi_library: comm::library(),
        ranks: blocks.len(),
        passed: difference.cells == 0,
        found,
    }
    .tell(options.json, &text)
}

fn refuse(error: &Error) -> ExitCode {
    eprintln!("stencil: {error}");
    ExitCode::from(EXIT_USAGE)
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.serial {
        return match Split::of(options.nx, options.ny, 1) {
            Ok(_) => tell_serial(&options),
            Err(error) => refuse(&error),
        };
    }
    let (_universe, world) = comm::start();
    let ranks = comm::index(world.size());
    let split = match Split::of(options.nx, options.ny, ranks) {
        Ok(split) => split,
        Err(error) if world.rank() == 0 => return refuse(&error),
        // Every rank comes to the same refusal; one says it, and all end without waiting for each other.
        Err(_) => return ExitCode::from(EXIT_USAGE),
    };
    let dimensions = [comm::count(split.py), comm::count(split.px)];
    let cart = world
        .create_cartesian_communicator(&dimensions, &[false, false], false)
        .expect("the split has one block for each rank of the world");
    let (cells, parallel_s) = solve(&cart, &options, split);
    let blocks = comm::gather(&cart, &cells, 0.0);
    let code = blocks.map_or(ExitCode::SUCCESS, |blocks| judge(&options, split, &blocks, parallel_s));
    // Rank 0 computes the serial solution meanwhile.
    comm::wait_politely(&cart);
    code
}
