//! What starter and step daemons say to each other. A daemon that others hang below says the same to them as the starter
//! would, and passes on what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::live::{LiveUsage, RankNow};

/// What a [`crate::link::Frame`] with bytes carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// For a rank's standard input; no bytes mean its end.
    Stdin = 0,
    /// From a rank's standard output.
    Stdout = 1,
    /// From a rank's standard error.
    Stderr = 2,
    /// An exchange between PMIx servers: the part of a branch, or all parts.
    Fence = 3,
    /// The next bytes of the file that is sent to all nodes.
    File = 4,
}

impl Stream {
    /// The stream of a number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Fence, Self::File]
            .into_iter()
            .find(|stream| *stream as u8 == number)
    }
}

/// The tag of input that is for all ranks of a node.
pub const ALL_RANKS: u32 = u32::MAX;

/// To a daemon, from the starter or the daemon above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToDaemon {
    /// Opens the conversation.
    Challenge {
        /// This side's nonce.
        nonce: String,
    },
    /// Answers the daemon's word: that this side knows the step's key as well.
    Proof {
        /// The proof.
        proof: String,
    },
    /// Start the ranks, and have those of other nodes started.
    Launch {
        /// What all nodes are told.
        common: Box<Common>,
        /// What this node is told.
        own: Box<Own>,
        /// The nodes that hang below this one.
        below: Vec<Branch>,
    },
    /// All nodes have reached the barrier; these are the pairs that the ranks have put.
    Fence {
        /// Key and value.
        pairs: BTreeMap<String, String>,
    },
    /// Send a signal to all ranks.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The size of the starter's terminal has changed.
    Window {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// A rank has ended that never said a word to PMI or PMIx: others that wait for all wait for ever.
    Absent {
        /// The rank.
        rank: u32,
    },
    /// The file that is sent to all nodes is complete, and has this digest.
    FileSent {
        /// SHA-256 (FIPS 180-4), in hexadecimal digits.
        sha256: String,
    },
    /// The file is on all nodes: start the ranks.
    Go,
    /// Say what the ranks use. From somebody who looks on: of the whole step.
    Usage,
    /// Kill what is left.
    Kill,
}

/// A node of a step that hangs below another, and what hangs below itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Branch {
    /// Its instance of the attempt.
    pub instance: u32,
    /// Where its daemon listens.
    pub address: (String, u16),
    /// What it is told.
    pub own: Own,
    /// The next nodes.
    pub below: Vec<Branch>,
}

impl Branch {
    /// How many nodes it has.
    pub fn nodes(&self) -> u32 {
        1 + self.below.iter().map(Self::nodes).sum::<u32>()
    }
}

/// What every node of a step is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Common {
    /// Programs with their arguments; several with `--multi-prog`.
    pub programs: Vec<Vec<String>>,
    /// The environment of all ranks.
    pub environment: Vec<(String, String)>,
    /// Where ranks start.
    pub directory: String,
    /// The mask of new files' rights.
    pub umask: u32,
    /// Soft limits: the number of each resource (setrlimit(2)), and how much.
    pub limits: Vec<(u32, u64)>,
    /// The number of ranks of the step.
    pub ntasks: u32,
    /// How many cores each asked for.
    pub cores_per_task: u32,
    /// The position of each rank's node among the step's nodes, by rank.
    pub node_of_rank: Vec<u32>,
    /// The hosts of the step's nodes.
    pub hosts: Vec<String>,
    /// How ranks find each other.
    pub wireup: Wireup,
    /// How ranks are bound.
    pub bind: CpuBind,
    /// Rank 0 has a terminal of this size, and the others no input nor output.
    pub terminal: Option<(u16, u16)>,
    /// Write after what output files hold, instead of emptying them.
    pub append: bool,
    /// Ranks have the daemon's own variables, and none of a step.
    pub relayed: bool,
    /// How it is told where ranks are bound, if it is.
    #[serde(default)]
    pub show_bindings: Option<ShowBindings>,
    /// No ranks are started.
    #[serde(default)]
    pub dry_run: bool,
    /// A file comes before ranks are started.
    #[serde(default)]
    pub sent: Option<Sent>,
}

/// A file that is sent to all nodes of a step. Its bytes follow the launch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Its place on each node, from the folder in which the ranks start; a folder where it ends with a slash or is empty.
    pub path: String,
    /// How long it is.
    pub bytes: u64,
    /// Its rights.
    pub mode: u32,
    /// When it was last read and changed, in microseconds since 1970, if it shall say so.
    pub times_us: Option<(u64, u64)>,
    /// What is there already is replaced.
    pub replace: bool,
    /// It stays when the step has ended.
    pub keep: bool,
    /// It is the program of the ranks; otherwise none are started.
    pub run: bool,
}

