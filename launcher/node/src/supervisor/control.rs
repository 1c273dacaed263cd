//! The supervisor's connections to agents: each is told every report, and may say go, signal and stop.
//!
//! The line to the agent that started the supervisor outlives an attempt: the agent gives the next one on it. Its frames
//! are an assignment (JSON, or that it is as before) with a prepare, or a message to the attempt; the supervisor's are
//! reports, and an empty one when it is free for the next attempt.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_wire::Kept;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{InstanceReport, Prepare, ToNode, to_node::Body};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

use super::Event;
use super::place::{KEPT_FOR, Place};
use crate::attempt::Assignment;
use crate::error::{NodeError, Result};
use crate::frame::{self, FrameReader, Frames};
use crate::quiet::Quiet;

/// How an assignment begins, and no message does: it would be a field of a kind that protobuf gave up.
const ASSIGNMENT_STARTS: &[u8] = b"{";

/// The assignment that says that all is as before, but for the attempt.
pub(crate) const SAME: &[u8] = b"{}";

/// The frame by which a supervisor says that it takes another attempt.
pub(crate) const FREE: &[u8] = b"";

/// How long the last report waits for an agent to take it. It lies on the disk as well.
const LAST_REPORT_WITHIN: Duration = Duration::from_secs(2);

/// A connection with an agent. That with the one that started the supervisor stands between attempts as well.
#[derive(Debug)]
pub(super) struct Line {
    stream: Quiet,
    reader: FrameReader,
    kept: Kept,
    /// The last report of the attempt, if it is yet to be told: that the supervisor is free can then be told with it.
    last: Option<InstanceReport>,
}

impl Line {
    /// A line on which nothing was said, for use within the present runtime.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the runtime does not take the socket.
    pub fn new(stream: StdStream) -> Result<Self> {
        let stream = Quiet::new(stream).map_err(NodeError::system("use the agent's socket"))?;
        Ok(Self { stream, reader: FrameReader::default(), kept: Kept::default(), last: None })
    }

    /// The next attempt; `None` once the agent has gone or was replaced. What the agent still said to the attempt
    /// before is passed over. A place that is kept for it is removed if it does not come soon.
    ///
    /// # Errors
    ///
    /// [`NodeError::Frame`] if it cannot be read.
    pub async fn next_assignment(
        &mut self,
        kept: &mut Option<Place>,
        before: Option<Assignment>,
    ) -> Result<Option<(Assignment, Prepare)>> {
        let broken = |error| NodeError::Frame(Box::new(error));
        loop {
            let frame = match tokio::time::timeout(KEPT_FOR, self.reader.next(&mut &self.stream)).await {
                Ok(frame) => frame,
                Err(_) => {
                    if let Some(place) = kept.take() {
                        place.remove().await;
                    }
                    self.reader.next(&mut &self.stream).await
                }
            };
            let Some(frame) = frame.map_err(broken)? else { return Ok(None) };
            if !frame.starts_with(ASSIGNMENT_STARTS) {
                continue;
            }
            let Some(prepare) = self.reader.next(&mut &self.stream).await.map_err(broken)? else {
                return Ok(None);
            };
            let mut prepare =
                Prepare::decode(prepare.as_slice()).map_err(|error| NodeError::Frame(Box::new(error)))?;
            self.kept.complete(&mut prepare).map_err(|error| NodeError::Frame(Box::new(error)))?;
            let before = before.filter(|_| frame == SAME);
            let assignment = match before {
                Some(before) => before.again(prepare.key.unwrap_or_default()),
                None => serde_json::from_slice(&frame).map_err(|error| NodeError::Frame(Box::new(error)))?,
            };
            return Ok(Some((assignment, prepare)));
        }
    }

    /// Tells the agent how the attempt has ended, and whether the supervisor takes another one. The answer is `None` if it does not, or
    /// the agent is gone.
    pub async fn take_leave(mut self, is_free: bool) -> Option<Self> {
        let mut frames = Frames::default();
        if let Some(last) = self.last.take() {
            frames.add(&last).ok()?;
        }
        if is_free {
            frames.add_bytes(FREE).ok()?;
        }
        let told = tokio::time::timeout(LAST_REPORT_WITHIN, frames.write(&mut &self.stream)).await;
        (matches!(told, Ok(Ok(()))) && is_free).then_some(self)
    }
}

/// The task that owns all connections. It gives the first one back if all that was to say was said there.
pub(super) struct Connections(JoinHandle<(Option<Line>, Door)>);

