//! Looking on at a running step: what `muster attach JOB.STEP` and `sattach` do. The step's starter is asked, by way of
//! the controller, to call a port that is opened here.

use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::output::{Outputs, Sink};
use super::{own_addresses, terminal};
use crate::StepError;
use crate::auth;
use crate::frames::{ALL_RANKS, Common, FromDaemon, Own, Stream, ToDaemon};
use crate::greeting::{Greeting, Heard};
use crate::link::{Frame, Link, OUTBOX_BYTES_FULL};
use crate::live::LiveUsage;
use crate::status::exit_status;

/// How much input is read at once.
const INPUT_BYTES: usize = 64 << 10;

/// How many may be connected at once that have not proved themselves.
const STRANGERS_MAX: usize = 16;

/// What of a step is shown, and what it is given.
#[derive(Debug, Clone, Default)]
pub struct ViewOptions {
    /// The rank before each line.
    pub label: bool,
    /// Show the output of this rank alone.
    pub output_of: Option<u32>,
    /// Show the errors of this rank alone.
    pub errors_of: Option<u32>,
    /// Give input to this rank alone.
    pub input_to: Option<u32>,
    /// Rank 0 has a terminal, which this one stands for.
    pub pty: bool,
}

/// A port at which the starter of a step may call.
pub struct View {
    listener: TcpListener,
    key: String,
    strangers: Vec<Greeting>,
}

/// The nodes of a step, and its ranks on each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The nodes in their order.
    pub hosts: Vec<String>,
    /// The position of each rank's node, by rank.
    pub node_of_rank: Vec<u32>,
}

/// The starter has called.
pub struct Viewed {
    link: Link,
    /// Who runs where.
    pub layout: Layout,
}

impl View {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// [`StepError::System`].
    pub fn open() -> Result<Self, StepError> {
        let listener = TcpListener::bind("0.0.0.0:0").map_err(StepError::system("listen at a port"))?;
        listener.set_nonblocking(true).map_err(StepError::system("use a port"))?;
        let key = auth::nonce().map_err(StepError::system("make a key"))?;
        Ok(Self { listener, key, strangers: Vec::new() })
    }

    /// Where it is reached: addresses of this host, and the port.
    ///
    /// # Errors
    ///
    /// [`StepError::System`].
    pub fn address(&self) -> Result<(Vec<IpAddr>, u16), StepError> {
        let port = self.listener.local_addr().map_err(StepError::system("ask for a port's number"))?.port();
        // The port is open for this family only.
        Ok((own_addresses()?.into_iter().filter(IpAddr::is_ipv4).collect(), port))
    }

    /// What the caller must know.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Waits for the call; `None` if it does not come in time.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the connection breaks.
    pub fn wait(&mut self, within: Duration) -> Result<Option<Viewed>, StepError> {
        let until = Instant::now() + within;
        loop {
            let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.strangers.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)));
            if !wait(&mut fds, Some(until))? {
                return Ok(None);
            }
            drop(fds);
            while let Ok((stream, _)) = self.listener.accept() {
                if self.strangers.len() >= STRANGERS_MAX {
                    continue;
                }
                self.strangers.push(Greeting::begin(stream).map_err(StepError::system("greet a starter"))?);
            }
            for place in (0..self.strangers.len()).rev() {
                match self.strangers[place].hear(&self.key) {
                    Heard::Nothing => {}
                    Heard::Stranger => drop(self.strangers.swap_remove(place)),
                    Heard::Daemon { proof, .. } => {
                        let link = self.strangers.swap_remove(place).prove(proof);
                        return begin(link, until);
                    }
                }
            }
        }
    }
}

/// Hears who runs where.
fn begin(mut link: Link, until: Instant) -> Result<Option<Viewed>, StepError> {
    // The caller waits for a launch, as step daemons do; there is nothing to start.
    link.send(&ToDaemon::Launch {
        common: Box::new(Common::default()),
        own: Box::new(Own::default()),
        below: Vec::new(),
    });
    link.flush();
    loop {
        link.fill();
        match link.next_frame().map_err(|problem| StepError::protocol("the starter", problem))? {
            Some(Frame::Message(FromDaemon::Layout { hosts, node_of_rank })) => {
                return Ok(Some(Viewed { link, layout: Layout { hosts, node_of_rank } }));
            }
            None if link.is_open() => {}
            _ => return Err(StepError::protocol("the starter", "it does not say who runs where")),
        }
        if !wait(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], Some(until))? {
            return Ok(None);
        }
    }
}

