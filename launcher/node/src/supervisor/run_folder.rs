//! The attempt's folder that belongs to its user, and what is in it.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use crate::error::{NodeError, Result};
use crate::user::Account;

/// The folder's rights: all for its owner.
const FOLDER_MODE: u32 = 0o700;
/// Those of a file that everybody may read who comes to the folder.
const PUBLIC_MODE: u32 = 0o644;

/// How much later the clock must be than a change before a change after that is known to have another time: more than what a
/// file system that knows of parts of a second leaves out.
const CLOCK_BEYOND_NS: i128 = 1_000_000;

/// The folder is root's while it is filled, so that the user cannot turn a file into a link meanwhile. One that an attempt before has left as it
/// was is its user's, until something in it must become another.
pub(super) struct RunFolder<'a> {
    pub path: PathBuf,
    account: &'a Account,
    entries: Vec<Entry>,
    /// What an attempt before has left, and this one has not asked for yet.
    left: Vec<Entry>,
    is_users: bool,
    /// That of [`Contents`].
    found_changed_at_ns: Option<i128>,
}

/// What is in a folder that was filled.
#[derive(Debug)]
pub(super) struct Contents {
    path: PathBuf,
    entries: Vec<Entry>,
    /// When the folder had last been changed, at a time when it held all this and nothing else.
    found_changed_at_ns: Option<i128>,
    /// Whether whatever has been changed since it was handed over has another time than that.
    tells_changes: bool,
}

#[derive(Debug)]
struct Entry {
    name: String,
    inode: u64,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The user's, with these rights and this text, and when it was last changed.
    Private {
        mode: u32,
        text: Vec<u8>,
        changed_at_ns: i128,
    },
    /// Root's, with this text.
    Public(Vec<u8>),
    Socket,
}

impl<'a> RunFolder<'a> {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that fails.
    pub fn make(path: &Path, account: &'a Account) -> Result<Self> {
        let make = || std::fs::DirBuilder::new().mode(FOLDER_MODE).create(path);
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                std::fs::remove_dir_all(path).map_err(NodeError::file("remove the old folder", path))?;
                make()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                // Everybody may pass: the users' folders below are closed themselves.
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
                made.map_err(NodeError::file("create the folder", parent))?;
                make()
            }
            made => made,
        };
        made.map_err(NodeError::file("create the folder", path))?;
        Ok(Self {
            path: path.to_owned(),
            account,
            entries: Vec::new(),
            left: Vec::new(),
            is_users: false,
            found_changed_at_ns: None,
        })
    }

    /// The folder of an attempt before, which has left it as it was.
    pub fn again(contents: Contents, account: &'a Account) -> Self {
        Self {
            path: contents.path,
            account,
            entries: Vec::new(),
            left: contents.entries,
            is_users: true,
            found_changed_at_ns: contents.found_changed_at_ns,
        }
    }

    /// Takes the folder back from its user before something in it is changed.
    fn take_back(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_users) {
            return Ok(());
        }
        self.found_changed_at_ns = None;
        lchown(&self.path, Some(0), Some(0))
            .and_then(|()| std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(FOLDER_MODE)))
            .map_err(NodeError::file("take back the folder", &self.path))
    }

    /// Makes a file of the user's, with rights for nobody else.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that fails.
    pub fn write(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let same = |entry: &Entry| match &entry.kind {
            Kind::Private { mode: rights, text, .. } => *rights == mode && text == contents,
            _ => false,
        };
        if self.is_left(name, same)? {
            return Ok(());
        }
        let made = self.create(name, mode, contents, nix::unistd::geteuid().is_root())?;
        let kind = Kind::Private { mode, text: contents.to_owned(), changed_at_ns: changed_at_ns(&made) };
        self.entries.push(Entry { name: name.to_owned(), inode: made.ino(), kind });
        Ok(())
    }

    /// Makes a file that the user may read and nobody but root may change.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that fails.
    pub fn publish(&mut self, name: &str, contents: &[u8]) -> Result<()> {
        let same = |entry: &Entry| matches!(&entry.kind, Kind::Public(text) if text == contents);
        if self.is_left(name, same)? {
            return Ok(());
        }
        let made = self.create(name, PUBLIC_MODE, contents, false)?;
        let kind = Kind::Public(contents.to_owned());
        self.entries.push(Entry { name: name.to_owned(), inode: made.ino(), kind });
        Ok(())
    }

    /// Whether something is there as it is wanted. What is not is removed.
    fn is_left(&mut self, name: &str, same: impl FnOnce(&Entry) -> bool) -> Result<bool> {
        let Some(at) = self.left.iter().position(|entry| entry.name == name) else { return Ok(false) };
        let entry = self.left.swap_remove(at);
        let is_same = same(&entry);
        if is_same {
            self.entries.push(entry);
        } else {
            self.remove(name)?;
        }
        Ok(is_same)
    }

    /// Makes a socket of the user's.
    ///
    /// # Errors
    ///
    /// Those of `bind`, and [`NodeError::File`] if it cannot be given to the user.
    pub fn bind<T>(&mut self, name: &str, bind: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        self.take_back()?;
        let path = self.path.join(name);
        let socket = bind(&path)?;
        self.give(&path)?;
        let made = std::fs::symlink_metadata(&path).map_err(NodeError::file("look at", &path))?;
        self.entries.push(Entry { name: name.to_owned(), inode: made.ino(), kind: Kind::Socket });
        Ok(socket)
    }

    /// Leaves a socket as it is that is still open.
    pub fn keep_socket(&mut self, name: &str) {
        if let Some(at) = self.left.iter().position(|entry| entry.name == name) {
            self.entries.push(self.left.swap_remove(at));
        }
    }

    /// From here on the folder is the user's, and holds what was put there and nothing else.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be given to the user.
    pub fn hand_over(mut self) -> Result<Contents> {
        for entry in std::mem::take(&mut self.left) {
            self.remove(&entry.name)?;
        }
        if !self.is_users {
            self.give(&self.path)?;
        }
        let mut private = self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::Private { changed_at_ns, .. } => Some(changed_at_ns),
            _ => None,
        });
        let clock = clock_of_changes_ns();
        let is_past = |at: i128| at % NANOSECONDS != 0 && at + CLOCK_BEYOND_NS < clock;
        let tells_changes = self.found_changed_at_ns.is_some_and(is_past) && private.all(is_past);
        Ok(Contents {
            path: self.path,
            entries: self.entries,
            found_changed_at_ns: self.found_changed_at_ns,
            tells_changes,
        })
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.take_back()?;
        let path = self.path.join(name);
        std::fs::remove_file(&path).map_err(NodeError::file("remove", path))
    }

    fn create(
        &mut self,
        name: &str,
        mode: u32,
        contents: &[u8],
        is_users: bool,
    ) -> Result<std::fs::Metadata> {
        self.take_back()?;
        let path = self.path.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .map_err(NodeError::file("create", &path))?;
        file.write_all(contents).map_err(NodeError::file("write", &path))?;
        if is_users {
            fchown(&file, Some(self.account.uid), Some(self.account.gid))
                .map_err(NodeError::file("give to the user", &path))?;
        }
        file.metadata().map_err(NodeError::file("look at", &path))
    }

    /// Gives something in the folder, or the folder itself, to the user.
    fn give(&self, path: &Path) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        lchown(path, Some(self.account.uid), Some(self.account.gid))
            .map_err(NodeError::file("give to the user", path))
    }
}

