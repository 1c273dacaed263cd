//! What the nodes of pools use of their cores, memory, disks and networks.
//!
//! Nodes say it of themselves, so it is taken with care: [`NodeUse::within`] leaves none of them more than it could have used.

use serde::{Deserialize, Serialize};

use super::ids::BatchPoolKey;
use crate::ids::NodeId;

/// How far apart what is kept for a pool's statistics is, in seconds, unless the pool scales itself.
pub const USED_EVERY_S: u64 = 600;
/// The longest time for which a node speaks at once, in milliseconds: longer ones are of no interest any more.
pub const USED_PERIOD_MS_MAX: u64 = 24 * 3_600_000;

/// No node has larger disks, in bytes: 1 PiB.
const DISK_BYTES_MAX: u64 = 1 << 50;
/// No node reads, writes, receives or sends more in a millisecond, in bytes: 1 TiB a second.
const BYTES_PER_MS_MAX: u64 = (1 << 40) / 1000;
/// No node does more reads or writes in a millisecond: 100 million a second.
const OPERATIONS_PER_MS_MAX: u64 = 100_000;
const MIB: u128 = 1 << 20;

/// What went through disks and networks, in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flows {
    /// Bytes that were read from disks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_read_bytes: u64,
    /// Bytes that were written to disks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_write_bytes: u64,
    /// Reads from disks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_reads: u64,
    /// Writes to disks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_writes: u64,
    /// Bytes that were received.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub network_in_bytes: u64,
    /// Bytes that were sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub network_out_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Flows {
    fn combined(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            disk_read_bytes: with(self.disk_read_bytes, other.disk_read_bytes),
            disk_write_bytes: with(self.disk_write_bytes, other.disk_write_bytes),
            disk_reads: with(self.disk_reads, other.disk_reads),
            disk_writes: with(self.disk_writes, other.disk_writes),
            network_in_bytes: with(self.network_in_bytes, other.network_in_bytes),
            network_out_bytes: with(self.network_out_bytes, other.network_out_bytes),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.combined(other, u64::saturating_add)
    }

    /// At most what a node can do in so many milliseconds.
    fn within(self, period_ms: u64) -> Self {
        let bytes = period_ms.saturating_mul(BYTES_PER_MS_MAX);
        let operations = period_ms.saturating_mul(OPERATIONS_PER_MS_MAX);
        let most = Self {
            disk_read_bytes: bytes,
            disk_write_bytes: bytes,
            disk_reads: operations,
            disk_writes: operations,
            network_in_bytes: bytes,
            network_out_bytes: bytes,
        };
        self.combined(most, u64::min)
    }
}

/// What a node has used in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeUse {
    /// How long that was, in milliseconds.
    pub period_ms: u64,
    /// For how long all of its cores were busy, or twice as long half of them, in milliseconds.
    pub busy_ms: u64,
    /// Memory in use, on average, in bytes.
    pub memory_bytes: u64,
    /// The most memory in use, in bytes.
    pub memory_peak_bytes: u64,
    /// What its disks held, on average, in bytes.
    pub disk_bytes: u64,
    /// The most that they held, in bytes.
    pub disk_peak_bytes: u64,
    /// What went through disks and networks.
    pub flows: Flows,
}

impl NodeUse {
    /// No more than a node with so much memory can have used.
    #[must_use]
    pub fn within(self, memory_bytes: u64) -> Self {
        let period_ms = self.period_ms.min(USED_PERIOD_MS_MAX);
        Self {
            period_ms,
            busy_ms: self.busy_ms.min(period_ms),
            memory_bytes: self.memory_bytes.min(memory_bytes),
            memory_peak_bytes: self.memory_peak_bytes.min(memory_bytes),
            disk_bytes: self.disk_bytes.min(DISK_BYTES_MAX),
            disk_peak_bytes: self.disk_peak_bytes.min(DISK_BYTES_MAX),
            flows: self.flows.within(period_ms),
        }
    }

    /// What the same node has used in this time and in another one together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let period_ms = self.period_ms.saturating_add(other.period_ms);
        let mean = |a: u64, b: u64| {
            let sum = over(a, self.period_ms) + over(b, other.period_ms);
            to_u64(sum / u128::from(period_ms.max(1)))
        };
        Self {
            period_ms,
            busy_ms: self.busy_ms.saturating_add(other.busy_ms),
            memory_bytes: mean(self.memory_bytes, other.memory_bytes),
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            disk_bytes: mean(self.disk_bytes, other.disk_bytes),
            disk_peak_bytes: self.disk_peak_bytes.max(other.disk_peak_bytes),
            flows: self.flows.plus(other.flows),
        }
    }
}

