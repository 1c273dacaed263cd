//! The starter's loop, from the place of a step to its end.

mod ending;
mod launch;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::ending::Ending;
use self::launch::Launch;
use super::output::Outputs;
use super::signals::Signals;
use super::supervisor::{Granted, Session};
use super::{Plan, START_WITHIN, terminal};
use crate::StepError;
use crate::auth::{self, Side};
use crate::frames::{ALL_RANKS, FromDaemon, Stream, ToDaemon};
use crate::link::{Frame, Link, OUTBOX_BYTES_FULL};
use crate::words::{Answer, Ask};

/// How much input is read at once.
const INPUT_BYTES: usize = 64 << 10;

/// How long a job may take to run its script once it has its allocation.
const RELAYED_START_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// How many connections may be open that have not proved themselves.
const STRANGERS_MAX: usize = 1024;

/// How far a node is.
#[derive(Debug)]
enum Node {
    /// Its daemon has not come.
    Awaited,
    /// Its daemon is there.
    Running(Link),
    /// It is done, or was lost.
    Over,
}

/// A connection that has not yet proved itself, with the nonce that it was sent.
struct Stranger {
    link: Link,
    nonce: String,
}

/// What a descriptor that is ready belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Supervisor,
    Listener,
    Stranger,
    Node(usize),
    Input,
}

/// Where the ranks' input is read.
enum Input {
    /// Nowhere, or it has ended.
    None,
    Own,
    File(std::fs::File),
}

/// A step with its daemons.
pub(super) struct Conduct<'p> {
    plan: &'p Plan,
    session: Session,
    signals: Signals,
    listener: TcpListener,
    step: u32,
    key: String,
    launch: Launch,
    nodes: Vec<Node>,
    strangers: Vec<Stranger>,
    /// The node of each instance.
    node_of_instance: BTreeMap<u32, usize>,
    outputs: Outputs,
    input: Input,
    /// To whom input goes.
    input_tag: u32,
    /// Input that came before all daemons had.
    input_held: Vec<Vec<u8>>,
    /// What nodes have brought to the barrier.
    fence: BTreeMap<String, String>,
    in_fence: Vec<bool>,
    /// The same for PMIx, by node: bytes that only its servers understand.
    blobs: Vec<Option<Vec<u8>>>,
    start_by: Instant,
    ending: Ending,
    _terminal: Option<terminal::Raw>,
}

impl<'p> Conduct<'p> {
    /// Opens what the step writes and reads.
    pub fn new(
        plan: &'p Plan,
        session: Session,
        granted: Granted,
        listener: TcpListener,
        signals: Signals,
    ) -> Result<Self, StepError> {
        listener.set_nonblocking(true).map_err(StepError::system("use a port"))?;
        let (launch, streams) = launch::prepare(plan, session.job, &granted)?;
        let placement = &granted.placement;
        let node_of_instance =
            placement.nodes.iter().enumerate().map(|(position, node)| (node.instance, position)).collect();
        let raw = if plan.pty { terminal::Raw::enter() } else { None };
        let count = placement.nodes.len();
        Ok(Self {
            ending: Ending::new(plan, session.job, granted.step, &launch.common),
            nodes: (0..count).map(|_| Node::Awaited).collect(),
            in_fence: vec![false; count],
            blobs: vec![None; count],
            strangers: Vec::new(),
            node_of_instance,
            outputs: streams.outputs,
            input: streams.input,
            input_tag: streams.input_tag,
            input_held: Vec::new(),
            fence: BTreeMap::new(),
            // A job may take long to begin; who watches it says when it has ended without that.
            start_by: Instant::now() + if plan.relayed { RELAYED_START_WITHIN } else { START_WITHIN },
            step: granted.step,
            key: granted.key,
            plan,
            session,
            signals,
            listener,
            launch,
            _terminal: raw,
        })
    }

