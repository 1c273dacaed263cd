//! Commands whose input and output fit in memory.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::pump::{self, CHUNK_BYTES};
use crate::{Session, SshError};

/// The most that is kept of a command's standard output, and of its standard error, in bytes each. The launcher's
/// own commands answer with far less; output of jobs never comes this way.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How a remote command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal, named without `SIG` as in `KILL` (RFC 4254, section 6.10).
    Signal(String),
}

impl ExitStatus {
    /// Whether the command exited with code 0.
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

/// All that a remote command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Session {
    /// Runs a command through the user's login shell, with the given standard input, until it ends and closes its
    /// output.
    ///
    /// # Errors
    ///
    /// [`SshError::Session`] if the session breaks, [`SshError::OutputTooLong`] beyond [`EXEC_OUTPUT_BYTES_MAX`].
    /// The session cannot be used after an error; the command may still be running.
    pub fn exec(&mut self, command: &str, stdin: &[u8]) -> Result<ExecOutput, SshError> {
        self.exec_reading(command, &mut { stdin }, None)
    }

    /// As [`Session::exec`], but gives up after `limit`.
    ///
    /// # Errors
    ///
    /// As [`Session::exec`], and [`SshError::DeadlineExceeded`].
    pub fn exec_within(
        &mut self,
        command: &str,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<ExecOutput, SshError> {
        self.exec_reading(command, &mut { stdin }, Some(limit))
    }

    /// As [`Session::exec_within`], but with the rest of `stdin` as the standard input, which need not fit in memory.
    /// `stdin` must not block for long.
    ///
    /// # Errors
    ///
    /// As [`Session::exec_within`]; an error of `stdin` is a [`SshError::Session`].
    pub fn exec_reading(
        &mut self,
        command: &str,
        stdin: &mut dyn Read,
        limit: Option<Duration>,
    ) -> Result<ExecOutput, SshError> {
        let mut channel =
            self.ssh.channel_session().map_err(|source| self.failed("opened a channel", source))?;
        channel.exec(command).map_err(|source| self.failed("started a command", source))?;
        self.ssh.set_blocking(false);
        let mut transfer = Transfer::new();
        let outcome = self.run(&mut channel, stdin, limit, &mut transfer);
        if outcome.is_err() {
            self.hang_up();
        }
        drop(channel);
        self.ssh.set_blocking(true);
        Ok(ExecOutput { status: outcome?, stdout: transfer.stdout, stderr: transfer.stderr })
    }

    fn run(
        &self,
        channel: &mut ssh2::Channel,
        stdin: &mut dyn Read,
        limit: Option<Duration>,
        transfer: &mut Transfer,
    ) -> Result<ExitStatus, SshError> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        let broke = |source: io::Error| self.failed("exchanged data with a command", source);
        let pause = || -> Result<(), SshError> {
            match limit.zip(deadline) {
                Some((limit, deadline)) if Instant::now() >= deadline => {
                    Err(SshError::DeadlineExceeded { target: Box::new(self.target.clone()), limit })
                }
                _ => pump::wait_socket(&self.ssh, &self.stream, deadline).map_err(broke),
            }
        };
        while !channel.eof() {
            let moved = transfer.step(channel, stdin).map_err(broke)?;
            if let Some(stream) = transfer.too_long() {
                let target = Box::new(self.target.clone());
                return Err(SshError::OutputTooLong { target, stream, limit_bytes: EXEC_OUTPUT_BYTES_MAX });
            }
            // Each read may have queued data for the other stream, which no event on the socket would announce.
            if !moved && !channel.eof() && channel.read_window().available == 0 {
                pause()?;
            }
        }
        // The exit status may follow the end of the output; the close of the channel follows both.
        while pump::unless_blocked(channel.wait_close().map_err(Into::into)).map_err(broke)?.is_none() {
            pause()?;
        }
        let status = pump::early_exit(channel).map_err(broke)?.unwrap_or(ExitStatus::Code(0));
        while pump::unless_blocked(channel.close().map_err(Into::into)).map_err(broke)?.is_none() {
            pause()?;
        }
        Ok(status)
    }
}

/// The data on its way in both directions.
struct Transfer {
    pending: Vec<u8>,
    stdin: Stdin,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    buffer: Vec<u8>,
}

/// How far the standard input has come.
#[derive(PartialEq)]
enum Stdin {
    Open,
    /// All is sent, but the host was not told yet.
    Ending,
    Ended,
}

impl Transfer {
    fn new() -> Self {
        let empty = Vec::new;
        Self {
            pending: empty(),
            stdin: Stdin::Open,
            stdout: empty(),
            stderr: empty(),
            buffer: vec![0; CHUNK_BYTES],
        }
    }

    /// Moves what can be moved now in all three directions; says whether anything moved.
    ///
    /// All three take turns: reading one stream to its end while the other fills the channel's window would stop
    /// both for ever. Sending comes last: what is read brings in the host's leave to send more, which no event on the
    /// socket would announce again.
    fn step(&mut self, channel: &mut ssh2::Channel, stdin: &mut dyn Read) -> io::Result<bool> {
        let mut moved = false;
        if let Some(length) = pump::read_some(channel, &mut self.buffer)? {
            self.stdout.extend_from_slice(&self.buffer[..length]);
            moved |= length > 0;
        }
        if let Some(length) = pump::read_some(&mut channel.stderr(), &mut self.buffer)? {
            self.stderr.extend_from_slice(&self.buffer[..length]);
            moved |= length > 0;
        }
        moved |= self.send(channel, stdin)?;
        Ok(moved)
    }

    fn send(&mut self, channel: &mut ssh2::Channel, stdin: &mut dyn Read) -> io::Result<bool> {
        if self.stdin == Stdin::Open && self.pending.is_empty() {
            let length = stdin.read(&mut self.buffer)?;
            self.pending.extend_from_slice(&self.buffer[..length]);
            if length == 0 {
                self.stdin = Stdin::Ending;
            }
        }
        if !self.pending.is_empty() {
            let sent = pump::write_some(channel, &self.pending)?.unwrap_or(0);
            self.pending.drain(..sent);
            return Ok(sent > 0);
        }
        if self.stdin == Stdin::Ending
            && pump::unless_blocked(channel.send_eof().map_err(Into::into))?.is_some()
        {
            self.stdin = Stdin::Ended;
            return Ok(true);
        }
        Ok(false)
    }

    fn too_long(&self) -> Option<&'static str> {
        [(&self.stdout, "standard output"), (&self.stderr, "standard error")]
            .into_iter()
            .find_map(|(kept, name)| (kept.len() > EXEC_OUTPUT_BYTES_MAX).then_some(name))
    }
}
