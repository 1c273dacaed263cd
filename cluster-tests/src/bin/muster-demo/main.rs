//! The main job, shown: a cluster over SSH, MPI gangs next to independent tasks, and what became of them.

mod agents;
mod batch;
mod batch_demo;
mod batch_site;
mod bench;
mod checks;
mod demo;
mod keep;
mod latency;
mod local;
mod steps;
mod story;
mod swarm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shows Muster's main job on a virtual cluster, or keeps one running to try things out.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Without a command, the demo runs: 4 hosts come up, one controller bootstraps an agent on each over \
                  SSH, an ordinary user runs two MPI gangs and an array of 200 tasks, and the results are checked.\n\n\
                  Exit codes: 0 all went well, 1 something was not as it should be, 2 wrong usage.\n\n\
                  Examples:\n  muster-demo\n  muster-demo cluster up --nodes 16 --cpus 4 --env-file target/cluster/env\n  \
                  muster-demo cluster down --env-file target/cluster/env"
)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the time from a submit to the first line of its script.
    #[command(after_help = "Example:\n  muster-demo latency --samples 50")]
    Latency {
        /// Submits of each kind.
        #[arg(long, default_value_t = 30)]
        samples: usize,
        /// End with a line of JSON for `muster-demo bench`.
        #[arg(long)]
        json: bool,
    },
    /// Measure how many steps of one process a job starts in a second, and the controller's CPU time meanwhile.
    #[command(after_help = "Example:\n  muster-demo steps --count 5000")]
    Steps {
        /// Steps of each kind.
        #[arg(long, default_value_t = 5000)]
        count: usize,
        /// Only this kind: 0 one after another, 1 asked for at once, 2 running at once.
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
        way: Option<u8>,
        /// End with a line of JSON for `muster-demo bench`.
        #[arg(long)]
        json: bool,
    },
    /// Measure how many small tasks of one array a node runs in a second, beside xargs.
    #[command(after_help = "Example:\n  muster-demo swarm --count 10000 --rounds 3")]
    Swarm {
        /// Tasks of the array.
        #[arg(long, default_value_t = 10_000)]
        count: usize,
        /// How often they run, in turns with xargs; the round whose part of its rate is the middle one gives the figures.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Tasks of a last, larger array, whose rate is to be the same.
        #[arg(long, value_name = "COUNT")]
        then: Option<usize>,
        /// End with a line of JSON for `muster-demo bench`.
        #[arg(long)]
        json: bool,
    },
    /// Measure the controller under thousands of agents, which speak the real protocol over real connections and carry nothing out.
    #[command(after_help = "Example:\n  muster-demo agents --agents 5000 --gang 4000 --json")]
    Agents(agents::Options),
    /// Measure the batch service through its SDK: tasks added and finished, memory, and a filtered list.
    #[command(after_help = "Example:\n  muster-demo batch --tasks 10000 --listed 100000")]
    Batch {
        /// Tasks that are added and finished.
        #[arg(long, default_value_t = 10_000)]
        tasks: usize,
        /// Tasks of the job that is listed with a filter.
        #[arg(long, default_value_t = 100_000)]
        listed: usize,
        /// End with a line of JSON for `muster-demo bench`.
        #[arg(long)]
        json: bool,
    },
    /// Run all measurements one after another and make one report of them: a table, Markdown, JSON and plots.
    #[command(
        after_help = "A part that fails is told in the report, and the others go on. Each part's own words are in NAME.out and \
                      NAME.err beside the report.\n\nMUSTER_BENCH_HQ names a HyperQueue binary to compare with, or a Python \
                      with its package; Slurm is compared with where Debian's slurm-wlm and munge are installed.\n\n\
                      Exit codes: 0 all parts told their figures, whether their bars hold or not, 1 a part failed, 2 wrong usage.\n\nExamples:\n  muster-demo bench\n  \
                      muster-demo bench --only swarm,peers --out /tmp/swarm\n  muster-demo bench --quick"
    )]
    Bench(bench::BenchArgs),
    /// Show the batch service: a film is rendered, frame by frame, and the heat equation is solved by MPI.
    #[command(after_help = "Example:\n  muster-demo batch-demo --out target/batch-demo")]
    BatchDemo {
        /// Where the pictures go.
        #[arg(long, default_value = "target/batch-demo")]
        out: PathBuf,
    },
    /// Keep a cluster running.
    #[command(subcommand)]
    Cluster(ClusterCommand),
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Bring a cluster up and leave it running.
    #[command(
        after_help = "Example:\n  muster-demo cluster up --nodes 4 --cpus 8 --env-file target/cluster/env"
    )]
    Up {
        /// Number of nodes.
        #[arg(long, default_value_t = 4)]
        nodes: usize,
        /// Cores that each node declares.
        #[arg(long, default_value_t = 8)]
        cpus: u32,
        /// Where to write the file that shells source.
        #[arg(long)]
        env_file: PathBuf,
    },
    /// Remove it without a trace.
    #[command(after_help = "Example:\n  muster-demo cluster down --env-file target/cluster/env")]
    Down {
        /// The file that `up` wrote.
        #[arg(long)]
        env_file: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        None if nix::unistd::geteuid().is_root() => demo::run(),
        None => local::run(),
        Some(Command::Latency { samples, json }) => latency::run(samples, json),
        Some(Command::Steps { count, way, json }) => steps::run(count, way.map(usize::from), json),
        Some(Command::Swarm { count, rounds, then, json }) => swarm::run(count, rounds, then, json),
        Some(Command::Agents(options)) => agents::run(&options),
        Some(Command::Batch { tasks, listed, json }) => batch::run(tasks, listed, json),
        Some(Command::Bench(args)) => bench::run(&args),
        Some(Command::BatchDemo { out }) => batch_demo::run(&out),
        Some(Command::Cluster(ClusterCommand::Up { nodes, cpus, env_file })) => {
            keep::up(nodes, cpus, &env_file)
        }
        Some(Command::Cluster(ClusterCommand::Down { env_file })) => keep::down(&env_file),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
