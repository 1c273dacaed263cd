//! Brings nodes up that are wanted, and takes those down that nobody wants.

use super::{done, refused};
use crate::event::Event;
use crate::ids::{NodeId, Timestamp};
use crate::input::{Decision, PowerReport, Refusal};
use crate::state::{Node, Power, PowerWork, State};

/// Between a program's failure to take a node down and the next try, in seconds.
const AGAIN_S: u64 = 30;
/// Of what a program said when it failed so much is kept, in bytes.
pub const PROBLEM_BYTES_MAX: usize = 500;

/// Everything that is due.
pub(super) fn due(state: &State, now: Timestamp) -> impl Iterator<Item = Event> {
    state.power_due(now).filter_map(move |(id, node, work)| {
        let elastic = node.elastic?;
        let power = match (work, node.power.as_ref()?) {
            (PowerWork::Up, _) => {
                let until = now.plus_seconds(elastic.up_timeout_s);
                Power::PoweringUp { since: now, until, called: false }
            }
            (PowerWork::MayCome, Power::Off { problem, .. }) => {
                Power::Off { until: None, problem: problem.clone() }
            }
            (PowerWork::Late, Power::PoweringUp { called, .. }) => {
                let what = if *called { "its agent did not say hello" } else { "it was not brought up" };
                down(now, Some(format!("{what} within {} s", elastic.up_timeout_s)))
            }
            (PowerWork::Down, _) => down(now, None),
            (PowerWork::MayCome | PowerWork::Late, _) => return None,
        };
        Some(Event::NodePower { node: id, power })
    })
}

fn down(now: Timestamp, problem: Option<String>) -> Power {
    Power::PoweringDown { since: now, from: now, problem }
}

/// A node that was given up is taken down, whatever is left of it.
pub(super) fn lost(id: NodeId, node: &Node, reason: &str, now: Timestamp) -> Option<Event> {
    let is_on = node.power.as_ref().is_some_and(Power::is_on);
    is_on.then(|| Event::NodePower { node: id, power: down(now, Some(reason.to_owned())) })
}

/// An admin says that a node may be brought up again that has failed to come.
pub(super) fn resumed(state: &State, id: NodeId) -> Option<Event> {
    let Some(Power::Off { until: Some(_), problem }) = &state.node(id).power else { return None };
    Some(Event::NodePower { node: id, power: Power::Off { until: None, problem: problem.clone() } })
}

/// A program of the site's came to its end. What it says of a state that is over changes nothing.
pub(super) fn report(state: &State, name: &str, report: &PowerReport, now: Timestamp) -> Decision {
    let Some(id) = state.node_by_name(name) else {
        return refused(Refusal::UnknownNode { node: name.to_owned() });
    };
    let problem = report.problem.clone().map(|mut problem| {
        problem.truncate(problem.floor_char_boundary(PROBLEM_BYTES_MAX));
        problem
    });
    let power = match &state.node(id).power {
        Some(Power::PoweringUp { since, until, .. }) if *since == report.asked => match problem {
            None => Power::PoweringUp { since: *since, until: *until, called: true },
            Some(problem) => down(now, Some(problem)),
        },
        Some(Power::PoweringDown { since, problem: before, .. }) if *since == report.asked => match problem {
            None => return taken_down(state, id, name, before.clone(), now),
            Some(problem) => {
                let from = now.plus_seconds(AGAIN_S);
                Power::PoweringDown { since: *since, from, problem: Some(problem) }
            }
        },
        _ => return done(Vec::new()),
    };
    done(vec![Event::NodePower { node: id, power }])
}

/// It is down. After something went wrong it is left alone for as long as other nodes that fail are held back.
fn taken_down(state: &State, id: NodeId, name: &str, problem: Option<String>, now: Timestamp) -> Decision {
    let until = problem.is_some().then(|| now.plus_seconds(state.config.policy.hold_node_s));
    let mut decision = super::node::silent(state, name, "it was taken down", now);
    decision.events.push(Event::NodePower { node: id, power: Power::Off { until, problem } });
    decision
}
