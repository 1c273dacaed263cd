//! Everything that can go wrong with a step.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// A failure of a step as a whole. What a rank does is no failure of the step: it is in the exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A file could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A call to the system failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program's file cannot be read as ELF although it begins like one.
    #[error("{} begins like an ELF program, but is damaged or of an unknown kind", path.display())]
    Elf {
        /// The program.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: object::read::Error,
    },
    /// The caller is not inside an allocation.
    #[error(
        "not inside an allocation of Muster, for MUSTER_ATTEMPT_DIR is not set: call it in a job script, or use srun, which \
         makes an allocation"
    )]
    NoAllocation,
    /// The caller named another job than that of its allocation.
    #[error(
        "Unable to confirm allocation for job {job}: Invalid job id specified; this allocation is job {here}'s"
    )]
    OtherJob {
        /// The job that was named.
        job: u64,
        /// The job of the allocation.
        here: u64,
    },
    /// The allocation's supervisor does not answer.
    #[error("the allocation's supervisor does not answer at {}: {source}", path.display())]
    NoSupervisor {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The other side said what cannot be understood.
    #[error("{who} said something that cannot be understood: {problem}")]
    Protocol {
        /// `the supervisor`, or the step daemon of a node.
        who: String,
        /// What is wrong.
        problem: String,
    },
    /// The step cannot be placed.
    #[error("Unable to create step for job {job}: {reason}")]
    Refused {
        /// The job.
        job: u64,
        /// Slurm's sentence, and the numbers.
        reason: String,
    },
    /// A node's step daemon is not there, or was lost.
    #[error("{host}: {problem}")]
    Node {
        /// The node.
        host: String,
        /// What happened.
        problem: String,
    },
    /// An option has a value that cannot be used.
    #[error("{option} cannot be '{value}': {wanted}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        wanted: String,
    },
}

impl StepError {
    /// For a failed call: `map_err(StepError::system("make a pipe"))`.
    pub fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }

    /// For a failed use of a file.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action, path: path.into(), source }
    }

    /// For what another side said.
    pub fn protocol(who: impl Into<String>, problem: impl ToString) -> Self {
        Self::Protocol { who: who.into(), problem: problem.to_string() }
    }
}

/// The system's words for an error number, as strerror(3) has them.
pub(crate) fn errno_text(source: &io::Error) -> String {
    let number = match source.kind() {
        io::ErrorKind::NotFound => Some(Errno::ENOENT as i32),
        _ => source.raw_os_error(),
    };
    number.map_or_else(|| source.to_string(), |number| Errno::from_raw(number).desc().to_owned())
}
