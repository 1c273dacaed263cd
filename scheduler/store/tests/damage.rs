//! What was stored and is no longer as it was stored: noticed, said, and never taken for something else.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::database::{Database, Databases};
use common::{add_up, cancelled, configured, submitted};
use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use muster_store::{Damage, Recovered, Store, StoreError};
use rusqlite::Connection;

on_both!(
    a_damaged_tail_that_was_acknowledged_stops_the_start,
    damage_with_whole_records_after_it_stops_the_start,
    missing_records_stop_the_start,
    the_snapshot_before_a_damaged_one_gives_the_same_state,
    a_damaged_snapshot_stops_the_start_if_records_since_the_one_before_it_are_damaged_as_well,
    later_versions_are_no_damage,
);

/// A closed database.
struct Kept {
    database: Database,
    records: Vec<Record>,
}

impl Kept {
    /// Eight records: the configuration, and jobs 1 to 7.
    fn records_only(databases: &Databases) -> Self {
        let kept = Self::with(databases, |_, _| {});
        assert_eq!(kept.records.len(), 8);
        kept
    }

    /// Two snapshots, at records 4 and 7, and record 8 after them.
    fn with_snapshots(databases: &Databases) -> Self {
        Self::with(databases, |store, records| {
            if [4, 7].contains(&records.len()) {
                store.snapshot(&add_up(records), Timestamp(5)).unwrap();
            }
        })
    }

    fn with(databases: &Databases, after_each: impl Fn(&mut Store, &[Record])) -> Self {
        let mut kept = Self { database: databases.fresh(), records: Vec::new() };
        let (mut store, _) = kept.open().unwrap();
        for record in std::iter::once(configured()).chain((1..=7).map(submitted)) {
            store.append(std::slice::from_ref(&record), &[]).unwrap();
            kept.records.push(record);
            after_each(&mut store, &kept.records);
        }
        kept
    }

    fn sql(&self, statement: &str) {
        self.database.sql(statement);
    }

    fn open(&self) -> Result<(Store, Recovered), StoreError> {
        self.database.open()
    }

    /// The damage that keeps the store from opening, which changes nothing.
    fn refused(&self) -> Damage {
        let before = self.database.content();
        let error = self.open().unwrap_err();
        assert_eq!(self.database.content(), before, "nothing was changed");
        let message = error.to_string();
        let StoreError::Damaged { damage, .. } = error else { panic!("{error:?}") };
        let way_out = if self.database.is_sqlite() { "musterd store repair" } else { "own tools" };
        for part in ["No crash can do that", "from a backup", way_out] {
            assert!(message.contains(part), "{message}");
        }
        damage
    }
}

const BREAK_BODY: &str = "UPDATE journal SET body = replace(body, '/home/ann', '/home/bob') WHERE seq";

fn a_damaged_tail_that_was_acknowledged_stops_the_start(databases: &Databases) {
    let kept = Kept::records_only(databases);
    kept.sql(&format!("{BREAK_BODY} >= 7"));
    assert_eq!(kept.refused(), Damage::Tail { first: 7, last: 8 });
    kept.database.acknowledged(7);
    assert_eq!(kept.refused(), Damage::Tail { first: 7, last: 8 });
}

#[test]
fn a_damaged_tail_is_not_cut_where_nobody_knows_what_was_acknowledged() {
    let kept = Kept::records_only(&Databases::sqlite());
    kept.sql(&format!("{BREAK_BODY} >= 8"));
    std::fs::write(kept.database.path().with_extension("db.lock"), "").unwrap();
    assert_eq!(kept.refused(), Damage::Tail { first: 8, last: 8 });
}

#[test]
fn a_damaged_tail_that_was_not_acknowledged_is_set_aside_and_its_ids_are_not_used_again() {
    let kept = Kept::records_only(&Databases::sqlite());
    kept.sql(&format!("{BREAK_BODY} >= 7"));
    kept.database.acknowledged(6);
    let (mut store, recovered) = kept.open().unwrap();
    assert_eq!(recovered.passed_over, [Damage::Tail { first: 7, last: 8 }]);
    let mut expected = add_up(&kept.records[..6]);
    expected.next_job += 2;
    assert_eq!((&recovered.state, recovered.last_seq), (&expected, 8));
    store.append(&[cancelled(1)], &[]).unwrap();
    drop(store);
    assert_eq!(kept.database.count("set_aside"), 2);
    let (_, recovered) = kept.open().unwrap();
    let record = cancelled(1);
    expected.evolve(&record.event, record.at);
    assert_eq!((recovered.state, recovered.last_seq, recovered.passed_over), (expected, 9, vec![]));
}

