//! In which order a pool considers what waits.

use std::cmp::Ordering;

use crate::cluster::Order;
use crate::ids::{JobId, Timestamp};

/// Where a group of equal jobs stands in its pool's queue. What is greater comes first, as in a binary heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    pub priority: i32,
    /// Smaller comes first.
    pub score: f64,
    /// The oldest job of the group.
    pub job: JobId,
    /// The group.
    pub class: u32,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority
            .cmp(&other.priority)
            .then_with(|| other.score.total_cmp(&self.score))
            .then_with(|| other.job.cmp(&self.job))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

/// What an order looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// When the oldest job of the group came.
    pub since: Timestamp,
    /// Its time limit, in seconds; at least 1.
    pub limit_s: f64,
    /// Cores of one task.
    pub cores: f64,
}

/// The score of a group at `now`; smaller comes first. Among jobs of equal shape the older never scores worse.
pub(super) fn score(order: Order, shape: Shape, now: Timestamp) -> f64 {
    let wait_s = now.micros_since(shape.since) as f64 / 1e6;
    match order {
        Order::Fcfs => 0.0,
        Order::Sjf => shape.limit_s,
        Order::Default | Order::Wfp3 => {
            let ratio = wait_s / shape.limit_s;
            -(ratio * ratio * ratio * shape.cores)
        }
        Order::F1 => {
            let submitted_s = (shape.since.0 as f64 / 1e6).max(1.0);
            shape.limit_s.log10() * shape.cores + 870.0 * submitted_s.log10()
        }
    }
}
