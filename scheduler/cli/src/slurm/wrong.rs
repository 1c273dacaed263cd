//! What is wrong with a command line, a directive or a script, in Slurm's words and with its exit codes.
//!
//! The first lines are Slurm's own, which people know and programs look for. The last one is Muster's, which says where and
//! what would be right.

use super::getopt::BadOption;
use super::job_options::{BadLine, slurm_name};
use super::refusal;
use crate::error::{CliError, ScriptFault};
use crate::out::tell;
use crate::submit::{Layer, Opt};

/// The exit code for what is wrong with a command line: Slurm's commands end with -1 then.
pub(crate) const USAGE: u8 = 255;
/// The exit code for everything else that fails.
pub(crate) const FAILED: u8 = 1;

/// What a face says, and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Lines without the face's name, which stands before `: error:` or, where there is no `error: `, before `:`.
    pub lines: Vec<String>,
    /// The exit code.
    pub code: u8,
}

impl Wrong {
    fn new(code: u8, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { lines: lines.into_iter().map(Into::into).collect(), code }
    }

    /// One line of an error.
    pub fn error(code: u8, line: impl std::fmt::Display) -> Self {
        Self::new(code, [format!("error: {line}")])
    }

    /// Adds a line of an error.
    #[must_use]
    pub fn and(mut self, line: impl std::fmt::Display) -> Self {
        self.lines.push(format!("error: {line}"));
        self
    }

    /// Says it on the standard error.
    pub fn tell(&self, face: &str) {
        for line in &self.lines {
            // The advice of getopt(3)'s users has no name before it.
            let advice = line.starts_with("Try \"");
            tell(&if advice { line.clone() } else { format!("{face}: {line}") });
        }
    }
}

/// What is wrong with a command line.
pub(crate) fn of_line(face: &str, bad: &BadLine) -> Wrong {
    match bad {
        BadLine::Option(bad) => of_option(face, bad),
        BadLine::Refused(refused) => Wrong::error(
            FAILED,
            format!("{} is an option of Slurm that Muster does not have: {}", refused.option, refused.right),
        ),
    }
}

/// What is wrong with an option.
pub(crate) fn of_option(face: &str, bad: &BadOption) -> Wrong {
    Wrong::new(USAGE, [bad.to_string(), advice(face)])
}

fn advice(face: &str) -> String {
    format!("Try \"{face} --help\" for more information")
}

/// What is wrong with a job. `what` is what failed, such as `Batch job submission failed`.
pub(crate) fn of_error(face: &str, what: &str, error: &CliError, layer: &Layer) -> Wrong {
    match error {
        CliError::Client(error) => {
            let wrong = Wrong::error(FAILED, format!("{what}: {}", refusal::text(error)));
            wrong.and(error)
        }
        CliError::UnknownOption { written, .. } => {
            let text = match written.strip_prefix("--") {
                Some(_) => format!("unrecognized option '{written}'"),
                None => format!("invalid option -- '{}'", written.trim_start_matches('-')),
            };
            Wrong::new(USAGE, [text, advice(face), format!("error: {error}")])
        }
        CliError::AmbiguousOption { option, .. } => {
            let text = format!("option '{option}' is ambiguous");
            Wrong::new(USAGE, [text, advice(face), format!("error: {error}")])
        }
        CliError::NoValue { option, .. } => {
            let text = format!("option '{option}' requires an argument");
            Wrong::new(USAGE, [text, advice(face), format!("error: {error}")])
        }
        CliError::NeedlessValue { option, .. } => {
            let text = format!("option '{option}' doesn't allow an argument");
            Wrong::new(USAGE, [text, advice(face), format!("error: {error}")])
        }
        CliError::NotAnOption { word, .. } => {
            Wrong::error(USAGE, format!("Invalid directive found in batch script: {word}")).and(error)
        }
        CliError::ScriptFile { path, source } if source.kind() == std::io::ErrorKind::IsADirectory => {
            Wrong::error(FAILED, "Batch script is empty!").and(format!("{} is a directory", path.display()))
        }
        CliError::ScriptFile { path, .. } => {
            Wrong::error(FAILED, format!("Unable to open file {}", path.display())).and(error)
        }
        CliError::Script { fault, .. } => of_script(fault, error),
        _ => match error.origin().and_then(|origin| layer.said_at(origin)) {
            Some(option) => of_value(option, what, error, layer),
            None => Wrong::error(FAILED, error),
        },
    }
}

