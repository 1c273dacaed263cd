//! Files of a task: what is brought to its node before it starts, what is taken away after its end, and the folder
//! on the node that holds them meanwhile.
//!
//! A task with a [`Staging`] has a folder on its node, with the command's working directory `wd` in it; its output is
//! in `stdout.txt` and `stderr.txt` beside `wd` unless the job names other files. On every node of a gang the folder
//! has the same path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod command;
mod failure;
mod names;

pub use self::command::{Command, CommandError};
pub use self::failure::{FailureCode, StagingFailure};
pub use self::names::{BadPath, BadUrl, RelativePath, StoreUrl};

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
    /// Whether packages are unpacked or images brought on the nodes first, which takes its time as inputs do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub packages: bool,
    /// Whether everybody may read the folder: other tasks use what it brings to the node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
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
            packages: false,
            open: false,
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
    /// All files of a container of the embedded store whose names begin with a prefix: one of the account of a task of the
    /// batch service, for which the controller signs the address when the task is placed.
    AutoStorage {
        /// The container's name.
        container: String,
        /// How the names begin; all of them without.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
    /// A file or a folder of the node, below one of the roots that its site allows.
    Path {
        /// Absolute.
        path: String,
    },
}

/// Whether a text may be the name of a container: 3 to 63 lower-case letters, digits and hyphens, each hyphen between two
/// of the others.
#[must_use]
pub fn is_container(name: &str) -> bool {
    let is_fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let hyphens = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    name.bytes().all(is_fine) && !hyphens && (3..=63).contains(&name.len())
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
    /// A folder of the node, below one of the roots that its site allows.
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
    /// A container of the embedded store cannot be called so.
    #[error(
        "no container is called {container:?}: names have 3 to 63 lower-case letters, digits and hyphens"
    )]
    Container {
        /// The name.
        container: String,
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
        if idle && !self.packages { 0 } else { self.prepare_s }
    }

    /// Whether something is brought from the embedded store, which only tasks of the batch service know.
    #[must_use]
    pub fn uses_auto_storage(&self) -> bool {
        let is_one = |input: &InputFile| matches!(input.source, InputSource::AutoStorage { .. });
        self.inputs.iter().chain(&self.common_inputs).any(is_one)
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
            InputSource::AutoStorage { container, .. } if !is_container(container) => {
                Err(BadStaging::Container { container: container.clone() })
            }
            InputSource::Http { .. } | InputSource::Container { .. } | InputSource::AutoStorage { .. } => {
                Ok(())
            }
        }
    }

    fn bytes(&self) -> usize {
        let source = match &self.source {
            InputSource::Http { url } => url.secret().len(),
            InputSource::Container { url, prefix } => url.secret().len() + prefix.len(),
            InputSource::AutoStorage { container, prefix } => container.len() + prefix.len(),
            InputSource::Path { path } => path.len(),
        };
        source + self.path.as_ref().map_or(0, |path| path.as_str().len())
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
            OutputDestination::Container { url } => url.secret().len(),
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

#[cfg(test)]
mod tests;
