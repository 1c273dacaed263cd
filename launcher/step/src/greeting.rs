//! The side above of a new connection: it challenges, hears the daemon's proof, and proves itself.

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use crate::auth::{self, Side};
use crate::frames::{FromDaemon, ToDaemon};
use crate::link::{Frame, Link};

/// A connection whose other side has not yet proved itself.
#[derive(Debug)]
pub(crate) struct Greeting {
    link: Link,
    nonce: String,
}

/// What the other side has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing whole.
    Nothing,
    /// It is the daemon of this instance.
    Daemon {
        /// The instance.
        instance: u32,
        /// That this side knows the key as well.
        proof: String,
    },
    /// It is somebody else, or has hung up.
    Stranger,
}

impl Greeting {
    /// Sends the challenge.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn begin(stream: TcpStream) -> std::io::Result<Self> {
        let nonce = auth::nonce()?;
        let mut link = Link::new(stream)?;
        link.send(&ToDaemon::Challenge { nonce: nonce.clone() });
        link.flush();
        Ok(Self { link, nonce })
    }

    /// Takes what has arrived.
    pub fn hear(&mut self, key: &str) -> Heard {
        self.link.flush();
        self.link.fill();
        match self.link.next_frame::<FromDaemon>() {
            Ok(None) if self.link.is_open() => Heard::Nothing,
            Ok(Some(Frame::Message(FromDaemon::Hello { instance, nonce, proof })))
                if auth::holds(&proof, key, Side::Daemon(instance), &self.nonce, &nonce) =>
            {
                Heard::Daemon { instance, proof: auth::proof(key, Side::Starter, &self.nonce, &nonce) }
            }
            _ => Heard::Stranger,
        }
    }

    /// Proves this side; from here on both know each other.
    pub fn prove(mut self, proof: String) -> Link {
        self.link.trust();
        self.link.send(&ToDaemon::Proof { proof });
        self.link.flush();
        self.link
    }
}

impl AsFd for Greeting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
