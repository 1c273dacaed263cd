//! How many finished jobs stay in memory.

use std::sync::Arc;

use super::{Job, State};
use crate::ids::{JobId, Timestamp};

/// How many tasks the finished jobs in memory have: added up when it is first asked for, and followed from then on. A state is
/// equal to another whether or not that has happened.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptTasks(Option<u64>);

impl PartialEq for KeptTasks {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for KeptTasks {}

/// Keeps a job that has just finished, and forgets the oldest ones that are too many, or whose tasks are.
pub(super) fn keep(state: &mut State, id: JobId, at: Timestamp) {
    let kept = tasks(state);
    state.finished.push_back(id);
    let mut kept = kept + tasks_of(state, id);
    let policy = &state.config.policy;
    let (jobs_max, tasks_max) = (policy.finished_jobs_kept.max(1), policy.finished_tasks_kept);
    while let Some(oldest) = state.finished.front().copied() {
        // The accounting takes what ends in an instant from here.
        let is_of_now = state.jobs.get(&oldest).is_some_and(|job| job.finished_at == Some(at));
        let too_many_tasks = kept > tasks_max && !is_of_now;
        if state.finished.len() <= jobs_max && !too_many_tasks {
            break;
        }
        state.finished.pop_front();
        kept -= tasks_of(state, oldest);
        let forgotten = state.jobs.remove(&oldest);
        if let Some(Job { request_key: Some(key), spec, .. }) = forgotten.as_deref() {
            state.request_keys.remove(&(spec.user.uid, Arc::clone(key)));
        }
    }
    state.kept_tasks = KeptTasks(Some(kept));
}

/// Whether what was followed is what the finished jobs have.
pub(super) fn holds(state: &State) -> bool {
    state.kept_tasks.0.is_none_or(|followed| followed == counted(state))
}

fn tasks(state: &State) -> u64 {
    state.kept_tasks.0.unwrap_or_else(|| counted(state))
}

fn counted(state: &State) -> u64 {
    state.finished.iter().map(|id| tasks_of(state, *id)).sum()
}

fn tasks_of(state: &State, id: JobId) -> u64 {
    state.jobs.get(&id).map_or(0, |job| job.finished.len() as u64)
}
