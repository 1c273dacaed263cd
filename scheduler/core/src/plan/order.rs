//! In which order a pool considers what waits.

use std::cmp::Ordering;

use super::class::Head;
use crate::cluster::{Backfill, Order, PriorityPolicy};
use crate::ids::{JobId, Timestamp};
use crate::priority::Age;

/// Where a group of equal jobs stands in its pool's queue. What is greater comes first, as in a binary heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    /// Goes before the score; 0 where the priority is a part of it.
    pub priority: i32,
    /// The job's priority, which counts between pools.
    pub between_pools: i32,
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
    /// Its priority sum without its age, in pools with the order `multifactor`.
    pub standing: f64,
}

/// By what a pass ranks groups of equal jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ranking {
    /// The pool's order.
    Order(Order),
    /// The order `multifactor`: the greatest priority sum first.
    Sum(Age),
    /// The shortest time limit first.
    Shortest,
    /// The shortest first, where a day of waiting counts as much as a day less to run.
    Overtaking,
}

impl Ranking {
    /// How the jobs of a pool are ranked.
    pub fn of_pool(order: Order, policy: &PriorityPolicy) -> Self {
        if order == Order::Multifactor { Self::Sum(Age::new(policy)) } else { Self::Order(order) }
    }

    /// The priority that goes before the score, of jobs of this priority.
    pub fn priority(self, priority: i32) -> i32 {
        if matches!(self, Self::Sum(_)) { 0 } else { priority }
    }

    /// Where a group stands at `now`.
    pub fn rank(self, class: u32, head: &Head, now: Timestamp) -> Rank {
        Rank {
            priority: self.priority(head.priority),
            between_pools: head.priority,
            score: self.score(head.shape, now),
            job: head.job,
            class,
        }
    }

    /// How what may overtake is ranked, once the first job has its reservation.
    pub fn of_backfill(self, order: Order, backfill: Backfill) -> Self {
        match (backfill, order) {
            (Backfill::EasyShortest, _) => Self::Shortest,
            (Backfill::Easy, Order::Default) => Self::Overtaking,
            _ => self,
        }
    }

    /// The score of a group at `now`; smaller comes first. Among jobs of equal shape the older never scores worse.
    pub fn score(self, shape: Shape, now: Timestamp) -> f64 {
        let wait_s = now.micros_since(shape.since) as f64 / 1e6;
        match self {
            Self::Order(Order::Fcfs | Order::Multifactor) => 0.0,
            Self::Order(Order::Sjf) | Self::Shortest => shape.limit_s,
            Self::Order(Order::Wfp3) => {
                let ratio = wait_s / shape.limit_s;
                -(ratio * ratio * ratio * shape.cores)
            }
            Self::Order(Order::F1) => {
                let submitted_s = (shape.since.0 as f64 / 1e6).max(1.0);
                shape.limit_s.log10() * shape.cores + 870.0 * submitted_s.log10()
            }
            Self::Sum(age) => -(shape.standing + age.factor(shape.since, now).part()),
            Self::Order(Order::Default) => shape.since.0 as f64 / 1e6 + slack_s(shape.limit_s),
            Self::Overtaking => shape.limit_s / (wait_s + DAY_S),
        }
    }
}

const DAY_S: f64 = 86_400.0;

/// How long after its submission a job of this time limit is due, in seconds: three times its limit, but at most two
/// days unless the limit is longer than one, then twice its limit.
///
/// Jobs are considered by the instant at which they are due. That instant never moves, so whatever is submitted after
/// a job was due stays behind it: the slack bounds how long others may go on to come before it.
fn slack_s(limit_s: f64) -> f64 {
    (3.0 * limit_s).min((2.0 * DAY_S).max(2.0 * limit_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_due_by_its_time_limit_and_no_later_than_the_bound() {
        assert_eq!(slack_s(3_600.0), 3.0 * 3_600.0);
        assert_eq!(slack_s(20.0 * 3_600.0), 2.0 * DAY_S);
        assert_eq!(slack_s(5.0 * DAY_S), 10.0 * DAY_S);
    }

    #[test]
    fn the_older_of_equal_jobs_comes_first_in_every_ranking() {
        let orders = [Order::Default, Order::Fcfs, Order::Sjf, Order::Wfp3, Order::F1].map(Ranking::Order);
        let sum = Ranking::of_pool(Order::Multifactor, &PriorityPolicy::default());
        for ranking in orders.into_iter().chain([Ranking::Shortest, Ranking::Overtaking, sum]) {
            let at = |since_s: u64| {
                let shape = Shape {
                    since: Timestamp(since_s * 1_000_000),
                    limit_s: 600.0,
                    cores: 4.0,
                    standing: 7.5,
                };
                ranking.score(shape, Timestamp(10_000_000_000))
            };
            for since_s in 1..5_000 {
                assert!(at(since_s) <= at(since_s + 1), "{ranking:?} at {since_s}");
            }
        }
    }
}
