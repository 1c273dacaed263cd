//! Which files a pattern means: `*` and `?` stand for characters of one name, `[a-c]` and `[!a-c]` for one character,
//! and `**` for any number of folders. A name that begins with a dot is meant only where its pattern begins with one.

use std::path::{Path, PathBuf};

use crate::error::{FilesError, Result};

/// How deep folders are searched.
const DEPTH_MAX: usize = 100;
/// How many entries of folders are looked at.
const ENTRIES_MAX: u64 = 10_000_000;

/// A pattern, split where its first wildcard is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The folder, or without wildcards the file, before the first wildcard.
    base: PathBuf,
    /// The names with wildcards, and those after them.
    names: Vec<String>,
}

/// A file that a pattern means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder before the first wildcard.
    pub below: String,
}

impl Pattern {
    /// Reads a pattern that begins at a folder, unless it is absolute.
    ///
    /// # Errors
    ///
    /// [`FilesError::Order`] if it cannot mean anything.
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let mut base = if text.starts_with('/') { PathBuf::from("/") } else { folder.to_owned() };
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        let mut names = Vec::new();
        for part in parts {
            let is_wild = !names.is_empty() || part.contains(['*', '?', '[']);
            match part {
                ".." if is_wild => {
                    let problem =
                        format!("the pattern {text:?} has .. after a wildcard, which means no folder");
                    return Err(FilesError::Order { problem });
                }
                ".." => {
                    base.pop();
                }
                _ if is_wild => names.push(part.to_owned()),
                _ => base.push(part),
            }
        }
        Ok(Self { base, names })
    }

    /// Whether it may mean several files.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        !self.names.is_empty()
    }

    /// All regular files that it means, sorted. Links to folders are not followed.
    ///
    /// # Errors
    ///
    /// [`FilesError::TooMuch`] for more than `files_max`, and [`FilesError::Local`] if a folder cannot be read.
    pub fn find(&self, files_max: u64) -> Result<Vec<Found>> {
        if !self.is_wild() {
            let name = self.base.file_name().map(|name| name.to_string_lossy().into_owned());
            return Ok(match (self.base.is_file(), name) {
                (true, Some(below)) => vec![Found { path: self.base.clone(), below }],
                _ => Vec::new(),
            });
        }
        let mut search = Search { files_max, found: Vec::new(), looked_at: 0 };
        search.walk(&self.base, "", &self.names, 0)?;
        search.found.sort_unstable();
        search.found.dedup();
        Ok(search.found)
    }
}

struct Search {
    files_max: u64,
    found: Vec<Found>,
    looked_at: u64,
}

