//! The daemon's loop, from the launch to the end of everything that came of it.

mod launch;
mod mpi;
mod relay;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::bcast::Incoming;
use super::below::Below;
use super::bindings::Machine;
use super::call::Launched;
use super::rank::{self, Output, Rank, read_output};
use super::{pmix, sweep, usage};
use crate::StepError;
use crate::barrier::Barrier;
use crate::frames::{ALL_RANKS, Common, FromDaemon, Own, Stream, ToDaemon};
use crate::link::{Frame, Link, OUTBOX_BYTES_FULL};
use crate::pmi;
use crate::words::DaemonStart;

/// How much output of a rank that has ended is read before its end is told; something that it has left behind may go on
/// writing for ever.
const LAST_OUTPUT_BYTES: usize = 1 << 20;

/// How long is waited between two looks at what is left when something was killed. The kernel tells of the daemon's
/// own children at once; of grandchildren it tells when they have become children.
const SWEEP_MS: u16 = 20;

/// How long the side above may take to hang up once everything was sent: its host may be gone.
const HANG_UP_WITHIN: Duration = Duration::from_secs(30);

/// The wait status of an exit with this code.
fn exit_status(code: i32) -> i32 {
    code << 8
}

/// Slurm's exit code of a rank whose program or streams could not be used.
const NOT_STARTED: i32 = 2;

/// What a descriptor that is ready belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Link,
    Signals,
    Stdin(usize),
    Output(usize, Stream),
    Pmi(usize),
    Pmix,
    Below(usize),
}

/// A daemon with a launch.
pub(super) struct Serving {
    start: DaemonStart,
    common: Common,
    own: Own,
    /// To the starter, or to the daemon above.
    link: Link,
    signals: SignalFd,
    below: Below,
    /// What this node and those below bring to the ranks' barriers; this node is the first part.
    barrier: Barrier,
    /// Of how many of these parts the ranks have not been started.
    unstarted: usize,
    /// The file that is sent to all nodes.
    incoming: Option<Incoming>,
    /// Ranks are not started before it is on all nodes.
    file_awaited: bool,
    /// Of how many parts of the branch the file is not there.
    without_file: usize,
    /// The cores of this node, once they are drawn.
    machine: Option<Machine>,
    ranks: Vec<Rank>,
    pmi: Option<pmi::Server>,
    pmix: Option<pmix::Server>,
    /// The barrier of PMIx that the other nodes are waited for in.
    pmix_fence: Option<pmix::FenceAnswer>,
    /// Ranks that have begun with PMIx and not ended.
    in_pmix: BTreeSet<u32>,
    /// Ranks that have ever begun with PMIx.
    begun_pmix: BTreeSet<u32>,
    /// A rank that has ended without a word, if the others have not been told.
    absent: Option<u32>,
    /// Everything that is left shall go.
    killing: bool,
    /// Nothing of the step is left on this node.
    gone: bool,
}

impl Serving {
    pub fn new(start: DaemonStart, launched: Launched, signals: SignalFd) -> Self {
        let below = Below::new(launched.below);
        let parts = 1 + below.count();
        Self {
            start,
            common: launched.common,
            own: launched.own,
            link: launched.link,
            signals,
            below,
            barrier: Barrier::new(parts),
            unstarted: parts,
            incoming: None,
            file_awaited: false,
            without_file: parts,
            machine: None,
            ranks: Vec::new(),
            pmi: None,
            pmix: None,
            pmix_fence: None,
            in_pmix: BTreeSet::new(),
            begun_pmix: BTreeSet::new(),
            absent: None,
            killing: false,
            gone: false,
        }
    }

