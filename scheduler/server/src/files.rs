//! Files of tasks on their nodes: what is asked goes over the node's session, in small parts, one answer to each.
//!
//! Nothing is kept between two parts, neither here nor on the node. Who reads slowly therefore holds one part in memory
//! and nothing else, and a file may be read that is still being written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_core::ids::AttemptKey;
use muster_wire::v1;
use muster_wire::v1::file_problem::Kind;
use muster_wire::v1::file_reply::Answer;
use muster_wire::v1::file_request::What;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::sessions::Sessions;
use crate::translate;

/// How many requests may be under way to one node; more wait. The node works on no more.
const PER_NODE_MAX: usize = 6;
/// How many requests may be under way or wait, to all nodes together.
const ALL_MAX: usize = 4096;
/// How long a node may take over an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a request may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// The largest part that is asked for at once.
pub const PART_BYTES_MAX: u32 = 256 << 10;
/// The most names of one page.
pub const NAMES_MAX: u32 = 1000;

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the folder of a task's attempt.
    Task(AttemptKey),
    /// At the node's root for work; only files of this user are shown.
    Node {
        /// The user.
        uid: u32,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The node has no session.
    #[error("node {node} is not connected, and so its files cannot be asked for; ask again when it is")]
    Away {
        /// The node.
        node: String,
    },
    /// The node did not answer in time.
    #[error("node {node} does not answer in time; ask again")]
    Late {
        /// The node.
        node: String,
    },
    /// There are more requests than there may be.
    #[error("too many files are asked for at once; ask again")]
    Busy,
    /// The node's answer is none to this request.
    #[error("node {node} gives an answer that this controller does not understand")]
    Strange {
        /// The node.
        node: String,
    },
    /// There is no such file.
    #[error("{message}")]
    NotFound {
        /// A sentence.
        message: String,
    },
    /// The folder is no longer kept.
    #[error("{message}")]
    CleanedUp {
        /// A sentence.
        message: String,
    },
    /// It is not the task's own, or lies outside of its folder.
    #[error("{message}")]
    Denied {
        /// A sentence.
        message: String,
    },
    /// It is a folder where a file is needed, the other way round, or neither.
    #[error("{message}")]
    NotAFile {
        /// A sentence.
        message: String,
    },
    /// The folder has something in it.
    #[error("{message}")]
    NotEmpty {
        /// A sentence.
        message: String,
    },
    /// Something else.
    #[error("{message}")]
    Failed {
        /// A sentence.
        message: String,
    },
}

/// Requests that wait for their answers.
#[derive(Debug, Default)]
pub struct Files {
    next: AtomicU64,
    /// By node and number. The node's name keeps one node from answering for another.
    waiting: Mutex<HashMap<(String, u64), oneshot::Sender<v1::FileReply>>>,
    turns: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A file or folder.
pub type Info = v1::FileInfo;

impl Files {
    fn waiting(&self) -> MutexGuard<'_, HashMap<(String, u64), oneshot::Sender<v1::FileReply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self, node: &str) -> Arc<Semaphore> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(node.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(PER_NODE_MAX))))
    }

    /// A node has answered. An answer for which nobody waits any more is dropped.
    pub(crate) fn heard(&self, node: &str, reply: v1::FileReply) {
        if let Some(waiting) = self.waiting().remove(&(node.to_owned(), reply.id)) {
            let _ = waiting.send(reply);
        }
    }

    /// Asks a node, and waits for its answer.
    async fn ask(
        &self,
        sessions: &Sessions,
        node: &str,
        place: Place,
        path: &str,
        what: What,
    ) -> Result<Answer, FileError> {
        let late = || FileError::Late { node: node.to_owned() };
        let turns = self.turns(node);
        let turn = tokio::time::timeout(TURN_WITHIN, turns.acquire()).await;
        let _turn = turn.map_err(|_| FileError::Busy)?.map_err(|_| FileError::Busy)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (key, uid) = match place {
            Place::Task(key) => (Some(translate::wire_key(key)), 0),
            Place::Node { uid } => (None, uid),
        };
        let request = v1::FileRequest { id, key, path: path.to_owned(), uid, what: Some(what) };
        let (sender, answer) = oneshot::channel();
        let _waiting = {
            let mut waiting = self.waiting();
            if waiting.len() >= ALL_MAX {
                return Err(FileError::Busy);
            }
            waiting.insert((node.to_owned(), id), sender);
            Waiting { files: self, node, id }
        };
        let body = v1::to_node::Body::File(request);
        if !sessions.tell_node(node, v1::ToNode { body: Some(body) }) {
            return Err(FileError::Away { node: node.to_owned() });
        }
        let reply = tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(|_| late())?;
        match reply.map_err(|_| late())?.answer {
            Some(Answer::Problem(problem)) => Err(of_problem(problem)),
            Some(answer) => Ok(answer),
            None => Err(strange(node)),
        }
    }

