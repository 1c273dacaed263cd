//! Reaching a host through others, as `ssh -J` does.
//!
//! Each jump host is logged in to like any other, with its key verified, and opens a connection to the next one
//! (`direct-tcpip`, RFC 4254, section 7.2). libssh2 wants a socket for a session, so that a thread for each jump moves the
//! bytes between that connection and one end of a pair of sockets; it ends with the session at the other end.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::pump::{self, CHUNK_BYTES};
use crate::{Credentials, HostKeys, Session, SshError, SshTarget};

impl Session {
    /// As [`Session::connect`], but through these hosts, the first of which is connected to from here. The same
    /// credentials and host keys count on all of them.
    ///
    /// # Errors
    ///
    /// [`SshError::Jump`] if a jump host lets nobody in, [`SshError::JumpOnwards`] if it cannot connect to the next, and what
    /// [`Session::connect`] gives.
    pub fn connect_through(
        jumps: &[SshTarget],
        target: &SshTarget,
        credentials: &Credentials,
        host_keys: &HostKeys,
        timeout: Duration,
    ) -> Result<Self, SshError> {
        let Some((first, others)) = jumps.split_first() else {
            return Self::connect(target, credentials, host_keys, timeout);
        };
        let at = |jump: &SshTarget| {
            let jump = jump.host.clone();
            move |source| SshError::Jump { jump, source: Box::new(source) }
        };
        let mut session = Self::connect(first, credentials, host_keys, timeout).map_err(at(first))?;
        for jump in others {
            let stream = session.tunnel_to(jump)?;
            session = Self::over(stream, jump, credentials, host_keys, timeout).map_err(at(jump))?;
        }
        Self::over(session.tunnel_to(target)?, target, credentials, host_keys, timeout)
    }

    /// Lets the host connect to another, and gives back this side's end of that connection. The session belongs to it
    /// from now on.
    fn tunnel_to(self, next: &SshTarget) -> Result<OwnedFd, SshError> {
        let address = next.addr.to_string();
        let channel = self.ssh.channel_direct_tcpip(&address, next.port, None).map_err(|source| {
            SshError::JumpOnwards { jump: self.target.host.clone(), target: Box::new(next.clone()), source }
        })?;
        let doing = "made a tunnel";
        let (ours, theirs) = UnixStream::pair().map_err(|source| self.failed(doing, source))?;
        theirs.set_nonblocking(true).map_err(|source| self.failed(doing, source))?;
        self.ssh.set_blocking(false);
        let target = Box::new(self.target.clone());
        let relay = Relay { session: self, channel, local: theirs, inward: Vec::new(), outward: Vec::new() };
        std::thread::Builder::new()
            .name("ssh-jump".to_owned())
            .spawn(move || relay.run())
            .map_err(|source| SshError::Session { target, doing, source })?;
        Ok(ours.into())
    }
}

/// The bytes on their way between a jump host and the session that goes through it.
struct Relay {
    session: Session,
    channel: ssh2::Channel,
    local: UnixStream,
    inward: Vec<u8>,
    outward: Vec<u8>,
}

impl Relay {
    fn run(mut self) {
        // However it ends, the other side of the pair sees the end of the stream, which is all that can be told.
        let _ended = self.move_all();
        self.session.hang_up();
    }

    /// Returns when one of the two sides has ended and all of its bytes have been delivered.
    fn move_all(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let mut moved = false;
            if self.inward.is_empty()
                && let Some(length) = pump::read_some(&mut self.channel, &mut buffer)?
            {
                if length == 0 && self.channel.eof() {
                    return Ok(());
                }
                self.inward.extend_from_slice(&buffer[..length]);
                moved |= length > 0;
            }
            if !self.inward.is_empty()
                && let Some(length) = pump::unless_blocked(self.local.write(&self.inward))?
            {
                self.inward.drain(..length);
                moved |= length > 0;
            }
            if self.outward.is_empty()
                && let Some(length) = pump::unless_blocked(self.local.read(&mut buffer))?
            {
                if length == 0 {
                    return Ok(());
                }
                self.outward.extend_from_slice(&buffer[..length]);
                moved = true;
            }
            if !self.outward.is_empty()
                && let Some(length) = pump::write_some(&mut self.channel, &self.outward)?
            {
                self.outward.drain(..length);
                moved |= length > 0;
            }
            // Sending takes in what has come, which no event on the socket would announce again.
            let queued = self.channel.read_window().available > 0 || self.channel.eof();
            if !(moved || queued && self.inward.is_empty()) {
                self.wait()?;
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut local = PollFlags::empty();
        local.set(PollFlags::POLLIN, self.outward.is_empty());
        local.set(PollFlags::POLLOUT, !self.inward.is_empty());
        let local = PollFd::new(self.local.as_fd(), local);
        // Nothing more is read from the host while the other side takes nothing off.
        if self.inward.is_empty() {
            let host = PollFd::new(self.session.stream.as_fd(), pump::socket_events(&self.session.ssh));
            pump::wait(&mut [local, host], None)
        } else {
            pump::wait(&mut [local], None)
        }
    }
}
