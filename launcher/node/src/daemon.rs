//! Starting the agent in the background, stopping it, and asking for it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::agent::lock::{Holder, Lock};
use crate::agent::status::{Status, ask};
use crate::config::AgentDir;
use crate::error::{NodeError, Result};
use crate::process::ProcessId;
use crate::programs;

/// How long an agent may take to start, and how long to stop.
const WITHIN: Duration = Duration::from_secs(10);

/// What an agent writes to standard output when it serves.
pub const READY: &str = "ready\n";

/// The pause between two looks whether an agent answers already.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// The size from which a log is set aside when an agent starts, in bytes. One older log is kept.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// What [`start`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It started an agent where none ran.
    Started,
    /// It started one in the place of another with other programs or settings.
    Replaced,
    /// One ran already, with the same programs and settings.
    Unchanged,
}

/// An agent that runs because of [`start`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What was done.
    pub did: Start,
    /// The node's name.
    pub node: String,
    /// The agent's process.
    pub pid: i32,
}

impl fmt::Display for Started {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = match self.did {
            Start::Started | Start::Replaced => "runs",
            Start::Unchanged => "runs already",
        };
        write!(formatter, "the agent of {} {runs} as process {}", self.node, self.pid)
    }
}

/// Starts the agent of a folder and returns when it serves.
///
/// # Errors
///
/// [`NodeError::Slow`] if it does not serve in time, with the log's last line in the agent's log, and other
/// [`NodeError`]s if it cannot even be started.
pub fn start(dir: &AgentDir) -> Result<Started> {
    // What would make the agent fail at once is said here and not only in its log.
    let config = dir.config()?;
    let mut did = Start::Started;
    if let Some(holder) = Lock::holder(dir)? {
        if holder.process.pid == 0 || holder.is_like(&Holder::own(dir)) {
            let running = await_service(dir)?;
            return Ok(Started { did: Start::Unchanged, node: config.node, pid: running.holder.process.pid });
        }
        end(dir, holder.process)?;
        did = Start::Replaced;
    }
    set_aside(&dir.log());
    let log = open_log(dir)?;
    await_ready(dir, spawn_detached(dir, log)?)?;
    let status = ask(dir)?;
    programs::remove_unused();
    Ok(Started { did, node: status.node, pid: status.holder.process.pid })
}

/// Starts the agent as a child of nobody: a middle process ends at once, so that the agent is not a child of
/// whoever called, such as an SSH server that waits for its children. The answer is the agent's standard output, on
/// which it says that it serves.
fn spawn_detached(dir: &AgentDir, log: File) -> Result<std::process::ChildStdout> {
    let action = "start the agent";
    let program = std::env::current_exe().map_err(NodeError::system(action))?;
    let mut command = Command::new(program);
    command.arg("agent").arg("--dir").arg(dir.path()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    // SAFETY: setsid, fork, umask and _exit are safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if let nix::unistd::ForkResult::Parent { .. } = nix::unistd::fork()? {
                libc::_exit(0);
            }
            libc::umask(0o022);
            Ok(())
        });
    }
    let mut middle = command.spawn().map_err(NodeError::system(action))?;
    let output = middle.stdout.take().expect("the output was asked for");
    middle.wait().map_err(NodeError::system(action))?;
    Ok(output)
}

/// Waits for the agent's word that it serves.
fn await_ready(dir: &AgentDir, mut output: std::process::ChildStdout) -> Result<()> {
    let timeout = PollTimeout::try_from(WITHIN).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], timeout);
    if ready.map_err(NodeError::system("wait for the agent"))? == 0 {
        return Err(NodeError::Slow { action: "start", seconds: WITHIN.as_secs(), log: dir.log() });
    }
    let mut word = [0u8; READY.len()];
    match output.read_exact(&mut word) {
        Ok(()) if word == *READY.as_bytes() => Ok(()),
        _ => {
            let log = std::fs::read_to_string(dir.log()).unwrap_or_default();
            let said = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
            Err(NodeError::Died { log: dir.log(), said })
        }
    }
}

/// Waits until an agent that holds the lock answers; it may just be starting, and nothing tells when the socket of
/// another process opens.
fn await_service(dir: &AgentDir) -> Result<Status> {
    let until = Instant::now() + WITHIN;
    loop {
        if let Ok(status) = ask(dir) {
            return Ok(status);
        }
        if Instant::now() > until {
            return Err(NodeError::Slow { action: "start", seconds: WITHIN.as_secs(), log: dir.log() });
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Stops the agent of a folder; attempts go on.
///
/// # Errors
///
/// [`NodeError::Slow`] if it does not end.
pub fn stop(dir: &AgentDir) -> Result<String> {
    match Lock::holder(dir)? {
        None => Ok(format!("no agent runs with the folder {}", dir.path().display())),
        Some(holder) => {
            end(dir, holder.process)?;
            Ok(format!("the agent, process {}, has ended; attempts go on", holder.process.pid))
        }
    }
}

fn end(dir: &AgentDir, process: ProcessId) -> Result<()> {
    let Some(handle) = process.watch() else { return Ok(()) };
    match process.signal(Signal::SIGTERM) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(errno) => return Err(NodeError::system("stop the agent")(errno)),
    }
    let timeout = PollTimeout::try_from(WITHIN).unwrap_or(PollTimeout::MAX);
    let ended = poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], timeout);
    match ended.map_err(NodeError::system("wait for the agent's end"))? {
        0 => Err(NodeError::Slow { action: "stop", seconds: WITHIN.as_secs(), log: dir.log() }),
        _ => Ok(()),
    }
}

/// What the agent of a folder says, if one runs.
///
/// # Errors
///
/// [`NodeError`] if one runs but does not answer.
pub fn status(dir: &AgentDir) -> Result<Option<Status>> {
    match Lock::holder(dir)? {
        None => Ok(None),
        Some(_) => ask(dir).map(Some),
    }
}

fn open_log(dir: &AgentDir) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(dir.log())
        .map_err(NodeError::file("open", dir.log()))
}

fn set_aside(log: &Path) {
    if std::fs::metadata(log).is_ok_and(|file| file.len() > LOG_BYTES_MAX) {
        let _ = std::fs::rename(log, log.with_extension("log.1"));
    }
}

/// Sets the log aside if it has grown too large. Called by the agent now and then; nothing happens if its standard
/// error is not its log.
pub fn limit_log(dir: &AgentDir) {
    let log = dir.log();
    let (Ok(named), Ok(own)) = (nix::sys::stat::stat(&log), nix::sys::stat::fstat(std::io::stderr())) else {
        return;
    };
    let too_large = u64::try_from(own.st_size).is_ok_and(|size| size > LOG_BYTES_MAX);
    if (named.st_dev, named.st_ino) != (own.st_dev, own.st_ino) || !too_large {
        return;
    }
    set_aside(&log);
    if let Ok(fresh) = open_log(dir) {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(fresh.as_raw_fd(), 2) };
    }
}

/// Says on standard output that the agent serves, and closes it for good.
pub fn say_ready() {
    use std::io::Write;
    let _ = std::io::stdout().write_all(READY.as_bytes()).and_then(|()| std::io::stdout().flush());
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(null.as_raw_fd(), 1) };
    }
}
