//! What was used in a period, added up by the controller. The words are those of [`crate::api`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::ClientError;
use crate::query::with_query;

/// Most lines of one report.
pub const USAGE_LINES_MAX: usize = 200_000;

/// What was used in a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The period's first instant, in microseconds since 1970: not before the controller began to count.
    pub since_us: u64,
    /// The period's end: not after the present instant.
    pub until_us: u64,
    /// What all nodes that are declared at present have.
    pub capacity: UsageView,
    /// The capacity over the period.
    pub reported: UsageView,
    /// What of that was down, or drained with nothing left on it.
    pub away: UsageView,
    /// What attempts used, by account, user, pool and size.
    pub lines: Vec<UsageLine>,
    /// Whether there are more than [`USAGE_LINES_MAX`] lines, and the others were left out.
    #[serde(default)]
    pub cut: bool,
}

/// What attempts of one user, account, pool and size used within the period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageLine {
    /// The account that was charged; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Login name.
    pub user: String,
    /// Pool.
    pub pool: String,
    /// Cores of each of the attempts.
    pub cores: u64,
    /// How many attempts ran at some time of the period.
    pub attempts: u64,
    /// What all of them together used.
    pub used: UsageView,
}

/// Resources, each multiplied by seconds; of a capacity, without that.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct UsageView {
    /// Cores.
    pub core_s: f64,
    /// Memory in MiB; 0 in reports that were asked for without `tres`, like all that follows.
    pub memory_mib_s: f64,
    /// Nodes.
    pub node_s: f64,
    /// Devices by name, such as `gpu`, and by name and kind, such as `gpu:a100`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gres_s: BTreeMap<String, f64>,
}

impl UsageView {
    /// Adds so many times as much as another.
    pub fn add(&mut self, other: &Self, times: f64) {
        self.core_s += other.core_s * times;
        self.memory_mib_s += other.memory_mib_s * times;
        self.node_s += other.node_s * times;
        for (name, count) in &other.gres_s {
            *self.gres_s.entry(name.clone()).or_default() += count * times;
        }
    }
}

impl Client {
    /// What was used from one instant to another, in microseconds since 1970: cores alone, or with `tres` all resources.
    ///
    /// # Errors
    /// As every route: [`ClientError`].
    pub fn usage(&mut self, since_us: u64, until_us: u64, tres: bool) -> Result<UsageReport, ClientError> {
        self.get(with_query(
            "/v1/usage",
            &[
                ("since_us", Some(since_us.to_string())),
                ("until_us", Some(until_us.to_string())),
                ("tres", tres.then(|| "true".to_owned())),
            ],
        ))
    }
}