impl Search {
    fn walk(&mut self, folder: &Path, below: &str, names: &[String], depth: usize) -> Result<()> {
        let Some((first, rest)) = names.split_first() else { return Ok(()) };
        if first == "**" && !rest.is_empty() {
            self.walk(folder, below, rest, depth)?;
        }
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(FilesError::local("list", folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(FilesError::local("list", folder))?;
            self.looked_at += 1;
            if self.looked_at > ENTRIES_MAX {
                return Err(FilesError::TooMuch { what: "entries of folders", limit: ENTRIES_MAX });
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = entry.file_type().map_err(FilesError::local("look at", entry.path()))?;
            let inner = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            let matches = if first == "**" { !name.starts_with('.') } else { matches_name(first, name) };
            if !matches {
                continue;
            }
            if kind.is_dir() {
                if depth < DEPTH_MAX {
                    let then = if first == "**" { names } else { rest };
                    self.walk(&entry.path(), &inner, then, depth + 1)?;
                }
            } else if rest.is_empty() && entry.path().is_file() {
                if self.found.len() as u64 >= self.files_max {
                    return Err(FilesError::TooMuch { what: "files", limit: self.files_max });
                }
                self.found.push(Found { path: entry.path(), below: inner });
            }
        }
        Ok(())
    }
}

/// Whether a name is meant by a pattern without `/`.
#[must_use]
pub fn matches_name(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches_from(&pattern, &name)
}

/// Goes back to the last `*` only, so that no pattern takes longer than the product of both lengths.
fn matches_from(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        let step = match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => set(&pattern[of..]).and_then(|(set, length)| set.holds(name[at]).then_some(length)),
            Some(c) => (*c == name[at]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => (at, of) = (at + 1, of + length),
            (None, Some((star_at, from))) => {
                star = Some((star_at, from + 1));
                (at, of) = (from + 1, star_at + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[of..].iter().all(|c| *c == '*')
}

/// A set of characters.
struct Set<'a> {
    members: &'a [char],
    negated: bool,
}

/// The set at the begin of a pattern, and how long it is; a `[` that no `]` follows is itself.
fn set(pattern: &[char]) -> Option<(Set<'_>, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    // A ] that comes first is a member.
    let end = (first + 1..pattern.len()).find(|at| pattern[*at] == ']');
    match end {
        Some(end) => Some((Set { members: &pattern[first..end], negated }, end + 1)),
        None => Some((Set { members: &pattern[..1], negated: false }, 1)),
    }
}

impl Set<'_> {
    fn holds(&self, c: char) -> bool {
        let mut rest = self.members;
        let mut found = false;
        while let Some(first) = rest.first() {
            match rest {
                [low, '-', high, ..] => {
                    found |= (*low..=*high).contains(&c);
                    rest = &rest[3..];
                }
                _ => {
                    found |= *first == c;
                    rest = &rest[1..];
                }
            }
        }
        found != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_the_batch_service_says() {
        for (pattern, yes, no) in [
            ("*", &["a", "a.txt"][..], &[".a", ""][..]),
            ("*.txt", &["a.txt", ".txt.txt"][..0], &["a.txts", ".txt"]),
            ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[", &["["], &["a"]),
            (".*", &[".a"], &["a"]),
            ("s*d*t", &["stdout", "sdt"], &["stdou"]),
            ("*a*a*a*a*b", &["aaaab"], &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]),
        ] {
            for name in yes {
                assert!(matches_name(pattern, name), "{pattern} {name}");
            }
            for name in no.iter().filter(|name| !name.is_empty()) {
                assert!(!matches_name(pattern, name), "{pattern} {name}");
            }
        }
    }

    fn found(pattern: &str, files: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::create_dir_all(folder.path().join("wd")).unwrap();
        let pattern = Pattern::parse(pattern, &folder.path().join("wd")).unwrap();
        pattern.find(100).unwrap().into_iter().map(|found| found.below).collect()
    }

    #[test]
    fn files_are_found_below_the_first_wildcard() {
        let files = [
            "wd/a.txt",
            "wd/d/b.txt",
            "wd/d/e/c.txt",
            "wd/.hidden/x.txt",
            "wd/.x.txt",
            "stdout.txt",
            "stderr.txt",
        ];
        for (pattern, expected) in [
            ("a.txt", &["a.txt"][..]),
            ("d/b.txt", &["b.txt"]),
            ("*.txt", &["a.txt"]),
            ("**/*.txt", &["a.txt", "d/b.txt", "d/e/c.txt"]),
            ("**", &["a.txt", "d/b.txt", "d/e/c.txt"]),
            ("d/**/*.txt", &["b.txt", "e/c.txt"]),
            ("d/*", &["b.txt"]),
            ("*/*.txt", &["d/b.txt"]),
            ("**/e/*", &["d/e/c.txt"]),
            ("../std*.txt", &["stderr.txt", "stdout.txt"]),
            (".*.txt", &[".x.txt"]),
            ("none", &[]),
            ("none/*", &[]),
            ("d", &[]),
        ] {
            assert_eq!(found(pattern, &files), expected, "{pattern}");
        }
    }

    #[test]
    fn links_to_folders_are_not_followed_and_the_number_of_files_is_limited() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        std::fs::write(folder.path().join("b"), "").unwrap();
        let pattern = Pattern::parse("**", folder.path()).unwrap();
        assert_eq!(pattern.find(2).unwrap().len(), 2);
        assert!(matches!(pattern.find(1), Err(FilesError::TooMuch { limit: 1, .. })));
        assert!(Pattern::parse("*/../a", folder.path()).is_err());
    }
}
