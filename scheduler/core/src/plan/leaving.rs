//! What attempts leave behind when they end.

use super::room::NodeRoom;
use crate::event::{Allocation, Share};
use crate::ids::NodeId;
use crate::state::State;

/// What an attempt holds, in counts: close together in memory, because every reservation reads all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaving {
    One([HeldRoom; 1]),
    Many(Box<[HeldRoom]>),
}

/// What an attempt holds on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldRoom {
    pub node: NodeId,
    pub room: NodeRoom,
}

impl Leaving {
    pub fn of(state: &State, allocation: &Allocation) -> Self {
        let held =
            |share: &Share| HeldRoom { node: share.node, room: NodeRoom::of(state.node(share.node), share) };
        match &allocation.shares[..] {
            [share] => Self::One([held(share)]),
            shares => Self::Many(shares.iter().map(held).collect()),
        }
    }

    pub fn shares(&self) -> &[HeldRoom] {
        match self {
            Self::One(share) => share,
            Self::Many(shares) => shares,
        }
    }
}
