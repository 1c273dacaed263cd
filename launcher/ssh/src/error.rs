//! Everything that can go wrong between two hosts.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::SshTarget;

/// libssh2's codes for a server that hung up, or answered with something else, before the session was set up.
/// `sshd` does so when more connections wait than its `MaxStartups` allows.
const HUNG_UP_EARLY: [i32; 3] = [-2, -13, -43];

/// A failure to reach a host, to trust it, or to run something there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The host's name has no address.
    #[error("cannot find an address for host `{host}`")]
    Resolve {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No TCP connection.
    #[error("cannot connect to {target}: {}", connect_hint(source.kind()))]
    Connect {
        /// Whom to.
        target: Box<SshTarget>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The SSH handshake failed.
    #[error("no SSH session with {target}: the handshake failed")]
    Handshake {
        /// Whom with.
        target: Box<SshTarget>,
        /// What libssh2 said.
        #[source]
        source: ssh2::Error,
    },
    /// The file of known hosts could not be read.
    #[error("cannot read the known host keys in {}", file.display())]
    KnownHosts {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A host key in a file or in a setting is not one.
    #[error("`{line}` is not a host key; it should read like `ssh-ed25519 AAAA...`")]
    HostKeyLine {
        /// The text.
        line: String,
        /// What is wrong with it.
        #[source]
        source: ssh_key::Error,
    },
    /// The host is not in the file of known hosts.
    #[error(
        "the key of host `{host}` is unknown: there is no entry for it in {}; the host presents {fingerprint}; \
         verify that and add the key",
        list(files)
    )]
    HostKeyUnknown {
        /// The host's name.
        host: String,
        /// The files of known hosts.
        files: Vec<PathBuf>,
        /// `SHA256:...` of the key that the host presents.
        fingerprint: String,
    },
    /// The host presents another key than it used to.
    #[error(
        "the key of host `{host}` does not match: {expected} is expected, but the host presents {fingerprint}; \
         the host was set up anew, or something stands between"
    )]
    HostKeyChanged {
        /// The host's name.
        host: String,
        /// Where the expected key comes from: a file, or the fingerprint of the one key that is accepted.
        expected: String,
        /// `SHA256:...` of the key that the host presents.
        fingerprint: String,
    },
    /// The key is marked as revoked.
    #[error("the key of host `{host}`, {fingerprint}, is marked @revoked in {}", file.display())]
    HostKeyRevoked {
        /// The host's name.
        host: String,
        /// The file of known hosts.
        file: PathBuf,
        /// `SHA256:...` of the key that the host presents.
        fingerprint: String,
    },
    /// Only certificates of an authority are trusted for the host, and it presents none.
    #[error(
        "host `{host}` presents no certificate but the key {fingerprint}: {} knows it by @cert-authority alone; \
         give the host a certificate (HostCertificate in its sshd_config), or add its key",
        file.display()
    )]
    HostKeyUncertified {
        /// The host's name.
        host: String,
        /// The file that names the authority.
        file: PathBuf,
        /// `SHA256:...` of the key that the host presents.
        fingerprint: String,
    },
    /// The host's certificate does not count.
    #[error("the certificate `{key_id}` of host `{host}` does not count: {reason}")]
    HostCertificate {
        /// The host's name.
        host: String,
        /// What the authority called the certificate.
        key_id: String,
        /// Why not.
        reason: String,
    },
    /// A jump host could not be reached.
    #[error("the jump host `{jump}` cannot be used")]
    Jump {
        /// The jump host.
        jump: String,
        /// Why not.
        #[source]
        source: Box<SshError>,
    },
    /// A jump host could not reach the next host.
    #[error("the jump host `{jump}` cannot connect to {target}")]
    JumpOnwards {
        /// The jump host.
        jump: String,
        /// Whom it was to connect to.
        target: Box<SshTarget>,
        /// What it said.
        #[source]
        source: ssh2::Error,
    },
    /// The host does not accept the key.
    #[error("{target} does not accept {credentials}")]
    Authentication {
        /// Whom with.
        target: Box<SshTarget>,
        /// Which credentials: a file's name, never the key.
        credentials: String,
        /// What libssh2 said.
        #[source]
        source: ssh2::Error,
    },
    /// The session broke, or the host refused a request.
    #[error("the SSH session with {target} failed while it {doing}")]
    Session {
        /// Whom with.
        target: Box<SshTarget>,
        /// What was being done, as in `started a command`.
        doing: &'static str,
        /// What libssh2 or the system said.
        #[source]
        source: io::Error,
    },
    /// A command wrote more than is kept.
    #[error("a command on {target} wrote more than {limit_bytes} bytes, the limit, to its {stream}")]
    OutputTooLong {
        /// Where.
        target: Box<SshTarget>,
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// A command did not end in time.
    #[error("a command on {target} did not end within {} s", limit.as_secs_f64())]
    DeadlineExceeded {
        /// Where.
        target: Box<SshTarget>,
        /// The time it was given.
        limit: Duration,
    },
    /// A file to upload could not be read.
    #[error("cannot read {} to upload it", path.display())]
    LocalFile {
        /// The file on this host.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other host could not store a file.
    #[error("{target} could not store {path}: {detail}")]
    Upload {
        /// Where.
        target: Box<SshTarget>,
        /// The file on that host.
        path: String,
        /// What its shell said.
        detail: String,
    },
}

impl SshError {
    /// Whether a later try may succeed without any change: the host refused or dropped the connection before a
    /// session was set up, as a booting or a crowded host does.
    ///
    /// Nothing has run on the host in this case.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
            ),
            Self::Jump { source, .. } => source.is_transient(),
            Self::Handshake { source, .. } => {
                matches!(source.code(), ssh2::ErrorCode::Session(code) if HUNG_UP_EARLY.contains(&code))
            }
            _ => false,
        }
    }
}

pub(crate) fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ")
}

/// What to look at first, by the kind of failure.
pub(crate) fn connect_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "the host is up, but nothing listens on that port",
        io::ErrorKind::TimedOut => "the host did not answer in time; it may be down or cut off",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "there is no route to the host",
        _ => "the connection failed",
    }
}
