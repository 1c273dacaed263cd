//! Gives the programs a run path to the MPI they were built with.
//!
//! An MPI in its own prefix (an unpacked wheel, a site's module) is not on the system's library path, and a
//! launcher does not forward `LD_LIBRARY_PATH` to other hosts, so the programs must find the library alone.

use std::env;
use std::process::Command;

/// Folders that the dynamic linker searches anyway.
const SYSTEM_FOLDERS: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

fn main() {
    println!("cargo::rerun-if-env-changed=MPICC");
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_MPI").is_none() {
        return;
    }
    let compiler = env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned());
    // The `mpi` crate's own build script fails with a good message when the wrapper does not run.
    let Ok(answer) = Command::new(&compiler).arg("-show").output() else { return };
    for word in String::from_utf8_lossy(&answer.stdout).split_whitespace() {
        let Some(folder) = word.strip_prefix("-L") else { continue };
        if is_private(folder) {
            // First where a copy of programs and MPI lies side by side, then where it was when they were built.
            println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../../mpich/lib:{folder}");
        }
    }
}

/// Whether a library folder is an absolute one that the system's linker does not know.
fn is_private(folder: &str) -> bool {
    folder.starts_with('/')
        && !SYSTEM_FOLDERS.iter().any(|system| {
            folder.strip_prefix(system).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}
