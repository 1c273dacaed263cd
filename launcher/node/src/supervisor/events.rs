//! `events.sock`: where launchers on this node tell what they have seen.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::Event;
use super::end::LOST_GRACE;
use crate::error::{NodeError, Result};
use crate::process::{ProcessId, parent_of};

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The remote shell lost a process that it had started on another host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct RemoteLost {
    /// The other host.
    pub host: String,
    /// What happened to it, such as `was killed by signal 9`.
    #[serde(default)]
    pub detail: String,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Message {
    RemoteLost(RemoteLost),
}

/// The open socket. All handles are on the same one.
#[derive(Clone)]
pub(super) struct Socket(Rc<AsyncFd<OwnedFd>>);

impl Socket {
    /// Makes the socket, for use within the present runtime. With each message the kernel tells which process sent it.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::System`] if that fails.
    pub fn bind(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).map_err(NodeError::file("make the socket", path))?;
        let action = "set up the events' socket";
        socket.set_nonblocking(true).map_err(NodeError::system(action))?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(NodeError::system(action))?;
        // SAFETY: an owned descriptor stays open and the same for as long as it is registered.
        let registered = unsafe { AsyncFd::register_with_interest(socket.into(), Interest::READABLE) };
        registered.map(|socket| Self(Rc::new(socket))).map_err(NodeError::system(action))
    }

    /// Whether there is something that nobody has read.
    pub fn has_news(&self) -> bool {
        is_readable(self.0.get_ref())
    }

    /// Passes messages on for as long as the attempt lives. Every process of the user may write here, so what cannot
    /// be read is dropped.
    pub async fn listen(self, events: mpsc::Sender<Event>) {
        while let Ok(mut ready) = self.0.readable().await {
            match receive(self.0.get_ref()) {
                Ok((bytes, sender)) => take(&bytes, sender, &events).await,
                Err(_) => ready.clear_ready(),
            }
        }
    }
}

/// Whether something is there to be read or accepted, or wrong with it.
pub(super) fn is_readable(socket: &impl AsFd) -> bool {
    let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut sockets, PollTimeout::ZERO) != Ok(0)
}

/// One message and the number of its sender.
fn receive(socket: &OwnedFd) -> nix::Result<(Vec<u8>, Option<i32>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = nix::cmsg_space!(libc::ucred);
    let (length, sender) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
        let sender = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
            _ => None,
        });
        (received.bytes, sender)
    };
    bytes.truncate(length);
    Ok((bytes, sender))
}

async fn take(bytes: &[u8], sender: Option<i32>, events: &mpsc::Sender<Event>) {
    let lost = match serde_json::from_slice(bytes) {
        Ok(Message::RemoteLost(lost)) => lost,
        Err(error) => return tracing::debug!(%error, "a launcher's message cannot be read"),
    };
    // The launcher is the parent of the remote shell, which is about to end, but has not yet been waited for.
    let launcher = sender.and_then(parent_of).filter(|parent| *parent > 1).and_then(ProcessId::of);
    let event = match launcher {
        Some(launcher) => {
            tokio::task::spawn_local(follow(launcher, lost.clone(), events.clone()));
            Event::Followed { host: lost.host }
        }
        None => Event::RemoteLost(lost),
    };
    let _ = events.send(event).await;
}

/// A launcher that notices the loss ends soon, and what its script makes of that is the script's affair.
async fn follow(launcher: ProcessId, lost: RemoteLost, events: mpsc::Sender<Event>) {
    if tokio::time::timeout(LOST_GRACE, launcher.ended()).await.is_err() {
        let _ = events.send(Event::LauncherStuck(lost)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::LocalSet;

    #[test]
    fn the_shims_message_is_understood() {
        let text = r#"{"event":"remote_lost","host":"node03","detail":"killed by signal 9"}"#;
        let Message::RemoteLost(lost) = serde_json::from_str(text).unwrap();
        assert_eq!((lost.host.as_str(), lost.detail.as_str()), ("node03", "killed by signal 9"));
        assert!(serde_json::from_str::<Message>(r#"{"event":"other"}"#).is_err());
    }

    #[tokio::test]
    async fn a_launcher_that_does_not_end_is_stuck() {
        LocalSet::new()
            .run_until(async {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("events.sock");
                let socket = Socket::bind(&path).unwrap();
                let (events, mut inbox) = mpsc::channel(8);
                let listener = tokio::task::spawn_local(socket.listen(events));
                let sender = UnixDatagram::unbound().unwrap();
                sender.send_to(b"nonsense", &path).unwrap();
                sender
                    .send_to(muster_mpi::shim::remote_lost_event("node02", "why").as_bytes(), &path)
                    .unwrap();
                // The parent of this test lives on for longer than the grace.
                assert!(matches!(inbox.recv().await, Some(Event::Followed { host }) if host == "node02"));
                let stuck = tokio::time::timeout(LOST_GRACE * 2, inbox.recv()).await.unwrap();
                assert!(matches!(stuck, Some(Event::LauncherStuck(lost)) if lost.detail == "why"));
                listener.abort();
            })
            .await;
    }
}
