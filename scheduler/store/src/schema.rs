//! The tables, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::StoreError;

/// Version of the tables.
pub(crate) const SCHEMA_VERSION: i64 = 1;
/// Version of a journal record's body.
pub(crate) const RECORD_VERSION: i64 = 1;
/// Version of a snapshot's body.
pub(crate) const SNAPSHOT_VERSION: i64 = 1;

/// How long a statement waits for a reader that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    at_us   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT NOT NULL
);
CREATE TABLE snapshot (
    seq     INTEGER PRIMARY KEY,
    at_us   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT NOT NULL
);
CREATE TABLE job_history (
    job          INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,
    user         TEXT NOT NULL,
    uid          INTEGER NOT NULL,
    pool         TEXT NOT NULL,
    state        TEXT NOT NULL,
    tasks        INTEGER NOT NULL,
    submitted_us INTEGER NOT NULL,
    started_us   INTEGER,
    ended_us     INTEGER NOT NULL,
    detail       TEXT NOT NULL
);
CREATE INDEX job_history_by_user ON job_history (user, ended_us);
CREATE TABLE task_history (
    job               INTEGER NOT NULL,
    task              INTEGER NOT NULL,
    task_last         INTEGER NOT NULL,
    task_step         INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    name              TEXT NOT NULL,
    user              TEXT NOT NULL,
    uid               INTEGER NOT NULL,
    pool              TEXT NOT NULL,
    state             TEXT NOT NULL,
    exit_code         INTEGER,
    signal            INTEGER,
    reason            TEXT NOT NULL,
    nodes             TEXT NOT NULL,
    cores             INTEGER NOT NULL,
    submitted_us      INTEGER NOT NULL,
    started_us        INTEGER,
    ended_us          INTEGER NOT NULL,
    cpu_time_us       INTEGER NOT NULL,
    memory_peak_bytes INTEGER NOT NULL,
    view              TEXT,
    PRIMARY KEY (job, task)
) WITHOUT ROWID;
CREATE INDEX task_history_by_user ON task_history (user, ended_us);
";

/// Says what was being done when SQLite refused; a full disk has an error of its own.
pub(crate) fn failed(path: &Path, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { path: path.to_owned() },
        _ => StoreError::Database { path: path.to_owned(), doing, source },
    }
}

/// Sets the connection up for durable commits.
pub(crate) fn set_up_writer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = failed(path, "set the connection up");
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
    // FULL syncs the write-ahead log at every commit: a commit that returned survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
    // The log is cut back to this size after a checkpoint, so that one large snapshot does not keep it large.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(&failed)
}

/// Sets the connection up for reading beside the writer.
pub(crate) fn set_up_reader(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed(path, "set the connection up"))
}

/// Makes the tables in a new database; refuses one of a later version.
pub(crate) fn ensure(connection: &mut Connection, path: &Path, secret: &[u8; 32]) -> Result<(), StoreError> {
    let failed = failed(path, "make the tables");
    let is_new = !connection.table_exists(None, "meta").map_err(&failed)?;
    if is_new {
        let transaction = connection.transaction().map_err(&failed)?;
        transaction.execute_batch(TABLES).map_err(&failed)?;
        put_meta(&transaction, "schema_version", &SCHEMA_VERSION.to_string()).map_err(&failed)?;
        put_meta(&transaction, "secret", &to_hex(secret)).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        return Ok(());
    }
    let found = meta(connection, "schema_version").map_err(&failed)?.and_then(|text| text.parse().ok());
    match found {
        Some(version) if (1..=SCHEMA_VERSION).contains(&version) => Ok(()),
        Some(found) => Err(StoreError::NewerSchema { path: path.to_owned(), found, known: SCHEMA_VERSION }),
        None => Err(StoreError::BrokenMeta { path: path.to_owned(), key: "schema_version" }),
    }
}

/// The cluster's secret, made when the database was.
pub(crate) fn secret(connection: &Connection, path: &Path) -> Result<[u8; 32], StoreError> {
    let text = meta(connection, "secret").map_err(failed(path, "read the secret"))?;
    text.and_then(|text| from_hex(&text))
        .ok_or(StoreError::BrokenMeta { path: path.to_owned(), key: "secret" })
}

fn put_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", params![key, value])
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

/// SQLite's integers are signed: instants and sizes beyond 2^63 are kept as 2^63 - 1.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
