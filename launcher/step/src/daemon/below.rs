//! The daemons that hang below this one: connections to them, from the first call to their last word.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;

use crate::frames::{ALL_RANKS, Branch, Common, FromDaemon, Own, Stream, ToDaemon};
use crate::greeting::{Greeting, Heard};
use crate::link::{Frame, Link, OUTBOX_BYTES_FULL};

/// How long the way to a daemon below, and its proof, may take. It listens already.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// What comes from below.
pub(super) enum News {
    /// A message.
    Message(FromDaemon),
    /// Bytes of a stream.
    Bytes(u32, Stream, Vec<u8>),
}

/// How far a daemon below is.
enum State {
    /// It is being connected to.
    Connecting(TcpStream),
    /// It must prove itself.
    Greeting(Greeting),
    /// It was told what to start.
    Running(Link),
    /// It is done, or was lost.
    Over,
}

/// A daemon below, with those that hang below it.
struct Child {
    instance: u32,
    /// Its position among the step's nodes; those below it follow.
    first: u32,
    nodes: u32,
    /// What it is told; taken when it is.
    launch: (Own, Vec<Branch>),
    state: State,
}

/// All of them.
pub(super) struct Below {
    children: Vec<Child>,
    /// Losses that were not told upwards.
    lost: Vec<FromDaemon>,
    connect_until: Instant,
}

impl Below {
    /// Begins to connect to them.
    pub fn new(branches: Vec<Branch>) -> Self {
        let mut lost = Vec::new();
        let child = |branch: Branch| {
            let mut child = Child {
                instance: branch.instance,
                first: branch.own.position,
                nodes: branch.nodes(),
                launch: (branch.own, branch.below),
                state: State::Over,
            };
            match connect(&branch.address) {
                Ok(stream) => child.state = State::Connecting(stream),
                Err(error) => {
                    lost.push(child.lost(format!("its step daemon cannot be reached: {error}")));
                }
            }
            child
        };
        let children = branches.into_iter().map(child).collect();
        Self { children, lost, connect_until: Instant::now() + CONNECT_WITHIN }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.children.len()
    }

    /// Whether each was told what to start, or was lost.
    pub fn is_settled(&self) -> bool {
        self.children.iter().all(|child| matches!(child.state, State::Running(_) | State::Over))
    }

    /// Whether nothing more comes of them.
    pub fn is_over(&self) -> bool {
        self.lost.is_empty() && self.children.iter().all(|child| matches!(child.state, State::Over))
    }

