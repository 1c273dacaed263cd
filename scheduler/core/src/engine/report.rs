//! What nodes report of instances, and what that means for the attempt.

use super::{done, stop_effect};
use crate::event::{Event, Verdict};
use crate::ids::{AttemptKey, NodeId, Timestamp};
use crate::input::{Decision, Effect, GoneHow, InstancePhase, InstanceReport, Reply, StopCause};
use crate::state::{FIRST_ATTEMPT, Held, Instance, InstanceState, Job, Live, LivePhase, State};

/// Decides what a report means. A report always says the instance's whole phase, so one that comes twice, or
/// late, says nothing new.
pub(super) fn report(state: &State, node: NodeId, report: &InstanceReport, now: Timestamp) -> Decision {
    let key = report.key;
    let known = state.jobs.get(&key.task.job).and_then(|job| Some((job, job.live.get(&key.task.index)?)));
    let held = known.and_then(|(job, live)| Some((job, live, instance_on(live, node, report)?)));
    let Some((job, live, instance)) = held else { return unknown(state, node, report) };
    let ending = matches!(live.phase, LivePhase::Ending { .. });
    match &report.phase {
        InstancePhase::Preparing => done(Vec::new()),
        InstancePhase::Ready(endpoint) => {
            if live.instances[instance as usize].state != InstanceState::Preparing {
                return done(Vec::new());
            }
            let mut events = vec![Event::InstanceReady { key, instance, endpoint: endpoint.clone() }];
            let not_ready = |other: &Instance| !matches!(other.state, InstanceState::Ready(_));
            if live.phase == LivePhase::Preparing && !others(live, instance).any(not_ready) {
                events.push(Event::AttemptGo { key });
            }
            done(events)
        }
        InstancePhase::Running { started_at } => done(started(job, live, key, instance, *started_at, now)),
        InstancePhase::Gone { how: GoneHow::Returned, .. }
            if live.phase == LivePhase::Preparing
                && job.spec.starts_at_once(live.instances.len())
                && key.attempt == FIRST_ATTEMPT =>
        {
            let effects = vec![Effect::Forget { node, key }];
            Decision { events: vec![Event::AttemptReturned { key }], effects, reply: Ok(Reply::Done) }
        }
        InstancePhase::Gone { how, usage, started_at } => {
            if let (GoneHow::Exited { .. }, Some(started_at)) = (how, started_at)
                && starts_now(job, live)
                && let Some(verdict) = verdict(job, live, node, instance, how)
            {
                let started_at = start(live, *started_at, now);
                return done(vec![Event::AttemptRan { key, started_at, usage: *usage, verdict }]);
            }
            let mut events = match started_at {
                Some(started_at) => started(job, live, key, instance, *started_at, now),
                None => Vec::new(),
            };
            events.push(Event::InstanceGone { key, instance, usage: *usage });
            let verdict = if ending { None } else { verdict(job, live, node, instance, how) };
            if let Some(verdict) = &verdict {
                events.push(Event::AttemptEnding { key, verdict: verdict.clone() });
            }
            let failure = match how {
                GoneHow::PrepareFailed { reason, node_at_fault: true } => Some(Failure::Prepare(reason)),
                GoneHow::Broken { reason } if !ending => Some(Failure::Broken(reason)),
                _ => None,
            };
            events.extend(failure.and_then(|failure| hold(state, node, failure, now)));
            events.extend(ended_if_last(state, job, live, key, instance, verdict, now));
            done(events)
        }
    }
}

/// What the start of the script means, if it is news. That of an attempt that starts at once is the first that is heard of
/// it, so that the word to start is written down with it.
fn started(
    job: &Job,
    live: &Live,
    key: AttemptKey,
    instance: u32,
    started_at: Timestamp,
    now: Timestamp,
) -> Vec<Event> {
    match live.phase {
        LivePhase::Running { started_at: None, .. } if instance == 0 => {
            vec![running(key, live, started_at, now)]
        }
        _ if starts_now(job, live) => {
            vec![Event::AttemptGo { key }, running(key, live, started_at, now)]
        }
        _ => Vec::new(),
    }
}

/// Whether the attempt starts as soon as its node has prepared it, and nothing was heard of its start so far.
pub(super) fn starts_now(job: &Job, live: &Live) -> bool {
    live.phase == LivePhase::Preparing && job.spec.starts_at_once(live.instances.len())
}

fn running(key: AttemptKey, live: &Live, started_at: Timestamp, now: Timestamp) -> Event {
    Event::AttemptRunning { key, started_at: start(live, started_at, now) }
}

