//! The scheduling pass: a pure function from the state and the instant to placements and reasons.
//!
//! The queue is considered in order. What fits now is placed. The first task that does not fit gets a
//! reservation: the earliest instant at which everything that runs, running to its time limit, has left enough;
//! whatever comes after it may overtake only if it will have ended by then, or leaves enough for it (EASY
//! backfill: Lifka, "The ANL/IBM SP scheduling system", JSSPP 1995). Since the head of the queue always has
//! a reservation that nothing can push back, nothing starves.

mod adjacent;
mod advance;
mod choose;
mod class;
mod closures;
mod conservative;
pub mod eligible;
mod explain;
mod fit;
mod forecast;
mod hand_out;
mod holders;
mod impossible;
mod index;
mod leaving;
mod limits;
mod lines;
mod order;
mod parked;
mod pass;
mod preempt;
mod profile;
mod queue;
mod ranges;
mod reason;
mod refused;
mod reserve;
mod reserved;
mod room;
mod span;
mod suits;
mod take_back;
mod victims;
mod weigh;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::closures::never_open;
pub use self::fit::{MemoryShortage, Shortage};
pub use self::forecast::{FORECAST_STEPS_MAX, Forecast, expected_start};
pub use self::holders::{HOLDERS_NAMED_MAX, Holder, Holders, holders, nodes_away};
pub use self::impossible::Impossible;
pub use self::index::Planner;
pub use self::lines::{LINE_MAX, Line};
pub use self::reason::Reason;
pub use self::suits::{never_fits, suits};
use crate::event::{Allocation, Verdict};
use crate::ids::{AttemptKey, JobId, NodeId, Timestamp};
use crate::state::State;

/// What a pass decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Attempts to end now, because a task with a higher claim takes their place.
    pub preemptions: Vec<Preemption>,
    /// Attempts to start now.
    pub placements: Vec<Placement>,
    /// Tasks to line up behind attempts that hold something.
    pub lines: Vec<Line>,
    /// Nodes that pools of the batch service have until others need them, and that a job could start with: they are to be given back.
    pub taken_back: Vec<(NodeId, JobId)>,
    /// Why each other job with waiting tasks waits.
    pub waiting: BTreeMap<JobId, Waiting>,
    /// How much was done for it.
    pub effort: Effort,
}

/// What a pass did, for those who watch the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Groups of equal jobs that it considered.
    pub groups: u64,
    /// How many of its placements overtook a task that waits for room.
    pub backfilled: u64,
}

/// An attempt and exactly what it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The attempt.
    pub key: AttemptKey,
    /// What it gets.
    pub allocation: Arc<Allocation>,
    /// The start or end of an advance reservation by which it must have ended, if that could come before the end of a
    /// time limit which counts from the word to start.
    pub ends_by: Option<Timestamp>,
    /// Its own time limit, in seconds, if that is less than its job's.
    pub time_limit_s: Option<u64>,
}

/// An attempt whose place is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preemption {
    /// The attempt.
    pub victim: AttemptKey,
    /// How it ends: always [`Verdict::Preempted`].
    pub verdict: Verdict,
}

/// Why a job's next task waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why.
    pub reason: Reason,
    /// When it starts at the latest, if the pass reserved that; `expected_start` asks for any task.
    pub expected_start: Option<Timestamp>,
    /// The jobs whose ends the pass counted on, of a job that has room kept for it; `holders` asks for any job.
    pub holders: Option<Holders>,
}

impl Waiting {
    fn new(reason: Reason, expected_start: Option<Timestamp>) -> Self {
        Self { reason, expected_start, holders: None }
    }
}

/// One pass at `now` over a state that stays as it is: what would start, and why everything else waits.
#[must_use]
pub fn plan(state: &State, now: Timestamp) -> Plan {
    Planner::new(state).explain(state, now)
}

#[cfg(test)]
mod fill_tests;
#[cfg(test)]
mod impossible_tests;
#[cfg(test)]
mod license_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod places_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod preempt_property_tests;
#[cfg(test)]
mod preempt_tests;
#[cfg(test)]
mod reservation_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod span_tests;
#[cfg(test)]
mod tests;
