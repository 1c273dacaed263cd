//! The journal and its snapshots.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::error::StoreError;
use crate::history::{self, HistoryRow};
use crate::schema::{self, RECORD_VERSION, SNAPSHOT_VERSION, failed, signed};

/// The journal, open for writing. One process holds it at a time.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    last_seq: u64,
    snapshot_seq: u64,
    secret: [u8; 32],
    /// Held for its lock, which the kernel lets go of when the process ends, however it ends.
    _lock: File,
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
}

impl Store {
    /// Opens the database at `path`, making it if there is none, and adds up what it holds. The database and
    /// its lock file `path.lock` are readable by their owner only: the journal holds users' environments.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::UnknownVersion`],
    /// [`StoreError::BrokenRecord`] or [`StoreError::MissingRecord`] if what it holds cannot all be read, in
    /// which case nothing was changed; [`StoreError::Open`] or [`StoreError::Database`] otherwise.
    pub fn open(path: &Path) -> Result<(Self, Recovered), StoreError> {
        let lock = lock(path)?;
        // SQLite would make the file with the umask's mode; its companion files take the mode of this one.
        private_file(path)?;
        let mut connection = Connection::open(path).map_err(failed(path, "open the database"))?;
        schema::set_up_writer(&connection, path)?;
        schema::ensure(&mut connection, path, &fresh_secret()?)?;
        let secret = schema::secret(&connection, path)?;
        let (snapshot_seq, snapshot) = read_snapshot(&connection, path)?;
        let (state, last_seq) = replay(&connection, path, snapshot_seq, snapshot)?;
        let store = Self { connection, path: path.to_owned(), last_seq, snapshot_seq, secret, _lock: lock };
        Ok((store, Recovered { state, last_seq, replayed: last_seq - snapshot_seq }))
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
        let transaction = self.connection.transaction().map_err(&failed)?;
        let mut seq = self.last_seq;
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO journal (seq, at_us, version, body) VALUES (?1, ?2, ?3, ?4)")
                .map_err(&failed)?;
            for (record, body) in records.iter().zip(&bodies) {
                seq += 1;
                insert
                    .execute(params![signed(seq), signed(record.at.0), RECORD_VERSION, body])
                    .map_err(&failed)?;
            }
        }
        history::write(&transaction, history).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        self.last_seq = seq;
        Ok(())
    }

    /// Stores `state`, which all records up to the last one add up to, and drops the records that it covers.
    /// Gives the snapshot's size in bytes; 0 if there was nothing new to store.
    ///
    /// # Errors
    /// As [`Store::append`]; the journal is untouched then.
    pub fn snapshot(&mut self, state: &State, at: Timestamp) -> Result<u64, StoreError> {
        if self.snapshot_seq == self.last_seq && self.last_seq > 0 {
            return Ok(0);
        }
        let failed = failed(&self.path, "store a snapshot");
        let body = serde_json::to_string(state)
            .map_err(|source| StoreError::Encode { what: "the state", source })?;
        let seq = signed(self.last_seq);
        let transaction = self.connection.transaction().map_err(&failed)?;
        transaction
            .execute(
                "INSERT OR REPLACE INTO snapshot (seq, at_us, version, body) VALUES (?1, ?2, ?3, ?4)",
                params![seq, signed(at.0), SNAPSHOT_VERSION, body],
            )
            .map_err(&failed)?;
        transaction.execute("DELETE FROM snapshot WHERE seq < ?1", [seq]).map_err(&failed)?;
        transaction.execute("DELETE FROM journal WHERE seq <= ?1", [seq]).map_err(&failed)?;
        transaction.commit().map_err(&failed)?;
        self.snapshot_seq = self.last_seq;
        Ok(body.len() as u64)
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
        // SQLite's own upper limit of pages (sqlite3.c, SQLITE_MAX_PAGE_COUNT).
        const PAGES_MAX: i64 = 4_294_967_294;
        let failed = failed(&self.path, "limit its size");
        let page_bytes: i64 =
            self.connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(&failed)?;
        let pages = if bytes == 0 { PAGES_MAX } else { signed(bytes) / page_bytes.max(1) };
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))
            .map_err(&failed)?;
        Ok(())
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
    let (seq, snapshot) = read_snapshot(&reading, path)?;
    Ok(replay(&reading, path, seq, snapshot)?.0)
}

fn open_error(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    move |source| StoreError::Open { path: path.to_owned(), source }
}

fn private_file(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(open_error(path))
}

/// Takes the lock of a file beside the database. SQLite's own locks come and go with its transactions.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::Open { path, source }),
    }
}

fn fresh_secret() -> Result<[u8; 32], StoreError> {
    let path = Path::new("/dev/urandom");
    let mut secret = [0; 32];
    File::open(path).and_then(|mut file| file.read_exact(&mut secret)).map_err(open_error(path))?;
    Ok(secret)
}

fn read_snapshot(connection: &Connection, path: &Path) -> Result<(u64, State), StoreError> {
    let failed = failed(path, "read the snapshot");
    let row: Option<(i64, i64, String)> = connection
        .query_row("SELECT seq, version, body FROM snapshot ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()
        .map_err(failed)?;
    let Some((seq, version, body)) = row else { return Ok((0, State::new())) };
    let (what, seq) = ("snapshot", seq.unsigned_abs());
    if version != SNAPSHOT_VERSION {
        let (path, known) = (path.to_owned(), SNAPSHOT_VERSION);
        return Err(StoreError::UnknownVersion { what, path, seq, version, known });
    }
    let broken = |source| StoreError::BrokenRecord { what, path: path.to_owned(), seq, source };
    Ok((seq, serde_json::from_str(&body).map_err(broken)?))
}

fn replay(
    connection: &Connection,
    path: &Path,
    snapshot_seq: u64,
    mut state: State,
) -> Result<(State, u64), StoreError> {
    let what = "journal record";
    let failed = failed(path, "read the journal");
    let mut statement = connection
        .prepare("SELECT seq, version, body FROM journal WHERE seq > ?1 ORDER BY seq")
        .map_err(&failed)?;
    let mut rows = statement.query([signed(snapshot_seq)]).map_err(&failed)?;
    let mut last_seq = snapshot_seq;
    while let Some(row) = rows.next().map_err(&failed)? {
        let seq = row.get::<_, i64>(0).map_err(&failed)?.unsigned_abs();
        if seq != last_seq + 1 {
            return Err(StoreError::MissingRecord { path: path.to_owned(), seq: last_seq + 1 });
        }
        let version: i64 = row.get(1).map_err(&failed)?;
        if version != RECORD_VERSION {
            let (path, known) = (path.to_owned(), RECORD_VERSION);
            return Err(StoreError::UnknownVersion { what, path, seq, version, known });
        }
        let body: String = row.get(2).map_err(&failed)?;
        let broken = |source| StoreError::BrokenRecord { what, path: path.to_owned(), seq, source };
        let record: Record = serde_json::from_str(&body).map_err(broken)?;
        state.evolve(&record.event, record.at);
        last_seq = seq;
    }
    Ok((state, last_seq))
}
