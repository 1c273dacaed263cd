//! The signals that the starter takes for its ranks.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::StepError;

/// Signals that do not act on the starter itself.
const HELD: [Signal; 9] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// A signal, and who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub signal: Signal,
    /// 0 for the kernel, such as a terminal's Ctrl-C.
    pub sender: i32,
    /// Whether it was queued, as the supervisor of the attempt does with what is meant for the ranks.
    pub is_queued: bool,
}

/// Where held signals are read.
pub(super) struct Signals(SignalFd);

impl Signals {
    pub fn hold() -> Result<Self, StepError> {
        let held: SigSet = HELD.into_iter().collect();
        held.thread_block().map_err(StepError::system("hold signals"))?;
        let fd = SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        fd.map(Self).map_err(StepError::system("await signals"))
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Received> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok()?;
        let is_queued = info.ssi_code == nix::libc::SI_QUEUE;
        Some(Received { signal, sender: info.ssi_pid.cast_signed(), is_queued })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