    /// Stays until all nodes are done.
    pub fn run_to_the_end(mut self) -> Result<u8, StepError> {
        if self.plan.verbose {
            let hosts = self.launch.common.hosts.join(",");
            let (name, job, step) = (self.plan.name, self.session.job, self.step);
            eprintln!(
                "{name}: launching StepId={job}.{step} on host(s) {hosts}, {} tasks",
                self.launch.common.ntasks
            );
        }
        while !self.nodes.iter().all(|node| matches!(node, Node::Over)) {
            self.wait_and_serve()?;
            self.keep_time();
        }
        // What ranks wrote last, without a line's end.
        for rank in 0..self.launch.common.ntasks {
            if self.outputs.end(rank).is_err() {
                self.ending.output_failed();
            }
        }
        drop(self._terminal);
        let (status, end) = self.ending.finish();
        // A supervisor that does not hear it records the step as it sees it.
        let _unheard = self.session.say(&Ask::Ended(end));
        Ok(status)
    }

    fn wait_and_serve(&mut self) -> Result<(), StepError> {
        let timeout = self.next_deadline().map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the deadline has passed afterwards.
            PollTimeout::try_from(left + std::time::Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let ready = {
            let sources = self.sources();
            let mut fds: Vec<PollFd> =
                sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(StepError::system("wait for the step")(error)),
            }
            let happened = fds.iter().map(|fd| fd.any().unwrap_or(false));
            sources
                .iter()
                .zip(happened)
                .filter(|(_, ready)| *ready)
                .map(|(source, _)| source.0)
                .collect::<Vec<_>>()
        };
        for source in ready {
            match source {
                Source::Signals => self.take_signals(),
                Source::Supervisor => self.take_supervisor(),
                Source::Listener => self.take_strangers()?,
                // They are heard together, below.
                Source::Stranger => {}
                Source::Node(position) => self.take_node(position),
                Source::Input => self.take_input(),
            }
        }
        self.hear_strangers();
        Ok(())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        if self.session.is_open() {
            all.push((Source::Supervisor, self.session.as_fd(), PollFlags::POLLIN));
        }
        let mut room_for_input = true;
        let mut awaited = false;
        for (position, node) in self.nodes.iter().enumerate() {
            match node {
                Node::Awaited => awaited = true,
                Node::Running(link) => {
                    let waits = link.waiting_bytes();
                    room_for_input &= waits < OUTBOX_BYTES_FULL;
                    let write = if waits > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
                    all.push((Source::Node(position), link.as_fd(), PollFlags::POLLIN | write));
                }
                Node::Over => {}
            }
        }
        if awaited {
            all.push((Source::Listener, self.listener.as_fd(), PollFlags::POLLIN));
        }
        for stranger in &self.strangers {
            all.push((Source::Stranger, stranger.link.as_fd(), PollFlags::POLLIN));
        }
        if room_for_input && !awaited {
            match &self.input {
                Input::None => {}
                Input::File(file) => all.push((Source::Input, file.as_fd(), PollFlags::POLLIN)),
                Input::Own if terminal::input_is_anothers() => {}
                Input::Own => {
                    // SAFETY: descriptor 0 is never closed by this program.
                    let own = unsafe { BorrowedFd::borrow_raw(0) };
                    all.push((Source::Input, own, PollFlags::POLLIN));
                }
            }
        }
        all
    }