fn of_script(fault: &ScriptFault, error: &CliError) -> Wrong {
    let lines: &[&str] = match fault {
        ScriptFault::Empty => &["Batch script is empty!"],
        ScriptFault::NoShebang { .. } | ScriptFault::Program { .. } => &[
            "This does not look like a batch script.  The first",
            "line must start with #! followed by the path to an interpreter.",
            "For instance: #!/bin/sh",
        ],
        ScriptFault::DosLineEnds => {
            &["Batch script contains DOS line breaks (\\r\\n)", "instead of expected UNIX line breaks (\\n)."]
        }
        ScriptFault::TooLarge { .. } => {
            &["Batch job submission failed: Pathname of a file, directory or other parameter too long"]
        }
        ScriptFault::Nul => {
            &["The Slurm controller does not allow scripts that contain a NULL character '\\0'."]
        }
        ScriptFault::NotUtf8 => &[],
    };
    Wrong::new(FAILED, lines.iter().map(|line| format!("error: {line}"))).and(error)
}

/// What is wrong with an option's value.
fn of_value(option: Opt, what: &str, error: &CliError, layer: &Layer) -> Wrong {
    let name = slurm_name(option);
    let value = layer.get(option).map(|said| said.value.as_str()).unwrap_or_default();
    let failed = |text: &str| Wrong::error(FAILED, format!("{what}: {text}"));
    let wrong = match option {
        Opt::Ntasks
        | Opt::NtasksPerNode
        | Opt::NtasksPerCore
        | Opt::CpusPerTask
        | Opt::ThreadsPerCore
        | Opt::Switches => Wrong::error(FAILED, format!("Invalid numeric value \"{value}\" for --{name}.")),
        Opt::Nodes => return of_nodes(value, what, error),
        Opt::Array => failed("Invalid job array specification"),
        Opt::Dependency => failed("Job dependency problem"),
        Opt::Constraint => failed("Invalid feature specification"),
        Opt::Nodelist | Opt::Exclude => failed("Invalid node name specified"),
        Opt::Uid | Opt::Gid => failed("Access/permission denied"),
        Opt::Gres | Opt::Gpus | Opt::GpusPerNode | Opt::GpusPerTask => {
            Wrong::error(FAILED, "Invalid generic resource (gres) specification")
        }
        Opt::Hint => {
            Wrong::error(FAILED, format!("unrecognized --hint argument \"{value}\", see --hint=help"))
        }
        Opt::Begin | Opt::Deadline => {
            // Slurm's reader of times says this itself, without a name before it.
            tell(&format!("Invalid time specification (pos=0): {value}"));
            Wrong::error(USAGE, format!("Invalid --{name} specification"))
        }
        Opt::Nodefile => of_nodefile(error),
        Opt::Nice => Wrong::error(USAGE, "Invalid --nice value, out of range (+/- 2147483645)"),
        Opt::Propagate => Wrong::error(FAILED, format!("--propagate={value} is not valid.")),
        _ => Wrong::error(USAGE, format!("Invalid --{name} specification")),
    };
    wrong.and(error)
}

fn of_nodefile(error: &CliError) -> Wrong {
    let invalid = "Invalid --nodefile node file";
    let CliError::NodeFile { path, source, .. } = error else { return Wrong::error(USAGE, invalid) };
    let why = source.raw_os_error().map(nix::errno::Errno::from_raw);
    let why = why.map_or_else(|| source.to_string(), |errno| errno.desc().to_owned());
    let first = format!("slurm_allocate_resources error opening file {}, {why}", path.display());
    Wrong::error(USAGE, first).and(invalid)
}

fn of_nodes(value: &str, what: &str, error: &CliError) -> Wrong {
    let number = |text: &str| text.parse::<u64>().ok();
    let wrong = match value.split_once('-') {
        Some((min, max)) if number(min).zip(number(max)).is_some_and(|(min, max)| max < min) => {
            Wrong::error(USAGE, format!("Maximum node count {max} is less than minimum node count {min}"))
        }
        None if number(value).is_some() => {
            Wrong::error(FAILED, format!("{what}: Node count specification invalid"))
        }
        _ => Wrong::error(USAGE, format!("\"{value}\" is not a valid node count")),
    };
    wrong.and(error)
}
