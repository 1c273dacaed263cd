//! What becomes due as time passes.

use super::report::{self, Failure};
use super::{batch, conditions, cron, nodes, power, reservations};
use crate::event::{Event, Verdict};
use crate::ids::{NodeId, Timestamp};
use crate::state::{InstanceState, LivePhase, State};

pub(super) fn tick(state: &State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for (_, key) in state.deadlines().take_while(|(at, _)| *at <= now) {
        let Some(live) = state.live_attempt(key.task) else { continue };
        match live.phase {
            LivePhase::Running { go_at, .. } => {
                let Some(job) = state.jobs.get(&key.task.job) else { continue };
                // A limit that was lowered to end by the deadline is over with it.
                let limit_s = live.time_limit_s.or(job.spec.time_limit_s);
                let limit = limit_s.map(|limit| go_at.plus_seconds(limit));
                let limit_over = limit.into_iter().chain(live.ends_by).min().filter(|over| *over <= now);
                let deadline = job.spec.eligibility.deadline;
                let verdict = match limit_over {
                    Some(over) if deadline.is_none_or(|deadline| over < deadline) => Verdict::TimedOut,
                    _ => Verdict::Deadline,
                };
                events.push(Event::AttemptEnding { key, verdict });
            }
            LivePhase::Preparing => {
                let late = live.instances.iter().position(|i| i.state == InstanceState::Preparing);
                let Some(late) = late else { continue };
                let node = live.allocation.shares[late].node;
                let more_s = state.jobs.get(&key.task.job).map_or(0, |job| job.spec.prepares_for_s());
                let within_s = state.config.policy.prepare_timeout_s + more_s;
                let reason = format!("it was not ready within {within_s} s");
                events.extend(report::hold(state, node, Failure::Prepare(&reason), now));
                events.push(Event::AttemptEnding { key, verdict: Verdict::PrepareFailed { node, reason } });
            }
            LivePhase::Ending { .. } => {}
        }
    }
    let due = state.signals().take_while(|(at, _)| *at <= now);
    events.extend(due.map(|(_, key)| Event::AttemptSignalled { key }));
    events.extend(ran_for(state, now));
    events.extend(conditions::due(state, now));
    events.extend(reservations::due(state, now));
    events.extend(cron::due(state, now));
    events.extend(power::due(state, now));
    batch::due(state, now, &mut events);
    if state.next_release().is_some_and(|first| first <= now) {
        for (i, node) in state.nodes.iter().enumerate() {
            if node.held.as_ref().and_then(|held| held.until).is_some_and(|until| until <= now) {
                events.extend(nodes::released(state, NodeId(i as u32)));
            }
        }
    }
    events
}

/// Attempts that have run for a part of their time limit of which somebody is to be told. Where several parts have gone by
/// at once, because the limit was lowered or the controller was away, the last of them counts.
fn ran_for(state: &State, now: Timestamp) -> impl Iterator<Item = Event> + '_ {
    state.marks().take_while(move |(at, _)| *at <= now).filter_map(move |(_, key)| {
        let job = state.jobs.get(&key.task.job)?;
        let live = job.live.get(&key.task.index)?;
        let LivePhase::Running { go_at, .. } = live.phase else { return None };
        if job.must_end_at(live, go_at).is_some_and(|end| end <= now) {
            return None;
        }
        let (_, percent) = job.marks(live, go_at).take_while(|(at, _)| *at <= now).last()?;
        Some(Event::AttemptRanFor { key, percent })
    })
}
