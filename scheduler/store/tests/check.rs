//! The database is checked, repaired and exported.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use common::story::Story;
use common::{add_up, configured, submitted};
use muster_core::event::{Event, Record};
use muster_core::ids::{JobId, Timestamp};
use muster_core::state::State;
use muster_store::{Damage, Finding, HistoryReader, HistoryRow, JobRow, Repair, Store, StoreError, TaskRow};
use muster_store::{TaskSpan, check, export};
use rusqlite::Connection;
use serde_json::Value;

/// A database that holds the story with a snapshot after each half, some more jobs, and the accounting.
fn told(folder: &Path) -> (PathBuf, State, u64) {
    let path = folder.join("muster.db");
    let (mut store, _) = Store::open(&path).unwrap();
    let mut story = Story::new();
    story.first_half();
    let half = story.records.len();
    story.second_half();
    let (first, second) = story.records.split_at(half);
    store.append(first, &[]).unwrap();
    store.snapshot(&add_up(first), Timestamp(1)).unwrap();
    store.append(second, &rows(story.state())).unwrap();
    store.snapshot(story.state(), Timestamp(2)).unwrap();
    let mut state = story.state().clone();
    let next = state.next_job;
    for job in next..next + 3 {
        let record = submitted(job);
        store.append(std::slice::from_ref(&record), &[]).unwrap();
        state.evolve(&record.event, record.at);
    }
    (path, state, store.last_seq())
}

/// The accounting of everything that has ended.
fn rows(state: &State) -> Vec<HistoryRow> {
    let mut rows = Vec::new();
    for job in state.jobs.values() {
        for (index, finished) in &job.finished {
            rows.push(HistoryRow::Task(Box::new(TaskRow {
                job: job.id,
                span: TaskSpan::one(*index),
                attempts: 1,
                name: job.spec.name.clone(),
                user: job.spec.user.name.clone(),
                uid: job.spec.user.uid,
                pool: "main".to_owned(),
                state: "completed".to_owned(),
                exit_code: Some(0),
                signal: None,
                reason: String::new(),
                nodes: "n1".to_owned(),
                cores: 1,
                submitted_us: job.submitted_at.0,
                started_us: None,
                ended_us: finished.at.0,
                cpu_time_us: 1,
                memory_peak_bytes: 1,
                view: None,
            })));
        }
        rows.extend(job.finished_at.map(|ended| {
            HistoryRow::Job(Box::new(JobRow {
                job: job.id,
                name: job.spec.name.clone(),
                user: job.spec.user.name.clone(),
                uid: job.spec.user.uid,
                pool: "main".to_owned(),
                state: "completed".to_owned(),
                tasks: 1,
                submitted_us: job.submitted_at.0,
                started_us: None,
                ended_us: ended.0,
                detail: "{}".to_owned(),
            }))
        }));
    }
    rows
}

fn sql(path: &Path, statement: &str) {
    assert_ne!(Connection::open(path).unwrap().execute(statement, []).unwrap(), 0, "{statement}");
}

fn findings(path: &Path) -> Vec<String> {
    check(path).unwrap().findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_database_in_order_is_said_to_be_even_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, last_seq) = told(folder.path());
    let report = check(&path).unwrap();
    assert_eq!(report.findings, []);
    let found = report.state.unwrap();
    assert_eq!((found.seq, found.next_job, report.acknowledged), (last_seq, state.next_job, Some(last_seq)));
    assert_eq!(
        (found.jobs, found.live, found.waiting),
        (state.jobs.len(), state.live_count(), state.waiting_count())
    );
    let (mut store, _) = Store::open(&path).unwrap();
    store.append(&[submitted(state.next_job)], &[]).unwrap();
    let report = check(&path).unwrap();
    assert_eq!((report.findings, report.state.unwrap().seq), (vec![], last_seq + 1));
    assert!(matches!(Repair::plan(&path), Err(StoreError::Locked { .. })));
    drop(store);
    assert!(Repair::plan(&path).unwrap().is_none(), "nothing is damaged");
}

#[test]
fn databases_of_the_first_version_are_checked_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.db");
    let shelf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shelf/v1-snapshot.db");
    std::fs::copy(shelf, &path).unwrap();
    let report = check(&path).unwrap();
    assert_eq!(report.schema_version, 1);
    let accounting = |finding: &Finding| matches!(finding, Finding::Accounting { .. } | Finding::More { .. });
    assert!(report.findings.iter().all(accounting), "the shelf has none: {:?}", report.findings);
    assert!(report.state.is_some());
}