fn damage_with_whole_records_after_it_stops_the_start(databases: &Databases) {
    let kept = Kept::records_only(databases);
    kept.database.acknowledged(1);
    kept.sql(&format!("{BREAK_BODY} IN (4, 5)"));
    assert_eq!(kept.refused(), Damage::Middle { first: 4, last: 5 });
    for column in ["seq = 20", "at_us = 1", "version = 2", "crc = 7", "at_us = 'x'", "crc = 'x'"] {
        let kept = Kept::records_only(databases);
        if column.ends_with("'x'") && !kept.database.is_sqlite() {
            // PostgreSQL keeps to the types of its columns.
            continue;
        }
        kept.sql(&format!("UPDATE journal SET {column} WHERE seq = 3"));
        let expected = match column {
            "seq = 20" => Damage::Gap { first: 3, last: 3 },
            _ => Damage::Middle { first: 3, last: 3 },
        };
        assert_eq!(kept.refused(), expected, "{column}");
    }
}

fn missing_records_stop_the_start(databases: &Databases) {
    let kept = Kept::records_only(databases);
    kept.sql("DELETE FROM journal WHERE seq IN (3, 4)");
    assert_eq!(kept.refused(), Damage::Gap { first: 3, last: 4 });
    let kept = Kept::records_only(databases);
    kept.sql("DELETE FROM journal WHERE seq > 6");
    assert_eq!(kept.refused(), Damage::End { first: 7, last: 8 });
    let kept = Kept::records_only(databases);
    kept.sql("DELETE FROM journal");
    assert_eq!(kept.refused(), Damage::End { first: 1, last: 8 });
}

fn the_snapshot_before_a_damaged_one_gives_the_same_state(databases: &Databases) {
    for damage in [
        "UPDATE snapshot_part SET body = substr(body, 2) WHERE seq = 7",
        "UPDATE snapshot_part SET body = (SELECT body FROM snapshot_part WHERE seq = 4) WHERE seq = 7",
        "UPDATE snapshot SET crc = 1 WHERE seq = 7",
        "UPDATE snapshot SET bytes = 1 WHERE seq = 7",
        "DELETE FROM snapshot_part WHERE seq = 7",
    ] {
        let kept = Kept::with_snapshots(databases);
        assert_eq!(
            kept.database.count("journal"),
            4,
            "the records since the snapshot before the last are kept"
        );
        kept.sql(damage);
        let (mut store, recovered) = kept.open().unwrap();
        assert_eq!(recovered.passed_over, [Damage::Snapshot { seq: 7 }], "{damage}");
        assert_eq!(recovered.state, add_up(&kept.records));
        assert_eq!((recovered.last_seq, recovered.replayed), (8, 4));
        store.snapshot(&recovered.state, Timestamp(6)).unwrap();
        drop(store);
        let (_, recovered) = kept.open().unwrap();
        assert_eq!((recovered.state, recovered.passed_over), (add_up(&kept.records), vec![]));
    }
}

fn a_damaged_snapshot_stops_the_start_if_records_since_the_one_before_it_are_damaged_as_well(
    databases: &Databases,
) {
    let kept = Kept::with_snapshots(databases);
    kept.sql("UPDATE snapshot SET crc = 1 WHERE seq = 7");
    kept.sql("DELETE FROM journal WHERE seq = 8");
    assert_eq!(kept.refused(), Damage::End { first: 8, last: 8 });
    kept.sql("DELETE FROM journal WHERE seq = 7");
    assert_eq!(kept.refused(), Damage::Snapshot { seq: 7 });
    kept.sql("UPDATE snapshot SET crc = 1 WHERE seq = 4");
    assert_eq!(kept.refused(), Damage::Gap { first: 1, last: 4 });
}

