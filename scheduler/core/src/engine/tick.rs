//! What becomes due as time passes.

use super::{conditions, report, reservations};
use crate::event::{Event, Verdict};
use crate::ids::{NodeId, Timestamp};
use crate::state::{InstanceState, LivePhase, State};

pub(super) fn tick(state: &State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for (_, key) in state.deadlines().take_while(|(at, _)| *at <= now) {
        let Some(live) = state.live_attempt(key.task) else { continue };
        match live.phase {
            LivePhase::Running { go_at, .. } => {
                let limit = state.jobs.get(&key.task.job).and_then(|job| job.spec.time_limit_s);
                let is_over = limit.is_some_and(|limit| go_at.plus_seconds(limit) <= now)
                    || live.ends_by.is_some_and(|end| end <= now);
                let verdict = if is_over { Verdict::TimedOut } else { Verdict::Deadline };
                events.push(Event::AttemptEnding { key, verdict });
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
    events.extend(conditions::due(state, now));
    events.extend(reservations::due(state, now));
    for (i, node) in state.nodes.iter().enumerate() {
        if node.held.as_ref().and_then(|held| held.until).is_some_and(|until| until <= now) {
            events.push(Event::NodeReleased { node: NodeId(i as u32) });
        }
    }
    events
}