    /// Starts the ranks and stays until nothing is left. Gives the highest of their exit statuses.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the system fails; nothing is left then either, because ranks die with their daemon.
    pub fn run_to_the_end(mut self) -> Result<u8, StepError> {
        // Those below are told first, so that all nodes start their ranks at about the same time. What comes from above
        // meanwhile waits in the connection.
        while !self.below.is_settled() {
            self.wait_and_serve(false)?;
        }
        let begun = match self.receive_file()? {
            Ok(()) if self.killing => Ok(()),
            Ok(()) => self.launch(),
            Err(problem) => Err(problem),
        };
        match begun {
            Ok(()) => self.count_started(),
            Err(problem) => {
                self.link.send(&FromDaemon::Refused { node: self.own.position, problem });
                self.killing = true;
            }
        }
        // Input may have come together with the launch, and then nothing more wakes the loop for it.
        self.take_link();
        loop {
            self.link.flush();
            self.tell_ends();
            let all_ended = self.ranks.iter().all(|rank| rank.status.is_some());
            let sweeping = !self.gone && (all_ended || self.killing);
            if sweeping {
                // What ranks have left behind goes with the step.
                let left = sweep::kill_all();
                self.reap();
                self.gone = all_ended && !left && self.drained();
            }
            if self.gone && self.below.is_over() {
                break;
            }
            self.wait_and_serve(sweeping && !self.gone)?;
        }
        self.tell_ends();
        self.incoming = None;
        self.link.send(&FromDaemon::Done);
        self.take_leave();
        let statuses = self.ranks.iter().filter_map(|rank| rank.status);
        Ok(statuses.map(crate::status::exit_status).max().unwrap_or(1))
    }

    /// Waits for the file that is sent, if there is one, until all nodes have it. Why it is not there is a sentence for the user.
    fn receive_file(&mut self) -> Result<Result<(), String>, StepError> {
        let Some(sent) = &self.common.sent else { return Ok(Ok(())) };
        self.incoming = Some(Incoming::begin(sent, &self.start, &self.common));
        self.file_awaited = true;
        // What has come together with the launch wakes the loop no more.
        self.take_link();
        loop {
            if let Some(problem) = self.incoming.as_ref().and_then(Incoming::problem) {
                return Ok(Err(problem.to_owned()));
            }
            if !self.file_awaited || self.killing {
                return Ok(Ok(()));
            }
            self.link.flush();
            self.wait_and_serve(false)?;
        }
    }

