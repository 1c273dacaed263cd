//! When a task is expected to start: the same planner, run forward in virtual time.

use super::{Placement, Planner, Preemption};
use crate::event::{Event, Usage, Verdict};
use crate::ids::{JobId, Timestamp};
use crate::state::{Job, Live, LivePhase, State};

/// How many steps of virtual time a forecast takes before it gives up.
const STEPS_MAX: usize = 2_000;

/// The instant at which the next waiting task of `job` starts if nothing new is submitted and everything that runs
/// uses its whole time limit; none if that lies beyond the forecast's depth or nodes must return first.
#[must_use]
pub fn expected_start(state: &State, job: JobId, now: Timestamp) -> Option<Timestamp> {
    if state.jobs.get(&job).is_none_or(|job| !super::eligible::can_come(job, now)) {
        return None;
    }
    let mut state = state.clone();
    let mut planner = Planner::new(&state);
    let mut at = now;
    for _ in 0..STEPS_MAX {
        let plan = planner.pass(&state, at);
        if plan.placements.iter().any(|placement| placement.key.task.job == job) {
            return Some(at);
        }
        let mut happen = |event: &Event| planner.follow(&mut state, event, at);
        for Preemption { victim, verdict } in plan.preemptions {
            happen(&Event::AttemptEnding { key: victim, verdict });
        }
        for Placement { key, allocation } in plan.placements {
            happen(&Event::AttemptPlaced { key, allocation });
            happen(&Event::AttemptGo { key });
        }
        at = next_instant(&state, at)?;
        end_due(&mut state, &mut planner, at);
    }
    None
}

/// When an attempt is gone at the latest: one that was preempted may use its whole grace.
fn gone_at(job: &Job, live: &Live) -> Option<Timestamp> {
    match &live.phase {
        LivePhase::Ending { since, verdict: Verdict::Preempted { grace_ms, .. }, .. } => {
            Some(Timestamp(since.0.saturating_add(u64::from(*grace_ms) * 1000)))
        }
        _ => live.deadline(job.spec.time_limit_s),
    }
}

/// The next instant at which an attempt ends or a delayed task becomes eligible.
fn next_instant(state: &State, at: Timestamp) -> Option<Timestamp> {
    let ends = state.live().filter_map(|(_, job, live)| gone_at(job, live));
    let delays = state.delayed().map(|(until, _)| until);
    // What is already overdue ends a moment from now.
    let soon = Timestamp(at.0 + 1);
    let delays = delays.filter(|until| *until > at);
    let eligible = state.next_eligible(at);
    ends.map(|end| end.max(soon)).chain(delays).chain(eligible).min()
}

fn end_due(state: &mut State, planner: &mut Planner, at: Timestamp) {
    let due: Vec<_> = state
        .live()
        .filter(|(_, job, live)| gone_at(job, live).is_some_and(|end| end <= at))
        .map(|(key, _, live)| (key, live.instances.len() as u32, preempted(live)))
        .collect();
    let mut happen = |event: &Event| planner.follow(state, event, at);
    for (key, instances, preempted) in due {
        for instance in 0..instances {
            happen(&Event::InstanceGone { key, instance, usage: Usage::default() });
        }
        // What depends on its success is foreseen to start.
        let verdict = preempted.unwrap_or(Verdict::Exited { code: 0 });
        let again = matches!(verdict, Verdict::Preempted { requeue: true, .. });
        happen(&Event::AttemptEnded { key, verdict, again_not_before: again.then_some(at) });
    }
}

/// How an attempt ends whose place is taken.
fn preempted(live: &Live) -> Option<Verdict> {
    match &live.phase {
        LivePhase::Ending { verdict: verdict @ Verdict::Preempted { .. }, .. } => Some(verdict.clone()),
        _ => None,
    }
}
