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
    /// What was queued with it: the how many-th it is.
    nth: i32,
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

    /// All that have come, in the order in which the supervisor sent them. The kernel keeps pending signals by their numbers
    /// and not in order, and a program may rely on what came first, such as SIGTERM before the signal of a preemption.
    pub fn take(&self) -> Vec<Received> {
        let mut all: Vec<Received> = std::iter::from_fn(|| self.next()).collect();
        all.sort_by_key(|received| received.nth);
        all
    }

    fn next(&self) -> Option<Received> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok()?;
        let is_queued = info.ssi_code == nix::libc::SI_QUEUE;
        let nth = if is_queued { info.ssi_int } else { 0 };
        Some(Received { signal, sender: info.ssi_pid.cast_signed(), is_queued, nth })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;
    use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR1, SIGUSR2};

    use super::*;

    #[test]
    fn pending_signals_come_in_the_order_in_which_they_were_queued() {
        let signals = Signals::hold().unwrap();
        for (nth, signal) in [(1_usize, SIGTERM), (2, SIGUSR2), (3, SIGHUP)] {
            // An int lies in the first bytes of a value, as on all machines that keep the lowest byte first.
            let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(nth) };
            // SAFETY: the signal goes to this thread, which holds it.
            assert_eq!(unsafe { libc::pthread_sigqueue(libc::pthread_self(), signal as i32, value) }, 0);
        }
        // Another's, of which nobody said when it came.
        nix::sys::signal::raise(SIGUSR1).unwrap();
        let taken: Vec<Signal> = signals.take().into_iter().map(|received| received.signal).collect();
        assert_eq!(taken, [SIGUSR1, SIGTERM, SIGUSR2, SIGHUP]);
        assert!(signals.take().is_empty());
    }
}
