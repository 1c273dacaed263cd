//! The journal, open for writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::checksum::Head;
use crate::damage::Damage;
use crate::error::StoreError;
use crate::history::{self, HistoryRow};
use crate::lock::{Lock, private_file};
use crate::recover::{Found, recover};
use crate::schema::{self, Layout, RECORD_VERSION, failed, signed};
use crate::snapshot::{Snapshot, SnapshotWriter, Turn};

/// The journal, open for writing. One process holds it at a time.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    last_seq: u64,
    snapshot_seq: u64,
    secret: [u8; 32],
    turn: Arc<Turn>,
    /// Limit of the database's size, in bytes; 0 without.
    size_max_bytes: u64,
    lock: Lock,
}

/// What the database held.
#[derive(Debug)]
pub struct Recovered {
    /// The snapshot, and every record after it applied.
    pub state: State,
    /// Sequence number of the last record; 0 in a new database.
    pub last_seq: u64,
    /// How many records were applied over the snapshot.
    pub replayed: u64,
    /// What was damaged and could be passed over.
    pub passed_over: Vec<Damage>,
}

impl Store {
    /// Opens the database at `path`, making it if there is none, and adds up what it holds. The database and
    /// its lock file `path.lock` are readable by their owner only: the journal holds users' environments.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Damaged`], [`StoreError::Corrupt`],
    /// [`StoreError::UnknownVersion`] or [`StoreError::BrokenRecord`] if what it holds cannot all be read, in
    /// which case nothing was changed; [`StoreError::Open`] or [`StoreError::Database`] otherwise.
    pub fn open(path: &Path) -> Result<(Self, Recovered), StoreError> {
        let lock = Lock::take(path)?;
        // SQLite would make the file with the umask's mode; its companion files take the mode of this one.
        private_file(path)?;
        let mut connection = Connection::open(path).map_err(failed(path, "open the database"))?;
        // Until it is clear that all is well, the write-ahead log must stay as it is: it may be what is damaged.
        keep_log_on_close(&connection, path, true)?;
        schema::set_up_writer(&connection, path)?;
        let layout = schema::ensure(&mut connection, path)?;
        let secret = schema::secret(&connection, path, layout)?;
        let found = recover(&connection, path, layout, lock.acknowledged())?;
        if layout == Layout::V1 {
            schema::migrate(&mut connection, path, &secret)?;
        }
        keep_log_on_close(&connection, path, false)?;
        let Found { mut state, last_seq, snapshot_seq, passed_over, cut } = found;
        let (turn, size_max_bytes) = (Arc::new(Turn::default()), 0);
        let replayed = last_seq - snapshot_seq;
        let mut store = Self {
            connection,
            path: path.to_owned(),
            last_seq,
            snapshot_seq,
            secret,
            turn,
            size_max_bytes,
            lock,
        };
        if let Some(seq) = passed_over {
            // It would be kept in place of one that can be used.
            let sql = "DELETE FROM snapshot WHERE seq = ?1";
            store.connection.execute(sql, [signed(seq)]).map_err(failed(path, "drop a damaged snapshot"))?;
        }
        if let Some(cut) = cut {
            store.cut(&mut state, cut)?;
        }
        store.lock.acknowledge(store.last_seq);
        let snapshot = passed_over.map(|seq| Damage::Snapshot { seq });
        let tail = cut.map(|(first, last)| Damage::Tail { first, last });
        let passed_over = snapshot.into_iter().chain(tail).collect();
        let recovered = Recovered { state, last_seq: store.last_seq, replayed, passed_over };
        Ok((store, recovered))
    }

    /// Sets damaged records at the end aside and goes on without them. Any of them may have made a job and shown its
    /// id, so that as many ids are never given again; nor are their sequence numbers.
    fn cut(&mut self, state: &mut State, (first, last): (u64, u64)) -> Result<(), StoreError> {
        self.connection
            .execute(
                "INSERT OR REPLACE INTO set_aside SELECT seq, at_us, version, body, crc FROM journal \
                 WHERE seq BETWEEN ?1 AND ?2",
                [signed(first), signed(last)],
            )
            .map_err(failed(&self.path, "set damaged records aside"))?;
        state.next_job += last - first + 1;
        self.last_seq = last;
        let mut writer = self.snapshot_writer()?;
        let snapshot = writer.write(state, last, Timestamp(0))?;
        writer.keep_last_only(last)?;
        self.snapshot_taken(snapshot);
        Ok(())
    }

