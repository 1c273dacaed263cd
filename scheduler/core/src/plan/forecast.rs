//! When tasks are expected to start: the same planner, run forward in virtual time.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Placement, Planner, Preemption, Reason, advance, eligible};
use crate::engine::reservations;
use crate::event::{Allocation, Event, Usage, Verdict};
use crate::ids::{AttemptKey, JobId, Timestamp};
use crate::reservation::REPEAT_SPAN_US;
use crate::state::{Job, Live, LivePhase, State};

/// How many steps of virtual time a forecast takes before it gives up.
pub const FORECAST_STEPS_MAX: usize = 100_000;

/// What starts when if nothing new is submitted and everything that runs uses its whole time limit: so each start is
/// the latest that is to be expected.
///
/// It goes forward only as far as it is asked, and remembers what it has seen: one forecast answers for all jobs.
#[derive(Debug, Clone)]
pub struct Forecast {
    state: State,
    planner: Planner,
    at: Timestamp,
    steps: usize,
    /// Since when nothing but windows of advance reservations comes.
    quiet_since: Timestamp,
    starts: HashMap<JobId, (Timestamp, Arc<Allocation>)>,
    /// When attempts are gone at the latest whose place is taken.
    leaving: HashMap<AttemptKey, Timestamp>,
    /// Whether nothing more is to come, or it has given up.
    is_over: bool,
}

impl Forecast {
    /// The forecast for a state from `now` on.
    #[must_use]
    pub fn new(state: State, now: Timestamp) -> Self {
        let planner = Planner::new(&state);
        let leaving = state.live().filter_map(|(key, _, live)| Some((key, gone_at(live)?))).collect();
        Self {
            state,
            planner,
            at: now,
            steps: 0,
            quiet_since: now,
            starts: HashMap::new(),
            leaving,
            is_over: false,
        }
    }

    /// When the next task of a job starts that waited at the beginning, as far as it has been foreseen.
    #[must_use]
    pub fn start_of(&self, job: JobId) -> Option<Timestamp> {
        self.starts.get(&job).map(|(at, _)| *at)
    }

    /// What that task gets then.
    #[must_use]
    pub fn allocation_of(&self, job: JobId) -> Option<&Allocation> {
        self.starts.get(&job).map(|(_, allocation)| &**allocation)
    }

    /// Whether there is nothing more to foresee.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether going on may tell when a job starts: it waits, and for nothing but time and others.
    #[must_use]
    pub fn may_tell(&self, job: JobId) -> bool {
        let waits = |job: &&Arc<Job>| !job.waiting.is_empty();
        let job = self.state.jobs.get(&job).filter(waits);
        !self.is_over && job.is_some_and(|job| can_come(&self.state, job, self.at))
    }

    /// Goes on to the next instant at which something may start.
    pub fn step(&mut self) {
        if self.is_over {
            return;
        }
        let at = self.at;
        let plan = self.planner.pass(&self.state, at);
        for Preemption { victim, verdict } in plan.preemptions {
            self.planner.follow(&mut self.state, &Event::AttemptEnding { key: victim, verdict }, at);
            let gone = self.state.live_attempt(victim.task).and_then(gone_at);
            self.leaving.extend(gone.map(|gone| (victim, gone)));
        }
        for Placement { key, allocation, time_limit_s, ends_by } in plan.placements {
            self.starts.entry(key.task.job).or_insert_with(|| (at, Arc::clone(&allocation)));
            let placed = Event::AttemptPlaced { key, allocation, time_limit_s, ends_by };
            self.planner.follow(&mut self.state, &placed, at);
            self.planner.follow(&mut self.state, &Event::AttemptGo { key }, at);
        }
        self.steps += 1;
        let other = next_instant(&self.state, &self.planner, &self.leaving, at);
        let window = self.state.next_reservation_instant(at);
        let next = other.into_iter().chain(window).min().filter(|next| !self.only_repeats(*next, other));
        let goes_on = self.steps < FORECAST_STEPS_MAX && self.state.queue_len() > 0;
        match next.filter(|_| goes_on) {
            Some(next) => {
                self.at = next;
                end_due(&mut self.state, &mut self.planner, &mut self.leaving, next);
            }
            None => self.is_over = true,
        }
    }

