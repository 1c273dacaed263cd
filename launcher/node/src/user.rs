//! The users that tasks run as.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_wire::v1;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::error::{NodeError, Result};

/// A user of this node, with everything that a process of theirs needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group that new files get.
    pub gid: u32,
    /// That group's name, if the node knows one.
    pub group: Option<String>,
    /// All groups, as this node's databases tell them.
    pub groups: Vec<u32>,
    /// The home folder.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

impl Account {
    /// Finds the user that the controller names, and checks that this node knows the same one.
    ///
    /// # Errors
    ///
    /// [`NodeError::NoSuchUser`], [`NodeError::UidDiffers`] or [`NodeError::GidDiffers`] if it does not,
    /// [`NodeError::NotRoot`] if the agent may not act as the user, and [`NodeError::System`] if the databases
    /// cannot be asked.
    pub fn find(user: &v1::User) -> Result<Self> {
        let own = nix::unistd::geteuid();
        if !own.is_root() && own.as_raw() != user.uid {
            return Err(NodeError::NotRoot { own: own.as_raw(), wanted: user.uid });
        }
        let found =
            nix::unistd::User::from_name(&user.name).map_err(NodeError::system("ask the user database"))?;
        let found = found.ok_or_else(|| NodeError::NoSuchUser { name: user.name.clone() })?;
        if found.uid.as_raw() != user.uid {
            return Err(NodeError::UidDiffers {
                name: user.name.clone(),
                here: found.uid.as_raw(),
                submitted: user.uid,
            });
        }
        let name =
            CString::new(user.name.as_str()).map_err(|_| NodeError::ZeroByte { what: "user's name" })?;
        let groups = nix::unistd::getgrouplist(&name, found.gid)
            .map_err(NodeError::system("ask the group database"))?;
        if !groups.iter().any(|group| group.as_raw() == user.gid) {
            return Err(NodeError::GidDiffers { name: user.name.clone(), gid: user.gid });
        }
        let group = nix::unistd::Group::from_gid(Gid::from_raw(user.gid)).ok().flatten();
        Ok(Self {
            name: found.name,
            uid: user.uid,
            gid: user.gid,
            group: group.map(|group| group.name),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: found.dir,
            shell: found.shell,
        })
    }

    /// Does something with the user's rights on files, and as the user towards network file systems.
    ///
    /// Only the file-system identity of the calling thread changes (setfsuid(2)), so that the user's other
    /// processes can neither signal nor trace this one meanwhile. Without root's rights nothing changes, because
    /// the agent then serves its own user only.
    ///
    /// # Errors
    ///
    /// Those of `act`, and `EPERM` if the identity cannot be changed.
    pub fn with_rights<T>(&self, act: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
        let Some(_guard) = Identity::assume(self)? else { return act() };
        act()
    }

    /// Whether the user may look into a folder on the way to something in it.
    ///
    /// # Errors
    ///
    /// What the system says if not.
    pub fn may_enter(&self, folder: &Path) -> std::io::Result<()> {
        self.with_rights(|| {
            if !std::fs::metadata(folder)?.is_dir() {
                return Err(Errno::ENOTDIR.into());
            }
            may_execute(folder)
        })
    }

    /// Whether the user may run a program file.
    ///
    /// # Errors
    ///
    /// What the system says if not.
    pub fn may_run(&self, program: &Path) -> std::io::Result<()> {
        self.with_rights(|| may_execute(program))
    }
}

/// How long it is not asked again who a user is: as short as an administrator's change may take anyhow, and long enough
/// for a swarm of small tasks, for each of which the databases would be the most work.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// The user that was asked for last.
#[derive(Debug, Default)]
pub struct Accounts {
    last: Option<(Instant, v1::User, Account)>,
}