impl Contents {
    /// Whether the folder holds what it was given with, and nothing else: what the user made there, or
    /// in the place of something, is not for another attempt.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn is_as_given(&mut self) -> std::io::Result<bool> {
        let about = std::fs::symlink_metadata(&self.path)?;
        let changed_at_ns = changed_at_ns(&about);
        if self.tells_changes && self.found_changed_at_ns == Some(changed_at_ns) {
            // Nothing came, went or took another name; what is root's, nobody else can change where it is.
            return self.private_is_as_given();
        }
        if about.mode() & 0o7777 != FOLDER_MODE {
            return Ok(false);
        }
        let mut found = 0;
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let known = self.entries.iter().find(|known| name == known.name.as_str());
            let about = entry.metadata()?;
            if !known.is_some_and(|known| known.is_as_before(&about)) {
                return Ok(false);
            }
            found += 1;
        }
        let is_as_given = found == self.entries.len();
        self.found_changed_at_ns = is_as_given.then_some(changed_at_ns);
        Ok(is_as_given)
    }

    fn private_is_as_given(&self) -> std::io::Result<bool> {
        for entry in self.entries.iter().filter(|entry| matches!(entry.kind, Kind::Private { .. })) {
            if !entry.is_as_before(&std::fs::symlink_metadata(self.path.join(&entry.name))?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Entry {
    fn is_as_before(&self, about: &std::fs::Metadata) -> bool {
        let is_unchanged = match &self.kind {
            Kind::Public(_) => about.uid() == 0 && about.mode() & 0o777 == PUBLIC_MODE,
            Kind::Private { changed_at_ns: then, .. } => changed_at_ns(about) == *then,
            Kind::Socket => true,
        };
        is_unchanged && about.ino() == self.inode
    }
}

/// When a file was last changed in any way, its rights and owner included, which nobody can set.
fn changed_at_ns(about: &std::fs::Metadata) -> i128 {
    i128::from(about.ctime()) * NANOSECONDS + i128::from(about.ctime_nsec())
}

const NANOSECONDS: i128 = 1_000_000_000;

/// The clock by which the kernel says when a file was changed: nothing that is changed from now on has an earlier time (clock_getres(2),
/// `CLOCK_REALTIME_COARSE`).
fn clock_of_changes_ns() -> i128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE);
    now.map_or(0, |now| i128::from(now.tv_sec()) * NANOSECONDS + i128::from(now.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody who is not root; none if the tests do not run as root.
    fn nobody() -> Option<Account> {
        let user = nix::unistd::User::from_uid(65534.into()).unwrap().unwrap();
        nix::unistd::geteuid().is_root().then(|| Account {
            name: user.name,
            uid: 65534,
            gid: 65534,
            group: None,
            groups: vec![65534],
            home: user.dir,
            shell: user.shell,
        })
    }

    fn filled<'a>(path: &Path, account: &'a Account) -> RunFolder<'a> {
        let mut folder = RunFolder::make(path, account).unwrap();
        folder.write("script", 0o700, b"#!/bin/sh\n").unwrap();
        folder.publish("hostfile", b"node01\n").unwrap();
        folder.publish("old", b"1\n").unwrap();
        folder.bind("s", |path| Ok(std::os::unix::net::UnixListener::bind(path).unwrap())).unwrap();
        folder
    }

    #[test]
    fn what_is_the_same_stays_and_what_is_not_is_made_anew() {
        let Some(account) = nobody() else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1_0.1");
        let number = |name: &str| std::fs::symlink_metadata(path.join(name)).unwrap().ino();
        let owner = || std::fs::metadata(&path).unwrap().uid();
        let mut contents = filled(&path, &account).hand_over().unwrap();
        assert_eq!(owner(), account.uid);
        let before = ["hostfile", "s"].map(number);
        assert!(contents.is_as_given().unwrap());

        let mut again = RunFolder::again(contents, &account);
        again.write("script", 0o700, b"#!/bin/bash\n").unwrap();
        assert_eq!(owner(), 0, "while it is filled");
        again.publish("hostfile", b"node01\n").unwrap();
        again.keep_socket("s");
        let mut contents = again.hand_over().unwrap();
        assert_eq!(owner(), account.uid);
        assert_eq!(["hostfile", "s"].map(number), before);
        assert_eq!(std::fs::read(path.join("script")).unwrap(), b"#!/bin/bash\n");
        assert!(!path.join("old").exists(), "nobody asked for it again");
        assert!(contents.is_as_given().unwrap());
        let mut again = RunFolder::again(contents, &account);
        again.publish("hostfile", b"node02\n").unwrap();
        again.hand_over().unwrap();
        assert_eq!(std::fs::read(path.join("hostfile")).unwrap(), b"node02\n");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    }

    /// What was left, for another attempt that is told the same, at a later time of the clock.
    fn as_before(contents: Contents, account: &Account) -> Contents {
        let now = clock_of_changes_ns();
        while clock_of_changes_ns() < now + 2 * CLOCK_BEYOND_NS {
            std::thread::yield_now();
        }
        at_once(contents, account)
    }

    fn at_once(contents: Contents, account: &Account) -> Contents {
        let mut again = RunFolder::again(contents, account);
        again.write("script", 0o700, b"#!/bin/sh\n").unwrap();
        again.publish("hostfile", b"node01\n").unwrap();
        again.publish("old", b"1\n").unwrap();
        again.keep_socket("s");
        again.hand_over().unwrap()
    }

    #[test]
    fn what_nobody_has_changed_is_not_looked_through_again() {
        let Some(account) = nobody() else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1_0.1");
        let mut contents = filled(&path, &account).hand_over().unwrap();
        assert!(contents.is_as_given().unwrap());
        let at = || changed_at_ns(&std::fs::metadata(&path).unwrap());
        let before = at();
        for _ in 0..3 {
            contents = as_before(contents, &account);
            assert!(contents.tells_changes && contents.is_as_given().unwrap());
        }
        assert_eq!(at(), before, "the folder itself was left alone");
        // As if all this was done within one time of the clock.
        contents.found_changed_at_ns = Some(clock_of_changes_ns());
        assert!(!at_once(contents, &account).tells_changes);
    }

    #[test]
    fn what_its_user_has_changed_is_not_for_another_attempt() {
        let Some(account) = nobody() else { return };
        let changes: [fn(&Path); 7] = [
            // Until the kernel's clock has gone on to the next time of a change.
            |path| {
                let script = path.join("script");
                let changed_at = || changed_at_ns(&std::fs::metadata(&script).unwrap());
                let before = changed_at();
                while changed_at() == before {
                    std::fs::write(&script, "#!/bin/sh\n").unwrap();
                }
            },
            |path| std::fs::write(path.join("more"), "").unwrap(),
            |path| std::fs::remove_file(path.join("hostfile")).unwrap(),
            |path| {
                std::fs::rename(path.join("hostfile"), path.join("aside")).unwrap();
                std::fs::write(path.join("hostfile"), "node01\n").unwrap();
                std::fs::remove_file(path.join("aside")).unwrap();
            },
            |path| std::fs::rename(path.join("old"), path.join("hostfile")).unwrap(),
            |path| std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap(),
            |path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap(),
        ];
        for (change, attempt) in changes.into_iter().flat_map(|change| [(change, 1), (change, 3)]) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("1_0.1");
            let mut contents = filled(&path, &account).hand_over().unwrap();
            for _ in 1..attempt {
                assert!(contents.is_as_given().unwrap());
                contents = as_before(contents, &account);
            }
            change(&path);
            assert!(!contents.is_as_given().unwrap());
        }
    }
}
