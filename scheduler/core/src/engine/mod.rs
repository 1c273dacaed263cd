//! The engine: an input comes in with its instant, events and effects go out.
//!
//! [`decide`] looks at the state and answers with events; [`State::evolve`] lets them happen; `effects` says
//! what the shell is to do because of each. [`Engine`] strings the three together.

mod batch;
mod change;
mod charge;
mod command;
mod conditions;
mod cron;
mod hold;
mod node;
mod nodes;
mod pools;
pub mod power;
mod report;
mod requeue;
pub(crate) mod reservations;
mod shape;
mod signal;
mod tick;
mod validate;

pub use self::batch::Trial;
use std::sync::Arc;

use crate::event::{Event, Record, Verdict};
use crate::ids::{AttemptKey, Timestamp};
use crate::input::{Decision, Effect, Input, Refusal, Reply};
use crate::plan::{Effort, Impossible, Line, Placement, Planner, Preemption};
use crate::state::{FinishedHow, Instance, InstanceState, Live, State};

/// Owns the state and lets inputs change it.
#[derive(Debug, Clone)]
pub struct Engine {
    state: State,
    planner: Planner,
}

/// What an input or a pass brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The events, to be made durable before anything else leaves.
    pub records: Vec<Record>,
    /// What to do then.
    pub effects: Vec<Effect>,
    /// The answer, for those who asked.
    pub reply: Result<Reply, Refusal>,
    /// What a pass did, if there was one.
    pub effort: Option<Effort>,
}

impl Engine {
    /// An engine in this state.
    #[must_use]
    pub fn new(state: State) -> Self {
        let planner = Planner::new(&state);
        Self { state, planner }
    }

    /// The state after everything that was applied.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether everything that the engine keeps beside the state still follows from it. For tests.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.planner.is_consistent(&self.state)
    }

    /// What passes look at.
    #[cfg(test)]
    pub(crate) fn planner(&self) -> &Planner {
        &self.planner
    }

    /// Gives the state back.
    #[must_use]
    pub fn into_state(self) -> State {
        self.state
    }

    /// Decides one input and lets its events happen.
    pub fn apply(&mut self, input: &Input, now: Timestamp) -> Applied {
        let more = match input {
            Input::NodeHello { node, boot_id, held, .. } => node::steps(&self.state, node, boot_id, held),
            _ => Vec::new(),
        };
        let decision = decide(&self.state, input, now);
        let mut applied = self.happen_so(decision, now);
        for step in more {
            let decision = node::step(&self.state, &step, now);
            let goes = decision
                .events
                .iter()
                .any(|event| matches!(event, Event::AttemptGo { .. } | Event::AttemptRan { .. }));
            let more = self.happen_so(decision, now);
            applied.records.extend(more.records);
            applied.effects.extend(more.effects);
            applied.effects.extend(node::repeated(&self.state, &step).filter(|_| !goes));
        }
        applied
    }

    /// Lets happen what was decided.
    fn happen_so(&mut self, decision: Decision, now: Timestamp) -> Applied {
        let mut applied = self.happen(decision.events, now);
        applied.effects.extend(decision.effects);
        applied.reply = decision.reply;
        applied
    }

    /// One scheduling pass. Does nothing if nothing happened that could let a task start.
    pub fn pass(&mut self, now: Timestamp) -> Applied {
        if !self.planner.is_due(&self.state, now) {
            return Applied {
                records: Vec::new(),
                effects: Vec::new(),
                reply: Ok(Reply::Done),
                effort: None,
            };
        }
        let plan = self.planner.pass(&self.state, now);
        let ending = |Preemption { victim, verdict }| Event::AttemptEnding { key: victim, verdict };
        let placed = |placement: Placement| Event::AttemptPlaced {
            key: placement.key,
            allocation: placement.allocation,
            ends_by: placement.ends_by,
            time_limit_s: placement.time_limit_s,
        };
        let line = |Line { behind, indices }: Line| Event::LineMade { behind, indices };
        let ends = plan.preemptions.into_iter().map(ending);
        let starts = plan.placements.into_iter().map(placed).chain(plan.lines.into_iter().map(line));
        let mut applied = self.happen(ends.chain(starts).collect(), now);
        applied.effort = Some(plan.effort);
        // What starts and ends is written down before nodes move: the planner looks at all anew then.
        let taken_back = batch::taken_back(&self.state, &plan.taken_back, now);
        if !taken_back.is_empty() {
            let more = self.happen(taken_back, now);
            // Of nodes that were idle nothing is heard any more that could call for the next pass.
            let next = self.pass(now);
            for more in [more, next] {
                applied.records.extend(more.records);
                applied.effects.extend(more.effects);
            }
        }
        applied
    }

    /// The waiting jobs that can never run as the configuration is.
    #[must_use]
    pub fn impossible(&self) -> Vec<Impossible> {
        self.planner.impossible(&self.state)
    }

    /// The next instant at which a [`Input::Tick`] or a pass has something to do even if nothing comes in.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let deadline = self.state.deadlines().next().map(|(at, _)| at);
        let signal = self.state.signals().next().map(|(at, _)| at);
        let mark = self.state.marks().next().map(|(at, _)| at);
        let delayed = self.planner.next_wake(&self.state);
        let held = self.state.next_release();
        let expiring = self.state.expiring().next().map(|(at, _)| at);
        // Due at once.
        let unfulfillable = self.state.unfulfillable().next().map(|_| Timestamp(0));
        let recurring = self.state.cron_due().next().map(|_| Timestamp(0));
        let reservation = self.state.next_reservation_end();
        let batch = self.state.batch_wake();
        let power = self.state.power_wake();
        [batch, power, deadline, signal, mark, delayed, held, expiring, unfulfillable, recurring, reservation]
            .into_iter()
            .flatten()
            .min()
    }

    fn happen(&mut self, events: Vec<Event>, now: Timestamp) -> Applied {
        let mut records = Vec::with_capacity(events.len());
        let mut all_effects = Vec::new();
        for event in events {
            self.planner.follow(&mut self.state, &event, now);
            effects(&self.state, &event, &mut all_effects);
            records.push(Record { at: now, event });
        }
        Applied { records, effects: all_effects, reply: Ok(Reply::Done), effort: None }
    }
}

