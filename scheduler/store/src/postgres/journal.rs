//! The journal, open for writing under a lease.

use postgres::Transaction;
use serde_json::{Map, Value, json};

use super::lease::Lease;
use super::reader::Reader;
use super::session::{Session, failed};
use super::snapshot::SnapshotWriter;
use crate::checksum::{Checksum, Head};
use crate::damage::Damage;
use crate::error::StoreError;
use crate::history::{HistoryRow, JobRow, TaskRow};
use crate::recover::{Found, recover};
use crate::schema::{RECORD_VERSION, signed};
use crate::steps::StepRow;
use crate::store::Encoded;
use crate::usage::{AttemptRow, AwayRow, OPEN};

/// Bytes of records that go to the server in one statement.
const STATEMENT_BYTES_MAX: usize = 8 << 20;

const INSERT_RECORDS: &str = "INSERT INTO journal (seq, at_us, version, body, crc) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[])";

/// What writes of a term that is over find no row for.
const NOTE_ACKNOWLEDGED: &str = "UPDATE leader SET acknowledged = $2 WHERE term = $1";

/// A row that is there already is written again: the same facts make the same row.
const INSERT_JOBS: &str = "INSERT INTO job_history SELECT * FROM json_populate_recordset(NULL::job_history, $1::text::json) \
     ON CONFLICT (job) DO UPDATE SET name = EXCLUDED.name, \"user\" = EXCLUDED.\"user\", uid = EXCLUDED.uid, \
     pool = EXCLUDED.pool, state = EXCLUDED.state, tasks = EXCLUDED.tasks, submitted_us = EXCLUDED.submitted_us, \
     started_us = EXCLUDED.started_us, ended_us = EXCLUDED.ended_us, detail = EXCLUDED.detail";

const INSERT_TASKS: &str = "INSERT INTO task_history SELECT * FROM json_populate_recordset(NULL::task_history, $1::text::json) \
     ON CONFLICT (job, task) DO UPDATE SET task_last = EXCLUDED.task_last, task_step = EXCLUDED.task_step, \
     attempts = EXCLUDED.attempts, name = EXCLUDED.name, \"user\" = EXCLUDED.\"user\", uid = EXCLUDED.uid, \
     pool = EXCLUDED.pool, state = EXCLUDED.state, exit_code = EXCLUDED.exit_code, signal = EXCLUDED.signal, \
     reason = EXCLUDED.reason, nodes = EXCLUDED.nodes, cores = EXCLUDED.cores, \
     submitted_us = EXCLUDED.submitted_us, started_us = EXCLUDED.started_us, ended_us = EXCLUDED.ended_us, \
     cpu_time_us = EXCLUDED.cpu_time_us, memory_peak_bytes = EXCLUDED.memory_peak_bytes, view = EXCLUDED.view";

const INSERT_STEPS: &str = "INSERT INTO step_history SELECT * FROM json_populate_recordset(NULL::step_history, $1::text::json) \
     ON CONFLICT (job, task, attempt, step) DO UPDATE SET name = EXCLUDED.name, state = EXCLUDED.state, \
     exit_code = EXCLUDED.exit_code, signal = EXCLUDED.signal, nodes = EXCLUDED.nodes, ranks = EXCLUDED.ranks, \
     cores = EXCLUDED.cores, started_us = EXCLUDED.started_us, ended_us = EXCLUDED.ended_us, \
     cpu_time_us = EXCLUDED.cpu_time_us, memory_peak_bytes = EXCLUDED.memory_peak_bytes, view = EXCLUDED.view";

const INSERT_ATTEMPTS: &str = "INSERT INTO attempt_history SELECT * FROM \
     json_populate_recordset(NULL::attempt_history, $1::text::json) \
     ON CONFLICT (job, task, attempt) DO UPDATE SET \"user\" = EXCLUDED.\"user\", account = EXCLUDED.account, \
     pool = EXCLUDED.pool, cores = EXCLUDED.cores, started_us = EXCLUDED.started_us, ended_us = EXCLUDED.ended_us, \
     view = EXCLUDED.view";

const INSERT_AWAYS: &str = "INSERT INTO away_history SELECT * FROM json_populate_recordset(NULL::away_history, $1::text::json) \
     ON CONFLICT (node, since_us) DO UPDATE SET until_us = EXCLUDED.until_us, reason = EXCLUDED.reason";

