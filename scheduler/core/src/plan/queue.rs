//! What a pass considers of each pool, and in which order.

use std::collections::BinaryHeap;

use super::class;
use super::order::{Rank, Ranking};
use super::pass::Pass;
use crate::cluster::{Backfill, PoolConfig};
use crate::ids::JobId;
use crate::preempt::Standing;

/// A pool's part of a pass, or that of an advance reservation in it.
pub(super) struct Queue {
    pub pool: usize,
    /// The first group of those that cannot fit, until it was looked at.
    pub blocked: Option<Rank>,
    /// Those after it, the first of them last, once it has turned out that it can never run.
    pub others: Option<Vec<Rank>>,
    /// Groups that might fit.
    pub ready: BinaryHeap<Rank>,
    pub head: Head,
    pub ranking: Ranking,
    /// The groups of the advance reservation; none for the queue of those that use none.
    pub reserved: Option<Vec<u32>>,
}

/// The first job of a queue that does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Everything fitted so far.
    Open,
    /// It has a reservation, or stands in the way.
    Waits(JobId),
}

impl Queue {
    fn first(&self) -> Option<Rank> {
        self.ready.peek().copied().max(self.blocked)
    }
}

/// The queue of a tier whose first group comes first of all.
pub(super) fn first_queue(queues: &[Queue], of_tier: impl Fn(usize) -> bool) -> Option<usize> {
    let queues = || queues.iter().enumerate().filter(|(_, queue)| of_tier(queue.pool));
    let firsts = queues().filter_map(|(i, queue)| Some((i, queue.first()?)));
    // Sums can be compared with sums only; otherwise the priority decides, and then the age.
    let first = if queues().all(|(_, queue)| matches!(queue.ranking, Ranking::Sum(_))) {
        firsts.max_by_key(|(_, rank)| *rank)
    } else {
        firsts.max_by_key(|(_, rank)| (rank.between_pools, std::cmp::Reverse(rank.job)))
    };
    first.map(|(i, _)| i)
}

/// Whether every task of a pool has a reservation.
pub(super) fn keeps_all(pool: &PoolConfig) -> bool {
    pool.backfill == Backfill::Conservative
}

impl Pass<'_> {
    /// One queue for each pool, in their order, and then one for each advance reservation that is used in one of them:
    /// whoever waits in it holds up nobody outside.
    pub(super) fn queues(&self, pools: &[PoolConfig]) -> Vec<Queue> {
        let main = pools.iter().enumerate().map(|(i, pool)| self.queue(i, pool, None));
        let mut queues: Vec<Queue> = main.collect();
        // Where every task has a reservation, nobody holds anybody up.
        for (i, pool) in pools.iter().enumerate().filter(|(_, pool)| !keeps_all(pool)) {
            let reserved = self.reserved_classes(i).into_iter();
            queues.extend(reserved.map(|classes| self.queue(i, pool, Some(classes))));
        }
        queues
    }

    /// The groups of a queue with their oldest jobs.
    pub(super) fn heads<'p>(
        &'p self,
        pool: usize,
        reserved: &'p Option<Vec<u32>>,
    ) -> impl Iterator<Item = (u32, &'p class::Head)> + 'p {
        let classes = &self.planner.pools[pool].classes;
        let all = keeps_all(&self.planner.config.pools[pool]);
        let open = reserved.is_none().then(|| classes.heads().filter(move |(_, head)| all || !head.reserved));
        let of_reservation =
            reserved.iter().flatten().filter_map(|class| Some((*class, classes.head(*class)?)));
        open.into_iter().flatten().chain(of_reservation)
    }

    /// Every one of the groups that might fit, and the first of those that cannot.
    fn queue(&self, index: usize, config: &PoolConfig, reserved: Option<Vec<u32>>) -> Queue {
        let pool = &self.planner.pools[index];
        let ranking = Ranking::of_pool(config.order, &self.planner.config.policy.priority);
        let may_preempt = !self.planner.victims.are_none();
        let may_take_back = !pool.lent.is_empty() || self.state.was_given_back(None);
        let (mut blocked, mut ready): (Option<Rank>, _) = (None, Vec::new());
        for (class, head) in self.heads(index, &reserved) {
            let rank = ranking.rank(class, head, self.now);
            let might_fit = head.cores <= pool.cores_free && head.nodes_min as usize <= pool.by_free.len();
            let at = Some(index as u32);
            let stands =
                || Standing { pool: at, qos: head.qos, rank: self.planner.rights.rank(at, head.rank) };
            let might_preempt = may_preempt && self.planner.rights.over_anybody(stands());
            // What may not start must not stand for those that cannot fit: that shows only when it is looked at.
            if might_fit || self.explain || head.limited || might_preempt || may_take_back {
                ready.push(rank);
            } else if blocked.is_none_or(|first| rank > first) {
                blocked = Some(rank);
            }
        }
        let ready = BinaryHeap::from(ready);
        Queue { pool: index, blocked, others: None, ready, head: Head::Open, ranking, reserved }
    }
}
