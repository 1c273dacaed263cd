//! The file beside the database: its lock, and how far the journal was acknowledged.
//!
//! SQLite takes what it cannot read at the end of its write-ahead log for a transaction that was never committed,
//! and passes it over without a word: rightly after a crash, wrongly where a disk has lost or changed what had been
//! synced, or where the log was left behind when the database was copied. So the last acknowledged sequence number
//! is written down outside of the database as well. That write is not synced: after a loss of power the number may
//! be behind the journal, but it is never ahead of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// The lock, held until it is dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the file beside the database. SQLite's own locks come and go with its transactions.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Open`] if there can be none.
    pub fn take(database: &Path) -> Result<Self, StoreError> {
        let path = beside(database, ".lock");
        let file = private_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(StoreError::Open { path, source }),
        }
    }

    /// The last sequence number that was acknowledged, if one was written down.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        acknowledged_in(&self.file)
    }

    /// Writes down that everything up to `seq` is durable, before anybody is told so.
    pub(crate) fn acknowledge(&self, seq: u64) {
        // A number that could not be written stays behind the journal, which only makes less damage visible.
        let _ = self.file.write_all_at(&line(seq), 0);
    }

    /// Makes what was written down survive a loss of power.
    pub(crate) fn sync(&self) {
        let _ = self.file.sync_data();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that is being started may still have it.
        let _ = self.file.unlock();
    }
}

/// What the lock file beside a database says was acknowledged, without taking the lock.
pub(crate) fn acknowledged(database: &Path) -> Option<u64> {
    acknowledged_in(&File::open(beside(database, ".lock")).ok()?)
}

/// Always of the same length, so that it is overwritten in place and needs no room on a full disk.
fn line(seq: u64) -> Vec<u8> {
    let number = format!("{seq:020}");
    format!("acknowledged {number} {:08x}\n", crc32fast::hash(number.as_bytes())).into_bytes()
}

fn acknowledged_in(file: &File) -> Option<u64> {
    let mut found = vec![0; line(0).len()];
    file.read_exact_at(&mut found, 0).ok()?;
    let seq = std::str::from_utf8(&found).ok()?.split(' ').nth(1)?.parse().ok()?;
    (line(seq) == found).then_some(seq)
}

/// The file whose name is the database's with something after it.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens or makes a file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_again_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("muster.db");
        let lock = Lock::take(&database).unwrap();
        assert_eq!(lock.acknowledged(), None);
        for seq in [0, 41, u64::MAX] {
            lock.acknowledge(seq);
            assert_eq!((lock.acknowledged(), acknowledged(&database)), (Some(seq), Some(seq)));
        }
        lock.file.write_all_at(b"7", 20).unwrap();
        assert_eq!(acknowledged(&database), None);
    }
}
