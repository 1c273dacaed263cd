//! What is passed on between those below and the side above.

use std::collections::BTreeMap;

use super::Serving;
use crate::daemon::below::News;
use crate::frames::{FromDaemon, Stream};

impl Serving {
    /// The ranks of one part have been started.
    pub(super) fn count_started(&mut self) {
        self.unstarted = self.unstarted.saturating_sub(1);
        if self.unstarted == 0 {
            self.link.send(&FromDaemon::Started);
        }
    }

    /// The file that is sent is on the nodes of one part.
    pub(super) fn count_file(&mut self) {
        self.without_file = self.without_file.saturating_sub(1);
        if self.without_file == 0 {
            self.link.send(&FromDaemon::FileHere);
        }
    }

    /// Passes on what those below say, and counts what goes up as one.
    pub(super) fn take_below(&mut self, place: usize) {
        self.below.advance(place, &self.start.key, &self.common);
        while let Some(news) = self.below.next(place) {
            match news {
                News::Message(FromDaemon::Started) => self.count_started(),
                News::Message(FromDaemon::FileHere) => self.count_file(),
                News::Message(FromDaemon::Fence { pairs }) => self.bring(1 + place, pairs),
                News::Message(FromDaemon::Done | FromDaemon::Hello { .. }) => {}
                News::Message(message) => self.link.send(&message),
                News::Bytes(_, Stream::Fence, bytes) => self.bring_bytes(1 + place, bytes),
                News::Bytes(tag, stream, bytes) => self.link.send_bytes(tag, stream, &bytes),
            }
        }
        self.link.flush();
    }

    /// A part of the branch is in the barrier.
    pub(super) fn bring(&mut self, part: usize, pairs: BTreeMap<String, String>) {
        if let Some(pairs) = self.barrier.bring(part, pairs) {
            self.link.send(&FromDaemon::Fence { pairs });
        }
    }

    /// The same for PMIx.
    pub(super) fn bring_bytes(&mut self, part: usize, bytes: Vec<u8>) {
        if let Some(all) = self.barrier.bring_bytes(part, bytes) {
            self.link.send_bytes(self.own.position, Stream::Fence, &all);
        }
    }
}
