//! Signals to what runs: by a command, and as a job wished for before its end.

use std::sync::Arc;

use super::hold::own_target;
use super::{refused, report};
use crate::ids::{AttemptKey, JobRef, NodeId};
use crate::input::{Caller, Decision, Effect, Refusal, Reply, Viewer};
use crate::spec::{SIGNAL_MAX, SignalTo};
use crate::state::{Live, LivePhase, State};

/// Most addresses of a host at which somebody looks on.
const VIEWER_HOSTS_MAX: usize = 64;

/// The longest key of theirs, in bytes.
const VIEWER_KEY_BYTES_MAX: usize = 128;

/// Signals the attempts of a job or task that run, or may: those that start at once do so before anybody is told. Nothing is
/// stored: a node that is away does not hear of it.
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

/// Has the starter of a step call somebody who looks on. Whether there is such a step is known on its node.
pub(super) fn attach_step(
    state: &State,
    caller: Caller,
    target: JobRef,
    step: u32,
    viewer: &Arc<Viewer>,
) -> Decision {
    let problem = match viewer.as_ref() {
        Viewer { hosts, .. } if hosts.is_empty() || hosts.len() > VIEWER_HOSTS_MAX => {
            Some(("hosts", format!("must be 1 to {VIEWER_HOSTS_MAX} addresses, and are {}", hosts.len())))
        }
        Viewer { port: 0, .. } => Some(("port", "must be 1 to 65535, and is 0".to_owned())),
        Viewer { key, .. } if key.len() > VIEWER_KEY_BYTES_MAX || key.is_empty() => {
            Some(("key", format!("must be 1 to {VIEWER_KEY_BYTES_MAX} characters, and has {}", key.len())))
        }
        _ => None,
    };
    if let Some((field, problem)) = problem {
        return refused(super::validate::bad(field, problem));
    }
    let viewer = |node, key| Effect::AttachStep { node, key, step, viewer: Arc::clone(viewer) };
    reach(state, caller, target, None, viewer)
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
    // Of what starts at once the first that is heard may come long after its first line, which may ask for just this.
    let runs = |live: &Live| {
        matches!(live.phase, LivePhase::Running { .. })
            || (report::starts_now(job, live) && live.holds_allocation())
    };
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
