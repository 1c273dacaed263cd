//! Job schedules: jobs that are made again and again, one at a time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::FoldedId;
use super::spec::BatchJobSpec;
use crate::ids::Timestamp;

/// The shortest time between two runs of a schedule, and the shortest window for the start of one, in seconds.
pub const SCHEDULE_TIME_MIN_S: u64 = 60;

/// A schedule as its user wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Its id, as typed.
    pub id: String,
    /// When its jobs are made.
    pub times: ScheduleTimes,
    /// What each job is like; its id is not looked at.
    pub job: Arc<BatchJobSpec>,
    /// All that was said of it, as JSON.
    pub said: Arc<str>,
}

/// When the jobs of a schedule are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScheduleTimes {
    /// The first one no earlier than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// None later than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// How long after its time one may still be made, in seconds; for ever without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    /// From one to the next, in seconds; there is only one without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u64>,
}

impl ScheduleTimes {
    /// A time, unless none may be so late.
    #[must_use]
    pub fn allowed(&self, at: Timestamp) -> Option<Timestamp> {
        self.not_after.is_none_or(|last| at <= last).then_some(at)
    }

    /// The first time after `now` that is a whole number of intervals after `slot`.
    #[must_use]
    pub fn next_after(&self, slot: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let interval_us = self.interval_s?.saturating_mul(1_000_000).max(1);
        let passed = now.0.saturating_sub(slot.0) / interval_us;
        let next = slot.0.saturating_add(interval_us.saturating_mul(passed.saturating_add(1)));
        self.allowed(Timestamp(next))
    }

    /// Whether a job whose time was `slot` may still be made at `now`.
    #[must_use]
    pub fn is_open(&self, slot: Timestamp, now: Timestamp) -> bool {
        let in_window = self.window_s.is_none_or(|window| now <= slot.plus_seconds(window));
        in_window && self.allowed(now).is_some()
    }
}

/// The phase of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulePhase {
    /// It makes jobs.
    Active,
    /// It makes none until it is enabled.
    Disabled,
    /// Its job comes to its end.
    Terminating,
    /// It makes none any more.
    Completed,
    /// Its jobs come to their ends and are gone, and it with them.
    Deleting,
}

impl SchedulePhase {
    /// As the protocol writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Terminating => "terminating",
            Self::Completed => "completed",
            Self::Deleting => "deleting",
        }
    }
}

/// The id of a schedule's job of this number: `SCHEDULE:job-3`.
#[must_use]
pub fn job_of_schedule(schedule: &str, number: u64) -> String {
    format!("{schedule}:job-{number}")
}

/// The folder of a task on its node, below the node's root for work.
#[must_use]
pub fn task_folder(job: &FoldedId, task: &str) -> String {
    match job.as_str().split_once(':') {
        Some((schedule, job)) => format!("workitems/{schedule}/{job}/{task}"),
        None => format!("workitems/{job}/job-1/{task}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_times_are_one_and_late_ones_are_lost() {
        let at = |seconds: u64| Timestamp(seconds * 1_000_000);
        let times = ScheduleTimes {
            interval_s: Some(60),
            window_s: Some(90),
            not_after: Some(at(300)),
            ..ScheduleTimes::default()
        };
        assert_eq!(times.next_after(at(10), at(10)), Some(at(70)));
        assert_eq!(times.next_after(at(10), at(69)), Some(at(70)));
        assert_eq!(times.next_after(at(10), at(200)), Some(at(250)));
        assert_eq!(times.next_after(at(10), at(260)), None, "it would be later than allowed");
        assert!(times.is_open(at(10), at(100)) && !times.is_open(at(10), at(101)));
        assert_eq!(ScheduleTimes::default().next_after(at(10), at(10)), None);
    }

    #[test]
    fn jobs_of_schedules_have_folders_in_their_schedules() {
        assert_eq!(task_folder(&FoldedId::of(&job_of_schedule("Night", 3)), "t"), "workitems/night/job-3/t");
        assert_eq!(task_folder(&FoldedId::of("j"), "t"), "workitems/j/job-1/t");
    }
}
