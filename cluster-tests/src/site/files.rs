//! Where the files of a site lie.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::SiteError;

pub(super) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> SiteError + '_ {
    move |source| SiteError::Files { path: path.to_owned(), source }
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where the binaries of this build lie: beside this program, or one up from a test's.
///
/// # Errors
/// [`SiteError::NotBuilt`] if one is missing.
pub fn binaries_dir() -> Result<PathBuf, SiteError> {
    let program = std::env::current_exe().map_err(failed(Path::new("/proc/self/exe")))?;
    let mut dir = program.parent().unwrap_or(Path::new("/")).to_owned();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let programs = [
        "musterd",
        "muster",
        "muster-node",
        "muster-rank",
        "muster-rsh",
        "muster-stage",
        "muster-step",
        "muster-bootstrap",
    ];
    for name in programs {
        if !dir.join(name).exists() {
            return Err(SiteError::NotBuilt { path: dir.join(name) });
        }
    }
    Ok(dir)
}

/// Where the MPI programs lie, in a folder for each MPI.
///
/// # Errors
/// [`SiteError::NotBuilt`] if they were not built.
pub fn mpi_tasks_dir() -> Result<PathBuf, SiteError> {
    let dir = repository().join("mpi-tasks/target/bin");
    match ["ompi/rank-report", "mpich/rank-report"].into_iter().find(|name| !dir.join(name).exists()) {
        Some(missing) => Err(SiteError::NotBuilt { path: dir.join(missing) }),
        None => Ok(dir),
    }
}

/// The prefix of the relocatable MPICH.
#[must_use]
pub fn mpich_home() -> PathBuf {
    repository().join("target/mpich")
}

/// A fresh directory for a controller's state, on the disk that the build is on.
///
/// # Errors
/// [`SiteError::Files`] if it cannot be made.
pub(super) fn fresh_state_dir(name: &str) -> Result<PathBuf, SiteError> {
    let dir = repository().join("target/sites").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(failed(&dir))?;
    }
    std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
    Ok(dir)
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), SiteError> {
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed(path))
}

pub(super) fn append(path: &Path) -> Result<File, SiteError> {
    File::options().create(true).append(true).open(path).map_err(failed(path))
}

/// The end of a log, for a message.
pub(super) fn tail(path: &Path) -> String {
    const TAIL_BYTES: u64 = 4000;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("({}: {error})", path.display()))
}