fn later_versions_are_no_damage(databases: &Databases) {
    let checksum = |seq: i64, version: i64, body: &str| {
        let mut crc = crc32fast::Hasher::new();
        for number in [seq, 5, version] {
            crc.update(&number.to_le_bytes());
        }
        crc.update(body.as_bytes());
        crc.finalize()
    };
    let later = |statement: &str, seq: i64, version: i64, body: &str| {
        let kept = Kept::records_only(databases);
        let crc = checksum(seq, version, body);
        kept.sql(&format!("DELETE FROM journal WHERE seq = {seq}"));
        kept.sql(&statement.replace("VALUES", &format!("VALUES ({seq}, 5, {version}, '{body}', {crc})")));
        kept.database.acknowledged(1);
        kept.open().unwrap_err()
    };
    let insert = "INSERT INTO journal VALUES";
    let error = later(insert, 8, 7, "{}");
    assert!(matches!(error, StoreError::UnknownVersion { seq: 8, version: 7, .. }), "{error}");
    assert!(error.to_string().contains("start the musterd that wrote it"), "{error}");
    let error = later(insert, 8, 1, r#"{"at":1,"event":{"type":"from_the_future"}}"#);
    assert!(matches!(error, StoreError::BrokenRecord { seq: 8, .. }), "{error}");
    assert!(error.to_string().contains("if a newer musterd wrote it"), "{error}");
    let kept = Kept::records_only(databases);
    kept.sql(&format!("INSERT INTO snapshot VALUES (8, 5, 4, 0, {})", checksum(8, 4, "")));
    let error = kept.open().unwrap_err();
    assert!(
        matches!(error, StoreError::UnknownVersion { what: "snapshot", seq: 8, version: 4, known: 3, .. }),
        "{error}"
    );
    let kept = Kept::records_only(databases);
    kept.sql("UPDATE meta SET value = '9' WHERE key = 'schema_version'");
    assert!(matches!(kept.open().unwrap_err(), StoreError::NewerSchema { found: 9, .. }));
}

#[test]
fn a_database_of_the_first_version_stays_as_it_is_if_a_record_makes_no_sense() {
    let shelf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shelf/v1-journal.db");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.db");
    std::fs::copy(shelf, &path).unwrap();
    let connection = Connection::open(&path).unwrap();
    let last = "UPDATE journal SET body = '{\"at\":1' WHERE seq = (SELECT max(seq) FROM journal)";
    assert_eq!(connection.execute(last, []).unwrap(), 1);
    drop(connection);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::BrokenRecord { .. }), "{error}");
    let version: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, "1");
}

/// Copies the files of an open store, as a crash would leave them.
fn copied_while_open(change_log: impl Fn(&Path)) -> StoreError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.db");
    let (mut store, _) = Store::open(&path).unwrap();
    for job in 1..=9 {
        store.append(&[submitted(job)], &[]).unwrap();
    }
    let copies = tempfile::tempdir().unwrap();
    for file in ["muster.db", "muster.db-wal", "muster.db.lock"] {
        std::fs::copy(folder.path().join(file), copies.path().join(file)).unwrap();
    }
    let log = copies.path().join("muster.db-wal");
    change_log(&log);
    let before = std::fs::read(&log).ok();
    let error = Store::open(&copies.path().join("muster.db")).unwrap_err();
    if let Some(before) = before {
        assert_eq!(std::fs::read(&log).unwrap(), before, "the log is kept for whoever can read it");
    }
    error
}

#[test]
fn a_write_ahead_log_that_was_lost_or_damaged_is_noticed() {
    // SQLite by itself would take it for the end of the log and go on with what is before it.
    let error = copied_while_open(|log| {
        let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
        file.write_all_at(b"?", file.metadata().unwrap().len() / 4 * 3).unwrap();
    });
    let StoreError::Damaged { damage: Damage::End { first, last: 9 }, .. } = error else {
        panic!("{error:?}")
    };
    assert!((2..9).contains(&first), "{first}");
    let error = copied_while_open(|log| {
        let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
        file.set_len(file.metadata().unwrap().len() - 5000).unwrap();
    });
    assert!(matches!(error, StoreError::Damaged { damage: Damage::End { last: 9, .. }, .. }), "{error:?}");
    let error = copied_while_open(|log| std::fs::remove_file(log).unwrap());
    assert!(
        matches!(error, StoreError::Damaged { damage: Damage::End { first: 1, last: 9 }, .. }),
        "{error:?}"
    );
}

#[test]
fn no_changed_byte_is_ever_taken_for_another_state() {
    let kept = Kept::with_snapshots(&Databases::sqlite());
    let whole = std::fs::read(kept.database.path()).unwrap();
    let expected: State = add_up(&kept.records);
    let (mut refused, mut passed_over, mut harmless) = (0, 0, 0);
    // A step that is coprime to the size of a page comes by every place of a page.
    for (round, position) in (0..whole.len()).step_by(89).enumerate() {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("muster.db");
        let mut changed = whole.clone();
        changed[position] ^= 1 << (round % 8);
        std::fs::write(&path, changed).unwrap();
        std::fs::copy(kept.database.path().with_extension("db.lock"), copy.path().join("muster.db.lock"))
            .unwrap();
        match Store::open(&path) {
            Err(_) => refused += 1,
            Ok((store, recovered)) => {
                assert_eq!(recovered.state, expected, "byte {position}");
                assert_eq!(recovered.last_seq, 8, "byte {position}");
                let connection = Connection::open(kept.database.path()).unwrap();
                let secret: String = connection
                    .query_row("SELECT value FROM meta WHERE key = 'secret'", [], |row| row.get(0))
                    .unwrap();
                let hex: String = store.secret().iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, secret, "byte {position}");
                if recovered.passed_over.is_empty() { harmless += 1 } else { passed_over += 1 }
            }
        }
    }
    assert!(refused > 20 && passed_over > 20 && harmless > 20, "{refused} {passed_over} {harmless}");
}
