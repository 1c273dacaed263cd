//! One direction of a link between the controller and a node: messages on it come late, twice, or in another order.
//!
//! Real links are streams that keep their order, and break as a whole. What is worse here is on purpose: the engine
//! is to need no more than that a node hears of one attempt in order. Copies of reports come at any time within
//! their session.

use std::collections::VecDeque;

use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use muster_core::input::{Effect, InstanceReport};

use crate::rng::Rng;

/// Longest that a link stands still, in microseconds.
const STALL_MAX_US: u64 = 4_000_000;

/// How often something went wrong with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mishaps {
    /// Times that a link stood still for a while.
    pub delayed: u64,
    /// Messages that came twice.
    pub doubled: u64,
    /// Messages that overtook others.
    pub reordered: u64,
    /// Messages that were lost, with their session or because there was none.
    pub lost: u64,
}

/// What travels.
pub(crate) trait Message: Clone {
    /// The attempt that it is about.
    fn key(&self) -> AttemptKey;
    /// Whether it may also overtake, or come again after, others about the same attempt.
    const ANY_ORDER: bool;
}

impl Message for Effect {
    const ANY_ORDER: bool = false;

    fn key(&self) -> AttemptKey {
        match self {
            Self::Prepare { key, .. }
            | Self::Go { key, .. }
            | Self::Stop { key, .. }
            | Self::Signal { key, .. }
            | Self::SignalStep { key, .. }
            | Self::AttachStep { key, .. }
            | Self::Forget { key, .. } => *key,
            // It is about no attempt, and keeps its order with others of its kind.
            Self::SetUp { .. } => {
                AttemptKey { task: TaskId { job: JobId(0), index: TaskIndex(0) }, attempt: 0 }
            }
        }
    }
}

impl Message for InstanceReport {
    const ANY_ORDER: bool = true;

    fn key(&self) -> AttemptKey {
        self.key
    }
}

/// Messages under way in one direction.
pub(crate) struct Link<M> {
    under_way: VecDeque<M>,
    still_until: Timestamp,
}

impl<M: Message> Link<M> {
    pub fn new() -> Self {
        Self { under_way: VecDeque::new(), still_until: Timestamp(0) }
    }

    /// Sends a message.
    pub fn send(&mut self, message: M, rng: &mut Rng, mishaps: &mut Mishaps) {
        if rng.one_in(25) {
            mishaps.doubled += 1;
            self.put(message.clone(), rng, mishaps);
        }
        self.put(message, rng, mishaps);
    }

    fn put(&mut self, message: M, rng: &mut Rng, mishaps: &mut Mishaps) {
        let last = self.under_way.iter().rposition(|other| other.key() == message.key());
        let first = if M::ANY_ORDER { 0 } else { last.map_or(0, |last| last + 1) };
        let places = (self.under_way.len() - first) as u64;
        if places > 0 && rng.one_in(10) {
            mishaps.reordered += 1;
            self.under_way.insert(first + rng.below(places) as usize, message);
        } else {
            self.under_way.push_back(message);
        }
    }

    /// The session breaks: everything under way is lost.
    pub fn cut(&mut self, mishaps: &mut Mishaps) {
        mishaps.lost += self.under_way.len() as u64;
        self.under_way.clear();
    }

    /// The link may stand still for a while.
    pub fn weather(&mut self, now: Timestamp, rng: &mut Rng, mishaps: &mut Mishaps) {
        if rng.one_in(60) {
            mishaps.delayed += 1;
            self.still_until = Timestamp(now.0 + rng.below(STALL_MAX_US));
        }
    }

    /// The next message that arrives at this instant, if one does.
    pub fn arrive(&mut self, now: Timestamp, rng: &mut Rng) -> Option<M> {
        if self.under_way.is_empty() || now < self.still_until || rng.one_in(3) {
            return None;
        }
        self.under_way.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use muster_core::ids::NodeId;

    use super::*;

    fn forget(job: u64, node: u32) -> Effect {
        let key = AttemptKey { task: TaskId { job: JobId(job), index: TaskIndex(0) }, attempt: 1 };
        Effect::Forget { node: NodeId(node), key }
    }

    #[test]
    fn messages_about_one_attempt_keep_their_order_and_all_arrive() {
        let (mut rng, mut mishaps) = (Rng::new(7), Mishaps::default());
        let mut link = Link::new();
        for i in 0..2_000 {
            link.send(forget(i % 5, i as u32), &mut rng, &mut mishaps);
        }
        let mut arrived = Vec::new();
        while !link.under_way.is_empty() {
            arrived.extend(link.arrive(Timestamp(1), &mut rng));
        }
        assert_eq!(arrived.len() as u64, 2_000 + mishaps.doubled);
        assert!(mishaps.doubled > 20 && mishaps.reordered > 50, "{mishaps:?}");
        for job in 0..5 {
            let of_job = arrived.iter().filter(|message| message.key().task.job == JobId(job));
            let order: Vec<u32> = of_job
                .map(|message| match message {
                    Effect::Forget { node, .. } => node.0,
                    _ => unreachable!(),
                })
                .collect();
            assert!(order.is_sorted(), "{order:?}");
        }
    }
}
