//! Steps: parallel launches that the attempt's own processes ask for (`muster run`, `srun`).
//!
//! The supervisor of the asking process's node is asked at a socket in the attempt's folder; those of other instances pass
//! the session on to the primary's. That one places each step on cores of the
//! allocation that no other step holds, has a step daemon started on each node of the step, by itself or by the other
//! instances' supervisors, and frees a node's cores when the daemon there has ended. The daemons and the starter do all
//! the rest among themselves.

mod elsewhere;
mod records;
mod starters;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::Write;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use muster_step::place::{Ledger, NoPlace, Node, Placement};
use muster_step::words::{Answer, Ask, DaemonStart, EndCause, StepEnd, StepRequest};
use muster_step::{auth, tree};
use muster_wire::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use self::records::{Record, Records};
pub(super) use self::starters::{Desk, News, Socket};
use super::prepare::Prepared;
use super::spawn::{Child, Stdio, WayIn, c_path};
use super::ssh_endpoint::listen_at;
use super::{Event, Supervisor, gang, go};
use crate::attempt::AttemptDir;
use crate::error::{NodeError, Result};

/// How long it may take until the connection of a starter that was killed is found to be closed.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);

/// How many requests that find no room are remembered while room is looked for.
const REFUSED_MAX: usize = 64;

/// That a step has ranks on an instance, as its supervisor is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StepOrder {
    /// The step.
    pub step: u32,
    /// From this and the gang's secret each supervisor derives the step's key.
    pub nonce: String,
    /// Where its starter listens.
    pub starter: (String, u16),
    /// The daemon hangs below another, which connects to it.
    #[serde(default)]
    pub listens: bool,
}

/// A starter that waits for cores.
#[derive(Debug)]
struct Waiting {
    starter: u64,
    request: StepRequest,
    /// Where it listens.
    at: (String, u16),
    name: String,
    tree_width: u32,
    answers: mpsc::UnboundedSender<Answer>,
}

/// A step that has begun.
#[derive(Debug)]
struct Running {
    /// The instances whose daemons have not ended.
    instances: BTreeSet<u32>,
    /// Those of them whose daemons listen.
    listening: BTreeSet<u32>,
    answers: mpsc::UnboundedSender<Answer>,
    /// What is told of it.
    record: Record,
    /// Whether its starter has hung up.
    left: bool,
}

/// A step daemon that was just started.
struct Started {
    pid: i32,
    /// See [`Daemon`].
    line: Option<StdStream>,
    /// At which it listens.
    port: Option<u16>,
}

/// The steps of an attempt. On other instances than the primary only the daemons.
#[derive(Debug)]
pub(super) struct Steps {
    ledger: Ledger,
    next: u32,
    running: HashMap<u32, Running>,
    /// The step of each starter that has one.
    started: HashMap<u64, u32>,
    records: Records,
    /// The attempt is being ended, and so what ends does not end by itself.
    stopping: bool,
    waiting: VecDeque<Waiting>,
    /// The daemons on this node.
    daemons: HashMap<i32, Daemon>,
    desk: Desk,
}

/// A step daemon on this node.
#[derive(Debug)]
struct Daemon {
    step: u32,
    /// The other end of its standard input, while it listens: closed, it says that nobody comes any more.
    line: Option<StdStream>,
}

impl Steps {
    /// An attempt in which no step has begun.
    pub fn of(prepare: &v1::Prepare, dir: &AttemptDir, events: mpsc::Sender<Event>) -> Self {
        let node = |member: &v1::Member| Node {
            host: member.host.clone(),
            cores: member.cores.len() as u32,
            ranks: member.ranks,
        };
        Self {
            ledger: Ledger::new(prepare.members.iter().map(node).collect(), prepare.cpus_per_rank),
            next: 0,
            running: HashMap::new(),
            started: HashMap::new(),
            records: Records::new(dir),
            stopping: false,
            waiting: VecDeque::new(),
            daemons: HashMap::new(),
            desk: Desk::new(events),
        }
    }

    /// Where starters are heard.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// A starter says how its step ended. Gives the step if nothing of it is left on any node.
    fn ended(&mut self, starter: u64, end: &StepEnd) -> Option<u32> {
        let step = *self.started.get(&starter)?;
        if let Some(running) = self.running.get_mut(&step) {
            let cancelled = self.stopping && end.cause == EndCause::Ranks && (end.code, end.signal) != (0, 0);
            let cause = if cancelled { EndCause::Cancelled } else { end.cause };
            running.record.end(&StepEnd { cause, ..*end });
        }
        (end.cause != EndCause::NodeLost).then_some(step)
    }

