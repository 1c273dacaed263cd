//! Advance reservations, as the client API speaks of them.

use std::collections::BTreeSet;

use muster_core::reservation::{Repeat, ReservedNodes};
use serde::{Deserialize, Serialize};

/// An advance reservation to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationRequest {
    /// Its name.
    pub name: String,
    /// Which nodes: `{"list": [...]}`, `{"pool": "main"}` or `{"count": {"pool": "main", "count": 4}}`.
    pub nodes: ReservedNodes,
    /// When it starts, in microseconds since 1970.
    pub start_us: u64,
    /// How long it lasts, in seconds.
    pub duration_s: u64,
    /// How often it comes again: every 86,400 or 604,800 seconds.
    #[serde(default)]
    pub repeat: Option<Repeat>,
    /// Login names of those who may use it.
    #[serde(default)]
    pub users: BTreeSet<String>,
    /// Accounts whose jobs may use it.
    #[serde(default)]
    pub accounts: BTreeSet<String>,
    /// Whether nobody may run there.
    #[serde(default)]
    pub maintenance: bool,
    /// Whether it is made although what runs now may reach into it.
    #[serde(default)]
    pub ignore_running: bool,
    /// For people.
    #[serde(default)]
    pub comment: String,
}

/// The reservation that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationAnswer {
    /// The schema of the API.
    pub schema: u32,
    /// Its name.
    pub name: String,
    /// Host list of its nodes.
    pub node_list: String,
    /// What runs there and may still run when it starts: it is left alone. The list is cut where it is long.
    pub running: Vec<RunsIntoView>,
}

/// A task that may still run when a reservation of its node starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsIntoView {
    /// The task, as `JOB` or `JOB_INDEX`.
    pub task: String,
    /// The node.
    pub node: String,
    /// When it has ended at the latest, in microseconds since 1970; absent if it has no limit.
    pub until_us: Option<u64>,
}

/// A list of advance reservations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationList {
    /// The schema of the API.
    pub schema: u32,
    /// In the order of their names.
    pub reservations: Vec<ReservationView>,
}

/// An advance reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationView {
    /// Name.
    pub name: String,
    /// Whether its window runs at present.
    pub active: bool,
    /// Host list of its nodes.
    pub node_list: String,
    /// How many nodes.
    pub nodes: u32,
    /// Start of the window that runs or comes next, in microseconds since 1970.
    pub start_us: u64,
    /// Its end.
    pub end_us: u64,
    /// How often it comes again.
    pub repeat: Option<Repeat>,
    /// Login names of those who may use it.
    pub users: Vec<String>,
    /// Accounts whose jobs may use it.
    pub accounts: Vec<String>,
    /// Whether nobody may run there.
    pub maintenance: bool,
    /// Whether it was made although what ran then could reach into it.
    pub ignore_running: bool,
    /// For people.
    pub comment: String,
    /// When it was made, in microseconds since 1970.
    pub made_at_us: u64,
    /// User id of whoever made it.
    pub by_uid: u32,
    /// Unfinished jobs that use it.
    pub jobs: u64,
}

/// An advance reservation of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFor {
    /// The reservation.
    pub reservation: String,
    /// Whether it is for maintenance.
    pub maintenance: bool,
    /// Start of the window that runs or comes next, in microseconds since 1970.
    pub start_us: u64,
    /// Its end.
    pub end_us: u64,
}
