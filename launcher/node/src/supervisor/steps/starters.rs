//! The socket at which starters ask for steps, and the conversation with each.

use std::path::Path;
use std::sync::Arc;

use muster_step::words::{Answer, Ask, LINE_BYTES_MAX, StepEnd};
use nix::sys::resource::{Resource, getrlimit};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::super::Event;
use crate::error::{NodeError, Result};

/// How many starters are heard at once where the limit on open files is not known. More wait in the system's queue.
const STARTERS_MAX: u64 = 256;

/// The least number of starters that are heard at once.
const STARTERS_MIN: u64 = 16;

/// From a starter's connection.
#[derive(Debug)]
pub(in crate::supervisor) enum News {
    /// It asks for a step.
    Asked {
        /// The connection.
        starter: u64,
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

/// The socket at which starters ask.
pub(in crate::supervisor) struct Socket(std::os::unix::net::UnixListener);

impl Socket {
    /// Makes the socket.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if that fails.
    pub fn bind(path: &Path) -> Result<Self> {
        let made = std::os::unix::net::UnixListener::bind(path);
        let socket = made.map_err(NodeError::file("make the socket", path))?;
        socket.set_nonblocking(true).map_err(NodeError::file("use the socket", path))?;
        Ok(Self(socket))
    }

    /// Takes starters of this user, and root's, for as long as the attempt lives. Those that came earlier have waited.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the socket cannot be used.
    pub fn listen(self, uid: u32, allocation: Answer, events: mpsc::Sender<Event>) -> Result<()> {
        let listener = UnixListener::from_std(self.0).map_err(NodeError::system("use the steps' socket"))?;
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(STARTERS_MAX, |(soft, _)| soft / 2);
        let room = usize::try_from(files.max(STARTERS_MIN)).unwrap_or(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(room.min(Semaphore::MAX_PERMITS)));
        tokio::spawn(async move {
            let mut number = 0;
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else { continue };
                let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == uid || peer.uid() == 0);
                if !allowed {
                    continue;
                }
                number += 1;
                let (events, allocation) = (events.clone(), allocation.clone());
                tokio::spawn(async move {
                    talk(stream, number, &allocation, &events).await;
                    drop(permit);
                });
            }
        });
        Ok(())
    }
}

/// One starter, from its first question until it hangs up.
async fn talk(mut stream: UnixStream, starter: u64, allocation: &Answer, events: &mpsc::Sender<Event>) {
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    if say(&mut to, allocation).await.is_err() {
        return;
    }
    let (answers, mut inbox) = mpsc::unbounded_channel();
    match hear(&mut from).await {
        Some(Ok(ask)) => {
            let _ = events.send(Event::Starter(News::Asked { starter, ask, answers })).await;
        }
        Some(Err(error)) => {
            let _ = say(&mut to, &Answer::Refused { reason: format!("the request cannot be read: {error}") })
                .await;
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
            if say(&mut to, &answer).await.is_err() {
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

/// The next thing that a starter says; `None` when it has hung up.
async fn hear(from: &mut (impl AsyncBufReadExt + Unpin)) -> Option<serde_json::Result<Ask>> {
    let mut line = String::new();
    match from.take(LINE_BYTES_MAX as u64).read_line(&mut line).await {
        Ok(1..) => Some(serde_json::from_str(&line)),
        _ => None,
    }
}

async fn say(to: &mut (impl AsyncWriteExt + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut text = serde_json::to_string(answer)?;
    text.push('\n');
    to.write_all(text.as_bytes()).await
}
