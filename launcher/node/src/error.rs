//! Everything that can go wrong on a node.

use std::path::PathBuf;

use nix::errno::Errno;

/// A failure of the agent, of a supervisor, or of a preparation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A file or folder of Muster's own could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of Muster's own holds something else than expected.
    #[error("{} is not a valid {kind}", path.display())]
    Malformed {
        /// What the file should hold.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A call to the system failed that has nothing to do with a file.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The topology of this node cannot be read, or lacks a core that was asked for.
    #[error("the cores that were asked for cannot be used")]
    Cores(#[source] muster_topo::TopoError),
    /// The user does not exist here.
    #[error("user {name} does not exist on this node; every node must know the users of its jobs")]
    NoSuchUser {
        /// The user's name.
        name: String,
    },
    /// The user exists here under another number.
    #[error("user {name} has uid {here} on this node, but the job was submitted with uid {submitted}")]
    UidDiffers {
        /// The user's name.
        name: String,
        /// The number on this node.
        here: u32,
        /// The number that the controller sent.
        submitted: u32,
    },
    /// The group is not one of the user's here.
    #[error("user {name} is no member of the group with gid {gid} on this node")]
    GidDiffers {
        /// The user's name.
        name: String,
        /// The group that the controller sent.
        gid: u32,
    },
    /// A device file that the configuration names is not there, or is no device.
    #[error("{} cannot be given to tasks: {problem}; see `gres_files` in the controller's configuration", path.display())]
    NoDevice {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An agent without root's rights was asked to run another user's task.
    #[error(
        "this agent runs as uid {own} and can run tasks of that user only, not of uid {wanted}; \
         start it as root to serve all users"
    )]
    NotRoot {
        /// The agent's own user.
        own: u32,
        /// The task's user.
        wanted: u32,
    },
    /// The user cannot use a path that the job's specification names.
    #[error("user {user} cannot {action} {}", path.display())]
    UserPath {
        /// What was tried: `enter the working directory`, `write the output file`, ...
        action: &'static str,
        /// The path that the specification names.
        path: PathBuf,
        /// The user's name.
        user: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something in the specification cannot be carried out on any node.
    #[error("the {what} holds a zero byte, which no program can be given")]
    ZeroByte {
        /// Which part of the specification.
        what: &'static str,
    },
    /// The preparation lacks a part without which nothing can be started.
    #[error("the controller's message lacks its {part}")]
    Incomplete {
        /// The part of the message.
        part: &'static str,
    },
    /// The members of a gang that the controller packed.
    #[error("the members of the gang")]
    Members(#[source] muster_wire::PackError),
    /// No OpenSSH server program was found.
    #[error(
        "this node has no sshd (looked for {}), which a gang task needs; install the OpenSSH server",
        path.display()
    )]
    NoSshd {
        /// The program that was looked for.
        path: PathBuf,
    },
    /// A process could not be started in the attempt's containment.
    #[error("cannot start {program}: {step} failed")]
    Spawn {
        /// The program.
        program: String,
        /// Which step between fork and exec failed.
        step: crate::supervisor::spawn::Step,
        /// What the system said.
        #[source]
        source: Errno,
    },
    /// A file, key or text of the MPI launch could not be made.
    #[error("cannot set up the attempt's MPI launch")]
    Mpi(#[source] muster_mpi::MpiError),
    /// A message between agent and supervisor is longer than allowed or no message at all.
    #[error("the message between agent and supervisor cannot be read")]
    Frame(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The controller has left something out that it never said.
    #[error("what the controller says cannot be understood")]
    NothingKept(#[source] muster_wire::NothingKept),
    /// What a task is to do cannot be read.
    #[error("what the task is to do cannot be read")]
    Work(#[source] prost::DecodeError),
    /// The task's folder is another task's, or holds one.
    #[error(
        "the folder {} on this node is another task's: tasks that run, or are kept, need folders of their own",
        folder.display()
    )]
    FolderInUse {
        /// Below the root for work.
        folder: PathBuf,
    },
    /// A folder that should be the node's own is a link, or somebody else's.
    #[error("{} is not a folder of the agent's own user; remove it, or set another work_dir", path.display())]
    NotOwnFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The program that moves files says why it could not.
    #[error("{}: {}", .0.code, .0.message)]
    Staged(muster_wire::v1::StagingFailed),
    /// Files could not be brought, or a command of the task could not be started.
    #[error("{code}: {message}")]
    Staging {
        /// As the batch service names it.
        code: &'static str,
        /// A sentence.
        message: String,
    },
    /// The node holds as many attempts as it may.
    #[error("this node already holds {limit} attempts, which is the most it takes")]
    TooManyAttempts {
        /// The limit.
        limit: usize,
    },
    /// The node's address is not known yet.
    #[error("this node does not know its own address")]
    NoAddress,
    /// Another agent holds the folder.
    #[error("an agent already runs with the folder {} (process {pid}); stop it first with `muster-node stop`", dir.display())]
    AlreadyRunning {
        /// The agent's folder.
        dir: PathBuf,
        /// The process that holds it; 0 if it did not say.
        pid: u32,
    },
    /// An agent that was started ended at once.
    #[error("the agent ended while it started; the last line of {} is: {said}", log.display())]
    Died {
        /// The agent's log.
        log: PathBuf,
        /// Its last line.
        said: String,
    },
    /// An agent did not start or stop in time.
    #[error("the agent did not {action} within {seconds} s; see {}", log.display())]
    Slow {
        /// `start` or `stop`.
        action: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The agent's log.
        log: PathBuf,
    },
    /// The settings name no controller.
    #[error("{} names no controller; `controller` must list at least one HOST:PORT", path.display())]
    NoController {
        /// The settings.
        path: PathBuf,
    },
    /// The controller ended the session or refused it.
    #[error("the session with the controller failed")]
    Session(#[source] Box<tonic::Status>),
    /// A controller that was replaced, and does not know yet.
    #[error("the controller leads in term {term}, but another one has led in term {known} since")]
    Replaced {
        /// Its term.
        term: u64,
        /// The highest term that a controller has said.
        known: u64,
    },
    /// The agent has no controller to talk to, or its certificates do not work.
    #[error("the connection to the controller cannot be set up")]
    Transport(#[source] tonic::transport::Error),
}

/// The result of most functions of this crate.
pub type Result<T, E = NodeError> = std::result::Result<T, E>;

impl NodeError {
    /// Wraps a failure with one of Muster's own files.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Wraps a failure of a call to the system.
    pub fn system<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }

    /// Whether a preparation that failed so says something about the node (`true`: other tasks would fail here
    /// too) or about the job's specification (`false`: the job would fail on other nodes too).
    pub fn node_at_fault(&self) -> bool {
        use crate::supervisor::spawn::Step;
        match self {
            Self::UserPath { .. } | Self::ZeroByte { .. } | Self::FolderInUse { .. } => false,
            Self::Staging { .. } | Self::Staged(_) => false,
            Self::Spawn { step, .. } => {
                !matches!(step, Step::Directory | Step::Stdin | Step::Stdout | Step::Stderr | Step::Exec)
            }
            _ => true,
        }
    }

    /// The message and its causes as one sentence.
    pub fn sentence(&self) -> String {
        sentence(self)
    }
}

/// An error's message and its causes as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
