//! Files of a task: what is brought to its node before it starts, what is taken away after its end, and the folder
//! on the node that holds them meanwhile.
//!
//! A task with a [`Staging`] has a folder on its node, with the command's working directory `wd` in it; its output is
//! in `stdout.txt` and `stderr.txt` beside `wd` unless the job names other files. On every node of a gang the folder
//! has the same path.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

mod command;

pub use self::command::{Command, CommandError};

/// Most inputs of a task, and most common inputs.
pub const INPUTS_MAX: usize = 1000;
/// Most outputs of a task.
pub const OUTPUTS_MAX: usize = 200;
/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 8 << 10;
/// Longest path below a task's folder, in bytes.
pub const RELATIVE_BYTES_MAX: usize = 1024;
/// Longest pattern of output files, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Most headers that are sent with an upload.
pub const HEADERS_MAX: usize = 20;
/// Longest header, name and value, in bytes.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Largest staging of a job, all texts together, in bytes.
pub const STAGING_BYTES_MAX: usize = 512 << 10;
/// How long a task's folder is kept after its end where nothing else is said, in seconds: seven days.
pub const RETENTION_DEFAULT_S: u64 = 7 * 24 * 3600;
/// How long a task's folder is kept at most, in seconds: 180 days.
pub const RETENTION_MAX_S: u64 = 180 * 24 * 3600;
/// How long inputs and the coordination command may take where nothing else is said, in seconds.
pub const PREPARE_DEFAULT_S: u64 = 3600;
/// How long inputs and the coordination command may take at most, in seconds.
pub const PREPARE_MAX_S: u64 = 7 * 24 * 3600;

/// The files of each task of a job.
///
/// What is known to the batch service alone, such as `AZ_BATCH_ACCOUNT_NAME`, `AZ_BATCH_POOL_ID` and
/// `AZ_BATCH_JOB_ID`, is in the job's environment; the node adds what names its own folders and the gang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staging {
    /// The task's folder below the node's root for work, such as `workitems/render/job-1/frame7`; with it the task finds
    /// the variables `AZ_BATCH_*`. Without it the folder is `jobs/JOB` or `jobs/JOB_TASK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<RelativePath>,
    /// What is brought into the working directory of the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputFile>,
    /// What is brought into the task's folder, beside the working directory, on every node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub common_inputs: Vec<InputFile>,
    /// Runs on every node once the inputs are there; the task starts when it has succeeded on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordination: Option<Command>,
    /// What is taken away after the end, from the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputFile>,
    /// How long the folder is kept after the task's end, in seconds.
    #[serde(default = "retention_default")]
    pub retention_s: u64,
    /// How long inputs and the coordination command may take, in seconds.
    #[serde(default = "prepare_default")]
    pub prepare_s: u64,
    /// Runs in the place of the script, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
}

impl Default for Staging {
    fn default() -> Self {
        Self {
            folder: None,
            inputs: Vec::new(),
            common_inputs: Vec::new(),
            coordination: None,
            outputs: Vec::new(),
            retention_s: RETENTION_DEFAULT_S,
            prepare_s: PREPARE_DEFAULT_S,
            command: None,
        }
    }
}

fn retention_default() -> u64 {
    RETENTION_DEFAULT_S
}

fn prepare_default() -> u64 {
    PREPARE_DEFAULT_S
}

/// Something that is brought to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Where it comes from.
    pub source: InputSource,
    /// Its place: the path of one file, or the folder for what comes from a container. Without it a file keeps its own
    /// name, and a container is laid out in the folder itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RelativePath>,
    /// The file's mode, such as 0o770; 0o770 without, and for a [`InputSource::Path`] that of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputSource {
    /// One file, by `http:`, `https:` or `s3:`.
    Http {
        /// Its address.
        url: StoreUrl,
    },
    /// All files of a container whose names begin with a prefix; folders are kept.
    Container {
        /// The container: `http:` or `https:` with a shared access signature, or `s3:`.
        url: StoreUrl,
        /// How the names begin; all of them without.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
    /// A file or a folder below one of the node's shared roots, or of the user's own.
    Path {
        /// Absolute.
        path: String,
    },
}

/// Files that are taken away after the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFile {
    /// Which: relative to the working directory, or absolute below the task's folder. `*` and `?` stand for characters
    /// of a name, `**` for any folders, `[a-c]` and `[!a-c]` for one character.
    pub pattern: String,
    /// Where to.
    pub destination: OutputDestination,
    /// What happens to the file's name there: the whole name for a pattern without wildcards, a folder for others.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Headers that are sent with each upload, such as `Content-Type`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// When.
    #[serde(default)]
    pub condition: UploadCondition,
}