/// Ends what had no end.
const END_AWAYS: &str = "UPDATE away_history SET until_us = ended.until_us FROM \
     json_populate_recordset(NULL::away_history, $1::text::json) ended \
     WHERE away_history.node = ended.node AND away_history.until_us = 9223372036854775807";

/// The journal in a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct PostgresJournal {
    lease: Lease,
    session: Session,
}

/// Why a try to write failed.
enum Failure {
    /// Another try would fail as well, or must not be made; nothing was stored.
    Final(StoreError),
    /// The connection broke: what was sent may have been stored, or not.
    Broken(postgres::Error),
}

impl PostgresJournal {
    /// Gives the journal of the database in which the lease was taken, with the cluster's secret and what it held.
    pub fn open(lease: &Lease) -> Result<(Self, [u8; 32], Found), StoreError> {
        let server = lease.server();
        let mut session = lease.connect_again()?;
        // On a connection of its own, which may pause in the middle of its transaction: it locks nothing.
        let reader = Reader::open(server)?;
        let acknowledged = reader.begin()?;
        let secret = reader.secret()?;
        let found = recover(&reader, Some(acknowledged))?;
        if let Some((first, last)) = found.cut {
            // What was stored was acknowledged in the same transaction: no crash leaves more.
            return Err(StoreError::Damaged { place: server.into(), damage: Damage::Tail { first, last } });
        }
        if let Some(seq) = found.passed_over {
            // It would be kept in place of one that can be used.
            let failed = failed(server, "drop a damaged snapshot");
            let mut transaction = session.client().transaction().map_err(&failed)?;
            let sql = "DELETE FROM snapshot WHERE seq = $1";
            transaction.execute(sql, &[&signed(seq)]).map_err(&failed)?;
            fence(&mut transaction, lease).map_err(&failed)?.then_some(()).ok_or_else(|| lease.deposed())?;
            transaction.commit().map_err(&failed)?;
        }
        Ok((Self { lease: lease.clone(), session }, secret, found))
    }

    /// Stores records after the one with the number `seq`; see [`crate::Store::append`].
    pub fn append(
        &mut self,
        seq: u64,
        records: &[Encoded],
        history: &[HistoryRow],
    ) -> Result<(), StoreError> {
        let last = seq + records.len() as u64;
        loop {
            let error = match self.try_append(seq, last, records, history) {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Broken(error)) => error,
            };
            tracing::warn!(%error, "the connection to the database broke; it is made again while the lease lasts");
            let stored = self.resume()?;
            if stored == last && last > seq {
                return Ok(());
            }
            if stored != seq {
                return Err(self.lease.deposed());
            }
        }
    }

    fn try_append(
        &mut self,
        seq: u64,
        last: u64,
        records: &[Encoded],
        history: &[HistoryRow],
    ) -> Result<(), Failure> {
        let Self { lease, session } = self;
        if !lease.is_valid() {
            return Err(Failure::Final(lease.deposed()));
        }
        match write(session, lease.term(), seq, last, records, history) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Final(lease.deposed())),
            Err(error) if session.is_broken(&error) => Err(Failure::Broken(error)),
            Err(error) => Err(Failure::Final(failed(lease.server(), "store records")(error))),
        }
    }

    /// Connects again. Gives the number of the last record that was stored: the row lock is had once nothing that was
    /// sent before can still be stored.
    fn resume(&mut self) -> Result<u64, StoreError> {
        loop {
            let before = std::mem::replace(&mut self.session, self.lease.connect_again()?).process;
            match resume(&mut self.session, self.lease.term(), before) {
                Ok(Some(stored)) => return Ok(stored.unsigned_abs()),
                Ok(None) => return Err(self.lease.deposed()),
                Err(error) => tracing::warn!(%error, "cannot ask the database what was stored"),
            }
        }
    }

    pub fn snapshot_writer(&self) -> SnapshotWriter {
        SnapshotWriter::new(&self.lease)
    }
}

fn resume(session: &mut Session, term: u64, before: i32) -> Result<Option<i64>, postgres::Error> {
    let name = super::session::Purpose::Lead(term).name();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND application_name = $2 \
               AND usename = current_user";
    session.client().query(end, &[&before, &name])?;
    let look = "SELECT acknowledged FROM leader WHERE term = $1 FOR UPDATE";
    Ok(session.client().query_opt(look, &[&signed(term)])?.map(|row| row.get(0)))
}

