//! Why something failed, in words that are the same for all hosts where it failed for the same reason.

use crate::SshError;
use crate::error::connect_hint;

/// A reason without the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// At which step, as in `log in`.
    pub step: &'static str,
    /// What was wrong.
    pub what: String,
    /// What differs from host to host, such as the fingerprint of the key that it presents.
    pub detail: Option<String>,
}

/// The steps to a session.
const CONNECT: &str = "connect";
const HOST_KEY: &str = "verify the host key";
const LOG_IN: &str = "log in";
/// What comes after them.
const TALK: &str = "talk";

impl SshError {
    /// The reason, to be told once for many hosts.
    pub fn cause(&self) -> Cause {
        let at = |step, what: String| Cause { step, what, detail: None };
        match self {
            Self::Resolve { .. } => at(CONNECT, "the name has no address".to_owned()),
            Self::Connect { source, .. } => at(CONNECT, connect_hint(source.kind()).to_owned()),
            Self::Handshake { source, .. } => at(CONNECT, format!("the SSH handshake failed: {source}")),
            Self::KnownHosts { .. } | Self::HostKeyLine { .. } => at(HOST_KEY, self.with_source()),
            Self::HostKeyUnknown { files, fingerprint, .. } => Cause {
                step: HOST_KEY,
                what: format!(
                    "the key is unknown: there is no entry for the host in {}",
                    crate::error::list(files)
                ),
                detail: Some(format!("presents {fingerprint}")),
            },
            Self::HostKeyChanged { expected, fingerprint, .. } => Cause {
                step: HOST_KEY,
                what: format!(
                    "the key does not match: {expected} is expected; the host was set up anew, or something stands between"
                ),
                detail: Some(format!("presents {fingerprint}")),
            },
            Self::HostKeyRevoked { file, fingerprint, .. } => Cause {
                step: HOST_KEY,
                what: format!("the key is marked @revoked in {}", file.display()),
                detail: Some(format!("presents {fingerprint}")),
            },
            Self::HostKeyUncertified { file, fingerprint, .. } => Cause {
                step: HOST_KEY,
                what: format!(
                    "the host presents no certificate, and {} knows it by @cert-authority alone",
                    file.display()
                ),
                detail: Some(format!("presents {fingerprint}")),
            },
            Self::HostCertificate { key_id, reason, .. } => Cause {
                step: HOST_KEY,
                what: format!("the certificate does not count: {reason}"),
                detail: Some(format!("presents `{key_id}`")),
            },
            Self::Jump { jump, source } => {
                let Cause { what, detail, .. } = source.cause();
                let detail = detail.map_or_else(String::new, |detail| format!("; it {detail}"));
                at(CONNECT, format!("the jump host {jump} cannot be used: {what}{detail}"))
            }
            Self::JumpOnwards { jump, source, .. } => {
                at(CONNECT, format!("the jump host {jump} cannot connect to it: {}", source.message()))
            }
            Self::Authentication { target, credentials, source } => at(
                LOG_IN,
                format!("{} does not get in with {credentials}: {}", target.user, source.message()),
            ),
            Self::Session { doing, source, .. } => {
                at(TALK, format!("the session failed while it {doing}: {source}"))
            }
            Self::DeadlineExceeded { limit, .. } => {
                at(TALK, format!("the command did not end within {} s", limit.as_secs_f64()))
            }
            Self::OutputTooLong { stream, limit_bytes, .. } => {
                at(TALK, format!("the command wrote more than {limit_bytes} bytes to its {stream}"))
            }
            Self::LocalFile { .. } => at(TALK, self.with_source()),
            Self::Upload { path, detail, .. } => at(TALK, format!("{path} could not be stored: {detail}")),
        }
    }

    fn with_source(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
