//! The samples that formulas look at.

use std::collections::BTreeMap;

use super::value::{Instant, Interval};
use crate::ids::Timestamp;

/// How far apart samples are, in seconds.
pub const SAMPLE_PERIOD_S: u32 = 30;

/// Defines the metrics with their names.
macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What is sampled of a pool. In a formula its name stands after a dollar sign.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric { $($(#[$doc])* $name),* }

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name, without the dollar sign.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

metrics! {
    /// How busy the nodes are, on average, in per cent.
    CPUPercent,
    /// Seconds of use.
    WallClockSeconds,
    /// Megabytes of memory in use, on average.
    MemoryBytes,
    /// Gigabytes in use on local disks, on average.
    DiskBytes,
    /// Bytes read.
    DiskReadBytes,
    /// Bytes written.
    DiskWriteBytes,
    /// Reads.
    DiskReadOps,
    /// Writes.
    DiskWriteOps,
    /// Bytes received.
    NetworkInBytes,
    /// Bytes sent.
    NetworkOutBytes,
    /// Nodes.
    SampleNodeCount,
    /// Instances of tasks that could run and do not yet.
    ActiveTasks,
    /// Tasks that run.
    RunningTasks,
    /// The active and the running ones.
    PendingTasks,
    /// Tasks that succeeded.
    SucceededTasks,
    /// Tasks that failed.
    FailedTasks,
    /// Dedicated nodes that there are.
    CurrentDedicatedNodes,
    /// Low-priority nodes that there are, with those that are preempted.
    CurrentLowPriorityNodes,
    /// Nodes that are preempted.
    PreemptedNodeCount,
    /// Nodes that can run tasks.
    UsableNodeCount,
    /// Slots of a node.
    TaskSlotsPerNode,
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was taken: it stands for the period that ended then.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

/// What is known of a metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The value now: what the metric's name alone means.
    pub current: f64,
    /// The samples, the oldest first.
    pub samples: Vec<Sample>,
}

/// What is known of all of them. One that is not there has the value 0 and no samples.
pub type Metrics = BTreeMap<Metric, History>;

/// What a formula looks at: from after `begin` to `end`.
pub(super) struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    /// The window between two instants, in either order.
    pub(super) fn between(a: Instant, b: Instant) -> Self {
        Self { begin: a.min(b), end: a.max(b) }
    }

    pub(super) fn of<'h>(&self, history: &'h History) -> &'h [Sample] {
        let until = |instant: Instant| {
            history.samples.partition_point(|sample| Instant::from_timestamp(sample.at) <= instant)
        };
        history.samples.get(until(self.begin)..until(self.end)).unwrap_or_default()
    }

    /// How many of the samples that there could be there are, in per cent.
    pub(super) fn percent(&self, history: &History) -> f64 {
        let ticks = self.end.ticks().saturating_sub(self.begin.ticks());
        let possible = (ticks / Interval::SECOND / i64::from(SAMPLE_PERIOD_S)).max(1);
        let found = self.of(history).len();
        #[expect(clippy::cast_precision_loss, reason = "numbers of samples are small")]
        let percent = 100.0 * found as f64 / possible as f64;
        percent.min(100.0)
    }
}
