//! The tables, and how a connection is set up.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use crate::checksum::{Checksum, Head};
use crate::error::StoreError;
use crate::{steps, usage};

/// Version of the tables.
pub(crate) const SCHEMA_VERSION: i64 = 2;
/// Version of a journal record's body.
pub(crate) const RECORD_VERSION: i64 = 1;
/// Version of a snapshot's body. Those of version 2 tell of each live task by itself, and those of version 1 of each finished one as well;
/// both are read.
pub(crate) const SNAPSHOT_VERSION: i64 = 3;

/// How records and snapshots lie in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Without checksums, a snapshot in one row.
    V1,
    /// With checksums, snapshots in parts.
    V2,
}

impl Layout {
    /// Whether records and snapshots have checksums.
    pub fn has_checksums(self) -> bool {
        self == Self::V2
    }
}

/// Largest part of a snapshot, in bytes: a part is one short transaction, so that records need not wait long for it.
pub(crate) const SNAPSHOT_PART_BYTES: usize = 64 << 10;

/// Memory of a connection for pages of the database, in KiB: what a batch of a thousand tasks changes. Hardly a page is read again later.
const CACHE_KIB: i64 = 4 << 10;

/// How long a statement waits for a reader that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The tables whose form changed with version 2.
const JOURNAL_TABLES: &str = "
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    at_us   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    body    TEXT NOT NULL,
    crc     INTEGER NOT NULL
);
CREATE TABLE snapshot (
    seq     INTEGER PRIMARY KEY,
    at_us   INTEGER NOT NULL,
    version INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    crc     INTEGER NOT NULL
);
CREATE TABLE snapshot_part (
    seq     INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (seq, part)
);
CREATE TABLE set_aside (
    seq     INTEGER PRIMARY KEY,
    at_us,
    version,
    body,
    crc
);
";

const TABLES: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
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
";

/// What finds the jobs that ended from some instant on; and an index that nothing asked for, and that each task paid for, is dropped.
/// Databases of earlier releases have it so from the next start on.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS job_history_by_end ON job_history (ended_us);
DROP INDEX IF EXISTS task_history_by_user;";

/// Says what was being done when SQLite refused; a full disk has an error of its own.
pub(crate) fn failed(path: &Path, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::Full { place: path.into() },
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            StoreError::Corrupt { place: path.into(), doing, source: source.into() }
        }
        _ => StoreError::Database { place: path.into(), doing, source: source.into() },
    }
}

/// Sets the connection up for durable commits.
pub(crate) fn set_up_writer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = failed(path, "set the connection up");
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
    // FULL syncs the write-ahead log at every commit: a commit that returned survives a loss of power.
    connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(&failed)?;
    // More is taken for as long as a transaction changes more, so that no page is written twice in one.
    connection.pragma_update(None, "cache_spill", false).map_err(&failed)?;
    // The log is cut back to this size after a checkpoint, so that one large snapshot does not keep it large.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(&failed)
}

/// Sets the connection up for reading beside the writer.
pub(crate) fn set_up_reader(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed(path, "set the connection up"))
}

/// Makes the tables in a new database; refuses one of a later version.
pub(crate) fn ensure(connection: &mut Connection, path: &Path) -> Result<Layout, StoreError> {
    let is_new = !connection.table_exists(None, "meta").map_err(failed(path, "read the tables"))?;
    if is_new {
        make(connection, path, &fresh_secret()?)?;
    }
    connection
        .execute_batch(INDEXES)
        .and_then(|()| connection.execute_batch(steps::TABLE))
        .and_then(|()| connection.execute_batch(usage::TABLES))
        .map_err(failed(path, "make the tables"))?;
    layout(connection, path)
}

