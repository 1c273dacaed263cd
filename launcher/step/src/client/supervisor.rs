//! The conversation with the supervisor of the attempt.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::Plan;
use super::signals::Signals;
use crate::place::Placement;
use crate::words::{Answer, Ask, LINE_BYTES_MAX};
use crate::{SOCKET_NAME, StepError};

/// The variable that names the attempt's folder.
const ATTEMPT_DIR: &str = "MUSTER_ATTEMPT_DIR";

/// A step that waits longer for cores says so. The last of the step before it may still be on its way out.
const TELL_AFTER: Duration = Duration::from_millis(300);

/// The longest name of a step that is recorded, in characters.
const NAME_CHARS_MAX: usize = 200;

/// What came first.
enum Heard {
    Answer(Answer),
    /// A signal that ends the wait.
    EndingSignal,
    Nothing,
}

/// The open connection, and what the supervisor opened it with.
pub(super) struct Session {
    stream: UnixStream,
    inbox: Vec<u8>,
    open: bool,
    pub job: u64,
    pub address: String,
    pub supervisor_pid: i32,
    pub hosts: Vec<String>,
}

/// A place for a step.
pub(super) struct Granted {
    pub step: u32,
    pub key: String,
    pub placement: Placement,
}

/// The folder of the attempt that this process is in.
pub(super) fn attempt_dir() -> Option<PathBuf> {
    std::env::var_os(ATTEMPT_DIR).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

impl Session {
    /// Connects to the supervisor of the attempt that this process is in.
    pub fn open() -> Result<Self, StepError> {
        let path = attempt_dir().ok_or(StepError::NoAllocation)?.join(SOCKET_NAME);
        Self::over(UnixStream::connect(&path).map_err(|source| StepError::NoSupervisor { path, source })?)
    }

    /// Hears what a supervisor at the other end says first.
    pub fn over(stream: UnixStream) -> Result<Self, StepError> {
        let mut session = Self {
            stream,
            inbox: Vec::new(),
            open: true,
            job: 0,
            address: String::new(),
            supervisor_pid: 0,
            hosts: Vec::new(),
        };
        match session.wait_for_answer()? {
            Answer::Allocation { job, address, supervisor_pid, hosts } => {
                (session.job, session.address) = (job, address);
                (session.supervisor_pid, session.hosts) = (supervisor_pid, hosts);
                Ok(session)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for a step and waits for its place; `None` if a signal ended the wait.
    pub fn create(
        &mut self,
        plan: &Plan,
        port: u16,
        signals: &Signals,
    ) -> Result<Option<Granted>, StepError> {
        let name: String = plan.step_name.chars().take(NAME_CHARS_MAX).collect();
        let ask = Ask::Create { request: plan.request.clone(), port, name, tree_width: plan.tree_width };
        self.say(&ask)?;
        let mut waited = false;
        let mut tell_at = None;
        loop {
            match self.answer_or_signal(signals, tell_at)? {
                Heard::EndingSignal => return Ok(None),
                Heard::Nothing => {
                    (waited, tell_at) = (true, None);
                    if !plan.quiet {
                        let (name, job) = (plan.name, self.job);
                        eprintln!(
                            "{name}: Job {job} step creation temporarily disabled, retrying (Requested nodes are busy)"
                        );
                    }
                }
                Heard::Answer(answer) => match answer {
                    Answer::Waiting => tell_at = Some(Instant::now() + TELL_AFTER),
                    Answer::Placed { step, key, placement } => {
                        if waited && !plan.quiet {
                            eprintln!("{}: Step created for StepId={}.{step}", plan.name, self.job);
                        }
                        return Ok(Some(Granted { step, key, placement }));
                    }
                    Answer::Refused { reason } => return Err(StepError::Refused { job: self.job, reason }),
                    other => return Err(unexpected(&other)),
                },
            }
        }
    }

    /// Tells the supervisor something.
    pub fn say(&mut self, ask: &Ask) -> Result<(), StepError> {
        let mut text =
            serde_json::to_string(ask).map_err(|error| StepError::protocol("this program", error))?;
        text.push('\n');
        self.stream.write_all(text.as_bytes()).map_err(StepError::system("speak with the supervisor"))
    }

    fn answer_or_signal(&mut self, signals: &Signals, until: Option<Instant>) -> Result<Heard, StepError> {
        loop {
            if let Some(answer) = self.next_answer()? {
                return Ok(Heard::Answer(answer));
            }
            let timeout = until.map_or(PollTimeout::NONE, |until| {
                let left = until.saturating_duration_since(Instant::now());
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [
                PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(StepError::system("wait for the supervisor")(error)),
            }
            if signals.take().iter().any(|received| {
                matches!(received.signal, Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT)
            }) {
                return Ok(Heard::EndingSignal);
            }
            self.fill()?;
        }
    }

    fn wait_for_answer(&mut self) -> Result<Answer, StepError> {
        loop {
            if let Some(answer) = self.next_answer()? {
                return Ok(answer);
            }
            let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => self.fill()?,
                Err(error) => return Err(StepError::system("wait for the supervisor")(error)),
            }
        }
    }

    /// Takes what has arrived, without waiting. Once the step runs, a supervisor that hangs up is no failure: the
    /// attempt ends, and everything in it.
    pub fn fill(&mut self) -> Result<(), StepError> {
        self.stream.set_nonblocking(true).map_err(StepError::system("use the supervisor's socket"))?;
        let mut part = [0; 16 << 10];
        let taken = loop {
            match self.stream.read(&mut part) {
                Ok(0) => {
                    self.open = false;
                    break Ok(());
                }
                Ok(count) => self.inbox.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.open = false;
                    break Err(StepError::system("hear the supervisor")(error));
                }
            }
        };
        self.stream.set_nonblocking(false).map_err(StepError::system("use the supervisor's socket"))?;
        taken
    }

    /// The next whole answer of what has arrived.
    pub fn next_answer(&mut self) -> Result<Option<Answer>, StepError> {
        let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') else {
            if !self.open {
                return Err(StepError::protocol("the supervisor", "it has hung up"));
            }
            if self.inbox.len() > LINE_BYTES_MAX {
                return Err(StepError::protocol("the supervisor", "a line that never ends"));
            }
            return Ok(None);
        };
        let answer = serde_json::from_slice(&self.inbox[..end]);
        self.inbox.drain(..=end);
        answer.map(Some).map_err(|error| StepError::protocol("the supervisor", error))
    }

    /// Whether it has not hung up.
    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn unexpected(answer: &Answer) -> StepError {
    StepError::protocol("the supervisor", format!("{answer:?} was not expected"))
}