    /// Greets the connections that have come.
    fn take_strangers(&mut self) -> Result<(), StepError> {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.strangers.len() >= STRANGERS_MAX {
                continue;
            }
            let nonce = auth::nonce().map_err(StepError::system("make a nonce"))?;
            let Ok(mut link) = Link::new(stream) else { continue };
            link.send(&ToDaemon::Challenge { nonce: nonce.clone() });
            link.flush();
            self.strangers.push(Stranger { link, nonce });
        }
        Ok(())
    }

    /// Takes in those that have proved themselves, and sends the others away.
    fn hear_strangers(&mut self) {
        for place in (0..self.strangers.len()).rev() {
            let stranger = &mut self.strangers[place];
            stranger.link.fill();
            let said = stranger.link.next_frame::<FromDaemon>();
            match said {
                Ok(None) if stranger.link.is_open() => {}
                Ok(Some(Frame::Message(FromDaemon::Hello { instance, nonce, proof }))) => {
                    let stranger = self.strangers.swap_remove(place);
                    if auth::holds(&proof, &self.key, Side::Daemon(instance), &stranger.nonce, &nonce) {
                        self.begin_node(instance, stranger, &nonce);
                    }
                }
                _ => drop(self.strangers.swap_remove(place)),
            }
        }
    }

    fn begin_node(&mut self, instance: u32, stranger: Stranger, theirs: &str) {
        let Some(position) = self.node_of_instance.get(&instance).copied() else { return };
        if !matches!(self.nodes[position], Node::Awaited) {
            return;
        }
        let mut link = stranger.link;
        link.trust();
        link.send(&ToDaemon::Launch {
            proof: auth::proof(&self.key, Side::Starter, &stranger.nonce, theirs),
            common: Box::new(self.launch.common.clone()),
            own: Box::new(std::mem::take(&mut self.launch.own[position])),
        });
        if self.ending.is_killing() {
            link.send(&ToDaemon::Kill);
        }
        link.flush();
        self.nodes[position] = Node::Running(link);
        if !self.nodes.iter().any(|node| matches!(node, Node::Awaited)) {
            for bytes in std::mem::take(&mut self.input_held) {
                self.send_input(&bytes);
            }
        }
    }

    fn take_node(&mut self, position: usize) {
        let Node::Running(link) = &mut self.nodes[position] else { return };
        link.flush();
        link.fill();
        loop {
            let Node::Running(link) = &mut self.nodes[position] else { return };
            match link.next_frame::<FromDaemon>() {
                Ok(Some(Frame::Message(message))) => self.take_message(position, message),
                Ok(Some(Frame::Bytes { stream: Stream::Fence, bytes, .. })) => {
                    self.take_blob(position, bytes)
                }
                Ok(Some(Frame::Bytes { tag, stream, bytes })) => {
                    if self.outputs.take(tag, stream, &bytes).is_err() {
                        self.ending.output_failed();
                        self.kill();
                    }
                }
                Ok(None) if link.is_open() => return,
                Ok(None) => return self.lose_node(position, "its step daemon was lost"),
                Err(problem) => {
                    return self
                        .lose_node(position, &format!("its step daemon cannot be understood: {problem}"));
                }
            }
        }
    }

    fn take_message(&mut self, position: usize, message: FromDaemon) {
        match message {
            FromDaemon::Started => {
                if self.ending.started() && self.plan.verbose {
                    let host = &self.launch.common.hosts[position];
                    eprintln!("{}: Node {host}, tasks started", self.plan.name);
                }
            }
            FromDaemon::Refused { problem } => {
                if self.ending.refused(&problem) {
                    self.kill();
                }
            }
            FromDaemon::Notice { text } => self.ending.say(&text),
            FromDaemon::Fence { pairs } => self.take_fence(position, pairs),
            FromDaemon::Abort { rank, code, message } => {
                if self.ending.aborted(position as u32, rank, code, &message) {
                    self.kill();
                }
            }
            FromDaemon::Exited { rank, status, usage } => {
                if self.outputs.end(rank).is_err() {
                    self.ending.output_failed();
                }
                if self.ending.exited(position as u32, rank, status, &usage) {
                    self.kill();
                }
            }
            FromDaemon::Done => {
                self.nodes[position] = Node::Over;
                self.complete_fence();
            }
            FromDaemon::Hello { .. } => {}
        }
    }

    fn take_fence(&mut self, position: usize, pairs: BTreeMap<String, String>) {
        self.fence.extend(pairs);
        self.in_fence[position] = true;
        self.complete_fence();
    }

    /// When all nodes are in the barrier, each hears what all have brought.
    fn complete_fence(&mut self) {
        if self.in_fence.iter().any(|inside| !inside) {
            return;
        }
        self.in_fence.fill(false);
        let message = ToDaemon::Fence { pairs: std::mem::take(&mut self.fence) };
        self.tell_all(&message);
    }

    /// The same for PMIx: each node hears what all have brought, one after the other.
    fn take_blob(&mut self, position: usize, bytes: Vec<u8>) {
        self.blobs[position] = Some(bytes);
        if self.blobs.iter().any(Option::is_none) {
            return;
        }
        let all: Vec<u8> = self.blobs.iter_mut().filter_map(Option::take).flatten().collect();
        for node in &mut self.nodes {
            if let Node::Running(link) = node {
                link.send_bytes(0, Stream::Fence, &all);
                link.flush();
            }
        }
    }

    fn lose_node(&mut self, position: usize, problem: &str) {
        self.nodes[position] = Node::Over;
        let host = self.launch.common.hosts[position].clone();
        if self.ending.lost(&host, problem) {
            self.kill();
        }
    }

    fn take_supervisor(&mut self) {
        // A supervisor that has hung up ends everything of the attempt, this process as well.
        let _hung_up = self.session.fill();
        while let Ok(Some(answer)) = self.session.next_answer() {
            match answer {
                Answer::DaemonLost { host, detail } => {
                    let position = self.launch.common.hosts.iter().position(|known| *known == host);
                    if let Some(position) = position
                        && matches!(self.nodes[position], Node::Awaited)
                    {
                        self.lose_node(position, &detail);
                    }
                }
                Answer::Signal { number } => self.tell_all(&ToDaemon::Signal { signal: number }),
                Answer::Cancel => {
                    let act = self.ending.cancelled();
                    self.act(act);
                }
                Answer::Allocation { .. }
                | Answer::Waiting
                | Answer::Placed { .. }
                | Answer::Refused { .. } => {}
            }
        }
    }

    fn take_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            let act = self.ending.signalled(received, self.session.supervisor_pid, &self.running_text());
            self.act(act);
        }
    }

    fn act(&mut self, act: ending::Act) {
        match act {
            ending::Act::Nothing => {}
            ending::Act::Forward(signal) => self.tell_all(&ToDaemon::Signal { signal: signal as i32 }),
            ending::Act::Kill => self.kill(),
            ending::Act::Resize => {
                if self.plan.pty {
                    let (rows, columns) = terminal::size();
                    self.tell_all(&ToDaemon::Window { rows, columns });
                }
            }
        }
    }

    /// The ranks that have not ended.
    fn running_text(&self) -> String {
        let left: Vec<u32> =
            (0..self.launch.common.ntasks).filter(|rank| !self.ending.has_ended(*rank)).collect();
        let word = if left.len() == 1 { "task" } else { "tasks" };
        format!("{word} {}: running", crate::lists::format_list(&left))
    }

    fn take_input(&mut self) {
        let mut part = vec![0; INPUT_BYTES];
        let read = match &mut self.input {
            Input::None => return,
            // The descriptor itself, because a buffer would hide from poll(2) what it holds.
            Input::Own => {
                // SAFETY: descriptor 0 is never closed by this program.
                let own = unsafe { BorrowedFd::borrow_raw(0) };
                nix::unistd::read(own, &mut part).map_err(Into::into)
            }
            Input::File(file) => file.read(&mut part),
        };
        let count = match read {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return,
            Err(_) => 0,
        };
        if count == 0 {
            self.input = Input::None;
        }
        self.send_input(&part[..count]);
    }

    fn send_input(&mut self, bytes: &[u8]) {
        let tag = self.input_tag;
        for node in &mut self.nodes {
            if let Node::Running(link) = node {
                link.send_bytes(tag, Stream::Stdin, bytes);
                link.flush();
            }
        }
    }

    fn tell_all(&mut self, message: &ToDaemon) {
        for node in &mut self.nodes {
            if let Node::Running(link) = node {
                link.send(message);
                link.flush();
            }
        }
    }

    /// Ends what is left. Nodes whose daemon has not come are not waited for: it will find nobody to connect to.
    fn kill(&mut self) {
        self.tell_all(&ToDaemon::Kill);
        for node in &mut self.nodes {
            if matches!(node, Node::Awaited) {
                *node = Node::Over;
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let awaited = self.nodes.iter().any(|node| matches!(node, Node::Awaited));
        let start = awaited.then_some(self.start_by);
        [start, self.ending.deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.ending.keep_time(now) {
            self.kill();
        }
        if now >= self.start_by {
            for position in 0..self.nodes.len() {
                if matches!(self.nodes[position], Node::Awaited) {
                    let problem =
                        format!("its step daemon did not connect within {} s", START_WITHIN.as_secs());
                    self.lose_node(position, &problem);
                }
            }
        }
    }
}

/// The tag of input for these ranks.
fn input_tag(rank: Option<u32>) -> u32 {
    rank.unwrap_or(ALL_RANKS)
}
