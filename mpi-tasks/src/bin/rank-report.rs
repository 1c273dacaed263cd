//! Says where every rank runs and to which cores the kernel has bound it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use mpi::traits::*;
use muster_mpi_tasks::launch::{self, EXIT_TROUBLE};
use muster_mpi_tasks::report::{self, Document};
use muster_mpi_tasks::{Error, Result, comm, cpulist};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu};
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};

/// Report every rank's place: host, process, cores, and what Muster told it.
///
/// Exit codes: 0 all is as expected; 1 the world has another size than expected, or a rank is bound to other
/// cores than Muster announced (with --check-binding); 2 wrong command line; 3 the system refused.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Print one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Fail unless the world has this many ranks.
    #[arg(long, value_name = "N")]
    expect_ranks: Option<usize>,
    /// Fail unless each rank's mask is the one in MUSTER_RANK_CORES.
    #[arg(long)]
    check_binding: bool,
    /// Sleep this many seconds inside the job after all ranks reported.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    hold_s: f64,
    /// Rank 0 creates this file once every rank reported, before the hold.
    #[arg(long, value_name = "PATH")]
    start_file: Option<PathBuf>,
}

/// Longest hold, a day.
const MAX_HOLD_S: f64 = 86_400.0;

fn seconds(text: &str) -> std::result::Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=MAX_HOLD_S).contains(&value) => Ok(value),
        _ => Err("should be seconds from 0 to 86400, such as 2 or 0.5"),
    }
}

/// What one rank knows of itself.
#[derive(Debug, Serialize, Deserialize)]
struct RankLine {
    rank: usize,
    size: usize,
    local_rank: Option<usize>,
    host: String,
    pid: i32,
    uid: u32,
    /// The mask that the kernel has, as a cpu list.
    cpus: String,
    /// The cpu at this moment.
    cpu: Option<usize>,
    /// When `MPI_Init` was over, in microseconds since 1970 by this host's clock.
    initialised_us: u64,
    muster_rank_cores: Option<String>,
    muster_attempt: Option<String>,
    muster_node: Option<String>,
    /// Whether the mask is the announced one; `null` when none was announced for this rank.
    bound_as_told: Option<bool>,
}

impl RankLine {
    fn of(world: &impl Communicator, initialised: SystemTime) -> Result<Self> {
        let local_rank = launch::announced_local_rank();
        let cpus = own_cpus()?;
        let told = std::env::var("MUSTER_RANK_CORES").ok();
        let bound_as_told = told
            .as_deref()
            .and_then(|text| cpulist::of_local_rank(text, local_rank))
            .map(|list| cpulist::parse(list).is_ok_and(|wanted| wanted == cpus));
        Ok(Self {
            rank: comm::index(world.rank()),
            size: comm::index(world.size()),
            local_rank,
            host: report::host(),
            pid: Pid::this().as_raw(),
            uid: Uid::current().as_raw(),
            cpus: cpulist::format(&cpus),
            cpu: sched_getcpu().ok(),
            initialised_us: initialised
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
            muster_rank_cores: told,
            muster_attempt: std::env::var("MUSTER_ATTEMPT").ok(),
            muster_node: std::env::var("MUSTER_NODE").ok(),
            bound_as_told,
        })
    }
}

/// The cpus of this process's mask, read back from the kernel.
fn own_cpus() -> Result<Vec<usize>> {
    let refused = |errno: nix::Error| Error::System { call: "sched_getaffinity", source: errno.into() };
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(refused)?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

#[derive(Serialize)]
struct Found<'a> {
    hosts: usize,
    rank: &'a [RankLine],
}

fn table(lines: &[RankLine]) -> String {
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let number = |value: Option<usize>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let width = lines.iter().map(|line| line.host.len()).max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:>5} {:>5} {:width$} {:>7} {:>6} {:>4} {:12} {:12} {:>7} {}\n",
        "RANK", "LOCAL", "HOST", "PID", "UID", "CPU", "CPUS", "TOLD", "ATTEMPT", "NODE"
    );
    for line in lines {
        text += &format!(
            "{:>5} {:>5} {:width$} {:>7} {:>6} {:>4} {:12} {:12} {:>7} {}\n",
            line.rank,
            number(line.local_rank),
            line.host,
            line.pid,
            line.uid,
            number(line.cpu),
            line.cpus,
            dash(&line.muster_rank_cores),
            dash(&line.muster_attempt),
            dash(&line.muster_node),
        );
    }
    text
}

/// Rank 0's part: sorts, judges and prints.
fn tell(options: &Options, texts: &[String]) -> ExitCode {
    let mut lines: Vec<RankLine> = texts
        .iter()
        .map(|text| serde_json::from_str(text).expect("every rank runs this program and writes this form"))
        .collect();
    lines.sort_by_key(|line| line.rank);
    let size = lines.len();
    let mut hosts: Vec<&str> = lines.iter().map(|line| line.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let hosts = hosts.len();
    let unbound: Vec<usize> =
        lines.iter().filter(|line| line.bound_as_told != Some(true)).map(|line| line.rank).collect();
    let size_is_right = options.expect_ranks.is_none_or(|expected| expected == size);
    let binding_is_right = !options.check_binding || unbound.is_empty();
    let mut text = format!("{size} ranks on {hosts} hosts");
    if let Some(expected) = options.expect_ranks.filter(|_| !size_is_right) {
        text += &format!(", expected {expected} ranks");
    }
    if !binding_is_right {
        text += &format!(", not bound as announced: ranks {}", cpulist::format(&unbound));
    }
    if !options.json {
        print!("{}", table(&lines));
    }
    Document {
        program: "rank-report",
        mpi_library: comm::library(),
        ranks: size,
        passed: size_is_right && binding_is_right,
        found: Found { hosts, rank: &lines },
    }
    .tell(options.json, &text)
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (_universe, world) = comm::start();
    let own = match RankLine::of(&world, SystemTime::now()) {
        Ok(line) => line,
        Err(error) => {
            eprintln!("rank-report: rank {}: {error}", world.rank());
            world.abort(i32::from(EXIT_TROUBLE));
        }
    };
    let own = serde_json::to_string(&own).expect("a report holds only what JSON can write");
    let mut code = comm::gather_texts(&world, &own).map_or(ExitCode::SUCCESS, |texts| tell(&options, &texts));
    if let Some(path) = options.start_file.as_ref().filter(|_| world.rank() == 0)
        && let Err(source) = std::fs::File::create(path)
    {
        eprintln!("rank-report: {}", Error::File { action: "create", path: path.clone(), source });
        code = ExitCode::from(EXIT_TROUBLE);
    }
    if options.hold_s > 0.0 {
        comm::wait_politely(&world);
        // The hold is the work here: it takes time and no core, so that tests can look at overlapping jobs.
        std::thread::sleep(Duration::from_secs_f64(options.hold_s));
        comm::wait_politely(&world);
    }
    code
}
