//! Which nodes are to be made ready for a job's tasks, and cleaned at the job's end.

use std::sync::Arc;

use super::chore::{ChoreState, can_run};
use super::job::{BatchJob, JobPhase, JobWord};
use super::pool::BatchPool;
use crate::batch::{BatchJobKey, BatchPoolKey, ChoreKey};
use crate::cluster::Fill;
use crate::ids::NodeId;
use crate::state::State;

/// Whether something of a job's chores runs, or is to run.
pub(super) fn are_at_rest(state: &State, key: &BatchJobKey, job: &BatchJob) -> bool {
    job.nodes.iter().all(|(node, row)| {
        let release = row.release.as_ref();
        let is_due = release.is_some_and(|run| run.state == ChoreState::Due);
        row.preparation.made().is_none()
            && release.is_none_or(|run| run.made().is_none())
            && !(is_due && can_run(state, &ChoreKey::release(key, *node)))
    })
}

/// The nodes on which the release of a job is to run now that nothing else of it does.
pub(super) fn to_be_released<'a>(
    state: &'a State,
    key: &'a BatchJobKey,
    job: &'a BatchJob,
) -> impl Iterator<Item = NodeId> + 'a {
    let had_ended = matches!(job.previous, Some((JobWord::Completed, _)));
    let is_wanted = job.spec.release.is_some() && !had_ended;
    let rows = job.nodes.iter().filter(move |(_, row)| {
        let has_run = row.preparation.is_over() || row.is_stale;
        is_wanted && has_run && row.release.is_none()
    });
    rows.map(|(node, _)| *node).filter(|node| can_run(state, &ChoreKey::release(key, *node)))
}

/// How many slots are free on a node of a pool, by its cores.
fn free_slots(state: &State, pool: &BatchPool, node: NodeId, slot_cores: u32) -> u64 {
    let free = state.node(node).free.len() / slot_cores.max(1);
    u64::from(free.min(pool.spec.slots_per_node))
}

/// The nodes that are to be prepared for a job, so that its tasks that wait find room.
pub(super) fn to_be_prepared(state: &State, key: &BatchJobKey, job: &BatchJob) -> Vec<NodeId> {
    let pool_key = BatchPoolKey { account: Arc::clone(&key.account), pool: job.spec.pool.clone() };
    let Some(pool) = state.batch.pool(&pool_key).filter(|pool| pool.deleting.is_none()) else {
        return Vec::new();
    };
    let waits = job.queued > 0 || !job.ready.is_empty();
    if job.spec.preparation.is_none() || job.phase != JobPhase::Active || !waits {
        return Vec::new();
    }
    let slot_cores = state
        .smallest_node(&pool.spec.home)
        .map_or(1, |(cores, _)| (cores / pool.spec.slots_per_node.max(1)).max(1));
    let (mut free, mut candidates): (u64, Vec<(u32, NodeId)>) = (0, Vec::new());
    for (node, seat) in &pool.nodes {
        let is_there = pool.takes_work(seat) && state.node(*node).takes_work();
        match job.nodes.get(node).filter(|row| row.pool == job.spec.pool) {
            Some(row) if is_there && row.is_ready(job) => free += free_slots(state, pool, *node, slot_cores),
            Some(row) if is_there && row.is_being_prepared() => free += u64::from(pool.spec.slots_per_node),
            Some(row) if !row.may_be_prepared() => {}
            Some(_) | None if is_there && free_slots(state, pool, *node, slot_cores) > 0 => {
                candidates.push((state.node(*node).free.len(), *node));
            }
            Some(_) | None => {}
        }
    }
    if candidates.is_empty() {
        return Vec::new();
    }
    let lacking = job.slots_wanted(pool, pool.all_slots().saturating_add(free)).saturating_sub(free);
    let nodes = lacking.div_ceil(u64::from(pool.spec.slots_per_node.max(1)));
    match pool.spec.fill {
        Fill::Pack => candidates.sort_unstable(),
        Fill::Spread => candidates.sort_unstable_by_key(|(free, node)| (std::cmp::Reverse(*free), *node)),
    }
    let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
    candidates.into_iter().take(nodes).map(|(_, node)| node).collect()
}

impl BatchJob {
    /// How many slots its tasks could use that wait, counted up to `most`.
    fn slots_wanted(&self, pool: &BatchPool, most: u64) -> u64 {
        let running = (self.made.len() as u64).saturating_sub(self.queued);
        let tasks = self.spec.running_max.map_or(u64::MAX, u64::from).saturating_sub(running);
        let tasks = usize::try_from(tasks).unwrap_or(usize::MAX);
        let mut wanted = self.queued.min(tasks as u64);
        let ready = self.ready.iter().filter(|(slots, instances, ..)| pool.holds(*slots, *instances));
        for (slots, instances, ..) in ready.take(tasks) {
            if wanted >= most {
                break;
            }
            wanted += u64::from(*slots) * u64::from(*instances);
        }
        wanted
    }
}

impl State {
    /// Nodes that are to be prepared for a job.
    #[must_use]
    pub fn batch_to_prepare(&self, key: &BatchJobKey, job: &BatchJob) -> Vec<NodeId> {
        to_be_prepared(self, key, job)
    }

    /// Nodes on which a job's release task is to run.
    #[must_use]
    pub fn batch_to_release(&self, key: &BatchJobKey, job: &BatchJob) -> Vec<NodeId> {
        to_be_released(self, key, job).collect()
    }
}
