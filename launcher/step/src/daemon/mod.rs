//! The step daemon: one process for each node of a step, as the user, inside the attempt's containment.
//!
//! It connects to the starter, starts the ranks that it is told to, serves PMI to them, carries their streams, and ends
//! when nothing of the step is left on its node. When its starter is lost, it kills what it has started.

mod environment;
mod image;
mod pmix;
mod rank;
mod serve;
mod sweep;
mod wireup;

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::StepError;
use crate::auth::{self, Side};
use crate::frames::{Common, FromDaemon, Own, ToDaemon};
use crate::link::{Frame, Link};
use crate::words::DaemonStart;

/// How long the way to the starter may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

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
    let mut link = connect(&start)?;
    let (common, own) = greet(&start, &mut link)?;
    Ok(serve::Serving::new(start, common, own, link, signals))
}

/// Ranks get the limits that the starter has; the daemon itself holds several descriptors for each rank.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _as_many_as_there_were = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn connect(start: &DaemonStart) -> Result<Link, StepError> {
    let (hosts, port) = (&start.starter.0, start.starter.1);
    let unreachable = |error: std::io::Error| StepError::Node {
        host: start.host.clone(),
        problem: format!("cannot reach the starter at {hosts}, port {port}: {error}"),
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    // A starter outside of the allocation has several addresses, and not all lead there.
    for host in hosts.split(',') {
        let addresses = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                last = error;
                continue;
            }
        };
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                Ok(stream) => return Link::new(stream).map_err(unreachable),
                Err(error) => last = error,
            }
        }
    }
    Err(unreachable(last))
}

/// Proves itself to the starter, and hears what to start from a starter that proves itself as well.
fn greet(start: &DaemonStart, link: &mut Link) -> Result<(Common, Own), StepError> {
    let wrong = |problem: &str| StepError::protocol("the starter", problem);
    let ToDaemon::Challenge { nonce: theirs } = hear(link)? else {
        return Err(wrong("no challenge came first"));
    };
    let ours = auth::nonce().map_err(StepError::system("make a nonce"))?;
    let proof = auth::proof(&start.key, Side::Daemon(start.instance), &theirs, &ours);
    link.send(&FromDaemon::Hello { instance: start.instance, nonce: ours.clone(), proof });
    link.flush();
    link.trust();
    let ToDaemon::Launch { proof, common, own } = hear(link)? else {
        return Err(wrong("no launch came second"));
    };
    if !auth::holds(&proof, &start.key, Side::Starter, &theirs, &ours) {
        return Err(wrong("it does not know the step's key"));
    }
    Ok((*common, *own))
}

/// The next message, waited for.
fn hear(link: &mut Link) -> Result<ToDaemon, StepError> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    loop {
        match link.next_frame().map_err(|problem| StepError::protocol("the starter", problem))? {
            Some(Frame::Message(message)) => return Ok(message),
            Some(Frame::Bytes { .. }) => {
                return Err(StepError::protocol("the starter", "bytes came before the launch"));
            }
            None if !link.is_open() => return Err(StepError::protocol("the starter", "it has hung up")),
            None => {}
        }
        let timeout = PollTimeout::try_from(CONNECT_WITHIN).unwrap_or(PollTimeout::MAX);
        let ready = poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], timeout);
        if ready.map_err(StepError::system("wait for the starter"))? == 0 {
            return Err(StepError::protocol("the starter", "it says nothing"));
        }
        link.fill();
    }
}
