//! The folders of tasks below the node's root for work, and the records of them.
//!
//! A folder outlives its attempt until its time is over, so what is known of it lies in the agent's folder, in one file
//! for each attempt. The supervisor writes the record with the folder, and again at the end; the agent reads them.
//!
//! Everything from the root down to a task's folder is root's, so that no user can put a link in the way of another's
//! task; the folder itself is its user's, and nobody else may look into it.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use muster_wire::v1::AttemptKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{NodeError, Result};
use crate::user::Account;

/// The working directory of a task's command in its folder.
pub const WORKING_DIRECTORY: &str = "wd";

/// The folder that the batch service's start tasks have, one after another, each as its user's.
const STARTUP: &str = "startup";

/// The folders that every task of the node finds, by their names below the root.
const COMMON: [(&str, u32); 5] = [
    ("applications", 0o755),
    ("fsmounts", 0o755),
    // As /tmp: everybody may write, and only the owner may remove.
    ("shared", 0o1777),
    ("volatile", 0o700),
    ("workitems", 0o755),
];

/// What is known of the folder of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Job, task, attempt.
    pub key: (u64, u32, u32),
    /// Below the root.
    pub folder: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// How long it is kept after the end, in seconds.
    pub retention_s: u64,
    /// When the attempt ended, in seconds since 1970; not before it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_s: Option<u64>,
}

impl Record {
    /// When it may be removed, in seconds since 1970; not while its attempt lives.
    pub fn expires_at_s(&self) -> Option<u64> {
        self.ended_at_s.map(|ended| ended.saturating_add(self.retention_s))
    }
}

/// All records of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records(PathBuf);

impl Records {
    /// The records in this folder, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    fn path(&self, key: (u64, u32, u32)) -> PathBuf {
        let (job, task, attempt) = key;
        self.0.join(format!("{}.json", AttemptKey { job, task, attempt }))
    }

    /// Writes a record, in the place of an older one of the same attempt.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be written.
    pub fn write(&self, record: &Record) -> Result<()> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(NodeError::file("create the folder", &self.0))?;
        let path = self.path(record.key);
        let new = path.with_extension("new");
        let text = serde_json::to_vec(record).map_err(|source| NodeError::Malformed {
            kind: "record of a folder",
            path: path.clone(),
            source,
        })?;
        std::fs::write(&new, text).map_err(NodeError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(NodeError::file("replace", &path))?;
        self.index(record, &path)
    }

    /// Where the record of a folder is found by the folder's name.
    fn place(&self, folder: &Path) -> PathBuf {
        let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        self.0.join("by-folder").join(format!("{digest:x}"))
    }

    /// A node keeps thousands of folders, and the start of a task looks for a few of them.
    fn index(&self, record: &Record, path: &Path) -> Result<()> {
        let place = self.place(&record.folder);
        if std::fs::read_link(&place).is_ok_and(|present| present == path) {
            return Ok(());
        }
        if let Some(parent) = place.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(NodeError::file("create the folder", parent))?;
        }
        let new = place.with_extension("new");
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(path, &new).map_err(NodeError::file("create", &new))?;
        std::fs::rename(&new, &place).map_err(NodeError::file("replace", &place))
    }

    /// The record of the attempt that has, or last had, exactly this folder.
    fn of_folder(&self, folder: &Path) -> Option<Record> {
        let record: Record = serde_json::from_slice(&std::fs::read(self.place(folder)).ok()?).ok()?;
        (record.folder == folder).then_some(record)
    }

    /// Every record that can be read, in no order.
    pub fn all(&self) -> Vec<Record> {
        let Ok(entries) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let texts = entries.flatten().map(|entry| entry.path());
        let texts = texts.filter(|path| path.extension().is_some_and(|end| end == "json"));
        texts.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
    }

    /// The record of an attempt.
    pub fn find(&self, key: (u64, u32, u32)) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.path(key)).ok()?).ok()
    }

    /// Notes that an attempt has ended, if it has a folder and that was not noted before.
    pub fn note_end(&self, key: (u64, u32, u32), now_s: u64) {
        let Some(record) = self.find(key).filter(|record| record.ended_at_s.is_none()) else { return };
        if let Err(error) = self.write(&Record { ended_at_s: Some(now_s), ..record }) {
            tracing::error!(error = error.sentence(), "the end of an attempt with a folder cannot be noted");
        }
    }

    /// Removes a folder and its record.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if something of it is left; the record is then left as well.
    pub fn remove(&self, root: &Path, record: &Record) -> Result<()> {
        let folder = root.join(&record.folder);
        if self.of_folder(&record.folder).is_none_or(|holder| holder.key == record.key) {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(NodeError::file("remove the folder", &folder)(error));
                }
                _ => remove_empty_parents(root, &record.folder),
            }
        }
        let (path, place) = (self.path(record.key), self.place(&record.folder));
        if std::fs::read_link(&place).is_ok_and(|present| present == path) {
            let _ = std::fs::remove_file(&place);
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(NodeError::file("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Removes the folders above a task's that hold nothing any more, but for the first, which is the node's.
fn remove_empty_parents(root: &Path, folder: &Path) {
    let parents = folder.ancestors().skip(1).filter(|parent| parent.components().count() > 1);
    for parent in parents {
        if std::fs::remove_dir(root.join(parent)).is_err() {
            return;
        }
    }
}

/// The folder in the root that holds a cache of common inputs for each user.
pub const CACHE: &str = "cache";

/// Makes the cache of a user: tasks of others can neither read it nor put anything into it.
///
/// # Errors
///
/// [`NodeError::File`] if it cannot be made.
pub fn make_cache(root: &Path, account: &Account) -> Result<PathBuf> {
    let all = root.join(CACHE);
    own_folder(&all, 0o755)?;
    let own = all.join(account.uid.to_string());
    match std::fs::DirBuilder::new().mode(0o700).create(&own) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(NodeError::file("create the folder", &own)(error));
        }
        _ => {}
    }
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::lchown(&own, Some(account.uid), Some(account.gid))
            .map_err(NodeError::file("give to the user", &own))?;
    }
    Ok(own)
}

