//! Ends the jobs of the cluster that tasks were made into.

use super::event;
use crate::batch::{BatchEvent, BatchTaskKey, EndWish};
use crate::engine::command;
use crate::event::Event;
use crate::ids::{JobRef, Timestamp};
use crate::input::Caller;
use crate::state::{BatchTask, BatchTaskState, State};

/// Ends the job of the cluster that a task was made into, if it is there and is not being ended. One that has not started lets
/// its task wait again unless that is to end for good.
pub(super) fn end(
    state: &State,
    key: &BatchTaskKey,
    task: &BatchTask,
    running: EndWish,
    queued: EndWish,
    now: Timestamp,
) -> Vec<Event> {
    let BatchTaskState::Made(made) = &task.state else { return Vec::new() };
    let wish = if made.started.is_some() { running } else { queued };
    if made.wish.is_some_and(|already| already == EndWish::Terminate || already == wish) {
        return Vec::new();
    }
    let mut events = vec![event(BatchEvent::TaskEnding { task: key.clone(), wish })];
    events.extend(cancel(state, task, now));
    events
}

/// Cancels the job of the cluster that a task was made into.
pub(super) fn cancel(state: &State, task: &BatchTask, now: Timestamp) -> Vec<Event> {
    let BatchTaskState::Made(made) = &task.state else { return Vec::new() };
    let uid = state.jobs.get(&made.job).map_or(0, |job| job.spec.user.uid);
    let target = JobRef { job: made.job, task: None };
    command::end(state, Caller { uid, admin: true }, target, now).events
}
