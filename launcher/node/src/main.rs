//! The node agent, the supervisors that it starts, and the commands that start, stop and ask it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use muster_node::config::AgentDir;
use muster_node::{agent, containers, daemon, deploy, supervisor};
use tracing_subscriber::EnvFilter;

/// A task's environment alone is hundreds of small texts, several times; glibc's allocator took 5 % of all that a small task costs.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs tasks of a Muster cluster on this node.
#[derive(Debug, Parser)]
#[command(name = "muster-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground, with its log on standard error
    Agent(Folder),
    /// Start the agent in the background; an agent of another version is replaced, and attempts go on
    Start {
        #[command(flatten)]
        folder: Folder,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Stop the agent; attempts go on
    Stop(Folder),
    /// Tell what the agent does; exit code 3 if none runs
    Status {
        #[command(flatten)]
        folder: Folder,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Hold one attempt (started by the agent)
    #[command(hide = true)]
    Supervise {
        /// The cgroup.procs file to which the supervisor writes itself
        #[arg(long)]
        shelter: Option<PathBuf>,
    },
    /// Set the node up for a pool or a task (started by the agent and by supervisors)
    #[command(hide = true)]
    Deploy {
        #[command(flatten)]
        folder: Folder,
        /// Mount what is to be mounted, and nothing else
        #[arg(long)]
        mounts: bool,
    },
    /// Make the file systems of a container (started by supervisors)
    #[command(hide = true)]
    Enclose,
}

#[derive(Debug, clap::Args)]
struct Folder {
    /// The agent's folder, which holds agent.json
    #[arg(long, default_value = "/var/lib/muster")]
    dir: PathBuf,
}

/// What `status` exits with when no agent runs.
const NOT_RUNNING: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("muster-node: {}", error.sentence());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> muster_node::Result<ExitCode> {
    match command {
        Command::Agent(folder) => {
            log(std::io::stderr);
            agent::run(AgentDir::open(&folder.dir)?)?;
        }
        Command::Start { folder, json } => {
            let started = daemon::start(&AgentDir::open(&folder.dir)?)?;
            match json {
                true => println!("{}", serde_json::to_string(&started).expect("what was done is plain data")),
                false => println!("{started}"),
            }
        }
        Command::Stop(folder) => println!("{}", daemon::stop(&AgentDir::open(&folder.dir)?)?),
        Command::Status { folder, json } => return status(&AgentDir::open(&folder.dir)?, json),
        Command::Supervise { shelter } => {
            log(supervisor::log::stderr);
            if let Some(entrance) = shelter
                && let Err(error) = std::fs::write(&entrance, "0")
            {
                tracing::warn!(%error, entrance = %entrance.display(), "the supervisor stays in its agent's group");
            }
            supervisor::run()?;
        }
        Command::Deploy { folder, mounts } => {
            log(std::io::stderr);
            deploy::run(&AgentDir::open(&folder.dir)?, mounts)?;
        }
        Command::Enclose => containers::enclose::run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, at the level that `MUSTER_LOG` says, `info` by default.
fn log(writer: fn() -> std::io::Stderr) {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).init();
}

fn status(dir: &AgentDir, json: bool) -> muster_node::Result<ExitCode> {
    let Some(status) = daemon::status(dir)? else {
        match json {
            true => println!("null"),
            false => println!("no agent runs with the folder {}", dir.path().display()),
        }
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status).expect("a status is plain data"));
        return Ok(ExitCode::SUCCESS);
    }
    let controller = status.controller.as_deref().unwrap_or("no controller");
    println!(
        "node {}: agent {} runs as process {}, connected with {controller}; {}; {} attempts",
        status.node,
        status.version,
        status.holder.process.pid,
        status.containment,
        status.attempts.len()
    );
    Ok(ExitCode::SUCCESS)
}
