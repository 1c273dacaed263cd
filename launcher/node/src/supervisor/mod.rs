//! The process that holds one attempt on one node, from its preparation until nothing of it is left, and then the next.
//!
//! A supervisor takes one event after the other, in one thread; another may stand by to start processes (`starter`). It works on without an agent and without a
//! controller; what it has to say lies in the attempt's private folder and is told to whichever agent connects.
//!
//! | phase | what happens | leaves by |
//! | --- | --- | --- |
//! | preparing | user, folders, files, containment, ports (`prepare`), inputs, coordination command (`stage`) | ready, or gone: prepare failed |
//! | ready | nothing of the user's runs | go: running; stop: gone |
//! | running, of an attempt that starts at once | the same without a ready and a go; a start that is over soon is told with its end | as running |
//! | running | script (`go`), ranks of other nodes' launchers (`ssh_endpoint`), steps (`steps`), membership (`gang`) | the script's end, stop, a break |
//! | gone | everything was killed, and removed or left to the next task of an array (`end`, `place`) | the agent gives the process another attempt, or it ends |

mod clone;
mod container;
mod control;
mod end;
mod events;
mod folder;
mod gang;
mod go;
mod job_words;
mod last_words;
mod launch;
mod local_daemons;
pub mod log;
mod packages;
mod place;
mod prepare;
mod run_folder;
mod signal;
pub mod spawn;
mod ssh_endpoint;
mod stage;
mod starter;
mod steps;
mod work;

pub(crate) use control::{FREE, SAME};
pub(crate) use place::is_for as leaves_place;

use std::collections::{HashSet, VecDeque};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{self, Gone, InstanceReport};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use self::place::Place;
use crate::attempt::{Assignment, AttemptState};
use crate::error::{NodeError, Result};
use crate::process::{ProcessId, boot_id, now_us};
use crate::state_log::OpenLog;
use crate::user::{Account, Accounts};

/// How many events may wait for the supervisor; who brings more waits.
const EVENTS_MAX: usize = 256;

/// How many attempts a supervisor holds one after another: whatever one may leave behind in it ends with its process.
const ATTEMPTS_MAX: u32 = 1000;

/// How long the start of an attempt that starts at once is kept back: if it is over by then, one report tells all of it.
const TOLD_AFTER: Duration = Duration::from_millis(20);

/// Something that happened to the attempt.
#[derive(Debug)]
enum Event {
    /// The controller's word, through the agent.
    Go(v1::Go),
    /// The controller's word, through the agent.
    Stop(v1::Stop),
    /// The controller's word, through the agent: what runs is signalled.
    Signal(v1::Signal),
    /// The script ended.
    ScriptEnded(ExitStatus),
    /// A process that serves a remote launcher was killed by this signal.
    DaemonKilled(i32),
    /// Another node's launcher connected to the attempt's SSH endpoint.
    Ssh(std::net::TcpStream),
    /// A launcher on this node that cannot be watched, or the supervisor of another instance, lost a process.
    RemoteLost(events::RemoteLost),
    /// A launcher on this node lost its process on a host, and it is being watched whether the launcher notices.
    Followed {
        /// The other host.
        host: String,
    },
    /// A launcher on this node still waits for a process that is gone.
    LauncherStuck(events::RemoteLost),
    /// News from the gang.
    Gang(gang::News),
    /// A starter of a step asks, or has left.
    Starter(steps::News),
    /// The daemon of a step has ended on this node.
    StepDaemonEnded {
        /// The step.
        step: u32,
        /// How.
        status: ExitStatus,
    },
    /// It is time to tell what is new of the steps.
    StepsDue,
    /// The program that moves files has answered, or ended without an answer.
    Moved(Option<v1::StageDone>),
    /// The program that unpacks packages has answered, or ended without an answer.
    Deployed(Result<v1::SetupDone>),
}

/// How an attempt ends, apart from failures to prepare it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// The script ended by itself.
    Exited(ExitStatus),
    /// The controller said so; what is left gets this long after SIGTERM.
    Stopped {
        /// Milliseconds.
        grace_ms: u32,
        /// Why.
        cause: v1::stop::Cause,
    },
    /// The node ends the attempt, and says why.
    Broken(String),
}

