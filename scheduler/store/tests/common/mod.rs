//! What the tests of the store share.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod batch_story;
pub mod database;
mod line_story;
pub mod recorder;
pub mod story;

use std::sync::Arc;

use muster_core::cluster::ClusterConfig;
use muster_core::event::{Event, Record};
use muster_core::ids::{JobId, Timestamp};
use muster_core::spec::IndexRange;
use muster_core::state::State;

/// A job was submitted.
pub fn submitted(job: u64) -> Record {
    let spec = Arc::new(story::spec(&format!("job {job}"), serde_json::json!({})));
    let event = Event::JobSubmitted { job: JobId(job), spec, request_key: Some(format!("key {job}").into()) };
    Record { at: Timestamp(job * 1000), event }
}

/// It was cancelled.
pub fn cancelled(job: u64) -> Record {
    let indices = vec![IndexRange { first: 0, last: 0, step: 1 }];
    Record {
        at: Timestamp(job * 1000 + 1),
        event: Event::WaitingCancelled { job: JobId(job), indices, by_uid: 1000 },
    }
}

/// The first record of every journal.
pub fn configured() -> Record {
    let config = Arc::new(ClusterConfig { name: "test".to_owned(), ..ClusterConfig::default() });
    Record { at: Timestamp(1), event: Event::Configured { config } }
}

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
    let event = serde_json::to_value(event).unwrap();
    let name = event["type"].as_str().unwrap().to_owned();
    match event["batch"]["what"].as_str() {
        Some(what) => format!("{name}/{what}"),
        None => name,
    }
}