/// Decides what an input means. Pure: nothing has happened before the events are let happen. What a hello says of attempts is
/// decided after that, step by step, by [`Engine::apply`].
#[must_use]
pub fn decide(state: &State, input: &Input, now: Timestamp) -> Decision {
    match input {
        Input::Configure(config) => {
            let same = **state.declared_config() == **config;
            let events = if same { vec![] } else { vec![Event::Configured { config: Arc::clone(config) }] };
            done(events)
        }
        Input::Submit { caller, spec, request_key } => {
            command::submit(state, *caller, spec, request_key.as_deref(), now)
        }
        Input::Signal { caller, target, signal, to } => signal::signal(state, *caller, *target, *signal, *to),
        Input::SignalStep { caller, target, step, signal } => {
            signal::signal_step(state, *caller, *target, *step, *signal)
        }
        Input::AttachStep { caller, target, step, viewer } => {
            signal::attach_step(state, *caller, *target, *step, viewer)
        }
        Input::Requeue { caller, target, hold } => requeue::requeue(state, *caller, *target, *hold, now),
        Input::UpdateJob { caller, job, change } => change::update(state, *caller, *job, change, now),
        Input::HoldJob { caller, target } => hold::hold(state, *caller, *target),
        Input::ReleaseJob { caller, target } => hold::release(state, *caller, *target),
        Input::Cancel { caller, target } => command::cancel(state, *caller, *target, now),
        Input::SetCrontab { caller, uid, crontab } => {
            cron::set(state, *caller, *uid, crontab.as_deref(), now)
        }
        Input::StopCron { caller, target } => cron::stop(state, *caller, *target, now),
        Input::ChangeNodes { caller, nodes, change } => nodes::change(state, *caller, nodes, change, now),
        Input::ChangePool { caller, pool, state: to } => pools::change(state, *caller, pool, *to),
        Input::MakeReservation { caller, spec } => reservations::make(state, *caller, spec, now),
        Input::RemoveReservation { caller, name } => reservations::remove(state, *caller, name),
        Input::NodeHello { node, boot_id, hardware, held } => {
            node::hello(state, node, boot_id, hardware, held)
        }
        Input::NodeHealth { node, problem } => node::health(state, node, problem.as_ref()),
        Input::NodeSetUp { node, number, errors } => batch::set_up(state, node, *number, errors),
        Input::PoolUsed(readings) => done(batch::heard(state, readings)),
        Input::NodeReport { node, report } => node::report(state, node, report, now),
        Input::NodeSilent { node, reason } => node::silent(state, node, reason, now),
        Input::NodePower { node, report } => power::report(state, node, report, now),
        Input::Batch(input) => batch::decide(state, input, now),
        Input::Tick => done(tick::tick(state, now)),
    }
}

/// A decision that only lets events happen.
fn done(events: Vec<Event>) -> Decision {
    Decision { events, effects: Vec::new(), reply: Ok(Reply::Done) }
}

/// A decision that changes nothing.
fn refused(refusal: Refusal) -> Decision {
    Decision { events: Vec::new(), effects: Vec::new(), reply: Err(refusal) }
}