    /// From here on the attempt is ended.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// A starter has hung up. Gives its step, if it had one.
    fn left(&mut self, starter: u64) -> Option<u32> {
        self.waiting.retain(|waiting| waiting.starter != starter);
        let step = self.started.remove(&starter)?;
        self.running.get_mut(&step)?.left = true;
        Some(step)
    }

    /// The step whose daemon on this node a child was that has ended.
    pub fn daemon_of(&mut self, pid: i32) -> Option<u32> {
        self.daemons.remove(&pid).map(|daemon| daemon.step)
    }

    /// A step is over: a daemon of it to which nobody has come does not wait any longer.
    pub fn let_go(&mut self, step: u32) {
        for daemon in self.daemons.values_mut().filter(|daemon| daemon.step == step) {
            daemon.line = None;
        }
    }
}

impl Supervisor {
    /// What every starter is told first.
    pub(super) fn allocation(&self) -> Answer {
        Answer::Allocation {
            job: self.number(),
            address: self.assignment.address.clone(),
            supervisor_pid: std::process::id().cast_signed(),
            hosts: self.prepare.members.iter().map(|member| member.host.clone()).collect(),
        }
    }

    /// A starter asks, or has left.
    pub(super) fn take_starter(&mut self, prepared: &Prepared, gang: &gang::Handle, news: News) {
        match news {
            News::Asked { ask: Ask::Ended(_), .. } => {}
            News::Asked {
                starter,
                address,
                ask: Ask::Create { request, port, name, tree_width },
                answers,
            } => {
                let at = (address.unwrap_or_else(|| self.assignment.address.clone()), port);
                let waiting = Waiting { starter, request, at, name, tree_width, answers };
                // Those that wait longer go first.
                if let Some(waiting) = self.try_step(prepared, gang, waiting) {
                    if waiting.request.immediate {
                        let _ = waiting.answers.send(Answer::Refused { reason: NoPlace::Busy.to_string() });
                        return;
                    }
                    let _ = waiting.answers.send(Answer::Waiting);
                    self.steps.waiting.push_back(waiting);
                }
            }
            News::Ended { starter, end } => {
                // Its daemons may take a moment to leave; a step that follows finds the cores free.
                if let Some(step) = self.steps.ended(starter, &end) {
                    self.steps.ledger.end(step);
                    self.try_those_that_wait(prepared, gang);
                }
            }
            News::Left { starter } => {
                if let Some(step) = self.steps.left(starter) {
                    self.let_go_of(gang, step);
                }
                self.forget_steps_over();
            }
        }
    }

    /// Begins a step if there is room for it; gives it back if it must wait.
    fn try_step(&mut self, prepared: &Prepared, gang: &gang::Handle, waiting: Waiting) -> Option<Waiting> {
        let step = self.steps.next;
        match self.steps.ledger.begin(step, &waiting.request) {
            Ok(placement) => {
                self.steps.next += 1;
                self.begin_step(prepared, gang, step, waiting, placement);
                None
            }
            Err(NoPlace::Busy) => Some(waiting),
            Err(NoPlace::Never(reason)) => {
                let _ = waiting.answers.send(Answer::Refused { reason });
                None
            }
        }
    }

    fn begin_step(
        &mut self,
        prepared: &Prepared,
        gang: &gang::Handle,
        step: u32,
        waiting: Waiting,
        placement: Placement,
    ) {
        let nonce = match auth::nonce() {
            Ok(nonce) => nonce,
            Err(error) => {
                self.steps.ledger.end(step);
                let _ = waiting
                    .answers
                    .send(Answer::Refused { reason: format!("no nonce can be made: {error}") });
                return;
            }
        };
        let order = StepOrder { step, nonce, starter: waiting.at, listens: false };
        let instances: BTreeSet<u32> = placement.nodes.iter().map(|node| node.instance).collect();
        let listening: BTreeSet<u32> = tree::deeper(placement.nodes.len() as u32, waiting.tree_width)
            .map(|position| placement.nodes[position as usize].instance)
            .collect();
        let key = auth::step_key(&self.prepare.gang_token, step, &order.nonce);
        let record = Record::new(step, waiting.name, &placement);
        let _ = waiting.answers.send(Answer::Placed { step, key, placement });
        let running = Running {
            instances: instances.clone(),
            listening: listening.clone(),
            answers: waiting.answers,
            record,
            left: false,
        };
        self.steps.running.insert(step, running);
        self.steps.started.insert(waiting.starter, step);
        self.tell_of_steps_soon();
        for instance in instances {
            let order = StepOrder { listens: listening.contains(&instance), ..order.clone() };
            if instance == self.prepare.instance {
                self.start_step_here(prepared, gang, &order);
            } else if !gang.start_step(instance, order.clone()) {
                let failed = "its supervisor has too many orders that wait".to_owned();
                self.step_gone(prepared, gang, step, instance, Some(failed));
            }
        }
    }