/// Where outputs go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputDestination {
    /// A container: `http:` or `https:` with a shared access signature, or `s3:`.
    Container {
        /// Its address.
        url: StoreUrl,
    },
    /// A folder below one of the node's shared roots, or of the user's own.
    Path {
        /// Absolute.
        path: String,
    },
}

/// When outputs are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadCondition {
    /// After exit code 0.
    Success,
    /// After any other end.
    Failure,
    /// After every end.
    #[default]
    Always,
}

impl UploadCondition {
    /// Whether it holds after an end of this kind.
    #[must_use]
    pub fn holds(self, success: bool) -> bool {
        match self {
            Self::Success => success,
            Self::Failure => !success,
            Self::Always => true,
        }
    }
}

/// A path below a folder, which it can never leave: parts with a `/` between them, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, from the outermost folder on.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl TryFrom<String> for RelativePath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        if text.len() > RELATIVE_BYTES_MAX {
            return Err(BadPath::Long { bytes: text.len() });
        }
        let wrong =
            |part: &str| part.is_empty() || part == "." || part == ".." || part.len() > PART_BYTES_MAX;
        if text.split('/').any(wrong) || text.chars().any(char::is_control) {
            return Err(BadPath::Leaves { path: text });
        }
        Ok(Self(text))
    }
}

/// Longest name of a file (NAME_MAX of limits.h).
const PART_BYTES_MAX: usize = 255;

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path that does not stay below its folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It may lead elsewhere.
    #[error(
        "{path:?} must be a relative path that stays in the task's folder: names with / between them, without . and .., \
         such as data/input.csv"
    )]
    Leaves {
        /// The path.
        path: String,
    },
    /// It is too long.
    #[error("a path of {bytes} bytes is too long; at most {RELATIVE_BYTES_MAX} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
    },
}

/// The address of a file or a container in a store.
///
/// It may hold a secret in its query, such as a shared access signature: it is shown without.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The whole address, with what is secret in it: for whoever reads or writes the store, and for nobody else.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The last part of its path, if there is one: the name that a file keeps.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        let (_, rest) = self.shown().split_once("://")?;
        let (_, name) = rest.rsplit_once('/')?;
        (!name.is_empty()).then_some(name)
    }

    /// Everything before the query, which is the part that holds no secret.
    fn shown(&self) -> &str {
        self.0.split(['?', '#']).next().unwrap_or_default()
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::Long { bytes: text.len() });
        }
        let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
        let Some((scheme, rest)) = scheme else { return Err(BadUrl::NoScheme) };
        if !["http", "https", "s3"].contains(&scheme.as_str()) {
            return Err(BadUrl::Scheme { scheme });
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadUrl::NoHost);
        }
        // What stands before an @ is a user's name and password, which listings and logs would show.
        if authority.contains('@') {
            return Err(BadUrl::Password);
        }
        Ok(Self(text))
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.0
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())?;
        if self.shown().len() < self.0.len() { f.write_str("?...") } else { Ok(()) }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// A text that is no address of a store. The text itself is not repeated: it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It does not begin as a URL does.
    #[error("the address must begin with http://, https:// or s3://")]
    NoScheme,
    /// It is of another kind.
    #[error("addresses of the kind {scheme}:// are not known; http://, https:// and s3:// are")]
    Scheme {
        /// Which.
        scheme: String,
    },
    /// It names no host.
    #[error("the address must name a host or a bucket after ://, and have no spaces")]
    NoHost,
    /// It has a password.
    #[error("the address may not have a user and password before its host: use a signature in its query")]
    Password,
    /// It is too long.
    #[error("an address of {bytes} bytes is too long; at most {URL_BYTES_MAX} are allowed")]
    Long {
        /// Its length.
        bytes: usize,
    },
}

