//! `muster node up` and `muster node down`: agents are brought to nodes over SSH, and stopped there.
//!
//! The SSH is done by the program `muster-bootstrap`, as when the controller brings nodes up itself; what it needs, the
//! controller says.

mod down;
mod fault;
mod options;
mod program;
mod report;
mod up;

use std::process::ExitCode;

pub use fault::NodeFault;
use options::SshOptions;

use crate::error::CliError;

/// Why nodes are drained that [`down`] stops; [`up`] gives those work again that are drained for this reason.
const DOWN_REASON: &str = "taken down by muster node down";

/// Arguments of `muster node`.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    /// What to do.
    #[command(subcommand)]
    action: NodeAction,
}

#[derive(Debug, clap::Subcommand)]
enum NodeAction {
    /// Bring the agent to nodes over SSH and start it, or replace one of another version (root only)
    #[command(
        after_help = "Examples:\n  muster node up n[001-512]                bring them up as [bootstrap] says\n  \
        muster node up n[001-512] --check        only log in and say what would be done\n  \
        muster node up n[001-512] --fan-out 64   64 at a time\n  \
        muster node up n01 --user admin --sudo --identity ~/.ssh/id_ed25519\n  \
        muster node up n01 --jump admin@gate:2222,inner\n\n\
        Again it changes nothing where the same agent runs. Work that runs goes on when an\n\
        agent is replaced. Host keys are always verified. Exit code: 0 if all nodes are up,\n\
        10 if some are not; the table says why."
    )]
    Up(Box<UpArgs>),
    /// Drain nodes and stop their agents over SSH (root only)
    #[command(
        after_help = "Examples:\n  muster node down n[01-04]          where nothing runs; other nodes are drained and named\n  \
        muster node down n03 --force      end what runs there first, as if the node had failed\n\n\
        muster node up brings them back. Exit code: 0 if all agents are stopped, 10 if some\n\
        are not; the table says why. muster nodes down takes nodes out without a login."
    )]
    Down(Box<DownArgs>),
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    /// Nodes, such as n01 or n[001-512]
    nodes: String,
    /// Log in, verify, and say what would be done; nothing is changed
    #[arg(long, visible_alias = "dry-run")]
    check: bool,
    /// Folder with muster-node, muster-rank, muster-rsh, muster-stage and muster-step on this host
    #[arg(long, value_name = "DIR")]
    programs: Option<std::path::PathBuf>,
    /// Seconds in which each agent that was started must reach the controller
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ssh: SshOptions,
}

#[derive(Debug, clap::Args)]
struct DownArgs {
    /// Nodes, such as n01 or n[01-04]
    nodes: String,
    /// End what runs on them first
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ssh: SshOptions,
}

pub(crate) fn run(args: &NodeArgs) -> Result<ExitCode, CliError> {
    match &args.action {
        NodeAction::Up(args) => up::run(args),
        NodeAction::Down(args) => down::run(args),
    }
}
