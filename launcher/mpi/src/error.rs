//! Everything that can go wrong while an MPI launch is prepared or carried out.

use std::io;
use std::path::PathBuf;

/// A failure of the texts, the keys, the remote-shell shim or the rank starter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// A file of the attempt could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line of an attempt's file is wrong.
    #[error("line {line_number} of {}, `{line}`, is wrong: {wanted} is wanted", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line_number: usize,
        /// The line itself.
        line: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A list of CPUs or cores in an attempt's file is wrong.
    #[error("{} does not say how ranks are bound", path.display())]
    BindingList {
        /// The file.
        path: PathBuf,
        /// What is wrong with the list.
        #[source]
        source: muster_topo::TopoError,
    },
    /// The binding file has no ranks, or its two lists differ in length.
    #[error(
        "{} names CPUs for {cpus} ranks and cores for {cores}; it must name both for each rank, and for at least one",
        path.display()
    )]
    BindingLength {
        /// The file.
        path: PathBuf,
        /// Entries of `MUSTER_RANK_CPUS`.
        cpus: usize,
        /// Entries of `MUSTER_RANK_CORES_ALL`.
        cores: usize,
    },
    /// A variable that must be set is not.
    #[error(
        "the variable {name} is not set; this program only works inside a Muster allocation, started by {by}"
    )]
    NoVariable {
        /// The variable's name.
        name: &'static str,
        /// Who sets it.
        by: &'static str,
    },
    /// The kernel refused to pin a rank.
    #[error(
        "cannot pin this rank to CPUs `{}`; are they in the attempt's cpuset?",
        muster_topo::format_list(cpus)
    )]
    Pin {
        /// The kernel's CPU numbers.
        cpus: Vec<u32>,
        /// What the kernel said.
        #[source]
        source: nix::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Exec {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program of one MPI under the launcher of another: every rank would be alone in a world of its own, or abort.
    #[error(
        "`{program}` is linked with {linked}, but {launcher} starts it, and each rank would be alone: start it with \
         {right}, or with `muster run`"
    )]
    WrongMpi {
        /// The program.
        program: String,
        /// Its MPI.
        linked: &'static str,
        /// What starts it.
        launcher: &'static str,
        /// What could.
        right: &'static str,
    },
    /// More ranks than the allocation has.
    #[error(
        "{asked} ranks are asked for, and the allocation has {ranks} on {nodes} nodes: start fewer, submit with more \
         (--ntasks), or set MUSTER_OVERSUBSCRIBE=1 to let ranks share cores"
    )]
    TooManyRanks {
        /// The ranks asked for.
        asked: u32,
        /// Those of the allocation.
        ranks: u32,
        /// The allocation's nodes.
        nodes: usize,
    },
    /// More ranks on a node than the allocation has there.
    #[error(
        "{asked} ranks are asked for on this node, and the allocation has {slots} on it, {ranks} in all: spread them, or \
         set MUSTER_OVERSUBSCRIBE=1 to let ranks share cores"
    )]
    TooManyOnNode {
        /// The ranks asked for.
        asked: u32,
        /// Those of the allocation on this node.
        slots: usize,
        /// Those of the whole allocation.
        ranks: u32,
    },
    /// The program was called in a way that it does not know.
    #[error("{problem}; usage: {usage}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// How it is called.
        usage: &'static str,
    },
    /// A host that is not part of the allocation.
    #[error("host `{host}` is not in this allocation, which holds {}", allocation.join(", "))]
    UnknownHost {
        /// The host asked for.
        host: String,
        /// The allocation's hosts.
        allocation: Vec<String>,
    },
    /// The other node could not be reached, or the connection broke.
    #[error("cannot run a command on `{host}`")]
    Remote {
        /// The node.
        host: String,
        /// What went wrong.
        #[source]
        source: muster_ssh::SshError,
    },
    /// A key pair could not be made or written down.
    #[error("cannot make a key pair for the attempt")]
    Keys {
        /// What went wrong.
        #[source]
        source: ssh_key::Error,
    },
    /// A value cannot be said in a configuration of sshd.
    #[error("{name} cannot be set for the attempt's sshd: its value holds a line break or a NUL byte")]
    SshdValue {
        /// The setting or variable.
        name: String,
    },
}
