//! Snapshots, written beside the journal without holding it up.
//!
//! A snapshot is written in parts, each in a short transaction of its own and without a sync, on a connection of its
//! own. Records are appended between the parts. The last, synced transaction makes the parts one; until then they
//! mean nothing, and the next snapshot removes what a crash has left of them. The snapshot before the last is kept,
//! with all records since: if the last one is ever found damaged, nothing is lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use muster_core::ids::Timestamp;
use muster_core::state::State;
use rusqlite::{Connection, Transaction, params};

use crate::checksum::{Checksum, Head};
use crate::damage::Damage;
use crate::error::StoreError;
use crate::place::Place;
use crate::read::SqliteSource;
use crate::recover::{Found, recover};
use crate::schema::{self, Layout, SNAPSHOT_PART_BYTES, SNAPSHOT_VERSION, failed, signed};

/// Rows that are deleted in one transaction at most.
const DELETE_MAX: usize = 1000;
/// Parts that are deleted in one transaction at most.
const DELETE_PARTS_MAX: usize = 16;
/// Pages of the write-ahead log after which it is moved into the database, as SQLite's own default.
const CHECKPOINT_PAGES: i64 = 1000;

/// Whose turn it is to write. SQLite has one writer at a time, and whoever waits for it polls; here the journal goes
/// first and waits exactly as long as it must.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    state: Mutex<TurnState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnState {
    taken: bool,
    journal_waits: bool,
    /// How many wait, the journal among them: where nobody does, nobody is woken, which is a system call.
    waiting: usize,
}

/// The turn, given back when it is dropped.
pub(crate) struct Taken<'a>(&'a Turn);

impl Turn {
    fn lock(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().expect("no code panics under this lock")
    }

    /// For the journal.
    pub fn first(&self) -> Taken<'_> {
        let mut state = self.lock();
        state.journal_waits = true;
        state = self.wait_while(state, |state| state.taken);
        (state.taken, state.journal_waits) = (true, false);
        Taken(self)
    }

    /// For what can wait.
    fn after_others(&self) -> Taken<'_> {
        let mut state = self.wait_while(self.lock(), |state| state.taken || state.journal_waits);
        state.taken = true;
        Taken(self)
    }

    fn wait_while<'a>(
        &self,
        mut state: MutexGuard<'a, TurnState>,
        may_not: impl FnMut(&mut TurnState) -> bool,
    ) -> MutexGuard<'a, TurnState> {
        state.waiting += 1;
        state = self.changed.wait_while(state, may_not).expect("no code panics under this lock");
        state.waiting -= 1;
        state
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken = false;
        let has_waiting = state.waiting > 0;
        drop(state);
        if has_waiting {
            self.0.changed.notify_all();
        }
    }
}

/// A snapshot that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record that it covers.
    pub seq: u64,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// Writes snapshots beside a [`crate::Store`], from any thread.
#[derive(Debug)]
pub struct SnapshotWriter(Writer);

#[derive(Debug)]
enum Writer {
    Sqlite(SqliteWriter),
    Postgres(crate::postgres::SnapshotWriter),
}

impl From<SqliteWriter> for SnapshotWriter {
    fn from(writer: SqliteWriter) -> Self {
        Self(Writer::Sqlite(writer))
    }
}

impl From<crate::postgres::SnapshotWriter> for SnapshotWriter {
    fn from(writer: crate::postgres::SnapshotWriter) -> Self {
        Self(Writer::Postgres(writer))
    }
}

impl SnapshotWriter {
    /// Reads again what is on the disk, and gives the state that it adds up to with the number of the last record. This
    /// holds nobody up, and damage shows while the memory still knows better.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Corrupt`] if a start would find anything that is not whole.
    pub fn state_on_disk(&mut self) -> Result<(State, u64), StoreError> {
        let (found, place) = match &mut self.0 {
            Writer::Sqlite(writer) => (writer.found()?, Place::Sqlite(writer.path.clone())),
            Writer::Postgres(writer) => (writer.found()?, writer.place()),
        };
        match found.passed_over {
            Some(seq) => Err(StoreError::Damaged { place, damage: Damage::Snapshot { seq } }),
            None => Ok((found.state, found.last_seq)),
        }
    }

