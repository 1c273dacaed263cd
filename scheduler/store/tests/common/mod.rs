//! What the tests of the store share.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod story;

use muster_core::event::{Event, Record};
use muster_core::state::State;

/// The state that records add up to.
pub fn add_up(records: &[Record]) -> State {
    let mut state = State::new();
    for record in records {
        state.evolve(&record.event, record.at);
    }
    state
}

/// The word that an event has in the journal.
pub fn event_name(event: &Event) -> String {
    serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned()
}
