//! Job files: what they say, and the tasks that they stand for. docs/batch-files.md describes them.

mod addresses;
mod bodies;
mod files;
mod node;
mod plan;
mod read;
mod section;
mod sweep;
mod template;

use std::path::{Path, PathBuf};

pub use self::addresses::{Addresses, Unsigned};
use self::node::{Fault, Notation};
pub use self::plan::{Plan, Upload};
use crate::error::{BatchClientError, Result};

/// Longest job file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is said beside the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The job's id, instead of the file's.
    pub id: Option<String>,
    /// A pool that is there, instead of the file's.
    pub pool: Option<String>,
}

/// Names of the blobs of a container that begin with a prefix.
pub type Lister<'l> = &'l dyn Fn(&str, &str) -> Result<Vec<String>>;

/// Reads a job file, and finds the files that it names. Containers of the store are asked for by `list`.
///
/// # Errors
/// What is wrong with it, with its line; or why something cannot be read.
pub fn load(path: &Path, options: &Options, list: Lister<'_>) -> Result<Plan> {
    let notation = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Notation::Toml,
        Some("yaml" | "yml") => Notation::Yaml,
        Some("json") => Notation::Json,
        _ => return Err(BatchClientError::Notation { path: path.to_owned() }),
    };
    let data = std::fs::metadata(path).map_err(BatchClientError::file("read", path))?;
    let at = |fault: Fault| BatchClientError::JobFile {
        path: path.to_owned(),
        line: fault.line,
        problem: fault.problem,
    };
    if data.len() > FILE_BYTES_MAX {
        return Err(at(Fault::at(
            1,
            format!("it has more than {FILE_BYTES_MAX} bytes, the most of a job file"),
        )));
    }
    let text = std::fs::read_to_string(path).map_err(BatchClientError::file("read", path))?;
    let file = node::parse(&text, notation).and_then(|node| read::read(&node)).map_err(at)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    plan::plan(file, &folder, &stem, options, list).map_err(|stop| match stop {
        plan::Stop::Fault(fault) => at(fault),
        plan::Stop::Failed(error) => error,
    })
}

/// The container that holds what a job's tasks bring back, below `out/`.
#[must_use]
pub fn container_of(job: &str) -> String {
    plan::container_of(job)
}

/// What stands before the names of results in a job's container.
pub const RESULTS: &str = "out/";

/// Words as one command line, which is taken apart into the same words again.
#[must_use]
pub fn command_line(words: &[String]) -> String {
    words.iter().map(|word| template::quoted(word)).collect::<Vec<_>>().join(" ")
}
