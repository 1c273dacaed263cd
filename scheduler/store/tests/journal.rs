//! The store against real databases of both kinds, real processes that are killed, and a full disk.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::database::{Database, Databases};
use common::{add_up, cancelled, configured, submitted};
use muster_core::event::Record;
use muster_core::ids::{AttemptKey, JobId, TaskId, TaskIndex, Timestamp};
use muster_core::state::State;
use muster_store::{
    HistoryReader, HistoryRow, JobRow, JobSpan, StepRow, Store, StoreError, TaskRow, TaskSpan, read_state,
};

on_both!(
    what_was_appended_is_there_again,
    a_snapshot_and_the_records_after_it_give_the_same_state,
    history_can_be_read_beside_the_writer_and_with_plain_sql,
    an_index_that_nothing_asks_for_is_dropped_at_the_next_start,
    steps_are_kept_once_each_however_often_they_are_told,
    a_killed_writer_loses_nothing_that_it_said_was_stored,
    the_state_can_be_read_beside_the_writer,
);

fn database(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("muster.db")
}

fn what_was_appended_is_there_again(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, recovered) = database.open().unwrap();
    assert_eq!((recovered.last_seq, recovered.state), (0, State::new()));
    let secret = *store.secret();
    let records = [configured(), submitted(1), submitted(2), cancelled(1), submitted(3)];
    store.append(&records[..2], &[]).unwrap();
    store.append(&records[2..], &[]).unwrap();
    drop(store);
    let (store, recovered) = database.open().unwrap();
    assert_eq!(recovered.last_seq, 5);
    assert_eq!(recovered.replayed, 5);
    assert_eq!(recovered.state, add_up(&records));
    assert_eq!(*store.secret(), secret);
}

fn a_snapshot_and_the_records_after_it_give_the_same_state(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let mut records = vec![configured()];
    records.extend((1..=20).map(submitted));
    records.extend((1..=10).map(cancelled));
    store.append(&records, &[]).unwrap();
    store.snapshot(&add_up(&records), Timestamp(5)).unwrap();
    assert_eq!(store.records_since_snapshot(), 0);
    records.push(submitted(21));
    store.append(&records[records.len() - 1..], &[]).unwrap();
    assert_eq!(store.records_since_snapshot(), 1);
    drop(store);
    assert_eq!(
        database.count("journal"),
        1,
        "records under the snapshot are dropped, the one above it is kept"
    );
    let (_, recovered) = database.open().unwrap();
    assert_eq!((recovered.last_seq, recovered.replayed), (32, 1));
    assert_eq!(recovered.state, add_up(&records));
}