/// So much for so long.
fn over(amount: u64, period_ms: u64) -> u128 {
    u128::from(amount) * u128::from(period_ms)
}

fn to_u64(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What is heard of the nodes of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolReadings {
    /// The pool.
    pub pool: BatchPoolKey,
    /// Its nodes, each at most once.
    pub nodes: Vec<NodeReading>,
    /// What nodes used that have left it since it was last heard of them.
    pub left: Vec<NodeReading>,
}

/// What is heard of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeReading {
    /// The node.
    pub node: NodeId,
    /// In the last time, as long as a sample stands for.
    pub recent: NodeUse,
    /// Since it was last heard of the node, as one of this pool.
    pub since: NodeUse,
}

/// A sample of what the nodes of a pool use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolUse {
    /// How many nodes were heard of.
    pub nodes: u32,
    /// The time of all of them together, in milliseconds.
    pub node_ms: u64,
    /// How busy their cores were, on average, in hundredths of a per cent.
    pub cpu_hundredths: u32,
    /// Memory in use on a node, on average, in bytes.
    pub memory_bytes: u64,
    /// What the disks of a node hold, on average, in bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disk_bytes: u64,
    /// What went through the disks and networks of all of them.
    #[serde(flatten)]
    pub flows: Flows,
}

impl PoolUse {
    /// What these nodes have used in the same time.
    #[must_use]
    pub fn of(nodes: &[NodeUse]) -> Self {
        let count = nodes.len() as u128;
        let mean = |of: fn(&NodeUse) -> u64| {
            to_u64(nodes.iter().map(|node| u128::from(of(node))).sum::<u128>() / count.max(1))
        };
        // Each node counts the same, however long it was looked at.
        let busy = |node: &NodeUse| over(node.busy_ms, 10_000) / u128::from(node.period_ms.max(1));
        let busy = nodes.iter().map(busy).sum::<u128>() / count.max(1);
        Self {
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            node_ms: nodes.iter().fold(0, |sum, node| sum.saturating_add(node.period_ms)),
            cpu_hundredths: u32::try_from(busy).unwrap_or(u32::MAX),
            memory_bytes: mean(|node| node.memory_bytes),
            disk_bytes: mean(|node| node.disk_bytes),
            flows: nodes.iter().fold(Flows::default(), |sum, node| sum.plus(node.flows)),
        }
    }
}

/// What the nodes of a pool have used, added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolTotals {
    /// The time of all nodes together of which it was heard, in milliseconds.
    pub node_ms: u64,
    /// For how long of it all cores of a node were busy, in milliseconds.
    pub busy_ms: u64,
    /// Memory in use and for how long, over all nodes, in MiB times seconds.
    pub memory_mib_s: u64,
    /// The most memory in use on one node, in bytes.
    pub memory_peak_bytes: u64,
    /// What disks held and for how long, over all nodes, in MiB times seconds.
    pub disk_mib_s: u64,
    /// The most that the disks of one node held, in bytes.
    pub disk_peak_bytes: u64,
    /// What went through disks and networks.
    #[serde(flatten)]
    pub flows: Flows,
}

