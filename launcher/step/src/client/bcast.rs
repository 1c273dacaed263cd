//! A file that the starter sends to all nodes of a step before the ranks start: the program (`--bcast`), or any
//! (`sbcast`).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Plan, Programs};
use crate::daemon::find_program;
use crate::frames::{Common, Sent};
use crate::{StepError, auth};

/// The largest file that is sent.
pub const BYTES_MAX: u64 = 16 << 30;

/// How much is read, and sent, at once.
const PART_BYTES: usize = 256 << 10;

/// The rights of a program that was sent: it is its user's alone.
const PROGRAM_MODE: u32 = 0o700;

/// What is sent, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bcast {
    /// The step's program, which the ranks then run from there. Without a place it goes into the folder in which the ranks
    /// start, and is removed when the step has ended; a place that ends with a slash is a folder.
    Program {
        /// The place.
        to: Option<String>,
    },
    /// A file, and no ranks are started.
    File {
        /// The file.
        from: PathBuf,
        /// The place.
        to: String,
        /// A file that is there already is replaced.
        replace: bool,
        /// With the times of the file.
        preserve: bool,
    },
}

/// A file that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    file: File,
    path: PathBuf,
    left: u64,
    digest: Sha256,
}

/// What comes next.
pub(super) enum Part {
    Bytes(Vec<u8>),
    /// All was sent; this is its digest.
    End(String),
}

impl Sending {
    /// Opens what a step sends, if it sends something.
    ///
    /// # Errors
    ///
    /// [`StepError`] if it cannot be read or sent.
    pub fn open(plan: &Plan) -> Result<Option<(Self, Sent)>, StepError> {
        let Some(bcast) = &plan.bcast else { return Ok(None) };
        let path = match bcast {
            Bcast::Program { .. } => program(plan)?,
            Bcast::File { from, .. } => Path::new(&plan.directory).join(from),
        };
        let file = File::open(&path).map_err(StepError::file("read", &path))?;
        let found = file.metadata().map_err(StepError::file("read", &path))?;
        let wrong = |wanted: String| StepError::Value {
            option: "--bcast",
            value: path.display().to_string(),
            wanted,
        };
        if !found.is_file() {
            return Err(wrong("a regular file is wanted".to_owned()));
        }
        if found.len() > BYTES_MAX {
            let (bytes, most) = (found.len(), BYTES_MAX >> 30);
            return Err(wrong(format!("it has {bytes} bytes, and files of up to {most} GiB are sent")));
        }
        let us = |seconds: i64, nanoseconds: i64| {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            seconds.saturating_mul(1_000_000) + u64::try_from(nanoseconds).unwrap_or_default() / 1000
        };
        let bytes = found.len();
        let sent = match bcast {
            Bcast::Program { to } => Sent {
                path: to.clone().unwrap_or_default(),
                bytes,
                mode: PROGRAM_MODE,
                times_us: None,
                // As srun does it; the file of a program that runs stays as it is under its program.
                replace: true,
                keep: to.is_some(),
                run: true,
            },
            Bcast::File { to, replace, preserve, .. } => Sent {
                path: to.clone(),
                bytes,
                mode: found.mode() & 0o777,
                times_us: preserve
                    .then(|| (us(found.atime(), found.atime_nsec()), us(found.mtime(), found.mtime_nsec()))),
                replace: *replace,
                keep: true,
                run: false,
            },
        };
        Ok(Some((Self { file, path, left: bytes, digest: Sha256::new() }, sent)))
    }

    /// The next part.
    ///
    /// # Errors
    ///
    /// [`StepError::File`] if it cannot be read, or has become shorter.
    pub fn next(&mut self) -> Result<Part, StepError> {
        let count = usize::try_from(self.left).map_or(PART_BYTES, |left| left.min(PART_BYTES));
        if count == 0 {
            return Ok(Part::End(auth::to_hex(&self.digest.clone().finalize())));
        }
        let mut part = vec![0; count];
        self.file.read_exact(&mut part).map_err(StepError::file("read", &self.path))?;
        self.left -= count as u64;
        self.digest.update(&part);
        Ok(Part::Bytes(part))
    }
}

/// The file of the step's program, as the starter finds it.
fn program(plan: &Plan) -> Result<PathBuf, StepError> {
    let Programs::One(words) = &plan.programs else {
        return Err(StepError::Value {
            option: "--bcast",
            value: "--multi-prog".to_owned(),
            wanted: "one program is sent: leave one of the two out".to_owned(),
        });
    };
    let around = Common {
        directory: plan.directory.clone(),
        environment: plan.environment.clone(),
        ..Common::default()
    };
    let name = words.first().map(String::as_str).unwrap_or_default();
    let not_found = || StepError::file("find", name)(nix::errno::Errno::ENOENT.into());
    find_program(name, &around).ok_or_else(not_found)
}
