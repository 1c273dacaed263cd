//! A command whose standard streams are this process's own file descriptors, as `ssh host command` has it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::pump::{self, CHUNK_BYTES};
use crate::{ExitStatus, Session, SshError};

/// How long the output must be silent, after the command has ended, until it is no longer waited for: something that
/// the command left behind holds it open then.
pub const DRAIN_AFTER_EXIT: Duration = Duration::from_millis(300);

/// How long output is collected after the command has ended if what it left behind goes on writing.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The most that is written at once to a descriptor that may block. A pipe that polls as writable takes this much
/// (`PIPE_BUF`, pipe(7)).
const WRITE_BYTES_MAX: usize = 4096;

impl Session {
    /// Runs a command through the user's login shell, and moves data between it and the descriptors until it ends.
    ///
    /// It returns as soon as the host reports a death by signal or an exit code other than 0, even if processes
    /// that the command left behind keep its output open; when that was silent for [`DRAIN_AFTER_EXIT`] it is no
    /// longer waited for and the connection is closed. After code 0 it waits, as `ssh` does, until the output is closed.
    /// Output that nobody reads any more is discarded. The descriptors are left as they are (no `O_NONBLOCK`).
    ///
    /// # Errors
    ///
    /// [`SshError::Session`] if the session breaks before the host has said how the command ended.
    pub fn exec_interactive(
        &mut self,
        command: &str,
        stdin: BorrowedFd<'_>,
        stdout: BorrowedFd<'_>,
        stderr: BorrowedFd<'_>,
    ) -> Result<ExitStatus, SshError> {
        let channel = self.ssh.channel_session().map_err(|source| self.failed("opened a channel", source))?;
        let mut relay = Relay {
            channel,
            input: Input { fd: stdin, pending: Vec::new(), stage: Stage::Open },
            output: Output { fd: stdout, pending: Vec::new(), lost: false },
            errors: Output { fd: stderr, pending: Vec::new(), lost: false },
            buffer: vec![0; CHUNK_BYTES],
        };
        relay.channel.exec(command).map_err(|source| self.failed("started a command", source))?;
        self.ssh.set_blocking(false);
        let outcome = relay.run(&self.ssh, self.stream.as_fd());
        let clean = matches!(outcome, Ok((_, Closed::Yes)));
        if !clean {
            self.hang_up();
        }
        drop(relay);
        self.ssh.set_blocking(true);
        outcome
            .map(|(status, _)| status)
            .map_err(|source| self.failed("exchanged data with a command", source))
    }
}

/// Whether the host closed the channel, so that the session can be used further.
enum Closed {
    Yes,
    No,
}

struct Relay<'fd> {
    channel: ssh2::Channel,
    input: Input<'fd>,
    output: Output<'fd>,
    errors: Output<'fd>,
    buffer: Vec<u8>,
}

/// Our standard input on its way to the command.
struct Input<'fd> {
    fd: BorrowedFd<'fd>,
    pending: Vec<u8>,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    Open,
    /// Our input has ended, but the host was not told yet.
    Ending,
    Ended,
}

/// The command's end, when others still hold its output open.
struct Ended {
    status: ExitStatus,
    at: Instant,
    last_output: Instant,
}

impl Ended {
    fn now(status: ExitStatus) -> Self {
        let now = Instant::now();
        Self { status, at: now, last_output: now }
    }

    /// When the output is no longer waited for.
    fn give_up_at(&mut self, moved: bool) -> Instant {
        if moved {
            self.last_output = Instant::now();
        }
        (self.last_output + DRAIN_AFTER_EXIT).min(self.at + DRAIN_MAX)
    }
}

/// One of the command's outputs on its way to a descriptor of ours.
struct Output<'fd> {
    fd: BorrowedFd<'fd>,
    pending: Vec<u8>,
    /// Nobody reads the descriptor any more.
    lost: bool,
}

/// Which of our descriptors are ready, as `poll` said.
#[derive(Default)]
struct Ready {
    input: bool,
    output: bool,
    errors: bool,
}

