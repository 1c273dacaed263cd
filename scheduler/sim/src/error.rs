//! What can go wrong outside the engine.

use std::io;
use std::path::PathBuf;

use muster_core::ids::JobId;
use muster_core::input::Refusal;

use crate::scenario::ScenarioError;
use crate::swf::SwfError;

/// Why a simulation could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not a trace in the Standard Workload Format.
    #[error("{} is not a trace in the Standard Workload Format", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: SwfError,
    },
    /// A scenario cannot be read, or something in it came otherwise than it says.
    #[error("{}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: ScenarioError,
    },
    /// A file is not a network tree.
    #[error("{} line {line}: {problem}", path.display())]
    Topology {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A file is not a state of a controller.
    #[error(
        "{} is not the state of a controller: it should be what `musterd --print-state` prints",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A what-if question about a pool that is not there.
    #[error("there is no pool '{pool}' in this state; the pools are: {known}")]
    UnknownPool {
        /// Asked for.
        pool: String,
        /// Those that are there.
        known: String,
    },
    /// Nobody says how large the machine is.
    #[error(
        "the trace has no header line 'MaxProcs' or 'MaxNodes': say how many processors the machine had with --procs"
    )]
    NoMachine,
    /// A machine without processors, or one that is too large.
    #[error("a machine of {processors} processors cannot be simulated: 1 to {most} can")]
    MachineSize {
        /// Asked for.
        processors: u64,
        /// The largest.
        most: u32,
    },
    /// No job is left.
    #[error("no usable job is left of the {usable} in the trace after {skipped} were skipped")]
    NoJobs {
        /// Usable jobs in the trace.
        usable: usize,
        /// How many of them were to be skipped.
        skipped: usize,
    },
    /// The engine refused what it should accept.
    #[error("the engine refused job {number} of the trace")]
    Refused {
        /// The job's number in the trace.
        number: i64,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// The engine refused a configuration or a node of its own cluster.
    #[error("the engine refused its own cluster")]
    Cluster(#[source] Refusal),
    /// The engine ended a job that was to end by itself.
    #[error(
        "the engine wanted to end job {job} {seconds} s after the start of the trace, before its own end"
    )]
    EndedByEngine {
        /// The engine's number of the job.
        job: JobId,
        /// When, in seconds from the first submit.
        seconds: u64,
    },
    /// Jobs wait although nothing will ever happen again.
    #[error("{waiting} jobs wait for ever on an idle machine; the first is job {number} of the trace")]
    Starved {
        /// How many.
        waiting: usize,
        /// Number of the first in the trace.
        number: i64,
    },
}
