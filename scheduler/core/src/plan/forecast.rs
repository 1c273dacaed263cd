//! When a task is expected to start: the same planner, run forward in virtual time.

use super::{Placement, Planner, Reason};
use crate::engine::reservations;
use crate::event::{Event, Usage, Verdict};
use crate::ids::{JobId, Timestamp};
use crate::reservation::REPEAT_SPAN_US;
use crate::state::State;

/// How many steps of virtual time a forecast takes before it gives up.
const STEPS_MAX: usize = 2_000;

/// The instant at which the next waiting task of `job` starts if nothing new is submitted and everything that runs
/// uses its whole time limit; none if that lies beyond the forecast's depth or nodes must return first.
#[must_use]
pub fn expected_start(state: &State, job: JobId, now: Timestamp) -> Option<Timestamp> {
    let waiting = state.jobs.get(&job)?;
    let is_over = |reason: Reason| matches!(reason, Reason::ReservationOver { .. });
    if !super::eligible::can_come(waiting, now)
        || super::advance::lets_start(state, waiting, now).is_err_and(is_over)
    {
        return None;
    }
    let mut state = state.clone();
    let mut planner = Planner::new(&state);
    let mut at = now;
    let mut quiet_since = now;
    for _ in 0..STEPS_MAX {
        let placements = planner.pass(&state, at);
        if placements.iter().any(|placement| placement.key.task.job == job) {
            return Some(at);
        }
        let mut happen = |event: &Event| planner.follow(&mut state, event, at);
        for Placement { key, allocation, ends_by } in placements {
            happen(&Event::AttemptPlaced { key, allocation, ends_by });
            happen(&Event::AttemptGo { key });
        }
        let other = next_instant(&state, at);
        let window = state.next_reservation_instant(at);
        at = other.into_iter().chain(window).min()?;
        if other == Some(at) || state.live_count() > 0 {
            quiet_since = at;
        }
        // Where only windows come and go, what has not started in the time in which they repeat never will.
        let from = quiet_since.max(state.windows_only_repeat_from());
        if other.is_none() && at.micros_since(from) > REPEAT_SPAN_US {
            return None;
        }
        end_due(&mut state, &mut planner, at);
    }
    None
}

/// The next instant at which an attempt ends or a delayed task becomes eligible.
fn next_instant(state: &State, at: Timestamp) -> Option<Timestamp> {
    let ends = state.live().filter_map(|(_, job, live)| live.deadline(job.spec.time_limit_s));
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
        .filter(|(_, job, live)| live.deadline(job.spec.time_limit_s).is_some_and(|end| end <= at))
        .map(|(key, _, live)| (key, live.instances.len() as u32))
        .collect();
    let windows = reservations::due(state, at);
    let mut happen = |event: &Event| planner.follow(state, event, at);
    windows.iter().for_each(&mut happen);
    for (key, instances) in due {
        for instance in 0..instances {
            happen(&Event::InstanceGone { key, instance, usage: Usage::default() });
        }
        // What depends on its success is foreseen to start.
        let verdict = Verdict::Exited { code: 0 };
        happen(&Event::AttemptEnded { key, verdict, again_not_before: None });
    }
}
