//! When a task is expected to start: the same planner, run forward in virtual time.

use crate::event::{Event, Usage, Verdict};
use crate::ids::{JobId, Timestamp};
use crate::state::State;

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
    let mut at = now;
    for _ in 0..STEPS_MAX {
        let plan = super::plan(&state, at);
        if plan.placements.iter().any(|placement| placement.key.task.job == job) {
            return Some(at);
        }
        if let Some(start) = plan.waiting.get(&job).and_then(|waiting| waiting.expected_start) {
            return Some(start);
        }
        for placement in plan.placements {
            let key = placement.key;
            state.evolve(&Event::AttemptPlaced { key, allocation: placement.allocation }, at);
            state.evolve(&Event::AttemptGo { key }, at);
        }
        at = next_instant(&state, at)?;
        end_due(&mut state, at);
    }
    None
}

/// The next instant at which an attempt ends or a delayed task becomes eligible.
fn next_instant(state: &State, at: Timestamp) -> Option<Timestamp> {
    let ends = state.live().filter_map(|(_, job, live)| live.deadline(job.spec.time_limit_s));
    let delays = state.delayed().map(|(until, _)| until);
    // What is already overdue ends a moment from now.
    let soon = Timestamp(at.0 + 1);
    let delays = delays.filter(|until| *until > at).chain(state.next_eligible(at));
    ends.map(|end| end.max(soon)).chain(delays).min()
}

fn end_due(state: &mut State, at: Timestamp) {
    let due: Vec<_> = state
        .live()
        .filter(|(_, job, live)| live.deadline(job.spec.time_limit_s).is_some_and(|end| end <= at))
        .map(|(key, _, live)| (key, live.instances.len() as u32))
        .collect();
    for (key, instances) in due {
        for instance in 0..instances {
            state.evolve(&Event::InstanceGone { key, instance, usage: Usage::default() }, at);
        }
        state.evolve(
            &Event::AttemptEnded { key, verdict: Verdict::Exited { code: 0 }, again_not_before: None },
            at,
        );
    }
}
