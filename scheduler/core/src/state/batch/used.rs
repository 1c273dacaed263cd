//! What the nodes of pools use: samples for formulas, and what adds up to the statistics of a pool's life.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::pool::BatchPool;
use crate::autoscale::{History, Metric, SAMPLE_PERIOD_S, Sample};
use crate::batch::{BatchPoolKey, NodeMove, PoolTotals, PoolUse, USED_EVERY_S};
use crate::ids::{NodeId, Timestamp};
use crate::state::State;

/// Samples that are kept of a pool: those of a day.
const SAMPLES_MAX: usize = 86_400 / SAMPLE_PERIOD_S as usize;
/// For how long the last sample is how a pool stands now, in microseconds.
const NOW_US: u64 = 3 * SAMPLE_PERIOD_S as u64 * 1_000_000;
/// By how much a sample may be early, so that a timer that is late now and then leaves out none, in microseconds.
const EARLY_US: u64 = 1_000_000;
const MIB: f64 = (1_u64 << 20) as f64;
const GIB: f64 = (1_u64 << 30) as f64;

/// What is known of what a pool's nodes use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// When it was first heard of one.
    pub since: Timestamp,
    /// When it was last heard of them.
    pub at: Timestamp,
    /// What all have used until then.
    pub totals: PoolTotals,
    /// The samples, the oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub samples: VecDeque<(Timestamp, PoolUse)>,
}

impl Used {
    fn begin(at: Timestamp) -> Self {
        Self { since: at, at, totals: PoolTotals::default(), samples: VecDeque::new() }
    }
}

impl BatchPool {
    /// It was heard of the nodes of a pool.
    pub(super) fn heard(&mut self, recent: Option<PoolUse>, more: PoolTotals, at: Timestamp) {
        let used = self.used.get_or_insert_with(|| Box::new(Used::begin(at)));
        used.at = at;
        used.totals = used.totals.plus(more);
        if let Some(recent) = recent {
            if used.samples.len() >= SAMPLES_MAX {
                used.samples.pop_front();
            }
            used.samples.push_back((at, recent));
        }
    }

    /// Whether it is to be heard of its nodes: as often as samples are taken while it scales itself, at once when that begins,
    /// and now and then otherwise, for its statistics.
    fn wants_to_hear(&self, now: Timestamp) -> bool {
        let Some(used) = &self.used else { return true };
        let every_s = match &self.scale {
            Some(scale) if scale.since > used.at => return true,
            Some(_) => u64::from(SAMPLE_PERIOD_S),
            None => USED_EVERY_S,
        };
        now.0.saturating_add(EARLY_US) >= used.at.plus_seconds(every_s).0
    }

    /// What formulas look at of a metric of what nodes use; none if it is another one, or nothing was heard yet.
    pub(super) fn use_history(&self, metric: Metric, now: Timestamp) -> Option<History> {
        let used = self.used.as_ref()?;
        let mut samples = Vec::with_capacity(used.samples.len());
        for (at, sample) in &used.samples {
            samples.push(Sample { at: *at, value: value(metric, sample)? });
        }
        let last = samples.last().filter(|last| now.micros_since(last.at) <= NOW_US);
        Some(History { current: last.map_or(0.0, |last| last.value), samples })
    }
}

fn value(metric: Metric, sample: &PoolUse) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "formulas are of floating-point numbers")]
    let number = |number: u64| number as f64;
    Some(match metric {
        Metric::CPUPercent => f64::from(sample.cpu_hundredths) / 100.0,
        Metric::WallClockSeconds => number(sample.node_ms) / 1000.0,
        Metric::MemoryBytes => number(sample.memory_bytes) / MIB,
        Metric::DiskBytes => number(sample.disk_bytes) / GIB,
        Metric::DiskReadBytes => number(sample.flows.disk_read_bytes),
        Metric::DiskWriteBytes => number(sample.flows.disk_write_bytes),
        Metric::DiskReadOps => number(sample.flows.disk_reads),
        Metric::DiskWriteOps => number(sample.flows.disk_writes),
        Metric::NetworkInBytes => number(sample.flows.network_in_bytes),
        Metric::NetworkOutBytes => number(sample.flows.network_out_bytes),
        _ => return None,
    })
}

impl State {
    /// The pools with the nodes that they have, and whether it is to be heard of these now.
    pub fn batch_nodes_to_hear(
        &self,
        now: Timestamp,
    ) -> impl Iterator<Item = (BatchPoolKey, bool, impl Iterator<Item = NodeId> + '_)> {
        let pools = self.batch.pools().filter(|(_, pool)| pool.deleting.is_none());
        pools.map(move |(key, pool)| (key, pool.wants_to_hear(now), pool.nodes_in_use()))
    }
}

impl BatchPool {
    /// The nodes that it has, in whatever way.
    fn nodes_in_use(&self) -> impl Iterator<Item = NodeId> + '_ {
        let has = |at: NodeMove| matches!(at, NodeMove::Lent | NodeMove::Leaving);
        self.nodes.iter().filter(move |(_, seat)| has(seat.at)).map(|(node, _)| *node)
    }

    /// Whether it has a node.
    pub(crate) fn uses(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|seat| matches!(seat.at, NodeMove::Lent | NodeMove::Leaving))
    }
}
