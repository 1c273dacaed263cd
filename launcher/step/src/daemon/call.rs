//! How a daemon comes to its launch: it calls the starter, or is called by the daemon above it. Each side proves to the
//! other that it knows the step's key before anything else is said.

use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::StepError;
use crate::auth::{self, Side};
use crate::frames::{Branch, Common, FromDaemon, Own, ToDaemon};
use crate::link::{Frame, Link};
use crate::words::DaemonStart;

/// How long the way to the starter, and its proof, may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// How long the launch may take to come: the starter waits for the daemons below before it sends it, and gives them
/// [`crate::client::START_WITHIN`].
const LAUNCH_WITHIN: Duration = Duration::from_secs(180);

/// How many that have not proved themselves may be connected at once.
const CALLERS_MAX: usize = 16;

/// A connection to the side above, and what it wants.
pub(crate) struct Launched {
    pub link: Link,
    pub common: Common,
    pub own: Own,
    pub below: Vec<Branch>,
}

/// A side above that has not sent a launch yet.
struct Above {
    link: Link,
    /// Its nonce and the own one, once it has challenged.
    nonces: Option<(String, String)>,
    proved: bool,
}

impl Above {
    fn new(stream: TcpStream) -> std::io::Result<Self> {
        Ok(Self { link: Link::new(stream)?, nonces: None, proved: false })
    }

    /// Takes what has arrived; gives the launch if it was that.
    fn hear(&mut self, start: &DaemonStart) -> Result<Option<(Common, Own, Vec<Branch>)>, String> {
        self.link.fill();
        loop {
            let message = match self.link.next_frame()? {
                Some(Frame::Message(message)) => message,
                Some(Frame::Bytes { .. }) => return Err("bytes came before the launch".to_owned()),
                None if !self.link.is_open() => return Err("it has hung up".to_owned()),
                None => return Ok(None),
            };
            match (message, &self.nonces) {
                (ToDaemon::Challenge { nonce: theirs }, None) => {
                    let ours = auth::nonce().map_err(|error| format!("no nonce can be made: {error}"))?;
                    let proof = auth::proof(&start.key, Side::Daemon(start.instance), &theirs, &ours);
                    self.link.send(&FromDaemon::Hello {
                        instance: start.instance,
                        nonce: ours.clone(),
                        proof,
                    });
                    self.link.flush();
                    self.nonces = Some((theirs, ours));
                }
                (ToDaemon::Proof { proof }, Some((theirs, ours))) => {
                    if !auth::holds(&proof, &start.key, Side::Starter, theirs, ours) {
                        return Err("it does not know the step's key".to_owned());
                    }
                    self.proved = true;
                    self.link.trust();
                }
                (ToDaemon::Launch { common, own, below }, Some(_)) if self.proved => {
                    return Ok(Some((*common, *own, below)));
                }
                _ => return Err("it does not say what comes next".to_owned()),
            }
        }
    }
}

/// Calls the starter and waits for the launch.
pub(crate) fn call(start: &DaemonStart) -> Result<Launched, StepError> {
    let wrong = |problem: String| StepError::protocol("the starter", problem);
    let mut above = Above::new(connect(start)?).map_err(StepError::system("use a connection"))?;
    let began = Instant::now();
    loop {
        if let Some((common, own, below)) = above.hear(start).map_err(wrong)? {
            return Ok(Launched { link: above.link, common, own, below });
        }
        let limit = if above.proved { LAUNCH_WITHIN } else { CONNECT_WITHIN };
        if !wait(&mut [PollFd::new(above.link.as_fd(), PollFlags::POLLIN)], began + limit)? {
            return Err(wrong("it says nothing".to_owned()));
        }
    }
}

/// Waits for the daemon above and its launch, until that comes or `line` to the supervisor is closed.
pub(super) fn be_called(
    start: &DaemonStart,
    listener: &TcpListener,
    line: BorrowedFd<'_>,
) -> Result<Launched, StepError> {
    let give_up = |problem: &str| StepError::protocol("the daemon above", problem);
    listener.set_nonblocking(true).map_err(StepError::system("use a port"))?;
    let mut callers: Vec<Above> = Vec::new();
    let until = Instant::now() + LAUNCH_WITHIN;
    loop {
        let mut fds =
            vec![PollFd::new(line, PollFlags::empty()), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(callers.iter().map(|caller| PollFd::new(caller.link.as_fd(), PollFlags::POLLIN)));
        if !wait(&mut fds, until)? {
            return Err(give_up("it did not come in time"));
        }
        if fds[0].any().unwrap_or(false) {
            return Err(give_up("it does not come any more, for the step is over"));
        }
        drop(fds);
        while let Ok((stream, _)) = listener.accept() {
            if callers.len() < CALLERS_MAX {
                callers.extend(Above::new(stream).ok());
            }
        }
        for place in (0..callers.len()).rev() {
            match callers[place].hear(start) {
                Ok(None) => {}
                Ok(Some((common, own, below))) => {
                    let link = callers.swap_remove(place).link;
                    return Ok(Launched { link, common, own, below });
                }
                Err(_) => drop(callers.swap_remove(place)),
            }
        }
    }
}

/// Waits until one of them is ready; not for longer than until then.
fn wait(fds: &mut [PollFd<'_>], until: Instant) -> Result<bool, StepError> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(fds, timeout) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(error) => Err(StepError::system("wait for the launch")(error)),
    }
}

fn connect(start: &DaemonStart) -> Result<TcpStream, StepError> {
    let (hosts, port) = (&start.starter.0, start.starter.1);
    let unreachable = |error: std::io::Error| StepError::Node {
        host: start.host.clone(),
        problem: format!("cannot reach the starter at {hosts}, port {port}: {error}"),
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    // A starter outside of the allocation has several addresses, and not all lead there.
    for host in hosts.split(',') {
        let addresses = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => {
                last = error;
                continue;
            }
        };
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
    }
    Err(unreachable(last))
}
