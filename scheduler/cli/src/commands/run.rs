//! `muster run`: a step inside an allocation.

use std::path::PathBuf;
use std::process::ExitCode;

use muster_core::notation::parse_time_s;
use muster_step::client;
use muster_step::options;

use crate::error::CliError;
use crate::out::tell;
use crate::step::{BadStep, Place, StepOptions};

/// Arguments of `muster run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    muster run ./a.out                     the allocation's ranks, each on its own cores\n  \
    muster run -n 4 -c 2 ./a.out           4 ranks of 2 cores; other steps may use the rest at the same time\n  \
    muster run -N 1 -n 1 --overlap top -b  one process beside other steps\n  \
    muster run --bcast=/tmp/ ./a.out       sends the program to each node first, so that no file system is read by all at once\n  \
    muster run --dry-run -n 6 ./a.out      where each rank would go\n\n\
    The exit status is the highest of the ranks; a signal counts as 128 plus its number.")]
pub struct RunArgs {
    /// Number of ranks [default: as the allocation has them]
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub ntasks: Option<String>,
    /// Number of nodes, or a range such as 2-4
    #[arg(short = 'N', long, value_name = "COUNT")]
    pub nodes: Option<String>,
    /// At most so many ranks on each node
    #[arg(long, value_name = "COUNT")]
    pub ntasks_per_node: Option<String>,
    /// Cores of each rank; the step holds no more than these
    #[arg(short = 'c', long, value_name = "COUNT")]
    pub cpus_per_task: Option<String>,
    /// Nodes that must be used
    #[arg(short = 'w', long, value_name = "HOSTS")]
    pub nodelist: Option<String>,
    /// Nodes that must not be used
    #[arg(short = 'x', long, value_name = "HOSTS")]
    pub exclude: Option<String>,
    /// The first node that is considered, counted from 0
    #[arg(short = 'r', long, value_name = "POSITION")]
    pub relative: Option<u32>,
    /// Hold the cores of the ranks only, and not all that are free on the nodes
    #[arg(long)]
    pub exact: bool,
    /// Share cores with other steps, and hold none
    #[arg(long)]
    pub overlap: bool,
    /// Allow more ranks than cores
    #[arg(short = 'O', long)]
    pub overcommit: bool,
    /// How ranks go to nodes: block, cyclic, plane=SIZE or arbitrary
    #[arg(short = 'm', long, value_name = "HOW")]
    pub distribution: Option<String>,
    /// Fail instead of waiting for cores that other steps hold
    #[arg(short = 'I', long)]
    pub immediate: bool,
    /// How ranks find each other: auto, none, pmi2 or pmix
    #[arg(long, value_name = "KIND")]
    pub mpi: Option<String>,
    /// Binding: cores, threads, none, rank, map_cpu:LIST or mask_cpu:LIST; verbose before it draws it
    #[arg(long, value_name = "HOW")]
    pub cpu_bind: Option<String>,
    /// Draw where each rank is bound, on standard error; with --dry-run, where it would be
    #[arg(long)]
    pub show_bindings: bool,
    /// Input: all, none, a rank, or a file (with %t and such: one for each rank)
    #[arg(short = 'i', long, value_name = "WHERE")]
    pub input: Option<String>,
    /// Output: all, none, a rank, or a file
    #[arg(short = 'o', long, value_name = "WHERE")]
    pub output: Option<String>,
    /// Errors: as --output
    #[arg(short = 'e', long, value_name = "WHERE")]
    pub error: Option<String>,
    /// Write after what output files hold
    #[arg(long)]
    pub append: bool,
    /// Put the rank before each line
    #[arg(short = 'l', long)]
    pub label: bool,
    /// Pass output on as it comes, and not by lines
    #[arg(short = 'u', long)]
    pub unbuffered: bool,
    /// Give rank 0 a terminal
    #[arg(long)]
    pub pty: bool,
    /// The command is a file that says which program each rank runs
    #[arg(long)]
    pub multi_prog: bool,
    /// End the step when the first rank fails
    #[arg(short = 'K', long)]
    pub kill_on_bad_exit: bool,
    /// End the step so many seconds after its first rank has ended
    #[arg(short = 'W', long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// End the step after this time
    #[arg(short = 't', long, value_name = "TIME")]
    pub time: Option<String>,
    /// Where the ranks start
    #[arg(short = 'D', long, value_name = "DIRECTORY")]
    pub chdir: Option<PathBuf>,
    /// Variables that the ranks see: ALL, NONE, or names and NAME=VALUE between commas
    #[arg(long, value_name = "VARIABLES")]
    pub export: Option<String>,
    /// Send the program to all nodes first, into the folder in which the ranks start; or to this file, or into this folder
    /// (with / at its end), where it stays
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub bcast: Option<String>,
    /// With how many others the starter, and each node, exchanges what the step says [default: 32]
    #[arg(long, value_name = "COUNT")]
    pub tree_width: Option<String>,
    /// Draw where each rank would go, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Say errors only
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Say where the ranks go
    #[arg(short = 'v', long)]
    pub verbose: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs the command.
///
/// # Errors
///
/// [`CliError::Step`] if there was no step.
pub fn run(args: RunArgs) -> Result<ExitCode, CliError> {
    let (plan, warnings) = options_of(&args)?.plan("muster run", &args.command)?;
    for warning in warnings.iter().filter(|_| !args.quiet) {
        tell(&format!("muster run: {warning}"));
    }
    Ok(ExitCode::from(client::run(&plan).map_err(BadStep::from)?))
}

fn options_of(args: &RunArgs) -> Result<StepOptions, BadStep> {
    let count =
        |option, text: &Option<String>| text.as_deref().map(|text| options::count(option, text)).transpose();
    let set = |given: bool| given.then_some(true);
    Ok(StepOptions {
        ntasks: count("--ntasks", &args.ntasks)?,
        nodes: args.nodes.as_deref().map(options::nodes).transpose()?,
        tasks_per_node: count("--ntasks-per-node", &args.ntasks_per_node)?,
        cores_per_task: count("--cpus-per-task", &args.cpus_per_task)?,
        nodelist: args.nodelist.clone(),
        exclude: args.exclude.clone(),
        relative: args.relative,
        exact: set(args.exact),
        overlap: set(args.overlap),
        overcommit: set(args.overcommit),
        distribution: args.distribution.clone(),
        immediate: args.immediate,
        mpi: args.mpi.as_deref().map(options::mpi).transpose()?.flatten(),
        cpu_bind: args.cpu_bind.clone(),
        stdin: args.input.clone(),
        stdout: args.output.clone(),
        stderr: args.error.clone(),
        append: set(args.append),
        label: set(args.label),
        unbuffered: set(args.unbuffered),
        pty: args.pty,
        multi_prog: args.multi_prog,
        kill_on_bad_exit: set(args.kill_on_bad_exit),
        wait_s: args.wait,
        time_limit_s: args.time.as_deref().map(parse_time_s).transpose()?,
        quit_on_interrupt: false,
        quiet: args.quiet,
        verbose: args.verbose,
        dry_run: args.dry_run,
        show_bindings: args.show_bindings,
        job_name: None,
        job: None,
        directory: args.chdir.clone(),
        export: args.export.clone(),
        bcast: args.bcast.as_deref().map(Place::of),
        compress: None,
        tree_width: args.tree_width.as_deref().map(options::tree_width).transpose()?,
    })
}
