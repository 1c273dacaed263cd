//! What a pass considers of each pool, and in which order.

use std::collections::BinaryHeap;

use super::class;
use super::order::{Rank, Ranking};
use super::pass::Pass;
use crate::cluster::{Backfill, PoolConfig};
use crate::ids::JobId;

/// A pool's part of a pass, or that of an advance reservation in it.
pub(super) struct Queue {
    pub pool: usize,
    /// The first group of those that cannot fit, until it was looked at.
    pub blocked: Option<Rank>,
    /// Groups that might fit.
    pub ready: BinaryHeap<Rank>,
    pub head: Head,
    pub ranking: Ranking,
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

/// The queue whose first group comes first of all.
pub(super) fn first_queue(queues: &[Queue]) -> Option<usize> {
    let firsts = queues.iter().enumerate().filter_map(|(i, queue)| Some((i, queue.first()?)));
    // Sums can be compared with sums only; otherwise the priority decides, and then the age.
    let first = if queues.iter().all(|queue| matches!(queue.ranking, Ranking::Sum(_))) {
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
        let main = pools.iter().enumerate().map(|(i, pool)| {
            // Where every task has a reservation, nobody holds anybody up.
            let all = keeps_all(pool);
            let heads = self.planner.pools[i].classes.heads().filter(|(_, head)| all || !head.reserved);
            self.queue(i, pool, heads)
        });
        let mut queues: Vec<Queue> = main.collect();
        for (i, pool) in pools.iter().enumerate().filter(|(_, pool)| !keeps_all(pool)) {
            let known = &self.planner.pools[i].classes;
            queues.extend(self.reserved_classes(i).iter().map(|classes| {
                let heads = classes.iter().filter_map(|class| Some((*class, known.head(*class)?)));
                self.queue(i, pool, heads)
            }));
        }
        queues
    }

    /// Every one of these groups that might fit, and the first of those that cannot.
    fn queue<'h>(
        &self,
        index: usize,
        config: &PoolConfig,
        heads: impl Iterator<Item = (u32, &'h class::Head)>,
    ) -> Queue {
        let pool = &self.planner.pools[index];
        let ranking = Ranking::of_pool(config.order, &self.planner.config.policy.priority);
        let mut queue =
            Queue { pool: index, blocked: None, ready: BinaryHeap::new(), head: Head::Open, ranking };
        let mut ready = Vec::new();
        for (class, head) in heads {
            let score = ranking.score(head.shape, self.now);
            let (priority, between_pools) = (ranking.priority(head.priority), head.priority);
            let rank = Rank { priority, between_pools, score, job: head.job, class };
            let might_fit = head.cores <= pool.cores_free && head.nodes_min as usize <= pool.by_free.len();
            // What may not start must not stand for those that cannot fit: that shows only when it is looked at.
            if might_fit || self.explain || head.limited {
                ready.push(rank);
            } else if queue.blocked.is_none_or(|first| rank > first) {
                queue.blocked = Some(rank);
            }
        }
        queue.ready = BinaryHeap::from(ready);
        queue
    }
}