/// What is wrong with a staging.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStaging {
    /// There is too much of something.
    #[error("{found} {what} are too many; at most {max} are allowed")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many or how much there is.
        found: usize,
        /// How many or how much there may be.
        max: usize,
    },
    /// A path outside of the task's folder is not absolute.
    #[error(
        "the path {path:?} must be absolute, without .., and have at most {} bytes",
        crate::spec::PATH_BYTES_MAX
    )]
    NotAbsolute {
        /// The path.
        path: String,
    },
    /// An input has no name.
    #[error("the input {source_shown} has no name of its own: say where it goes")]
    NoName {
        /// Where it comes from.
        source_shown: String,
    },
    /// A mode is no mode of a file.
    #[error("the mode {mode:o} is not one of a file, 0 to 777 in octal digits")]
    Mode {
        /// The mode.
        mode: u32,
    },
    /// A pattern cannot be used.
    #[error("the pattern {pattern:?} {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A header cannot be sent.
    #[error(
        "{name:?} is no header that can be sent with an upload: names have letters, digits and -, values one line"
    )]
    Header {
        /// Its name.
        name: String,
    },
    /// A time is outside its limits.
    #[error("{what} must be 1 to {max} seconds")]
    Seconds {
        /// Which.
        what: &'static str,
        /// The longest.
        max: u64,
    },
}

impl Staging {
    /// Checks everything that its types alone do not say.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadStaging> {
        at_most("inputs", self.inputs.len(), INPUTS_MAX)?;
        at_most("common inputs", self.common_inputs.len(), INPUTS_MAX)?;
        at_most("outputs", self.outputs.len(), OUTPUTS_MAX)?;
        at_most("bytes of file names and addresses", self.bytes(), STAGING_BYTES_MAX)?;
        self.inputs.iter().chain(&self.common_inputs).try_for_each(InputFile::check)?;
        self.outputs.iter().try_for_each(OutputFile::check)?;
        let times = [
            ("the retention time", self.retention_s, RETENTION_MAX_S),
            ("the time for inputs", self.prepare_s, PREPARE_MAX_S),
        ];
        match times.into_iter().find(|(_, seconds, max)| *seconds == 0 || seconds > max) {
            Some((what, _, max)) => Err(BadStaging::Seconds { what, max }),
            None => Ok(()),
        }
    }

    /// How long the preparation may take beyond that of a task without files, in seconds.
    #[must_use]
    pub fn prepares_for_s(&self) -> u64 {
        let idle = self.inputs.is_empty() && self.common_inputs.is_empty() && self.coordination.is_none();
        if idle { 0 } else { self.prepare_s }
    }

    fn bytes(&self) -> usize {
        let inputs = self.inputs.iter().chain(&self.common_inputs).map(InputFile::bytes).sum::<usize>();
        let commands = self.command.iter().chain(&self.coordination).map(Command::bytes).sum::<usize>();
        inputs + commands + self.outputs.iter().map(OutputFile::bytes).sum::<usize>()
    }
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), BadStaging> {
    if found > max { Err(BadStaging::TooMany { what, found, max }) } else { Ok(()) }
}

impl InputFile {
    fn check(&self) -> Result<(), BadStaging> {
        if let Some(mode) = self.mode.filter(|mode| *mode > 0o777) {
            return Err(BadStaging::Mode { mode });
        }
        match &self.source {
            InputSource::Http { url } if self.path.is_none() && url.file_name().is_none() => {
                Err(BadStaging::NoName { source_shown: url.to_string() })
            }
            InputSource::Path { path } => absolute(path),
            InputSource::Http { .. } | InputSource::Container { .. } => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let source = match &self.source {
            InputSource::Http { url } => url.0.len(),
            InputSource::Container { url, prefix } => url.0.len() + prefix.len(),
            InputSource::Path { path } => path.len(),
        };
        source + self.path.as_ref().map_or(0, |path| path.0.len())
    }
}

impl OutputFile {
    fn check(&self) -> Result<(), BadStaging> {
        let wrong = |why| Err(BadStaging::Pattern { pattern: self.pattern.clone(), why });
        if self.pattern.is_empty() || self.pattern.len() > PATTERN_BYTES_MAX {
            return wrong("must have 1 to 1024 bytes");
        }
        if self.pattern.chars().any(char::is_control) || self.path.chars().any(char::is_control) {
            return wrong("or its destination has control characters");
        }
        if self.path.len() > RELATIVE_BYTES_MAX || self.path.split('/').any(|part| part == "..") {
            return wrong("has a destination that is too long or leads upwards");
        }
        at_most("headers of one output", self.headers.len(), HEADERS_MAX)?;
        let bad = |(name, value): &(&String, &String)| {
            name.is_empty()
                || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
                || value.chars().any(char::is_control)
                || name.len() + value.len() > HEADER_BYTES_MAX
        };
        if let Some((name, _)) = self.headers.iter().find(bad) {
            return Err(BadStaging::Header { name: name.clone() });
        }
        match &self.destination {
            OutputDestination::Path { path } => absolute(path),
            OutputDestination::Container { .. } => Ok(()),
        }
    }

