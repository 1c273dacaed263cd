//! A node's record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::power::Power;
use crate::cluster::ElasticNode;
use crate::cores::CoreSet;
use crate::event::Hardware;
use crate::gres::NodeGres;
use crate::ids::{AttemptKey, Timestamp};
use crate::threads::CoreThreads;

/// A node and what is free on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether the configuration in force declares it.
    pub declared: bool,
    /// Cores that the configuration declares.
    pub cores: u32,
    /// Memory that the configuration declares, in bytes.
    pub memory_bytes: u64,
    /// Whether core c runs on real core c modulo the real ones.
    pub wrap_cores: bool,
    /// Features that tasks may ask for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// Devices, and which of them are free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<NodeGres>,
    /// Hardware threads of its cores: what its agent found last; until then, what the configuration says.
    #[serde(default, skip_serializing_if = "CoreThreads::is_default")]
    pub threads: CoreThreads,
    /// The NUMA nodes of its devices that the configuration declares, by the name of the devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gres_numa: BTreeMap<String, Vec<u32>>,
    /// The files of its devices that the configuration declares, by the name of the devices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gres_files: BTreeMap<String, Vec<String>>,
    /// Whether it is held back if its agent finds fewer devices than are declared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gres_check: bool,
    /// Cores that no attempt holds.
    pub free: CoreSet,
    /// Memory that no attempt holds, in bytes.
    pub free_memory_bytes: u64,
    /// Whether its attempts hold more memory than it has, because the configuration has taken some away since.
    #[serde(default)]
    pub overheld: bool,
    /// Attempts that hold a share of it.
    pub attempts: BTreeSet<AttemptKey>,
    /// Pools and jobs of the batch service whose chores have made it ready for their tasks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ready_for: BTreeSet<String>,
    /// Whether it is lent to a pool of the batch service as one that others may take back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low_priority: bool,
    /// Attempts that ended here but are still on the node.
    pub stale: BTreeSet<AttemptKey>,
    /// Whether its agent can be reached.
    pub status: NodeStatus,
    /// Set while it gets no new work.
    pub held: Option<Held>,
    /// How many attempts in a row it has ended itself: none has come to an end of its own on it since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Set while the check of its health fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<Unhealthy>,
    /// What is declared of a node that the site's programs bring up and take down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<ElasticNode>,
    /// Whether such a node is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Whether a node's agent can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum NodeStatus {
    /// Its agent never said hello.
    Unknown,
    /// It is there.
    Up {
        /// Since when.
        since: Timestamp,
        /// Changes with every boot.
        boot_id: String,
        /// What the agent found.
        hardware: Arc<Hardware>,
    },
    /// It was given up.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
}

/// Why and how long a node gets no new work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
    /// Until then; until it is released without.
    pub until: Option<Timestamp>,
    /// The admin who said so; the engine did without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_uid: Option<u32>,
    /// Whether it is down, so that nothing runs on it, rather than drained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
}

/// What the check of a node's health found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unhealthy {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong, for people.
    pub problem: String,
}

impl Node {
    /// Whether the node may be given new work.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        let is_on = self.power.as_ref().is_none_or(Power::is_on);
        self.declared && self.is_up() && is_on && !self.is_drained() && self.stale.is_empty()
    }

    /// Whether it takes work as soon as it was brought up, which somebody has to want.
    #[must_use]
    pub fn may_come(&self) -> bool {
        self.declared && !self.is_drained() && self.power.as_ref().is_some_and(Power::may_come)
    }

    /// Whether it is to get no new work, although what runs on it goes on.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.held.is_some() || self.unhealthy.is_some()
    }

    /// Whether it is there for nothing: what Slurm calls down, or drained with nothing left on it.
    #[must_use]
    pub fn is_away(&self) -> bool {
        let is_taken = self.is_drained() && self.attempts.is_empty();
        self.declared && (!self.is_up() || is_taken || self.held.as_ref().is_some_and(|held| held.down))
    }

    /// Whether its agent can be reached.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.status, NodeStatus::Up { .. })
    }

    /// What its agent found, while it is up.
    #[must_use]
    pub fn hardware(&self) -> Option<&Arc<Hardware>> {
        match &self.status {
            NodeStatus::Up { hardware, .. } => Some(hardware),
            _ => None,
        }
    }

    /// The NUMA node of a device, where it is known: what the configuration says, else what the agent found. The
    /// first device of a name is the first one of that name in the order of PCI addresses.
    #[must_use]
    pub fn numa_of_device(&self, name: &str, device: u32) -> Option<u32> {
        if let Some(declared) = self.gres_numa.get(name) {
            return declared.get(device as usize).copied();
        }
        let found = self.hardware()?.devices.iter().filter(|found| found.name == name);
        found.skip(device as usize).map(|found| found.numa).next()?
    }

    /// Why it takes no work, in a few words.
    #[must_use]
    pub fn why_no_work(&self) -> Option<String> {
        let held = self.held.as_ref().map(|held| match (held.down, held.by_uid) {
            (true, _) => format!("an admin took it down: {}", held.reason),
            (false, Some(_)) => format!("an admin drains it: {}", held.reason),
            (false, None) => format!("it is held back: {}", held.reason),
        });
        let unhealthy =
            self.unhealthy.as_ref().map(|found| format!("its health check fails: {}", found.problem));
        let power = self.power.as_ref().and_then(Power::why_not_there);
        let away = match &self.status {
            _ if !self.declared => Some("it is no longer in the configuration".to_owned()),
            _ if power.is_some() => power,
            NodeStatus::Unknown => Some("its agent has not said hello yet".to_owned()),
            NodeStatus::Down { reason, .. } => Some(format!("it is down: {reason}")),
            NodeStatus::Up { .. } => None,
        };
        let all: Vec<String> = [away, held, unhealthy].into_iter().flatten().collect();
        if !all.is_empty() {
            return Some(all.join("; "));
        }
        let is_cleaning = !self.stale.is_empty();
        is_cleaning.then(|| "attempts that ended are still being cleaned up on it".to_owned())
    }
}