impl Outcome {
    fn stopped(stop: &v1::Stop) -> Self {
        Self::Stopped { grace_ms: stop.grace_ms, cause: stop.cause() }
    }
}

/// The state of the process.
struct Supervisor {
    assignment: Assignment,
    prepare: v1::Prepare,
    /// What is to be done, once it was read.
    read: Option<work::Read>,
    /// The part of the environment that is made once for all tasks of an array in one place.
    common_environment: Option<work::Environment>,
    state: AttemptState,
    /// What agents are told: always the newest report.
    report: watch::Sender<InstanceReport>,
    /// Cloned for everything that brings events.
    sender: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    /// Events that were found while another was waited for.
    found: VecDeque<Event>,
    child_signal: tokio::signal::unix::Signal,
    script: Option<i32>,
    /// How many signals the script's programs were sent. Each goes with its number, so that their order is not lost.
    signals_sent: i32,
    /// The processes that serve SSH connections.
    daemons: HashSet<i32>,
    /// The steps of the attempt, and their daemons on this node.
    steps: steps::Steps,
    started_at_us: u64,
    accounts: Accounts,
    /// The task's own folder, if it has one.
    folder: Option<folder::Folder>,
    /// The packages that the task uses: they stay on the node for as long as the attempt lives.
    packages: Vec<crate::packages::Held>,
    /// The container in which the task's processes run, if they run in one.
    container: Option<container::Container>,
    /// Where the attempt's states are written, if it shares that with those before it.
    log: Option<OpenLog>,
    /// What the attempt before has left for this one, and afterwards what this one leaves.
    place: Option<Place>,
}

/// Runs a supervisor that takes its assignment from the socket on standard input.
///
/// # Errors
///
/// [`NodeError`] if it cannot begin. Once it has an attempt it always ends well, and the report says what happened.
pub fn run() -> Result<()> {
    // The kernel's name for a program started through /proc/self/exe says nothing to an administrator.
    let _ = nix::sys::prctl::set_name(c"muster-superv");
    nix::sys::prctl::set_child_subreaper(true).map_err(NodeError::system("become a subreaper"))?;
    spawn::ignore_signals();
    log::catch_panics();
    // It takes nothing from the modes of what is made for users, who get theirs with their scripts.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    crate::process::go_ahead_of_work();
    // One thread for all that happens: what it asks for, as the start of a process, it waits for.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::system("start the runtime"))?;
    let line = {
        let _within = runtime.enter();
        control::Line::new(take_standard_input()?)?
    };
    let mut free =
        Free { line, accounts: Accounts::default(), place: None, door: None, log: None, assignment: None };
    for held in 0..ATTEMPTS_MAX {
        // With the set goes all that an attempt has begun and that is not over.
        let tasks = LocalSet::new();
        // It stays where it is made: it is large, and the runtime would copy it more than once.
        let attempt = std::pin::pin!(hold_one_attempt(free, held + 1 < ATTEMPTS_MAX));
        match tasks.block_on(&runtime, attempt)? {
            Some(again) => free = again,
            None => break,
        }
    }
    Ok(())
}

/// Takes the socket away from descriptor 0, so that no child finds it there.
fn take_standard_input() -> Result<std::os::unix::net::UnixStream> {
    use std::os::fd::AsFd;
    let action = "take over the socket on standard input";
    let stdin = std::io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned().map_err(NodeError::system(action))?;
    let null = std::fs::File::open("/dev/null").map_err(NodeError::file("open", "/dev/null"))?;
    // SAFETY: descriptor 0 stays open, as `/dev/null`.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(NodeError::system(action)(std::io::Error::last_os_error()));
    }
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(NodeError::system(action))?;
    Ok(socket)
}

/// What a supervisor has between two attempts.
struct Free {
    line: control::Line,
    accounts: Accounts,
    place: Option<Place>,
    door: Option<control::Door>,
    log: Option<OpenLog>,
    assignment: Option<Assignment>,
}

