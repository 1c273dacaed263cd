//! The small files of a cgroup.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{NodeError, Result};

/// Writes a setting.
pub(super) fn set(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    // Opened without O_CREAT: a cgroup file that is missing must not be attempted to be made.
    let written = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(NodeError::file("write", path))
}

/// Reads a whole file; empty if it cannot be read.
pub(super) fn get(folder: &Path, file: &str) -> String {
    read(&folder.join(file)).unwrap_or_default()
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    if let Some(text) = read_short(&file)? {
        return Ok(text);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a file from its beginning; `None` if it is longer than most. The kernel tells no length of these files, and hands over as much as
/// there is room for.
fn read_short(file: &File) -> std::io::Result<Option<String>> {
    // On the stack: the allocator tidies up before it gives this much.
    let mut text = [0; READ_BYTES];
    let length = file.read_at(&mut text, 0)?;
    if length == READ_BYTES {
        return Ok(None);
    }
    let text = std::str::from_utf8(&text[..length]).map_err(std::io::Error::other)?;
    Ok(Some(text.to_owned()))
}

/// Room for all of these files but lists of processes.
const READ_BYTES: usize = 2048;

/// Files of groups that serve one attempt after another: to open one takes longer than to read it.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<Vec<Known>>);

/// A file that is open, or is not there.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    file: Option<File>,
}

/// The files of a group, open or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub folder: &'a Path,
    pub open: Option<&'a OpenFiles>,
}

impl Files<'_> {
    /// Reads a whole file; empty if it cannot be read.
    pub fn get(self, file: &str) -> String {
        let Some(open) = self.open else { return get(self.folder, file) };
        match open.with(self.folder, file, |file| read_short(file).ok()) {
            Some(Some(text)) => text,
            Some(None) => get(self.folder, file),
            None => String::new(),
        }
    }

    /// Writes a setting.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be written.
    pub fn set(self, file: &str, value: &str) -> Result<()> {
        let write = |file: &File| file.write_at(value.as_bytes(), 0).ok();
        match self.open.and_then(|open| open.with(self.folder, file, write)) {
            Some(_) => Ok(()),
            None => set(self.folder, file, value),
        }
    }
}

impl OpenFiles {
    fn with<T>(&self, folder: &Path, name: &str, act: impl FnOnce(&File) -> Option<T>) -> Option<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Known| known.path.parent() == Some(folder) && known.path.ends_with(name);
        let at = known.iter().position(is_it).unwrap_or_else(|| {
            let path = folder.join(name);
            let open = |write| OpenOptions::new().read(true).write(write).open(&path);
            let file = open(true).or_else(|_| open(false)).ok();
            known.push(Known { path, file });
            known.len() - 1
        });
        act(known[at].file.as_ref()?)
    }
}

/// The number after a key in a file of `key number` lines.
pub(super) fn number_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of the numbers that a file of lines with `key=number` has for a key, over all lines.
pub(super) fn sum_of(text: &str, key: &str) -> u64 {
    let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    numbers.filter_map(|number| number.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

/// Makes a folder that may exist already.
pub(super) fn make(folder: &Path) -> Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(NodeError::file("create the cgroup", folder)),
    }
}

/// Removes a group and the groups below it: whether nothing is left.
pub(super) fn remove(folder: &Path) -> bool {
    // There hardly ever are any, and a list of a group's files is long.
    match std::fs::remove_dir(folder) {
        Ok(()) => return true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
        Err(_) => {}
    }
    for below in below(folder) {
        remove(&below);
    }
    match std::fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// The groups directly below a group.
pub(super) fn below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_open_is_read_as_it_is_now() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(one.path().join("peak"), "1\n").unwrap();
        std::fs::write(other.path().join("peak"), "2\n").unwrap();
        let open = OpenFiles::default();
        let files = |folder| Files { folder, open: Some(&open) };
        let (one, other) = (files(one.path()), files(other.path()));
        assert_eq!(
            (one.get("peak"), other.get("peak"), one.get("none")),
            ("1\n".into(), "2\n".into(), String::new())
        );
        std::fs::write(one.folder.join("peak"), "3\n").unwrap();
        assert_eq!((one.get("peak"), other.get("peak")), ("3\n".into(), "2\n".into()));
        one.set("peak", "0").unwrap();
        assert_eq!(std::fs::read_to_string(one.folder.join("peak")).unwrap(), "0\n");
        assert!(one.set("none", "0").is_err());
        assert_eq!(open.0.lock().unwrap().len(), 3);
        let long = "x".repeat(READ_BYTES);
        for text in [long.clone(), long.clone() + "y", long[1..].to_owned()] {
            std::fs::write(one.folder.join("peak"), &text).unwrap();
            assert_eq!(one.get("peak"), text);
        }
        std::fs::write(one.folder.join("peak"), "0\n").unwrap();
        let closed = Files { folder: one.folder, open: None };
        assert_eq!((closed.get("peak"), closed.get("none")), ("0\n".into(), String::new()));
    }

    #[test]
    fn a_key_is_found_whole() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(number_of(text, "oom_kill"), Some(2));
        assert_eq!(number_of(text, "oom"), Some(3));
        assert_eq!(number_of(text, "low"), None);
    }
}