    /// Stores `state`, which all records up to `seq` add up to, and drops what is no longer needed: the records
    /// that the snapshot before this one covers, and older snapshots. Records may be appended meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room, [`StoreError::Deposed`] if this controller leads no longer, other
    /// variants for other failures. The journal is whole without.
    pub fn write(&mut self, state: &State, seq: u64, at: Timestamp) -> Result<Snapshot, StoreError> {
        match &mut self.0 {
            Writer::Sqlite(writer) => writer.write(state, seq, at),
            Writer::Postgres(writer) => writer.write(state, seq, at),
        }
    }
}

/// Writes snapshots into a SQLite database.
#[derive(Debug)]
pub(crate) struct SqliteWriter {
    connection: Connection,
    path: PathBuf,
    turn: Arc<Turn>,
}

impl SqliteWriter {
    pub fn open(path: &Path, turn: Arc<Turn>) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(failed(path, "open the database"))?;
        schema::set_up_writer(&connection, path)?;
        // The log is moved between the parts, when it is nobody's turn.
        let failed = failed(path, "set the connection up");
        connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
        Ok(Self { connection, path: path.to_owned(), turn })
    }

    /// What a start would find now.
    fn found(&self) -> Result<Found, StoreError> {
        // In one transaction, so that what is read is of one instant.
        let transaction =
            self.connection.unchecked_transaction().map_err(failed(&self.path, "read the journal"))?;
        recover(&SqliteSource::new(&transaction, &self.path, Layout::V2), None)
    }

    /// See [`SnapshotWriter::write`].
    pub fn write(&mut self, state: &State, seq: u64, at: Timestamp) -> Result<Snapshot, StoreError> {
        self.drop_unfinished()?;
        let head = Head { seq: signed(seq), at_us: signed(at.0), version: SNAPSHOT_VERSION };
        let mut store_part = |part, body: &[u8]| {
            self.transaction("store a part of a snapshot", Durable::Later, |transaction| {
                schema::insert_part(transaction, head.seq, part, body)
            })
        };
        let (bytes, checksum) = write_parts(state, head, &mut store_part).inspect_err(|_| {
            // What is left is dropped by the next snapshot, if not now.
            let _ = self.drop_unfinished();
        })?;
        self.transaction("store a snapshot", Durable::Yes, |transaction| {
            schema::insert_snapshot(transaction, head, bytes, checksum)
        })?;
        self.drop_covered()?;
        Ok(Snapshot { seq, bytes })
    }

    /// Drops every snapshot but the last, and every record under it.
    pub fn keep_last_only(&self, seq: u64) -> Result<(), StoreError> {
        let seq = signed(seq);
        self.transaction("drop older snapshots", Durable::Yes, |transaction| {
            transaction.execute("DELETE FROM snapshot WHERE seq < ?1", [seq])?;
            transaction.execute("DELETE FROM journal WHERE seq <= ?1", [seq])
        })?;
        self.drop_unfinished()
    }

    /// Drops parts that belong to no snapshot.
    fn drop_unfinished(&self) -> Result<(), StoreError> {
        self.delete_all(
            "DELETE FROM snapshot_part WHERE rowid IN (SELECT rowid FROM snapshot_part \
             WHERE seq NOT IN (SELECT seq FROM snapshot) LIMIT ?1)",
            DELETE_PARTS_MAX,
        )
    }

    /// Drops what the last two snapshots make superfluous.
    fn drop_covered(&self) -> Result<(), StoreError> {
        let kept = "SELECT seq FROM snapshot ORDER BY seq DESC LIMIT 2";
        self.delete_all(
            &format!(
                "DELETE FROM snapshot WHERE seq IN (SELECT seq FROM snapshot WHERE seq NOT IN ({kept}) LIMIT ?1)"
            ),
            1,
        )?;
        self.drop_unfinished()?;
        self.delete_all(
            "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal \
             WHERE seq <= (SELECT min(seq) FROM snapshot) ORDER BY seq LIMIT ?1)",
            DELETE_MAX,
        )
    }

    /// Runs a statement that deletes so many rows at most until it finds none.
    fn delete_all(&self, statement: &str, at_most: usize) -> Result<(), StoreError> {
        let at_most = signed(at_most as u64);
        let delete =
            |transaction: &Transaction<'_>| transaction.prepare_cached(statement)?.execute([at_most]);
        while self.transaction("drop what a snapshot covers", Durable::Later, delete)? > 0 {}
        Ok(())
    }

    fn transaction<T>(
        &self,
        doing: &'static str,
        durable: Durable,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = failed(&self.path, doing);
        // NORMAL leaves the sync to the next commit that has one: it syncs the whole log.
        let synchronous = if durable == Durable::Yes { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", synchronous).map_err(&failed)?;
        let done = {
            let _turn = self.turn.after_others();
            let transaction = self.connection.unchecked_transaction().map_err(&failed)?;
            let done = work(&transaction).map_err(&failed)?;
            transaction.commit().map_err(&failed)?;
            done
        };
        self.move_log()?;
        Ok(done)
    }

    /// Moves the write-ahead log into the database where it has grown, while others go on appending to it.
    fn move_log(&self) -> Result<(), StoreError> {
        let failed = failed(&self.path, "move the write-ahead log into the database");
        let log_bytes =
            std::fs::metadata(crate::lock::beside(&self.path, "-wal")).map_or(0, |file| file.len());
        let page_bytes: i64 =
            self.connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(&failed)?;
        if signed(log_bytes) > CHECKPOINT_PAGES * page_bytes {
            self.connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", params![], |_| Ok(()))
                .map_err(&failed)?;
        }
        Ok(())
    }

    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    Later,
}

