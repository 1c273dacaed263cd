//! Nodes that come, speak and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::report::{self, is_last};
use super::{done, power, prepare_effect, refused};
use crate::event::{Event, Hardware, Usage, Verdict};
use crate::ids::{AttemptKey, NodeId, Timestamp};
use crate::input::{Decision, Effect, InstancePhase, InstanceReport, Refusal, Reply};
use crate::state::{InstanceState, LivePhase, Node, NodeStatus, State};

/// A node says that it is there. What it holds is looked at after that, in [`steps`].
pub(super) fn hello(
    state: &State,
    name: &str,
    boot_id: &str,
    hardware: &Arc<Hardware>,
    held: &[InstanceReport],
) -> Decision {
    let Some(node) = declared(state, name) else {
        return refused(Refusal::UnknownNode { node: name.to_owned() });
    };
    let stale: Vec<AttemptKey> =
        held.iter().filter(|r| !is_gone(r) && !is_live_on(state, node, r.key)).map(|r| r.key).collect();
    let up = Event::NodeUp { node, boot_id: boot_id.to_owned(), hardware: Arc::clone(hardware), stale };
    // What an admin has said of the node stands until an admin takes it back.
    let by_admin = state.node(node).held.as_ref().is_some_and(|held| held.by_uid.is_some());
    let held_back = unfit(state, node, hardware).filter(|_| !by_admin);
    done([Some(up), held_back].into_iter().flatten().collect())
}

fn declared(state: &State, name: &str) -> Option<NodeId> {
    state.node_by_name(name).filter(|id| state.node(*id).declared)
}

/// A step by which the two sides are brought together after a hello: what the node holds and should not is ended, what it should
/// hold and does not is given up, what was lost on the way is said again. Each is decided in the state that the ones before it
/// leave.
pub(super) enum Step<'a> {
    /// It holds this.
    Holds { node: NodeId, report: &'a InstanceReport },
    /// It does not hold this, unless it is over by now.
    Lacks { node: NodeId, key: AttemptKey, same_boot: bool },
}

/// The steps after a hello, given the state before it.
pub(super) fn steps<'a>(
    state: &State,
    name: &str,
    boot_id: &str,
    held: &'a [InstanceReport],
) -> Vec<Step<'a>> {
    let Some(node) = declared(state, name) else { return Vec::new() };
    let same_boot =
        matches!(&state.node(node).status, NodeStatus::Up { boot_id: known, .. } if known == boot_id);
    // What is gone comes first: what followed it in its line may run by now.
    let (gone, present): (Vec<_>, Vec<_>) = held.iter().partition(|report| is_gone(report));
    let holds = gone.into_iter().chain(present).map(move |report| Step::Holds { node, report });
    let expected = state.node(node).attempts.iter().copied();
    let held: BTreeSet<AttemptKey> = held.iter().map(|report| report.key).collect();
    let lacks = expected.filter(|key| !held.contains(key));
    holds.chain(lacks.map(|key| Step::Lacks { node, key, same_boot })).collect()
}

/// Decides a step.
pub(super) fn step(state: &State, step: &Step<'_>, now: Timestamp) -> Decision {
    match *step {
        Step::Holds { node, report } => report::report(state, node, report, now),
        Step::Lacks { node, key, .. } if !is_live_on(state, node, key) => done(Vec::new()),
        Step::Lacks { node, key, same_boot } => {
            let (events, effect) = missing(state, node, key, same_boot, now);
            Decision { events, effects: effect.into_iter().collect(), reply: Ok(Reply::Done) }
        }
    }
}

/// What the node must hear again, once the step has happened.
pub(super) fn repeated(state: &State, step: &Step<'_>) -> Option<Effect> {
    let Step::Holds { node, report } = *step else { return None };
    let live = state.live_attempt(report.key.task).filter(|live| live.attempt == report.key.attempt)?;
    report::repeat(state, live, node, report)
}

fn is_gone(report: &InstanceReport) -> bool {
    matches!(report.phase, InstancePhase::Gone { .. })
}

fn is_live_on(state: &State, node: NodeId, key: AttemptKey) -> bool {
    state.node(node).attempts.contains(&key)
}

/// A node's health is written down when it changes.
pub(super) fn health(state: &State, name: &str, problem: Option<&String>) -> Decision {
    let Some(node) = state.node_by_name(name).filter(|id| state.node(*id).declared) else {
        return refused(Refusal::UnknownNode { node: name.to_owned() });
    };
    let known = state.node(node).unhealthy.as_ref().map(|known| &known.problem);
    if known == problem {
        return done(Vec::new());
    }
    done(vec![Event::NodeHealth { node, problem: problem.cloned() }])
}

/// The hold on a node that cannot do what the configuration declares of it.
pub(super) fn unfit(state: &State, id: NodeId, hardware: &Hardware) -> Option<Event> {
    let node = state.node(id);
    let real = hardware.cores.len() as u32;
    let reason = if real == 0 {
        "its agent found no usable core".to_owned()
    } else if node.cores > real && !node.wrap_cores {
        format!(
            "the configuration declares {} cores, the node has {real}: correct `cores`, then resume the node",
            node.cores
        )
    } else if let Some(reason) = too_little_memory(node, hardware) {
        reason
    } else {
        node.gres_check.then(|| too_few_devices(node, hardware)).flatten()?
    };
    Some(Event::NodeHeld { node: id, reason, until: None, by_uid: None, down: false })
}