    /// Waits until something happens, and takes it.
    fn wait_and_serve(&mut self, sweeping: bool) -> Result<(), StepError> {
        let timeout = match (sweeping, self.below.deadline()) {
            (true, _) => PollTimeout::from(SWEEP_MS),
            (false, None) => PollTimeout::NONE,
            (false, Some(deadline)) => {
                // Rounded up, so that the deadline has passed afterwards.
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let ready = {
            let mut sources = self.sources();
            let mut fds: Vec<PollFd> =
                sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(StepError::system("wait for the ranks")(error)),
            }
            let happened: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            sources
                .drain(..)
                .zip(happened)
                .filter(|(_, ready)| *ready)
                .map(|(source, _)| source.0)
                .collect::<Vec<_>>()
        };
        for source in ready {
            match source {
                Source::Link if !self.below.is_settled() => self.link.flush(),
                Source::Link => self.take_link(),
                Source::Signals => self.take_signals(),
                Source::Stdin(place) => self.feed(place),
                Source::Output(place, stream) => drop(self.carry(place, stream)),
                Source::Pmi(place) => self.take_pmi(place),
                Source::Pmix => self.take_pmix(),
                Source::Below(place) => self.take_below(place),
            }
        }
        for lost in self.below.take_lost() {
            self.link.send(&lost);
        }
        Ok(())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::with_capacity(2 + 4 * self.ranks.len());
        let waits = self.link.waiting_bytes();
        let takes = self.below.is_settled() && !(self.file_awaited && self.below.is_full());
        let read = if takes { PollFlags::POLLIN } else { PollFlags::empty() };
        if self.link.is_open() {
            let write = if waits > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
            all.push((Source::Link, self.link.as_fd(), read | write));
        }
        all.push((Source::Signals, self.signals.as_fd(), PollFlags::POLLIN));
        if let Some(server) = &self.pmix {
            all.push((Source::Pmix, server.as_fd(), PollFlags::POLLIN));
        }
        // A starter that takes no output holds its ranks back, as a pipe would.
        let full = waits > OUTBOX_BYTES_FULL;
        let below = self.below.sources(full);
        all.extend(below.map(|(place, fd, flags)| (Source::Below(place), fd, flags)));
        for (place, rank) in self.ranks.iter().enumerate() {
            if let Some(stdin) = rank.stdin.as_ref().filter(|stdin| stdin.waits()) {
                all.push((Source::Stdin(place), stdin.as_fd(), PollFlags::POLLOUT));
            }
            for (stream, file) in [(Stream::Stdout, &rank.stdout), (Stream::Stderr, &rank.stderr)] {
                if let Some(file) = file.as_ref().filter(|_| !full) {
                    all.push((Source::Output(place, stream), file.as_fd(), PollFlags::POLLIN));
                }
            }
            if let Some(socket) = &rank.pmi {
                all.push((Source::Pmi(place), socket.as_fd(), PollFlags::POLLIN));
            }
        }
        all
    }

    fn take_link(&mut self) {
        self.link.flush();
        self.link.fill();
        loop {
            match self.link.next_frame::<ToDaemon>() {
                Ok(Some(Frame::Message(message))) => {
                    let begins = message == ToDaemon::Go;
                    self.obey(message);
                    if begins {
                        // What follows may be for the ranks, which are yet to be started.
                        break;
                    }
                }
                Ok(Some(Frame::Bytes { stream: Stream::File, bytes, .. })) => {
                    self.below.give_file(&bytes);
                    if let Some(file) = &mut self.incoming {
                        file.put(&bytes);
                    }
                }
                Ok(Some(Frame::Bytes { tag, stream: Stream::Stdin, bytes })) => {
                    self.below.give_input(tag, &bytes, &self.common);
                    for place in 0..self.ranks.len() {
                        if tag == ALL_RANKS || self.ranks[place].number == tag {
                            if let Some(stdin) = &mut self.ranks[place].stdin {
                                stdin.put(&bytes);
                            }
                            self.feed(place);
                        }
                    }
                }
                Ok(Some(Frame::Bytes { stream: Stream::Fence, bytes, .. })) => {
                    self.below.give_fence(&bytes);
                    if let Some(answer) = self.pmix_fence.take() {
                        answer.give(bytes);
                    }
                }
                Ok(Some(Frame::Bytes { .. })) => {}
                Ok(None) => break,
                Err(_) => {
                    self.kill();
                    break;
                }
            }
        }
        if !self.link.is_open() {
            self.kill();
        }
    }

    /// Everything that is left shall go, here and below.
    fn kill(&mut self) {
        self.killing = true;
        self.below.kill();
    }

    fn obey(&mut self, message: ToDaemon) {
        if matches!(
            message,
            ToDaemon::Fence { .. }
                | ToDaemon::Signal { .. }
                | ToDaemon::Window { .. }
                | ToDaemon::Absent { .. }
                | ToDaemon::FileSent { .. }
                | ToDaemon::Go
                | ToDaemon::Usage
        ) {
            self.below.tell(&message);
        }
        match message {
            ToDaemon::Absent { rank } => {
                self.absent = Some(rank);
                self.end_if_one_is_awaited_for_ever();
            }
            ToDaemon::Fence { pairs } => {
                let effects = self.pmi.as_mut().map(|server| server.fence_done(pairs)).unwrap_or_default();
                self.carry_out(effects);
            }
            ToDaemon::Signal { signal } => {
                for rank in self.ranks.iter().filter(|rank| rank.status.is_none()) {
                    // SAFETY: numbers only. Each rank leads a process group.
                    unsafe { libc::kill(-rank.pid, signal) };
                }
            }
            ToDaemon::Window { rows, columns } => {
                let terminal =
                    self.ranks.iter().find(|rank| rank.number == 0).and_then(|rank| rank.stdout.as_ref());
                if let Some(terminal) = terminal {
                    rank::resize(terminal, rows, columns);
                }
            }
            ToDaemon::FileSent { sha256 } => {
                if let Some(file) = &mut self.incoming {
                    file.finish(&sha256);
                    if file.problem().is_none() {
                        self.count_file();
                    }
                }
            }
            ToDaemon::Go => self.file_awaited = false,
            ToDaemon::Usage => {
                let running = self.ranks.iter().filter(|rank| rank.status.is_none());
                let ranks = running.map(|rank| usage::of(rank.number, rank.pid)).collect();
                self.link.send(&FromDaemon::Usage { node: self.own.position, ranks });
            }
            ToDaemon::Kill => self.kill(),
            ToDaemon::Challenge { .. } | ToDaemon::Proof { .. } | ToDaemon::Launch { .. } => {}
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo == Signal::SIGCHLD as u32 {
                self.reap();
            }
        }
    }

    /// Takes the status of every child that has ended, orphans of the step among them.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: a structure of numbers.
            let mut used: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both are valid places for the answer.
            let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut used) };
            if pid <= 0 {
                return;
            }
            if let Some(rank) = self.ranks.iter_mut().find(|rank| rank.pid == pid && rank.status.is_none()) {
                rank.status = Some(status);
                rank.usage = rank::usage(&used);
                rank.stdin = None;
            }
        }
    }

    /// Tells of the ranks that have ended, after the output that they have written.
    fn tell_ends(&mut self) {
        for place in 0..self.ranks.len() {
            let Some(status) = self.ranks[place].status.filter(|_| !self.ranks[place].told) else { continue };
            self.ranks[place].told = true;
            for stream in [Stream::Stdout, Stream::Stderr] {
                let mut bytes = 0;
                while bytes < LAST_OUTPUT_BYTES
                    && let Some(count) = self.carry(place, stream)
                {
                    bytes += count;
                }
            }
            if self.ranks[place].pmi.is_some() {
                self.take_pmi(place);
            }
            self.take_pmix();
            let rank = self.ranks[place].number;
            if self.in_pmix.remove(&rank) {
                let message = "ended without MPI_Finalize".to_owned();
                self.link.send(&FromDaemon::Abort { rank, code: 1, message });
            }
            let silent = (self.pmi.is_some() || self.pmix.is_some())
                && self.pmi.as_ref().is_none_or(|server| server.is_silent(place))
                && !self.begun_pmix.contains(&rank);
            self.link.send(&FromDaemon::Exited { rank, status, usage: self.ranks[place].usage, silent });
        }
        self.link.flush();
    }

    fn feed(&mut self, place: usize) {
        if let Some(stdin) = &mut self.ranks[place].stdin
            && !stdin.flush()
        {
            self.ranks[place].stdin = None;
        }
    }

    /// Sends what a rank has written; `None` if there is nothing now.
    fn carry(&mut self, place: usize, stream: Stream) -> Option<usize> {
        let rank = &mut self.ranks[place];
        let file = if stream == Stream::Stdout { &mut rank.stdout } else { &mut rank.stderr };
        match read_output(file.as_mut()?) {
            Output::Bytes(bytes) => {
                self.link.send_bytes(rank.number, stream, &bytes);
                Some(bytes.len())
            }
            Output::NothingNow => None,
            Output::End => {
                *file = None;
                None
            }
        }
    }

    /// Whether all output has ended.
    fn drained(&self) -> bool {
        self.ranks.iter().all(|rank| rank.stdout.is_none() && rank.stderr.is_none())
    }

    /// Sends what waits, for as long as the starter takes it, and stays until it has hung up.
    fn take_leave(&mut self) {
        let mut until = None;
        self.link.take_leave();
        while self.link.is_open() {
            let (write, timeout) = if self.link.waiting_bytes() > 0 {
                (PollFlags::POLLOUT, PollTimeout::NONE)
            } else {
                let until = *until.get_or_insert_with(|| Instant::now() + HANG_UP_WITHIN);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                (PollFlags::empty(), PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
            };
            let _interrupted =
                poll(&mut [PollFd::new(self.link.as_fd(), PollFlags::POLLIN | write)], timeout);
            self.link.take_leave();
        }
    }
}