/// Makes the root for work and what every task finds in it.
///
/// # Errors
///
/// [`NodeError::File`] if something cannot be made.
pub fn make_root(root: &Path) -> Result<()> {
    own_folder(root, 0o755)?;
    COMMON.iter().try_for_each(|(name, mode)| own_folder(&root.join(name), *mode))?;
    // The root is the node's, so nobody else can put anything there.
    let startup = root.join(STARTUP);
    if startup.is_dir() { Ok(()) } else { own_folder(&startup, 0o755) }
}

/// Makes the folder of an attempt, empty, with its working directory, and the record of it. Everybody may read one that is open.
///
/// # Errors
///
/// [`NodeError::FolderInUse`] if another attempt has it, and [`NodeError::File`] if it cannot be made.
pub fn make(
    root: &Path,
    records: &Records,
    record: &Record,
    account: &Account,
    open: bool,
) -> Result<PathBuf> {
    let is_startup = record.folder == Path::new(STARTUP);
    if record.folder.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(NodeError::Incomplete { part: "folder, as names below the root for work" });
    }
    let in_use = || NodeError::FolderInUse { folder: record.folder.clone() };
    // A folder lies in no other task's, and holds none.
    if record.folder.ancestors().skip(1).any(|above| records.of_folder(above).is_some()) {
        return Err(in_use());
    }
    match records.of_folder(&record.folder) {
        Some(other) if other.key == record.key => {}
        Some(other) if other.ended_at_s.is_none() => return Err(in_use()),
        Some(other) if other.uid != record.uid && !is_startup => return Err(in_use()),
        Some(other) => records.remove(root, &other)?,
        None if root.join(&record.folder).exists() && !is_startup => return Err(in_use()),
        None => {}
    }
    make_root(root)?;
    let mut path = root.to_owned();
    let parents = record.folder.parent().into_iter().flat_map(Path::components);
    for part in parents {
        path.push(part);
        own_folder(&path, 0o755)?;
    }
    let path = root.join(&record.folder);
    // The record comes first, so that whatever of the folder there is has one.
    records.write(record)?;
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(NodeError::file("remove the old folder", &path)(error));
        }
        _ => {}
    }
    let inner = path.join(WORKING_DIRECTORY);
    let mode = if open { 0o755 } else { 0o700 };
    for made in [&path, &inner] {
        let refuse = NodeError::file("create the folder", made);
        std::fs::DirBuilder::new().mode(0o700).create(made).map_err(refuse)?;
        // The mode of mkdir(2) is cut by the mask.
        let set = std::fs::set_permissions(made, std::fs::Permissions::from_mode(mode));
        set.map_err(NodeError::file("set the rights of", made))?;
    }
    if nix::unistd::geteuid().is_root() {
        for made in [&inner, &path] {
            std::os::unix::fs::lchown(made, Some(account.uid), Some(account.gid))
                .map_err(NodeError::file("give to the user", made))?;
        }
    }
    Ok(path)
}

