//! Signals to what runs: by a command, and as a job wished for before its end.

use super::hold::own_target;
use super::refused;
use crate::ids::{AttemptKey, JobRef, NodeId};
use crate::input::{Caller, Decision, Effect, Refusal, Reply};
use crate::spec::{SIGNAL_MAX, SignalTo};
use crate::state::{Live, LivePhase, State};

/// Signals the running attempts of a job or task. Nothing is stored: a node that is away does not hear of it.
pub(super) fn signal(state: &State, caller: Caller, target: JobRef, signal: u8, to: SignalTo) -> Decision {
    reach(state, caller, target, Some(signal), |node, key| Effect::Signal { node, key, signal, to })
}

/// Signals the ranks of a step, or ends it. Whether there is such a step is known on its node.
pub(super) fn signal_step(
    state: &State,
    caller: Caller,
    target: JobRef,
    step: u32,
    signal: Option<u8>,
) -> Decision {
    reach(state, caller, target, signal, |node, key| Effect::SignalStep { node, key, step, signal })
}

fn reach(
    state: &State,
    caller: Caller,
    target: JobRef,
    signal: Option<u8>,
    effect: impl Fn(NodeId, AttemptKey) -> Effect,
) -> Decision {
    if let Some(signal) = signal.filter(|signal| !(1..=SIGNAL_MAX).contains(signal)) {
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
    let reached = live.filter_map(|(index, live)| Some(effect(primary(live)?, live.key(job.id, *index))));
    let effects: Vec<Effect> = reached.collect();
    if effects.is_empty() {
        return refused(Refusal::Waits { target });
    }
    Decision { events: Vec::new(), reply: Ok(Reply::Reached(effects.len() as u64)), effects }
}

/// The signal that the job of an attempt wished for.
pub(super) fn wished(state: &State, key: AttemptKey) -> Option<Effect> {
    let wish = state.jobs.get(&key.task.job)?.spec.signal?;
    let node = primary(state.live_attempt(key.task)?)?;
    Some(Effect::Signal { node, key, signal: wish.signal, to: wish.to })
}

/// The node of an attempt's primary, while it holds it.
fn primary(live: &Live) -> Option<NodeId> {
    live.instances.first().filter(|primary| primary.holds_share())?;
    Some(live.allocation.shares.first()?.node)
}