/// Locks the row of the leader until the transaction's end. Says whether the term is still this one.
pub(super) fn fence(transaction: &mut Transaction<'_>, lease: &Lease) -> Result<bool, postgres::Error> {
    let sql = "SELECT 1 FROM leader WHERE term = $1 FOR SHARE";
    Ok(transaction.query_opt(sql, &[&signed(lease.term())])?.is_some())
}

/// Writes everything in one transaction. Says whether the term was still this one; nothing was stored if not.
fn write(
    session: &mut Session,
    term: u64,
    seq: u64,
    last: u64,
    records: &[Encoded],
    history: &[HistoryRow],
) -> Result<bool, postgres::Error> {
    let note = session.statement(NOTE_ACKNOWLEDGED)?;
    let insert = session.statement(INSERT_RECORDS)?;
    let (jobs, tasks, steps) = (job_rows(history), task_rows(history), step_rows(history));
    let insert_jobs = session.statement(INSERT_JOBS)?;
    let insert_tasks = session.statement(INSERT_TASKS)?;
    let insert_steps = session.statement(INSERT_STEPS)?;
    let insert_attempts = session.statement(INSERT_ATTEMPTS)?;
    let insert_aways = session.statement(INSERT_AWAYS)?;
    let end_aways = session.statement(END_AWAYS)?;
    let mut transaction = session.client().transaction()?;
    let mut next = seq + 1;
    for chunk in chunks(records) {
        let columns = Columns::of(next, chunk);
        next += chunk.len() as u64;
        let Columns { seq, at_us, version, body, crc } = &columns;
        transaction.execute(&insert, &[seq, at_us, version, body, crc])?;
    }
    let (attempts, aways, backs) = (attempt_rows(history), away_rows(history), back_rows(history));
    for (statement, rows) in [
        (&insert_jobs, jobs),
        (&insert_tasks, tasks),
        (&insert_steps, steps),
        (&insert_attempts, attempts),
        (&insert_aways, aways),
        (&end_aways, backs),
    ] {
        if let Some(rows) = rows {
            transaction.execute(statement, &[&rows])?;
        }
    }
    // Last, so that the row is locked briefly.
    if transaction.execute(&note, &[&signed(term), &signed(last)])? == 0 {
        return Ok(false);
    }
    transaction.commit()?;
    Ok(true)
}

/// Records that go to the server together.
fn chunks(records: &[Encoded]) -> Vec<&[Encoded]> {
    let (mut chunks, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (i, record) in records.iter().enumerate() {
        bytes += record.body.len();
        if bytes > STATEMENT_BYTES_MAX || i + 1 == records.len() {
            chunks.push(&records[from..=i]);
            (from, bytes) = (i + 1, 0);
        }
    }
    chunks
}

/// Records as columns.
struct Columns<'a> {
    seq: Vec<i64>,
    at_us: Vec<i64>,
    version: Vec<i64>,
    body: Vec<&'a str>,
    crc: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn of(first: u64, records: &'a [Encoded]) -> Self {
        let mut columns = Self {
            seq: Vec::new(),
            at_us: Vec::new(),
            version: Vec::new(),
            body: Vec::new(),
            crc: Vec::new(),
        };
        for (seq, record) in (first..).zip(records) {
            let head = Head { seq: signed(seq), at_us: record.at_us, version: RECORD_VERSION };
            columns.seq.push(head.seq);
            columns.at_us.push(head.at_us);
            columns.version.push(head.version);
            columns.body.push(&record.body);
            columns.crc.push(Checksum::of(head).with(record.body.as_bytes()).value());
        }
        columns
    }
}

/// The rows of jobs as one JSON text; none if there are none. Of rows with the same key, the last one counts.
fn job_rows(rows: &[HistoryRow]) -> Option<String> {
    let mut by_key = std::collections::BTreeMap::new();
    for row in rows {
        if let HistoryRow::Job(row) = row {
            by_key.insert(row.job, job_json(row));
        }
    }
    as_text(by_key.into_values().collect())
}

fn task_rows(rows: &[HistoryRow]) -> Option<String> {
    let mut by_key = std::collections::BTreeMap::new();
    for row in rows {
        if let HistoryRow::Task(row) = row {
            by_key.insert((row.job, row.span.first), task_json(row));
        }
    }
    as_text(by_key.into_values().collect())
}

fn step_rows(rows: &[HistoryRow]) -> Option<String> {
    let mut by_key = std::collections::BTreeMap::new();
    for row in rows {
        if let HistoryRow::Step(row) = row {
            by_key.insert((row.attempt, row.step), step_json(row));
        }
    }
    as_text(by_key.into_values().collect())
}

