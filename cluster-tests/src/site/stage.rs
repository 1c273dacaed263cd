//! Puts what users run where every user can read it: a clone may lie where only root may look.

use std::path::{Path, PathBuf};

use super::{SiteError, binaries_dir, files, mpi_tasks_dir, mpich_home};

/// Where users find programs.
#[derive(Debug, Clone)]
pub struct Staged {
    /// `muster` and its daemons.
    pub bin: PathBuf,
    /// The MPI programs, in a folder for each MPI.
    pub mpi_tasks: PathBuf,
    /// The prefix of the relocatable MPICH.
    pub mpich: PathBuf,
}

impl Staged {
    pub(super) fn at(dir: &Path) -> Self {
        Self { bin: dir.join("bin"), mpi_tasks: dir.join("mpi-tasks"), mpich: dir.join("mpich") }
    }

    /// Copies the binaries, and the MPI programs with their MPICH if they were built.
    pub(super) fn fill(&self) -> Result<(), SiteError> {
        copy(&binaries_dir()?, &self.bin, &|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("muster") && path.extension().is_none() && path.is_file()
        })?;
        if let Ok(mpi_tasks) = mpi_tasks_dir() {
            copy(&mpi_tasks, &self.mpi_tasks, &|_| true)?;
            copy(&mpich_home(), &self.mpich, &|path| !path.ends_with("include"))?;
        }
        Ok(())
    }
}

/// Copies what is `wanted` of a tree; links stay links.
fn copy(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), SiteError> {
    std::fs::create_dir_all(to).map_err(files::failed(to))?;
    for entry in std::fs::read_dir(from).map_err(files::failed(from))? {
        let path = entry.map_err(files::failed(from))?.path();
        if !wanted(&path) {
            continue;
        }
        let target = to.join(path.file_name().unwrap_or_default());
        let kind = std::fs::symlink_metadata(&path).map_err(files::failed(&path))?.file_type();
        if kind.is_dir() {
            copy(&path, &target, wanted)?;
        } else if kind.is_symlink() {
            let link = std::fs::read_link(&path).map_err(files::failed(&path))?;
            std::os::unix::fs::symlink(link, &target).map_err(files::failed(&target))?;
        } else {
            std::fs::copy(&path, &target).map_err(files::failed(&path))?;
        }
    }
    Ok(())
}
