//! Signals to what runs: by a command, and as a job wished for before its end.

use super::hold::own_target;
use super::refused;
use crate::ids::{AttemptKey, JobRef};
use crate::input::{Caller, Decision, Effect, Refusal, Reply};
use crate::spec::{SIGNAL_MAX, SignalTo};
use crate::state::{Live, LivePhase, State};

/// Signals the running attempts of a job or task. Nothing is stored: a node that is away does not hear of it.
pub(super) fn signal(state: &State, caller: Caller, target: JobRef, signal: u8, to: SignalTo) -> Decision {
    if signal == 0 || signal > SIGNAL_MAX {
        let problem = format!("must be 1 to {SIGNAL_MAX}, and is {signal}");
        return refused(super::validate::bad("signal", problem));
    }
    let job = match own_target(state, caller, target) {
        Ok(job) => job,
        Err(refusal) => return refused(refusal),
    };
    let named = |index| target.task.is_none_or(|task| task == index);
    let runs = |live: &Live| matches!(live.phase, LivePhase::Running { .. });
    let live = job.live.iter().filter(|(index, live)| named(**index) && runs(live));
    let effects: Vec<Effect> =
        live.filter_map(|(index, live)| effect(live, live.key(job.id, *index), signal, to)).collect();
    if effects.is_empty() {
        return refused(Refusal::Waits { target });
    }
    Decision { events: Vec::new(), reply: Ok(Reply::Reached(effects.len() as u64)), effects }
}

/// The signal that the job of an attempt wished for.
pub(super) fn wished(state: &State, key: AttemptKey) -> Option<Effect> {
    let wish = state.jobs.get(&key.task.job)?.spec.signal?;
    effect(state.live_attempt(key.task)?, key, wish.signal, wish.to)
}

fn effect(live: &Live, key: AttemptKey, signal: u8, to: SignalTo) -> Option<Effect> {
    live.instances.first().filter(|primary| primary.holds_share())?;
    Some(Effect::Signal { node: live.allocation.shares.first()?.node, key, signal, to })
}
