//! What both ways of running a command share: one non-blocking step on a channel, and waiting for the next.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ssh2::BlockDirections;

use crate::ExitStatus;

/// How much is moved in one step, in bytes.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;

/// `None` where the operation would have to wait.
pub(crate) fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads once; `None` if nothing is there now.
pub(crate) fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    unless_blocked(from.read(buffer))
}

/// Writes once; `None` if nothing can be taken now. libssh2 then wants the very same bytes again.
pub(crate) fn write_some(to: &mut impl Write, data: &[u8]) -> io::Result<Option<usize>> {
    unless_blocked(to.write(data))
}

/// What to wait for on the session's socket before libssh2 can go on.
pub(crate) fn socket_events(ssh: &ssh2::Session) -> PollFlags {
    match ssh.block_directions() {
        BlockDirections::Outbound => PollFlags::POLLOUT,
        BlockDirections::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
        // With nothing pending, the next thing to happen is that the host sends something.
        BlockDirections::Inbound | BlockDirections::None => PollFlags::POLLIN,
    }
}

/// The time left until the deadline, for `poll`, rounded up so that the wait does not end just before it.
pub(crate) fn poll_timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let milliseconds = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
    PollTimeout::from(milliseconds)
}

/// Waits; an interruption by a signal counts as an event, because callers look at everything again anyway.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    match poll(fds, poll_timeout(deadline)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for the session's socket alone.
pub(crate) fn wait_socket(
    ssh: &ssh2::Session,
    socket: &impl AsFd,
    deadline: Option<Instant>,
) -> io::Result<()> {
    wait(&mut [PollFd::new(socket.as_fd(), socket_events(ssh))], deadline)
}

/// How the command ended, as far as the host has said. `None` while it runs, and also after an end with code 0:
/// libssh2 does not tell the two apart until the channel is closed.
pub(crate) fn early_exit(channel: &ssh2::Channel) -> io::Result<Option<ExitStatus>> {
    // The signal comes first: after a death by signal the code reads 0.
    if let Some(signal) = channel.exit_signal()?.exit_signal {
        return Ok(Some(ExitStatus::Signal(signal)));
    }
    match channel.exit_status()? {
        0 => Ok(None),
        code => Ok(Some(ExitStatus::Code(code))),
    }
}
