//! The command line: what there is, and its help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    attach::AttachArgs, batch::BatchArgs, cancel::CancelArgs, cron::CronArgs, files::FilesArgs,
    hold::HoldArgs, hold::ReleaseArgs, layout::LayoutArgs, licenses::LicensesArgs, logs::LogsArgs,
    migrate::MigrateArgs, node::NodeArgs, nodes::NodesArgs, pools::PoolsArgs, priority::PriorityArgs,
    queue::QueueArgs, reach::RequeueArgs, reach::SignalArgs, reservation::ReservationArgs, run::RunArgs,
    shares::SharesArgs, show::ShowArgs, steps::StepsArgs, submit::SubmitArgs, update::UpdateArgs,
    wait::WaitArgs,
};
use crate::later::Later;

/// Gathers nodes into gangs: submit work to the cluster and see what becomes of it.
#[derive(Debug, Parser)]
#[command(name = "muster", version, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit a job script, or one command with --wrap
    Submit(Later<SubmitArgs>),
    /// Start a program in parallel on the nodes and cores of this allocation, without mpirun
    Run(Later<RunArgs>),
    /// List jobs: those that wait or run, with --all those that have ended as well
    Queue(Later<QueueArgs>),
    /// Show all about a job or one task of it
    Show(Later<ShowArgs>),
    /// List what was launched in parallel in a job
    Steps(Later<StepsArgs>),
    /// Say why a job waits and when it may start
    Why(Later<WhyArgs>),
    /// Show what the priority of waiting jobs is the sum of
    Priority(Later<PriorityArgs>),
    /// Show what accounts and users have used of their shares
    Shares(Later<SharesArgs>),
    /// List, set, edit or remove recurring jobs
    Cron(Later<CronArgs>),
    /// Cancel jobs, or single tasks of them
    Cancel(Later<CancelArgs>),
    /// Signal what runs of jobs
    Signal(Later<SignalArgs>),
    /// Put what runs of jobs back into the queue
    Requeue(Later<RequeueArgs>),
    /// Change a job that was accepted
    Update(Later<UpdateArgs>),
    /// Hold the waiting tasks of jobs back
    Hold(Later<HoldArgs>),
    /// Let held jobs go
    Release(Later<ReleaseArgs>),
    /// Print the output of a task; -f follows it to its end
    Logs(Later<LogsArgs>),
    /// List, print, copy or remove the files of a task on its node
    Files(Later<FilesArgs>),
    /// Wait until jobs have ended, and end as they did
    Wait(Later<WaitArgs>),
    /// Draw which rank runs on which node and core
    Layout(Later<LayoutArgs>),
    /// Look on at a running step: its output here, your input there
    Attach(Later<AttachArgs>),
    /// List the nodes, hold them back from new work, or release them
    Nodes(Later<NodesArgs>),
    /// Bring agents to nodes over SSH, replace them by other versions, or stop them
    Node(Later<NodeArgs>),
    /// List, create or delete advance reservations of nodes
    Reservation(Later<ReservationArgs>),
    /// List the pools
    Pools(Later<PoolsArgs>),
    /// List the licences that tasks hold while they run
    Licenses(Later<LicensesArgs>),
    /// Pools, jobs, tasks and files of the batch service, and job files with sweeps
    Batch(Later<BatchArgs>),
    /// Ask whether the controller answers
    Ping(Later<PingArgs>),
    /// Check a configuration file
    Config(Later<ConfigArgs>),
    /// Make a configuration of Slurm's
    Migrate(Later<MigrateArgs>),
    /// Print the help of a command, or the table of exit codes
    Help(Later<HelpArgs>),
    /// Make man pages and completions
    #[command(hide = true)]
    Generate(Later<GenerateArgs>),
}

impl Command {
    /// How messages name it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Run(_) => "run",
            Self::Queue(_) => "queue",
            Self::Show(_) => "show",
            Self::Steps(_) => "steps",
            Self::Why(_) => "why",
            Self::Priority(_) => "priority",
            Self::Shares(_) => "shares",
            Self::Cron(_) => "cron",
            Self::Cancel(_) => "cancel",
            Self::Signal(_) => "signal",
            Self::Requeue(_) => "requeue",
            Self::Update(_) => "update",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Logs(_) => "logs",
            Self::Files(_) => "files",
            Self::Wait(_) => "wait",
            Self::Layout(_) => "layout",
            Self::Nodes(_) => "nodes",
            Self::Node(_) => "node",
            Self::Reservation(_) => "reservation",
            Self::Pools(_) => "pools",
            Self::Licenses(_) => "licenses",
            Self::Batch(_) => "batch",
            Self::Ping(_) => "ping",
            Self::Config(_) => "config",
            Self::Migrate(_) => "migrate",
            Self::Help(_) => "help",
            Self::Attach(_) => "attach",
            Self::Generate(_) => "generate",
        }
    }
}

/// Arguments of `muster why`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster why 12      why job 12 waits\n  muster why 12_3    why task 3 of array 12 waits"
)]
pub struct WhyArgs {
    /// Job (12) or task of an array (12_3)
    #[arg(value_name = "JOB[_TASK]")]
    pub job: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `muster ping`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster ping                      is the controller there?\n  MUSTER_RETRY_S=0 muster ping     ask once only"
)]
pub struct PingArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `muster config`.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `muster config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Check a file and print every fault with its line; nothing is sent anywhere
    #[command(after_help = "Examples:\n  muster config check /etc/muster/muster.toml")]
    Check {
        /// The configuration file
        file: PathBuf,
    },
}

/// Arguments of `muster help`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster help submit        the help of muster submit\n  muster help exit-codes    what each exit code means"
)]
pub struct HelpArgs {
    /// A command, or exit-codes
    pub topic: Option<String>,
}

/// Arguments of `muster generate`.
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// What to make.
    #[command(subcommand)]
    pub what: GenerateWhat,
}

/// What `muster generate` makes.
#[derive(Debug, Subcommand)]
pub enum GenerateWhat {
    /// Write a man page for each command into a directory
    Man {
        /// The directory; it is made if it is not there
        directory: PathBuf,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Link the names of Slurm's commands to this program in a directory, for sites that put it on the PATH
    SlurmLinks {
        /// The directory; it is made if it is not there
        directory: PathBuf,
    },
}