/// Makes a folder of the node's own, or sees to it that the one that is there is one: no link, and nobody else's.
fn own_folder(path: &Path, mode: u32) -> Result<()> {
    match std::fs::DirBuilder::new().recursive(false).mode(mode).create(path) {
        Ok(()) => {
            // The mode of mkdir(2) is cut by the mask.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .map_err(NodeError::file("set the rights of", path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = std::fs::symlink_metadata(path).map_err(NodeError::file("look at", path))?;
            let own = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
            if own { Ok(()) } else { Err(NodeError::NotOwnFolder { path: path.to_owned() }) }
        }
        Err(error) => Err(NodeError::file("create the folder", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        _folder: tempfile::TempDir,
        root: PathBuf,
        records: Records,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let (root, records) = (folder.path().join("work"), Records::at(folder.path().join("folders")));
        Bench { _folder: folder, root, records }
    }

    fn record(job: u64, folder: &str) -> Record {
        Record { key: (job, 0, 1), folder: folder.into(), uid: own().uid, retention_s: 10, ended_at_s: None }
    }

    fn own() -> Account {
        let uid = nix::unistd::geteuid().as_raw();
        let gid = nix::unistd::getegid().as_raw();
        Account {
            name: "me".into(),
            uid,
            gid,
            group: None,
            groups: vec![gid],
            home: "/".into(),
            shell: "/bin/sh".into(),
        }
    }

    impl Bench {
        fn make(&self, record: &Record) -> Result<PathBuf> {
            make(&self.root, &self.records, record, &own(), false)
        }
    }

    #[test]
    fn a_folder_is_made_with_all_that_tasks_find_and_goes_with_its_empty_parents() {
        let bench = bench();
        let record = record(1, "workitems/a/job-1/t");
        let made = bench.make(&record).unwrap();
        assert_eq!(made, bench.root.join("workitems/a/job-1/t"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&made), mode(&made.join("wd"))), (0o700, 0o700));
        assert_eq!(mode(&bench.root.join("shared")), 0o1777);
        assert_eq!(mode(made.parent().unwrap()), 0o755);
        assert_eq!(bench.records.all(), std::slice::from_ref(&record));
        assert_eq!(record.expires_at_s(), None);
        bench.records.note_end(record.key, 5);
        bench.records.note_end(record.key, 7);
        let ended = bench.records.find(record.key).unwrap();
        assert_eq!(ended.expires_at_s(), Some(15));
        bench.records.remove(&bench.root, &ended).unwrap();
        assert!(bench.root.join("workitems").exists() && !bench.root.join("workitems/a").exists());
        assert!(bench.records.all().is_empty());
    }

    #[test]
    fn a_folder_belongs_to_one_attempt_and_the_next_one_finds_it_empty() {
        let bench = bench();
        let first = record(1, "workitems/a/job-1/t");
        let made = bench.make(&first).unwrap();
        std::fs::write(made.join("wd/old"), "").unwrap();
        for taken in ["workitems/a/job-1/t", "workitems/a/job-1", "workitems/a/job-1/t/wd"] {
            let refused = bench.make(&record(2, taken));
            assert!(matches!(refused, Err(NodeError::FolderInUse { .. })), "{taken}: {refused:?}");
        }
        bench.make(&record(3, "workitems/a/job-1/t2")).unwrap();
        bench.records.note_end(first.key, 5);
        let other = Record { uid: 1, ..record(2, "workitems/a/job-1/t") };
        let theirs = Account { uid: 1, ..own() };
        assert!(make(&bench.root, &bench.records, &other, &theirs, false).is_err(), "another user's files");
        let again = bench.make(&record(2, "workitems/a/job-1/t")).unwrap();
        assert!(!again.join("wd/old").exists());
        assert!(bench.records.find(first.key).is_none());
    }

    #[test]
    fn a_start_task_may_have_the_folder_of_anothers_once_that_has_ended_and_all_may_read_it() {
        let bench = bench();
        let first = record(1, STARTUP);
        let make = |record: &Record| make(&bench.root, &bench.records, record, &own(), true);
        let made = make(&first).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&made), mode(&made.join("wd"))), (0o755, 0o755));
        assert!(matches!(make(&record(2, STARTUP)), Err(NodeError::FolderInUse { .. })));
        bench.records.note_end(first.key, 5);
        std::fs::write(made.join("old"), "").unwrap();
        make(&Record { uid: 1, ..record(2, STARTUP) }).unwrap();
        assert!(!made.join("old").exists());
        bench.records.note_end((2, 0, 1), 5);
        make(&record(3, STARTUP)).unwrap();
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let bench = bench();
        for wrong in ["../x", "/etc", "a/../b"] {
            assert!(bench.make(&record(1, wrong)).is_err(), "{wrong}");
        }
        make_root(&bench.root).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), bench.root.join("workitems/a")).unwrap();
        let refused = bench.make(&record(1, "workitems/a/t"));
        assert!(matches!(refused, Err(NodeError::NotOwnFolder { .. })), "{refused:?}");
    }
}