#[test]
fn whatever_is_not_in_order_is_named() {
    let cases = [
        (
            "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
            "were acknowledged and are missing",
        ),
        ("UPDATE snapshot SET crc = 5 WHERE seq = (SELECT max(seq) FROM snapshot)", "the snapshot at record"),
        (
            "UPDATE journal SET at_us = 5 WHERE seq = (SELECT max(seq) - 1 FROM journal)",
            "and whole ones follow them",
        ),
        ("UPDATE journal SET at_us = 5 WHERE seq = (SELECT max(seq) FROM journal)", "the last records"),
        ("DELETE FROM job_history WHERE job = 1", "the accounting of job 1 is missing"),
        ("DELETE FROM task_history WHERE job = 2", "the accounting of task 2_0 is missing"),
        (
            "UPDATE task_history SET ended_us = 5 WHERE job = 2",
            "the accounting of task 2_0 tells of another end",
        ),
        ("UPDATE job_history SET uid = 5 WHERE job = 2", "the accounting of job 2 tells of another job"),
        ("UPDATE job_history SET job = 999 WHERE job = 2", "job 999 is there, and no record"),
        (
            "UPDATE task_history SET task = 9, task_last = 9 WHERE job = 2",
            "the accounting of task 2_9 is there although",
        ),
    ];
    for (statement, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (path, ..) = told(folder.path());
        sql(&path, statement);
        let found = findings(&path);
        assert!(found.iter().any(|finding| finding.contains(expected)), "{statement}: {found:?}");
    }
}

#[test]
fn snapshots_that_do_not_follow_from_each_other_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.db");
    let (mut store, _) = Store::open(&path).unwrap();
    store.append(&[configured()], &[]).unwrap();
    store.snapshot(&add_up(&[configured()]), Timestamp(1)).unwrap();
    store.append(&[submitted(1)], &[]).unwrap();
    // A state that the records do not give.
    store.snapshot(&add_up(&[configured(), submitted(2)]), Timestamp(2)).unwrap();
    drop(store);
    let expected = "the snapshot at record 1 and the records since do not add up to the one at record 2";
    assert_eq!(findings(&path), [expected]);
}

fn repaired(path: &Path, folder: &Path) -> muster_store::Repaired {
    let repair = Repair::plan(path).unwrap().expect("something is damaged");
    repair.carry_out(&folder.join("copy")).unwrap()
}

#[test]
fn a_repair_keeps_everything_before_the_damage_and_names_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, last_seq) = told(folder.path());
    let damaged = last_seq - 1;
    sql(&path, &format!("UPDATE journal SET at_us = 5 WHERE seq = {damaged}"));
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path).unwrap_err(), StoreError::Damaged { .. }));
    let plan = Repair::plan(&path).unwrap().unwrap().planned().clone();
    assert_eq!(std::fs::read(&path).unwrap(), before, "a plan changes nothing");
    assert_eq!((plan.last_kept, plan.given_up), (damaged - 1, Some((damaged, last_seq))));
    let last_job = state.next_job - 1;
    assert_eq!((plan.unknown, &*plan.jobs_gone), (1, &[JobId(last_job)][..]));
    let repaired = repaired(&path, folder.path());
    assert_eq!(repaired.plan, plan);
    assert!(repaired.history_whole && repaired.history_rows > 10);
    assert_eq!(std::fs::read(repaired.copy.join("muster.db")).unwrap(), before);
    let report = check(&path).unwrap();
    assert_eq!(report.findings, []);
    let (_, recovered) = Store::open(&path).unwrap();
    assert_eq!((recovered.last_seq, recovered.passed_over), (last_seq, vec![]));
    assert_eq!(recovered.state.next_job, state.next_job, "no id is given twice");
    assert_eq!(recovered.state.jobs.keys().max(), Some(&JobId(last_job - 2)));
}

#[test]
fn a_repair_uses_the_snapshot_before_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, last_seq) = told(folder.path());
    let newest = "(SELECT max(seq) FROM snapshot)";
    sql(&path, &format!("DELETE FROM snapshot_part WHERE seq = {newest}"));
    sql(&path, &format!("UPDATE journal SET at_us = 5 WHERE seq = {newest}"));
    let plan = Repair::plan(&path).unwrap().unwrap().planned().clone();
    let attempts = last_seq - plan.last_kept;
    assert_eq!(plan.given_up, Some((plan.last_kept + 1, last_seq)));
    assert!(plan.snapshot_seq > 0 && plan.snapshot_seq < plan.last_kept);
    assert_eq!(attempts, 4, "the record under the newest snapshot, and three after it");
    repaired(&path, folder.path());
    let (_, recovered) = Store::open(&path).unwrap();
    assert!(recovered.state.next_job >= state.next_job);
    recovered.state.check_invariants().unwrap();
}

#[test]
fn a_repair_names_attempts_and_jobs_that_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("muster.db");
    let (mut store, _) = Store::open(&path).unwrap();
    let mut story = Story::new();
    story.first_half();
    store.append(&story.records, &[]).unwrap();
    drop(store);
    let placed = |record: &Record| matches!(record.event, Event::AttemptPlaced { .. });
    let seq = story.records.iter().position(placed).unwrap() + 1;
    sql(&path, &format!("UPDATE journal SET body = '?' WHERE seq = {seq}"));
    let plan = Repair::plan(&path).unwrap().unwrap().planned().clone();
    assert!(plan.attempts.contains(&"1_0.1".to_owned()), "{:?}", plan.attempts);
    assert_eq!(plan.jobs_changed, [JobId(1)], "it was accepted before the damage");
    assert!(plan.jobs_gone.contains(&JobId(2)) && !plan.jobs_gone.contains(&JobId(1)));
}