    /// When the next one is late.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.is_settled()).then_some(self.connect_until)
    }

    /// What to wait for, by place. Where the side above takes nothing, nothing is taken from below.
    pub fn sources(&self, above_is_full: bool) -> impl Iterator<Item = (usize, BorrowedFd<'_>, PollFlags)> {
        let read = if above_is_full { PollFlags::empty() } else { PollFlags::POLLIN };
        self.children.iter().enumerate().filter_map(move |(place, child)| match &child.state {
            State::Connecting(stream) => Some((place, stream.as_fd(), PollFlags::POLLOUT)),
            State::Greeting(greeting) => Some((place, greeting.as_fd(), PollFlags::POLLIN)),
            State::Running(link) => {
                let write = if link.waiting_bytes() > 0 { PollFlags::POLLOUT } else { PollFlags::empty() };
                Some((place, link.as_fd(), read | write))
            }
            State::Over => None,
        })
    }

    /// Does what a daemon that is ready allows.
    pub fn advance(&mut self, place: usize, key: &str, common: &Common) {
        let child = &mut self.children[place];
        match std::mem::replace(&mut child.state, State::Over) {
            State::Connecting(stream) => {
                let failed = match stream.take_error() {
                    Ok(None) => {
                        Greeting::begin(stream).map(|greeting| child.state = State::Greeting(greeting))
                    }
                    Ok(Some(error)) | Err(error) => Err(error),
                };
                if let Err(error) = failed {
                    self.lost.push(child.lost(format!("its step daemon cannot be reached: {error}")));
                }
            }
            State::Greeting(mut greeting) => match greeting.hear(key) {
                Heard::Nothing => child.state = State::Greeting(greeting),
                Heard::Daemon { instance, proof } if instance == child.instance => {
                    let mut link = greeting.prove(proof);
                    let (own, below) = std::mem::take(&mut child.launch);
                    let common = Box::new(common.clone());
                    link.send(&ToDaemon::Launch { common, own: Box::new(own), below });
                    link.flush();
                    child.state = State::Running(link);
                }
                Heard::Daemon { .. } | Heard::Stranger => {
                    self.lost.push(child.lost("its step daemon did not prove itself".to_owned()));
                }
            },
            State::Running(mut link) => {
                link.flush();
                link.fill();
                child.state = State::Running(link);
            }
            State::Over => {}
        }
    }

    /// The next thing that a daemon has said, or that became of it.
    pub fn next(&mut self, place: usize) -> Option<News> {
        let child = &mut self.children[place];
        let State::Running(link) = &mut child.state else { return None };
        let problem = match link.next_frame() {
            Ok(Some(Frame::Message(message))) => {
                if message == FromDaemon::Done {
                    child.state = State::Over;
                }
                return Some(News::Message(message));
            }
            Ok(Some(Frame::Bytes { tag, stream, bytes })) => return Some(News::Bytes(tag, stream, bytes)),
            Ok(None) if link.is_open() => return None,
            Ok(None) => "its step daemon was lost".to_owned(),
            Err(problem) => format!("its step daemon cannot be understood: {problem}"),
        };
        child.state = State::Over;
        Some(News::Message(child.lost(problem)))
    }

    /// Losses to be told upwards; those who are late are among them.
    pub fn take_lost(&mut self) -> Vec<FromDaemon> {
        if Instant::now() >= self.connect_until {
            for child in &mut self.children {
                if matches!(child.state, State::Connecting(_) | State::Greeting(_)) {
                    child.state = State::Over;
                    let seconds = CONNECT_WITHIN.as_secs();
                    self.lost.push(child.lost(format!("its step daemon did not answer within {seconds} s")));
                }
            }
        }
        std::mem::take(&mut self.lost)
    }

    /// Tells all of them.
    pub fn tell(&mut self, message: &ToDaemon) {
        self.each_link(|_, link| link.send(message));
    }

    /// Gives all of them what all have brought to a barrier.
    pub fn give_fence(&mut self, bytes: &[u8]) {
        self.each_link(|_, link| link.send_bytes(0, Stream::Fence, bytes));
    }

    /// Gives all of them a part of the file that is sent.
    pub fn give_file(&mut self, bytes: &[u8]) {
        self.each_link(|_, link| link.send_bytes(0, Stream::File, bytes));
    }

    /// Whether somebody has so much to take that nothing more should be given to all of them.
    pub fn is_full(&self) -> bool {
        self.children.iter().any(|child| match &child.state {
            State::Running(link) => link.waiting_bytes() > OUTBOX_BYTES_FULL,
            _ => false,
        })
    }

    /// Gives input to those whose ranks it is for.
    pub fn give_input(&mut self, tag: u32, bytes: &[u8], common: &Common) {
        let node = common.node_of_rank.get(tag as usize).copied();
        self.each_link(|child, link| {
            let nodes = child.0..child.0 + child.1;
            if tag == ALL_RANKS || node.is_some_and(|node| nodes.contains(&node)) {
                link.send_bytes(tag, Stream::Stdin, bytes);
            }
        });
    }

    /// Ends all of them. Who has not been told what to start is let go, and ends by itself.
    pub fn kill(&mut self) {
        self.tell(&ToDaemon::Kill);
        for child in &mut self.children {
            if matches!(child.state, State::Connecting(_) | State::Greeting(_)) {
                child.state = State::Over;
            }
        }
    }

    fn each_link(&mut self, mut act: impl FnMut((u32, u32), &mut Link)) {
        for child in &mut self.children {
            if let State::Running(link) = &mut child.state {
                act((child.first, child.nodes), link);
                link.flush();
            }
        }
    }
}

impl Child {
    fn lost(&self, problem: String) -> FromDaemon {
        FromDaemon::Lost { node: self.first, below: self.nodes - 1, problem }
    }
}

/// Begins to connect, and does not wait for it.
fn connect((host, port): &(String, u16)) -> std::io::Result<TcpStream> {
    let address = (host.as_str(), *port).to_socket_addrs()?.next();
    let address = address.ok_or(std::io::ErrorKind::NotFound)?;
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and is nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let begun = match address {
        SocketAddr::V4(address) => {
            // SAFETY: a structure of numbers.
            let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            to.sin_family = libc::AF_INET as libc::sa_family_t;
            to.sin_port = address.port().to_be();
            to.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            begin_to_connect(&socket, &to)
        }
        SocketAddr::V6(address) => {
            // SAFETY: a structure of numbers.
            let mut to: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            to.sin6_port = address.port().to_be();
            to.sin6_addr.s6_addr = address.ip().octets();
            to.sin6_scope_id = address.scope_id();
            begin_to_connect(&socket, &to)
        }
    };
    begun.map(|()| TcpStream::from(socket))
}

fn begin_to_connect<A>(socket: &OwnedFd, address: &A) -> std::io::Result<()> {
    let length = std::mem::size_of::<A>() as libc::socklen_t;
    // SAFETY: the address is a structure of that length.
    let result = unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EINPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
