//! The packages of the batch service, each in a file that its digest names.
//!
//! A file is on the disk before the engine knows of the package, and the engine is what counts: a file of which it knows
//! nothing is swept away. With standby controllers, the folder is one that all of them share.

use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use muster_core::batch::PackageDigest;
use muster_core::state::State;
use muster_wire::v1;
use ring::digest::{Context, SHA256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Mutex, MutexGuard, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::error::ServerError;
use crate::tls::private_folder;

/// What the name of a file ends with that is not whole.
const UNFINISHED: &str = ".new";
/// How long a client may be silent in the middle of a package.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Packages that may be on their way at once.
const AT_ONCE_MAX: usize = 4;
/// How much of the disk stays free, in bytes.
const FREE_MIN: u64 = 2 << 30;
/// Parts of a package that wait for a slow node.
const PARTS_AHEAD: usize = 4;
/// The largest part of a package in one message.
const PART_BYTES: usize = 256 << 10;
/// How a zip begins, and how one does that holds nothing (APPNOTE.TXT 6.3.10, 4.3.7 and 4.3.16).
const ZIP_STARTS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// The folder of packages.
#[derive(Debug)]
pub struct Packages {
    folder: PathBuf,
    bytes_max: u64,
    next: AtomicU64,
    places: Semaphore,
    /// Held from the instant at which a file gets its name until the engine knows of it, and while files are swept away.
    naming: Mutex<()>,
}

/// Why a package cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It is too long.
    #[error(
        "a package of {bytes} bytes is too long: this site takes at most {max} (package_mib under [batch])"
    )]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The longest.
        max: u64,
    },
    /// The disk is nearly full.
    #[error("the controller's disk has no room for it")]
    NoRoom,
    /// Others are being brought.
    #[error("the controller takes no more than {AT_ONCE_MAX} packages at once; come again")]
    Busy,
    /// The body has another length than was said, or broke off.
    #[error("the package did not come to its end")]
    Incomplete,
    /// It is another one than was said.
    #[error("what came has the SHA-256 digest {found}, and not the one that was said")]
    Other {
        /// What came.
        found: String,
    },
    /// It is no zip.
    #[error("what came is no zip")]
    NoZip,
    /// The controller's disk.
    #[error("the package cannot be kept")]
    File(#[source] std::io::Error),
}

/// A package that has arrived and has no name yet: it goes when this does.
#[derive(Debug)]
pub struct Arrived {
    path: PathBuf,
}

