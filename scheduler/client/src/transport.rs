//! One HTTP/1 connection over a Unix socket, opened when it is needed and kept.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
    /// How long the controller was asked to hold the answer back.
    pub(crate) held: Duration,
    /// How long the answer may take beyond that.
    pub(crate) time_max: Duration,
}

/// Why one try failed.
pub(crate) enum Failure {
    /// The controller is away: another try may reach it.
    Away(io::Error),
    /// Another try would fail as well.
    Final(ClientError),
}

/// How long one of several controllers may take over an answer before the next one is asked. It doubles each time, so that
/// one that is only slow answers in the end.
const PATIENCE_MIN: Duration = Duration::from_secs(2);
/// How long one that did not answer is left alone while others can be asked: about as long as a take-over takes.
const LEFT_ALONE: Duration = Duration::from_secs(6);

/// One of the controllers' sockets.
struct Socket {
    path: PathBuf,
    patience: Duration,
    /// Until when others are asked first.
    left_alone_until: Option<Instant>,
}

/// The connection, and the runtime that drives it.
pub(crate) struct Transport {
    /// Sockets of controllers, of which one leads.
    sockets: Vec<Socket>,
    /// Which of them is spoken with.
    at: usize,
    runtime: Runtime,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Transport {
    /// There must be a socket.
    pub(crate) fn new(sockets: Vec<PathBuf>) -> Result<Self, ClientError> {
        let runtime =
            Builder::new_current_thread().enable_io().enable_time().build().map_err(|source| {
                ClientError::Io { what: "cannot prepare to talk to the controller", source }
            })?;
        let socket = |path| Socket { path, patience: PATIENCE_MIN, left_alone_until: None };
        Ok(Self { sockets: sockets.into_iter().map(socket).collect(), at: 0, runtime, sender: None })
    }

    pub(crate) fn socket(&self) -> &PathBuf {
        &self.sockets[self.at].path
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there are others to go on to.
    pub(crate) fn has_others(&self) -> bool {
        self.count() > 1
    }

    /// Goes on to the next socket that need not be left alone. Says whether that begins a new round.
    pub(crate) fn go_on(&mut self) -> bool {
        if self.has_others() {
            self.sender = None;
        }
        let now = Instant::now();
        let is_open = |socket: &Socket| socket.left_alone_until.is_none_or(|until| until <= now);
        let others = (1..=self.count()).map(|step| (self.at + step) % self.count());
        let next = others.clone().find(|place| is_open(&self.sockets[*place]));
        let before = self.at;
        self.at = next.unwrap_or((self.at + 1) % self.count());
        self.at <= before
    }

    /// Waits, with the connection kept alive.
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Opens the connection unless it is open.
    pub(crate) fn open(&mut self) -> Result<(), Failure> {
        let Self { sockets, at, runtime, sender } = self;
        let socket = &sockets[*at].path;
        if sender.as_ref().is_some_and(|sender| !sender.is_closed()) {
            return Ok(());
        }
        let opened = runtime.block_on(async {
            let stream = UnixStream::connect(socket).await?;
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

    /// Asks once. Where there are other controllers, one that takes long counts as away.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, Failure> {
        let patience = self.sockets[self.at].patience;
        let may_go_on = self.has_others() && patience < question.time_max;
        let after = question.held + if may_go_on { patience } else { question.time_max };
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
        match self.runtime.block_on(async { tokio::time::timeout(after, exchange).await }) {
            Ok(Ok((answer, sender))) => {
                self.sockets[self.at].patience = PATIENCE_MIN;
                self.sockets[self.at].left_alone_until = None;
                self.sender = Some(sender);
                Ok(answer)
            }
            Ok(Err(source)) => Err(Failure::Away(source)),
            Err(_) if may_go_on => {
                let socket = &mut self.sockets[self.at];
                socket.patience *= 2;
                socket.left_alone_until = Some(Instant::now() + LEFT_ALONE);
                Err(Failure::Away(io::ErrorKind::TimedOut.into()))
            }
            Err(_) => Err(Failure::Final(ClientError::Silent { socket: self.socket().clone(), after })),
        }
    }
}