impl Connections {
    /// Waits until all agents have the last report. The report's sender must be gone already. The answer is what the next attempt
    /// may go on with.
    pub(super) async fn finish(self) -> (Option<Line>, Option<Door>) {
        match tokio::time::timeout(LAST_REPORT_WITHIN, self.0).await {
            Ok(Ok((line, door))) => (line, Some(door)),
            _ => (None, None),
        }
    }
}

/// How long it is not tried again to make a socket that could not be made.
const BIND_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Where agents come that start while the attempt lives. Attempts that share a private folder have one together, one after another.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Door {
    /// One that is not open yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path, listener: None }
    }

    /// Whether this is where agents look for it.
    pub fn is_at(&self, path: &Path) -> bool {
        self.path == path
    }

    fn open(&mut self) -> Result<()> {
        let listener = match UnixListener::bind(&self.path) {
            // That of an attempt before in the same folder, which was closed.
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                std::fs::remove_file(&self.path).and_then(|()| UnixListener::bind(&self.path))
            }
            made => made,
        };
        self.listener = Some(listener.map_err(NodeError::file("listen at", &self.path))?);
        Ok(())
    }

    /// The next agent; there is none before it is open.
    async fn accept(&self) -> Result<Line> {
        let action = "accept an agent";
        match &self.listener {
            Some(listener) => {
                let (stream, _) = listener.accept().await.map_err(NodeError::system(action))?;
                Line::new(stream.into_std().map_err(NodeError::system(action))?)
            }
            None => std::future::pending().await,
        }
    }
}

/// Serves the agent that started this supervisor, and those that come later, for whom the door is open `after` a while: an
/// attempt that is over by then needs none.
///
/// # Errors
///
/// [`NodeError::File`] if the socket cannot be made.
pub(super) fn serve(
    mut door: Door,
    after: Duration,
    first: Line,
    report: watch::Receiver<InstanceReport>,
    events: mpsc::Sender<Event>,
) -> Result<Connections> {
    if after.is_zero() && door.listener.is_none() {
        door.open()?;
    }
    Ok(Connections(spawn_local(async move {
        let first = spawn_local(talk(first, true, report.clone(), events.clone()));
        let mut agents = JoinSet::new();
        let mut ended = report.clone();
        let wait = tokio::time::sleep(after);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                accepted = door.accept() => {
                    if let Ok(line) = accepted {
                        agents.spawn_local(talk(line, false, report.clone(), events.clone()));
                    }
                }
                // An error means that the sender is gone: the attempt has ended.
                changed = ended.changed() => if changed.is_err() { break },
                () = &mut wait, if door.listener.is_none() => if let Err(error) = door.open() {
                    tracing::error!(error = error.sentence(), "no other agent can be heard");
                    wait.set(tokio::time::sleep(BIND_AGAIN_AFTER));
                },
            }
            while agents.try_join_next().is_some() {}
        }
        while agents.join_next().await.is_some() {}
        (first.await.ok().flatten(), door)
    })))
}

/// Speaks with one agent until the last report, and gives the line back if it still stands then. The agent that gave the attempt knows how
/// it began, and the last report is left to whoever takes the line.
async fn talk(
    mut line: Line,
    has_given: bool,
    mut report: watch::Receiver<InstanceReport>,
    events: mpsc::Sender<Event>,
) -> Option<Line> {
    let (mut from, mut to) = (&line.stream, &line.stream);
    // Whatever is read when the last report was told stays in the reader.
    let hear = async {
        while let Ok(Some(frame)) = line.reader.next(&mut from).await {
            let event = match ToNode::decode(frame.as_slice()).ok().and_then(|message| message.body) {
                Some(Body::Go(go)) => Event::Go(go),
                Some(Body::Stop(stop)) => Event::Stop(stop),
                Some(Body::Signal(signal)) => Event::Signal(signal),
                other => {
                    tracing::warn!(message = ?other.map(|_| "unexpected"), "the agent said something unknown");
                    continue;
                }
            };
            if events.send(event).await.is_err() {
                break;
            }
        }
    };
    let tell = async {
        if has_given && report.changed().await.is_err() {
            return Some(None);
        }
        loop {
            let newest = report.borrow_and_update().clone();
            if has_given && matches!(newest.phase, Some(Phase::Gone(_))) {
                return Some(Some(newest));
            }
            if frame::write(&mut to, &newest).await.is_err() {
                return None;
            }
            if report.changed().await.is_err() {
                return Some(None);
            }
        }
    };
    let last = tokio::select! {
        () = async { hear.await; std::future::pending::<()>().await } => None,
        last = tell => last,
    };
    line.last = last?;
    Some(line)
}
