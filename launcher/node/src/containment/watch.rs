//! Waiting for a change of a cgroup's event file, which the kernel announces to poll(2) as an exceptional condition
//! (Documentation/admin-guide/cgroup-v2.rst, "populated"). Taking an inotify(7) watch away again would wait for the
//! whole machine, some 10 ms each time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{NodeError, Result};

/// A watch on one file.
pub(super) struct Watch(AsyncFd<File>);

impl Watch {
    /// # Errors
    ///
    /// [`NodeError::System`] if the file cannot be watched.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(NodeError::file("watch", path))?;
        // The kernel tells of changes since the last read.
        read(&file);
        // SAFETY: a file stays open and the same for as long as it is registered.
        let registered = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        registered.map(Self).map_err(NodeError::system("watch a cgroup"))
    }

    /// Returns after at least one change since the last call, or since the watch began.
    ///
    /// # Errors
    ///
    /// If the runtime is at its end.
    pub(super) async fn changed(&self) -> std::io::Result<()> {
        let mut ready = self.0.ready(Interest::PRIORITY).await?;
        read(self.0.get_ref());
        ready.clear_ready();
        Ok(())
    }
}

/// That something changed is all that is to be known here.
fn read(file: &File) {
    let _what_is_said = file.read_at(&mut [0; 128], 0);
}
