//! The starter of a step: what `muster run` and `srun` do inside an allocation.
//!
//! It asks the attempt's supervisor for a place, is connected to by the step's daemons, tells them what to start, and
//! stays until all of them are done: it carries output, input, signals and the exchanges of the ranks between them. It
//! has one thread and waits in one place.

mod addresses;
mod bcast;
mod conduct;
mod multi_prog;
mod output;
mod patterns;
mod report;
mod signals;
mod supervisor;
mod terminal;
mod view;

use std::os::unix::net::UnixStream;
use std::time::Duration;

pub use addresses::own_addresses;
pub use bcast::{BYTES_MAX as BCAST_BYTES_MAX, Bcast};
pub use multi_prog::{Assignment, MultiProg};
pub use patterns::{Names, expand};
pub use view::{Layout, View, ViewOptions, Viewed};

use crate::StepError;
use crate::frames::{CpuBind, ShowBindings, Wireup};
use crate::words::{Ask, StepEnd, StepRequest};

/// How long the daemons of a step may take to connect. Thousands of steps that begin at once on few cores take long; what
/// cannot be started at all is told by the supervisors, and does not wait for this.
pub const START_WITHIN: Duration = Duration::from_secs(120);

/// How long ranks get from a polite signal to SIGKILL (Slurm's `KillWait`).
pub const KILL_WAIT: Duration = Duration::from_secs(30);

/// Where a stream of the ranks goes, or comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Redirect {
    /// The starter's own stream.
    #[default]
    Own,
    /// Nowhere.
    Nothing,
    /// The starter's own stream, for one rank; nowhere for the others.
    Rank(u32),
    /// A file, with a pattern in its name.
    File(String),
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    /// The same words on each rank.
    One(Vec<String>),
    /// Different ones.
    Multi(MultiProg),
}

/// A step as it was asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How messages begin: `srun`.
    pub name: &'static str,
    /// Where it may run.
    pub request: StepRequest,
    /// What it runs.
    pub programs: Programs,
    /// The environment of its ranks, before what the step adds.
    pub environment: Vec<(String, String)>,
    /// Where its ranks start.
    pub directory: String,
    /// How its ranks find each other.
    pub wireup: Wireup,
    /// How its ranks are bound.
    pub bind: CpuBind,
    /// Where input comes from.
    pub stdin: Redirect,
    /// Where output goes.
    pub stdout: Redirect,
    /// Where errors go; `None`: to the file of the output, or else to the starter's standard error.
    pub stderr: Option<Redirect>,
    /// Write after what output files hold.
    pub append: bool,
    /// The rank before each line.
    pub label: bool,
    /// Output as it comes, and not by lines.
    pub unbuffered: bool,
    /// Rank 0 has a terminal.
    pub pty: bool,
    /// The first rank that fails ends the step.
    pub kill_on_bad_exit: bool,
    /// The step ends so long after its first rank has ended; zero: it does not.
    pub wait: Duration,
    /// The step ends after so long.
    pub time_limit: Option<Duration>,
    /// The first SIGINT ends the step.
    pub quit_on_interrupt: bool,
    /// Say errors only.
    pub quiet: bool,
    /// Say where ranks go.
    pub verbose: bool,
    /// Say where ranks go, and start nothing.
    pub dry_run: bool,
    /// Tell where ranks are bound.
    pub show_bindings: Option<ShowBindings>,
    /// For file names.
    pub job_name: String,
    /// What the step is called in its record.
    pub step_name: String,
    /// The job that the caller named; another one than this allocation's is an error.
    pub job: Option<u64>,
    /// With how many daemons the starter, or a daemon, speaks (see [`crate::tree`]).
    pub tree_width: u32,
    /// What is sent to all nodes before.
    pub bcast: Option<Bcast>,
    /// The status of every failure of the step itself.
    pub error_status: u8,
    /// Ranks run with the variables of their daemon instead of [`Self::environment`] and those of a step, and what is said
    /// of their ends is said by them.
    pub relayed: bool,
}

/// Runs a step and gives its exit status: the highest of its ranks, where a signal counts as 128 plus its number.
///
/// # Errors
///
/// [`StepError`] if there was no step.
pub fn run(plan: &Plan) -> Result<u8, StepError> {
    run_in(plan, supervisor::Session::open()?)
}

/// The same with a supervisor at the other end of this connection.
///
/// # Errors
///
/// [`StepError`] if there was no step.
pub fn run_at(plan: &Plan, supervisor: UnixStream) -> Result<u8, StepError> {
    run_in(plan, supervisor::Session::over(supervisor)?)
}

fn run_in(plan: &Plan, mut session: supervisor::Session) -> Result<u8, StepError> {
    let signals = signals::Signals::hold()?;
    if let Some(job) = plan.job.filter(|job| *job != session.job) {
        return Err(StepError::OtherJob { job, here: session.job });
    }
    let sending = if plan.dry_run { None } else { bcast::Sending::open(plan)? };
    let listener = std::net::TcpListener::bind((session.address.as_str(), 0))
        .map_err(StepError::system("listen at this node's address"))?;
    let port = listener.local_addr().map_err(StepError::system("ask for a port's number"))?.port();
    let Some(granted) = session.create(plan, port, &signals)? else { return Ok(plan.error_status) };
    if plan.dry_run {
        report::draw(&granted.placement);
        if plan.show_bindings.is_none() {
            let _unheard = session.say(&Ask::Ended(StepEnd::default()));
            return Ok(0);
        }
        // The nodes themselves tell; what ranks would read and write is left alone.
        let only_shown = Plan {
            stdin: Redirect::Nothing,
            stdout: Redirect::Own,
            stderr: None,
            pty: false,
            ..plan.clone()
        };
        return conduct::Conduct::new(&only_shown, session, granted, listener, signals, None)?
            .run_to_the_end();
    }
    conduct::Conduct::new(plan, session, granted, listener, signals, sending)?.run_to_the_end()
}

/// Whether this process is inside an allocation.
pub fn is_inside() -> bool {
    supervisor::attempt_dir().is_some()
}

/// The allocation that this process is in: its job, and the names of its nodes.
///
/// # Errors
///
/// [`StepError`] if it is in none.
pub fn allocation() -> Result<(u64, Vec<String>), StepError> {
    let session = supervisor::Session::open()?;
    Ok((session.job, session.hosts))
}
