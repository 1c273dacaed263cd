//! A virtual cluster on one machine, for tests that need real hosts.
//!
//! A cluster is `head` plus `node01` .. `nodeNN`. A host is a set of Linux namespaces
//! (network, UTS, IPC, PID, mount and cgroup) with its own name, address, process tree, `sshd`,
//! `/etc/ssh`, `/etc/hosts`, `/dev/shm`, `/run/muster` and `/var/lib/muster`, and its own subtree of
//! every cgroup hierarchy. The rest of the root filesystem is common to all hosts and to the machine:
//! it plays the part of the cluster's shared filesystem.
//!
//! The bridge that joins the hosts lives in a namespace of its own. No traffic leaves the cluster and no
//! firewall of the machine touches it; programs that talk to hosts run inside one, usually in `head`.
//! [`VirtualCluster::shared_dir`] is the place for a Unix socket that both sides can open.
//!
//! ```no_run
//! use muster_cluster_tests::{ClusterOptions, VirtualCluster};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = VirtualCluster::up(&ClusterOptions { hosts: 2, ..ClusterOptions::named("demo") })?;
//! let output = cluster.exec("head", None)?.args(["ssh", "node01", "hostname"]).output()?;
//! assert_eq!(output.stdout, b"node01\n");
//! cluster.down()?;
//! # Ok(())
//! # }
//! ```

pub mod agents;
mod cgroup;
mod cluster;
mod error;
mod etc;
pub mod figures;
mod guard;
pub mod host;
mod links;
mod network;
mod options;
mod process;
pub mod shell;
pub mod site;
mod state;

pub use cluster::{HostStatus, LinkState, PowerState, VirtualCluster};
pub use error::ClusterError;
pub use guard::stand_guard;
pub use network::Badness;
pub use options::{ClusterOptions, HEAD, MAX_NODES, Subnet};
pub use process::ProcessInfo;
pub use state::{ClusterState, HostState, list};

/// Tells whether this process may build virtual clusters, which needs root.
///
/// # Errors
///
/// [`ClusterError::NotRoot`] when the effective user is not root.
pub fn require_root() -> Result<(), ClusterError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(ClusterError::NotRoot) }
}
