//! One HTTP/1 connection over a Unix socket, opened when it is needed and kept.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::error::ClientError;

/// Largest answer that is read, in bytes: a cluster's whole queue fits, a runaway answer does not fill the memory.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// A status of HTTP and the body that came with it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// A question.
pub(crate) struct Question {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// JSON; empty if there is none.
    pub(crate) body: Bytes,
    /// How long the answer may take.
    pub(crate) time_max: Duration,
}

/// Why one try failed.
pub(crate) enum Failure {
    /// The controller is away: another try may reach it.
    Away(io::Error),
    /// Another try would fail as well.
    Final(ClientError),
}

/// The connection, and the runtime that drives it.
pub(crate) struct Transport {
    socket: PathBuf,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Transport {
    pub(crate) fn new(socket: PathBuf) -> Result<Self, ClientError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(|source| {
                ClientError::Io { what: "cannot prepare to talk to the controller", source }
            })?;
        Ok(Self { socket, runtime, sender: None })
    }

    pub(crate) fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Waits, with the connection kept alive.
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Opens the connection unless it is open.
    pub(crate) fn open(&mut self) -> Result<(), Failure> {
        let Self { socket, runtime, sender } = self;
        if sender.as_ref().is_some_and(|sender| !sender.is_closed()) {
            return Ok(());
        }
        let opened = runtime.block_on(async {
            let stream = UnixStream::connect(&*socket).await?;
            let (opened, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            // Its end shows in the request that it carries, and `is_closed` tells the next one.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok::<_, io::Error>(opened)
        });
        match opened {
            Ok(opened) => {
                *sender = Some(opened);
                Ok(())
            }
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Err(Failure::Final(ClientError::Closed { socket: socket.clone(), source }))
            }
            Err(source) => Err(Failure::Away(source)),
        }
    }

    /// Asks once.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, Failure> {
        self.open()?;
        let mut sender = self.sender.take().expect("an open transport has a sender");
        let request = Request::builder()
            .method(question.method.clone())
            .uri(&question.path)
            .header(header::HOST, "muster")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(question.body.clone()))
            .expect("method, encoded path and fixed headers make a request");
        let exchange = async {
            sender.ready().await.map_err(io::Error::other)?;
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok::<_, io::Error>((Answer { status, body: body.map_err(io::Error::other)?.to_bytes() }, sender))
        };
        match self.runtime.block_on(async { tokio::time::timeout(question.time_max, exchange).await }) {
            Ok(Ok((answer, sender))) => {
                self.sender = Some(sender);
                Ok(answer)
            }
            Ok(Err(source)) => Err(Failure::Away(source)),
            Err(_) => {
                let after = question.time_max;
                Err(Failure::Final(ClientError::Silent { socket: self.socket.clone(), after }))
            }
        }
    }
}