fn attempt_rows(rows: &[HistoryRow]) -> Option<String> {
    let mut by_key = std::collections::BTreeMap::new();
    for row in rows {
        if let HistoryRow::Attempt(row) = row {
            by_key.insert(row.attempt, attempt_json(row));
        }
    }
    as_text(by_key.into_values().collect())
}

fn away_rows(rows: &[HistoryRow]) -> Option<String> {
    let mut by_key = std::collections::BTreeMap::new();
    for row in rows {
        if let HistoryRow::Away(row) = row {
            by_key.insert((&row.node, row.since_us), away_json(row));
        }
    }
    as_text(by_key.into_values().collect())
}

fn back_rows(rows: &[HistoryRow]) -> Option<String> {
    let back = |row: &HistoryRow| match row {
        HistoryRow::Back { node, at_us } => Some(json!({ "node": text(node), "until_us": signed(*at_us) })),
        _ => None,
    };
    as_text(rows.iter().filter_map(back).collect())
}

fn as_text(rows: Vec<Value>) -> Option<String> {
    (!rows.is_empty()).then(|| Value::Array(rows).to_string())
}

/// A zero byte, which PostgreSQL has no place for in a text, becomes the character for what cannot be shown.
fn text(text: &str) -> Value {
    Value::String(text.replace('\0', "\u{fffd}"))
}

fn job_json(row: &JobRow) -> Value {
    json!({
        "job": signed(row.job.0),
        "name": text(&row.name),
        "user": text(&row.user),
        "uid": row.uid,
        "pool": text(&row.pool),
        "state": text(&row.state),
        "tasks": signed(row.tasks),
        "submitted_us": signed(row.submitted_us),
        "started_us": row.started_us.map(signed),
        "ended_us": signed(row.ended_us),
        "detail": text(&row.detail),
    })
}

fn task_json(row: &TaskRow) -> Value {
    let entries = [
        ("job", json!(signed(row.job.0))),
        ("task", json!(row.span.first)),
        ("task_last", json!(row.span.last)),
        ("task_step", json!(row.span.step)),
        ("attempts", json!(row.attempts)),
        ("name", text(&row.name)),
        ("user", text(&row.user)),
        ("uid", json!(row.uid)),
        ("pool", text(&row.pool)),
        ("state", text(&row.state)),
        ("exit_code", json!(row.exit_code)),
        ("signal", json!(row.signal)),
        ("reason", text(&row.reason)),
        ("nodes", text(&row.nodes)),
        ("cores", json!(signed(row.cores))),
        ("submitted_us", json!(signed(row.submitted_us))),
        ("started_us", json!(row.started_us.map(signed))),
        ("ended_us", json!(signed(row.ended_us))),
        ("cpu_time_us", json!(signed(row.cpu_time_us))),
        ("memory_peak_bytes", json!(signed(row.memory_peak_bytes))),
        ("view", row.view.as_deref().map_or(Value::Null, text)),
    ];
    Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}

fn attempt_json(row: &AttemptRow) -> Value {
    json!({
        "job": signed(row.attempt.task.job.0),
        "task": row.attempt.task.index.0,
        "attempt": row.attempt.attempt,
        "user": text(&row.user),
        "account": row.account.as_deref().map_or(Value::Null, text),
        "pool": text(&row.pool),
        "cores": signed(row.cores),
        "started_us": signed(row.started_us),
        "ended_us": signed(row.ended_us),
        "view": text(&row.view),
    })
}

fn away_json(row: &AwayRow) -> Value {
    json!({
        "node": text(&row.node),
        "since_us": signed(row.since_us),
        "until_us": row.until_us.map_or(OPEN, signed),
        "reason": text(&row.reason),
    })
}

fn step_json(row: &StepRow) -> Value {
    json!({
        "job": signed(row.attempt.task.job.0),
        "task": row.attempt.task.index.0,
        "attempt": row.attempt.attempt,
        "step": row.step,
        "name": text(&row.name),
        "state": text(&row.state),
        "exit_code": row.exit_code,
        "signal": row.signal,
        "nodes": text(&row.nodes),
        "ranks": row.ranks,
        "cores": signed(row.cores),
        "started_us": signed(row.started_us),
        "ended_us": signed(row.ended_us),
        "cpu_time_us": signed(row.cpu_time_us),
        "memory_peak_bytes": signed(row.memory_peak_bytes),
        "view": text(&row.view),
    })
}
