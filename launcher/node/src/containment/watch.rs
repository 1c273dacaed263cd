//! Waiting for a change of a cgroup's event file, which the kernel announces through inotify(7).

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::error::{NodeError, Result};

/// A watch on one file.
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// # Errors
    ///
    /// [`NodeError::System`] if the file cannot be watched.
    pub(super) fn of(file: &Path) -> Result<Self> {
        let action = "watch a cgroup";
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(NodeError::system(action))?;
        inotify.add_watch(file, AddWatchFlags::IN_MODIFY).map_err(NodeError::system(action))?;
        // SAFETY: an owned descriptor stays open and the same for as long as it is registered.
        let registered = unsafe { AsyncFd::register(OwnedFd::from(inotify)) };
        registered.map(Self).map_err(NodeError::system(action))
    }

    /// Returns after at least one change since the last call, or since the watch began.
    ///
    /// # Errors
    ///
    /// If the runtime is at its end.
    pub(super) async fn changed(&self) -> std::io::Result<()> {
        let mut ready = self.0.readable().await?;
        // The events say only that something changed, and the file says what; they are read to be gone.
        let mut events = [0u8; 4096];
        while nix::unistd::read(self.0.get_ref(), &mut events).is_ok_and(|length| length > 0) {}
        ready.clear_ready();
        Ok(())
    }
}
