//! What can go wrong between a front end and the controller.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::ErrorBody;

/// Why a question to the controller has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error(
        "the controller does not answer at {} ({source}): start musterd on this host, or name its socket by \
         MUSTER_SOCKET", socket.display()
    )]
    Unreachable {
        /// The socket that was tried.
        socket: PathBuf,
        /// The last cause.
        #[source]
        source: io::Error,
    },
    /// The socket is there, and its permissions keep the caller out.
    #[error("the controller's socket {} cannot be opened ({source}): ask who runs the cluster for access", socket.display())]
    Closed {
        /// The socket that was tried.
        socket: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The controller took the question and did not answer it in time.
    #[error("the controller at {} gave no answer within {} s", socket.display(), after.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long the client waited.
        after: Duration,
    },
    /// The controller refused.
    #[error("{}", body.message)]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// The refusal.
        body: ErrorBody,
    },
    /// What came back is not what the API says.
    #[error(
        "the controller at {} answered {what} to {route}: client and controller are of different versions, or \
         the socket belongs to another program", socket.display()
    )]
    BadAnswer {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        route: String,
        /// What came back, in a few words.
        what: String,
        /// Where reading it failed.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something on this host failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}