/// Stores a part of a snapshot under its number.
pub(crate) type StorePart<'a> = &'a mut dyn FnMut(i64, &[u8]) -> Result<(), StoreError>;

/// Hands a state on as JSON, in parts with their numbers. Gives the size and the checksum of it all.
pub(crate) fn write_parts(
    state: &State,
    head: Head,
    store: StorePart<'_>,
) -> Result<(u64, Checksum), StoreError> {
    let buffer = Vec::with_capacity(SNAPSHOT_PART_BYTES);
    let mut parts =
        Parts { store, checksum: Checksum::of(head), bytes: 0, next_part: 0, buffer, error: None };
    if let Err(source) = serde_json::to_writer(&mut parts, state) {
        let encode = StoreError::Encode { what: "the state", source };
        return Err(parts.error.take().unwrap_or(encode));
    }
    parts.store()?;
    Ok((parts.bytes, parts.checksum))
}

/// Takes the JSON as it is made, so that it never lies in memory as a whole.
struct Parts<'a> {
    store: StorePart<'a>,
    checksum: Checksum,
    bytes: u64,
    next_part: i64,
    buffer: Vec<u8>,
    error: Option<StoreError>,
}

impl Parts<'_> {
    fn store(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.checksum.add(&self.buffer);
        self.bytes += self.buffer.len() as u64;
        (self.store)(self.next_part, &self.buffer)?;
        self.next_part += 1;
        self.buffer.clear();
        Ok(())
    }
}

impl io::Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SNAPSHOT_PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == SNAPSHOT_PART_BYTES
            && let Err(error) = self.store()
        {
            self.error = Some(error);
            return Err(io::Error::other("a part of the snapshot could not be stored"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
