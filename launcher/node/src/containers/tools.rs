//! Programs of the node in a container: those that MPI launchers start, and the SSH server by which other nodes reach it.
//!
//! An image may have another C library than the node, or none, so that these programs bring their own libraries and their loader: all of it
//! lies in [`FOLDER`], and where launchers look for a program there is a script that runs it so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a container that has them.
pub const FOLDER: &str = "/.muster";
/// The loader there.
pub const LOADER: &str = "/.muster/ld.so";

/// What there is to be.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// Files of the node, by where they are in the container.
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// Scripts, by where they are.
    pub scripts: BTreeMap<PathBuf, String>,
}

/// Finds what programs need. `started` are those that launchers look for where the node has them.
pub(super) fn find(started: &[PathBuf], others: &[PathBuf]) -> std::io::Result<Tools> {
    let mut tools = Tools::default();
    for program in started.iter().chain(others) {
        let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output()?;
        for (name, library) in libraries(&String::from_utf8_lossy(&output.stdout)) {
            tools.files.insert(Path::new(FOLDER).join(name), library);
        }
        if let Some(name) = program.file_name() {
            tools.files.insert(Path::new(FOLDER).join(name), program.clone());
        }
    }
    for program in started {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let script = format!("#!/bin/sh\nexec {LOADER} --library-path {FOLDER} {FOLDER}/{name} \"$@\"\n");
        tools.scripts.insert(program.clone(), script);
    }
    Ok(tools)
}

/// The libraries that `ldd` tells, by name; the loader, which has a path and no name of its own, as `ld.so`.
fn libraries(said: &str) -> Vec<(String, PathBuf)> {
    let line = |line: &str| {
        let line = line.trim().rsplit_once(" (0x")?.0;
        match line.split_once(" => ") {
            Some((name, path)) if !name.contains('/') && path.starts_with('/') => {
                Some((name.to_owned(), PathBuf::from(path)))
            }
            None if line.starts_with('/') => Some(("ld.so".to_owned(), PathBuf::from(line))),
            _ => None,
        }
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_with_their_loader() {
        let said = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\t/lib64/ld-linux.so.2 (0x00007f)\n";
        let found = [("libc.so.6", "/lib/libc.so.6"), ("ld.so", "/lib64/ld-linux.so.2")];
        assert_eq!(libraries(said), found.map(|(name, path)| (name.to_owned(), PathBuf::from(path))));
        let tools = find(&["/bin/cat".into()], &[]).unwrap();
        assert!(
            tools.files.contains_key(Path::new(LOADER))
                && tools.files.contains_key(Path::new("/.muster/cat"))
        );
        assert!(tools.scripts[Path::new("/bin/cat")].contains("/.muster/cat \"$@\""));
    }
}
