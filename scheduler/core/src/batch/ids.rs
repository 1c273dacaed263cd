//! Ids of the batch service: as they were typed, and as they are compared.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest id, in characters.
pub const ID_CHARS_MAX: usize = 64;

/// Whether a text may be an id: letters, digits, hyphens and underscores of ASCII, at most [`ID_CHARS_MAX`] of them.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let is_fine = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    !text.is_empty() && text.len() <= ID_CHARS_MAX && text.bytes().all(is_fine)
}

/// An id as it is compared: without regard to upper and lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FoldedId(Arc<str>);

impl FoldedId {
    /// Folds an id.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self(id.to_ascii_lowercase().into())
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that an id of digits stands for: `4`, `04` and `004` are all 4.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        let is_number = self.0.bytes().all(|c| c.is_ascii_digit());
        if is_number { self.0.parse().ok() } else { None }
    }
}

impl fmt::Display for FoldedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a pool of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchPoolKey {
    /// The account.
    pub account: Arc<str>,
    /// The pool.
    pub pool: FoldedId,
}

/// Names a job of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchJobKey {
    /// The account.
    pub account: Arc<str>,
    /// The job.
    pub job: FoldedId,
}

/// Names a job schedule of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScheduleKey {
    /// The account.
    pub account: Arc<str>,
    /// The schedule.
    pub schedule: FoldedId,
}

/// Names a task of the batch service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchTaskKey {
    /// The account.
    pub account: Arc<str>,
    /// The job.
    pub job: FoldedId,
    /// The task.
    pub task: FoldedId,
}

impl BatchPoolKey {
    /// The name of the pool as jobs of its tasks say it: no configured pool has one with a slash.
    #[must_use]
    pub fn pool_name(&self) -> String {
        format!("{}/{}", self.account, self.pool)
    }
}

impl BatchTaskKey {
    /// The task's job.
    #[must_use]
    pub fn job_key(&self) -> BatchJobKey {
        BatchJobKey { account: Arc::clone(&self.account), job: self.job.clone() }
    }
}

impl BatchJobKey {
    /// By which nodes are known that were prepared for the job: no pool's name has two slashes.
    #[must_use]
    pub fn ready_name(&self) -> String {
        format!("{}/job/{}", self.account, self.job)
    }

    /// A task of the job.
    #[must_use]
    pub fn task(&self, task: FoldedId) -> BatchTaskKey {
        BatchTaskKey { account: Arc::clone(&self.account), job: self.job.clone(), task }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_compared_without_regard_to_case_and_numbers_without_leading_zeros() {
        assert_eq!(FoldedId::of("Job-1"), FoldedId::of("jOB-1"));
        assert_eq!(FoldedId::of("004").number(), Some(4));
        assert_eq!(FoldedId::of("4a").number(), None);
        assert!(is_id("A-b_9") && is_id(&"x".repeat(64)));
        assert!(!is_id("") && !is_id("a b") && !is_id("é") && !is_id(&"x".repeat(65)) && !is_id("a:b"));
    }
}