impl Relay<'_> {
    fn run(&mut self, ssh: &ssh2::Session, socket: BorrowedFd<'_>) -> io::Result<(ExitStatus, Closed)> {
        let mut ready = Ready::default();
        let mut ended: Option<Ended> = None;
        loop {
            let moved = self.step(&ready)?;
            if ended.is_none() {
                ended = pump::early_exit(&self.channel)?.map(Ended::now);
            }
            let drained = self.output.pending.is_empty() && self.errors.pending.is_empty();
            if drained && self.channel.eof() {
                return self.close(ssh, socket, ended);
            }
            let give_up = ended.as_mut().map(|ended| ended.give_up_at(moved));
            if let Some(ended) = ended.take_if(|_| give_up.is_some_and(|at| Instant::now() >= at)) {
                return Ok((ended.status, Closed::No));
            }
            ready = Ready::default();
            // Each read may have queued data for the other stream, which no event on the socket would announce.
            let queued = drained && self.channel.read_window().available > 0;
            if !moved && !queued {
                ready = self.wait(ssh, socket, give_up)?;
            }
        }
    }

    /// Moves what can be moved now; says whether anything moved.
    fn step(&mut self, ready: &Ready) -> io::Result<bool> {
        let mut moved = self.output.write(ready.output)? | self.errors.write(ready.errors)?;
        // While an output of ours is not taken off, nothing more is read from the host: its window is the only
        // brake that the command feels.
        if self.output.pending.is_empty() && self.errors.pending.is_empty() {
            moved |= self.receive()?;
        }
        moved |= self.send(ready.input)?;
        Ok(moved)
    }

    /// All output is delivered; what remains is the status, if it has not come yet, and the close of the channel.
    fn close(
        &mut self,
        ssh: &ssh2::Session,
        socket: BorrowedFd<'_>,
        ended: Option<Ended>,
    ) -> io::Result<(ExitStatus, Closed)> {
        while pump::unless_blocked(self.channel.wait_close().map_err(Into::into))?.is_none() {
            pump::wait_socket(ssh, &socket, None)?;
        }
        let status = match ended {
            Some(ended) => ended.status,
            None => pump::early_exit(&self.channel)?.unwrap_or(ExitStatus::Code(0)),
        };
        while pump::unless_blocked(self.channel.close().map_err(Into::into))?.is_none() {
            pump::wait_socket(ssh, &socket, None)?;
        }
        Ok((status, Closed::Yes))
    }

    fn receive(&mut self) -> io::Result<bool> {
        let mut moved = false;
        if let Some(length) = pump::read_some(&mut self.channel, &mut self.buffer)? {
            self.output.take(&self.buffer[..length]);
            moved |= length > 0;
        }
        if let Some(length) = pump::read_some(&mut self.channel.stderr(), &mut self.buffer)? {
            self.errors.take(&self.buffer[..length]);
            moved |= length > 0;
        }
        Ok(moved)
    }

    fn send(&mut self, readable: bool) -> io::Result<bool> {
        let input = &mut self.input;
        if self.channel.eof() {
            // The command cannot read any more.
            input.pending.clear();
            input.stage = Stage::Ended;
            return Ok(false);
        }
        if readable && input.stage == Stage::Open && input.pending.is_empty() {
            match nix::unistd::read(input.fd, &mut self.buffer) {
                Ok(length) if length > 0 => input.pending.extend_from_slice(&self.buffer[..length]),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // The end, or an input that was never open.
                Ok(_) | Err(_) => input.stage = Stage::Ending,
            }
        }
        if !input.pending.is_empty() {
            let sent = pump::write_some(&mut self.channel, &input.pending)?.unwrap_or(0);
            input.pending.drain(..sent);
            return Ok(sent > 0);
        }
        if input.stage == Stage::Ending
            && pump::unless_blocked(self.channel.send_eof().map_err(Into::into))?.is_some()
        {
            input.stage = Stage::Ended;
            return Ok(true);
        }
        Ok(false)
    }

    /// Waits until any of the four descriptors lets something move, or until the time.
    fn wait(&self, ssh: &ssh2::Session, socket: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Ready> {
        let stalled = !self.output.pending.is_empty() || !self.errors.pending.is_empty();
        let wanted = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
        let from_host = if stalled { PollFlags::empty() } else { pump::socket_events(ssh) };
        let reads = self.input.stage == Stage::Open && self.input.pending.is_empty();
        let mut fds = vec![PollFd::new(socket, from_host)];
        // `poll` reports errors of a descriptor even if nothing is asked of it; one that is not wanted is left out.
        for (fd, flags) in [
            (self.input.fd, wanted(reads, PollFlags::POLLIN)),
            (self.output.fd, wanted(!self.output.pending.is_empty(), PollFlags::POLLOUT)),
            (self.errors.fd, wanted(!self.errors.pending.is_empty(), PollFlags::POLLOUT)),
        ] {
            if !flags.is_empty() {
                fds.push(PollFd::new(fd, flags));
            }
        }
        pump::wait(&mut fds, until)?;
        let mut found = fds[1..].iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = |asked: bool| asked && found.next().unwrap_or(false);
        Ok(Ready {
            input: next(reads),
            output: next(!self.output.pending.is_empty()),
            errors: next(!self.errors.pending.is_empty()),
        })
    }
}

impl Output<'_> {
    fn take(&mut self, data: &[u8]) {
        if !self.lost {
            self.pending.extend_from_slice(data);
        }
    }

    fn write(&mut self, writable: bool) -> io::Result<bool> {
        if !writable || self.pending.is_empty() {
            return Ok(false);
        }
        let length = self.pending.len().min(WRITE_BYTES_MAX);
        match nix::unistd::write(self.fd, &self.pending[..length]) {
            Ok(written) => {
                self.pending.drain(..written);
                Ok(written > 0)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(_) => {
                self.lost = true;
                self.pending.clear();
                Ok(true)
            }
        }
    }
}
