//! Who holds a job back, and what was said of single tasks of an array beside that.

use serde::{Deserialize, Serialize};

use super::{IndexSet, Job};
use crate::ids::{TaskIndex, Timestamp};

/// Who holds a job back, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHold {
    /// Since when.
    pub since: Timestamp,
    /// Who.
    pub by_uid: u32,
    /// Whether only an admin may let it go.
    pub by_admin: bool,
}

/// What was said of a single task of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskHold {
    /// It is held back by itself.
    Held(JobHold),
    /// It was let go, although its job is held back.
    Released,
}

impl Job {
    /// Who holds a task back.
    #[must_use]
    pub fn hold_of(&self, index: TaskIndex) -> Option<JobHold> {
        match self.task_holds.get(&index) {
            Some(TaskHold::Held(hold)) => Some(*hold),
            Some(TaskHold::Released) => None,
            None => self.held,
        }
    }

    /// Who holds its waiting tasks back, if that is so of all of them.
    #[must_use]
    pub fn hold_of_all(&self) -> Option<JobHold> {
        if self.task_holds.is_empty() {
            return self.held;
        }
        let mut held_alone = 0;
        let mut first = None;
        for (index, said) in &self.task_holds {
            if !self.waiting.contains(index.0) {
                continue;
            }
            match said {
                TaskHold::Released => return None,
                TaskHold::Held(hold) => {
                    held_alone += 1;
                    first = first.or(Some(*hold));
                }
            }
        }
        self.held.or_else(|| first.filter(|_| held_alone == self.waiting.len()))
    }

    /// Its waiting tasks of which nothing was said by itself.
    #[must_use]
    pub fn waiting_with_the_job(&self) -> IndexSet {
        let mut rest = self.waiting.clone();
        for index in self.task_holds.keys() {
            rest.remove(index.0);
        }
        rest
    }
}
