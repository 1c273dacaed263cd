//! What can go wrong in a command, as sentences for people.

use std::io;
use std::path::PathBuf;

use muster_batch_client::BatchClientError;
use muster_client::ClientError;
use muster_core::eligibility::BadDependency;
use muster_core::features::BadConstraint;
use muster_core::gres::BadGres;
use muster_core::ids::{BadJobRef, JobRef};
use muster_core::notation::NotationError;

use crate::commands::node::NodeFault;
use crate::exit::Exit;
use crate::look::BadView;
use crate::step::BadStep;
use crate::submit::Origin;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The controller refused, or was not reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The batch service refused, or was not reached, or a job file is wrong.
    #[error(transparent)]
    Batch(#[from] BatchClientError),
    /// A place that is neither in a task's folder nor in the store.
    #[error(
        "'{place}' is no place: write JOB/TASK/PATH for files of a task, or store:CONTAINER/NAME for the store"
    )]
    BatchPlace {
        /// What was written.
        place: String,
    },
    /// Options that say too little or too much.
    #[error("{0}")]
    BatchUsage(&'static str),
    /// There was no step.
    #[error(transparent)]
    Step(#[from] BadStep),
    /// Nothing is seen of a step.
    #[error(transparent)]
    View(#[from] BadView),
    /// A job was named where a step is wanted.
    #[error(
        "which step of job {job}? Write one such as {job}.0; `muster logs -f {job}` follows the output of a script"
    )]
    NoStep {
        /// The job.
        job: JobRef,
    },
    /// No step was named.
    #[error("which step? Write one such as 12.0; `muster steps 12` lists those of job 12")]
    AttachToNothing,
    /// Nodes are not brought up or down.
    #[error(transparent)]
    Node(#[from] NodeFault),
    /// The standard output failed.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The script cannot be read.
    #[error("cannot read the script {}: {source}", path.display())]
    ScriptFile {
        /// The script.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line of a table of recurring jobs is not in order.
    #[error("{place}: {problem}")]
    Crontab {
        /// The table and the line.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No such user.
    #[error("there is no user '{user}'")]
    NoSuchUser {
        /// What was asked for.
        user: String,
    },
    /// The editor failed.
    #[error("the editor `{editor}` failed, and nothing was changed")]
    Editor {
        /// Its command line.
        editor: String,
    },
    /// A file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The system failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A word that is no signal.
    #[error("'{word}' is not a signal: write a name such as USR1, or a number from 1 to 64")]
    Signal {
        /// What was written.
        word: String,
    },
    /// A task where only a whole job will do.
    #[error("{job} is one task of job {}: only whole jobs are changed, so name job {}", job.job, job.job)]
    WholeJob {
        /// What was written.
        job: JobRef,
    },
    /// An update without anything to change.
    #[error("nothing is to be changed: name something, such as --time")]
    NothingToUpdate,
    /// A job id that is none.
    #[error(transparent)]
    JobRef(#[from] BadJobRef),
    /// A host list that is none.
    #[error(transparent)]
    Hosts(NotationError),
    /// A word that is no state.
    #[error("'{word}' is not a state: write all, or some of {known}")]
    State {
        /// What was written.
        word: String,
        /// The states that there are.
        known: String,
    },
    /// A time, size or list that is none.
    #[error("{origin}: {source}")]
    Notation {
        /// Where it was said.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: NotationError,
    },
    /// A dependency that is none.
    #[error("{origin}: {source}")]
    Dependency {
        /// Where it was said.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: BadDependency,
    },
    /// A constraint that is none.
    #[error("{origin}: {source}")]
    Constraint {
        /// Where it was said.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: BadConstraint,
    },
    /// Devices that are none.
    #[error("{origin}: {source}")]
    Gres {
        /// Where it was said.
        origin: Origin,
        /// What is wrong.
        #[source]
        source: BadGres,
    },
    /// A file of node names that cannot be read.
    #[error("{origin}: cannot read the node names in {}: {source}", path.display())]
    NodeFile {
        /// Where it was said.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not a whole number in its range.
    #[error("{origin}: '{value}' is not a whole number from {min} to {max}")]
    Number {
        /// Where it was said.
        origin: Origin,
        /// What was written.
        value: String,
        /// The least.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A value that an option does not take.
    #[error("{origin}: '{value}' is not possible here: {right}")]
    Value {
        /// Where it was said.
        origin: Origin,
        /// What was written.
        value: String,
        /// What would be right.
        right: &'static str,
    },
    /// An entry of `--stage-in` or `--stage-out` cannot be read.
    #[error("{origin}: '{entry}' cannot be moved: {why}")]
    Staging {
        /// Where it was said.
        origin: Origin,
        /// The entry, without what may be secret in it.
        entry: String,
        /// What would be right.
        why: String,
    },
    /// A file with entries cannot be read.
    #[error("{origin}: cannot read {}", path.display())]
    ListFile {
        /// Where it was said.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Two options that do not go together.
    #[error("{origin} does not fit {other}: {right}")]
    Together {
        /// Where the first was said.
        origin: Origin,
        /// Where the other was said.
        other: Origin,
        /// What would be right.
        right: &'static str,
    },
    /// An option that does not exist.
    #[error("{place}: there is no option {option}{}", nearest.as_ref().map(|n| format!(", did you mean {n}?")).unwrap_or_default())]
    UnknownOption {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// The option.
        option: String,
        /// The word as it was written, with its value.
        written: String,
        /// The nearest one that exists.
        nearest: Option<String>,
    },
    /// A shortened option that could be several.
    #[error("{place}: {option} could be {candidates}: write more of it")]
    AmbiguousOption {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// The option.
        option: String,
        /// What it could be.
        candidates: String,
    },
    /// An option of Slurm that has no meaning here.
    #[error("{place}: {option} is an option of Slurm that Muster does not have: {right}")]
    Unsupported {
        /// `FILE:LINE: DIRECTIVE`, or the command line.
        place: String,
        /// The option.
        option: String,
        /// What to do.
        right: &'static str,
    },
    /// An option without the value it needs.
    #[error("{place}: {option} needs a value after it")]
    NoValue {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// The option.
        option: String,
    },
    /// A value for an option that takes none.
    #[error("{place}: {option} takes no value")]
    NeedlessValue {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// The option.
        option: String,
    },
    /// A word in a directive that is no option.
    #[error("{place}: '{word}' is not an option: options start with - or --, and a remark with #")]
    NotAnOption {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
        /// The word.
        word: String,
    },
    /// A quote that is not closed.
    #[error("{place}: a quote is not closed")]
    OpenQuote {
        /// `FILE:LINE: DIRECTIVE`.
        place: String,
    },
    /// A script that cannot be a batch script.
    #[error("{name}: {fault}")]
    Script {
        /// The script, or `FILE:LINE`.
        name: String,
        /// What is wrong, and what would be right.
        fault: ScriptFault,
    },
    /// Neither or both of a script and `--wrap`.
    #[error("name a script, - for the standard input, or --wrap \"COMMAND\", and one of them only")]
    NoScript,
    /// A working directory that cannot be entered.
    #[error("{origin}: {} cannot be the working directory: {source}", path.display())]
    WorkingDirectory {
        /// Where it was said.
        origin: Origin,
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An environment that is too large.
    #[error(
        "the environment has {bytes} bytes, more than {max}: the largest variable is {largest}; pass fewer by \
         --export=NAME,NAME or --export=NONE"
    )]
    Environment {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
        /// The name of the largest variable.
        largest: String,
    },
    /// Nothing says what to cancel.
    #[error("name the jobs to cancel, such as muster cancel 12 13_4, or say --name, --user or --all-mine")]
    NothingToCancel,
    /// A task must be named.
    #[error("job {job} has several tasks: name one, such as {job}_{example}")]
    WhichTask {
        /// The job.
        job: u64,
        /// One of its tasks.
        example: u32,
    },
    /// A task that is not there yet.
    #[error("task {task} has not started, and has no output yet: it is {state}; -f waits for it")]
    NoOutputYet {
        /// The task.
        task: String,
        /// Its state.
        state: &'static str,
    },
    /// A task whose output file is not there.
    #[error(
        "the output of task {task} is not at {} on this host: if its node shares no file system with this host, \
         look on node {node}", path.display()
    )]
    NoOutputHere {
        /// The task.
        task: String,
        /// The file.
        path: PathBuf,
        /// The primary's node.
        node: String,
    },
    /// A task that will never start.
    #[error("job {job} is {state} and holds no cores: there is nothing to draw")]
    NothingToDraw {
        /// The job or task.
        job: String,
        /// Its state.
        state: &'static str,
    },
    /// A topic that has no help.
    #[error("there is no help for '{topic}': write the name of a command, or exit-codes")]
    NoHelp {
        /// What was written.
        topic: String,
    },
    /// A configuration with faults, one a line.
    #[error("{} cannot be used:\n{source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: muster_config::ConfigErrors,
    },
}

/// Why a text is no batch script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFault {
    /// No byte in it.
    #[error("the script is empty: its first line says which program reads it, such as #!/bin/bash")]
    Empty,
    /// No `#!`.
    #[error(
        "the first line is '{first}', and must start with #! and name the program that reads the script, such as \
         #!/bin/bash; for a single command write muster submit --wrap \"COMMAND\""
    )]
    NoShebang {
        /// The first line, shortened.
        first: String,
    },
    /// An executable.
    #[error(
        "this is a program, not a script: write muster submit --wrap \"{name}\", or a script that starts it"
    )]
    Program {
        /// How it was named.
        name: String,
    },
    /// A NUL byte.
    #[error("the script contains a NUL byte, so no shell reads it whole: it is not a text file")]
    Nul,
    /// Line ends of DOS.
    #[error(
        "the line ends with CR LF, as on Windows, and programs would take the CR as text: run dos2unix on it"
    )]
    DosLineEnds,
    /// Not UTF-8.
    #[error("the line is not UTF-8 text: convert the script, for example by iconv -f latin1 -t utf-8")]
    NotUtf8,
    /// Too large.
    #[error("the script has more than {max} bytes: put the data into files of their own")]
    TooLarge {
        /// The limit, in bytes.
        max: usize,
    },
}