    /// What is known of a file or folder.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be told.
    pub async fn stat(
        &self,
        sessions: &Sessions,
        node: &str,
        place: Place,
        path: &str,
    ) -> Result<Info, FileError> {
        match self.ask(sessions, node, place, path, What::Stat(v1::FileStat {})).await? {
            Answer::Info(info) => Ok(info),
            _ => Err(strange(node)),
        }
    }

    /// A page of a folder's listing, after the path that ended the page before; whether there is more.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be told.
    pub async fn list(
        &self,
        sessions: &Sessions,
        node: &str,
        place: Place,
        path: &str,
        recursive: bool,
        after: &str,
    ) -> Result<(Vec<Info>, bool), FileError> {
        let list = v1::FileList { recursive, after: after.to_owned(), max: NAMES_MAX };
        match self.ask(sessions, node, place, path, What::List(list)).await? {
            Answer::Page(page) => Ok((page.files, page.more)),
            _ => Err(strange(node)),
        }
    }

    /// A part of a file, at most [`PART_BYTES_MAX`], and what is known of the whole; no bytes after its end.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read.
    pub async fn read(
        &self,
        sessions: &Sessions,
        node: &str,
        place: Place,
        path: &str,
        offset: u64,
        length: u32,
    ) -> Result<(Vec<u8>, Info), FileError> {
        let read = v1::FileRead { offset, length: length.min(PART_BYTES_MAX) };
        match self.ask(sessions, node, place, path, What::Read(read)).await? {
            Answer::Data(v1::FileData { data, info: Some(info) }) => Ok((data, info)),
            _ => Err(strange(node)),
        }
    }

    /// Removes a file or a folder; with an empty path and `recursive` the whole folder of an attempt that has ended.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be removed.
    pub async fn delete(
        &self,
        sessions: &Sessions,
        node: &str,
        place: Place,
        path: &str,
        recursive: bool,
    ) -> Result<(), FileError> {
        match self.ask(sessions, node, place, path, What::Delete(v1::FileDelete { recursive })).await? {
            Answer::Done(_) => Ok(()),
            _ => Err(strange(node)),
        }
    }
}

/// The bytes `from..to` of a file, part by part; the next one is asked for when the last one has been taken. The stream
/// ends early where the file does.
pub fn stream(
    sessions: Arc<Sessions>,
    node: String,
    place: Place,
    path: String,
    from: u64,
    to: u64,
) -> ReceiverStream<Result<Vec<u8>, FileError>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut at = from;
        while at < to {
            let length = u32::try_from(to - at).unwrap_or(u32::MAX);
            let read = sessions.files().read(&sessions, &node, place, &path, at, length);
            let part = tokio::select! {
                part = read => part.map(|(data, _)| data),
                () = sender.closed() => return,
            };
            let ends = part.as_ref().map_or(true, Vec::is_empty);
            at += part.as_ref().map_or(0, |data| data.len() as u64);
            let is_empty_end = ends && part.is_ok();
            if is_empty_end || sender.send(part).await.is_err() || ends {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Takes a request back when nobody waits for its answer any more.
struct Waiting<'a> {
    files: &'a Files,
    node: &'a str,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.files.waiting().remove(&(self.node.to_owned(), self.id));
    }
}

fn strange(node: &str) -> FileError {
    FileError::Strange { node: node.to_owned() }
}

fn of_problem(problem: v1::FileProblem) -> FileError {
    let kind = problem.kind();
    let message = problem.message;
    match kind {
        Kind::NotFound => FileError::NotFound { message },
        Kind::CleanedUp => FileError::CleanedUp { message },
        Kind::Denied => FileError::Denied { message },
        Kind::NotAFile => FileError::NotAFile { message },
        Kind::NotEmpty => FileError::NotEmpty { message },
        Kind::Busy => FileError::Busy,
        Kind::Failed | Kind::Unspecified => FileError::Failed { message },
    }
}
