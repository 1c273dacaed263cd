//! Nodes that are there only while somebody wants them: the site's programs bring them up and take them down.

use serde::{Deserialize, Serialize};

use super::{Node, State};
use crate::cluster::ElasticNode;
use crate::ids::{NodeId, Timestamp};

/// Whether a node is there that the site's programs bring up and take down.
///
/// | power         | left by                                     | to            |
/// | ------------- | ------------------------------------------- | ------------- |
/// | off           | a pool of the batch service has it          | powering up   |
/// | powering up   | its agent says hello                        | on            |
/// |               | the program failed, or the time is over     | powering down |
/// | on            | nobody has wanted it for long, or it failed | powering down |
/// | powering down | the program has taken it down               | off           |
///
/// An agent that says hello while the node is off was started by somebody else: the node is on then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "power", rename_all = "snake_case")]
pub enum Power {
    /// It is not there.
    Off {
        /// Until when it is not brought up again, because the last time went wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What went wrong the last time, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// It is being brought up.
    PoweringUp {
        /// Since when.
        since: Timestamp,
        /// When it is given up.
        until: Timestamp,
        /// Whether the program has done its part, so that only the agent's hello is missing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        called: bool,
    },
    /// It is there.
    On {
        /// When it was last of use to somebody.
        used: Timestamp,
    },
    /// It is being taken down.
    PoweringDown {
        /// Since when.
        since: Timestamp,
        /// When the program is to be run: later than `since` if it has failed.
        from: Timestamp,
        /// What went wrong, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
}

impl Power {
    /// Whether the node is there.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }

    /// Whether it is brought up as soon as somebody wants it.
    #[must_use]
    pub fn may_come(&self) -> bool {
        matches!(self, Self::Off { until: None, .. })
    }

    /// Whether bringing it up went wrong, so that those who wait for it had better take another.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self, Self::Off { until: Some(_), .. } | Self::PoweringDown { problem: Some(_), .. })
    }

    /// In a few words, unless it is there.
    #[must_use]
    pub fn why_not_there(&self) -> Option<String> {
        let failed = |problem: &Option<String>| {
            problem.as_ref().map(|problem| format!(", after {problem}")).unwrap_or_default()
        };
        match self {
            Self::On { .. } => None,
            Self::Off { problem, .. } => {
                Some(format!("it is off until a pool of the batch service wants it{}", failed(problem)))
            }
            Self::PoweringUp { .. } => Some("it is being brought up".to_owned()),
            Self::PoweringDown { problem, .. } => Some(format!("it is being taken down{}", failed(problem))),
        }
    }
}

/// It is brought up or taken down, or is off. What comes up the next time is looked at anew: only what an admin has said of it
/// stands.
pub(super) fn changed(node: &mut Node, to: &Power) {
    node.power = Some(to.clone());
    if matches!(to, Power::Off { .. }) {
        node.held = node.held.take().filter(|held| held.by_uid.is_some());
        node.unhealthy = None;
        node.failures = 0;
    }
}

/// Somebody had a use for it until now.
pub(super) fn used(node: &mut Node, at: Timestamp) {
    if let Some(Power::On { used }) = &mut node.power {
        *used = at;
    }
}

/// Its agent said hello.
pub(super) fn came(node: &mut Node, at: Timestamp) {
    if matches!(node.power, Some(Power::Off { .. } | Power::PoweringUp { .. })) {
        node.power = Some(Power::On { used: at });
    }
}

/// Another configuration is in force.
pub(super) fn configured(node: &mut Node, elastic: Option<&ElasticNode>, at: Timestamp) {
    let first = || match node.is_up() {
        true => Power::On { used: at },
        false => Power::Off { until: None, problem: None },
    };
    node.power = elastic.map(|_| node.power.clone().unwrap_or_else(first));
    node.elastic = elastic.copied();
}

/// What is to be done about a node's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerWork {
    /// It is wanted.
    Up,
    /// It may be brought up again.
    MayCome,
    /// It did not come in time.
    Late,
    /// Nobody has wanted it for long enough.
    Down,
}

impl State {
    /// Whether a node would be taken down if that lasts: nobody has it, nothing runs there, and no admin looks
    /// after it.
    fn is_spare(&self, id: NodeId, node: &Node) -> bool {
        node.attempts.is_empty()
            && node.stale.is_empty()
            && node.held.as_ref().is_none_or(|held| held.by_uid.is_none())
            && self.batch_holder(id).is_none()
            && !self.reservations().any(|reserved| reserved.reservation.keeps(id))
    }

    /// When something is to be done about a node's power, and what.
    fn power_work(&self, id: NodeId, node: &Node) -> Option<(Timestamp, PowerWork)> {
        let elastic = node.elastic.filter(|_| node.declared)?;
        match node.power.as_ref()? {
            Power::Off { until: Some(until), .. } => Some((*until, PowerWork::MayCome)),
            Power::Off { until: None, .. } => {
                let is_wanted = self.batch_holder(id).is_some() && node.held.is_none();
                is_wanted.then_some((Timestamp(0), PowerWork::Up))
            }
            Power::PoweringUp { until, .. } => Some((*until, PowerWork::Late)),
            Power::On { used } => {
                let from = used.plus_seconds(elastic.idle_s);
                self.is_spare(id, node).then_some((from, PowerWork::Down))
            }
            // The program is run by the shell, which says how it ended.
            Power::PoweringDown { .. } => None,
        }
    }

    /// Nodes whose power is to be changed by `now`.
    pub fn power_due(&self, now: Timestamp) -> impl Iterator<Item = (NodeId, &Node, PowerWork)> {
        self.elastic_nodes().filter_map(move |(id, node)| {
            let (_, work) = self.power_work(id, node).filter(|(at, _)| *at <= now)?;
            Some((id, node, work))
        })
    }

    /// When that is next.
    #[must_use]
    pub fn power_wake(&self) -> Option<Timestamp> {
        self.elastic_nodes().filter_map(|(id, node)| Some(self.power_work(id, node)?.0)).min()
    }

    /// Nodes that the site's programs bring up and take down.
    pub fn elastic_nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.elastic_ids().iter().map(|id| (*id, self.node(*id)))
    }
}