impl CliError {
    /// Where the value was said that is wrong, if the error is about one.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Notation { origin, .. }
            | Self::Dependency { origin, .. }
            | Self::Constraint { origin, .. }
            | Self::Gres { origin, .. }
            | Self::NodeFile { origin, .. }
            | Self::Number { origin, .. }
            | Self::Value { origin, .. }
            | Self::Staging { origin, .. }
            | Self::ListFile { origin, .. }
            | Self::Together { origin, .. }
            | Self::WorkingDirectory { origin, .. } => Some(origin),
            _ => None,
        }
    }

    /// The exit code that says this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(error) => Exit::of_client(error),
            Self::Batch(error) => Exit::of_batch(error),
            Self::BatchPlace { .. } | Self::BatchUsage(_) => Exit::Usage,
            Self::View(error) => match error {
                BadView::Client(error) => Exit::of_client(error),
                BadView::Unknown { .. } | BadView::Ended { .. } => Exit::NotFound,
                BadView::Unreached { .. } | BadView::Silent { .. } | BadView::Step(_) => Exit::Refused,
            },
            Self::Node(fault) => fault.exit(),
            Self::Output(_) | Self::System { .. } => Exit::Io,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::NotAllowed,
                _ => Exit::Io,
            },
            Self::JobRef(_)
            | Self::Hosts(_)
            | Self::State { .. }
            | Self::NoScript
            | Self::Signal { .. }
            | Self::WholeJob { .. }
            | Self::NothingToUpdate
            | Self::NoStep { .. }
            | Self::AttachToNothing
            | Self::NothingToCancel => Exit::Usage,
            Self::WhichTask { .. } | Self::NoHelp { .. } => Exit::Usage,
            Self::Step(BadStep::Step(_) | BadStep::File { .. } | BadStep::Directory(_)) => Exit::Refused,
            Self::Step(_) => Exit::Usage,
            Self::NoSuchUser { .. } => Exit::NotFound,
            Self::NoOutputYet { .. } | Self::NoOutputHere { .. } | Self::NothingToDraw { .. } => {
                Exit::NotFound
            }
            Self::Notation { origin, .. }
            | Self::Dependency { origin, .. }
            | Self::Constraint { origin, .. }
            | Self::Gres { origin, .. }
            | Self::NodeFile { origin, .. }
            | Self::Number { origin, .. }
            | Self::Value { origin, .. }
            | Self::Staging { origin, .. }
            | Self::ListFile { origin, .. }
            | Self::Together { origin, .. } => {
                if matches!(origin, Origin::CommandLine { .. }) {
                    Exit::Usage
                } else {
                    Exit::Refused
                }
            }
            Self::UnknownOption { .. }
            | Self::AmbiguousOption { .. }
            | Self::Unsupported { .. }
            | Self::NoValue { .. }
            | Self::NeedlessValue { .. }
            | Self::NotAnOption { .. }
            | Self::OpenQuote { .. }
            | Self::Crontab { .. }
            | Self::Editor { .. }
            | Self::Script { .. }
            | Self::ScriptFile { .. }
            | Self::WorkingDirectory { .. }
            | Self::Environment { .. }
            | Self::Config { .. } => Exit::Refused,
        }
    }
}