/// Holds the next attempt to its end. Gives back what another one may go on with, if there may be one.
async fn hold_one_attempt(free: Free, may_go_on: bool) -> Result<Option<Free>> {
    let Free { line: mut agent, accounts, mut place, door, log, assignment: before } = free;
    let next = agent.next_assignment(&mut place, before).await;
    let fits = |place: &mut Place| matches!(&next, Ok(Some((assignment, prepare))) if place.fits(assignment, prepare));
    let fitting = place.take_if(fits);
    if let Some(place) = place {
        place.remove().await;
    }
    // An agent that ends, or is replaced, leaves its idle supervisors without an attempt.
    let Some((assignment, prepare)) = next? else { return Ok(None) };
    log::begin(assignment.private.log());
    let control = assignment.private.control();
    let door = door.filter(|door| door.is_at(&control)).unwrap_or_else(|| control::Door::at(control));
    // The agent has written down that it is being prepared.
    let mut supervisor = Supervisor::new(assignment, prepare, accounts, fitting)?;
    supervisor.log = log;
    let after = if supervisor.prepare.at_once { TOLD_AFTER } else { Duration::ZERO };
    let (report, sender) = (supervisor.report.subscribe(), supervisor.sender.clone());
    let connections = control::serve(door, after, agent, report, sender)?;
    let gone = supervisor.live().await;
    supervisor.state.report.leaves_nothing = log::is_empty() && supervisor.state.report.steps_bytes == 0;
    supervisor.publish(Phase::Gone(gone))?;
    // Whoever has left a process here that cannot be ended keeps its supervisor.
    let is_alone = !supervisor.reap();
    let accounts = std::mem::take(&mut supervisor.accounts);
    let (place, log) = (supervisor.place.take(), supervisor.log.take());
    // The connections end with the last report; an agent that does not listen reads it from the disk.
    let assignment = Some(supervisor.into_assignment());
    let (line, door) = connections.finish().await;
    let line = match line {
        Some(line) => line.take_leave(is_alone && may_go_on).await,
        None => None,
    };
    log::end()?;
    match (line, place) {
        (Some(line), place) => Ok(Some(Free { line, accounts, place, door, log, assignment })),
        (None, Some(place)) => {
            place.remove().await;
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

impl Supervisor {
    fn new(
        assignment: Assignment,
        prepare: v1::Prepare,
        accounts: Accounts,
        place: Option<Place>,
    ) -> Result<Self> {
        let report = InstanceReport {
            key: prepare.key,
            instance: prepare.instance,
            phase: Some(Phase::Preparing(v1::Preparing {})),
            ..InstanceReport::default()
        };
        let (sender, inbox) = mpsc::channel(EVENTS_MAX);
        Ok(Self {
            state: AttemptState {
                boot_id: boot_id(),
                supervisor: ProcessId::own(),
                containment: assignment.containment.clone(),
                run: assignment.run.clone(),
                at_once: prepare.at_once,
                report: report.clone(),
            },
            report: watch::Sender::new(report),
            steps: steps::Steps::of(&prepare, &assignment.private, sender.clone()),
            sender,
            inbox,
            found: VecDeque::new(),
            child_signal: signal(SignalKind::child()).map_err(NodeError::system("await SIGCHLD"))?,
            script: None,
            signals_sent: 0,
            daemons: HashSet::new(),
            started_at_us: 0,
            accounts,
            folder: None,
            packages: Vec::new(),
            container: None,
            log: None,
            place,
            assignment,
            prepare,
            read: None,
            common_environment: None,
        })
    }

    /// Ends it.
    fn into_assignment(self) -> Assignment {
        self.assignment
    }

    /// Enters a phase: on the disk first, then towards the agent.
    fn publish(&mut self, phase: Phase) -> Result<()> {
        self.state.report.phase = Some(phase);
        self.assignment.private.save_in(&mut self.log, &self.state)?;
        self.report.send_replace(self.state.report.clone());
        Ok(())
    }

    fn is_primary(&self) -> bool {
        self.prepare.instance == 0
    }

    /// The host of an instance, for messages.
    fn host_of(&self, instance: usize) -> &str {
        self.prepare.members.get(instance).map_or("an unknown node", |member| member.host.as_str())
    }

    /// The whole life of the attempt on this node.
    async fn live(&mut self) -> Gone {
        let account = self.read_work().and_then(|()| self.account());
        let account = account.and_then(|account| self.make_folder(&account).map(|()| account));
        let prepared = match account {
            Ok(account) => self.prepare(account).await,
            Err(error) => Err(error),
        };
        let mut prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refused(&error),
        };
        let mut gang = gang::Handle::alone();
        let outcome = self.live_prepared(&mut prepared, &mut gang).await;
        match &outcome {
            // The other instances are stopped by the controller too, and shall have the same grace.
            Ok(Outcome::Stopped { .. }) => gang.leave(),
            Ok(_) => gang.end(),
            Err(error) => {
                tracing::error!(error = error.sentence(), "the attempt cannot go on");
                gang.end();
            }
        }
        let gone = self.end(&mut prepared, &gang, outcome).await;
        gang.end();
        gone
    }

    async fn live_prepared(
        &mut self,
        prepared: &mut prepare::Prepared,
        gang: &mut gang::Handle,
    ) -> Result<Outcome> {
        if let Some(stopped) = self.stage_in(prepared).await? {
            return Ok(stopped);
        }
        if self.prepare.at_once {
            *gang = self.go(prepared, &v1::Go { key: self.prepare.key, peers: Vec::new() })?;
            if let Ok(event) = tokio::time::timeout(TOLD_AFTER, self.next_event()).await {
                self.found.push_front(event);
            }
            if matches!(self.found.front(), Some(Event::ScriptEnded(_))) {
                return Ok(self.watch_over(prepared, gang).await);
            }
        } else {
            self.publish(Phase::Ready(v1::Ready { endpoint: Some(prepared.endpoint.clone()) }))?;
            let go = loop {
                match self.next_event().await {
                    Event::Go(go) => break go,
                    Event::Stop(stop) => return Ok(Outcome::stopped(&stop)),
                    other => tracing::debug!(event = ?other, "an event before the go"),
                }
            };
            *gang = self.go(prepared, &go)?;
        }
        self.publish(Phase::Running(v1::Running { started_at_us: self.started_at_us }))?;
        Ok(self.watch_over(prepared, gang).await)
    }

    /// The user that the task runs as.
    fn account(&mut self) -> Result<Account> {
        let user = self.prepare.user.as_ref().ok_or(NodeError::Incomplete { part: "user" })?;
        self.accounts.find(user)
    }

    /// A preparation that failed: what was made is removed, and nothing of the user's has run.
    fn refused(&self, error: &NodeError) -> Gone {
        tracing::warn!(error = error.sentence(), "the preparation failed");
        self.drop_folder();
        let failed = v1::PrepareFailed { reason: error.sentence(), node_at_fault: error.node_at_fault() };
        Gone {
            how: Some(v1::gone::How::PrepareFailed(failed)),
            usage: None,
            started_at_us: 0,
            ended_at_us: now_us(),
        }
    }

    /// The next event, whatever brings it.
    async fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.found.pop_front() {
                return event;
            }
            tokio::select! {
                _ = self.child_signal.recv() => {
                    self.reap();
                }
                Some(event) = self.inbox.recv() => return event,
            }
        }
    }

    /// Takes the status of every child that has ended: the script, daemons, and orphans of the attempt, whose parent
    /// a subreaper is.
    ///
    /// The answer is whether there are more children, which live.
    fn reap(&mut self) -> bool {
        loop {
            let mut status = 0;
            // The C library's call: nix's has no name for real-time signals and would lose a child that died of one.
            // SAFETY: the status is a valid place for the answer.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return pid == 0;
            }
            let status = ExitStatus::from_raw(status);
            if self.script == Some(pid) {
                self.script = None;
                self.found.push_back(Event::ScriptEnded(status));
            } else if let Some(step) = self.steps.daemon_of(pid) {
                self.found.push_back(Event::StepDaemonEnded { step, status });
            } else if self.daemons.remove(&pid)
                && let Some(signal) = status.signal()
            {
                self.found.push_back(Event::DaemonKilled(signal));
            }
        }
    }
}
