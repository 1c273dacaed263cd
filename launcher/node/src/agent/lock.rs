//! One agent for each folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::config::AgentDir;
use crate::error::{NodeError, Result};
use crate::process::ProcessId;

/// How often a lock is tried, and the pause in between: whoever only looks who holds it does so for an instant.
const TRIES: u32 = 10;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Who holds the lock, as the lock's file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The agent's process.
    pub process: ProcessId,
    /// Which program file it runs: its path, inode, size and time of change. Two agents of the same build from the
    /// same place agree in it, and no others do.
    pub program: String,
    /// A digest of the settings and certificates that it started with.
    pub settings: String,
}

impl Holder {
    /// What the calling process would say as the agent of a folder.
    pub fn own(dir: &AgentDir) -> Self {
        Self { process: ProcessId::own(), program: program_identity(), settings: dir.digest() }
    }

    /// Whether the other runs the same program with the same settings.
    pub fn is_like(&self, other: &Self) -> bool {
        self.program == other.program && self.settings == other.settings
    }

    /// Who the file of a folder names, if it names somebody. Only a lock that is held makes it true.
    pub fn read(dir: &AgentDir) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.lock()).ok()?).ok()
    }
}

fn program_identity() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let shown = path.display();
    match std::fs::metadata(&path) {
        Ok(file) => {
            format!(
                "{shown} {}:{} {} {}.{}",
                file.dev(),
                file.ino(),
                file.size(),
                file.mtime(),
                file.mtime_nsec()
            )
        }
        Err(_) => shown.to_string(),
    }
}

/// The lock; dropping it, or the end of the process however it comes, releases it.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// [`NodeError::AlreadyRunning`] if another process holds it, and [`NodeError::File`] if the file cannot be used.
    pub fn take(dir: &AgentDir) -> Result<Self> {
        let path = dir.lock();
        let mut file = open(&path)?;
        let mut tries = 0..TRIES;
        let mut file = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => break file,
                Err((again, nix::errno::Errno::EWOULDBLOCK)) if tries.next().is_some() => {
                    file = again;
                    std::thread::sleep(TRY_AGAIN_AFTER);
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                    let pid = Holder::read(dir).map_or(0, |holder| holder.process.pid.cast_unsigned());
                    return Err(NodeError::AlreadyRunning { dir: dir.path().to_owned(), pid });
                }
                Err((_, errno)) => return Err(NodeError::file("lock", &path)(errno.into())),
            }
        };
        let text = serde_json::to_vec(&Holder::own(dir)).expect("a holder is plain data");
        file.set_len(0).and_then(|()| file.write_all(&text)).map_err(NodeError::file("write", &path))?;
        Ok(Self { _file: file })
    }

    /// Who holds the lock at this moment.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the file cannot be used.
    pub fn holder(dir: &AgentDir) -> Result<Option<Holder>> {
        let path = dir.lock();
        if !path.exists() {
            return Ok(None);
        }
        match Flock::lock(open(&path)?, FlockArg::LockSharedNonblock) {
            Ok(_free) => Ok(None),
            Err((mut file, _)) => {
                let mut text = Vec::new();
                file.read_to_end(&mut text).map_err(NodeError::file("read", &path))?;
                // An agent that has just taken the lock has not written yet.
                let unknown = || Holder {
                    process: ProcessId { pid: 0, start_ticks: 0 },
                    program: String::new(),
                    settings: String::new(),
                };
                Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| unknown())))
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(NodeError::file("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it_and_the_other_is_told_who() {
        let folder = tempfile::tempdir().unwrap();
        let dir = AgentDir::open(folder.path()).unwrap();
        assert_eq!(Lock::holder(&dir).unwrap(), None);
        let lock = Lock::take(&dir).unwrap();
        assert_eq!(Lock::holder(&dir).unwrap(), Some(Holder::own(&dir)));
        match Lock::take(&dir) {
            Err(NodeError::AlreadyRunning { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        drop(lock);
        assert_eq!(Lock::holder(&dir).unwrap(), None);
        Lock::take(&dir).unwrap();
    }
}
