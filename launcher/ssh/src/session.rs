//! Setting up a session: connect, verify the host, authenticate.

use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{self, setsockopt, sockopt};

use crate::{HostKeys, SshError, SshTarget};

/// Seconds without traffic until the kernel asks the peer whether it is still there.
const KEEPALIVE_IDLE_S: u32 = 10;
/// Seconds between such questions.
const KEEPALIVE_INTERVAL_S: u32 = 5;
/// Questions without an answer until the connection counts as broken.
const KEEPALIVE_PROBES: u32 = 4;
/// Milliseconds that sent data may stay without acknowledgement; as long as the questions above take.
const UNACKNOWLEDGED_MS: u32 = 30_000;

/// libssh2's codes for a key that the host does not accept.
const AUTHENTICATION_FAILED: i32 = -18;
const PUBLIC_KEY_UNVERIFIED: i32 = -19;

/// How to prove who we are.
#[derive(Clone)]
pub enum Credentials {
    /// A private key without passphrase in a file, in OpenSSH's or PEM form.
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// A private key without passphrase, as the text that such a file holds.
    KeyMemory(String),
    /// Any key of the agent that `SSH_AUTH_SOCK` names.
    Agent,
}

impl Credentials {
    fn describe(&self) -> String {
        match self {
            Self::KeyFile { path } => format!("the key in {}", path.display()),
            Self::KeyMemory(_) => "the key given".to_owned(),
            Self::Agent => "any key of the SSH agent".to_owned(),
        }
    }
}

/// A verified, authenticated SSH session with one host. One command runs at a time.
pub struct Session {
    pub(crate) ssh: ssh2::Session,
    /// A second handle on the session's socket, to wait on and to hang up with.
    pub(crate) stream: OwnedFd,
    pub(crate) target: SshTarget,
}

impl Session {
    /// Connects, verifies the host's key, and authenticates.
    ///
    /// `timeout` limits each of these steps, and later each wait for the host's answer to a request; commands
    /// themselves may run as long as they like. A host that vanishes without a word is noticed after about 30 s.
    ///
    /// # Errors
    ///
    /// [`SshError::Connect`], [`SshError::Handshake`], one of the `HostKey` variants, or
    /// [`SshError::Authentication`], by the step that failed.
    pub fn connect(
        target: &SshTarget,
        credentials: &Credentials,
        host_keys: &HostKeys,
        timeout: Duration,
    ) -> Result<Self, SshError> {
        Self::over(tcp(target, timeout)?.into(), target, credentials, host_keys, timeout)
    }

    /// The same over a connection that is there.
    pub(crate) fn over(
        stream: OwnedFd,
        target: &SshTarget,
        credentials: &Credentials,
        host_keys: &HostKeys,
        timeout: Duration,
    ) -> Result<Self, SshError> {
        let boxed = || Box::new(target.clone());
        let for_ssh = stream.try_clone().map_err(|source| SshError::Connect { target: boxed(), source })?;
        let handshake = |source| SshError::Handshake { target: boxed(), source };
        let mut ssh = ssh2::Session::new().map_err(handshake)?;
        ssh.set_timeout(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1));
        ssh.set_tcp_stream(for_ssh);
        host_keys.prefer(&ssh, target)?;
        ssh.handshake().map_err(handshake)?;
        host_keys.verify(&ssh, target)?;
        authenticate(&ssh, target, credentials)?;
        Ok(Self { ssh, stream, target: target.clone() })
    }

    /// Whom the session is with.
    pub fn target(&self) -> &SshTarget {
        &self.target
    }

    /// Ends the connection at once. libssh2 would otherwise wait for the host while it frees what is half done.
    pub(crate) fn hang_up(&self) {
        // The connection may be gone already, which is what is wanted.
        let _gone = socket::shutdown(self.stream.as_raw_fd(), socket::Shutdown::Both);
    }

    pub(crate) fn failed(&self, doing: &'static str, source: impl Into<std::io::Error>) -> SshError {
        SshError::Session { target: Box::new(self.target.clone()), doing, source: source.into() }
    }
}

fn tcp(target: &SshTarget, timeout: Duration) -> Result<TcpStream, SshError> {
    let failed = |source| SshError::Connect { target: Box::new(target.clone()), source };
    let stream = TcpStream::connect_timeout(&target.socket_addr()?, timeout).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let fd = stream.as_fd();
    setsockopt(&fd, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(&fd, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE_S))
        .and_then(|()| setsockopt(&fd, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL_S))
        .and_then(|()| setsockopt(&fd, sockopt::TcpKeepCount, &KEEPALIVE_PROBES))
        .and_then(|()| setsockopt(&fd, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS))
        .map_err(|errno| failed(errno.into()))?;
    Ok(stream)
}

fn authenticate(ssh: &ssh2::Session, target: &SshTarget, credentials: &Credentials) -> Result<(), SshError> {
    let outcome = match credentials {
        Credentials::KeyFile { path } => ssh.userauth_pubkey_file(&target.user, None, path, None),
        Credentials::KeyMemory(text) => ssh.userauth_pubkey_memory(&target.user, None, text, None),
        Credentials::Agent => with_agent(ssh, &target.user),
    };
    outcome.map_err(|source| SshError::Authentication {
        target: Box::new(target.clone()),
        credentials: credentials.describe(),
        source,
    })
}

/// Offers each key of the agent in turn until one is accepted.
fn with_agent(ssh: &ssh2::Session, user: &str) -> Result<(), ssh2::Error> {
    let mut agent = ssh.agent()?;
    agent.connect()?;
    agent.list_identities()?;
    let code = ssh2::ErrorCode::Session(AUTHENTICATION_FAILED);
    let mut outcome = Err(ssh2::Error::new(code, "the agent holds no key"));
    for identity in agent.identities()? {
        outcome = agent.userauth(user, &identity);
        // Any other failure, such as a host that has heard enough, would be the same for the next key.
        let refused = |error: &ssh2::Error| {
            matches!(error.code(), ssh2::ErrorCode::Session(AUTHENTICATION_FAILED | PUBLIC_KEY_UNVERIFIED))
        };
        if !outcome.as_ref().is_err_and(refused) {
            break;
        }
    }
    outcome
}
