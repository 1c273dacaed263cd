//! The files that hold what is in blobs. Their names are numbers, so that no name of a blob is ever one of a file.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::error::{BlobsError, Code, file, refuse};

/// How many folders the files are spread over.
const FOLDERS: u64 = 256;
/// How much is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;
/// How long a client may be silent in the middle of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u64);

/// The folder of the files.
#[derive(Debug)]
pub(crate) struct Data {
    root: PathBuf,
    next: AtomicU64,
}

/// A file that has been written and that nothing names yet: it goes when this does, unless it is kept.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) id: FileId,
    pub(crate) length: u64,
    pub(crate) md5: [u8; 16],
    path: PathBuf,
    kept: bool,
}

impl Incoming {
    /// The index names it now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Data {
    /// Opens the folder and removes all files that are not `named`.
    pub(crate) fn open(root: PathBuf, named: &HashSet<FileId>) -> Result<Self, BlobsError> {
        for folder in 0..FOLDERS {
            let path = root.join(format!("{folder:02x}"));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(file("make", &path))?;
            sweep(&path, named)?;
        }
        sync_folder(&root)?;
        let last = named.iter().map(|id| id.0).max().unwrap_or(0);
        Ok(Self { root, next: AtomicU64::new(last + 1) })
    }

    /// How many bytes are free on the disk.
    pub(crate) fn free_bytes(&self) -> Result<u64, BlobsError> {
        let found = nix::sys::statvfs::statvfs(&self.root).map_err(std::io::Error::from);
        let found = found.map_err(file("look at", &self.root))?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }

    pub(crate) fn path(&self, id: FileId) -> PathBuf {
        self.root.join(format!("{:02x}", id.0 % FOLDERS)).join(format!("{:016x}", id.0))
    }

    /// Takes a body of this length into a file that is on the disk when this returns.
    pub(crate) async fn receive(
        self: &Arc<Self>,
        mut body: Body,
        length: u64,
        md5: Option<[u8; 16]>,
    ) -> Result<Incoming, BlobsError> {
        let id = FileId(self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path(id);
        let mut incoming = Incoming { id, length, md5: [0; 16], path: path.clone(), kept: false };
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let opened = tokio::fs::OpenOptions::from(options).open(&path).await.map_err(file("make", &path))?;
        let mut writer = BufWriter::with_capacity(WRITE_BYTES, opened);
        let (mut digest, mut received) = (Md5::new(), 0_u64);
        loop {
            let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await.map_err(|_| {
                refuse(Code::OperationTimedOut, format!("Nothing more came for {} s.", SILENCE_MAX.as_secs()))
            })?;
            let Some(frame) = frame else { break };
            let Ok(bytes) = frame.map_err(BlobsError::Body)?.into_data() else { continue };
            received += bytes.len() as u64;
            if received > length {
                break;
            }
            digest.update(&bytes);
            writer.write_all(&bytes).await.map_err(file("write", &path))?;
        }
        if received != length {
            return Err(refuse(
                Code::IncompleteBody,
                "The body does not have the length that Content-Length says.",
            ));
        }
        incoming.md5 = digest.finalize().into();
        if md5.is_some_and(|wanted| wanted != incoming.md5) {
            return Err(refuse(
                Code::Md5Mismatch,
                "The body does not have the digest that Content-MD5 says.",
            ));
        }
        writer.flush().await.map_err(file("write", &path))?;
        writer.get_ref().sync_all().await.map_err(file("write", &path))?;
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        tokio::task::spawn_blocking(move || sync_folder(&folder)).await.map_err(BlobsError::GivenUp)??;
        Ok(incoming)
    }

    /// Removes files that nothing names any more. One that cannot be removed is swept away when the store is opened again.
    pub(crate) fn remove(&self, files: &[FileId]) {
        for id in files {
            let path = self.path(*id);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file of the store is left over");
            }
        }
    }
}

fn sweep(folder: &Path, named: &HashSet<FileId>) -> Result<(), BlobsError> {
    for entry in fs::read_dir(folder).map_err(file("read", folder))? {
        let path = entry.map_err(file("read", folder))?.path();
        let id = path.file_name().and_then(|name| u64::from_str_radix(name.to_str()?, 16).ok());
        if id.is_some_and(|id| !named.contains(&FileId(id))) {
            fs::remove_file(&path).map_err(file("remove", &path))?;
        }
    }
    Ok(())
}

/// Makes what was made in a folder last.
fn sync_folder(folder: &Path) -> Result<(), BlobsError> {
    fs::File::open(folder).and_then(|opened| opened.sync_all()).map_err(file("write", folder))
}
