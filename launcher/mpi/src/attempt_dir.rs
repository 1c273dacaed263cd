//! The names of an attempt's files.

use std::path::{Path, PathBuf};

/// The folder of an attempt, private to its user. Its path is the same on every node, its contents are each node's
/// own; `MUSTER_ATTEMPT_DIR` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDir(PathBuf);

impl AttemptDir {
    /// The variable that names the folder to every process of the attempt.
    pub const VARIABLE: &'static str = "MUSTER_ATTEMPT_DIR";

    /// The folder at this absolute path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The hosts in Open MPI's form (primary only).
    pub fn hostfile(&self) -> PathBuf {
        self.0.join("hostfile")
    }

    /// The hosts in Hydra's form (primary only).
    pub fn hostfile_hydra(&self) -> PathBuf {
        self.0.join("hostfile.hydra")
    }

    /// The hosts in the form of Grid Engine, for Intel MPI (primary only).
    pub fn hostfile_sge(&self) -> PathBuf {
        self.0.join("hostfile.sge")
    }

    /// The ranks' places in Open MPI's form (primary only).
    pub fn rankfile(&self) -> PathBuf {
        self.0.join("rankfile")
    }

    /// How ranks are bound on this node, see [`crate::Binding`].
    pub fn binding(&self) -> PathBuf {
        self.0.join("binding")
    }

    /// Where the attempt's other instances are reached, see [`crate::Peer`].
    pub fn peers(&self) -> PathBuf {
        self.0.join("peers")
    }

    /// The private key that opens the other instances (primary only).
    pub fn private_key(&self) -> PathBuf {
        self.0.join("id_ed25519")
    }

    /// The datagram socket on which this node's supervisor hears of lost remote commands.
    pub fn events_socket(&self) -> PathBuf {
        self.0.join("events.sock")
    }

    /// The private host key of this node's SSH endpoint.
    pub fn host_key(&self) -> PathBuf {
        self.0.join("host_key")
    }

    /// The public key that may enter this node's SSH endpoint.
    pub fn authorized_keys(&self) -> PathBuf {
        self.0.join("authorized_keys")
    }

    /// The configuration of this node's SSH endpoint.
    pub fn sshd_config(&self) -> PathBuf {
        self.0.join("sshd_config")
    }
}
