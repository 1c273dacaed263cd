//! The step daemon: one process for each node of a step, as the user, inside the attempt's containment.
//!
//! It connects to the starter, or is connected to by the daemon above it, starts the ranks that it is told to, serves PMI
//! to them, carries their streams, and ends when nothing of the step is left on its node. For the daemons below it does
//! what the starter does: it tells them what to start, and passes everything on, down and up. When the side above is
//! lost, it kills what it has started.

mod bcast;
mod below;
mod bindings;
mod bound;
pub(crate) mod call;
mod environment;
mod image;
mod pmix;
mod rank;
mod serve;
mod sweep;
mod usage;
mod wireup;

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub(crate) use self::wireup::find_program;
use crate::StepError;
use crate::words::DaemonStart;

/// Signals that must not end a daemon: they are meant for its ranks, which get them as well.
const HELD: [Signal; 10] = [
    Signal::SIGCHLD,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGPIPE,
    Signal::SIGCONT,
];

/// The variable in which a job's script finds the [`DaemonStart`] of [`attach`].
pub const ATTACH_VARIABLE: &str = "MUSTER_ATTACH";

/// Runs a daemon that a job's script is, for a starter outside of the allocation: it takes its [`DaemonStart`] from the
/// variable [`ATTACH_VARIABLE`], and ends as its one rank did.
pub fn attach() -> ExitCode {
    let text = std::env::var(ATTACH_VARIABLE).unwrap_or_default();
    end(prepare(&text).and_then(serve::Serving::run_to_the_end))
}

/// Runs a daemon that takes its [`DaemonStart`] from standard input.
pub fn run() -> ExitCode {
    end(begin().and_then(serve::Serving::run_to_the_end).map(|_| 0))
}

fn end(outcome: Result<u8, StepError>) -> ExitCode {
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Nobody may listen; the starter sees that the daemon is gone.
            eprintln!("muster-step: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<serve::Serving, StepError> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(StepError::system("read the start from standard input"))?;
    prepare(&text)
}

fn prepare(text: &str) -> Result<serve::Serving, StepError> {
    let start: DaemonStart =
        serde_json::from_str(text).map_err(|error| StepError::protocol("the supervisor", error))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(StepError::system("become a subreaper"))?;
    raise_file_limit();
    let held: SigSet = HELD.into_iter().collect();
    held.thread_block().map_err(StepError::system("hold signals"))?;
    let signals = SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(StepError::system("await signals"))?;
    let launched = match start.listens {
        false => call::call(&start)?,
        true => {
            let listener = std::io::stdout().as_fd().try_clone_to_owned();
            let listener = TcpListener::from(listener.map_err(StepError::system("use a port"))?);
            let launched = call::be_called(&start, &listener, std::io::stdin().as_fd())?;
            // Nobody else shall call.
            let null = File::options().write(true).open("/dev/null");
            nix::unistd::dup2_stdout(null.map_err(StepError::file("write", "/dev/null"))?)
                .map_err(StepError::system("close a port"))?;
            launched
        }
    };
    Ok(serve::Serving::new(start, launched, signals))
}

/// Ranks get the limits that the starter has; the daemon itself holds several descriptors for each rank.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _as_many_as_there_were = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