    /// Whether only windows come and go, so that what has not started in the time in which they repeat never will.
    fn only_repeats(&mut self, next: Timestamp, other: Option<Timestamp>) -> bool {
        if other.is_some() {
            self.quiet_since = next;
        }
        let from = self.quiet_since.max(self.state.windows_only_repeat_from());
        next.micros_since(from) > REPEAT_SPAN_US
    }
}

/// Whether the passing of time may let a job start without anybody doing something.
fn can_come(state: &State, job: &Job, now: Timestamp) -> bool {
    let is_over = |reason: Reason| matches!(reason, Reason::ReservationOver { .. } | Reason::PoolDown { .. });
    eligible::can_come(job, now) && !advance::lets_start_here(state, job, now).is_err_and(is_over)
}

/// The instant at which the next waiting task of `job` starts if nothing new is submitted and everything that runs
/// uses its whole time limit; none if that lies beyond the forecast's depth or nodes must return first.
#[must_use]
pub fn expected_start(state: &State, job: JobId, now: Timestamp) -> Option<Timestamp> {
    if state.jobs.get(&job).is_none_or(|job| job.waiting.is_empty() || !can_come(state, job, now)) {
        return None;
    }
    let mut forecast = Forecast::new(state.clone(), now);
    while forecast.start_of(job).is_none() && !forecast.is_over() {
        forecast.step();
    }
    forecast.start_of(job)
}

/// When an attempt is gone at the latest that was preempted: it may use its whole grace.
fn gone_at(live: &Live) -> Option<Timestamp> {
    match &live.phase {
        LivePhase::Ending { since, verdict: Verdict::Preempted { grace_ms, .. }, .. } => {
            Some(Timestamp(since.0.saturating_add(u64::from(*grace_ms) * 1000)))
        }
        _ => None,
    }
}

/// The next instant at which an attempt ends or a delayed task becomes eligible.
fn next_instant(
    state: &State,
    planner: &Planner,
    leaving: &HashMap<AttemptKey, Timestamp>,
    at: Timestamp,
) -> Option<Timestamp> {
    // What is already overdue ends a moment from now.
    let soon = Timestamp(at.0 + 1);
    let end = planner.ends.keys().find(|(_, key)| !leaving.contains_key(key)).map(|(end, _)| *end);
    let end = end.into_iter().chain(leaving.values().copied()).min().map(|end| end.max(soon));
    let end = end.filter(|end| *end < Timestamp(u64::MAX));
    let delay = state.delayed().map(|(until, _)| until).find(|until| *until > at);
    [end, delay, state.next_eligible(at)].into_iter().flatten().min()
}

fn end_due(
    state: &mut State,
    planner: &mut Planner,
    leaving: &mut HashMap<AttemptKey, Timestamp>,
    at: Timestamp,
) {
    for event in reservations::due(state, at) {
        planner.follow(state, &event, at);
    }
    let due: Vec<AttemptKey> = planner
        .ends
        .range(..=(at, AttemptKey::LAST))
        .map(|((_, key), _)| *key)
        .filter(|key| leaving.get(key).is_none_or(|gone| *gone <= at))
        .collect();
    for key in due {
        leaving.remove(&key);
        let live = state.live_attempt(key.task);
        let instances = live.map_or(0, |live| live.instances.len() as u32);
        // What depends on its success is foreseen to start.
        let verdict = live.and_then(preempted).unwrap_or(Verdict::Exited { code: 0 });
        let mut happen = |event: &Event| planner.follow(state, event, at);
        for instance in 0..instances {
            happen(&Event::InstanceGone { key, instance, usage: Usage::default() });
        }
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