/// Makes the tables.
pub(crate) fn make(connection: &mut Connection, path: &Path, secret: &[u8; 32]) -> Result<(), StoreError> {
    let failed = failed(path, "make the tables");
    let transaction = connection.transaction().map_err(&failed)?;
    transaction.execute_batch(TABLES).map_err(&failed)?;
    transaction.execute_batch(JOURNAL_TABLES).map_err(&failed)?;
    transaction.execute_batch(INDEXES).map_err(&failed)?;
    transaction.execute_batch(steps::TABLE).map_err(&failed)?;
    transaction.execute_batch(usage::TABLES).map_err(&failed)?;
    put_meta(&transaction, "schema_version", &SCHEMA_VERSION.to_string()).map_err(&failed)?;
    put_meta(&transaction, "secret", &to_hex(secret)).map_err(&failed)?;
    put_meta(&transaction, "secret_crc", &secret_crc(secret)).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// How the database's records and snapshots lie.
pub(crate) fn layout(connection: &Connection, path: &Path) -> Result<Layout, StoreError> {
    let text = meta(connection, "schema_version").map_err(failed(path, "read the schema's version"))?;
    match text.and_then(|text| text.parse().ok()) {
        Some(1) => Ok(Layout::V1),
        Some(SCHEMA_VERSION) => Ok(Layout::V2),
        Some(found @ 3..) => {
            Err(StoreError::NewerSchema { place: path.into(), found, known: SCHEMA_VERSION })
        }
        _ => Err(StoreError::BrokenMeta { place: path.into(), key: "schema_version" }),
    }
}

/// Brings a database of version 1 to the present one, in one transaction: its records and its snapshot, which have
/// been read and found to make sense, get checksums.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, secret: &[u8; 32]) -> Result<(), StoreError> {
    let failed = failed(path, "bring the tables to the present version");
    let transaction = connection.transaction().map_err(&failed)?;
    let run = || -> rusqlite::Result<()> {
        transaction.execute_batch(
            "ALTER TABLE journal RENAME TO journal_v1; ALTER TABLE snapshot RENAME TO snapshot_v1;",
        )?;
        transaction.execute_batch(JOURNAL_TABLES)?;
        let mut old = transaction.prepare("SELECT seq, at_us, version, body FROM journal_v1 ORDER BY seq")?;
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            let body: String = row.get(3)?;
            insert_record(&mut record_inserter(&transaction)?, head(row)?, &body)?;
        }
        let mut old =
            transaction.prepare("SELECT seq, at_us, version, body FROM snapshot_v1 ORDER BY seq")?;
        let mut rows = old.query([])?;
        while let Some(row) = rows.next()? {
            let (head, body) = (head(row)?, row.get::<_, String>(3)?);
            for (part, bytes) in (0..).zip(body.as_bytes().chunks(SNAPSHOT_PART_BYTES)) {
                insert_part(&transaction, head.seq, part, bytes)?;
            }
            let checksum = Checksum::of(head).with(body.as_bytes());
            insert_snapshot(&transaction, head, body.len() as u64, checksum)?;
        }
        put_meta(&transaction, "secret_crc", &secret_crc(secret))?;
        Ok(())
    };
    run().map_err(&failed)?;
    let version = SCHEMA_VERSION.to_string();
    transaction
        .execute_batch("DROP TABLE journal_v1; DROP TABLE snapshot_v1;")
        .and_then(|()| {
            transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [version])
        })
        .and_then(|_| transaction.commit())
        .map_err(&failed)
}

fn head(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head { seq: row.get(0)?, at_us: row.get(1)?, version: row.get(2)? })
}

/// What adds records: for [`insert_record`].
pub(crate) fn record_inserter(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection
        .prepare_cached("INSERT INTO journal (seq, at_us, version, body, crc) VALUES (?1, ?2, ?3, ?4, ?5)")
}

/// Adds a record with its checksum.
pub(crate) fn insert_record(
    inserter: &mut CachedStatement<'_>,
    head: Head,
    body: &str,
) -> rusqlite::Result<()> {
    let crc = Checksum::of(head).with(body.as_bytes()).value();
    inserter.execute(params![head.seq, head.at_us, head.version, body, crc])?;
    Ok(())
}

/// Adds a part of a snapshot. The snapshot is there once [`insert_snapshot`] has been committed.
pub(crate) fn insert_part(connection: &Connection, seq: i64, part: i64, body: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO snapshot_part (seq, part, body) VALUES (?1, ?2, ?3)")?
        .execute(params![seq, part, body])?;
    Ok(())
}

/// Makes the parts of a snapshot one.
pub(crate) fn insert_snapshot(
    connection: &Connection,
    head: Head,
    bytes: u64,
    checksum: Checksum,
) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO snapshot (seq, at_us, version, bytes, crc) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![head.seq, head.at_us, head.version, signed(bytes), checksum.value()],
    )?;
    Ok(())
}

pub(crate) fn fresh_secret() -> Result<[u8; 32], StoreError> {
    let path = Path::new("/dev/urandom");
    let open = |source| StoreError::Open { path: path.to_owned(), source };
    let mut secret = [0; 32];
    File::open(path).and_then(|mut file| file.read_exact(&mut secret)).map_err(open)?;
    Ok(secret)
}

/// The cluster's secret, made when the database was.
pub(crate) fn secret(connection: &Connection, path: &Path, layout: Layout) -> Result<[u8; 32], StoreError> {
    let read = |key| meta(connection, key).map_err(failed(path, "read the secret"));
    let secret = read("secret")?.and_then(|text| from_hex(&text));
    let crc = if layout.has_checksums() { read("secret_crc")? } else { secret.as_ref().map(secret_crc) };
    secret
        .filter(|secret| crc == Some(secret_crc(secret)))
        .ok_or(StoreError::BrokenMeta { place: path.into(), key: "secret" })
}

pub(crate) fn secret_crc(secret: &[u8; 32]) -> String {
    format!("{:08x}", crc32fast::hash(secret))
}

fn put_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO meta (key, value) VALUES (?1, ?2)", params![key, value])
}

fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
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
