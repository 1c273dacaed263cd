//! The programs that a node needs.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::{BootstrapError, Result};

/// The programs, by their file names.
pub const PROGRAMS: [&str; 5] = ["muster-node", "muster-rank", "muster-rsh", "muster-stage", "muster-step"];

/// How many bytes of the digest name a set. 64 bits tell all builds apart that a node will ever see.
const NAME_BYTES: usize = 8;

/// A set of programs in a local folder, and the name that its contents give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The programs, in the order of [`PROGRAMS`].
    pub programs: Vec<Program>,
    /// The first digits of the SHA-256 digest over all of them.
    pub name: String,
}

/// A program in a local folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name, one of [`PROGRAMS`].
    pub name: &'static str,
    /// The local file.
    pub path: PathBuf,
    /// How long it is.
    pub length_bytes: u64,
    /// The SHA-256 digest of its contents, in hexadecimal digits.
    pub sha256: String,
}

/// What tells that a file is the same as before: its size and the time of its last change.
type Stamp = Vec<(u64, SystemTime)>;

/// Remembers digests, because all nodes of a cluster get the same set.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<PathBuf, (Stamp, Arc<Binaries>)>>);

impl Binaries {
    /// Reads a folder.
    ///
    /// # Errors
    ///
    /// [`BootstrapError::Binary`] names the first program that cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut all = Sha256::new();
        let mut programs = Vec::new();
        for name in PROGRAMS {
            let path = folder.join(name);
            let failed = |source| BootstrapError::Binary { path: path.clone(), source };
            let mut file = File::open(&path).map_err(failed)?;
            let mut digest = Sha256::new();
            let length_bytes = std::io::copy(&mut file, &mut digest).map_err(failed)?;
            let digest = digest.finalize();
            all.update(digest);
            programs.push(Program { name, path, length_bytes, sha256: hexadecimal(&digest) });
        }
        Ok(Self { programs, name: hexadecimal(&all.finalize()[..NAME_BYTES]) })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Cache {
    /// The set of a folder, read anew only if a file has changed.
    ///
    /// # Errors
    ///
    /// As [`Binaries::read`].
    pub fn get(&self, folder: &Path) -> Result<Arc<Binaries>> {
        let mut stamp = Stamp::new();
        for program in PROGRAMS {
            let path = folder.join(program);
            let found = std::fs::metadata(&path).and_then(|file| Ok((file.len(), file.modified()?)));
            stamp.push(found.map_err(|source| BootstrapError::Binary { path, source })?);
        }
        // Held over the reading: whoever else needs the same set waits for it instead of reading it too.
        let mut known = self.0.lock().expect("nobody panics with the lock");
        if let Some((before, binaries)) = known.get(folder)
            && *before == stamp
        {
            return Ok(binaries.clone());
        }
        let binaries = Arc::new(Binaries::read(folder)?);
        known.insert(folder.to_owned(), (stamp, binaries.clone()));
        Ok(binaries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_give_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let write = |node: &str, rank: &str| {
            for (program, text) in PROGRAMS.iter().zip([node, rank, "rsh", "stage", "step"]) {
                std::fs::write(folder.path().join(program), text).unwrap();
            }
            Cache::default().get(folder.path()).unwrap().name.clone()
        };
        let first = write("ab", "c");
        assert_eq!(first.len(), 16);
        assert_eq!(write("ab", "c"), first);
        assert_ne!(write("a", "bc"), first);
        std::fs::remove_file(folder.path().join("muster-rank")).unwrap();
        let error = Binaries::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("muster-rank"), "{error}");
    }
}