/// The script's start, which the node tells by its own clock: that may be wrong, but it was between the word to start
/// and now.
fn start(live: &Live, started_at: Timestamp, now: Timestamp) -> Timestamp {
    let earliest = match live.phase {
        LivePhase::Running { go_at, .. } => go_at,
        _ => live.placed_at,
    };
    started_at.min(now).max(earliest)
}

/// Which instance of this live attempt the node holds a share for. One that was given up does not, even if its node
/// has come back with it. The allocation says which it is: a node that knows nothing of the attempt does not.
fn instance_on(live: &Live, node: NodeId, report: &InstanceReport) -> Option<u32> {
    if live.attempt != report.key.attempt {
        return None;
    }
    // What the report says is nearly always so, and spares looking for it among thousands.
    let shares = &live.allocation.shares;
    let said = shares.get(report.instance as usize).filter(|share| share.node == node);
    let instance = said.map(|_| report.instance).or_else(|| live.allocation.instance_on(node))?;
    live.instances[instance as usize].holds_share().then_some(instance)
}

/// The other instances, those that are next to this one first. Those of a gang report in no particular order, or in their own: one
/// about which something is not yet known is soon found from here, where a search from the first would pass all that are known.
fn others(live: &Live, instance: u32) -> impl Iterator<Item = &Instance> {
    let at = instance as usize;
    let (before, after) = live.instances.split_at(at.min(live.instances.len()));
    let mut after = after.iter().skip(1);
    let mut before = before.iter().rev();
    std::iter::from_fn(move || {
        after.next().map(|other| (other, before.next())).or_else(|| Some((before.next()?, None)))
    })
    .flat_map(|(one, other)| std::iter::once(one).chain(other))
}

/// A report of an attempt that is not live here: it ended, or never was.
fn unknown(state: &State, node: NodeId, report: &InstanceReport) -> Decision {
    let key = report.key;
    match report.phase {
        InstancePhase::Gone { .. } if state.node(node).stale.contains(&key) => {
            done(vec![Event::StaleGone { node, key }])
        }
        InstancePhase::Gone { .. } => forget(node, key),
        _ => {
            let reason = "this attempt has ended".to_owned();
            let stop = Effect::Stop { node, key, grace_ms: 0, reason, cause: StopCause::None };
            Decision { events: Vec::new(), effects: vec![stop], reply: Ok(Reply::Done) }
        }
    }
}

fn forget(node: NodeId, key: AttemptKey) -> Decision {
    Decision { events: Vec::new(), effects: vec![Effect::Forget { node, key }], reply: Ok(Reply::Done) }
}

/// How the attempt ends because this instance is gone, if it ends because of it.
fn verdict(job: &Job, live: &Live, node: NodeId, instance: u32, how: &GoneHow) -> Option<Verdict> {
    let running = matches!(live.phase, LivePhase::Running { .. });
    Some(match how {
        GoneHow::PrepareFailed { reason, node_at_fault: true } => {
            Verdict::PrepareFailed { node, reason: reason.clone() }
        }
        GoneHow::PrepareFailed { reason, node_at_fault: false } => {
            Verdict::LaunchFailed { reason: reason.clone() }
        }
        GoneHow::StageInFailed(failure) => Verdict::StageInFailed { node, failure: failure.clone() },
        GoneHow::StageOutFailed(failure) => Verdict::StageOutFailed { failure: failure.clone() },
        GoneHow::Exited { code, signal, out_of_memory: true } if *code != 0 || *signal != 0 => {
            Verdict::OutOfMemory { code: *code, signal: *signal }
        }
        GoneHow::Exited { signal, .. } if *signal != 0 => Verdict::Signalled { signal: *signal },
        GoneHow::Exited { code, .. } => Verdict::Exited { code: *code },
        // The primary tells the others that the script ended; its own report with the exit status is under way.
        GoneHow::Stopped if instance != 0 && running => return None,
        GoneHow::Stopped | GoneHow::Returned => {
            let reason = format!("the node stopped job {} without being asked to", job.id);
            Verdict::Broken { node, reason }
        }
        GoneHow::Broken { reason } => Verdict::Broken { node, reason: reason.clone() },
    })
}

/// After so many attempts in a row that a node has ended itself, it is held back.
const FAILURES_MAX: u32 = 3;
/// How often the time for which a node is held back is doubled at most.
const DOUBLED_MAX: u32 = 6;