/// Why a node has not the memory that the configuration declares. Nodes that share a real host declare what they like, and
/// an agent that could not find out says 0.
fn too_little_memory(node: &Node, hardware: &Hardware) -> Option<String> {
    let (declared, found) = (node.memory_bytes, hardware.memory_bytes);
    (!node.wrap_cores && found > 0 && declared > found).then(|| {
        const MIB: u64 = 1 << 20;
        format!(
            "the configuration declares {} MiB of memory, the node has {}: set `memory` to at most \"{}M\", then resume the node",
            declared.div_ceil(MIB),
            found / MIB,
            found / MIB
        )
    })
}

/// Why a node that is to be checked has not the devices that the configuration declares.
fn too_few_devices(node: &Node, hardware: &Hardware) -> Option<String> {
    node.gres.iter().find_map(|gres| {
        let same = node.gres.iter().filter(|other| other.name == gres.name);
        let declared: u32 = same.map(|other| other.count).sum();
        let found = hardware.devices.iter().filter(|device| device.name == gres.name).count();
        ((found as u64) < u64::from(declared)).then(|| {
            format!(
                "the configuration declares {declared} {}, its agent found {found}: correct `gres`, or take \
                 `gres_check` out, then resume the node",
                gres.name
            )
        })
    })
}

/// An attempt that should be on the node, which does not hold it.
fn missing(
    state: &State,
    node: NodeId,
    key: AttemptKey,
    same_boot: bool,
    now: Timestamp,
) -> (Vec<Event>, Option<Effect>) {
    let known = state.jobs.get(&key.task.job).and_then(|job| Some((job, job.live.get(&key.task.index)?)));
    let Some((job, live)) = known else { return (Vec::new(), None) };
    let Some(instance) = live.allocation.instance_on(node) else { return (Vec::new(), None) };
    // What starts at once may have run when the node lost its power, and its memory of that.
    let untouched = live.instances[instance as usize].state == InstanceState::Preparing
        && (same_boot || !job.spec.starts_at_once(live.instances.len()));
    let mut events = Vec::new();
    let takes_lines = state.node(node).hardware().is_some_and(|hardware| hardware.takes_lines);
    let verdict = match &live.phase {
        // Its agent may be another one since, which would start it beside those ahead of it.
        LivePhase::Preparing if untouched && !live.holds_allocation() && !takes_lines => {
            return (vec![Event::AttemptReturned { key }], None);
        }
        // The word to prepare was lost on the way, or the agent's memory with it: nothing has run yet.
        LivePhase::Preparing if untouched => return (events, prepare_effect(state, key, instance)),
        LivePhase::Ending { verdict, .. } => {
            events.push(Event::InstanceGone { key, instance, usage: Usage::default() });
            verdict.clone()
        }
        LivePhase::Preparing | LivePhase::Running { .. } => {
            events.push(Event::InstanceLost { key, instance });
            let reason = "it restarted, and what ran on it is gone".to_owned();
            let verdict = Verdict::NodeFailed { node, reason };
            events.push(Event::AttemptEnding { key, verdict: verdict.clone() });
            verdict
        }
    };
    if is_last(live, instance) {
        events.push(report::ended(state, job, key, verdict, now));
    }
    (events, None)
}

pub(super) fn report(state: &State, name: &str, report: &InstanceReport, now: Timestamp) -> Decision {
    match state.node_by_name(name) {
        Some(node) => report::report(state, node, report, now),
        None => refused(Refusal::UnknownNode { node: name.to_owned() }),
    }
}

/// Gives a node up: every instance on it is lost, and with it every attempt that had one there.
pub(super) fn silent(state: &State, name: &str, reason: &str, now: Timestamp) -> Decision {
    let Some(node) = state.node_by_name(name) else {
        return refused(Refusal::UnknownNode { node: name.to_owned() });
    };
    if !state.node(node).is_up() {
        return done(Vec::new());
    }
    let mut events = vec![Event::NodeLost { node, reason: reason.to_owned() }];
    events.extend(power::lost(node, state.node(node), reason, now));
    for key in &state.node(node).attempts {
        let Some(job) = state.jobs.get(&key.task.job) else { continue };
        let Some(live) = job.live.get(&key.task.index) else { continue };
        let Some(instance) = live.allocation.instance_on(node) else { continue };
        events.push(Event::InstanceLost { key: *key, instance });
        let verdict = match &live.phase {
            LivePhase::Ending { verdict, .. } => verdict.clone(),
            _ => {
                let verdict = Verdict::NodeFailed { node, reason: reason.to_owned() };
                events.push(Event::AttemptEnding { key: *key, verdict: verdict.clone() });
                verdict
            }
        };
        if is_last(live, instance) {
            events.push(report::ended(state, job, *key, verdict, now));
        }
    }
    done(events)
}
