//! Statistics of pools, jobs, job schedules and tasks, and what pools have used.

use muster_core::event::Usage;
use muster_core::ids::Timestamp;
use muster_core::state::{BatchPool, BatchStats, BatchTask, Metered, State, Used};
use serde_json::{Value, json};

use super::duration::format_duration_us;
use super::iso;

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;
/// MiB of a GiB.
const MIB_OF_GIB: f64 = 1024.0;
const HOUR_US: u64 = 3_600_000_000;

fn gib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a GiB more or less of 2^53")]
    let bytes = bytes as f64;
    bytes / GIB
}

/// What was used, as all statistics have it.
fn used(usage: &Usage) -> Value {
    json!({
        "userCPUTime": format_duration_us(usage.cpu_time_us.saturating_sub(usage.cpu_system_us)),
        "kernelCPUTime": format_duration_us(usage.cpu_system_us),
        "readIOps": usage.read_operations,
        "writeIOps": usage.write_operations,
        "readIOGiB": gib(usage.read_bytes),
        "writeIOGiB": gib(usage.write_bytes),
    })
}

/// The statistics of a job or of a job schedule at `url` that was made at `created`.
#[must_use]
pub fn show_stats(stats: &BatchStats, url: &str, created: Timestamp, now: Timestamp) -> Value {
    let mut shown = used(&stats.used);
    shown["url"] = url.into();
    shown["startTime"] = iso(created).into();
    shown["lastUpdateTime"] = iso(now).into();
    shown["wallClockTime"] = format_duration_us(stats.wall_us).into();
    shown["waitTime"] = format_duration_us(stats.wait_us).into();
    shown["numSucceededTasks"] = stats.succeeded.into();
    shown["numFailedTasks"] = stats.failed.into();
    shown["numTaskRetries"] = stats.retries.into();
    shown
}

/// The statistics of a task at `url`.
#[must_use]
pub fn show_task_stats(state: &State, task: &BatchTask, url: &str, now: Timestamp) -> Value {
    let stats = state.batch_task_stats(task, now);
    let mut shown = used(&stats.used.unwrap_or_default());
    shown["url"] = url.into();
    shown["startTime"] = iso(task.created).into();
    shown["lastUpdateTime"] = iso(now).into();
    shown["wallClockTime"] = format_duration_us(stats.wall_us).into();
    shown["waitTime"] = format_duration_us(stats.wait_us).into();
    shown
}

/// The statistics of a pool at `url`: how long it has had how many cores, and what its nodes have used, once it was heard of one.
#[must_use]
pub fn show_pool_stats(state: &State, pool: &BatchPool, url: &str, now: Timestamp) -> Value {
    let times = || json!({ "startTime": iso(pool.created), "lastUpdateTime": iso(now) });
    let (mut shown, mut usage) = (times(), times());
    let core_us = state.batch_core_ms(pool, now).saturating_mul(1000);
    usage["dedicatedCoreTime"] = format_duration_us(core_us).into();
    shown["url"] = url.into();
    shown["usageStats"] = usage;
    if let Some(used) = &pool.used {
        shown["resourceStats"] = show_used(used);
    }
    shown
}

/// What the nodes of a pool have used. Averages and peaks are of one node, and all else of all nodes together.
fn show_used(used: &Used) -> Value {
    let totals = &used.totals;
    #[expect(clippy::cast_precision_loss, reason = "averages of what is counted in thousandths")]
    let (seconds, busy_s) = (totals.node_ms.max(1) as f64 / 1000.0, totals.busy_ms as f64 / 1000.0);
    #[expect(clippy::cast_precision_loss, reason = "a MiB more or less of 2^53")]
    let average_gib = |mib_s: u64| mib_s as f64 / seconds / MIB_OF_GIB;
    let flows = &totals.flows;
    json!({
        "startTime": iso(used.since),
        "lastUpdateTime": iso(used.at),
        "avgCPUPercentage": 100.0 * busy_s / seconds,
        "avgMemoryGiB": average_gib(totals.memory_mib_s),
        "peakMemoryGiB": gib(totals.memory_peak_bytes),
        "avgDiskGiB": average_gib(totals.disk_mib_s),
        "peakDiskGiB": gib(totals.disk_peak_bytes),
        "diskReadIOps": flows.disk_reads,
        "diskWriteIOps": flows.disk_writes,
        "diskReadGiB": gib(flows.disk_read_bytes),
        "diskWriteGiB": gib(flows.disk_write_bytes),
        "networkReadGiB": gib(flows.network_in_bytes),
        "networkWriteGiB": gib(flows.network_out_bytes),
    })
}

/// What a pool has used in an hour since 1970.
#[must_use]
pub fn show_metered(hour: u64, metered: &Metered) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "hours of cores are far below 2^52")]
    let hours = metered.core_ms as f64 / 3_600_000.0;
    json!({
        "poolId": metered.pool,
        "startTime": iso(Timestamp(hour * HOUR_US)),
        "endTime": iso(Timestamp((hour + 1) * HOUR_US)),
        "vmSize": metered.home,
        "totalCoreHours": hours,
    })
}

#[cfg(test)]
mod tests {
    use muster_core::batch::{Flows, PoolTotals};

    use super::*;

    #[test]
    fn averages_are_of_one_node_and_flows_of_all() {
        let totals = PoolTotals {
            node_ms: 40_000,
            busy_ms: 10_000,
            memory_mib_s: 40 * 512,
            memory_peak_bytes: 3 << 30,
            disk_mib_s: 40 * 2048,
            disk_peak_bytes: 5 << 30,
            flows: Flows { disk_reads: 7, network_out_bytes: 1 << 29, ..Flows::default() },
        };
        let (since, at) = (Timestamp(0), Timestamp(20_000_000));
        let shown = show_used(&Used { since, at, totals, samples: Default::default() });
        let number = |name: &str| shown[name].as_f64().unwrap();
        assert_eq!(
            (number("avgCPUPercentage"), number("avgMemoryGiB"), number("avgDiskGiB")),
            (25.0, 0.5, 2.0)
        );
        assert_eq!((number("peakMemoryGiB"), number("peakDiskGiB")), (3.0, 5.0));
        assert_eq!((&shown["diskReadIOps"], number("networkWriteGiB")), (&json!(7), 0.5));
        assert_eq!(shown["lastUpdateTime"], "1970-01-01T00:00:20Z");
        // Of no time at all there is no average.
        let none = show_used(&Used { since, at, totals: PoolTotals::default(), samples: Default::default() });
        assert_eq!(none["avgCPUPercentage"], 0.0);
    }
}
