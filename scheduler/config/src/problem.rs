//! What can be wrong with a configuration.

use std::fmt;
use std::path::PathBuf;

use muster_core::gres::BadGres;
use muster_core::notation::NotationError;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file holds errors.
    #[error("{}", lines(problems))]
    Invalid {
        /// All of them, in the order of their places.
        problems: Vec<Problem>,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong and what would be right.
    pub kind: ProblemKind,
}

/// A place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    /// Not TOML.
    #[error("this is not TOML: {message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key '{key}' in {section}{}", suggest(nearest.as_deref(), known))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        section: &'static str,
        /// The known key that it resembles.
        nearest: Option<String>,
        /// All known keys.
        known: String,
    },
    /// A key that must be there.
    #[error("{section} needs the key '{key}': write {example}")]
    MissingKey {
        /// Where.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// How it could be written.
        example: &'static str,
    },
    /// A value of another type.
    #[error("'{key}' must be {expected}, but is {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What it must be, with an example.
        expected: String,
        /// What it is.
        found: &'static str,
    },
    /// A database that cannot be one.
    #[error(
        "'store' must be the URL of a PostgreSQL database, such as postgresql://muster@db.example.org/muster"
    )]
    BadStore,
    /// A password where everybody may read it.
    #[error(
        "'store' holds a password, which everybody who may read this file would know: take it out, and name a file that \
         holds it by 'store_password_file'"
    )]
    PasswordInUrl,
    /// A number outside its limits.
    #[error("'{key}' must be a whole number from {min} to {max}, but is {found}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The least.
        min: i128,
        /// The greatest.
        max: i128,
        /// What it is.
        found: String,
    },
    /// Devices that are not written as they should be.
    #[error("'gres': {problem}")]
    Gres {
        /// What is wrong.
        problem: BadGres,
    },
    /// Places for more or fewer devices than are declared.
    #[error(
        "'gres_numa' places {placed} {name}, but 'gres' declares {declared}: write the NUMA node of each device, in the \
         order of their numbers"
    )]
    GresNuma {
        /// The name of the devices.
        name: String,
        /// How many are placed.
        placed: usize,
        /// How many are declared.
        declared: u32,
    },
    /// Not as many files as there are devices of the name.
    #[error(
        "'gres_files' names {named} files for {name}, but 'gres' declares {declared}: name the file of each device, in the \
         order of their numbers"
    )]
    GresFiles {
        /// The name of the devices.
        name: String,
        /// How many files are named.
        named: usize,
        /// How many are declared.
        declared: u32,
    },
    /// A text in the wrong notation.
    #[error("'{key}': {problem}")]
    Notation {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: NotationError,
    },
    /// A text that is not what it should be.
    #[error("'{key}' must be {expected}, but is '{found}'")]
    BadText {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A word that is none of the choices.
    #[error("'{key}' must be one of {choices}, but is '{found}'")]
    BadChoice {
        /// The key.
        key: &'static str,
        /// The choices.
        choices: String,
        /// What it is.
        found: String,
    },
    /// A name that was given before.
    #[error("{what} '{name}' was already declared on line {first_line}: give each {what} a name of its own")]
    Duplicate {
        /// `node`, `pool` or `switch`.
        what: &'static str,
        /// The name.
        name: String,
        /// The line of the first.
        first_line: usize,
    },
    /// A name twice in one list.
    #[error("'{name}' stands twice in '{key}': write it once")]
    Repeated {
        /// The name.
        name: String,
        /// The list's key.
        key: &'static str,
    },
    /// A name that nothing has.
    #[error("{owner} names the {what} '{name}', which is not declared{}", nearest.as_ref().map(|n| format!(": did you mean '{n}'?")).unwrap_or_default())]
    UnknownName {
        /// Who names it.
        owner: String,
        /// `node` or `switch`.
        what: &'static str,
        /// The name.
        name: String,
        /// A declared name that it resembles.
        nearest: Option<String>,
    },
    /// A cluster without nodes, or without pools.
    #[error("the cluster has no {what}: declare at least one with {example}")]
    NoneDeclared {
        /// `node` or `pool`.
        what: &'static str,
        /// How.
        example: &'static str,
    },
    /// A pool or switch without members.
    #[error("{owner} is empty: name at least one node, such as nodes = \"n[01-04]\"")]
    Empty {
        /// Which pool or switch.
        owner: String,
    },
    /// More than one default pool.
    #[error(
        "pool '{pool}' is marked as the default, but pool '{first}' on line {first_line} is too: mark only one"
    )]
    TwoDefaults {
        /// This one.
        pool: String,
        /// The first one.
        first: String,
        /// Its line.
        first_line: usize,
    },
    /// A node that two groups would bring up and take down.
    #[error("node '{node}' is in the [[elastic]] on line {first_line} already: leave it out of one of them")]
    ElasticTwice {
        /// The node.
        node: String,
        /// The line of the first group.
        first_line: usize,
    },
    /// Numbers of addresses and nodes differ.
    #[error(
        "'address' names {addresses} addresses for {nodes} nodes: name exactly one for each, in the same order"
    )]
    AddressCount {
        /// How many addresses.
        addresses: usize,
        /// How many nodes.
        nodes: usize,
    },
    /// A default time beyond the longest.
    #[error(
        "'default_time' is {default}, which is longer than 'max_time', {max}: make it shorter, or 'max_time' longer"
    )]
    DefaultTimeTooLong {
        /// The default.
        default: String,
        /// The longest.
        max: String,
    },
    /// A switch that joins both nodes and switches, or neither.
    #[error("switch '{switch}' must have either 'nodes' or 'switches', and only one of them")]
    SwitchMembers {
        /// The switch.
        switch: String,
    },
    /// A node on two leaf switches, or a switch under two.
    #[error(
        "{what} '{name}' is on switch '{second}', but already on switch '{first}': leave it on one of them"
    )]
    TwoSwitches {
        /// `node` or `switch`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The first switch.
        first: String,
        /// The second switch.
        second: String,
    },
    /// Switches in a circle.
    #[error("the switches {circle} form a circle: a switch must not be above itself")]
    SwitchCycle {
        /// The circle, such as `a > b > a`.
        circle: String,
    },
    /// Accounts, or qualities of service, in a circle.
    #[error("the {what} {circle} form a circle: {why}")]
    Circle {
        /// `accounts` or `qualities of service`.
        what: &'static str,
        /// The circle, such as `a > b > a`.
        circle: String,
        /// Why there must be none.
        why: &'static str,
    },
    /// An account too far below the cluster.
    #[error("account '{account}' lies deeper than {max} accounts: hang it on one further up")]
    TooDeep {
        /// The account.
        account: String,
        /// How deep it may be.
        max: usize,
    },
    /// More than there may be of something.
    #[error("there are {found} {what}: at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The most.
        max: usize,
    },
    /// A node on no switch, though switches are declared.
    #[error(
        "node '{node}' is on no switch, though the file declares switches: add it to a leaf switch's 'nodes'"
    )]
    OnNoSwitch {
        /// The node.
        node: String,
    },
    /// Switches from two places.
    #[error(
        "the switches come from 'topology_file', but [[switch]] on line {first_line} declares some too: keep one of both"
    )]
    TwoTopologies {
        /// The line of the first `[[switch]]`.
        first_line: usize,
    },
    /// A file that the configuration names and that cannot be read.
    #[error("'{key}' names {}, which cannot be read: {why}", path.display())]
    UnreadableFile {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        why: std::io::ErrorKind,
    },
    /// A word of a topology file that is not a key with a value.
    #[error(
        "'{found}' is not KEY=VALUE: a line of a topology file is SwitchName=NAME with Nodes=LIST or Switches=LIST"
    )]
    TopologyWord {
        /// The word.
        found: String,
    },
    /// Heartbeats too rare for the time-out.
    #[error(
        "'heartbeat_ms' is {heartbeat_ms}, but 'node_timeout_s' is {node_timeout_s}: a node must be heard at least twice in that time, so write at most {most_ms}"
    )]
    HeartbeatTooSlow {
        /// What it is.
        heartbeat_ms: u64,
        /// The time-out.
        node_timeout_s: u64,
        /// The most it may be.
        most_ms: u64,
    },
}

fn suggest(nearest: Option<&str>, known: &str) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean '{nearest}'?"),
        None => format!(": the keys there are {known}"),
    }
}

/// The candidate that `name` is most likely a misspelling of, if there is one.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .map(|(_, candidate)| candidate.to_owned())
}
