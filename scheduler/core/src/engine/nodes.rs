//! What admins do with nodes: drain them, take them down, and let them go on.

use std::collections::BTreeSet;

use super::validate::bad;
use super::{done, power, refused};
use crate::event::{Event, Verdict};
use crate::ids::{AttemptKey, NodeId, Timestamp};
use crate::input::{Caller, Decision, NodeChange, Refusal};
use crate::notation::format_hosts;
use crate::state::{LivePhase, State};

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 1000;
/// Longest time for which a node is drained or down, in seconds.
const FOR_S_MAX: u64 = 366 * 86_400;
/// Most nodes of one command.
const NODES_MAX: usize = 100_000;

/// Changes all of these nodes, or none of them if one is not there.
pub(super) fn change(
    state: &State,
    caller: Caller,
    names: &[String],
    change: &NodeChange,
    now: Timestamp,
) -> Decision {
    let nodes = match check(state, caller, names, change) {
        Ok(nodes) => nodes,
        Err(refusal) => return refused(refusal),
    };
    let held = |reason: &str, for_s: &Option<u64>, down: bool| {
        let until = for_s.map(|seconds| now.plus_seconds(seconds));
        let (by_uid, reason) = (Some(caller.uid), reason.to_owned());
        move |node: &NodeId| Event::NodeHeld { node: *node, reason: reason.clone(), until, by_uid, down }
    };
    done(match change {
        NodeChange::Drain { reason, for_s } => nodes.iter().map(held(reason, for_s, false)).collect(),
        NodeChange::Down { reason, for_s } => {
            let mut events: Vec<Event> = nodes.iter().map(held(reason, for_s, true)).collect();
            events.extend(end_all(state, &nodes, reason));
            events
        }
        NodeChange::Resume => {
            let resumed =
                |node: &NodeId| released(state, *node).into_iter().chain(power::resumed(state, *node));
            nodes.iter().flat_map(resumed).collect()
        }
    })
}

fn check(
    state: &State,
    caller: Caller,
    names: &[String],
    change: &NodeChange,
) -> Result<BTreeSet<NodeId>, Refusal> {
    if !caller.admin {
        let what = match change {
            NodeChange::Drain { .. } => "drain a node",
            NodeChange::Down { .. } => "take a node down",
            NodeChange::Resume => "resume a node",
        };
        return Err(Refusal::NotAdmin { what });
    }
    if let NodeChange::Drain { reason, for_s } | NodeChange::Down { reason, for_s } = change {
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control)
        {
            let problem = format!("say why, in 1 to {REASON_BYTES_MAX} bytes and without control characters");
            return Err(bad("reason", problem));
        }
        if for_s.is_some_and(|seconds| !(1..=FOR_S_MAX).contains(&seconds)) {
            return Err(bad("time", "must be at least a second and at most 366 days"));
        }
    }
    if names.is_empty() || names.len() > NODES_MAX {
        return Err(bad("nodes", format!("name 1 to {NODES_MAX} nodes")));
    }
    let mut nodes = BTreeSet::new();
    let mut unknown = Vec::new();
    for name in names {
        match state.node_by_name(name) {
            Some(node) => {
                nodes.insert(node);
            }
            None => unknown.push(name),
        }
    }
    match unknown[..] {
        [] => Ok(nodes),
        [name] => Err(Refusal::UnknownNode { node: name.clone() }),
        _ => Err(Refusal::UnknownNodes { nodes: format_hosts(&unknown) }),
    }
}

/// The end of everything that is on these nodes. Their agents are told to stop it, and it is over when they say so or
/// are given up: nothing of an attempt may be left when the next one starts.
fn end_all(state: &State, nodes: &BTreeSet<NodeId>, reason: &str) -> Vec<Event> {
    let mut ended: BTreeSet<AttemptKey> = BTreeSet::new();
    let mut events = Vec::new();
    for node in nodes {
        for key in &state.node(*node).attempts {
            let goes_on = state
                .live_attempt(key.task)
                .is_some_and(|live| !matches!(live.phase, LivePhase::Ending { .. }));
            if goes_on && ended.insert(*key) {
                let reason = format!("an admin took it down: {reason}");
                let verdict = Verdict::NodeFailed { node: *node, reason };
                events.push(Event::AttemptEnding { key: *key, verdict });
            }
        }
    }
    events
}

/// What happens when a hold on a node ends. An admin's hold has hidden whether the node is what the configuration says.
pub(super) fn released(state: &State, id: NodeId) -> Vec<Event> {
    let node = state.node(id);
    let Some(held) = &node.held else { return Vec::new() };
    let mut events = vec![Event::NodeReleased { node: id }];
    if held.by_uid.is_some() {
        events.extend(node.hardware().and_then(|hardware| super::node::unfit(state, id, hardware)));
    }
    events
}
