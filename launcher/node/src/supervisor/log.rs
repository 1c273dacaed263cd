//! Where a supervisor logs: a file of each attempt, which is made with its first line. Most attempts have nothing to say.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{NodeError, Result};

/// The file that standard error becomes as soon as something is written there.
static PENDING: Mutex<Option<PathBuf>> = Mutex::new(None);

fn take() -> Option<PathBuf> {
    PENDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

/// Standard error, for the log. What cannot be written where it belongs goes where the process was started.
pub fn stderr() -> std::io::Stderr {
    if let Some(path) = take() {
        let _ = redirect(&path);
    }
    std::io::stderr()
}

/// Lets a panic be told there as well.
pub(super) fn catch_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = stderr();
        tell(panic);
    }));
}

/// From here on the log belongs to an attempt.
pub(super) fn begin(path: PathBuf) {
    *PENDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(path);
}

/// Whether nothing was logged of the attempt so far.
pub(super) fn is_empty() -> bool {
    PENDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
}

/// The attempt is over.
///
/// # Errors
///
/// [`NodeError`] if standard error cannot be turned away from its file.
pub(super) fn end() -> Result<()> {
    match take() {
        Some(_) => Ok(()),
        None => redirect(Path::new("/dev/null")),
    }
}

fn redirect(path: &Path) -> Result<()> {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(NodeError::file("open", path))?;
    // SAFETY: both descriptors are open.
    if unsafe { libc::dup2(file.as_raw_fd(), 2) } < 0 {
        return Err(NodeError::system("redirect the log")(std::io::Error::last_os_error()));
    }
    Ok(())
}
