//! The socket at which starters ask for steps, and the conversation with each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use muster_step::words::{Answer, Ask, LINE_BYTES_MAX, StepEnd};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::super::Event;
use super::super::events::is_readable;
use super::super::gang::ToPrimary;
use super::elsewhere::{self, Sealed};
use crate::error::{NodeError, Result};

/// How many starters are heard at once where the limit on open files is not known. More wait in the system's queue.
const STARTERS_MAX: u64 = 256;

/// Which part of the files that may be open are for starters of other nodes: one of so many.
const OTHERS_SHARE_OF_FILES: u64 = 4;

/// The most of them that are heard at once.
const OTHERS_MAX: u64 = 1024;

/// The least number of starters that are heard at once.
const STARTERS_MIN: u64 = 16;

/// From a starter's connection.
#[derive(Debug)]
pub(in crate::supervisor) enum News {
    /// It asks for a step.
    Asked {
        /// The connection.
        starter: u64,
        /// Where it is, if that is another node.
        address: Option<String>,
        /// What it asks for.
        ask: Ask,
        /// Where answers go.
        answers: mpsc::UnboundedSender<Answer>,
    },
    /// It says how its step has ended.
    Ended {
        /// The connection.
        starter: u64,
        /// How.
        end: StepEnd,
    },
    /// It has hung up, so its step is over.
    Left {
        /// The connection.
        starter: u64,
    },
}

/// Where starters are heard.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct Desk {
    events: mpsc::Sender<Event>,
    /// The number of the last.
    last: Arc<AtomicU64>,
    /// Room for those of this node. More wait in the system's queue.
    room: Arc<Semaphore>,
    /// Room for those of other nodes. More wait there.
    room_for_others: Arc<Semaphore>,
}

impl Desk {
    /// Nobody has come.
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(2 * STARTERS_MAX, |(soft, _)| soft);
        let room = |files: u64| {
            let room = usize::try_from(files.max(STARTERS_MIN)).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            events,
            last: Arc::default(),
            room: room(files / 2),
            room_for_others: room((files / OTHERS_SHARE_OF_FILES).min(OTHERS_MAX)),
        }
    }

    /// Room for a starter of another node, if there is some.
    pub fn room_for_another(&self) -> Option<OwnedSemaphorePermit> {
        self.room_for_others.clone().try_acquire_owned().ok()
    }

    /// Hears a starter of another node, whose supervisor passes on what it says.
    pub async fn hear_another(
        &self,
        address: String,
        token: &str,
        from: impl AsyncBufReadExt + Unpin,
        to: impl AsyncWriteExt + Unpin,
    ) {
        let session = Session { starter: self.number(), address: Some(address), token: Some(token) };
        session.talk(from, to, &self.events).await;
    }

    fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}

/// The socket at which starters ask. All handles are on the same one.
#[derive(Clone)]
pub(in crate::supervisor) struct Socket(Arc<UnixListener>);

impl Socket {
    /// Makes the socket, for use within the present runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that fails.
    pub fn bind(path: &Path) -> Result<Self> {
        let made = UnixListener::bind(path).map_err(NodeError::file("make the socket", path))?;
        Ok(Self(Arc::new(made)))
    }

    /// Whether there is a starter that nobody has heard.
    pub fn has_news(&self) -> bool {
        is_readable(&*self.0)
    }

    /// Takes starters of this user, and root's, for as long as the attempt lives. Those that came earlier have waited. On
    /// other instances than the primary there is a way to that, on which they are passed on.
    pub fn listen(self, uid: u32, allocation: Answer, desk: Desk, way: Option<ToPrimary>) {
        let listener = self.0;
        let shared = Arc::new((allocation, way));
        tokio::task::spawn_local(async move {
            loop {
                let Ok(permit) = desk.room.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else { continue };
                let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == uid || peer.uid() == 0);
                if !allowed {
                    continue;
                }
                let (desk, shared) = (desk.clone(), shared.clone());
                tokio::task::spawn_local(async move {
                    match &*shared {
                        (allocation, None) => hear_own(stream, allocation, &desk).await,
                        (allocation, Some(way)) => elsewhere::pass_on(stream, allocation, way).await,
                    }
                    drop(permit);
                });
            }
        });
    }
}

/// A starter of this node.
async fn hear_own(mut stream: UnixStream, allocation: &Answer, desk: &Desk) {
    let (from, mut to) = stream.split();
    if say(&mut to, allocation).await.is_ok() {
        let session = Session { starter: desk.number(), address: None, token: None };
        session.talk(BufReader::new(from), to, &desk.events).await;
    }
}

/// A conversation with a starter that has been told its allocation.
struct Session<'a> {
    starter: u64,
    /// Of another node: its address.
    address: Option<String>,
    /// The gang's secret, where answers go over the network.
    token: Option<&'a str>,
}

impl Session<'_> {
    /// From its first question until it hangs up.
    async fn talk(
        self,
        mut from: impl AsyncBufReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        events: &mpsc::Sender<Event>,
    ) {
        let starter = self.starter;
        let (answers, mut inbox) = mpsc::unbounded_channel();
        match hear(&mut from).await {
            Some(Ok(ask)) => {
                let address = self.address.clone();
                let _ = events.send(Event::Starter(News::Asked { starter, address, ask, answers })).await;
            }
            Some(Err(error)) => {
                let refused = Answer::Refused { reason: format!("the request cannot be read: {error}") };
                let _ = self.answer(&mut to, refused).await;
                return;
            }
            // Somebody has only looked.
            None => return,
        }
        // Each way has its own loop: a line that is being read cannot be given up without losing some of it.
        let listen = async {
            while let Some(said) = hear(&mut from).await {
                if let Ok(Ask::Ended(end)) = said {
                    let _ = events.send(Event::Starter(News::Ended { starter, end })).await;
                }
            }
        };
        let answer = async {
            while let Some(answer) = inbox.recv().await {
                if self.answer(&mut to, answer).await.is_err() {
                    return;
                }
            }
            // The step cannot begin; the starter hangs up when it has read why.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = listen => {}
            () = answer => {}
        }
        // Whoever hears of it finds nobody listening any more.
        drop(inbox);
        let _ = events.send(Event::Starter(News::Left { starter })).await;
    }

    async fn answer(&self, to: &mut (impl AsyncWriteExt + Unpin), answer: Answer) -> std::io::Result<()> {
        match self.token {
            None => say(to, &answer).await,
            Some(token) => say(to, &Sealed::seal(token, answer)?).await,
        }
    }
}

/// The next thing that a starter says; `None` when it has hung up.
async fn hear(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<serde_json::Result<Ask>> {
    let mut line = String::new();
    match from.take(LINE_BYTES_MAX as u64).read_line(&mut line).await {
        Ok(1..) => Some(serde_json::from_str(&line)),
        _ => None,
    }
}

/// Writes an answer as one line.
pub(super) async fn say(
    to: &mut (impl AsyncWriteExt + Unpin),
    answer: &impl Serialize,
) -> std::io::Result<()> {
    let mut text = serde_json::to_string(answer)?;
    text.push('\n');
    to.write_all(text.as_bytes()).await
}
