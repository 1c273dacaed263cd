//! The small files of a cgroup.

use std::io::Read as _;
use std::path::Path;

use crate::error::{NodeError, Result};

/// Writes a setting.
pub(super) fn set(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    // Opened without O_CREAT: a cgroup file that is missing must not be attempted to be made.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(NodeError::file("write", path))
}

/// Reads a whole file; empty if it cannot be read.
pub(super) fn get(folder: &Path, file: &str) -> String {
    read(&folder.join(file)).unwrap_or_default()
}

/// The kernel tells no length of these files, and hands over as much as there is room for.
fn read(path: &Path) -> std::io::Result<String> {
    // On the stack: the allocator tidies up before it gives this much.
    let mut first = [0; READ_BYTES];
    let mut file = std::fs::File::open(path)?;
    let length = file.read(&mut first)?;
    let mut text = first[..length].to_vec();
    if length == READ_BYTES {
        file.read_to_end(&mut text)?;
    }
    String::from_utf8(text).map_err(std::io::Error::other)
}

/// Room for all of these files but lists of processes.
const READ_BYTES: usize = 2048;

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
    fn a_key_is_found_whole() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(number_of(text, "oom_kill"), Some(2));
        assert_eq!(number_of(text, "oom"), Some(3));
        assert_eq!(number_of(text, "low"), None);
    }
}
