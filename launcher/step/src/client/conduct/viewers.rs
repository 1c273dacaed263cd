//! Those who look on: `sattach` shows the output of a running step elsewhere, and gives it input.
//!
//! Somebody who wants to look on waits at a port and is called from here, as a starter is called by a step daemon. Who
//! reads too slowly is left behind: the step waits for nobody.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::daemon::call;
use crate::frames::{FromDaemon, Stream, ToDaemon};
use crate::link::{Frame, Link};
use crate::words::DaemonStart;

/// How many may look on at once, those that are being called included.
const VIEWERS_MAX: usize = 16;

/// Who has so many bytes to read is left behind.
const BEHIND_BYTES_MAX: usize = 16 << 20;

/// For how long the end of a step waits until the last output has been read.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// A descriptor to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Somebody was called.
    Called,
    Viewer(usize),
}

/// What somebody who looks on wants of the step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Input for a rank, or all.
    Input { tag: u32, bytes: Vec<u8> },
    /// To be told what the ranks use.
    Usage,
    /// A terminal's size.
    Window { rows: u16, columns: u16 },
}

/// Calls that are under way, each in a thread: the step must not wait for them.
struct Calls {
    under_way: usize,
    called: mpsc::Receiver<Option<Link>>,
    caller: mpsc::Sender<Option<Link>>,
    wake: UnixStream,
    waker: UnixStream,
}

/// All who look on.
pub(super) struct Viewers {
    links: Vec<Link>,
    calls: Option<Calls>,
    layout: FromDaemon,
}

impl Viewers {
    /// Nobody. The layout is what each is told first.
    pub fn new(layout: FromDaemon) -> Self {
        Self { links: Vec::new(), calls: None, layout }
    }

    /// Calls somebody. Where that cannot be done, they hear nothing and give up by themselves.
    pub fn call(&mut self, hosts: &str, port: u16, key: String) {
        let under_way = self.calls.as_ref().map_or(0, |calls| calls.under_way);
        if self.links.len() + under_way >= VIEWERS_MAX {
            return;
        }
        let start = DaemonStart { starter: (hosts.to_owned(), port), key, ..DaemonStart::default() };
        let Some(calls) = self.calls() else { return };
        let Ok(mut waker) = calls.waker.try_clone() else { return };
        let caller = calls.caller.clone();
        calls.under_way += 1;
        std::thread::spawn(move || {
            let link = call::call(&start).ok().map(|launched| launched.link);
            // The step may be over.
            let _nobody_listens = caller.send(link).is_ok() && waker.write_all(&[0]).is_ok();
        });
    }

    fn calls(&mut self) -> Option<&mut Calls> {
        if self.calls.is_none() {
            let (wake, waker) = UnixStream::pair().ok()?;
            wake.set_nonblocking(true).ok()?;
            let (caller, called) = mpsc::channel();
            self.calls = Some(Calls { under_way: 0, called, caller, wake, waker });
        }
        self.calls.as_mut()
    }

    /// What to wait for; `may_read` says whether the step has room for input.
    pub fn sources(&self, may_read: bool) -> impl Iterator<Item = (Source, BorrowedFd<'_>, PollFlags)> {
        let called = self.calls.iter().map(|calls| (Source::Called, calls.wake.as_fd(), PollFlags::POLLIN));
        let viewers = self.links.iter().enumerate().map(move |(place, link)| {
            let read = if may_read { PollFlags::POLLIN } else { PollFlags::empty() };
            let write = if link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
            (Source::Viewer(place), link.as_fd(), read | write)
        });
        called.chain(viewers)
    }

    /// Takes in those who have answered a call.
    pub fn take_called(&mut self) {
        let Some(calls) = &mut self.calls else { return };
        let _how_often_is_in_the_channel = std::io::Read::read(&mut calls.wake, &mut [0; VIEWERS_MAX]);
        while let Ok(link) = calls.called.try_recv() {
            calls.under_way -= 1;
            if let Some(mut link) = link {
                link.send(&self.layout);
                link.flush();
                self.links.push(link);
            }
        }
    }

    /// What somebody has said. Who has hung up is let go with the next output.
    pub fn hear(&mut self, place: usize) -> Vec<Wish> {
        let Some(link) = self.links.get_mut(place) else { return Vec::new() };
        link.flush();
        link.fill();
        let mut wishes = Vec::new();
        loop {
            match link.next_frame::<ToDaemon>() {
                // No bytes would end the ranks' input for everybody.
                Ok(Some(Frame::Bytes { tag, stream: Stream::Stdin, bytes })) if !bytes.is_empty() => {
                    wishes.push(Wish::Input { tag, bytes });
                }
                Ok(Some(Frame::Message(ToDaemon::Window { rows, columns }))) => {
                    wishes.push(Wish::Window { rows, columns });
                }
                Ok(Some(Frame::Message(ToDaemon::Usage))) => wishes.push(Wish::Usage),
                Ok(Some(_)) => {}
                Ok(None) if link.is_open() => return wishes,
                Ok(None) | Err(_) => {
                    self.links.swap_remove(place);
                    return wishes;
                }
            }
        }
    }

    /// Shows what a rank wrote.
    pub fn show(&mut self, rank: u32, stream: Stream, bytes: &[u8]) {
        self.each(|link| link.send_bytes(rank, stream, bytes));
    }

    /// Tells all.
    pub fn tell(&mut self, message: &FromDaemon) {
        self.each(|link| link.send(message));
    }

    fn each(&mut self, mut act: impl FnMut(&mut Link)) {
        self.links.retain_mut(|link| {
            act(link);
            link.flush();
            link.waiting_bytes() <= BEHIND_BYTES_MAX
        });
    }

    /// The step is over; waits a little until all have read what there was.
    pub fn finish(mut self) {
        self.tell(&FromDaemon::Done);
        let until = Instant::now() + READ_WITHIN;
        loop {
            self.links.iter_mut().for_each(Link::take_leave);
            self.links.retain(Link::is_open);
            let left = until.saturating_duration_since(Instant::now());
            if self.links.is_empty() || left.is_zero() {
                return;
            }
            let event = |link: &Link| {
                let write = if link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
                PollFlags::POLLIN | write
            };
            let mut fds: Vec<PollFd> =
                self.links.iter().map(|link| PollFd::new(link.as_fd(), event(link))).collect();
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