/// What one node is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Own {
    /// Its position among the step's nodes.
    pub position: u32,
    /// All cores of the step here, as positions among the instance's.
    pub cores: Vec<u32>,
    /// Its ranks.
    pub tasks: Vec<Task>,
}

/// One rank.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Task {
    /// Its number in the step.
    pub rank: u32,
    /// Its cores, as positions among the instance's.
    pub cores: Vec<u32>,
    /// Which of the programs.
    pub program: u32,
    /// What stands for `%t` and `%o` in its arguments with `--multi-prog`: this replaces the program's words.
    pub words: Option<Vec<String>>,
    /// Standard input.
    pub stdin: Place,
    /// Standard output.
    pub stdout: Place,
    /// Standard error.
    pub stderr: Place,
}

/// Where a stream of a rank goes, or comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The starter.
    #[default]
    Starter,
    /// Nowhere.
    Null,
    /// A file of the node, opened by the daemon.
    File(String),
    /// Where the standard output goes.
    Stdout,
}

/// How ranks find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wireup {
    /// As the program's MPI wants it.
    #[default]
    Auto,
    /// Not at all.
    None,
    /// PMI-1 and PMI-2, over an inherited socket.
    Pmi,
    /// PMIx.
    Pmix,
    /// Either, for programs that may load any MPI.
    Both,
}

impl Wireup {
    /// Whether PMI-1 and PMI-2 are served.
    pub fn has_pmi(self) -> bool {
        matches!(self, Self::Pmi | Self::Both)
    }
}

/// How ranks are bound to CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuBind {
    /// Each to its cores.
    #[default]
    Cores,
    /// Each to one hardware thread of each of its cores.
    Threads,
    /// Each may use all cores of the step on its node.
    None,
    /// Each to the CPU whose place among the step's is the rank's on the node.
    Rank,
    /// Each to one of these CPUs, in turn.
    Map(Vec<u32>),
    /// Each to one of these sets of CPUs, in turn.
    Masks(Vec<Vec<u32>>),
}

/// How it is told where ranks are bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShowBindings {
    /// A drawing of the node.
    Drawn,
    /// Slurm's line with the mask.
    Slurm,
}

/// What a rank has used, with those of its descendants that were waited for (getrusage(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RankUsage {
    /// CPU time in the program, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Largest resident memory of one process, in bytes.
    pub memory_peak_bytes: u64,
    /// Read from disks, in bytes.
    pub read_bytes: u64,
    /// Written to disks, in bytes.
    pub written_bytes: u64,
}

/// From a daemon to the starter, or to the daemon above it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromDaemon {
    /// Answers the challenge.
    Hello {
        /// The instance of the attempt.
        instance: u32,
        /// The daemon's nonce.
        nonce: String,
        /// That it knows the step's key.
        proof: String,
    },
    /// To somebody who looks on: who runs where.
    Layout {
        /// The hosts of the step's nodes.
        hosts: Vec<String>,
        /// The position of each rank's node, by rank.
        node_of_rank: Vec<u32>,
    },
    /// The file that is sent is on all nodes of the branch.
    FileHere,
    /// The ranks have been started, on all nodes of the branch.
    Started,
    /// Nothing was started on a node, and nothing will be.
    Refused {
        /// The position of the node.
        node: u32,
        /// Why, in a sentence.
        problem: String,
    },
    /// The way to a node is lost, and with it those that hang below.
    Lost {
        /// The position of the node.
        node: u32,
        /// How many hang below it: those that follow.
        below: u32,
        /// What happened.
        problem: String,
    },
    /// A line for the user, about this node.
    Notice {
        /// The line.
        text: String,
    },
    /// Where a rank is bound: a line for the user.
    Binding {
        /// The rank.
        rank: u32,
        /// The line.
        text: String,
    },
    /// All ranks of the branch have reached the barrier and have put these pairs since the last.
    Fence {
        /// Key and value.
        pairs: BTreeMap<String, String>,
    },
    /// A rank asks that the step ends, or has left without the word that its MPI says at its end.
    Abort {
        /// The rank.
        rank: u32,
        /// The exit status that it asks for.
        code: i32,
        /// What it says, or what happened.
        message: String,
    },
    /// A rank has ended and all its output was sent.
    Exited {
        /// The rank.
        rank: u32,
        /// As wait(2) says it.
        status: i32,
        /// What it has used.
        usage: RankUsage,
        /// It was offered PMI or PMIx, and has never said a word of it.
        #[serde(default)]
        silent: bool,
    },
    /// What the ranks of a node use that run.
    Usage {
        /// The position of the node.
        node: u32,
        /// Each.
        ranks: Vec<RankNow>,
    },
    /// To somebody who looks on: what the step uses.
    StepUsage {
        /// All ranks.
        usage: Box<LiveUsage>,
    },
    /// All ranks have ended, and nothing of the step is left on the nodes of the branch.
    Done,
}
