//! The indices of what becomes due for live attempts.

use super::{LivePhase, State};
use crate::ids::{AttemptKey, Timestamp};

/// When something becomes due for a live attempt.
#[derive(Default)]
struct Instants {
    /// Its end.
    deadline: Option<Timestamp>,
    /// The signal that was wished for.
    signal: Option<Timestamp>,
    /// Somebody is to be told that it has run for a part of its time limit.
    mark: Option<Timestamp>,
}

fn instants(state: &State, key: AttemptKey) -> Option<Instants> {
    let job = state.jobs.get(&key.task.job)?;
    let live = job.live.get(&key.task.index)?;
    match live.phase {
        // Its time begins when the one before it has gone.
        LivePhase::Preparing if !live.holds_allocation() => None,
        LivePhase::Preparing => {
            let deadline = live
                .placed_at
                .plus_seconds(state.config.policy.prepare_timeout_s + job.spec.prepares_for_s());
            Some(Instants { deadline: Some(deadline), ..Instants::default() })
        }
        LivePhase::Running { go_at, .. } => Some(Instants {
            deadline: job.must_end_at(live, go_at),
            signal: job.signal_at(live, go_at),
            mark: job.marks(live, go_at).next().map(|(at, _)| at),
        }),
        // They were dropped when the attempt's end was decided.
        LivePhase::Ending { .. } => None,
    }
}

/// Enters a live attempt into the indices of what becomes due.
pub(super) fn enter_instants(state: &mut State, key: AttemptKey) {
    let Some(Instants { deadline, signal, mark }) = instants(state, key) else { return };
    state.deadlines.extend(deadline.map(|at| (at, key)));
    state.signals.extend(signal.map(|at| (at, key)));
    state.marks.extend(mark.map(|at| (at, key)));
}

/// Drops a live attempt from the indices of what becomes due, wherever it is at present.
pub(super) fn drop_instants(state: &mut State, key: AttemptKey) {
    let Some(Instants { deadline, signal, mark }) = instants(state, key) else { return };
    if let Some(at) = signal {
        state.signals.remove(&(at, key));
    }
    if let Some(at) = mark {
        state.marks.remove(&(at, key));
    }
    // A configuration change may have moved the prepare time-out since it was entered.
    if deadline.is_some_and(|at| !state.deadlines.remove(&(at, key))) {
        state.deadlines.retain(|(_, other)| *other != key);
    }
}