impl Drop for Arrived {
    fn drop(&mut self) {
        // Nothing is there any more if it was given its name.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Packages {
    /// Opens the folder, and makes it if it is not there. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`ServerError::File`] if it cannot be used.
    pub fn open(folder: PathBuf, bytes_max: u64, state: &State) -> Result<Arc<Self>, ServerError> {
        private_folder(&folder)?;
        let (next, places) = (AtomicU64::new(0), Semaphore::new(AT_ONCE_MAX));
        let packages = Self { folder, bytes_max, next, places, naming: Mutex::new(()) };
        packages.sweep_now(&known(state), true);
        Ok(Arc::new(packages))
    }

    fn path(&self, digest: &PackageDigest) -> PathBuf {
        self.folder.join(digest.as_str())
    }

    /// Takes a package of this length and digest into a file that is on the disk when this returns.
    ///
    /// # Errors
    /// [`PackageError`].
    pub async fn receive(
        &self,
        body: Body,
        length: u64,
        digest: &PackageDigest,
    ) -> Result<Arrived, PackageError> {
        if length > self.bytes_max {
            return Err(PackageError::TooLong { bytes: length, max: self.bytes_max });
        }
        let _place = self.places.try_acquire().map_err(|_| PackageError::Busy)?;
        let disk =
            nix::sys::statvfs::statvfs(&self.folder).map_err(|error| PackageError::File(error.into()))?;
        if disk.blocks_available().saturating_mul(disk.fragment_size()) < length.saturating_add(FREE_MIN) {
            return Err(PackageError::NoRoom);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let arrived = Arrived { path: self.folder.join(format!("{number}{UNFINISHED}")) };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = tokio::fs::OpenOptions::from(options).open(&arrived.path).await;
        let mut file = file.map_err(PackageError::File)?;
        let mut parts = body.into_data_stream();
        let (mut sum, mut received, mut start) = (Context::new(&SHA256), 0_u64, Vec::new());
        loop {
            let part = timeout(SILENCE_MAX, parts.next()).await.map_err(|_| PackageError::Incomplete)?;
            let Some(part) = part else { break };
            let part = part.map_err(|_| PackageError::Incomplete)?;
            received += part.len() as u64;
            if received > length {
                return Err(PackageError::Incomplete);
            }
            start.extend(part.iter().take(ZIP_STARTS[0].len() - start.len()));
            sum.update(&part);
            file.write_all(&part).await.map_err(PackageError::File)?;
        }
        if received != length {
            return Err(PackageError::Incomplete);
        }
        let found: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != digest.as_str() {
            return Err(PackageError::Other { found });
        }
        if !ZIP_STARTS.contains(&start.as_slice()) {
            return Err(PackageError::NoZip);
        }
        file.flush().await.map_err(PackageError::File)?;
        file.sync_all().await.map_err(PackageError::File)?;
        Ok(arrived)
    }

    /// Gives a package its name. Until the guard is gone nothing sweeps it away: the engine must know of it by then.
    ///
    /// # Errors
    /// [`PackageError::File`].
    pub async fn name(
        &self,
        arrived: Arrived,
        digest: &PackageDigest,
    ) -> Result<MutexGuard<'_, ()>, PackageError> {
        let guard = self.naming.lock().await;
        let (path, folder) = (self.path(digest), self.folder.clone());
        let named = tokio::task::spawn_blocking(move || {
            std::fs::rename(&arrived.path, path)?;
            std::fs::File::open(folder)?.sync_all()
        });
        named
            .await
            .map_err(|error| PackageError::File(std::io::Error::other(error)))?
            .map_err(PackageError::File)?;
        Ok(guard)
    }

    /// Removes what the engine knows nothing of.
    pub async fn sweep(self: &Arc<Self>, state: impl FnOnce() -> BTreeSet<String>) {
        let _guard = self.naming.lock().await;
        // What is known is looked at under the lock, so that nothing is swept away that was made known meanwhile.
        let (packages, known) = (Arc::clone(self), state());
        let _ = tokio::task::spawn_blocking(move || packages.sweep_now(&known, false)).await;
    }

    fn sweep_now(&self, known: &BTreeSet<String>, with_unfinished: bool) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_unfinished = name.ends_with(UNFINISHED);
            let is_ours = is_unfinished || PackageDigest::try_from(name.clone()).is_ok();
            let goes = if is_unfinished { with_unfinished } else { !known.contains(&name) };
            if is_ours && goes && std::fs::remove_file(entry.path()).is_err() {
                tracing::warn!(path = %entry.path().display(), "a package that is not needed cannot be removed");
            }
        }
    }

    /// A package in parts, as a node fetches it.
    ///
    /// # Errors
    /// `NotFound` if there is none, and `Internal` if it cannot be read.
    pub async fn parts(
        &self,
        digest: &PackageDigest,
    ) -> Result<ReceiverStream<Result<v1::PackagePart, Status>>, Status> {
        let opened = tokio::fs::File::open(self.path(digest)).await;
        let mut file = opened.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Status::not_found("the controller has no such package"),
            _ => Status::internal(error.to_string()),
        })?;
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        tokio::spawn(async move {
            loop {
                let mut data = vec![0; PART_BYTES];
                let part = match file.read(&mut data).await {
                    Ok(0) => return,
                    Ok(length) => {
                        data.truncate(length);
                        Ok(v1::PackagePart { data })
                    }
                    Err(error) => Err(Status::internal(error.to_string())),
                };
                let is_last = part.is_err();
                if sender.send(part).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(ReceiverStream::new(parts))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The digests that the engine knows of.
#[must_use]
pub fn known(state: &State) -> BTreeSet<String> {
    state.batch_package_digests().into_iter().map(|digest| digest.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(bytes: &[u8]) -> PackageDigest {
        let digest = ring::digest::digest(&SHA256, bytes);
        let text: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        PackageDigest::try_from(text).unwrap()
    }

    fn names(packages: &Packages) -> Vec<String> {
        let entries = std::fs::read_dir(packages.folder()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_arrives_whole_is_kept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("7.new"), "left by a crash").unwrap();
        let packages = Packages::open(folder.path().join("."), 100, &State::default()).unwrap();
        assert!(names(&packages).is_empty());
        let zip = b"PK\x03\x04 and more".to_vec();
        let (digest, length) = (digest_of(&zip), zip.len() as u64);
        let receive = async |body: &[u8], length: u64, digest: &PackageDigest| {
            packages.receive(Body::from(body.to_vec()), length, digest).await.map(drop)
        };
        assert!(matches!(receive(&zip, 101, &digest).await, Err(PackageError::TooLong { .. })));
        assert!(matches!(receive(&zip, length + 1, &digest).await, Err(PackageError::Incomplete)));
        assert!(matches!(receive(&zip, length - 1, &digest).await, Err(PackageError::Incomplete)));
        let other = receive(b"PK\x03\x04 or other", length, &digest).await;
        assert!(matches!(other, Err(PackageError::Other { .. })), "{other:?}");
        let text = b"#!/bin/sh".as_slice();
        let no_zip = receive(text, text.len() as u64, &digest_of(text)).await;
        assert!(matches!(no_zip, Err(PackageError::NoZip)), "{no_zip:?}");
        assert!(names(&packages).is_empty(), "{:?}", names(&packages));
        let arrived = packages.receive(Body::from(zip), length, &digest).await.unwrap();
        drop(packages.name(arrived, &digest).await.unwrap());
        assert_eq!(names(&packages), [digest.as_str()]);
        let mut parts = packages.parts(&digest).await.unwrap();
        assert_eq!(parts.next().await.unwrap().unwrap().data.len() as u64, length);
        assert!(parts.next().await.is_none() && packages.parts(&digest_of(b"other")).await.is_err());
        packages.sweep(|| [digest.as_str().to_owned()].into()).await;
        assert_eq!(names(&packages).len(), 1);
        packages.sweep(BTreeSet::new).await;
        assert!(names(&packages).is_empty());
    }
}
