//! Journals of every release so far load to exactly the state that the release had.
//!
//! `tests/shelf/` holds, for each, the database and beside it the state as JSON. What later versions add to the
//! state is passed over in the comparison; everything that was there must be there with the same value.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::story::Story;
use common::{add_up, event_name};
use muster_core::batch::BatchEvent;
use muster_core::event::{Event, Record};
use muster_core::state::State;
use muster_store::Store;
use rusqlite::Connection;
use serde_json::Value;

fn shelf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shelf")
}

/// The state as JSON, with tasks one by one, as the first release wrote them, and not in rows.
fn one_by_one(state: &State) -> Value {
    let mut value = serde_json::to_value(state).unwrap();
    for (id, job) in &state.jobs {
        let shown = &mut value["jobs"][id.0.to_string()];
        shown["finished"] = serde_json::to_value(&*job.finished).unwrap();
        shown["live"] = serde_json::to_value(&job.live).unwrap();
    }
    value
}

/// Where `found` lacks something of `expected` or says something else, as a path.
fn difference(expected: &Value, found: &Value, path: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            expected.iter().find_map(|(key, expected)| match found.get(key) {
                Some(found) => difference(expected, found, &format!("{path}.{key}")),
                // A field may since be left out where it has its default.
                None if is_empty(expected) => None,
                None => Some(format!("{path}.{key} is not there")),
            })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs
                .into_iter()
                .find_map(|(i, (expected, found))| difference(expected, found, &format!("{path}[{i}]")))
        }
        _ if expected == found => None,
        _ => Some(format!("{path} should be {expected}, and is {found}")),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(_) | Value::Bool(true) => false,
    }
}

#[test]
fn every_journal_on_the_shelf_loads_to_the_state_beside_it() {
    let mut loaded = 0;
    for entry in std::fs::read_dir(shelf()).unwrap() {
        let kept = entry.unwrap().path();
        if kept.extension().is_none_or(|extension| extension != "db") {
            continue;
        }
        let expected = std::fs::read_to_string(kept.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.db");
        std::fs::copy(&kept, &path).unwrap();
        let (store, recovered) = Store::open(&path).unwrap();
        let found = one_by_one(&recovered.state);
        let difference = difference(&expected, &found, "state");
        assert_eq!(difference, None, "{}", kept.display());
        recovered.state.check_invariants().unwrap();
        let sql = "SELECT count(*) FROM sqlite_master WHERE name = 'task_history_by_user'";
        let unasked: i64 = Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(unasked, 0, "{}", kept.display());
        // What was loaded is kept: a second start finds the same.
        drop(store);
        assert_eq!(Store::open(&path).unwrap().1.state, recovered.state, "{}", kept.display());
        loaded += 1;
    }
    assert!(loaded >= 5, "the shelf holds at least the journals of versions 1 to 3 of snapshots");
}

/// Names of all events that this version knows: what serde offers in place of an unknown one.
fn known_events() -> BTreeSet<String> {
    let names = |refusal: serde_json::Error| -> Vec<String> {
        refusal.to_string().split('`').skip(3).step_by(2).map(str::to_owned).collect()
    };
    let events = names(serde_json::from_str::<Event>(r#"{"type":"?"}"#).unwrap_err());
    let batch = names(serde_json::from_str::<BatchEvent>(r#"{"what":"?"}"#).unwrap_err());
    assert!(batch.len() > 20, "{batch:?}");
    let of_batch = batch.into_iter().map(|what| format!("batch/{what}"));
    events.into_iter().filter(|name| name != "batch").chain(of_batch).collect()
}

fn told(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(|record| event_name(&record.event)).collect()
}

fn whole_story() -> (Story, usize) {
    let mut story = Story::new();
    story.first_half();
    let half = story.records.len();
    story.second_half();
    (story, half)
}

#[test]
fn the_story_adds_up_to_the_state_of_the_engine_that_told_it() {
    let (story, _) = whole_story();
    assert_eq!(add_up(&story.records), *story.state());
}

#[test]
fn the_story_tells_of_every_event() {
    let (story, _) = whole_story();
    let missing: Vec<String> = known_events().difference(&told(&story.records)).cloned().collect();
    assert!(missing.is_empty(), "the story must also tell of {missing:?}: add it to tests/common/story.rs");
}

/// Puts two journals of the present version on the shelf: one without a snapshot, one with the first half of the
/// story under it. `MUSTER_SHELF=NAME cargo test -p muster-store --test shelf -- --ignored`
#[test]
#[ignore = "writes new files to the shelf, once for each release"]
fn put_on_the_shelf() {
    let name = std::env::var("MUSTER_SHELF").expect("MUSTER_SHELF names the release, such as v1");
    let (story, half) = whole_story();
    for (kind, snapshot_after) in [("journal", None), ("snapshot", Some(half))] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.db");
        let (mut store, _) = Store::open(&path).unwrap();
        let records = &story.records;
        let (under, over) = records.split_at(snapshot_after.unwrap_or(0));
        for batch in under.chunks(3) {
            store.append(batch, &[]).unwrap();
        }
        if snapshot_after.is_some() {
            store.snapshot(&add_up(under), under.last().unwrap().at).unwrap();
        }
        for batch in over.chunks(3) {
            store.append(batch, &[]).unwrap();
        }
        // Closing the last connection moves the write-ahead log into the database.
        drop(store);
        let kept = shelf().join(format!("{name}-{kind}.db"));
        assert!(!kept.exists(), "{} is there already, and must stay as it is", kept.display());
        std::fs::copy(&path, &kept).unwrap();
        let state = one_by_one(story.state()).to_string();
        std::fs::write(kept.with_extension("json"), state + "\n").unwrap();
    }
}
