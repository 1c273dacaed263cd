//! Everything that can go wrong on the way to a node.

use std::path::PathBuf;

use muster_ssh::{Cause, SshError};

/// A failure to bring the agent to a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// A line of input is no request.
    #[error("this is no request to bring up a node")]
    Request(#[source] serde_json::Error),
    /// A program that nodes need is not there.
    #[error("cannot read the program {}; it must hold muster-node, muster-rank, muster-rsh, muster-stage and muster-step", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The node could not be reached, or did not let us in.
    #[error("cannot log in to node {node}")]
    Login {
        /// The node.
        node: String,
        /// What went wrong.
        #[source]
        source: SshError,
    },
    /// The session broke.
    #[error("node {node}: the session broke while it {step}")]
    Session {
        /// The node.
        node: String,
        /// What was being done, as in `started the agent`.
        step: &'static str,
        /// What went wrong.
        #[source]
        source: SshError,
    },
    /// The node refused a step.
    #[error("node {node} failed to {step}: {said}")]
    Refused {
        /// The node.
        node: String,
        /// What it was to do.
        step: &'static str,
        /// The last line that it wrote.
        said: String,
    },
    /// sudo did not do what was asked of it.
    #[error(
        "node {node}: sudo does not let {user} do this without a password: {said}; allow it in a file of \
         /etc/sudoers.d, such as `{user} ALL=(root) NOPASSWD: ALL`, or log in as root"
    )]
    Sudo {
        /// The node.
        node: String,
        /// The account.
        user: String,
        /// What sudo said.
        said: String,
    },
    /// The settings cannot be written down.
    #[error("the settings of node {node} cannot be written down")]
    Settings {
        /// The node.
        node: String,
        /// What is wrong with them.
        #[source]
        source: serde_json::Error,
    },
    /// The conversation with whoever asked is over.
    #[error("cannot {action}")]
    Talk {
        /// `read a request` or `write an answer`.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The result of most functions of this crate.
pub type Result<T, E = BootstrapError> = std::result::Result<T, E>;

impl BootstrapError {
    /// The message and its causes as one sentence.
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// The reason, to be told once for many nodes.
    pub fn cause(&self) -> Cause {
        let at = |step, what: String| Cause { step, what, detail: None };
        match self {
            Self::Login { source, .. } => source.cause(),
            Self::Session { step, source, .. } => {
                let cause = source.cause();
                Cause { what: format!("{}, while the node {step}", cause.what), ..cause }
            }
            Self::Refused { step, said, .. } => at(step, said.clone()),
            Self::Sudo { user, said, .. } => at(
                "become root",
                format!(
                    "sudo does not let {user} do this without a password: {said}; allow it in a file of \
                     /etc/sudoers.d, such as `{user} ALL=(root) NOPASSWD: ALL`, or log in as root"
                ),
            ),
            Self::Request(_) | Self::Binary { .. } | Self::Settings { .. } | Self::Talk { .. } => {
                at("prepare", self.sentence())
            }
        }
    }
}
