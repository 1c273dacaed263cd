//! The journal, open for writing.

use std::path::Path;

use muster_core::event::Record;
use muster_core::ids::Timestamp;
use muster_core::state::State;
use rusqlite::{Connection, OpenFlags};

use crate::damage::Damage;
use crate::error::StoreError;
use crate::history::HistoryRow;
use crate::place::Place;
use crate::postgres::{Lease, PostgresJournal};
use crate::read::SqliteSource;
use crate::recover::{Found, recover};
use crate::schema::{self, failed, signed};
use crate::snapshot::{Snapshot, SnapshotWriter};
use crate::sqlite::SqliteJournal;

/// The journal, open for writing. One process holds it at a time.
#[derive(Debug)]
pub struct Store {
    journal: Journal,
    last_seq: u64,
    snapshot_seq: u64,
    secret: [u8; 32],
}

#[derive(Debug)]
enum Journal {
    Sqlite(SqliteJournal),
    Postgres(Box<PostgresJournal>),
}

/// A record as it is stored.
pub(crate) struct Encoded {
    /// Its instant, in microseconds since 1970.
    pub at_us: i64,
    /// Its JSON.
    pub body: String,
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
    /// Opens the SQLite database at `path`, making it if there is none, and adds up what it holds. The database and
    /// its lock file `path.lock` are readable by their owner only: the journal holds users' environments.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Damaged`], [`StoreError::Corrupt`],
    /// [`StoreError::UnknownVersion`] or [`StoreError::BrokenRecord`] if what it holds cannot all be read, in
    /// which case nothing was changed; [`StoreError::Open`] or [`StoreError::Database`] otherwise.
    pub fn open(path: &Path) -> Result<(Self, Recovered), StoreError> {
        let (journal, secret, found) = SqliteJournal::open(path)?;
        Ok(Self::recovered(Journal::Sqlite(journal), secret, found))
    }

    /// Opens the PostgreSQL database in which this controller leads, and adds up what it holds. Everything that is
    /// stored is stored under the lease: once another controller leads, nothing more is.
    ///
    /// # Errors
    /// As [`Store::open`], but never [`StoreError::Locked`]; [`StoreError::Deposed`] if another controller leads by
    /// now.
    pub fn lead(lease: &Lease) -> Result<(Self, Recovered), StoreError> {
        let (journal, secret, found) = PostgresJournal::open(lease)?;
        Ok(Self::recovered(Journal::Postgres(Box::new(journal)), secret, found))
    }

    fn recovered(journal: Journal, secret: [u8; 32], found: Found) -> (Self, Recovered) {
        let Found { state, last_seq, snapshot_seq, passed_over, cut } = found;
        let snapshot = passed_over.map(|seq| Damage::Snapshot { seq });
        let tail = cut.map(|(first, last)| Damage::Tail { first, last });
        let passed_over = snapshot.into_iter().chain(tail).collect();
        let recovered = Recovered { state, last_seq, replayed: last_seq - snapshot_seq, passed_over };
        (Self { journal, last_seq, snapshot_seq, secret }, recovered)
    }

    /// Stores records and the accounting rows that follow from them, all or none of them, and returns once
    /// they are safe from a loss of power.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room; other variants for other failures. Nothing was stored then,
    /// and the next call may succeed. After [`StoreError::Deposed`] none will, and whether this batch was stored is
    /// known to the next leader alone.
    pub fn append(&mut self, records: &[Record], history: &[HistoryRow]) -> Result<(), StoreError> {
        if records.is_empty() && history.is_empty() {
            return Ok(());
        }
        let encode = |record: &Record| {
            let body = serde_json::to_string(record)
                .map_err(|source| StoreError::Encode { what: "a record", source })?;
            Ok(Encoded { at_us: signed(record.at.0), body })
        };
        let encoded = records.iter().map(encode).collect::<Result<Vec<_>, StoreError>>()?;
        match &mut self.journal {
            Journal::Sqlite(journal) => journal.append(self.last_seq, &encoded, history)?,
            Journal::Postgres(journal) => journal.append(self.last_seq, &encoded, history)?,
        }
        self.last_seq += records.len() as u64;
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
        if let Journal::Sqlite(journal) = &self.journal {
            journal.sync();
        }
        Ok(Some(snapshot))
    }

    /// A connection of its own that writes snapshots while records are appended here. One at a time.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the database refuses.
    pub fn snapshot_writer(&self) -> Result<SnapshotWriter, StoreError> {
        Ok(match &self.journal {
            Journal::Sqlite(journal) => journal.snapshot_writer()?.into(),
            Journal::Postgres(journal) => journal.snapshot_writer().into(),
        })
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

    /// Allows a SQLite database to grow to this many bytes at most, and not beyond; 0 lifts the limit. How large a
    /// database of PostgreSQL's may grow is its server's to say.
    ///
    /// # Errors
    /// [`StoreError::Database`] if SQLite refuses.
    pub fn limit_size(&mut self, bytes: u64) -> Result<(), StoreError> {
        match &mut self.journal {
            Journal::Sqlite(journal) => journal.limit_size(bytes),
            Journal::Postgres(_) => Ok(()),
        }
    }
}

/// The state that a database adds up to, read beside whoever has it open.
///
/// # Errors
/// As [`Store::open`], but never [`StoreError::Locked`].
pub fn read_state(place: impl Into<Place>) -> Result<State, StoreError> {
    match place.into() {
        Place::Sqlite(path) => read_file(&path),
        Place::Postgres(server) => {
            let reader = crate::postgres::Reader::open(&server)?;
            let acknowledged = reader.begin()?;
            Ok(recover(&reader, Some(acknowledged))?.state)
        }
    }
}

fn read_file(path: &Path) -> Result<State, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(failed(path, "open the database"))?;
    schema::set_up_reader(&connection, path)?;
    // One transaction: no snapshot may come between the last one and the records after it.
    let reading = connection.transaction().map_err(failed(path, "read the state"))?;
    let layout = schema::layout(&reading, path)?;
    Ok(recover(&SqliteSource::new(&reading, path, layout), None)?.state)
}
