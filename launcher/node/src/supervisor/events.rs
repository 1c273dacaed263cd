//! `events.sock`: where launchers on this node tell what they have seen.

use std::path::Path;

use serde::Deserialize;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use super::Event;
use crate::error::{NodeError, Result};

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

/// Makes the socket.
///
/// # Errors
///
/// [`NodeError::File`] if that fails.
pub(super) fn bind(path: &Path) -> Result<UnixDatagram> {
    UnixDatagram::bind(path).map_err(NodeError::file("make the socket", path))
}

/// Passes messages on for as long as the attempt lives. Every process of the user may write here, so what cannot be
/// read is dropped.
pub(super) async fn listen(socket: UnixDatagram, events: mpsc::Sender<Event>) {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    while let Ok(length) = socket.recv(&mut bytes).await {
        match serde_json::from_slice(&bytes[..length]) {
            Ok(Message::RemoteLost(lost)) => {
                if events.send(Event::RemoteLost(lost)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "a launcher's message cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shims_message_is_understood() {
        let text = r#"{"event":"remote_lost","host":"node03","detail":"killed by signal 9"}"#;
        let Message::RemoteLost(lost) = serde_json::from_str(text).unwrap();
        assert_eq!((lost.host.as_str(), lost.detail.as_str()), ("node03", "killed by signal 9"));
        assert!(serde_json::from_str::<Message>(r#"{"event":"other"}"#).is_err());
    }
}