fn steps_are_kept_once_each_however_often_they_are_told(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let row = |job, attempt, step, state: &str| StepRow {
        attempt: AttemptKey { task: TaskId { job: JobId(job), index: TaskIndex(3) }, attempt },
        step,
        name: "a.out".into(),
        state: state.into(),
        exit_code: 3,
        signal: 9,
        nodes: "n[1-2]".into(),
        ranks: 4,
        cores: 8,
        started_us: 10,
        ended_us: 20,
        cpu_time_us: 30,
        memory_peak_bytes: u64::from(u32::MAX) + 1,
        view: "{}".into(),
    };
    let told = |rows: &[StepRow]| -> Vec<HistoryRow> {
        rows.iter().map(|row| HistoryRow::Step(Box::new(row.clone()))).collect()
    };
    // Nodes tell of steps without a record of the journal, and everything again in a new session.
    store
        .append(&[], &told(&[row(1, 1, 0, "failed"), row(1, 1, 1, "failed"), row(7, 1, 0, "failed")]))
        .unwrap();
    store.append(&[configured()], &told(&[row(1, 1, 1, "cancelled"), row(1, 2, 0, "failed")])).unwrap();
    let reader = HistoryReader::open(database.place()).unwrap();
    let of = |first, last, limit| {
        let jobs = JobSpan { first: JobId(first), last: JobId(last) };
        reader.steps(jobs, limit).unwrap()
    };
    let first = [row(1, 1, 0, "failed"), row(1, 1, 1, "cancelled"), row(1, 2, 0, "failed")];
    assert_eq!(of(1, 6, 10), first);
    assert_eq!(of(1, 7, 10).len(), 4);
    assert_eq!(of(1, 7, 2), first[..2]);
    let mut lines = Vec::new();
    muster_store::export(database.place(), &mut lines).unwrap();
    let text = String::from_utf8(lines).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with(r#"{"type":"step","#)).count(), 4, "{text}");
}

fn the_state_can_be_read_beside_the_writer(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let records = [configured(), submitted(1), submitted(2)];
    store.append(&records[..2], &[]).unwrap();
    store.snapshot(&add_up(&records[..2]), Timestamp(5)).unwrap();
    store.append(&records[2..], &[]).unwrap();
    assert_eq!(read_state(database.place()).unwrap(), add_up(&records));
    database.sql("DELETE FROM journal WHERE seq = 3");
    if !database.is_sqlite() {
        // SQLite's lock file, which says that it is missing, is the writer's alone.
        let error = read_state(database.place()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_second_controller_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (store, _) = Store::open(&path).unwrap();
    let refused = Store::open(&path).unwrap_err();
    assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    drop(store);
    Store::open(&path).unwrap();
}

#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (mut store, _) = Store::open(&path).unwrap();
    store.append(&[configured()], &[]).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_full_disk_is_said_and_gets_well_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = database(&folder);
    let (mut store, _) = Store::open(&path).unwrap();
    let mut stored = vec![configured()];
    store.append(&stored, &[]).unwrap();
    store.limit_size(200 << 10).unwrap();
    let mut job = 0;
    let error = loop {
        let batch: Vec<Record> = (1..=20).map(|i| submitted(job + i)).collect();
        match store.append(&batch, &[]) {
            Ok(()) => stored.extend(batch),
            Err(error) => break error,
        }
        job += 20;
        assert!(job < 100_000, "the limit must be reached");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(matches!(store.snapshot(&add_up(&stored), Timestamp(9)).unwrap_err(), StoreError::Full { .. }));
    store.limit_size(0).unwrap();
    let batch: Vec<Record> = (1..=20).map(|i| submitted(job + i)).collect();
    store.append(&batch, &[]).unwrap();
    stored.extend(batch);
    drop(store);
    let (_, recovered) = Store::open(&path).unwrap();
    assert_eq!(recovered.state, add_up(&stored), "what failed left nothing behind");
}

fn job_row(job: u64, user: &str) -> HistoryRow {
    HistoryRow::Job(Box::new(JobRow {
        job: JobId(job),
        name: "j".to_owned(),
        user: user.to_owned(),
        uid: 1000,
        pool: "main".to_owned(),
        state: "completed".to_owned(),
        tasks: 1,
        submitted_us: 1,
        started_us: Some(2),
        ended_us: 3,
        detail: "{}".to_owned(),
    }))
}

fn task_row(job: u64, span: TaskSpan, started_us: Option<u64>) -> HistoryRow {
    HistoryRow::Task(Box::new(TaskRow {
        job: JobId(job),
        span,
        attempts: 1,
        name: "j".to_owned(),
        user: "ann".to_owned(),
        uid: 1000,
        pool: "main".to_owned(),
        state: "failed".to_owned(),
        exit_code: Some(7),
        signal: None,
        reason: "exit code 7".to_owned(),
        nodes: "n[1-2]".to_owned(),
        cores: 16,
        submitted_us: 1,
        started_us,
        ended_us: u64::MAX,
        cpu_time_us: 3_600_000_000,
        memory_peak_bytes: 5,
        view: None,
    }))
}

fn history_can_be_read_beside_the_writer_and_with_plain_sql(databases: &Databases) {
    let database = databases.fresh();
    let (mut store, _) = database.open().unwrap();
    let span = TaskSpan { first: 10, last: 20, step: 5 };
    let one = TaskSpan::one(TaskIndex(3));
    let rows = [job_row(1, "ann"), job_row(2, "bob"), task_row(1, one, Some(2)), task_row(1, span, None)];
    store.append(&[configured()], &rows).unwrap();
    store.append(&[submitted(1)], &rows).unwrap();
    let reader = HistoryReader::open(database.place()).unwrap();
    let HistoryRow::Job(expected) = &rows[0] else { panic!() };
    assert_eq!(reader.job(JobId(1)).unwrap().as_ref(), Some(&**expected));
    assert_eq!(reader.job(JobId(9)).unwrap(), None);
    let ids = |rows: Vec<JobRow>| rows.iter().map(|row| row.job.0).collect::<Vec<_>>();
    assert_eq!(ids(reader.jobs(JobId(u64::MAX), None, 10).unwrap()), [2, 1]);
    assert_eq!(ids(reader.jobs(JobId(2), None, 10).unwrap()), [1]);
    assert_eq!(ids(reader.jobs(JobId(9), Some("bob"), 10).unwrap()), [2]);
    assert_eq!(reader.tasks(JobId(1), 10).unwrap().len(), 2);
    assert_eq!(reader.task(JobId(1), TaskIndex(3)).unwrap().unwrap().started_us, Some(2));
    assert_eq!(reader.task(JobId(1), TaskIndex(15)).unwrap().unwrap().span, span);
    assert_eq!(reader.task(JobId(1), TaskIndex(16)).unwrap(), None);
    let user = if database.is_sqlite() { "user" } else { "\"user\"" };
    let hours = format!("SELECT sum(cpu_time_us) / 3600000000 FROM task_history WHERE {user} = 'ann'");
    assert_eq!(database.number(&hours), 2);
}

fn an_index_that_nothing_asks_for_is_dropped_at_the_next_start(databases: &Databases) {
    let database = databases.fresh();
    drop(database.open().unwrap());
    database.execute("CREATE INDEX task_history_by_user ON task_history (\"user\", ended_us)");
    let (table, name) = match database.is_sqlite() {
        true => ("sqlite_master", "name"),
        false => ("pg_indexes", "schemaname = current_schema() AND indexname"),
    };
    let indexes = format!("SELECT count(*) FROM {table} WHERE {name} = 'task_history_by_user'");
    assert_eq!(database.number(&indexes), 1);
    database.expire();
    drop(database.open().unwrap());
    assert_eq!(database.number(&indexes), 0);
}

const CHILD_DATABASE: &str = "MUSTER_STORE_CHILD_DATABASE";

/// The body of the process that [`a_killed_writer_loses_nothing_that_it_said_was_stored`] kills.
#[test]
#[ignore = "runs as the child of another test"]
fn writer_child() {
    let Ok(name) = std::env::var(CHILD_DATABASE) else { return };
    let (mut store, recovered) = Database::open_named(&name);
    let mut state = recovered.state;
    for job in state.next_job.. {
        // Batches of one to three records, and a snapshot now and then, so that kills hit all kinds of commits.
        let mut batch = vec![submitted(job)];
        if job % 2 == 0 {
            batch.push(cancelled(job - 1));
        }
        store.append(&batch, &[job_row(job, "ann")]).unwrap();
        for record in &batch {
            state.evolve(&record.event, record.at);
        }
        println!("stored {job}");
        if job % 16 == 0 {
            store.snapshot(&state, Timestamp(job)).unwrap();
        }
    }
}

fn a_killed_writer_loses_nothing_that_it_said_was_stored(databases: &Databases) {
    let database = databases.fresh();
    let mut last_job = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_child", "--ignored", "--nocapture"])
            .env(CHILD_DATABASE, database.name())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // How far each child gets differs, and so does the place within a commit at which the kill hits it.
        let lines_before_kill = 1 + (round * 7919) % 41;
        let mut said = 0;
        let stored = |line: &str| line.rsplit_once("stored ").and_then(|(_, job)| job.parse::<u64>().ok());
        while said < lines_before_kill {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(job) = stored(&line) {
                last_job = job;
                said += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            last_job = stored(&line.unwrap()).unwrap_or(last_job);
        }
        database.expire();
        let (store, recovered) = database.open().unwrap();
        let state = recovered.state;
        assert!(
            state.next_job > last_job,
            "job {last_job} was said to be stored, but {} is next",
            state.next_job
        );
        assert!(state.next_job <= last_job + 2, "at most one job was stored without being said");
        let mut model: Vec<Record> = Vec::new();
        for job in 1..state.next_job {
            model.push(submitted(job));
            if job % 2 == 0 {
                model.push(cancelled(job - 1));
            }
        }
        assert_eq!(state, add_up(&model), "round {round}");
        drop(store);
        database.expire();
        let history =
            HistoryReader::open(database.place()).unwrap().jobs(JobId(u64::MAX), None, 100_000).unwrap();
        assert_eq!(history.len() as u64, state.next_job - 1, "history and journal agree");
    }
}
