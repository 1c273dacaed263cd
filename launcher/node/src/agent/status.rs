//! The agent's own small socket: whoever connects is told the status as one JSON text.

use std::io::Read;
use std::time::Duration;

use muster_wire::v1::InstanceReport;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::lock::Holder;
use crate::config::AgentDir;
use crate::error::{NodeError, Result};

/// How long an agent may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a running agent says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The process and its program.
    pub holder: Holder,
    /// The node's name.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// The controller that it is connected with.
    pub controller: Option<String>,
    /// The kind of containment, as the wire names it.
    pub containment: String,
    /// Every held attempt.
    pub attempts: Vec<InstanceReport>,
}

/// Somebody wants to know the status.
#[derive(Debug)]
pub struct Question {
    /// Where the answer goes.
    pub answer: oneshot::Sender<Status>,
}

/// Opens the socket, which only the agent's user may use because of its folder's rights, and passes questions on.
///
/// # Errors
///
/// [`NodeError::File`] if the socket cannot be made.
pub fn serve(dir: &AgentDir, questions: mpsc::Sender<Question>) -> Result<()> {
    let path = dir.socket();
    // The lock is held, so a socket that lies there is an earlier agent's.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(NodeError::file("listen at", path))?;
    tokio::spawn(async move {
        loop {
            let Ok((mut connection, _)) = listener.accept().await else { continue };
            let questions = questions.clone();
            tokio::spawn(async move {
                let (answer, status) = oneshot::channel();
                if questions.send(Question { answer }).await.is_ok()
                    && let Ok(status) = status.await
                    && let Ok(text) = serde_json::to_vec(&status)
                {
                    let _ = connection.write_all(&text).await;
                }
            });
        }
    });
    Ok(())
}

/// Asks the agent of a folder.
///
/// # Errors
///
/// [`NodeError::File`] if none listens, and [`NodeError::Malformed`] if its answer cannot be read.
pub fn ask(dir: &AgentDir) -> Result<Status> {
    let path = dir.socket();
    let mut text = Vec::new();
    let asked = std::os::unix::net::UnixStream::connect(&path).and_then(|mut socket| {
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.read_to_end(&mut text)
    });
    asked.map_err(NodeError::file("ask the agent at", &path))?;
    serde_json::from_slice(&text).map_err(|source| NodeError::Malformed {
        kind: "answer of an agent",
        path,
        source,
    })
}
