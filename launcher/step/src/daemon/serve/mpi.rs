//! What ranks say to PMI and PMIx.

use std::io::{Read, Write};

use super::Serving;
use crate::daemon::pmix;
use crate::frames::FromDaemon;
use crate::pmi;

impl Serving {
    /// Ends the step if ranks of this node wait for all, and one has ended that can never come.
    pub(super) fn end_if_one_is_awaited_for_ever(&mut self) {
        let waits = !self.in_pmix.is_empty() || self.pmi.as_ref().is_some_and(pmi::Server::has_waiting);
        if let Some(rank) = self.absent.take_if(|_| waits) {
            let message = "ended before MPI_Init, for which the others wait".to_owned();
            self.link.send(&FromDaemon::Abort { rank, code: 1, message });
        }
    }

    pub(super) fn take_pmi(&mut self, place: usize) {
        let mut part = [0; 16 << 10];
        loop {
            let Some(socket) = self.ranks[place].pmi.as_mut() else { return };
            let count = match socket.read(&mut part) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => 0,
            };
            if count == 0 {
                return self.hang_up_pmi(place);
            }
            let Some(server) = &mut self.pmi else { return };
            let effects = server.receive(place, &part[..count]);
            self.carry_out(effects);
        }
    }

    /// A rank has closed its connection, or no longer takes answers because it was killed.
    fn hang_up_pmi(&mut self, place: usize) {
        self.ranks[place].pmi = None;
        let effects = self.pmi.as_mut().and_then(|server| server.closed(place));
        self.carry_out(effects.into_iter().collect());
    }

    /// Takes what PMIx has seen.
    pub(super) fn take_pmix(&mut self) {
        let Some(server) = &self.pmix else { return };
        for call in server.take() {
            match call {
                pmix::Call::Connected(rank) => {
                    self.in_pmix.insert(rank);
                    self.begun_pmix.insert(rank);
                }
                pmix::Call::Finalized(rank) => drop(self.in_pmix.remove(&rank)),
                pmix::Call::Abort { rank, code, message } => {
                    self.in_pmix.remove(&rank);
                    self.link.send(&FromDaemon::Abort { rank, code, message });
                }
                // All ranks are here, so nobody else needs to hear.
                pmix::Call::Fence { bytes, answer } if self.common.hosts.len() == 1 => answer.give(bytes),
                pmix::Call::Fence { bytes, answer } => {
                    self.pmix_fence = Some(answer);
                    self.bring_bytes(0, bytes);
                }
            }
        }
        self.end_if_one_is_awaited_for_ever();
        self.link.flush();
    }

    pub(super) fn carry_out(&mut self, effects: Vec<pmi::Effect>) {
        for effect in effects {
            match effect {
                pmi::Effect::Reply { place, bytes } => {
                    // A rank asks one thing at a time, so there is always room for an answer.
                    if let Some(socket) = &mut self.ranks[place].pmi
                        && socket.write_all(&bytes).is_err()
                    {
                        self.hang_up_pmi(place);
                    }
                }
                pmi::Effect::Fence(pairs) => self.bring(0, pairs),
                pmi::Effect::Abort { rank, code, message } => {
                    self.link.send(&FromDaemon::Abort { rank, code, message });
                }
            }
        }
        self.end_if_one_is_awaited_for_ever();
        self.link.flush();
    }
}
