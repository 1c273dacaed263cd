//! Files and folders of the node: where tasks may read and write, and files that are put into their places whole.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{FilesError, Result};

/// How the name of a file begins until it is whole.
const PARTIAL: &str = ".muster-stage.";
/// How deep folders are copied.
const DEPTH_MAX: usize = 100;

/// The folders below which tasks may name paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// Of these folders, as far as they exist; `own` is the task's.
    pub fn new(roots: &[String], own: &str) -> Self {
        let all = roots.iter().map(String::as_str).chain([own]);
        Self(all.filter_map(|root| Path::new(root).canonicalize().ok()).collect())
    }

    /// The path without links, if it lies where it may.
    ///
    /// # Errors
    ///
    /// [`FilesError::Outside`] if it does not, and [`FilesError::Local`] if it is not there.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        let found = path.canonicalize().map_err(FilesError::local("find", path))?;
        if self.0.iter().any(|root| found.starts_with(root)) {
            return Ok(found);
        }
        let roots: Vec<String> = self.0.iter().map(|root| root.display().to_string()).collect();
        Err(FilesError::Outside { path: path.to_owned(), roots: roots.join(", ") })
    }

    /// Makes a folder, and all above it that are not there, if it lies where it may.
    ///
    /// # Errors
    ///
    /// As [`Self::inside`].
    pub fn make_folder(&self, path: &Path) -> Result<PathBuf> {
        let there = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
        self.inside(there)?;
        std::fs::create_dir_all(path).map_err(FilesError::local("create the folder", path))?;
        self.inside(path)
    }
}

/// A file that is written beside its place and renamed into it when it is whole.
#[derive(Debug)]
pub struct Partial {
    pub file: File,
    path: PathBuf,
    place: PathBuf,
}

impl Partial {
    /// Begins a file in the place of another one, or where none is. Folders on the way are made.
    ///
    /// # Errors
    ///
    /// [`FilesError::Local`] if it cannot be made.
    pub fn create(place: &Path) -> Result<Self> {
        let parent = place.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).map_err(FilesError::local("create the folder", parent))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        // A name may have 255 bytes, and this one is longer than the file's own.
        let shortened: String = name.chars().take(40).collect();
        let unique = std::process::id();
        let path = parent.join(format!("{PARTIAL}{unique}.{}.{shortened}", next_number()));
        let file = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(FilesError::local("create", place))?;
        Ok(Self { file, path, place: place.to_owned() })
    }

    /// Puts the file into its place.
    ///
    /// # Errors
    ///
    /// [`FilesError::Local`] if that fails.
    pub fn finish(self, mode: u32) -> Result<()> {
        self.file
            .set_permissions(std::fs::Permissions::from_mode(mode))
            .map_err(FilesError::local("set the rights of", &self.place))?;
        std::fs::rename(&self.path, &self.place).map_err(FilesError::local("put in its place", &self.place))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Tells apart the files that this process writes at the same time.
fn next_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// One file to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// From here.
    pub from: PathBuf,
    /// To here.
    pub to: PathBuf,
    /// How long it is.
    pub bytes: u64,
}

/// What is to be copied to bring a file, or a folder with all that is in it, to a place. Links are followed where they
/// lead to files below the roots.
///
/// # Errors
///
/// [`FilesError`] if something cannot be read, lies outside of the roots, or is too much.
pub fn plan_copy(from: &Path, to: &Path, roots: &Roots, files_max: u64) -> Result<Vec<Copied>> {
    let mut plan = Vec::new();
    add(from, to, roots, files_max, 0, &mut plan)?;
    Ok(plan)
}

fn add(
    from: &Path,
    to: &Path,
    roots: &Roots,
    files_max: u64,
    depth: usize,
    plan: &mut Vec<Copied>,
) -> Result<()> {
    let found = roots.inside(from)?;
    let about = std::fs::metadata(&found).map_err(FilesError::local("look at", from))?;
    if about.is_file() {
        if plan.len() as u64 >= files_max {
            return Err(FilesError::TooMuch { what: "files", limit: files_max });
        }
        plan.push(Copied { from: found, to: to.to_owned(), bytes: about.len() });
        return Ok(());
    }
    if !about.is_dir() || depth >= DEPTH_MAX {
        let problem = format!("{} is neither a file nor a folder that can be copied", from.display());
        return Err(FilesError::Order { problem });
    }
    std::fs::create_dir_all(to).map_err(FilesError::local("create the folder", to))?;
    let entries = std::fs::read_dir(&found).map_err(FilesError::local("list", from))?;
    for entry in entries {
        let entry = entry.map_err(FilesError::local("list", from))?;
        let kind = entry.file_type().map_err(FilesError::local("look at", entry.path()))?;
        let is_link_to_folder = kind.is_symlink() && entry.path().is_dir();
        if !is_link_to_folder {
            add(&entry.path(), &to.join(entry.file_name()), roots, files_max, depth + 1, plan)?;
        }
    }
    Ok(())
}

/// Copies one file.
///
/// # Errors
///
/// [`FilesError::Local`] if that fails.
pub fn copy(copied: &Copied, mode: Option<u32>) -> Result<()> {
    let mut from = File::open(&copied.from).map_err(FilesError::local("read", &copied.from))?;
    let about = from.metadata().map_err(FilesError::local("look at", &copied.from))?;
    let mut partial = Partial::create(&copied.to)?;
    std::io::copy(&mut from, &mut partial.file).map_err(FilesError::local("write", &copied.to))?;
    partial.finish(mode.unwrap_or_else(|| about.permissions().mode() & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_copied_with_its_modes_and_without_leaving_its_roots() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("d")).unwrap();
        std::fs::write(from.join("d/a"), "text").unwrap();
        std::fs::set_permissions(from.join("d/a"), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("d", from.join("link-to-folder")).unwrap();
        std::os::unix::fs::symlink("d/a", from.join("link")).unwrap();
        let roots = Roots::new(&[folder.path().display().to_string()], "/nonexistent");
        let plan = plan_copy(&from, &to, &roots, 10).unwrap();
        assert_eq!(plan.len(), 2);
        for copied in &plan {
            copy(copied, None).unwrap();
        }
        assert_eq!(std::fs::read_to_string(to.join("link")).unwrap(), "text");
        assert_eq!(std::fs::metadata(to.join("d/a")).unwrap().permissions().mode() & 0o777, 0o750);
        assert_eq!(std::fs::read_dir(to.join("d")).unwrap().count(), 1, "nothing partial is left");
        assert!(matches!(plan_copy(&from, &to, &roots, 1), Err(FilesError::TooMuch { .. })));
        std::os::unix::fs::symlink("/etc/passwd", from.join("out")).unwrap();
        assert!(matches!(plan_copy(&from, &to, &roots, 10), Err(FilesError::Outside { .. })));
        assert!(roots.make_folder(&folder.path().join("new/inner")).is_ok());
        assert!(matches!(roots.make_folder(Path::new("/etc/new")), Err(FilesError::Outside { .. })));
    }

    #[test]
    fn a_file_that_is_not_whole_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x/y");
        drop(Partial::create(&place).unwrap());
        assert_eq!(std::fs::read_dir(folder.path().join("x")).unwrap().count(), 0);
        Partial::create(&place).unwrap().finish(0o640).unwrap();
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
