//! Who holds a job back, and what was said of single tasks of an array beside that.

use serde::{Deserialize, Serialize};

use super::job::job_mut;
use super::{IndexSet, Job, State};
use crate::event::Event;
use crate::ids::{TaskId, TaskIndex, Timestamp};

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

/// Writes down what an event says of holds.
pub(super) fn happened(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::JobHeld { job, by_uid, by_admin } => {
            if let Some(job) = job_mut(&mut state.jobs, *job) {
                job.held = Some(JobHold { since: at, by_uid: *by_uid, by_admin: *by_admin });
                job.task_holds.retain(|_, said| *said != TaskHold::Released);
            }
        }
        Event::JobReleased { job, by_admin } => {
            if let Some(job) = job_mut(&mut state.jobs, *job) {
                job.held = None;
                let stays =
                    |said: &TaskHold| matches!(said, TaskHold::Held(hold) if hold.by_admin && !by_admin);
                job.task_holds.retain(|_, said| stays(said));
            }
        }
        Event::TaskHeld { task, by_uid, by_admin } => {
            let hold = JobHold { since: at, by_uid: *by_uid, by_admin: *by_admin };
            if let Some(job) = unfinished(state, *task) {
                job.task_holds.insert(task.index, TaskHold::Held(hold));
            }
        }
        Event::TaskReleased { task } => {
            let Some(job) = unfinished(state, *task) else { return };
            if job.held.is_some() {
                job.task_holds.insert(task.index, TaskHold::Released);
            } else {
                job.task_holds.remove(&task.index);
            }
        }
        _ => {}
    }
}

/// The job of a task that has not finished.
fn unfinished(state: &mut State, task: TaskId) -> Option<&mut Job> {
    job_mut(&mut state.jobs, task.job).filter(|job| !job.finished.contains_key(&task.index))
}
