//! Common inputs that a user's tasks on this node have brought before.
//!
//! An entry is named by the digest of a file's address, without its query, and of the version that the store tells with
//! each answer: what has another version is another entry, and what has none is never kept. So an entry is used only after the store has
//! permitted the request that asks for it. The cache is its user's alone; a node's agent removes what was not used for long.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{FilesError, Result};
use crate::local::Partial;

/// Files below this length are brought anew: that takes no longer.
const BYTES_MIN: u64 = 64 << 10;

/// A user's cache on this node.
#[derive(Debug, Clone)]
pub struct Cache(PathBuf);

impl Cache {
    /// The cache in a folder; none without a name.
    pub fn at(folder: &str) -> Option<Self> {
        (!folder.is_empty()).then(|| Self(folder.into()))
    }

    fn place(&self, address: &str, version: &str) -> PathBuf {
        let mut digest = Sha256::new();
        digest.update(address.len().to_be_bytes());
        digest.update(address);
        digest.update(version);
        self.0.join(format!("{:x}", digest.finalize()))
    }

    /// Fills a file with an entry, if there is one of this length; says whether it did.
    ///
    /// # Errors
    ///
    /// [`FilesError::Local`] if the file cannot be written.
    pub fn fill(
        &self,
        address: &str,
        version: &str,
        bytes: u64,
        to: &mut File,
        shown: &Path,
    ) -> Result<bool> {
        let Ok(mut entry) = File::open(self.place(address, version)) else { return Ok(false) };
        if !entry.metadata().is_ok_and(|about| about.is_file() && about.len() == bytes) {
            return Ok(false);
        }
        // The agent removes what was not used for the longest time.
        let _ = entry.set_modified(std::time::SystemTime::now());
        std::io::copy(&mut entry, to).map_err(FilesError::local("write", shown))?;
        Ok(true)
    }

    /// Keeps a file that has arrived. That it cannot be kept is no reason to fail.
    pub fn keep(&self, address: &str, version: &str, file: &Path) {
        let keep = || -> Result<()> {
            let place = self.place(address, version);
            let mut from = File::open(file).map_err(FilesError::local("read", file))?;
            if from.metadata().map_err(FilesError::local("look at", file))?.len() < BYTES_MIN
                || place.exists()
            {
                return Ok(());
            }
            let mut entry = Partial::create(&place)?;
            std::io::copy(&mut from, &mut entry.file).map_err(FilesError::local("write", &place))?;
            entry.finish(0o600)
        };
        let _ = keep();
    }
}
