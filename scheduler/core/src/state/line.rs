//! Lines: attempts of one array that go on, one after the other, with one allocation on one node.
//!
//! The first of a line holds the allocation. The others are live, so that whatever ends with their node or their job ends with them, but
//! hold nothing before those ahead of them are gone. Attempts leave from anywhere in a line.

use std::sync::Arc;

use super::instants::{drop_instants, enter_instants};
use super::job::job_mut;
use super::{Instance, InstanceState, Job, Live, LivePhase, State, evolve, ledger};
use crate::event::{Allocation, Usage};
use crate::ids::{AttemptKey, TaskId, TaskIndex, Timestamp};
use crate::spec::IndexRange;

/// The number of the attempts that are lined up: none of their tasks was tried before.
pub const FIRST_ATTEMPT: u32 = 1;

impl State {
    /// The attempt before this one in its line.
    #[must_use]
    pub fn ahead_of(&self, key: AttemptKey) -> Option<AttemptKey> {
        self.in_line(key, |live| live.follows)
    }

    /// The attempt after this one in its line.
    #[must_use]
    pub fn behind(&self, key: AttemptKey) -> Option<AttemptKey> {
        self.in_line(key, |live| live.followed_by)
    }

    fn in_line(&self, key: AttemptKey, next: impl Fn(&Live) -> Option<TaskIndex>) -> Option<AttemptKey> {
        let job = self.jobs.get(&key.task.job)?;
        let live = job.live.get(&key.task.index).filter(|live| live.attempt == key.attempt)?;
        let index = next(live)?;
        Some(job.live.get(&index)?.key(key.task.job, index))
    }
}

impl Live {
    /// An attempt that is given an allocation at `at`, or is to go on with it.
    pub(super) fn placed(attempt: u32, allocation: &Arc<Allocation>, at: Timestamp) -> Self {
        let instance = Instance { state: InstanceState::Preparing, usage: Usage::default() };
        Self {
            attempt,
            allocation: Arc::clone(allocation),
            instances: vec![instance; allocation.shares.len()],
            time_limit_s: None,
            placed_at: at,
            ends_by: None,
            signalled: false,
            told_percent: 0,
            follows: None,
            followed_by: None,
            phase: LivePhase::Preparing,
        }
    }
}

/// Tasks are lined up behind an attempt.
pub(super) fn made(state: &mut State, behind: AttemptKey, indices: &[IndexRange], at: Timestamp) {
    let mut last = behind;
    for index in indices.iter().flat_map(IndexRange::indices) {
        let key =
            AttemptKey { task: TaskId { index: TaskIndex(index), ..last.task }, attempt: FIRST_ATTEMPT };
        if follow(state, last, key, at) {
            last = key;
        }
    }
    evolve::requeue_index(state, behind.task.job);
}

/// Lets a waiting task follow an attempt; false if it cannot.
fn follow(state: &mut State, last: AttemptKey, key: AttemptKey, at: Timestamp) -> bool {
    let Some(job) = job_mut(&mut state.jobs, key.task.job) else { return false };
    let Some(ahead) = job.live.get_mut(&last.task.index) else { return false };
    if ahead.attempt != last.attempt || ahead.followed_by.is_some() || !job.waiting.remove(key.task.index.0) {
        return false;
    }
    ahead.followed_by = Some(key.task.index);
    let live = Live { follows: Some(last.task.index), ..Live::placed(key.attempt, &ahead.allocation, at) };
    let node = live.allocation.shares[0].node;
    job.live.insert(key.task.index, Box::new(live));
    state.waiting_count -= 1;
    state.live.insert(key);
    // Its cores are charged already, to whoever holds them.
    ledger::placed(state, key.task.job, 0, at);
    evolve::with_node(state, node, |node| {
        node.attempts.insert(key);
    });
    true
}

/// Takes an attempt out of its line. Says whether what it has is not to be freed: another one goes on with it, or has it still.
pub(super) fn leave(state: &mut State, key: AttemptKey, at: Timestamp) -> bool {
    let Some(job) = job_mut(&mut state.jobs, key.task.job) else { return false };
    let Some(live) = job.live.get_mut(&key.task.index) else { return false };
    let (ahead, behind) = (live.follows.take(), live.followed_by.take());
    if let Some(ahead) = ahead.and_then(|ahead| job.live.get_mut(&ahead)) {
        ahead.followed_by = behind;
    }
    let Some((index, next)) = behind.and_then(|behind| Some((behind, job.live.get_mut(&behind)?))) else {
        return ahead.is_some();
    };
    next.follows = ahead;
    if ahead.is_none() {
        next.placed_at = at;
        let heir = next.key(key.task.job, index);
        enter_instants(state, heir);
    }
    true
}

/// A node gives the first attempt of a task back, of which nothing was started: the task waits as before.
pub(super) fn returned(state: &mut State, key: AttemptKey, at: Timestamp) {
    let is_live =
        |job: &Arc<Job>| job.live.get(&key.task.index).is_some_and(|live| live.attempt == key.attempt);
    if !state.jobs.get(&key.task.job).is_some_and(is_live) {
        return;
    }
    drop_instants(state, key);
    evolve::free_share(state, key, 0, at);
    let Some(job) = job_mut(&mut state.jobs, key.task.job) else { return };
    job.live.remove(&key.task.index);
    state.live.remove(&key);
    job.waiting.insert(key.task.index.0);
    job.returned.insert(key.task.index.0);
    state.waiting_count += 1;
    state.ledger.ended(&job.spec);
    evolve::requeue_index(state, key.task.job);
}

/// Whether every line is whole: each of it knows its neighbours, has the same allocation on one node, and comes after one that holds it.
pub(super) fn are_whole(job: &Job) -> bool {
    let is_whole = |index: &TaskIndex, live: &Live| {
        let ahead = live.follows.map(|ahead| job.live.get(&ahead));
        let behind = live.followed_by.map(|behind| job.live.get(&behind));
        let is_linked = ahead.is_none_or(|ahead| {
            ahead.is_some_and(|ahead| {
                ahead.followed_by == Some(*index)
                    && ahead.allocation == live.allocation
                    && live.allocation.shares.len() == 1
            })
        }) && behind
            .is_none_or(|behind| behind.is_some_and(|behind| behind.follows == Some(*index)));
        let steps = std::iter::successors(live.follows, |ahead| job.live.get(ahead)?.follows);
        is_linked && steps.take(job.live.len() + 1).count() < job.live.len().max(1)
    };
    job.live.iter().all(|(index, live)| is_whole(index, live))
}
