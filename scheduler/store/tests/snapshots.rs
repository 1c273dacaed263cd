//! Snapshots beside a journal that grows.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::database::Databases;
use common::{add_up, configured, submitted};
use muster_core::event::{Event, Record};
use muster_core::ids::{JobId, Timestamp};
use muster_store::{Store, StoreError, check};
use rusqlite::Connection;

on_both!(
    what_is_appended_while_a_snapshot_is_written_stays_after_it,
    what_a_crash_left_of_a_snapshot_means_nothing_and_is_removed,
    damage_shows_when_the_disk_is_read_again,
);

fn database(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("muster.db")
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// A job whose script makes a snapshot of it take many parts.
fn large(job: u64) -> Record {
    let mut spec = common::story::spec("large", serde_json::json!({}));
    spec.script = format!("#!/bin/sh\n#{}\n", "x".repeat(2 << 20)).into();
    let event = Event::JobSubmitted { job: JobId(job), spec: Arc::new(spec), request_key: None };
    Record { at: Timestamp(job), event }
}

fn what_is_appended_while_a_snapshot_is_written_stays_after_it(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let mut records = vec![configured(), large(1)];
    store.append(&records, &[]).unwrap();
    let mut next = 2;
    for round in 0..3 {
        let (state, seq) = (add_up(&records), store.last_seq());
        let mut writer = store.snapshot_writer().unwrap();
        assert_eq!(writer.state_on_disk().unwrap(), (state.clone(), seq));
        let appended_before = records.len();
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || writer.write(&state, seq, Timestamp(1)).unwrap());
            // At least one goes before its end, because the writer lets the journal go first.
            loop {
                let record = submitted(next);
                next += 1;
                store.append(std::slice::from_ref(&record), &[]).unwrap();
                records.push(record);
                if writing.is_finished() {
                    break;
                }
            }
            let snapshot = writing.join().unwrap();
            assert!(snapshot.bytes > 2 << 20);
            assert_eq!(snapshot.seq, seq);
            store.snapshot_taken(snapshot);
        });
        assert_eq!(store.records_since_snapshot(), (records.len() - appended_before) as u64);
        assert_eq!(database.count("snapshot"), if round == 0 { 1 } else { 2 }, "the one before is kept");
    }
    drop(store);
    assert_eq!(check(database.place()).unwrap().findings, []);
    let (_, recovered) = database.open().unwrap();
    assert_eq!(recovered.state, add_up(&records));
    assert!(recovered.replayed < records.len() as u64);
}

fn what_a_crash_left_of_a_snapshot_means_nothing_and_is_removed(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let records = [configured(), submitted(1), submitted(2)];
    store.append(&records, &[]).unwrap();
    drop(store);
    database.sql("INSERT INTO snapshot_part (seq, part, body) VALUES (2, 0, '{'), (2, 1, '}'), (3, 0, '{')");
    assert_eq!(check(database.place()).unwrap().findings, []);
    let (mut store, recovered) = database.open().unwrap();
    assert_eq!((&recovered.state, recovered.replayed), (&add_up(&records), 3));
    store.snapshot(&recovered.state, Timestamp(1)).unwrap().unwrap();
    assert_eq!(database.count("snapshot_part"), 1);
    assert_eq!(store.snapshot(&recovered.state, Timestamp(1)).unwrap(), None, "there is nothing new");
}

fn damage_shows_when_the_disk_is_read_again(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    store.append(&[configured(), submitted(1)], &[]).unwrap();
    store.snapshot(&add_up(&[configured(), submitted(1)]), Timestamp(1)).unwrap();
    store.append(&[submitted(2)], &[]).unwrap();
    let mut writer = store.snapshot_writer().unwrap();
    assert_eq!(writer.state_on_disk().unwrap().1, 3);
    for damage in ["UPDATE journal SET crc = 1 WHERE seq = 3", "UPDATE snapshot SET crc = 1"] {
        database.sql(damage);
        let error = writer.state_on_disk().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }
}

#[test]
fn a_snapshot_without_room_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (mut store, _) = Store::open(&path).unwrap();
    let records = [configured(), large(1)];
    store.append(&records, &[]).unwrap();
    store.limit_size(3 << 20).unwrap();
    let refused = store.snapshot(&add_up(&records), Timestamp(1)).unwrap_err();
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    assert_eq!((count(&path, "snapshot"), count(&path, "snapshot_part")), (0, 0));
    assert_eq!(store.records_since_snapshot(), 2);
    store.append(&[submitted(2)], &[]).unwrap();
    store.limit_size(0).unwrap();
    let state = add_up(&[records.as_slice(), &[submitted(2)]].concat());
    assert_eq!(store.snapshot(&state, Timestamp(1)).unwrap().unwrap().seq, 3);
}
