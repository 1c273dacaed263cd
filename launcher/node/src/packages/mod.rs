//! Packages of the batch service on this node: each is unpacked once, into a folder that its digest names.
//!
//! The folders are root's, so that tasks can read what is in them and change nothing. Beside each is a lock: who uses a package
//! holds it shared, who unpacks or removes one holds it alone. A lock goes with its process, so that nothing is held for ever.

mod fetch;
mod unpack;

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use muster_wire::v1;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub use self::unpack::Limits;
use crate::config::AgentDir;
use crate::error::{NodeError, Result, sentence};

/// The folder below the root for work that has all of them.
const FOLDER: &str = "applications";
/// How long a package is kept that nobody uses.
const UNUSED_MAX: Duration = Duration::from_secs(24 * 3600);
/// What the names of locks end with, of zips on their way, and of folders that are not whole or are being removed.
const LOCK: &str = ".lock";
const ZIP: &str = ".zip";
const UNFINISHED: &str = ".new";
/// The code of failures, as the batch service names it.
pub const ERROR: &str = "ApplicationPackageError";

/// All packages of a node.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

/// A package that is used: it stays where it is meanwhile.
#[derive(Debug)]
pub struct Held {
    _lock: Flock<File>,
}

/// A folder that is being filled; it is removed again unless that is finished.
#[derive(Debug)]
pub struct Making {
    _lock: Flock<File>,
    unfinished: PathBuf,
    place: PathBuf,
}

impl Making {
    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.unfinished
    }

    /// From here on others find it.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if the disk cannot be written.
    pub fn finish(self) -> Result<()> {
        // A folder that has its name is whole, also after a loss of power.
        let disk = File::open(&self.unfinished).map_err(NodeError::file("open", &self.unfinished))?;
        nix::unistd::syncfs(&disk).map_err(NodeError::system("write to the disk"))?;
        std::fs::rename(&self.unfinished, &self.place)
            .map_err(NodeError::file("put in its place", &self.place))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // What is finished is not there any more.
        let _ = std::fs::remove_dir_all(&self.unfinished);
    }
}

impl Shelf {
    /// What lies in a folder, which is the node's own.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The packages below a root for work.
    pub fn below(root: &Path) -> Self {
        Self(root.join(FOLDER))
    }

    /// The folder of a package.
    pub fn place(&self, digest: &str) -> PathBuf {
        self.0.join(digest)
    }

    fn beside(&self, digest: &str, end: &str) -> PathBuf {
        // With a period before it no listing of tasks takes it for a package.
        self.0.join(format!(".{digest}{end}"))
    }

    /// Takes a lock; none if somebody else has it and `how` does not wait.
    fn lock(&self, digest: &str, how: FlockArg) -> Result<Option<Flock<File>>> {
        let path = self.beside(digest, LOCK);
        loop {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.custom_flags(libc::O_NOFOLLOW).open(&path);
            let file = file.map_err(NodeError::file("open", &path))?;
            match Flock::lock(file, how) {
                // It may have been removed between the two steps: then it is nobody's lock any more.
                Ok(lock) if lock.metadata().is_ok_and(|about| about.nlink() > 0) => return Ok(Some(lock)),
                Ok(_) | Err((_, Errno::EINTR)) => {}
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(NodeError::file("lock", &path)(error.into())),
            }
        }
    }

    /// Holds a package, if it is there whole.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the lock cannot be used.
    pub fn hold(&self, digest: &str) -> Result<Option<Held>> {
        if !self.place(digest).is_dir() {
            return Ok(None);
        }
        // Where it is there whole, nobody has the lock alone for longer than to look, or to remove it.
        let Some(lock) = self.lock(digest, FlockArg::LockShared)? else { return Ok(None) };
        if !self.place(digest).is_dir() {
            return Ok(None);
        }
        // What was not used for the longest time goes first.
        let _ = lock.set_modified(SystemTime::now());
        Ok(Some(Held { _lock: lock }))
    }

