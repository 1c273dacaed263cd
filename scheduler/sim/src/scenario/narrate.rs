//! Events as sentences of a transcript.

use std::collections::BTreeMap;

use muster_core::engine::describe;
use muster_core::event::{Allocation, Event, Verdict};
use muster_core::ids::{JobId, NodeId, TaskId};
use muster_core::notation::{format_hosts, format_time_s};
use muster_core::state::{Power, State};

/// What an event means for a reader; nothing for the many that only carry on what was told.
pub(super) fn event(state: &State, names: &BTreeMap<JobId, String>, event: &Event) -> Option<String> {
    let node = |id: &NodeId| state.node(*id).name.as_str();
    Some(match event {
        Event::AttemptPlaced { key, allocation, time_limit_s, .. } => {
            let again =
                if key.attempt > 1 { format!(" again, attempt {},", key.attempt) } else { String::new() };
            let short =
                time_limit_s.map(|limit| format!(" for {}", format_time_s(limit))).unwrap_or_default();
            let places = places(state, allocation);
            format!("{} starts{again}{short} on {places}", task(state, names, key.task))
        }
        Event::AttemptEnding { key, verdict: Verdict::Preempted { by, requeue, grace_ms } } => {
            let then = if *requeue { "and waits again" } else { "for good" };
            let grace = format_time_s(u64::from(*grace_ms).div_ceil(1000));
            let by = self::task(state, names, *by);
            format!("{} gives way to {by} within {grace}, {then}", task(state, names, key.task))
        }
        Event::AttemptEnded { key, verdict, again_not_before } => {
            let next = match again_not_before {
                Some(at) => format!("; it waits for another attempt from {} on", format_time_s(at.seconds())),
                None => String::new(),
            };
            format!("{} ends: {}{next}", task(state, names, key.task), describe(state, verdict))
        }
        Event::WaitingCancelled { job, indices, .. } => {
            let count: u64 = indices.iter().map(|range| range.len()).sum();
            let tasks = if count == 1 { "task" } else { "tasks" };
            format!("{} is cancelled: {count} {tasks} that waited", name(names, *job))
        }
        Event::NodeUp { node: id, .. } => format!("{} is up", node(id)),
        Event::NodeLost { node: id, reason } => format!("{} is given up: {reason}", node(id)),
        Event::ReservationMade { reservation } => {
            let nodes: Vec<&str> = reservation.nodes.iter().map(node).collect();
            let window = muster_core::reservation::Window {
                start: reservation.windows.start,
                end: reservation.windows.start.plus_seconds(reservation.windows.duration_s),
            };
            let whose = if reservation.maintenance { "for maintenance" } else { "for its users" };
            format!(
                "{} keeps {} {whose} from {} to {}",
                reservation.name,
                format_hosts(&nodes),
                format_time_s(window.start.seconds()),
                format_time_s(window.end.seconds())
            )
        }
        Event::ReservationRemoved { name, .. } => format!("{name} is taken back"),
        Event::ReservationEnded { name, next_start: None } => format!("{name} is over"),
        Event::ReservationEnded { name, next_start: Some(next) } => {
            format!("a window of {name} ends; the next starts at {}", format_time_s(next.seconds()))
        }
        Event::NodeHeld { node: id, reason, until, by_uid, down } => {
            let what = match (down, by_uid) {
                (true, _) => "is taken down",
                (false, Some(_)) => "is drained",
                (false, None) => "is held back",
            };
            let until = until
                .filter(|_| by_uid.is_some())
                .map(|at| format!(" until {}", format_time_s(at.seconds())));
            format!("{} {what}{}: {reason}", node(id), until.unwrap_or_default())
        }
        Event::NodeHealth { node: id, problem: Some(problem) } => {
            format!("the health check of {} fails: {problem}", node(id))
        }
        Event::NodeHealth { node: id, problem: None } => {
            format!("the health check of {} passes again", node(id))
        }
        Event::NodeReleased { node: id } => format!("{} takes work again", node(id)),
        Event::NodePower { node: id, power: Power::PoweringUp { called: false, .. } } => {
            format!("{} is brought up", node(id))
        }
        Event::NodePower { node: id, power: Power::PoweringDown { problem, .. } } => {
            let problem = problem.as_ref().map(|problem| format!(": {problem}"));
            format!("{} is taken down{}", node(id), problem.unwrap_or_default())
        }
        Event::NodePower { node: id, power: Power::Off { until: None, problem: None } } => {
            format!("{} is off", node(id))
        }
        _ => return None,
    })
}

/// A job's name in the scenario.
pub(super) fn name(names: &BTreeMap<JobId, String>, job: JobId) -> String {
    names.get(&job).cloned().unwrap_or_else(|| format!("job {job}"))
}

/// A task's name in the scenario.
pub(super) fn task(state: &State, names: &BTreeMap<JobId, String>, task: TaskId) -> String {
    match state.jobs.get(&task.job) {
        Some(job) if job.is_array() => format!("{}_{}", name(names, task.job), task.index),
        _ => name(names, task.job),
    }
}

/// An allocation as `n[1-2] (cores 0-3), n3 (cores 0,2)`.
pub(super) fn places(state: &State, allocation: &Allocation) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for share in &allocation.shares {
        let gres: String = share.gres.iter().map(|gres| format!(", {gres}")).collect();
        let cores = format!("{}{gres}", share.cores);
        let node = state.node(share.node).name.as_str();
        match groups.last_mut() {
            Some((same, nodes)) if *same == cores => nodes.push(node),
            _ => groups.push((cores, vec![node])),
        }
    }
    let group = |(cores, nodes): &(String, Vec<&str>)| format!("{} (cores {cores})", format_hosts(nodes));
    groups.iter().map(group).collect::<Vec<_>>().join(", ")
}
