//! Starting supervisors, talking with them, and clearing up after those that were killed.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use muster_wire::Kept;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{self, InstanceReport, ToNode};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::places::Place;
use crate::attempt::{Assignment, AttemptDir, AttemptState};
use crate::error::{NodeError, Result};
use crate::frame::{self, FrameReader, Frames};
use crate::process::{ProcessId, now_us};
use crate::quiet::Quiet;
use crate::supervisor::{FREE, SAME};

/// How many messages to one supervisor may wait.
const OUTBOX_MAX: usize = 32;

/// How long a supervisor that lives may take to open its socket. It does so within milliseconds of its assignment.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// How long a supervisor that has closed its connection may take to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The pause between two tries to reach a supervisor that starts.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What the agent hears.
#[derive(Debug)]
pub(super) enum Event {
    /// A report of a supervisor, or of the clearing up after one.
    Report(InstanceReport),
    /// The supervisor has closed its connection.
    Closed(v1::AttemptKey),
    /// The supervisor has told the end of its attempt, and takes another one.
    Free(v1::AttemptKey, Box<Idle>),
}

/// A supervisor without an attempt. That it already runs takes its start out of the way of a task.
#[derive(Debug)]
pub(super) struct Idle {
    pub process: ProcessId,
    /// Since when it has had nothing to do.
    pub since: Instant,
    /// What it may have kept from its last attempt.
    pub place: Option<Place>,
    /// What it was told last.
    assignment: Option<Box<Assignment>>,
    /// What it keeps of prepares.
    kept: Kept,
    line: Line,
}

/// A connection with a supervisor.
#[derive(Debug)]
struct Line {
    socket: Quiet,
    reader: FrameReader,
}

impl Line {
    fn new(socket: std::os::unix::net::UnixStream) -> std::io::Result<Self> {
        Ok(Self { socket: Quiet::new(socket)?, reader: FrameReader::default() })
    }
}

impl Idle {
    /// Starts one, in a session of its own and outside the agent's group, so that nothing that ends the agent
    /// reaches it.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the process cannot be made.
    pub fn start(shelter: Option<PathBuf>) -> Result<Self> {
        let action = "start a supervisor";
        let (near, far) = std::os::unix::net::UnixStream::pair().map_err(NodeError::system(action))?;
        // The very program that runs here, even if its file was replaced or removed meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("muster-node");
        command
            .arg("supervise")
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            .current_dir("/");
        if let Some(entrance) = shelter {
            command.arg("--shelter").arg(entrance);
        }
        // SAFETY: setsid(2) is safe between fork and exec.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        // The runtime waits for children that nobody holds any more.
        let child = command.spawn().map_err(NodeError::system(action))?;
        let pid = child.id().map_or(0, u32::cast_signed);
        let process = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_ticks: 0 });
        let line = Line::new(near).map_err(NodeError::system(action))?;
        Ok(Self {
            process,
            since: Instant::now(),
            place: None,
            assignment: None,
            kept: Kept::default(),
            line,
        })
    }

    /// Whether it is there to take an attempt: its end of the socket closes with its process.
    pub fn is_there(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.line.socket.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
    }

    /// What it is to be told of its next attempt: JSON, or that all is as it was.
    ///
    /// # Errors
    ///
    /// [`NodeError::Frame`] if it cannot be put into words.
    pub fn word_for(&mut self, assignment: Assignment) -> Result<Vec<u8>> {
        let before = self.assignment.as_deref();
        let word = match before.is_some_and(|before| assignment.is_again(before)) {
            true => SAME.to_vec(),
            false => serde_json::to_vec(&assignment).map_err(|error| NodeError::Frame(Box::new(error)))?,
        };
        self.assignment = Some(Box::new(assignment));
        Ok(word)
    }

    /// Gives it an attempt, in a place that may be the one that it has, by what [`Self::word_for`] has said.
    /// Whatever goes wrong from here on is told as events.
    pub fn assign(
        mut self,
        assignment: Vec<u8>,
        mut prepare: v1::Prepare,
        place: Option<Place>,
        events: mpsc::Sender<Event>,
    ) -> mpsc::Sender<ToNode> {
        let run = place.as_ref().map(|place| place.run.clone());
        let other =
            std::mem::replace(&mut self.place, place).filter(|other| Some(&other.run) != run.as_ref());
        let key = prepare.key.unwrap_or_default();
        self.kept.shorten(&mut prepare);
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        tokio::spawn(async move {
            let handed = async {
                let mut frames = Frames::default();
                frames.add_bytes(&assignment)?;
                frames.add(&prepare)?;
                drop(prepare);
                frames.write(&mut &self.line.socket).await
            };
            let is_free = match handed.await {
                Ok(()) => relay(&mut self.line, messages, &events).await,
                Err(error) => {
                    tracing::warn!(attempt = %key, %error, "a supervisor did not take its attempt");
                    false
                }
            };
            self.since = Instant::now();
            match other {
                // It goes before anything of the next attempt is made.
                Some(other) if is_free => other.forget(),
                Some(other) => drop(tokio::spawn(other.clear(Some(self.process)))),
                None => {}
            }
            if let Some(place) = self.place.take_if(|_| !is_free) {
                tokio::spawn(place.clear(Some(self.process)));
            }
            let _ = events
                .send(if is_free { Event::Free(key, Box::new(self)) } else { Event::Closed(key) })
                .await;
        });
        outbox
    }
}

