//! The tables.

use postgres::Client;

use super::server::Server;
use super::session::{Session, failed};
use crate::error::StoreError;
use crate::schema::{SCHEMA_VERSION, fresh_secret, from_hex, secret_crc, to_hex};
use crate::{steps, usage};

/// The lock under which the tables are made, so that two controllers that start at the same time do not both do it.
const MAKING_TABLES: i64 = 0x6d75_7374_6572;

/// Asks the catalogue's tables: `to_regclass` may answer from what the server's process remembers.
const IS_THERE: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'meta')";

/// As in SQLite, with a row of `leader` in place of the lock file, and without what only a repair makes.
const TABLES: &str = r#"
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE leader (
    one          BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    term         BIGINT NOT NULL,
    holder       TEXT NOT NULL,
    address      TEXT NOT NULL,
    expires_at   TIMESTAMPTZ NOT NULL,
    acknowledged BIGINT NOT NULL
);
INSERT INTO leader (term, holder, address, expires_at, acknowledged) VALUES (0, '', '', 'epoch', 0);
CREATE TABLE keyring (
    name     TEXT PRIMARY KEY,
    cert_pem TEXT NOT NULL,
    key_pem  TEXT NOT NULL
);
CREATE TABLE journal (
    seq     BIGINT PRIMARY KEY,
    at_us   BIGINT NOT NULL,
    version BIGINT NOT NULL,
    body    TEXT NOT NULL,
    crc     BIGINT NOT NULL
);
CREATE TABLE snapshot (
    seq     BIGINT PRIMARY KEY,
    at_us   BIGINT NOT NULL,
    version BIGINT NOT NULL,
    bytes   BIGINT NOT NULL,
    crc     BIGINT NOT NULL
);
CREATE TABLE snapshot_part (
    seq     BIGINT NOT NULL,
    part    BIGINT NOT NULL,
    body    BYTEA NOT NULL,
    PRIMARY KEY (seq, part)
);
CREATE TABLE job_history (
    job          BIGINT PRIMARY KEY,
    name         TEXT NOT NULL,
    "user"       TEXT NOT NULL,
    uid          BIGINT NOT NULL,
    pool         TEXT NOT NULL,
    state        TEXT NOT NULL,
    tasks        BIGINT NOT NULL,
    submitted_us BIGINT NOT NULL,
    started_us   BIGINT,
    ended_us     BIGINT NOT NULL,
    detail       TEXT NOT NULL
);
CREATE INDEX job_history_by_user ON job_history ("user", ended_us);
CREATE TABLE task_history (
    job               BIGINT NOT NULL,
    task              BIGINT NOT NULL,
    task_last         BIGINT NOT NULL,
    task_step         BIGINT NOT NULL,
    attempts          BIGINT NOT NULL,
    name              TEXT NOT NULL,
    "user"            TEXT NOT NULL,
    uid               BIGINT NOT NULL,
    pool              TEXT NOT NULL,
    state             TEXT NOT NULL,
    exit_code         BIGINT,
    signal            BIGINT,
    reason            TEXT NOT NULL,
    nodes             TEXT NOT NULL,
    cores             BIGINT NOT NULL,
    submitted_us      BIGINT NOT NULL,
    started_us        BIGINT,
    ended_us          BIGINT NOT NULL,
    cpu_time_us       BIGINT NOT NULL,
    memory_peak_bytes BIGINT NOT NULL,
    view              TEXT,
    PRIMARY KEY (job, task)
);
"#;

/// As in SQLite.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS job_history_by_end ON job_history (ended_us);
DROP INDEX IF EXISTS task_history_by_user;";

/// Whether that is so, and the last of the tables that came later is there.
const HAS_ADDITIONS: &str = "SELECT EXISTS (SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND indexname = \
    'job_history_by_end') AND NOT EXISTS (SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND indexname = \
    'task_history_by_user') AND EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = \
    'away_history')";

