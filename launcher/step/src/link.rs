//! A connection that carries frames and never blocks: a length of four bytes, a kind of one, and the body. The body of
//! a message is JSON; that of bytes begins with a tag of four bytes and the number of a [`Stream`].

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frames::Stream;

/// The largest frame, in bytes: a launch with its environment.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// The largest frame before the other side has proved itself.
pub const GREETING_BYTES_MAX: usize = 4 << 10;

/// With so many bytes that wait to be sent, nothing more should be read that would be sent as well.
pub const OUTBOX_BYTES_FULL: usize = 1 << 20;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;

/// How often is read before what has arrived is looked at: somebody who sends without end fills no memory.
const READS_AT_ONCE: usize = 16;

const MESSAGE: u8 = 0;
const BYTES: u8 = 1;

/// What arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<M> {
    /// A message.
    Message(M),
    /// Bytes of a stream.
    Bytes {
        /// A rank, or what else the stream says.
        tag: u32,
        /// The stream.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    inbox: Vec<u8>,
    /// How much of the inbox has been taken.
    taken: usize,
    outbox: Vec<u8>,
    sent: usize,
    frame_bytes_max: usize,
    open: bool,
    /// The other side was told that nothing more comes.
    left: bool,
}

impl Link {
    /// Takes a connection whose other side has not yet proved itself.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn new(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            taken: 0,
            outbox: Vec::new(),
            sent: 0,
            frame_bytes_max: GREETING_BYTES_MAX,
            open: true,
            left: false,
        })
    }

    /// From now on frames may be as large as they need to.
    pub fn trust(&mut self) {
        self.frame_bytes_max = FRAME_BYTES_MAX;
    }

    /// Whether more may arrive.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// How many bytes wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Puts a message behind what waits to be sent.
    pub fn send(&mut self, message: &impl Serialize) {
        let body = serde_json::to_vec(message).unwrap_or_default();
        self.put(MESSAGE, &[&body]);
    }

    /// Puts bytes behind what waits to be sent.
    pub fn send_bytes(&mut self, tag: u32, stream: Stream, bytes: &[u8]) {
        self.put(BYTES, &[&tag.to_be_bytes(), &[stream as u8], bytes]);
    }

    fn put(&mut self, kind: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        self.outbox.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        self.outbox.push(kind);
        for part in parts {
            self.outbox.extend_from_slice(part);
        }
    }

    /// Sends what the system takes now. A connection that is broken loses what waits; reading finds out.
    pub fn flush(&mut self) {
        while self.sent < self.outbox.len() {
            match self.stream.write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.outbox.clear();
        self.sent = 0;
    }

    /// Says the last: sends what waits, and once that is done tells the other side that nothing more comes. What arrives
    /// is thrown away. To be called whenever the connection is ready, until it is no longer open, which is when the
    /// other side has closed it. Closed any earlier, with something unread, the system would reset the connection, and
    /// what the other side has not taken would be lost (RFC 1122, 4.2.2.13).
    pub fn take_leave(&mut self) {
        self.flush();
        if self.outbox.is_empty() && !std::mem::replace(&mut self.left, true) {
            let _it_is_gone_already = self.stream.shutdown(Shutdown::Write);
        }
        self.fill();
        self.inbox.clear();
        self.taken = 0;
    }

    /// Takes what has arrived.
    pub fn fill(&mut self) {
        self.inbox.drain(..self.taken);
        self.taken = 0;
        let mut part = [0; READ_BYTES];
        for _ in 0..READS_AT_ONCE {
            match self.stream.read(&mut part) {
                Ok(0) => self.open = false,
                Ok(count) => {
                    self.inbox.extend_from_slice(&part[..count]);
                    if count == part.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.open = false,
            }
            return;
        }
    }

    /// The next whole frame of what has arrived.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the connection is of no more use then.
    pub fn next_frame<M: DeserializeOwned>(&mut self) -> Result<Option<Frame<M>>, String> {
        let waiting = &self.inbox[self.taken..];
        let Some((length, rest)) = waiting.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > self.frame_bytes_max {
            return Err(format!("a frame of {length} bytes; at most {} are taken", self.frame_bytes_max));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let read = read_frame(frame);
        self.taken += 4 + length;
        read.map(Some)
    }
}

fn read_frame<M: DeserializeOwned>(frame: &[u8]) -> Result<Frame<M>, String> {
    match frame {
        [MESSAGE, body @ ..] => serde_json::from_slice(body)
            .map(Frame::Message)
            .map_err(|error| format!("a message is wrong: {error}")),
        [BYTES, a, b, c, d, number, bytes @ ..] => {
            let stream =
                Stream::from_number(*number).ok_or_else(|| format!("there is no stream {number}"))?;
            Ok(Frame::Bytes { tag: u32::from_be_bytes([*a, *b, *c, *d]), stream, bytes: bytes.to_vec() })
        }
        _ => Err("a frame of no known kind".to_owned()),
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Link, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Link::new(listener.accept().unwrap().0).unwrap(), Link::new(there).unwrap())
    }

    /// The next frame, once it has arrived.
    fn receive(from: &mut Link, to: &mut Link) -> Result<Frame<String>, String> {
        loop {
            from.flush();
            to.fill();
            if let Some(frame) = to.next_frame()? {
                return Ok(frame);
            }
            assert!(to.is_open());
        }
    }

    #[test]
    fn frames_arrive_whole_and_in_order_however_large() {
        let (mut here, mut there) = pair();
        there.trust();
        let long = vec![7u8; 3 << 20];
        here.send(&"hello");
        here.send_bytes(5, Stream::Stderr, &long);
        here.send_bytes(ALL, Stream::Stdin, &[]);
        assert_eq!(receive(&mut here, &mut there), Ok(Frame::Message("hello".to_owned())));
        assert_eq!(
            receive(&mut here, &mut there),
            Ok(Frame::Bytes { tag: 5, stream: Stream::Stderr, bytes: long })
        );
        assert_eq!(
            receive(&mut here, &mut there),
            Ok(Frame::Bytes { tag: ALL, stream: Stream::Stdin, bytes: Vec::new() })
        );
    }

    const ALL: u32 = crate::frames::ALL_RANKS;

    #[test]
    fn who_has_not_proved_itself_may_not_send_much() {
        let (mut here, mut there) = pair();
        here.send_bytes(0, Stream::Stdin, &vec![0; GREETING_BYTES_MAX]);
        assert!(receive(&mut here, &mut there).unwrap_err().contains("at most 4096"));
    }

    #[test]
    fn nothing_is_lost_by_who_leaves_while_something_comes() {
        let (mut here, mut there) = pair();
        there.trust();
        let long = vec![7u8; 3 << 20];
        here.send_bytes(5, Stream::Stderr, &long);
        there.send(&"wait");
        there.flush();
        let leaves = std::thread::spawn(move || {
            while here.is_open() {
                here.take_leave();
            }
        });
        let mut nothing = Link::new(there.stream.try_clone().unwrap()).unwrap();
        let all = Frame::Bytes { tag: 5, stream: Stream::Stderr, bytes: long };
        assert_eq!(receive(&mut nothing, &mut there), Ok(all));
        drop((nothing, there));
        leaves.join().unwrap();
    }

    #[test]
    fn an_end_is_seen() {
        let (here, mut there) = pair();
        drop(here);
        while there.is_open() {
            there.fill();
        }
        assert_eq!(there.next_frame::<String>(), Ok(None));
    }
}