/// Connects with the supervisor of an attempt that was found on the disk.
pub(super) fn adopt(
    dir: AttemptDir,
    state: &AttemptState,
    events: mpsc::Sender<Event>,
) -> mpsc::Sender<ToNode> {
    let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
    let (key, process) = (state.report.key.unwrap_or_default(), state.supervisor);
    tokio::spawn(async move {
        let until = Instant::now() + OPEN_WITHIN;
        let socket = loop {
            match UnixStream::connect(dir.control()).await {
                Ok(socket) => break Some(socket),
                // A supervisor that was just given its attempt opens its socket soon; nobody tells when.
                Err(_) if process.watch().is_some() && Instant::now() < until => {
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Err(error) => {
                    tracing::warn!(attempt = %key, %error, "the supervisor of an attempt cannot be reached");
                    break None;
                }
            }
        };
        if let Some(mut line) = socket.and_then(|socket| Line::new(socket.into_std().ok()?).ok()) {
            tracing::info!(attempt = %key, "adopted");
            relay(&mut line, messages, &events).await;
        }
        let _ = events.send(Event::Closed(key)).await;
    });
    outbox
}

/// Carries messages to a supervisor and reports from it, until it closes, or says that it is free.
async fn relay(line: &mut Line, mut messages: mpsc::Receiver<ToNode>, events: &mpsc::Sender<Event>) -> bool {
    let (mut from, mut to) = (&line.socket, &line.socket);
    // The last report and the word that it is free come at once.
    let reader = &mut line.reader;
    let hear = async {
        while let Ok(Some(bytes)) = reader.next(&mut from).await {
            if bytes == FREE {
                return true;
            }
            let Ok(report) = InstanceReport::decode(bytes.as_slice()) else { return false };
            if events.send(Event::Report(report)).await.is_err() {
                return false;
            }
        }
        false
    };
    // A message of which only a part was sent would be taken for the beginning of what comes next.
    let is_writing = AtomicBool::new(false);
    let tell = async {
        while let Some(message) = messages.recv().await {
            is_writing.store(true, Relaxed);
            if frame::write(&mut to, &message).await.is_err() {
                break;
            }
            is_writing.store(false, Relaxed);
        }
        std::future::pending::<()>().await;
    };
    let is_free = tokio::select! {
        is_free = hear => is_free,
        () = tell => false,
    };
    is_free && !is_writing.load(Relaxed)
}

/// After a supervisor has closed: if it did not bring its attempt to the end, this does. The report that is sent is
/// always a gone.
pub(super) async fn clear_up(
    dir: AttemptDir,
    last: AttemptState,
    boot_id: String,
    events: mpsc::Sender<Event>,
) {
    await_end(last.supervisor).await;
    // The supervisor wrote until its end, so the disk knows more than the agent.
    let mut state = dir.load().unwrap_or(last);
    if !matches!(state.report.phase, Some(Phase::Gone(_))) {
        let gone = sweep(&state, &boot_id).await;
        state.report.phase = Some(Phase::Gone(gone));
        if let Err(error) = dir.save(&state) {
            tracing::error!(error = error.sentence(), "the end of an attempt cannot be written");
        }
    }
    let _ = events.send(Event::Report(state.report)).await;
}

/// Waits until the supervisor's process has ended, and ends it if it does not.
async fn await_end(process: ProcessId) {
    if tokio::time::timeout(END_WITHIN, process.ended()).await.is_err() {
        tracing::warn!(pid = process.pid, "a supervisor without a connection is killed");
        let _ = process.signal(nix::sys::signal::Signal::SIGKILL);
        process.ended().await;
    }
}

/// Ends what a supervisor has left behind.
async fn sweep(state: &AttemptState, boot_id: &str) -> v1::Gone {
    let key = state.report.key.unwrap_or_default();
    let same_boot = state.boot_id == boot_id;
    tracing::warn!(attempt = %key, same_boot, "an attempt without its supervisor is cleared up");
    let group = state.group();
    if let Err(error) = group.end().await {
        tracing::error!(attempt = %key, error = error.sentence(), "the end of the attempt cannot be awaited");
    }
    let usage = group.usage();
    group.remove().await;
    let _ = std::fs::remove_dir_all(&state.run);
    let started_at_us = match &state.report.phase {
        Some(Phase::Running(running)) => running.started_at_us,
        _ => 0,
    };
    v1::Gone {
        how: Some(how_it_was_left(state, same_boot)),
        usage: Some(usage),
        started_at_us,
        ended_at_us: now_us(),
    }
}

/// What became of an attempt whose supervisor is gone. The phase is on the disk before anything of it happens, though a
/// loss of power may take it from there; so in the same boot, and if its supervisor is known, an attempt that was being
/// prepared has run nothing of its user's, unless it was to start as soon as it is prepared.
fn how_it_was_left(state: &AttemptState, same_boot: bool) -> v1::gone::How {
    let preparing = matches!(state.report.phase, Some(Phase::Preparing(_)));
    let reason = match same_boot {
        true if preparing && !state.at_once && state.supervisor.pid != 0 => {
            let reason = "the supervisor was killed while it prepared this attempt".to_owned();
            return v1::gone::How::PrepareFailed(v1::PrepareFailed { reason, node_at_fault: true });
        }
        true => "the supervisor of this attempt was killed",
        false => "the node was restarted while it held this attempt",
    };
    v1::gone::How::Broken(v1::Broken { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containment::Containment;

    #[test]
    fn only_what_surely_ran_nothing_counts_as_not_prepared() {
        let state = |pid, phase| AttemptState {
            boot_id: String::new(),
            supervisor: ProcessId { pid, start_ticks: 1 },
            containment: Containment::Subreaper,
            run: PathBuf::new(),
            at_once: false,
            report: InstanceReport { phase: Some(phase), ..InstanceReport::default() },
        };
        let preparing = Phase::Preparing(v1::Preparing {});
        let is_unprepared =
            |state, same_boot| matches!(how_it_was_left(&state, same_boot), v1::gone::How::PrepareFailed(_));
        assert!(is_unprepared(state(7, preparing.clone()), true));
        assert!(!is_unprepared(state(7, preparing.clone()), false), "the disk may have lost a later phase");
        assert!(!is_unprepared(state(0, preparing.clone()), true), "nothing is known of it");
        let at_once = AttemptState { at_once: true, ..state(7, preparing) };
        assert!(!is_unprepared(at_once, true), "it may have started");
        assert!(
            !is_unprepared(state(7, Phase::Ready(v1::Ready::default())), true),
            "the word to start may have come"
        );
    }
}