/// Makes the tables in a new database; refuses one of a later version, or one that does not keep text as UTF-8.
pub(crate) fn ensure(session: &mut Session, server: &Server) -> Result<(), StoreError> {
    if !is_there(session.client(), server)? {
        make(session.client(), server)?;
    }
    check_version(session.client(), server)?;
    make_additions(session.client(), server)
}

/// Adds what databases of earlier releases lack. `IF NOT EXISTS` alone does not keep two controllers that start at the
/// same time from both making it.
fn make_additions(client: &mut Client, server: &Server) -> Result<(), StoreError> {
    let failed = failed(server, "make the tables");
    if client.query_one(HAS_ADDITIONS, &[]).map_err(&failed)?.get(0) {
        return Ok(());
    }
    let mut transaction = client.transaction().map_err(&failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING_TABLES]).map_err(&failed)?;
    transaction.batch_execute(INDEXES).map_err(&failed)?;
    transaction.batch_execute(steps::TABLE).map_err(&failed)?;
    transaction.batch_execute(usage::TABLES).map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

/// Whether a controller has made its tables.
pub(crate) fn is_there(client: &mut Client, server: &Server) -> Result<bool, StoreError> {
    let row = client.query_one(IS_THERE, &[]);
    Ok(row.map_err(failed(server, "read the tables"))?.get(0))
}

fn make(client: &mut Client, server: &Server) -> Result<(), StoreError> {
    let failed = failed(server, "make the tables");
    let encoding: String = client.query_one("SHOW server_encoding", &[]).map_err(&failed)?.get(0);
    if encoding != "UTF8" {
        let problem = format!("{server} keeps text as {encoding}: make the database with ENCODING 'UTF8'");
        return Err(StoreError::Server { problem });
    }
    let secret = fresh_secret()?;
    let mut transaction = client.transaction().map_err(&failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING_TABLES]).map_err(&failed)?;
    let there = transaction.query_one(IS_THERE, &[]).map_err(&failed)?;
    if there.get(0) {
        return Ok(());
    }
    transaction.batch_execute(TABLES).map_err(&failed)?;
    transaction.batch_execute(INDEXES).map_err(&failed)?;
    transaction.batch_execute(steps::TABLE).map_err(&failed)?;
    transaction.batch_execute(usage::TABLES).map_err(&failed)?;
    for (key, value) in [
        ("schema_version", SCHEMA_VERSION.to_string()),
        ("secret", to_hex(&secret)),
        ("secret_crc", secret_crc(&secret)),
    ] {
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2)";
        transaction.execute(sql, &[&key, &value]).map_err(&failed)?;
    }
    transaction.commit().map_err(&failed)
}

/// Refuses tables of another version.
pub(crate) fn check_version(client: &mut Client, server: &Server) -> Result<(), StoreError> {
    let text = meta(client, "schema_version").map_err(failed(server, "read the schema's version"))?;
    match text.and_then(|text| text.parse::<i64>().ok()) {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) if found > SCHEMA_VERSION => {
            Err(StoreError::NewerSchema { place: server.into(), found, known: SCHEMA_VERSION })
        }
        _ => Err(StoreError::BrokenMeta { place: server.into(), key: "schema_version" }),
    }
}

/// The cluster's secret, made when the tables were.
pub(crate) fn secret(client: &mut Client, server: &Server) -> Result<[u8; 32], StoreError> {
    let failed = failed(server, "read the secret");
    let secret = meta(client, "secret").map_err(&failed)?.and_then(|text| from_hex(&text));
    let crc = meta(client, "secret_crc").map_err(&failed)?;
    secret
        .filter(|secret| crc == Some(secret_crc(secret)))
        .ok_or(StoreError::BrokenMeta { place: server.into(), key: "secret" })
}

fn meta(client: &mut Client, key: &str) -> Result<Option<String>, postgres::Error> {
    let row = client.query_opt("SELECT value FROM meta WHERE key = $1", &[&key])?;
    Ok(row.map(|row| row.get(0)))
}