/// What the shell is to do because of an event that has just happened in `state`.
fn effects(state: &State, event: &Event, out: &mut Vec<Effect>) {
    match event {
        Event::AttemptPlaced { key, allocation, .. } => {
            out.extend((0..allocation.shares.len()).filter_map(|i| prepare_effect(state, *key, i as u32)));
        }
        Event::LineMade { behind, .. } => {
            let next = |key: &AttemptKey| state.behind(*key);
            let line = std::iter::successors(state.behind(*behind), next);
            out.extend(line.filter_map(|key| prepare_effect(state, key, 0)));
        }
        Event::AttemptGo { key } => {
            // What starts at once has started already.
            let Some(live) = state.live_attempt(key.task).filter(|live| live.is_ready()) else { return };
            out.extend((0..live.instances.len()).map(|i| go_effect(live, *key, i as u32)));
        }
        Event::AttemptSignalled { key } => out.extend(signal::wished(state, *key)),
        Event::AttemptEnding { key, verdict } => {
            let Some(live) = state.live_attempt(key.task) else { return };
            for (i, instance) in live.instances.iter().enumerate() {
                if instance.holds_share() {
                    out.push(stop_effect(state, live, *key, i as u32, verdict));
                }
            }
        }
        Event::InstanceGone { key, instance, .. } => {
            let Some(live) = state.live_attempt(key.task) else { return };
            out.push(Effect::Forget { node: live.allocation.shares[*instance as usize].node, key: *key });
        }
        Event::AttemptRan { key, .. } => {
            // Its job stays in memory at least until the next input, even if this was the last task.
            let finished = state.jobs.get(&key.task.job).and_then(|job| job.finished.get(&key.task.index));
            let Some(FinishedHow::Ran { allocation, .. }) = finished.map(|finished| &finished.how) else {
                return;
            };
            out.extend(allocation.shares.iter().map(|share| Effect::Forget { node: share.node, key: *key }));
        }
        Event::StaleGone { node, key } => out.push(Effect::Forget { node: *node, key: *key }),
        Event::Batch { batch } => batch::effects(state, batch, out),
        _ => {}
    }
}

fn prepare_effect(state: &State, key: AttemptKey, instance: u32) -> Option<Effect> {
    let job = state.jobs.get(&key.task.job)?;
    let live = job.live.get(&key.task.index)?;
    Some(Effect::Prepare {
        node: live.allocation.shares.get(instance as usize)?.node,
        key,
        instance,
        allocation: Arc::clone(&live.allocation),
        spec: Arc::clone(&job.spec),
        time_limit_s: live.time_limit_s.or(job.spec.time_limit_s),
        after: state.ahead_of(key),
    })
}

fn go_effect(live: &Live, key: AttemptKey, instance: u32) -> Effect {
    let endpoint = |instance: &Instance| match &instance.state {
        InstanceState::Ready(endpoint) => endpoint.clone(),
        _ => Default::default(),
    };
    // The primary reaches all others, and they it alone: to tell each of all would take the square of their number.
    let told = if instance == 0 { live.instances.len() } else { 1 };
    let peers = live.instances.iter().take(told).map(endpoint).collect();
    Effect::Go { node: live.allocation.shares[instance as usize].node, key, peers }
}

fn stop_effect(state: &State, live: &Live, key: AttemptKey, instance: u32, verdict: &Verdict) -> Effect {
    let node = live.allocation.shares[instance as usize].node;
    // Only those ends leave work that deserves a chance to save itself.
    let grace_ms = match verdict {
        Verdict::Preempted { grace_ms, .. } => *grace_ms,
        Verdict::TimedOut | Verdict::Deadline | Verdict::Cancelled { .. } | Verdict::Requeued { .. } => {
            state.config.policy.kill_grace_ms
        }
        _ => 0,
    };
    Effect::Stop { node, key, grace_ms, reason: describe(state, verdict), cause: verdict.into() }
}

/// A verdict as a few words for people.
#[must_use]
pub fn describe(state: &State, verdict: &Verdict) -> String {
    let name = |node: &crate::ids::NodeId| state.node(*node).name.clone();
    match verdict {
        Verdict::Exited { code } => format!("exit code {code}"),
        Verdict::Signalled { signal } => format!("killed by signal {signal}"),
        Verdict::OutOfMemory { .. } => "ran out of the memory of its allocation".to_owned(),
        Verdict::TimedOut => "ran out of its time limit".to_owned(),
        Verdict::Deadline => "ran until its deadline".to_owned(),
        Verdict::Cancelled { by_uid } => format!("cancelled by user id {by_uid}"),
        Verdict::Requeued { by_uid } => format!("put back into the queue by user id {by_uid}"),
        Verdict::Preempted { by, requeue: true, .. } => format!("preempted by job {}", by.job),
        Verdict::Preempted { by, requeue: false, .. } => format!("preempted by job {}, for good", by.job),
        Verdict::LaunchFailed { reason } => format!("could not be started: {reason}"),
        Verdict::StageInFailed { node, failure } => {
            format!("could not be prepared on node {}: {failure}", name(node))
        }
        Verdict::StageOutFailed { failure } => format!("its files could not be taken away: {failure}"),
        Verdict::PrepareFailed { node, reason } => {
            format!("node {} could not prepare it: {reason}", name(node))
        }
        Verdict::NodeFailed { node, reason } => format!("node {} failed: {reason}", name(node)),
        Verdict::Broken { node, reason } => format!("ended by node {}: {reason}", name(node)),
    }
}

#[cfg(test)]
mod at_once_tests;
#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod charge_tests;
#[cfg(test)]
mod cron_tests;
#[cfg(test)]
mod eligibility_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod nodes_tests;
#[cfg(test)]
mod reservation_tests;
#[cfg(test)]
mod staging_tests;
#[cfg(test)]
mod tasks_tests;
#[cfg(test)]
mod tests;