    /// Starts the daemon of a step on this node.
    pub(super) fn start_step_here(&mut self, prepared: &Prepared, gang: &gang::Handle, order: &StepOrder) {
        match self.spawn_step_daemon(prepared, order) {
            Ok(started) => {
                self.steps.daemons.insert(started.pid, Daemon { step: order.step, line: started.line });
                match started.port {
                    None => {}
                    Some(port) if self.is_primary() => {
                        let address = (self.assignment.address.clone(), port);
                        self.step_listens(order.step, self.prepare.instance, address);
                    }
                    Some(port) => {
                        gang.step_listens(order.step, (self.assignment.address.clone(), port));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = error.sentence(),
                    step = order.step,
                    "a step daemon cannot be started"
                );
                let failed = Some(format!("its step daemon cannot be started: {}", error.sentence()));
                match self.is_primary() {
                    true => self.step_gone(prepared, gang, order.step, self.prepare.instance, failed),
                    false => gang.step_gone(order.step, failed),
                }
            }
        }
    }

    fn spawn_step_daemon(&self, prepared: &Prepared, order: &StepOrder) -> Result<Started> {
        let program = c_path(&self.assignment.bin_dir.join(muster_step::DAEMON_NAME))?;
        let cores =
            self.prepare.members.get(self.prepare.instance as usize).map(|member| member.cores.clone());
        let start = DaemonStart {
            job: self.number(),
            step: order.step,
            instance: self.prepare.instance,
            host: prepared.endpoint.host.clone(),
            starter: order.starter.clone(),
            listens: order.listens,
            key: auth::step_key(&self.prepare.gang_token, order.step, &order.nonce),
            attempt_dir: self.assignment.run.display().to_string(),
            cores: cores.unwrap_or_default(),
            cpus: self.assignment.cores.clone(),
            cores_wrap: self.assignment.cores_wrap,
        };
        let text = serde_json::to_vec(&start).map_err(|error| NodeError::Frame(Box::new(error)))?;
        let (mut ours, theirs) = StdStream::pair().map_err(NodeError::system("make a socket"))?;
        ours.set_nonblocking(true).map_err(NodeError::system("use a socket"))?;
        // It fits into the socket's buffer, so nobody has to read yet.
        ours.write_all(&text).map_err(NodeError::system("tell a step daemon what to start"))?;
        // That is all for a daemon that reads up to the end; the way back stays open.
        ours.shutdown(std::net::Shutdown::Write).map_err(NodeError::system("use a socket"))?;
        let listener = match order.listens {
            true => Some(listen_at(&self.assignment.address)?),
            false => None,
        };
        let port = listener.as_ref().map(|listener| listener.local_addr()).transpose();
        let port = port.map_err(NodeError::system("ask for a port's number"))?.map(|address| address.port());
        let line = port.map(|_| ours);
        let cpus = self.assignment.cpus();
        let work = self.work();
        let child = Child {
            program: program.clone(),
            arguments: vec![program],
            environment: vec![c"PATH=/usr/local/bin:/usr/bin:/bin".into()],
            common_environment: &[],
            account: &prepared.account,
            way_in: WayIn::Files(prepared.entrances()?),
            cpus: &cpus,
            shares_cores: self.assignment.cores_wrap,
            namespace: None,
            directory: None,
            umask: 0o077,
            limits: work.map(|work| go::limits(&work.limits)).unwrap_or_default(),
            stdio: match listener {
                Some(listener) => Stdio::Listening { stdin: theirs.into(), listener: listener.into() },
                None => Stdio::Socket(theirs.into()),
            },
        };
        Ok(Started { pid: child.start()?, line, port })
    }

    /// On the primary: the daemon of a step listens. Its starter says to the daemon above where.
    pub(super) fn step_listens(&self, step: u32, instance: u32, (address, port): (String, u16)) {
        if let Some(running) = self.steps.running.get(&step) {
            let _ = running.answers.send(Answer::Listens { instance, address, port });
        }
    }

    /// The starter of a step has left: nobody comes any more to its daemons that listen.
    fn let_go_of(&mut self, gang: &gang::Handle, step: u32) {
        let Some(running) = self.steps.running.get_mut(&step) else { return };
        let listening = std::mem::take(&mut running.listening);
        for instance in listening.intersection(&running.instances) {
            gang.end_step(*instance, step);
        }
        self.steps.let_go(step);
    }

    /// The daemon of a step has ended on this node. A starter that still waits for it hears why it will not come; any
    /// other passes over it, for it knows better by the connection.
    pub(super) fn step_daemon_ended(
        &mut self,
        prepared: &Prepared,
        gang: &gang::Handle,
        step: u32,
        status: ExitStatus,
    ) {
        let failed = (!status.success()).then(|| match status.signal() {
            Some(signal) => format!("its step daemon was killed by signal {signal}"),
            None => format!("its step daemon ended with exit code {}", status.code().unwrap_or_default()),
        });
        match self.is_primary() {
            true => self.step_gone(prepared, gang, step, self.prepare.instance, failed),
            false => gang.step_gone(step, failed),
        }
    }

    /// On the primary: nothing of a step is left on an instance, or nothing could be started there.
    pub(super) fn step_gone(
        &mut self,
        prepared: &Prepared,
        gang: &gang::Handle,
        step: u32,
        instance: u32,
        failed: Option<String>,
    ) {
        self.steps.ledger.end_on(step, instance);
        if let Some(running) = self.steps.running.get_mut(&step) {
            running.instances.remove(&instance);
            if let Some(detail) = failed {
                let host = self.prepare.members.get(instance as usize).map(|member| member.host.clone());
                let _ = running.answers.send(Answer::DaemonLost { host: host.unwrap_or_default(), detail });
            }
        }
        self.forget_steps_over();
        self.try_those_that_wait(prepared, gang);
    }

    /// Begins the steps for which there is room now.
    fn try_those_that_wait(&mut self, prepared: &Prepared, gang: &gang::Handle) {
        // Of thousands that wait for the same, one is asked for.
        let mut refused: Vec<StepRequest> = Vec::new();
        for waiting in std::mem::take(&mut self.steps.waiting) {
            let in_vain = refused.contains(&waiting.request);
            let still = if in_vain { Some(waiting) } else { self.try_step(prepared, gang, waiting) };
            if let Some(waiting) = still {
                if !in_vain && refused.len() < REFUSED_MAX {
                    refused.push(waiting.request.clone());
                }
                self.steps.waiting.push_back(waiting);
            }
        }
    }

    /// Records and forgets the steps of which neither a daemon nor a starter is left.
    fn forget_steps_over(&mut self) {
        let Steps { running, records, .. } = &mut self.steps;
        let over = running.extract_if(|_, running| running.instances.is_empty() && running.left);
        for (_, running) in over {
            records.write_end(running.record);
        }
        self.tell_of_steps_soon();
    }

    /// What a starter says while its attempt ends.
    pub(super) fn note_step(&mut self, event: Event) {
        match event {
            Event::Starter(News::Ended { starter, end }) => drop(self.steps.ended(starter, &end)),
            Event::Starter(News::Left { starter }) => drop(self.steps.left(starter)),
            _ => {}
        }
    }

    /// The attempt is over, nothing of it runs, and so its steps are over. What their starters have still said is heard.
    pub(super) async fn end_steps(&mut self) {
        let deadline = tokio::time::Instant::now() + LEAVE_WITHIN;
        while !self.steps.started.is_empty()
            && let Ok(event) = tokio::time::timeout_at(deadline, self.next_event()).await
        {
            self.note_step(event);
        }
        let mut left: Vec<_> = self.steps.running.drain().collect();
        left.sort_unstable_by_key(|(step, _)| *step);
        for (_, running) in left {
            self.steps.records.write_end(running.record);
        }
        self.state.report.steps_bytes = self.steps.records.bytes();
    }

    /// What is new of the steps is told together, a little later.
    fn tell_of_steps_soon(&mut self) {
        let news = self.steps.records.bytes() != self.state.report.steps_bytes;
        let untold = self.steps.running.values().any(|running| !running.record.is_written());
        if (news || untold) && !std::mem::replace(&mut self.steps.records.due, true) {
            let events = self.sender.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(records::TELL_EVERY).await;
                let _ = events.send(Event::StepsDue).await;
            });
        }
    }

    /// Tells of the steps that have ended, and of those that have run for a while.
    pub(super) fn tell_of_steps(&mut self) {
        let Steps { running, records, .. } = &mut self.steps;
        records.due = false;
        for running in running.values_mut() {
            records.write_running(&mut running.record);
        }
        let bytes = records.bytes();
        if bytes != self.state.report.steps_bytes {
            self.state.report.steps_bytes = bytes;
            self.report.send_replace(self.state.report.clone());
        }
        self.tell_of_steps_soon();
    }

    /// Signals the ranks of a step, ends it, or has its starter call somebody who looks on. One that is over hears nothing.
    pub(super) fn signal_step(&self, step: u32, signal: &v1::Signal) {
        if let Some(running) = self.steps.running.get(&step) {
            let answer = match (&signal.viewer, signal.number) {
                (Some(viewer), _) => Answer::Attach {
                    hosts: viewer.hosts.join(","),
                    port: u16::try_from(viewer.port).unwrap_or_default(),
                    key: viewer.key.clone(),
                },
                (None, 0) => Answer::Cancel,
                (None, number) => Answer::Signal { number: number.cast_signed() },
            };
            let _ = running.answers.send(answer);
        }
    }
}
