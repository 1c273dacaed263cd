//! The values of the protocol: what bodies of requests say, and what is answered.

mod chore;
mod container;
mod duration;
mod event;
mod fields;
mod files;
mod job;
mod node;
mod pool;
mod schedule;
mod setup;
mod stats;
mod task;

pub use chore::{chore_began, chore_result, chore_word, show_job_node};
pub use duration::{format_duration, parse_duration_s};
pub use event::{Before, EVENT_NAMES, Told, before_event, told_of};
pub use fields::{Fields, refused, without_secrets};
pub use job::{JobChange, change_job, read_job, show_job};
pub use node::{NodeWord, node_word, show_node};
pub use pool::{
    NewPool, change_pool, read_deallocation, read_pool, read_removal, read_resize, read_scaling, read_trial,
    show_pool, show_run,
};
pub use schedule::{change_schedule, read_schedule, show_schedule};
pub use setup::show_application;
pub use stats::{show_metered, show_pool_stats, show_stats, show_task_stats};
pub use task::{change_task, read_task, show_subtasks, show_task, task_counts};

use jiff::Timestamp as Instant;
use muster_core::ids::Timestamp;

/// An instant as bodies have it.
#[must_use]
pub fn iso(at: Timestamp) -> String {
    Instant::from_microsecond(i64::try_from(at.0).unwrap_or(i64::MAX)).unwrap_or(Instant::MAX).to_string()
}

/// The tag of a version, as headers and bodies have it.
#[must_use]
pub fn etag(version: u64) -> String {
    format!("0x{version:016X}")
}

/// The version of a tag; none if it is not one of ours.
#[must_use]
pub fn version_of(tag: &str) -> Option<u64> {
    u64::from_str_radix(tag.trim().trim_matches('"').strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
pub(crate) use fields::looked_at;

#[cfg(test)]
mod tests;
