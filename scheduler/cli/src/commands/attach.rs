//! `muster attach`.

use std::process::ExitCode;

use muster_step::client::ViewOptions;
use muster_step::daemon;

use super::{connect, targets};
use crate::error::CliError;
use crate::look;
use crate::out::print;

/// Arguments of `muster attach`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster attach 12.0          the output of step 0 of job 12, from now on\n  \
    muster attach -l 12.0       the rank before each line\n  muster attach --rank 3 12.0\n  \
    echo stop | muster attach 12.0    gives the ranks input\n\n\
    Ctrl-C ends the view and not the step. The exit code is the highest of the ranks that ended meanwhile. \
    `muster logs -f 12` follows the output of a script."
)]
pub struct AttachArgs {
    /// The step (12.0, 12_3.0)
    #[arg(value_name = "JOB[_TASK].STEP")]
    step: Option<String>,
    /// The rank before each line
    #[arg(short, long)]
    label: bool,
    /// Show this rank alone, and give it the input
    #[arg(long, value_name = "RANK")]
    rank: Option<u32>,
    /// The step was started with --pty: this terminal stands for its own
    #[arg(long, conflicts_with_all = ["label", "rank"])]
    pty: bool,
    /// Say which rank is on which node, and end
    #[arg(long, conflicts_with = "pty")]
    layout: bool,
}

pub(crate) fn run(args: &AttachArgs) -> Result<ExitCode, CliError> {
    let Some(text) = &args.step else {
        // The script of a job that srun or salloc waits for names no step; what it serves is in its environment.
        return match std::env::var_os(daemon::ATTACH_VARIABLE) {
            Some(_) => Ok(daemon::attach()),
            None => Err(CliError::AttachToNothing),
        };
    };
    let target = targets(std::slice::from_ref(text))?.remove(0);
    let step = target.step.ok_or_else(|| CliError::NoStep { job: target.job })?;
    let viewed = look::open(&mut connect()?, target.job, step)?;
    if args.layout {
        print(&layout(&viewed.layout))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = ViewOptions {
        label: args.label,
        output_of: args.rank,
        errors_of: args.rank,
        input_to: args.rank,
        pty: args.pty,
    };
    Ok(ExitCode::from(viewed.run(&options).map_err(look::BadView::from)?))
}

/// Slurm's picture of it.
pub(crate) fn layout(layout: &muster_step::client::Layout) -> String {
    let hosts: Vec<&str> = layout.hosts.iter().map(String::as_str).collect();
    let mut text = format!(
        "Job step layout:\n\t{} tasks, {} nodes ({})\n\n",
        layout.node_of_rank.len(),
        hosts.len(),
        muster_step::slurm_nodelist(&hosts)
    );
    for (node, host) in (0..).zip(&hosts) {
        let here = (0..).zip(&layout.node_of_rank).filter(|(_, of_rank)| **of_rank == node);
        let ranks: Vec<String> = here.map(|(rank, _): (u32, _)| format!("{rank} ")).collect();
        text += &format!("\tNode {node} ({host}), {} task(s): {}\n", ranks.len(), ranks.concat());
    }
    text
}
