//! The file that all nodes get before their ranks start.

use super::super::bcast::{Part, Sending};
use super::Conduct;
use super::heads::Head;
use crate::frames::{Stream, ToDaemon};

impl Conduct<'_> {
    /// Sends what the nodes take now of the file that they all get.
    pub(super) fn send_file(&mut self) {
        while self.sending.is_some() && self.heads.have_room() && !self.heads.iter().any(Head::is_awaited) {
            match self.sending.as_mut().map(Sending::next) {
                Some(Ok(Part::Bytes(bytes))) => self.heads.give(0, Stream::File, &bytes),
                Some(Ok(Part::End(sha256))) => {
                    self.heads.tell(&ToDaemon::FileSent { sha256 });
                    self.sending = None;
                }
                Some(Err(error)) => {
                    self.sending = None;
                    if self.ending.refused(0, &error.to_string()) {
                        self.kill();
                    }
                }
                None => {}
            }
        }
    }
}