/// What went wrong on a node, for people.
pub(super) enum Failure<'a> {
    /// It could not prepare an attempt.
    Prepare(&'a str),
    /// It ended an attempt that ran.
    Broken(&'a str),
}

/// A node that could not prepare is held back for a while, and one that ends attempts again and again; each time in a
/// row for twice as long, unless it is already held for longer than that, or by an admin.
pub(super) fn hold(state: &State, node: NodeId, failure: Failure<'_>, now: Timestamp) -> Option<Event> {
    let before = state.node(node).failures;
    let (times, reason) = match failure {
        Failure::Prepare(reason) => (before, format!("a prepare failed: {reason}")),
        Failure::Broken(reason) => {
            let times = (before + 1).checked_sub(FAILURES_MAX)?;
            (times, format!("{} attempts in a row failed on it, the last one: {reason}", before + 1))
        }
    };
    let seconds = state.config.policy.hold_node_s.saturating_mul(1 << times.min(DOUBLED_MAX));
    let until = now.plus_seconds(seconds);
    let stays = |held: &Held| held.by_uid.is_some() || held.until.is_none_or(|already| already > until);
    if state.node(node).held.as_ref().is_some_and(stays) {
        return None;
    }
    Some(Event::NodeHeld { node, reason, until: Some(until), by_uid: None, down: false })
}

/// The end of the attempt, if `gone` was its last instance.
fn ended_if_last(
    state: &State,
    job: &Job,
    live: &Live,
    key: AttemptKey,
    gone: u32,
    verdict: Option<Verdict>,
    now: Timestamp,
) -> Option<Event> {
    if !is_last(live, gone) {
        return None;
    }
    let verdict = match (&live.phase, verdict) {
        (LivePhase::Ending { verdict, .. }, _) => verdict.clone(),
        (_, Some(verdict)) => verdict,
        (_, None) => return None,
    };
    Some(ended(state, job, key, verdict, now))
}

/// Whether nothing of the attempt is left anywhere.
pub(super) fn all_gone(live: &Live) -> bool {
    !live.instances.iter().any(|instance| instance.holds_share())
}

/// Whether nothing of the attempt is left anywhere but for this instance.
pub(super) fn is_last(live: &Live, instance: u32) -> bool {
    !others(live, instance).any(Instance::holds_share)
}

/// Whether a task whose attempt ends like this is tried again, were it not for the limit of attempts.
pub(super) fn would_requeue(job: &Job, verdict: &Verdict) -> bool {
    match verdict {
        // Nothing of the user's script has run: that is always safe to try again.
        Verdict::PrepareFailed { .. } | Verdict::Requeued { .. } => true,
        Verdict::NodeFailed { .. } | Verdict::Broken { .. } => job.spec.requeue,
        Verdict::Preempted { requeue, .. } => *requeue,
        _ => false,
    }
}

/// The end of an attempt, with what becomes of its task.
pub(super) fn ended(state: &State, job: &Job, key: AttemptKey, verdict: Verdict, now: Timestamp) -> Event {
    let policy = &state.config.policy;
    // That others took its place, or that somebody wanted it, is no failure of the task.
    let no_failures = job.tried.get(&key.task.index).map_or(0, |tried| tried.preempted + tried.requeued);
    let may_try = matches!(verdict, Verdict::Preempted { .. } | Verdict::Requeued { .. })
        || job.attempts_until(key.task.index, key.attempt).saturating_sub(no_failures) < policy.attempts_max;
    let again_not_before = (would_requeue(job, &verdict) && may_try).then(|| match verdict {
        // The failing node is held back, so that the task may go on at once elsewhere.
        Verdict::PrepareFailed { .. } | Verdict::Preempted { .. } | Verdict::Requeued { .. } => now,
        _ => now.plus_seconds(policy.requeue_delay_s),
    });
    Event::AttemptEnded { key, verdict, again_not_before }
}

/// What a node must hear again after it reconnected, given what it says it holds.
pub(super) fn repeat(state: &State, live: &Live, node: NodeId, report: &InstanceReport) -> Option<Effect> {
    let key = report.key;
    let instance = live.allocation.instance_on(node)?;
    match (&live.phase, &report.phase) {
        (_, InstancePhase::Gone { .. }) => None,
        (LivePhase::Ending { verdict, .. }, _) => Some(stop_effect(state, live, key, instance, verdict)),
        (LivePhase::Running { .. }, InstancePhase::Ready(_)) => Some(super::go_effect(live, key, instance)),
        _ => None,
    }
}
