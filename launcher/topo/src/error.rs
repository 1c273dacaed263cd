//! Everything that can go wrong with topologies, bindings and lists of cores.

use std::path::PathBuf;

use crate::format_list;

/// A failure to read a topology, to bind a process, or to read a list of core numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopoError {
    /// The file that should hold an hwloc XML topology could not be read.
    #[error("cannot read the topology file {}", path.display())]
    ReadFile {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// hwloc does not accept the description or the XML text.
    #[error(
        "hwloc does not accept {origin}; it wants a synthetic description such as `package:2 core:4 pu:2`, \
         or XML in the form of hwloc 2 or 3 (`lstopo --of xml`)"
    )]
    Description {
        /// Which description: a file's name, or the synthetic text.
        origin: String,
        /// hwloc's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// hwloc's discovery failed.
    #[error("hwloc could not discover the topology of {origin}")]
    Discovery {
        /// `this machine`, a file's name, or the synthetic text.
        origin: String,
        /// hwloc's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A topology in which no core is allowed to be used.
    #[error("{origin} has no core that may be used; at least one allowed processing unit is needed")]
    NoCores {
        /// `this machine`, a file's name, or the synthetic text.
        origin: String,
    },
    /// Binding was asked of a topology that describes another machine.
    #[error(
        "refusing to bind through {origin}: it does not describe this machine, so nothing would be bound; \
         use a discovered topology"
    )]
    ForeignTopology {
        /// A file's name, or the synthetic text.
        origin: String,
    },
    /// Binding to no CPU, or to one that the topology does not hold.
    #[error(
        "cannot bind to CPUs `{}`: the CPUs that may be used are `{}`",
        format_list(wanted),
        format_list(allowed)
    )]
    CpusNotAllowed {
        /// The kernel's CPU numbers asked for.
        wanted: Vec<u32>,
        /// The kernel's CPU numbers that the topology allows.
        allowed: Vec<u32>,
    },
    /// hwloc or the kernel refused the binding.
    #[error("cannot bind {target} to CPUs `{}`", format_list(wanted))]
    Bind {
        /// `process N` or `the calling thread`.
        target: String,
        /// The kernel's CPU numbers asked for.
        wanted: Vec<u32>,
        /// hwloc's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What the kernel says after binding could not be read.
    #[error("cannot read back the binding of {target} from {}", path.display())]
    ReadBack {
        /// `process N` or `the calling thread`.
        target: String,
        /// The file under `/proc` that was asked.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The kernel runs the process on other CPUs than asked for.
    #[error(
        "{target} was to be bound to CPUs `{}`, but the kernel holds it to `{}`; \
         a cpuset that lacks some of the CPUs is the usual cause",
        format_list(wanted),
        format_list(actual)
    )]
    NotBound {
        /// `process N` or `the calling thread`.
        target: String,
        /// The kernel's CPU numbers asked for.
        wanted: Vec<u32>,
        /// The kernel's CPU numbers in force.
        actual: Vec<u32>,
    },
    /// A list of numbers is not of the form `0-3,8`.
    #[error("`{text}` is not a list of numbers: `{part}` {problem}; write it like `0-3,8`")]
    List {
        /// The whole text.
        text: String,
        /// The part of it that is wrong.
        part: String,
        /// What is wrong with the part.
        problem: &'static str,
    },
    /// A core number that the node does not declare.
    #[error("core {core} does not exist on this node, which declares cores 0-{}", declared.saturating_sub(1))]
    UnknownCore {
        /// The declared core number asked for.
        core: u32,
        /// How many cores the node declares.
        declared: u32,
    },
    /// None of the cores has as many hardware threads as are asked for.
    #[error("none of the cores `{}` has {threads} hardware threads that may be used", format_list(cores))]
    TooFewThreads {
        /// The declared core numbers asked for.
        cores: Vec<u32>,
        /// Hardware threads asked for.
        threads: u32,
    },
    /// A node that declares no core, or more than a core number can name.
    #[error("a node must declare at least one core; it declares none")]
    NoDeclaredCores,
}
