//! What nodes say that they use becomes one sample for their pool.

use super::event;
use crate::batch::{BatchEvent, NodeReading, NodeUse, PoolReadings, PoolTotals, PoolUse};
use crate::event::Event;
use crate::state::State;

/// What is heard of the nodes of a pool. It has no more of a node than that could have used, and nothing of one that is not its own.
pub(in crate::engine) fn heard(state: &State, readings: &PoolReadings) -> Vec<Event> {
    let Some(pool) = state.batch_pool(&readings.pool).filter(|pool| pool.deleting.is_none()) else {
        return Vec::new();
    };
    let known = |reading: &&NodeReading| (reading.node.0 as usize) < state.nodes.len();
    let within = |reading: &NodeReading, used: NodeUse| used.within(state.node(reading.node).memory_bytes);
    let mut own: Vec<&NodeReading> =
        readings.nodes.iter().filter(known).filter(|reading| pool.uses(reading.node)).collect();
    own.sort_unstable_by_key(|reading| reading.node);
    own.dedup_by_key(|reading| reading.node);
    let recent: Vec<NodeUse> = own.iter().map(|reading| within(reading, reading.recent)).collect();
    let recent: Vec<NodeUse> = recent.into_iter().filter(|used| used.period_ms > 0).collect();
    let all = own.into_iter().chain(readings.left.iter().filter(known));
    let more = PoolTotals::of(all.map(|reading| within(reading, reading.since)));
    if recent.is_empty() && more == PoolTotals::default() {
        return Vec::new();
    }
    let recent = (!recent.is_empty()).then(|| PoolUse::of(&recent));
    vec![event(BatchEvent::PoolUsed { pool: readings.pool.clone(), recent, more })]
}
