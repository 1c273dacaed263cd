//! The starter's loop, from the place of a step to its end.

mod asked;
mod ending;
mod heads;
mod launch;
mod send;
mod viewers;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::ending::Ending;
use self::heads::{Head, Heads, State};
use self::launch::Launch;
use self::viewers::{Viewers, Wish};
use super::bcast::Sending;
use super::output::Outputs;
use super::signals::Signals;
use super::supervisor::{Granted, Session};
use super::{Plan, START_WITHIN, terminal};
use crate::StepError;
use crate::barrier::Barrier;
use crate::frames::{ALL_RANKS, FromDaemon, Sent, Stream, ToDaemon};
use crate::link::Frame;
use crate::words::{Answer, Ask};

/// How much input is read at once.
const INPUT_BYTES: usize = 64 << 10;

/// How long a job may take to run its script once it has its allocation.
const RELAYED_START_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What a descriptor that is ready belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Supervisor,
    Heads(heads::Source),
    Viewers(viewers::Source),
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
    step: u32,
    key: String,
    launch: Launch,
    heads: Heads,
    outputs: Outputs,
    viewers: Viewers,
    /// What somebody who looks on has asked.
    asked: Option<asked::Asked>,
    /// The file of which not all was sent.
    sending: Option<Sending>,
    /// On how many branches it is not on all nodes.
    without_file: usize,
    input: Input,
    /// To whom input goes.
    input_tag: u32,
    /// Input that came before all daemons had.
    input_held: Vec<Vec<u8>>,
    /// What the branches bring to the ranks' barriers.
    barrier: Barrier,
    start_by: Instant,
    /// Where ranks would be bound.
    bindings: BTreeMap<u32, String>,
    /// Whether the daemons know that a rank has ended without a word.
    absence_told: bool,
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
        sending: Option<(Sending, Sent)>,
    ) -> Result<Self, StepError> {
        listener.set_nonblocking(true).map_err(StepError::system("use a port"))?;
        let (mut launch, streams) = launch::prepare(plan, session.job, &granted)?;
        let (sending, sent) = sending.unzip();
        launch.common.sent = sent;
        let heads = Heads::new(listener, &granted.placement, plan.tree_width);
        let without_file = if sending.is_some() { heads.count() } else { 0 };
        let raw = if plan.pty { terminal::Raw::enter() } else { None };
        Ok(Self {
            ending: Ending::new(plan, session.job, granted.step, &launch.common),
            barrier: Barrier::new(heads.count()),
            heads,
            outputs: streams.outputs,
            viewers: Viewers::new(FromDaemon::Layout {
                hosts: launch.common.hosts.clone(),
                node_of_rank: launch.common.node_of_rank.clone(),
            }),
            asked: None,
            without_file,
            sending,
            input: streams.input,
            input_tag: streams.input_tag,
            input_held: Vec::new(),
            // A job may take long to begin; who watches it says when it has ended without that.
            start_by: Instant::now() + if plan.relayed { RELAYED_START_WITHIN } else { START_WITHIN },
            bindings: BTreeMap::new(),
            absence_told: false,
            step: granted.step,
            key: granted.key,
            plan,
            session,
            signals,
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
        // What the supervisor has said right after the place wakes the loop no more.
        self.take_supervisor();
        while !self.heads.iter().all(Head::is_over) {
            self.wait_and_serve()?;
            self.keep_time();
        }
        // What ranks wrote last, without a line's end.
        for rank in 0..self.launch.common.ntasks {
            if self.outputs.end(rank).is_err() {
                self.ending.output_failed();
            }
        }
        for line in self.bindings.values() {
            println!("{line}");
        }
        self.viewers.finish();
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
                Source::Heads(heads::Source::Listener) => {
                    self.heads.take_strangers().map_err(StepError::system("greet a step daemon"))?;
                }
                // They are heard together, below.
                Source::Heads(heads::Source::Stranger) => {}
                Source::Heads(heads::Source::Head(place)) => self.take_head(place),
                Source::Viewers(viewers::Source::Called) => self.viewers.take_called(),
                Source::Viewers(viewers::Source::Viewer(place)) => self.take_viewer(place),
                Source::Input => self.take_input(),
            }
        }
        for place in self.heads.hear_strangers(&self.key) {
            self.launch(place);
        }
        self.send_file();
        self.answer_for_usage();
        Ok(())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        if self.session.is_open() {
            all.push((Source::Supervisor, self.session.as_fd(), PollFlags::POLLIN));
        }
        all.extend(
            self.heads.sources().into_iter().map(|(source, fd, flags)| (Source::Heads(source), fd, flags)),
        );
        let has_room =
            self.heads.have_room() && self.without_file == 0 && !self.heads.iter().any(Head::is_awaited);
        all.extend(
            self.viewers.sources(has_room).map(|(source, fd, flags)| (Source::Viewers(source), fd, flags)),
        );
        if has_room {
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

    /// Tells a branch what to start, if all of it is there.
    fn launch(&mut self, place: usize) {
        self.heads.launch(place, &mut self.launch);
        if !self.heads.iter().any(Head::is_awaited) {
            for bytes in std::mem::take(&mut self.input_held) {
                self.heads.give(self.input_tag, Stream::Stdin, &bytes);
            }
        }
    }

    fn take_head(&mut self, place: usize) {
        if let State::Running(link) | State::Greeted(link) = &mut self.heads.get_mut(place).state {
            link.flush();
            link.fill();
        }
        loop {
            let head = self.heads.get_mut(place);
            let (State::Running(link) | State::Greeted(link)) = &mut head.state else { return };
            match link.next_frame::<FromDaemon>() {
                Ok(Some(Frame::Message(message))) => self.take_message(place, message),
                Ok(Some(Frame::Bytes { stream: Stream::Fence, bytes, .. })) => {
                    if let Some(all) = self.barrier.bring_bytes(place, bytes) {
                        self.heads.give(0, Stream::Fence, &all);
                    }
                }
                Ok(Some(Frame::Bytes { tag, stream, bytes })) => {
                    self.viewers.show(tag, stream, &bytes);
                    if self.outputs.take(tag, stream, &bytes).is_err() {
                        self.ending.output_failed();
                        self.kill();
                    }
                }
                Ok(None) if link.is_open() => return,
                Ok(None) => return self.lose_head(place, "its step daemon was lost"),
                Err(problem) => {
                    return self
                        .lose_head(place, &format!("its step daemon cannot be understood: {problem}"));
                }
            }
        }
    }

    fn take_message(&mut self, place: usize, message: FromDaemon) {
        let kill = match message {
            FromDaemon::FileHere => {
                self.without_file = self.without_file.saturating_sub(1);
                if self.without_file == 0 {
                    self.heads.tell(&ToDaemon::Go);
                }
                false
            }
            FromDaemon::Started => {
                if self.ending.started() && self.plan.verbose {
                    let node = self.heads.get(place).nodes.start;
                    let host = &self.launch.common.hosts[node as usize];
                    eprintln!("{}: Node {host}, tasks started", self.plan.name);
                }
                false
            }
            FromDaemon::Refused { node, problem } => self.ending.refused(node, &problem),
            FromDaemon::Lost { node, below, problem } => self.ending.lost(node, below, &problem),
            FromDaemon::Notice { text } => {
                self.ending.say(&text);
                false
            }
            FromDaemon::Binding { rank, text } => {
                if self.plan.dry_run {
                    self.bindings.insert(rank, text);
                } else {
                    self.ending.say(&text);
                }
                false
            }
            FromDaemon::Fence { pairs } => {
                if let Some(pairs) = self.barrier.bring(place, pairs) {
                    self.heads.tell(&ToDaemon::Fence { pairs });
                }
                false
            }
            FromDaemon::Abort { rank, code, message } => {
                self.ending.aborted(self.node_of(rank), rank, code, &message)
            }
            FromDaemon::Exited { rank, status, usage, silent } => {
                if silent && !std::mem::replace(&mut self.absence_told, true) {
                    self.heads.tell(&ToDaemon::Absent { rank });
                }
                if self.outputs.end(rank).is_err() {
                    self.ending.output_failed();
                }
                self.viewers.tell(&FromDaemon::Exited { rank, status, usage, silent });
                self.ending.exited(self.node_of(rank), rank, status, &usage)
            }
            FromDaemon::Done => {
                self.heads.get_mut(place).state = State::Over;
                false
            }
            FromDaemon::Usage { node, ranks } => {
                self.take_usage(node, ranks);
                false
            }
            FromDaemon::Hello { .. } | FromDaemon::Layout { .. } | FromDaemon::StepUsage { .. } => false,
        };
        if kill {
            self.kill();
        }
    }

    /// The position of a rank's node.
    fn node_of(&self, rank: u32) -> u32 {
        self.launch.common.node_of_rank.get(rank as usize).copied().unwrap_or_default()
    }

    /// The way to a branch is lost.
    fn lose_head(&mut self, place: usize, problem: &str) {
        let head = self.heads.get_mut(place);
        head.state = State::Over;
        let (first, below) = (head.nodes.start, head.nodes.len() as u32 - 1);
        if self.ending.lost(first, below, problem) {
            self.kill();
        }
    }

    fn take_supervisor(&mut self) {
        // A supervisor that has hung up ends everything of the attempt, this process as well.
        let _hung_up = self.session.fill();
        while let Ok(Some(answer)) = self.session.next_answer() {
            match answer {
                Answer::DaemonLost { host, detail } => self.lose_host(&host, &detail),
                Answer::Listens { instance, address, port } => {
                    if let Some(place) = self.heads.listens(instance, (address, port)) {
                        self.launch(place);
                    }
                }
                Answer::Attach { hosts, port, key } => self.viewers.call(&hosts, port, key),
                Answer::Signal { number } => self.heads.tell(&ToDaemon::Signal { signal: number }),
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

    /// A node's daemon could not be started. Its branch is not told what to start.
    fn lose_host(&mut self, host: &str, problem: &str) {
        let position = self.launch.common.hosts.iter().position(|known| known == host);
        let Some(position) = position.map(|position| position as u32) else { return };
        let awaited = |place: &usize| self.heads.get(*place).is_awaited();
        if let Some(place) = self.heads.of_node(position).filter(awaited) {
            self.heads.get_mut(place).state = State::Over;
            if self.ending.lost(position, 0, problem) {
                self.kill();
            }
        }
    }

    /// Does what somebody who looks on wants.
    fn take_viewer(&mut self, place: usize) {
        for wish in self.viewers.hear(place) {
            match wish {
                Wish::Input { tag, bytes } => self.heads.give(tag, Stream::Stdin, &bytes),
                Wish::Usage => self.ask_for_usage(),
                Wish::Window { rows, columns } => {
                    if self.plan.pty {
                        self.heads.tell(&ToDaemon::Window { rows, columns });
                    }
                }
            }
        }
    }

    fn take_signals(&mut self) {
        for received in self.signals.take() {
            let act = self.ending.signalled(received, self.session.supervisor_pid, &self.running_text());
            self.act(act);
        }
    }

    fn act(&mut self, act: ending::Act) {
        match act {
            ending::Act::Nothing => {}
            ending::Act::Forward(signal) => self.heads.tell(&ToDaemon::Signal { signal: signal as i32 }),
            ending::Act::Kill => self.kill(),
            ending::Act::Resize => {
                if self.plan.pty {
                    let (rows, columns) = terminal::size();
                    self.heads.tell(&ToDaemon::Window { rows, columns });
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
        self.heads.give(self.input_tag, Stream::Stdin, &part[..count]);
    }

    /// Ends what is left.
    fn kill(&mut self) {
        self.heads.kill();
    }

    fn next_deadline(&self) -> Option<Instant> {
        let awaited = self.heads.iter().any(Head::is_awaited);
        let start = awaited.then_some(self.start_by);
        let answer = self.asked.as_ref().map(|asked| asked.until);
        [start, answer, self.ending.deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = Instant::now();
        if self.ending.keep_time(now) {
            self.kill();
        }
        if now >= self.start_by {
            let problem = format!("its step daemon did not connect within {} s", START_WITHIN.as_secs());
            for place in 0..self.heads.count() {
                if self.heads.get(place).is_awaited() {
                    for node in self.heads.missing(place) {
                        self.ending.lost(node, 0, &problem);
                    }
                    self.kill();
                }
            }
        }
    }
}

/// The tag of input for these ranks.
fn input_tag(rank: Option<u32>) -> u32 {
    rank.unwrap_or(ALL_RANKS)
}