impl Viewed {
    /// Shows the step until it is over. Gives the highest exit status of the ranks that ended meanwhile.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the connection breaks, or the output cannot be written.
    pub fn run(mut self, options: &ViewOptions) -> Result<u8, StepError> {
        let ranks = self.layout.node_of_rank.len();
        let label = options.label.then(|| ranks.saturating_sub(1).to_string().len());
        let mut outputs = Outputs::new(Sink::Stdout, Some(Sink::Stderr), label, !options.label);
        let raw = if options.pty { terminal::Raw::enter() } else { None };
        let resized = resized()?;
        if options.pty {
            self.tell_size();
        }
        let (mut status, mut input) = (0, true);
        loop {
            let reads =
                input && self.link.waiting_bytes() < OUTBOX_BYTES_FULL && !terminal::input_is_anothers();
            let ready = self.wait(&resized, reads)?;
            if ready.input {
                input = self.give_input(options.input_to)?;
            }
            if ready.resized && options.pty {
                while resized.read_signal().is_ok_and(|signal| signal.is_some()) {}
                self.tell_size();
            }
            self.link.flush();
            self.link.fill();
            loop {
                let frame = self.link.next_frame();
                match frame.map_err(|problem| StepError::protocol("the starter", problem))? {
                    Some(Frame::Bytes { tag, stream, bytes }) => {
                        let only =
                            if stream == Stream::Stderr { options.errors_of } else { options.output_of };
                        if only.is_none_or(|rank| rank == tag) {
                            outputs.take(tag, stream, &bytes).map_err(StepError::system("write output"))?;
                        }
                    }
                    Some(Frame::Message(FromDaemon::Exited { rank, status: ended, .. })) => {
                        outputs.end(rank).map_err(StepError::system("write output"))?;
                        status = status.max(exit_status(ended));
                    }
                    Some(Frame::Message(FromDaemon::Done)) => {
                        drop(raw);
                        return Ok(status);
                    }
                    Some(Frame::Message(_)) => {}
                    None if self.link.is_open() => break,
                    None => return Err(StepError::protocol("the step's starter", "it has hung up")),
                }
            }
        }
    }

    /// Asks what the ranks use; `None` if there is no answer in time, or the step ends before it.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the connection breaks.
    pub fn usage(mut self, within: Duration) -> Result<Option<LiveUsage>, StepError> {
        let until = Instant::now() + within;
        self.link.send(&ToDaemon::Usage);
        loop {
            self.link.flush();
            self.link.fill();
            loop {
                let frame = self.link.next_frame();
                match frame.map_err(|problem| StepError::protocol("the starter", problem))? {
                    Some(Frame::Message(FromDaemon::StepUsage { usage })) => return Ok(Some(*usage)),
                    Some(Frame::Message(FromDaemon::Done)) => return Ok(None),
                    Some(_) => {}
                    None if self.link.is_open() => break,
                    None => return Ok(None),
                }
            }
            let write = if self.link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
            if !wait(&mut [PollFd::new(self.link.as_fd(), PollFlags::POLLIN | write)], Some(until))? {
                return Ok(None);
            }
        }
    }

    fn tell_size(&mut self) {
        let (rows, columns) = terminal::size();
        self.link.send(&ToDaemon::Window { rows, columns });
    }

    /// Passes input on. False at its end, which is not the end of the ranks' input.
    fn give_input(&mut self, rank: Option<u32>) -> Result<bool, StepError> {
        let mut part = vec![0; INPUT_BYTES];
        match nix::unistd::read(stdin(), &mut part) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.link.send_bytes(rank.unwrap_or(ALL_RANKS), Stream::Stdin, &part[..count]);
                Ok(true)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(error) => Err(StepError::system("read the input")(error)),
        }
    }

    fn wait(&self, resized: &SignalFd, reads: bool) -> Result<Ready, StepError> {
        let write = if self.link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut fds = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN | write),
            PollFd::new(resized.as_fd(), PollFlags::POLLIN),
        ];
        if reads {
            fds.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        wait(&mut fds, None)?;
        let is_ready = |place: usize| fds.get(place).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok(Ready { resized: is_ready(1), input: is_ready(2) })
    }
}

/// What has happened, besides what came over the connection.
struct Ready {
    resized: bool,
    input: bool,
}

/// Tells when the terminal has another size. Other signals act as they do on any program: Ctrl-C ends the view.
fn resized() -> Result<SignalFd, StepError> {
    let held: SigSet = [Signal::SIGWINCH].into_iter().collect();
    held.thread_block().map_err(StepError::system("hold signals"))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    SignalFd::with_flags(&held, flags).map_err(StepError::system("await signals"))
}

fn stdin() -> BorrowedFd<'static> {
    // SAFETY: descriptor 0 is never closed by this program.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Waits until one of them is ready, and not for longer than until then.
fn wait(fds: &mut [PollFd<'_>], until: Option<Instant>) -> Result<bool, StepError> {
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        // Rounded up, so that the deadline has passed afterwards.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(fds, timeout) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(StepError::system("wait for the step")(error)),
    }
}
