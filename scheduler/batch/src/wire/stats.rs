//! Statistics of pools, jobs, job schedules and tasks, and what pools have used.

use muster_core::event::Usage;
use muster_core::ids::Timestamp;
use muster_core::state::{BatchPool, BatchStats, BatchTask, Metered, State};
use serde_json::{Value, json};

use super::duration::format_duration_us;
use super::iso;

/// Bytes of a GiB.
const GIB: f64 = (1_u64 << 30) as f64;
const HOUR_US: u64 = 3_600_000_000;

/// What was used, as all statistics have it.
fn used(usage: &Usage) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a GiB more or less of 2^53")]
    let gib = |bytes: u64| bytes as f64 / GIB;
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

/// The statistics of a pool at `url`: how long it has had how many cores. What nodes use beside tasks is not sampled.
#[must_use]
pub fn show_pool_stats(state: &State, pool: &BatchPool, url: &str, now: Timestamp) -> Value {
    let times = || json!({ "startTime": iso(pool.created), "lastUpdateTime": iso(now) });
    let (mut shown, mut usage) = (times(), times());
    let core_us = state.batch_core_ms(pool, now).saturating_mul(1000);
    usage["dedicatedCoreTime"] = format_duration_us(core_us).into();
    shown["url"] = url.into();
    shown["usageStats"] = usage;
    shown
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