    /// Brings and unpacks a package, unless it is there. Blocks, also for as long as others unpack the same.
    ///
    /// # Errors
    ///
    /// [`NodeError::Staged`] with what is wrong with the package, and others if the node or the controller is at fault.
    pub fn ensure(
        &self,
        package: &v1::Package,
        limits: Limits,
        fetch: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        if !is_digest(&package.digest) {
            return Err(wrong(format!("there is no {}", package.name)));
        }
        let Some(making) = self.begin(&package.digest)? else { return Ok(()) };
        let zip = self.beside(&package.digest, ZIP);
        let unpacked = self.unpack(package, limits, (&zip, making.folder()), fetch);
        let _ = std::fs::remove_file(&zip);
        unpacked?;
        making.finish()
    }

    /// Begins to make what a digest names, in an empty folder, unless it is there whole. Blocks for as long as others make the same.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the folder cannot be made.
    pub fn begin(&self, digest: &str) -> Result<Option<Making>> {
        // The lock is not waited for alone: those who use it hold it for as long as their tasks run.
        let lock = loop {
            if self.hold(digest)?.is_some() {
                return Ok(None);
            }
            if let Some(lock) = self.lock(digest, FlockArg::LockExclusiveNonblock)? {
                break lock;
            }
            drop(self.lock(digest, FlockArg::LockShared)?);
        };
        let place = self.place(digest);
        if place.is_dir() {
            return Ok(None);
        }
        let unfinished = self.beside(digest, UNFINISHED);
        remove(&unfinished)?;
        std::fs::create_dir(&unfinished).map_err(NodeError::file("create the folder", &unfinished))?;
        Ok(Some(Making { _lock: lock, unfinished, place }))
    }

