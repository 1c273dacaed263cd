//! The journal in a SQLite database, open for writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::ids::Timestamp;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::checksum::Head;
use crate::error::StoreError;
use crate::history::{self, HistoryRow};
use crate::lock::{Lock, private_file};
use crate::read::SqliteSource;
use crate::recover::{Found, recover};
use crate::schema::{self, Layout, RECORD_VERSION, failed, signed};
use crate::snapshot::{SqliteWriter, Turn};
use crate::store::Encoded;

/// The journal in a SQLite database.
#[derive(Debug)]
pub(crate) struct SqliteJournal {
    connection: Connection,
    path: PathBuf,
    turn: Arc<Turn>,
    /// Limit of the database's size, in bytes; 0 without.
    size_max_bytes: u64,
    lock: Lock,
}

impl SqliteJournal {
    /// Opens the database, making it if there is none. Gives it with the cluster's secret and what it held.
    pub fn open(path: &Path) -> Result<(Self, [u8; 32], Found), StoreError> {
        let lock = Lock::take(path)?;
        // SQLite would make the file with the umask's mode; its companion files take the mode of this one.
        private_file(path)?;
        let mut connection = Connection::open(path).map_err(failed(path, "open the database"))?;
        // Until it is clear that all is well, the write-ahead log must stay as it is: it may be what is damaged.
        keep_log_on_close(&connection, path, true)?;
        schema::set_up_writer(&connection, path)?;
        let layout = schema::ensure(&mut connection, path)?;
        let secret = schema::secret(&connection, path, layout)?;
        let found = recover(&SqliteSource::new(&connection, path, layout), lock.acknowledged())?;
        if layout == Layout::V1 {
            schema::migrate(&mut connection, path, &secret)?;
        }
        keep_log_on_close(&connection, path, false)?;
        let (turn, size_max_bytes) = (Arc::new(Turn::default()), 0);
        let mut journal = Self { connection, path: path.to_owned(), turn, size_max_bytes, lock };
        let mut found = found;
        if let Some(seq) = found.passed_over {
            // It would be kept in place of one that can be used.
            let sql = "DELETE FROM snapshot WHERE seq = ?1";
            journal
                .connection
                .execute(sql, [signed(seq)])
                .map_err(failed(path, "drop a damaged snapshot"))?;
        }
        if let Some(cut) = found.cut {
            journal.cut(&mut found, cut)?;
        }
        journal.lock.acknowledge(found.last_seq);
        Ok((journal, secret, found))
    }

    /// Sets damaged records at the end aside and goes on without them. Any of them may have made a job and shown its
    /// id, so that as many ids are never given again; nor are their sequence numbers.
    fn cut(&mut self, found: &mut Found, (first, last): (u64, u64)) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO set_aside SELECT seq, at_us, version, body, crc FROM journal \
                 WHERE seq BETWEEN ?1 AND ?2",
                [signed(first), signed(last)],
            )
            .map_err(failed(&self.path, "set damaged records aside"))?;
        found.state.next_job += last - first + 1;
        found.last_seq = last;
        let mut writer = self.snapshot_writer()?;
        writer.write(&found.state, last, Timestamp(0))?;
        writer.keep_last_only(last)?;
        found.snapshot_seq = last;
        Ok(())
    }

    /// Stores records after the one with the number `seq`; see [`crate::Store::append`].
    pub fn append(
        &mut self,
        seq: u64,
        records: &[Encoded],
        history: &[HistoryRow],
    ) -> Result<(), StoreError> {
        let failed = failed(&self.path, "store records");
        let mut seq = seq;
        {
            let _turn = self.turn.first();
            let transaction = Transaction::begin(&self.connection).map_err(&failed)?;
            {
                let mut inserter = schema::record_inserter(&self.connection).map_err(&failed)?;
                for record in records {
                    seq += 1;
                    let head = Head { seq: signed(seq), at_us: record.at_us, version: RECORD_VERSION };
                    schema::insert_record(&mut inserter, head, &record.body).map_err(&failed)?;
                }
            }
            history::write(&self.connection, history).map_err(&failed)?;
            transaction.commit().map_err(&failed)?;
        }
        self.lock.acknowledge(seq);
        Ok(())
    }

    pub fn snapshot_writer(&self) -> Result<SqliteWriter, StoreError> {
        let writer = SqliteWriter::open(&self.path, Arc::clone(&self.turn))?;
        limit_pages(writer.connection(), &self.path, self.size_max_bytes)?;
        Ok(writer)
    }

    /// Makes what was written down of the acknowledged records survive a loss of power.
    pub fn sync(&self) {
        self.lock.sync();
    }

    pub fn limit_size(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.size_max_bytes = bytes;
        limit_pages(&self.connection, &self.path, bytes)
    }
}

/// A transaction whose begin and end are read by SQLite once, and not for every commit. What is not committed is taken back.
struct Transaction<'a>(&'a Connection);

impl<'a> Transaction<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite ends it by itself after most failures.
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

fn limit_pages(connection: &Connection, path: &Path, bytes: u64) -> Result<(), StoreError> {
    // SQLite's own upper limit of pages (sqlite3.c, SQLITE_MAX_PAGE_COUNT).
    const PAGES_MAX: i64 = 4_294_967_294;
    let failed = failed(path, "limit its size");
    let page_bytes: i64 =
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(&failed)?;
    let pages = if bytes == 0 { PAGES_MAX } else { signed(bytes) / page_bytes.max(1) };
    connection
        .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
        .map_err(&failed)?;
    Ok(())
}

fn keep_log_on_close(connection: &Connection, path: &Path, keep: bool) -> Result<(), StoreError> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
        .map_err(failed(path, "set the connection up"))?;
    Ok(())
}
