//! When attempts leave at the latest, and what they leave behind.

use super::index::Planner;
use super::room::NodeRoom;
use crate::event::{Allocation, Event, Share};
use crate::ids::{AttemptKey, JobId, NodeId, Timestamp};
use crate::state::{Live, State};

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

/// What an event takes an attempt from: nobody remembers it afterwards.
pub(super) struct Left {
    node: NodeId,
    /// The attempt behind it in its line.
    behind: Option<AttemptKey>,
}

impl Left {
    pub fn by(state: &State, event: &Event) -> Option<Self> {
        let (key, instance) = match event {
            Event::InstanceGone { key, instance, .. } | Event::InstanceLost { key, instance } => {
                (*key, *instance)
            }
            Event::AttemptReturned { key } | Event::AttemptRan { key, .. } => (*key, 0),
            _ => return None,
        };
        let live = state.live_attempt(key.task)?;
        let node = live.allocation.shares.get(instance as usize)?.node;
        Some(Self { node, behind: state.behind(key) })
    }
}

impl Planner {
    /// An attempt may have left something to the one behind it in its line, or a node that gave it back has room.
    pub(super) fn follow_left(&mut self, state: &State, left: &Left) {
        if let Some(heir) =
            left.behind.filter(|key| state.live_attempt(key.task).is_some_and(Live::holds_allocation))
        {
            self.end_moved(state, heir);
            self.note_heir(state, heir);
        }
        self.look_at(state, left.node);
        self.changed = true;
    }

    pub(super) fn end_moved(&mut self, state: &State, key: AttemptKey) {
        let Some(job) = state.jobs.get(&key.task.job) else { return };
        let Some(live) = job.live.get(&key.task.index).filter(|live| live.holds_allocation()) else { return };
        let end = live.deadline(job.spec.time_limit_s).unwrap_or(Timestamp(u64::MAX));
        if self.end_of.get(&key) != Some(&end) {
            self.forget_end(key);
            self.remember_end(state, key, end, &live.allocation);
        }
        self.follow_victim(state, key, job, &live.phase);
    }

    pub(super) fn remember_end(
        &mut self,
        state: &State,
        key: AttemptKey,
        end: Timestamp,
        allocation: &Allocation,
    ) {
        self.ends.insert((end, key), Leaving::of(state, allocation));
        if self.end_of.insert(key, end).is_none() {
            *self.holders.entry(key.task.job).or_default() += 1;
        }
    }

    /// How many attempts of a job hold an allocation, those included that were placed in this pass.
    pub(super) fn holders(&self, job: JobId) -> usize {
        self.holders.get(&job).copied().unwrap_or_default()
    }

    /// Counts anew what the attempts on a node hold, after its cores turned out to be of other kinds.
    pub(super) fn recount_ends(&mut self, state: &State, node: NodeId) {
        for key in &state.node(node).attempts {
            let Some(live) = state.live_attempt(key.task) else { continue };
            if let Some(leaving) = self.end_of.get(key).and_then(|end| self.ends.get_mut(&(*end, *key))) {
                *leaving = Leaving::of(state, &live.allocation);
            }
        }
    }

    pub(super) fn forget_end(&mut self, key: AttemptKey) {
        let Some(end) = self.end_of.remove(&key) else { return };
        if let Some(holders) = self.holders.get_mut(&key.task.job) {
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(&key.task.job);
            }
        }
        let Some(leaving) = self.ends.remove(&(end, key)) else { return };
        self.left_until(&leaving, end);
    }

    fn left_until(&mut self, leaving: &Leaving, end: Timestamp) {
        for share in leaving.shares() {
            for (pool, _) in &self.nodes[share.node.0 as usize].seats {
                let pool = &mut self.pools[*pool as usize];
                pool.left_until = pool.left_until.max(end);
            }
        }
    }

    /// An attempt that would have ended at `end` at the latest leaves earlier.
    pub(super) fn left_early(&mut self, key: AttemptKey, end: Timestamp) {
        let known = self.end_of.get(&key).and_then(|end| self.ends.get(&(*end, key)));
        if let Some(leaving) = known.cloned() {
            self.left_until(&leaving, end);
        }
    }
}