    /// Stores records and the accounting rows that follow from them, all or none of them, and returns once
    /// they are safe from a loss of power.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room; other variants for other failures. Nothing was stored then,
    /// and the next call may succeed.
    pub fn append(&mut self, records: &[Record], history: &[HistoryRow]) -> Result<(), StoreError> {
        if records.is_empty() && history.is_empty() {
            return Ok(());
        }
        let failed = failed(&self.path, "store records");
        let bodies = records
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| StoreError::Encode { what: "a record", source })?;
        let mut seq = self.last_seq;
        {
            let _turn = self.turn.first();
            let transaction = self.connection.transaction().map_err(&failed)?;
            for (record, body) in records.iter().zip(&bodies) {
                seq += 1;
                let head = Head { seq: signed(seq), at_us: signed(record.at.0), version: RECORD_VERSION };
                schema::insert_record(&transaction, head, body).map_err(&failed)?;
            }
            history::write(&transaction, history).map_err(&failed)?;
            transaction.commit().map_err(&failed)?;
        }
        self.last_seq = seq;
        self.lock.acknowledge(seq);
        Ok(())
    }

    /// Stores `state`, which all records up to the last one add up to, and waits for it; see [`SnapshotWriter`].
    /// Gives none if there was nothing new to store.
    ///
    /// # Errors
    /// As [`Store::append`]; the journal is untouched then.
    pub fn snapshot(&mut self, state: &State, at: Timestamp) -> Result<Option<Snapshot>, StoreError> {
        if self.snapshot_seq == self.last_seq {
            return Ok(None);
        }
        let snapshot = self.snapshot_writer()?.write(state, self.last_seq, at)?;
        self.snapshot_taken(snapshot);
        self.lock.sync();
        Ok(Some(snapshot))
    }

    /// A connection of its own that writes snapshots while records are appended here. One at a time.
    ///
    /// # Errors
    /// [`StoreError::Database`] if SQLite refuses.
    pub fn snapshot_writer(&self) -> Result<SnapshotWriter, StoreError> {
        let writer = SnapshotWriter::open(&self.path, Arc::clone(&self.turn))?;
        limit_pages(writer.connection(), &self.path, self.size_max_bytes)?;
        Ok(writer)
    }

    /// Takes note of a snapshot that was written beside.
    pub fn snapshot_taken(&mut self, snapshot: Snapshot) {
        self.snapshot_seq = self.snapshot_seq.max(snapshot.seq);
    }

    /// Sequence number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// How many records a recovery would have to apply now.
    #[must_use]
    pub fn records_since_snapshot(&self) -> u64 {
        self.last_seq - self.snapshot_seq
    }

    /// A random number that was drawn when the database was made and never leaves it: secrets of attempts are
    /// derived from it.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Allows the database to grow to this many bytes at most, and not beyond; 0 lifts the limit.
    ///
    /// # Errors
    /// [`StoreError::Database`] if SQLite refuses.
    pub fn limit_size(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.size_max_bytes = bytes;
        limit_pages(&self.connection, &self.path, bytes)
    }
}

/// The state that a database adds up to, read beside whoever has it open.
///
/// # Errors
/// As [`Store::open`], but never [`StoreError::Locked`].
pub fn read_state(path: &Path) -> Result<State, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(failed(path, "open the database"))?;
    schema::set_up_reader(&connection, path)?;
    // One transaction: no snapshot may come between the last one and the records after it.
    let reading = connection.transaction().map_err(failed(path, "read the state"))?;
    let layout = schema::layout(&reading, path)?;
    Ok(recover(&reading, path, layout, None)?.state)
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
