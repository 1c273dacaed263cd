//! Which files an input means.

use std::path::{Path, PathBuf};

use muster_files::pattern::Pattern;

use super::node::Fault;

/// Most files that one job file brings.
pub(super) const FILES_MAX: u64 = 100_000;

/// A file here, and where it is to be for its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub from: PathBuf,
    /// Below the task's working directory.
    pub at: String,
}

/// Finds the files of an input: one file, a folder with everything in it, or what a pattern means.
pub(super) fn find(said: &str, to: Option<&str>, folder: &Path, line: usize) -> Result<Vec<Placed>, Fault> {
    let path = folder.join(said);
    if path.is_file() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let at = match to {
            None => name,
            Some(to) if to.is_empty() || to.ends_with('/') => format!("{to}{name}"),
            Some(to) => to.to_owned(),
        };
        return Ok(vec![Placed { from: path, at: relative(&at, line)? }]);
    }
    let (pattern, base) = if path.is_dir() {
        let own =
            path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        (format!("{}/**", said.trim_end_matches('/')), to.map(str::to_owned).or(own))
    } else {
        (said.to_owned(), to.map(str::to_owned))
    };
    let found = matches(&pattern, folder, line)?;
    if found.is_empty() {
        return Err(Fault::at(line, format!("there is no file {}", path.display())));
    }
    let base = base.unwrap_or_default();
    let base = base.trim_end_matches('/');
    let placed = |found: muster_files::pattern::Found| {
        let at = if base.is_empty() { found.below } else { format!("{base}/{}", found.below) };
        Ok(Placed { from: found.path, at: relative(&at, line)? })
    };
    found.into_iter().map(placed).collect()
}

/// All files that a pattern means, with their paths below the folder before its first wildcard.
pub(super) fn matches(
    pattern: &str,
    folder: &Path,
    line: usize,
) -> Result<Vec<muster_files::pattern::Found>, Fault> {
    Pattern::parse(pattern, folder)
        .and_then(|pattern| pattern.find(FILES_MAX))
        .map_err(|error| Fault::at(line, error.to_string()))
}

/// A path that stays below the working directory.
pub(super) fn relative(path: &str, line: usize) -> Result<String, Fault> {
    let path = path.trim_start_matches("./");
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.is_empty() {
        return Err(Fault::at(
            line,
            format!("'{path}' must be a path below the working directory of the task"),
        ));
    }
    Ok(path.to_owned())
}
