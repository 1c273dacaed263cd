//! What all instances of an attempt are told alike.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use muster_core::event::{Allocation, Share};
use muster_core::gres::ShareGres;
use muster_core::ids::{AttemptKey, Timestamp};
use muster_core::state::State;
use muster_wire::{pack_members, v1};

use crate::engine_loop::chain;
use crate::secrets::{Secrets, SshKeys};

/// Gangs of more nodes are told their members packed: what each node is told grows with the gang, and what all are told with its
/// square.
const PLAIN_MEMBERS_MAX: usize = 64;

/// The gang that was told of last: its nodes are told one after another, and what is the same for all is made once.
#[derive(Default)]
pub struct Gangs(Mutex<Option<Last>>);

struct Last {
    key: AttemptKey,
    /// Of the state: in a later one, a node may have another address.
    at: Timestamp,
    gang: Arc<Gang>,
}

/// What the instances of an attempt are told alike.
pub(super) struct Gang {
    members: Members,
    pub token: String,
    /// Empty for a task on one node, which reaches no other: it has no SSH endpoint, and needs no key to one.
    pub keys: SshKeys,
}

enum Members {
    Plain(Vec<v1::Member>),
    Packed(Bytes),
}

impl Gangs {
    pub(super) fn of(
        &self,
        state: &State,
        secrets: &Secrets,
        key: AttemptKey,
        allocation: &Allocation,
    ) -> Arc<Gang> {
        if allocation.shares.len() == 1 {
            return Arc::new(Gang::new(state, secrets, key, allocation));
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if (last.key, last.at) == (key, state.at) => Arc::clone(&last.gang),
            _ => {
                let gang = Arc::new(Gang::new(state, secrets, key, allocation));
                *last = Some(Last { key, at: state.at, gang: Arc::clone(&gang) });
                gang
            }
        }
    }
}

impl Gang {
    fn new(state: &State, secrets: &Secrets, key: AttemptKey, allocation: &Allocation) -> Self {
        let plain = || allocation.shares.iter().map(|share| member(state, share)).collect::<Vec<_>>();
        let members = match allocation.shares.len() {
            ..=PLAIN_MEMBERS_MAX => Members::Plain(plain()),
            _ => pack_members(plain()).map(Members::Packed).unwrap_or_else(|error| {
                // The nodes say that they were told of no members, and the attempt fails with that.
                tracing::error!(attempt = %key, error = %chain(&error), "the members of a gang cannot be packed");
                Members::Plain(Vec::new())
            }),
        };
        let reaches_others = allocation.shares.len() > 1;
        let keys = if reaches_others { secrets.ssh_keys(key) } else { SshKeys::default() };
        Self { members, token: secrets.gang_token(key), keys }
    }

    /// The members, as they are, or packed.
    pub fn members(&self) -> (Vec<v1::Member>, Bytes) {
        match &self.members {
            Members::Plain(members) => (members.clone(), Bytes::new()),
            Members::Packed(packed) => (Vec::new(), packed.clone()),
        }
    }
}

fn member(state: &State, share: &Share) -> v1::Member {
    let node = state.node(share.node);
    v1::Member {
        host: node.name.clone(),
        cores: share.cores.iter().collect(),
        ranks: share.ranks,
        devices: share.gres.iter().map(devices).collect(),
        address: node.hardware().map_or_else(String::new, |found| found.address.clone()),
    }
}

fn devices(held: &ShareGres) -> v1::Devices {
    let kind = held.kind.clone().unwrap_or_default();
    v1::Devices { name: held.name.clone(), kind, numbers: held.devices.iter().collect() }
}
