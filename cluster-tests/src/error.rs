//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with a virtual cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The effective user is not root.
    #[error(
        "a virtual cluster needs root: it makes network, PID and mount namespaces and cgroups; run this as root"
    )]
    NotRoot,

    /// A program that the harness needs is not installed.
    #[error("`{program}` is not installed; on Debian: apt-get install {package}")]
    MissingProgram {
        /// The program's name.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },

    /// The name of the cluster cannot be used in link and namespace names.
    #[error("`{name}` is no cluster name: use 1 to 8 lower-case letters and digits, a letter first")]
    BadName {
        /// The name as given.
        name: String,
    },

    /// The text is not a subnet of the range that clusters use.
    #[error(
        "`{text}` is no cluster subnet: give the first three numbers of one in 10.64.0.0/10, as in 10.77.0"
    )]
    BadSubnet {
        /// The text as given.
        text: String,
    },

    /// Another cluster uses the subnet.
    #[error("subnet {subnet} is used by the cluster `{cluster}`: give another, or none to have one chosen")]
    SubnetTaken {
        /// The subnet, as in `10.77.0`.
        subnet: String,
        /// The cluster that holds it.
        cluster: String,
    },

    /// Every subnet is in use.
    #[error(
        "all subnets in 10.64.0.0/10 are used by other clusters: run `muster-cluster list` and take some down"
    )]
    NoFreeSubnet,

    /// The number of nodes is out of range.
    #[error("{hosts} nodes are not possible: give 1 to {limit}")]
    BadHostCount {
        /// The number as given.
        hosts: usize,
        /// The greatest number of nodes.
        limit: usize,
    },

    /// A user name that `useradd` would refuse as well.
    #[error("`{user}` is no user name: use up to 31 lower-case letters, digits, `_` and `-`, a letter first")]
    BadUser {
        /// The name as given.
        user: String,
    },

    /// The host does not know the user.
    #[error("host {host} knows no user `{user}`: name it when the cluster is started (--user {user})")]
    NoSuchUser {
        /// The host that was asked.
        host: String,
        /// The user that it does not know.
        user: String,
    },

    /// A cluster of this name is there, running or left over.
    #[error("a cluster `{name}` exists: run `muster-cluster down --name {name}` first, or use another name")]
    Exists {
        /// The cluster's name.
        name: String,
    },

    /// There is no cluster of this name.
    #[error("there is no cluster `{name}`: `muster-cluster list` shows those that exist")]
    NoSuchCluster {
        /// The name as given.
        name: String,
    },

    /// The cluster has no host of this name.
    #[error("the cluster `{cluster}` has no host `{host}`: its hosts are {known}")]
    NoSuchHost {
        /// The cluster's name.
        cluster: String,
        /// The host as given.
        host: String,
        /// The first and the last host's name.
        known: String,
    },

    /// The operation needs a running host.
    #[error("host {host} is powered off: run `muster-cluster power-on {host}` first")]
    HostIsOff {
        /// The host's name.
        host: String,
    },

    /// The host is running already.
    #[error("host {host} is powered on already")]
    HostIsOn {
        /// The host's name.
        host: String,
    },

    /// A host ended before its sshd listened.
    #[error("host {host} did not come up; its last words, from {log}:\n{tail}", log = log.display())]
    HostStart {
        /// The host's name.
        host: String,
        /// Where its log is.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },

    /// A process outside the cluster was named.
    #[error("process {pid} is not a process of the cluster `{cluster}`: only those may be signalled")]
    ForeignProcess {
        /// The process id as given.
        pid: i32,
        /// The cluster's name.
        cluster: String,
    },

    /// `ip` refused its commands.
    #[error("`ip` failed while {action}: {stderr}")]
    Ip {
        /// What was being done.
        action: &'static str,
        /// What `ip` printed.
        stderr: String,
    },

    /// `ip -json` printed something else than expected.
    #[error("cannot read the link list of the cluster's switch")]
    IpOutput(#[source] serde_json::Error),

    /// A key could not be made or written as text.
    #[error("cannot make an SSH key")]
    Key(#[source] ssh_key::Error),

    /// A state file does not hold what this version writes.
    #[error("cannot read the state file {path}: it is not of this version; remove the cluster with `down`", path = path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },

    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },

    /// A file could not be read, written, made or removed.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was tried, as in `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },

    /// A system call that concerns no file failed.
    #[error("cannot {action}")]
    System {
        /// What was tried, as in `enter the network namespace`.
        action: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The result of everything in this crate.
pub(crate) type Result<T, E = ClusterError> = std::result::Result<T, E>;

impl ClusterError {
    /// Makes the function that wraps an error about `path`, for `map_err`.
    pub(crate) fn file<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source: source.into() }
    }

    /// Makes the function that wraps an error of a system call, for `map_err`.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
