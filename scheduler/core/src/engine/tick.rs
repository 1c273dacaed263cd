//! What becomes due as time passes.

use super::report;
use crate::event::{Event, Verdict};
use crate::ids::{NodeId, Timestamp};
use crate::state::{InstanceState, LivePhase, State};

pub(super) fn tick(state: &State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for (_, key) in state.deadlines().take_while(|(at, _)| *at <= now) {
        let Some(live) = state.live_attempt(key.task) else { continue };
        match live.phase {
            LivePhase::Running { .. } => {
                events.push(Event::AttemptEnding { key, verdict: Verdict::TimedOut })
            }
            LivePhase::Preparing => {
                let late = live.instances.iter().position(|i| i.state == InstanceState::Preparing);
                let Some(late) = late else { continue };
                let node = live.allocation.shares[late].node;
                let reason = format!("it was not ready within {} s", state.config.policy.prepare_timeout_s);
                events.push(report::hold(state, node, &reason, now));
                events.push(Event::AttemptEnding { key, verdict: Verdict::PrepareFailed { node, reason } });
            }
            LivePhase::Ending { .. } => {}
        }
    }
    for (i, node) in state.nodes.iter().enumerate() {
        if node.held.as_ref().and_then(|held| held.until).is_some_and(|until| until <= now) {
            events.push(Event::NodeReleased { node: NodeId(i as u32) });
        }
    }
    events
}