    fn unpack(
        &self,
        package: &v1::Package,
        limits: Limits,
        (zip, unfinished): (&Path, &Path),
        fetch: impl FnOnce(&mut File) -> Result<()>,
    ) -> Result<()> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(zip).map_err(NodeError::file("create", zip))?;
        fetch(&mut file)?;
        unpack::unpack(file, unfinished, limits).map_err(|error| {
            wrong(format!("package {} cannot be unpacked: {}", package.name, sentence(&error)))
        })
    }

    /// Removes what nobody uses and nobody has used for long; and while the disk is nearly full, what was not used for longest.
    pub fn tidy(&self, now: SystemTime, is_full: impl Fn() -> bool) {
        let mut unused: Vec<(SystemTime, String)> = Vec::new();
        for entry in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.trim_start_matches('.').split('.').next().unwrap_or_default().to_owned();
            if is_digest(&digest) && !unused.iter().any(|(_, known)| *known == digest) {
                let used = std::fs::metadata(self.beside(&digest, LOCK)).and_then(|lock| lock.modified());
                unused.push((used.unwrap_or(SystemTime::UNIX_EPOCH), digest));
            }
        }
        unused.sort_unstable();
        for (used, digest) in unused {
            if now.duration_since(used).unwrap_or_default() < UNUSED_MAX && !is_full() {
                return;
            }
            if let Err(error) = self.remove(&digest) {
                tracing::warn!(error = error.sentence(), "an unpacked package cannot be removed");
            }
        }
    }

    /// Removes a package that nobody holds.
    fn remove(&self, digest: &str) -> Result<()> {
        let Some(_lock) = self.lock(digest, FlockArg::LockExclusiveNonblock)? else { return Ok(()) };
        let unfinished = self.beside(digest, UNFINISHED);
        remove(&unfinished)?;
        match std::fs::rename(self.place(digest), &unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(NodeError::file("remove", self.place(digest))(error));
            }
            _ => remove(&unfinished)?,
        }
        let _ = std::fs::remove_file(self.beside(digest, ZIP));
        let lock = self.beside(digest, LOCK);
        std::fs::remove_file(&lock).map_err(NodeError::file("remove", &lock))
    }
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(NodeError::file("remove the folder", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a text is a SHA-256 digest, and so can name a folder.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// What is wrong with a package.
fn wrong(message: impl Into<String>) -> NodeError {
    NodeError::Staged(v1::StagingFailed { code: ERROR.to_owned(), message: message.into() })
}

/// Brings packages from the controller and unpacks them, as far as they are not there.
///
/// # Errors
///
/// The first thing that fails.
pub async fn bring(dir: &AgentDir, packages: &[v1::Package]) -> Result<()> {
    let config = dir.config()?;
    let root = dir.work(&config);
    crate::folders::make_root(&root)?;
    let shelf = Shelf::below(&root);
    let source = fetch::Source::new(dir, &config)?;
    for package in packages {
        let (shelf, package, source) = (shelf.clone(), package.clone(), source.clone());
        let runtime = tokio::runtime::Handle::current();
        let brought = tokio::task::spawn_blocking(move || {
            shelf.ensure(&package, Limits::default(), |file| runtime.block_on(source.fetch(&package, file)))
        });
        brought
            .await
            .map_err(|error| NodeError::system("unpack a package")(std::io::Error::other(error)))??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn package(digit: char) -> v1::Package {
        v1::Package { name: "app_1".into(), digest: digit.to_string().repeat(64), bytes: 0 }
    }

    fn zip(names: &[&str]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().unix_permissions(0o600);
        for name in names {
            writer.start_file(*name, options).unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(FOLDER)).unwrap();
        let shelf = Shelf::below(root.path());
        (root, shelf)
    }

    fn put(shelf: &Shelf, digit: char, bytes: &[u8]) -> Result<()> {
        shelf.ensure(&package(digit), Limits::default(), |file| {
            file.write_all(bytes).map_err(NodeError::file("write", "zip"))
        })
    }

    #[test]
    fn a_package_is_unpacked_once_and_stays_while_it_is_held() {
        let (_root, shelf) = shelf();
        let digest = package('a').digest;
        assert!(shelf.hold(&digest).unwrap().is_none());
        put(&shelf, 'a', &zip(&["bin/app"])).unwrap();
        assert_eq!(std::fs::read(shelf.place(&digest).join("bin/app")).unwrap(), b"bin/app");
        shelf.ensure(&package('a'), Limits::default(), |_| panic!("it is there already")).unwrap();
        let held = shelf.hold(&digest).unwrap().expect("it is there");
        let later = SystemTime::now() + UNUSED_MAX + Duration::from_secs(1);
        shelf.tidy(later, || true);
        assert!(shelf.place(&digest).is_dir(), "somebody uses it");
        drop(held);
        shelf.tidy(SystemTime::now(), || false);
        assert!(shelf.place(&digest).is_dir(), "it was used just now");
        shelf.tidy(later, || false);
        assert_eq!(std::fs::read_dir(&shelf.0).unwrap().count(), 0, "nothing of it is left");
    }

    #[test]
    fn who_waits_for_a_package_does_not_wait_for_its_users() {
        let (_root, shelf) = shelf();
        let digest = package('a').digest;
        // It is there, and used, while the other is on its way to the lock.
        let used = shelf.lock(&digest, FlockArg::LockShared).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| shelf.ensure(&package('a'), Limits::default(), |_| unreachable!()));
            std::fs::create_dir(shelf.place(&digest)).unwrap();
            waits.join().unwrap().unwrap();
        });
        drop(used);
    }

    #[test]
    fn what_was_used_last_goes_last_when_the_disk_is_full() {
        let (_root, shelf) = shelf();
        for digit in ['a', 'b'] {
            put(&shelf, digit, &zip(&["x"])).unwrap();
        }
        let old = File::options().write(true).open(shelf.beside(&package('b').digest, LOCK)).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        shelf.tidy(SystemTime::now(), || shelf.place(&package('b').digest).is_dir());
        assert!(shelf.place(&package('a').digest).is_dir() && !shelf.place(&package('b').digest).is_dir());
    }

    #[test]
    fn what_breaks_off_leaves_nothing_and_is_begun_anew() {
        let (_root, shelf) = shelf();
        let digest = package('a').digest;
        // A process was killed in the middle of it.
        std::fs::create_dir_all(shelf.beside(&digest, UNFINISHED).join("half")).unwrap();
        let broken = put(&shelf, 'a', b"no zip").unwrap_err().sentence();
        assert!(broken.starts_with("ApplicationPackageError: package app_1 cannot be unpacked"), "{broken}");
        let missing =
            shelf.ensure(&v1::Package { digest: "../x".into(), ..package('a') }, Limits::default(), |_| {
                Ok(())
            });
        assert!(missing.is_err());
        put(&shelf, 'a', &zip(&["whole"])).unwrap();
        let names: Vec<_> = std::fs::read_dir(shelf.place(&digest)).unwrap().flatten().collect();
        assert_eq!(names.len(), 1);
        assert!(!shelf.beside(&digest, ZIP).exists() && !shelf.beside(&digest, UNFINISHED).exists());
    }
}
