//! Why nothing is done on any node.

use std::io;
use std::path::PathBuf;

use muster_config::BadJumpHost;

use crate::exit::Exit;

/// Why `muster node` fails as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeFault {
    /// A word that is no jump host.
    #[error("--jump: {0}")]
    Jump(#[from] BadJumpHost),
    /// More jump hosts than anybody has.
    #[error("--jump names {count} hosts, more than {max}: name fewer")]
    Jumps {
        /// How many were named.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing to log in with.
    #[error(
        "there is no key to log in with: name one by --identity, use an SSH agent (sudo --preserve-env=SSH_AUTH_SOCK), \
         or set identity_file under [bootstrap]"
    )]
    NoKey,
    /// Nobody who could be trusted.
    #[error(
        "there is no file of known host keys, so that no host can be verified: name one by --known-hosts, set known_hosts \
         under [bootstrap], or make /etc/ssh/ssh_known_hosts"
    )]
    NoKnownHosts,
    /// The controller would bring other programs, or the agent again.
    #[error(
        "the controller brings its nodes up itself, and would {conflict}: {right}, or set enabled = false under [bootstrap] \
         and start it again"
    )]
    ByController {
        /// What would come of it.
        conflict: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// The program that does the SSH cannot be used.
    #[error("cannot {action} {}: {source}", program.display())]
    Program {
        /// What was tried.
        action: &'static str,
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The program that does the SSH says something else.
    #[error("{} says what cannot be understood: it must be of the same version as this command", program.display())]
    Nonsense {
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl NodeFault {
    /// The exit code that says this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Jump(_) | Self::Jumps { .. } => Exit::Usage,
            Self::NoKey | Self::NoKnownHosts | Self::ByController { .. } => Exit::Refused,
            Self::Program { .. } => Exit::Io,
            Self::Nonsense { .. } => Exit::BadAnswer,
        }
    }
}
