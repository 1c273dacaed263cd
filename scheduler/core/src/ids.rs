//! Ids and instants. Ids are types, so that a job can never be taken for a task.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A job's number. Numbers start at 1, grow by one, and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// A task's index within its job: the array index, 0 for a job without an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskIndex(pub u32);

/// Names one task of one job. Written `JOB_INDEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The task within the job.
    pub index: TaskIndex,
}

/// Names one try at running a task. Attempts of a task are numbered from 1. Written `JOB_INDEX.ATTEMPT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskId,
    /// Which try, from 1.
    pub attempt: u32,
}

impl AttemptKey {
    /// What no key comes after, for ranges.
    pub(crate) const LAST: Self =
        Self { task: TaskId { job: JobId(u64::MAX), index: TaskIndex(u32::MAX) }, attempt: u32::MAX };
}

/// A node's number within this controller's state: assigned when the configuration first names the node,
/// kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// An instant: microseconds since 1970-01-01 UTC. The core never reads a clock; instants come in with inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The instant `seconds` after this one; saturates at the end of time.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Whole microseconds since `earlier`; 0 if `earlier` is later.
    #[must_use]
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for TaskIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.job, self.index)
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}

/// How much the numbers of two jobs lie apart where each task of an array has a number of its own: more than the largest
/// index, and a power of ten, so that people can read both parts.
const NUMBERS_PER_JOB: u64 = 10_000_000_000;

impl TaskId {
    /// A number for a task of an array that no other job or task has. Slurm gives every task of an array a job id of its
    /// own, which scripts use to name folders; [`JobRef`] reads it back.
    #[must_use]
    pub fn number(self) -> u64 {
        self.job.0.saturating_mul(NUMBERS_PER_JOB).saturating_add(u64::from(self.index.0))
    }
}

/// What a user writes where a job or one task of it is meant: `JOB`, `JOB_INDEX`, or the [`TaskId::number`] of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    /// The job.
    pub job: JobId,
    /// One task of it; all of them without.
    pub task: Option<TaskIndex>,
}

/// A text that names no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a job id: write a job's number, such as 12, or a task's, such as 12_3")]
pub struct BadJobRef {
    /// What was written.
    pub text: String,
}

impl FromStr for JobRef {
    type Err = BadJobRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadJobRef { text: text.to_owned() };
        let (job, task) = match text.split_once('_') {
            Some((job, task)) => (job, Some(task)),
            None => (text, None),
        };
        let job: u64 = parse_digits(job).ok_or_else(bad)?;
        let task = task.map(|t| parse_digits(t).ok_or_else(bad)).transpose()?;
        if job == 0 {
            return Err(bad());
        }
        if task.is_none() && job >= NUMBERS_PER_JOB {
            let index = u32::try_from(job % NUMBERS_PER_JOB).map_err(|_| bad())?;
            return Ok(Self { job: JobId(job / NUMBERS_PER_JOB), task: Some(TaskIndex(index)) });
        }
        Ok(Self { job: JobId(job), task: task.map(TaskIndex) })
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(index) => write!(f, "{}_{}", self.job, index),
            None => write!(f, "{}", self.job),
        }
    }
}

/// `u64::from_str` accepts a leading plus sign; ids do not.
fn parse_digits<T: FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_task_names_it() {
        let task = TaskId { job: JobId(12), index: TaskIndex(3) };
        assert_eq!(task.number().to_string(), "120000000003");
        let named: JobRef = "120000000003".parse().unwrap();
        assert_eq!((named.job, named.task), (task.job, Some(task.index)));
        assert!("129999999999".parse::<JobRef>().is_err(), "no task has so large an index");
    }

    #[test]
    fn job_refs_are_read_back_as_written() {
        for text in ["1", "12_0", "18446744073709551615_4294967295"] {
            assert_eq!(text.parse::<JobRef>().unwrap().to_string(), text);
        }
        for text in ["", "0", "+1", "1_", "_1", "1_+2", "1.2", "99999999999999999999", "1_4294967296", "é"] {
            assert!(text.parse::<JobRef>().is_err(), "{text} must be refused");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_nearly_a_job_is_read_or_refused(
            text in crate::mutated::of(&["12", "12_3", "18446744073709551615_4294967295"], 3),
        ) {
            if let Ok(job) = text.parse::<JobRef>() {
                proptest::prop_assert_eq!(job.to_string().parse::<JobRef>(), Ok(job));
            }
        }
    }
}