impl Accounts {
    /// As [`Account::find`], which is not asked for a user who was found within the last 10 seconds.
    ///
    /// # Errors
    ///
    /// As [`Account::find`].
    pub fn find(&mut self, user: &v1::User) -> Result<Account> {
        if let Some((found_at, known, account)) = &self.last
            && known == user
            && found_at.elapsed() < KNOWN_FOR
        {
            return Ok(account.clone());
        }
        let account = Account::find(user)?;
        self.last = Some((Instant::now(), user.clone(), account.clone()));
        Ok(account)
    }
}

fn may_execute(path: &Path) -> std::io::Result<()> {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    // AT_EACCESS makes the kernel ask with the file-system identity and not with the real one.
    nix::unistd::faccessat(AT_FDCWD, path, nix::unistd::AccessFlags::X_OK, AtFlags::AT_EACCESS)
        .map_err(Into::into)
}

/// The thread's file-system identity, changed until this is dropped.
struct Identity {
    groups: Vec<u32>,
}

impl Identity {
    /// `None` if nothing has to change.
    fn assume(account: &Account) -> std::io::Result<Option<Self>> {
        if !Uid::effective().is_root() || account.uid == 0 {
            return Ok(None);
        }
        let groups = nix::unistd::getgroups()?.into_iter().map(Gid::as_raw).collect();
        // Made before the first change, so that a failure in the middle is undone as well.
        let guard = Self { groups };
        set_groups(&account.groups)?;
        set_fs_ids(account.uid, account.gid)?;
        Ok(Some(guard))
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // A process that cannot become itself again must not go on: it would act as the user where it must not.
        set_fs_ids(0, nix::unistd::getegid().as_raw()).expect("root may take its own identity back");
        set_groups(&self.groups).expect("root may take its own groups back");
    }
}

/// The raw call changes the calling thread only; the C library's would change all threads of the process.
fn set_groups(groups: &[u32]) -> std::io::Result<()> {
    // SAFETY: the pointer and the length describe a slice that lives through the call.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(done).map(drop).map_err(Into::into)
}

fn set_fs_ids(uid: u32, gid: u32) -> std::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setfsgid(gid);
    nix::unistd::setfsuid(uid);
    // These calls report no failure; what holds is asked by a call that cannot change anything, setfsuid(-1).
    let holds = nix::unistd::setfsgid(Gid::from_raw(u32::MAX)) == gid
        && nix::unistd::setfsuid(Uid::from_raw(u32::MAX)) == uid;
    if holds { Ok(()) } else { Err(Errno::EPERM.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn nobody() -> v1::User {
        v1::User { name: "nobody".into(), uid: 65534, gid: 65534 }
    }

    #[test]
    fn the_node_must_know_the_same_user() {
        let own = Uid::effective().as_raw();
        let unknown = v1::User { name: "no-such-user".into(), uid: own, gid: 0 };
        assert!(matches!(Account::find(&unknown), Err(NodeError::NoSuchUser { .. })));
        if own != 0 {
            assert!(matches!(Account::find(&nobody()), Err(NodeError::NotRoot { .. })));
            return;
        }
        assert!(matches!(
            Account::find(&v1::User { uid: 1, ..nobody() }),
            Err(NodeError::UidDiffers { here: 65534, submitted: 1, .. })
        ));
        assert!(matches!(Account::find(&v1::User { gid: 0, ..nobody() }), Err(NodeError::GidDiffers { .. })));
        assert_eq!(Account::find(&nobody()).unwrap().groups, [65534]);
    }

    #[test]
    fn files_are_made_and_refused_as_the_user_and_root_is_root_again() {
        if !Uid::effective().is_root() {
            return;
        }
        let account = Account::find(&nobody()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let file = folder.path().join("made");
        account.with_rights(|| std::fs::write(&file, "x")).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), 65534);
        let error = account.with_rights(|| std::fs::read("/etc/shadow")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(account.may_enter(folder.path()).is_err());
        assert!(account.may_enter(Path::new("/")).is_ok());
        assert!(account.may_run(Path::new("/bin/sh")).is_ok());
        assert!(std::fs::read("/etc/shadow").is_ok());
    }
}