impl PoolTotals {
    /// What these nodes have used, each in a time of its own.
    #[must_use]
    pub fn of(nodes: impl Iterator<Item = NodeUse>) -> Self {
        let (mut totals, mut memory, mut disk) = (Self::default(), 0_u128, 0_u128);
        for node in nodes {
            totals.node_ms = totals.node_ms.saturating_add(node.period_ms);
            totals.busy_ms = totals.busy_ms.saturating_add(node.busy_ms);
            memory += over(node.memory_bytes, node.period_ms);
            totals.memory_peak_bytes = totals.memory_peak_bytes.max(node.memory_peak_bytes);
            disk += over(node.disk_bytes, node.period_ms);
            totals.disk_peak_bytes = totals.disk_peak_bytes.max(node.disk_peak_bytes);
            totals.flows = totals.flows.plus(node.flows);
        }
        let mib_s = |bytes_ms: u128| to_u64((bytes_ms + MIB * 500) / (MIB * 1000));
        Self { memory_mib_s: mib_s(memory), disk_mib_s: mib_s(disk), ..totals }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self {
            node_ms: self.node_ms.saturating_add(more.node_ms),
            busy_ms: self.busy_ms.saturating_add(more.busy_ms),
            memory_mib_s: self.memory_mib_s.saturating_add(more.memory_mib_s),
            memory_peak_bytes: self.memory_peak_bytes.max(more.memory_peak_bytes),
            disk_mib_s: self.disk_mib_s.saturating_add(more.disk_mib_s),
            disk_peak_bytes: self.disk_peak_bytes.max(more.disk_peak_bytes),
            flows: self.flows.plus(more.flows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn busy(period_ms: u64, busy_ms: u64, memory_bytes: u64) -> NodeUse {
        NodeUse {
            period_ms,
            busy_ms,
            memory_bytes,
            memory_peak_bytes: memory_bytes,
            disk_bytes: 10 * MIB,
            disk_peak_bytes: 10 * MIB,
            flows: Flows { disk_reads: 3, ..Flows::default() },
        }
    }

    #[test]
    fn two_times_of_a_node_are_one_and_the_longer_one_counts_more() {
        let both = busy(5_000, 5_000, 100 * MIB).and(busy(15_000, 0, 20 * MIB));
        assert_eq!((both.period_ms, both.busy_ms), (20_000, 5_000));
        assert_eq!((both.memory_bytes, both.memory_peak_bytes), (40 * MIB, 100 * MIB));
        assert_eq!((both.disk_bytes, both.flows.disk_reads), (10 * MIB, 6));
        assert_eq!(NodeUse::default().and(busy(1_000, 7, MIB)), busy(1_000, 7, MIB));
    }

    #[test]
    fn a_node_that_lies_is_not_believed_more_than_it_could_do() {
        let most = u64::MAX;
        let flows = Flows {
            disk_read_bytes: most,
            disk_write_bytes: most,
            disk_reads: most,
            disk_writes: most,
            network_in_bytes: most,
            network_out_bytes: most,
        };
        let all = NodeUse {
            period_ms: most,
            busy_ms: most,
            memory_bytes: most,
            memory_peak_bytes: most,
            disk_bytes: most,
            disk_peak_bytes: most,
            flows,
        };
        let believed = all.within(MIB);
        assert_eq!((believed.period_ms, believed.busy_ms), (USED_PERIOD_MS_MAX, USED_PERIOD_MS_MAX));
        assert_eq!((believed.memory_bytes, believed.memory_peak_bytes), (MIB, MIB));
        assert_eq!((believed.disk_bytes, believed.disk_peak_bytes), (1 << 50, 1 << 50));
        let second = NodeUse { period_ms: 1_000, ..all }.within(MIB).flows;
        assert!(second.disk_read_bytes <= 1 << 40 && second.network_out_bytes <= 1 << 40);
        assert_eq!(second.disk_writes, 100_000_000);
        // Beside an honest one it is no more than half of the pool.
        let sample = PoolUse::of(&[believed, busy(30_000, 0, 0)]);
        assert_eq!((sample.cpu_hundredths, sample.memory_bytes), (5_000, MIB / 2));
        // And many that lie overflow nothing.
        let liars = vec![believed; 10_000];
        assert_eq!(PoolUse::of(&liars).cpu_hundredths, 10_000);
        let year = (0..365)
            .map(|_| PoolTotals::of(liars.iter().copied()))
            .fold(PoolTotals::default(), PoolTotals::plus);
        assert_eq!(year.busy_ms, year.node_ms);
    }

    #[test]
    fn totals_add_up_to_the_averages_of_a_life() {
        let one = PoolTotals::of([busy(10_000, 5_000, 64 * MIB), busy(10_000, 10_000, 32 * MIB)].into_iter());
        assert_eq!((one.node_ms, one.busy_ms, one.memory_mib_s), (20_000, 15_000, 960));
        assert_eq!((one.memory_peak_bytes, one.disk_mib_s, one.flows.disk_reads), (64 * MIB, 200, 6));
        let two = one.plus(PoolTotals::of(std::iter::once(busy(5_000, 0, 128 * MIB))));
        assert_eq!((two.node_ms, two.memory_mib_s, two.memory_peak_bytes), (25_000, 1_600, 128 * MIB));
        assert_eq!(PoolTotals::of(std::iter::empty()), PoolTotals::default());
        assert_eq!(PoolUse::of(&[]), PoolUse::default());
    }
}