#[test]
fn a_lost_write_ahead_log_can_be_done_without_once_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ..) = told(folder.path());
    let number = format!("{:020}", 5000);
    let line = format!("acknowledged {number} {:08x}\n", crc32fast::hash(number.as_bytes()));
    std::fs::write(folder.path().join("muster.db.lock"), line).unwrap();
    let plan = Repair::plan(&path).unwrap().unwrap().planned().clone();
    let missing = Damage::End { first: plan.last_kept + 1, last: 5000 };
    assert_eq!(plan.findings, [Finding::Damage { what: missing }]);
    assert_eq!(plan.unknown, 5000 - plan.last_kept);
    repaired(&path, folder.path());
    assert_eq!(Store::open(&path).unwrap().1.last_seq, 5000);
}

#[test]
fn a_repair_gives_up_where_nothing_leads_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ..) = told(folder.path());
    sql(&path, "UPDATE snapshot SET crc = 5");
    assert!(matches!(Repair::plan(&path), Err(StoreError::BeyondRepair { .. })));
    assert!(check(&path).unwrap().state.is_none());
    let nothing = folder.path().join("nothing.db");
    assert!(matches!(check(&nothing), Err(StoreError::NoDatabase { .. })));
    assert!(matches!(Repair::plan(&nothing), Err(StoreError::NoDatabase { .. })));
    assert!(!folder.path().join("nothing.db.lock").exists());
}

#[test]
fn what_a_newer_musterd_wrote_is_not_repaired_away() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _, last_seq) = told(folder.path());
    let (seq, body) = (last_seq + 1, r#"{"at":1,"event":{"type":"from_the_future"}}"#);
    let mut crc = crc32fast::Hasher::new();
    [seq, 1, 1].iter().for_each(|number| crc.update(&number.to_le_bytes()));
    crc.update(body.as_bytes());
    sql(&path, &format!("INSERT INTO journal VALUES ({seq}, 1, 1, '{body}', {})", crc.finalize()));
    assert!(matches!(Repair::plan(&path), Err(StoreError::BrokenRecord { .. })));
}

/// A damaged page must neither keep a repair from what is behind it, nor be taken for the end.
#[test]
fn damaged_pages_are_repaired_or_said_to_be_beyond_repair() {
    let whole = tempfile::tempdir().unwrap();
    let (path, state, last_seq) = told(whole.path());
    let pages = std::fs::metadata(&path).unwrap().len() / 4096;
    let (mut repairs, mut beyond, mut none) = (0, 0, 0);
    for page in 1..pages {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("muster.db");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::copy(whole.path().join("muster.db.lock"), folder.path().join("muster.db.lock")).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&copy).unwrap();
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
        match Repair::plan(&copy) {
            Ok(Some(repair)) => {
                let plan = repair.planned().clone();
                let report = check(&copy).unwrap();
                assert!(!report.findings.is_empty(), "page {page}");
                repair.carry_out(&folder.path().join("copy")).unwrap();
                let (store, recovered) = Store::open(&copy).unwrap();
                assert_eq!(store.last_seq(), last_seq, "page {page}");
                assert!(recovered.state.next_job >= state.next_job, "page {page}");
                if plan.given_up.is_none() {
                    assert_eq!(recovered.state, state, "page {page}");
                }
                repairs += 1;
            }
            Ok(None) => none += 1,
            Err(_) => beyond += 1,
        }
    }
    assert!(
        repairs as u64 > pages / 2,
        "{repairs} repaired, {beyond} beyond repair, {none} unused of {pages}"
    );
}

#[test]
fn an_export_holds_everything_and_says_so_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state, last_seq) = told(folder.path());
    let mut text = Vec::new();
    let exported = export(&path, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((exported.lines as usize, exported.damaged), (lines.len(), 0));
    assert_eq!(lines[0]["type"], "muster_store");
    assert_eq!(lines[0]["version"], 1);
    assert_eq!(lines.last().unwrap()["lines"], lines.len());
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    // The state can be had from the lines alone.
    let snapshot = of("snapshot")[0];
    let mut found: State = serde_json::from_value(snapshot["state"].clone()).unwrap();
    for line in of("record") {
        assert!(line["seq"].as_u64() > snapshot["seq"].as_u64());
        let record: Record = serde_json::from_value(line["record"].clone()).unwrap();
        found.evolve(&record.event, record.at);
    }
    assert_eq!(found, state);
    assert_eq!(of("record").last().unwrap()["seq"], last_seq);
    let reader = HistoryReader::open(&path).unwrap();
    assert_eq!(of("job").len(), reader.jobs(JobId(u64::MAX), None, 1000).unwrap().len());
    assert!(of("task").len() > 5 && !text.contains("secret"));
    sql(&path, "UPDATE journal SET at_us = 5 WHERE seq = (SELECT max(seq) FROM journal)");
    let exported = export(&path, &mut Vec::new()).unwrap();
    assert_eq!(exported.damaged, 1);
}