    fn bytes(&self) -> usize {
        let destination = match &self.destination {
            OutputDestination::Container { url } => url.0.len(),
            OutputDestination::Path { path } => path.len(),
        };
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        destination + headers + self.pattern.len() + self.path.len()
    }
}

fn absolute(path: &str) -> Result<(), BadStaging> {
    let fine = path.starts_with('/')
        && path.len() <= crate::spec::PATH_BYTES_MAX
        && !path.contains('\0')
        && !path.split('/').any(|part| part == "..");
    if fine { Ok(()) } else { Err(BadStaging::NotAbsolute { path: path.to_owned() }) }
}

/// Why files could not be brought or taken away, with a code that programs know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingFailure {
    /// The code, such as `BlobNotFound`.
    pub code: FailureCode,
    /// A sentence; without secrets.
    pub message: String,
}

/// What went wrong with files, or with the start of a command. The names are those of the batch service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureCode {
    /// An input is not there.
    BlobNotFound,
    /// An input may not be read.
    BlobAccessDenied,
    /// An input could not be read in time.
    BlobDownloadTimedOut,
    /// An input could not be read for another reason.
    BlobDownloadMiscError,
    /// A folder could not be made.
    ResourceDirectoryCreateFailed,
    /// A file could not be made.
    ResourceFileCreateFailed,
    /// A file could not be written.
    ResourceFileWriteFailed,
    /// The node's disk is full.
    DiskFull,
    /// An application package could not be unpacked.
    ApplicationPackageError,
    /// The program of a command is not there.
    CommandProgramNotFound,
    /// A command could not be started.
    CommandLaunchFailed,
    /// The coordination command failed.
    CoordinationCommandFailed,
    /// The container for an output is not there.
    FileUploadContainerNotFound,
    /// The container for an output may not be written.
    FileUploadAccessDenied,
    /// An output could not be taken away for another reason.
    FileUploadMiscError,
    /// The attempt was ended before it was done.
    TaskEnded,
}

impl FailureCode {
    /// Every code.
    pub const ALL: [Self; 16] = [
        Self::BlobNotFound,
        Self::BlobAccessDenied,
        Self::BlobDownloadTimedOut,
        Self::BlobDownloadMiscError,
        Self::ResourceDirectoryCreateFailed,
        Self::ResourceFileCreateFailed,
        Self::ResourceFileWriteFailed,
        Self::DiskFull,
        Self::ApplicationPackageError,
        Self::CommandProgramNotFound,
        Self::CommandLaunchFailed,
        Self::CoordinationCommandFailed,
        Self::FileUploadContainerNotFound,
        Self::FileUploadAccessDenied,
        Self::FileUploadMiscError,
        Self::TaskEnded,
    ];

    /// The name that goes over wires.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BlobNotFound => "BlobNotFound",
            Self::BlobAccessDenied => "BlobAccessDenied",
            Self::BlobDownloadTimedOut => "BlobDownloadTimedOut",
            Self::BlobDownloadMiscError => "BlobDownloadMiscError",
            Self::ResourceDirectoryCreateFailed => "ResourceDirectoryCreateFailed",
            Self::ResourceFileCreateFailed => "ResourceFileCreateFailed",
            Self::ResourceFileWriteFailed => "ResourceFileWriteFailed",
            Self::DiskFull => "DiskFull",
            Self::ApplicationPackageError => "ApplicationPackageError",
            Self::CommandProgramNotFound => "CommandProgramNotFound",
            Self::CommandLaunchFailed => "CommandLaunchFailed",
            Self::CoordinationCommandFailed => "CoordinationCommandFailed",
            Self::FileUploadContainerNotFound => "FileUploadContainerNotFound",
            Self::FileUploadAccessDenied => "FileUploadAccessDenied",
            Self::FileUploadMiscError => "FileUploadMiscError",
            Self::TaskEnded => "TaskEnded",
        }
    }

    /// The code of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// Whether the user can do something about it, rather than whoever runs the nodes and the stores.
    #[must_use]
    pub fn is_users(self) -> bool {
        !matches!(
            self,
            Self::BlobDownloadTimedOut
                | Self::BlobDownloadMiscError
                | Self::ResourceDirectoryCreateFailed
                | Self::ResourceFileCreateFailed
                | Self::ResourceFileWriteFailed
                | Self::DiskFull
        )
    }
}

impl fmt::Display for StagingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

#[cfg(test)]
mod tests;
