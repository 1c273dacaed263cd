//! The starter's terminal, when rank 0 has one of its own.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// The size of a terminal where the starter has none.
const DEFAULT_SIZE: (u16, u16) = (24, 80);

/// A terminal in raw mode, until this is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// Every key goes to the rank. `None` if the standard input is no terminal.
    pub fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin().as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _the_terminal_may_have_gone = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Rows and columns.
pub(super) fn size() -> (u16, u16) {
    // SAFETY: a structure of numbers.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    let stdin = std::io::stdin();
    // SAFETY: the descriptor is open, and the structure is a valid place for the answer.
    let asked = unsafe { libc::ioctl(stdin.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if asked == 0 && size.ws_row > 0 { (size.ws_row, size.ws_col) } else { DEFAULT_SIZE }
}

/// Whether reading the standard input would stop this process, because it is a terminal that another job has.
pub(super) fn input_is_anothers() -> bool {
    let stdin = std::io::stdin();
    nix::unistd::isatty(stdin.as_fd()).unwrap_or(false)
        && nix::unistd::tcgetpgrp(stdin.as_fd()).is_ok_and(|group| group != nix::unistd::getpgrp())
}
