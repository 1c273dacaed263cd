//! Reads records and snapshots, and says of each whether it is as it was written.

use std::ops::ControlFlow;
use std::path::Path;

use muster_core::event::Record;
use muster_core::state::State;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::checksum::{Checksum, Head};
use crate::error::StoreError;
use crate::place::Place;
use crate::schema::{Layout, RECORD_VERSION, SNAPSHOT_VERSION, failed, signed};

/// Why a record or snapshot cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is not as it was written.
    Changed,
    /// It is as it was written, in a version that is not known here.
    Version(i64),
    /// It is as it was written, as far as can be told, and cannot be understood.
    Content(serde_json::Error),
}

impl Fault {
    /// The error for a fault that is no damage: something newer wrote it, or before there were checksums.
    pub fn not_damage(self, what: &'static str, place: &Place, seq: u64) -> Option<StoreError> {
        let place = place.clone();
        match self {
            Self::Changed => None,
            Self::Version(version) => {
                let known = if what == "snapshot" { SNAPSHOT_VERSION } else { RECORD_VERSION };
                Some(StoreError::UnknownVersion { what, place, seq, version, known })
            }
            Self::Content(source) => Some(StoreError::BrokenRecord { what, place, seq, source }),
        }
    }
}

/// Which records, and in which order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// Those after this one, upwards.
    After(u64),
    /// All, downwards.
    Down,
}

/// What is told of a record that was read.
pub(crate) type Each<'a> =
    &'a mut dyn FnMut(u64, Result<Record, Fault>) -> Result<ControlFlow<()>, StoreError>;

/// A database whose records and snapshots can be read.
pub(crate) trait Source {
    /// Which database this is.
    fn place(&self) -> &Place;

    /// Reads records one after another, until `each` breaks.
    fn records(&self, which: Which, each: Each<'_>) -> Result<(), StoreError>;

    /// The sequence numbers of all snapshots, the newest first.
    fn snapshot_seqs(&self) -> Result<Vec<u64>, StoreError>;

    /// Reads a snapshot's state.
    fn snapshot(&self, seq: u64) -> Result<Result<State, Fault>, StoreError>;
}

impl<T: Source> Source for &T {
    fn place(&self) -> &Place {
        (**self).place()
    }

    fn records(&self, which: Which, each: Each<'_>) -> Result<(), StoreError> {
        (**self).records(which, each)
    }

    fn snapshot_seqs(&self) -> Result<Vec<u64>, StoreError> {
        (**self).snapshot_seqs()
    }

    fn snapshot(&self, seq: u64) -> Result<Result<State, Fault>, StoreError> {
        (**self).snapshot(seq)
    }
}

/// A SQLite database that is read.
pub(crate) struct SqliteSource<'a> {
    connection: &'a Connection,
    pub layout: Layout,
    path: &'a Path,
    place: Place,
}

impl<'a> SqliteSource<'a> {
    pub fn new(connection: &'a Connection, path: &'a Path, layout: Layout) -> Self {
        Self { connection, layout, path, place: path.into() }
    }

    fn failed(&self, doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        failed(self.path, doing)
    }
}

impl Source for SqliteSource<'_> {
    fn place(&self) -> &Place {
        &self.place
    }

    fn records(&self, which: Which, each: Each<'_>) -> Result<(), StoreError> {
        let failed = self.failed("read the journal");
        let crc = if self.layout.has_checksums() { "crc" } else { "NULL" };
        let (after, order) = match which {
            Which::After(seq) => (signed(seq), "ASC"),
            Which::Down => (i64::MIN, "DESC"),
        };
        let sql = format!(
            "SELECT seq, at_us, version, body, {crc} FROM journal WHERE seq > ?1 ORDER BY seq {order}"
        );
        let mut statement = self.connection.prepare(&sql).map_err(&failed)?;
        let mut rows = statement.query([after]).map_err(&failed)?;
        while let Some(row) = rows.next().map_err(&failed)? {
            let seq: i64 = row.get(0).map_err(&failed)?;
            if each(seq.unsigned_abs(), record(self.layout, seq, row))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn snapshot_seqs(&self) -> Result<Vec<u64>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT seq FROM snapshot ORDER BY seq DESC")?;
            statement
                .query_map([], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(self.failed("read the snapshots"))
    }

    fn snapshot(&self, seq: u64) -> Result<Result<State, Fault>, StoreError> {
        let read = || match self.layout {
            Layout::V1 => snapshot_v1(self.connection, signed(seq)),
            Layout::V2 => snapshot_v2(self.connection, signed(seq)),
        };
        Ok(match read().map_err(self.failed("read a snapshot"))? {
            Some((version, body)) => decode_snapshot(version, &body),
            None => Err(Fault::Changed),
        })
    }
}

/// Makes a record of a row whose checksum is right.
pub(crate) fn decode_record(version: i64, body: &[u8]) -> Result<Record, Fault> {
    if version != RECORD_VERSION {
        return Err(Fault::Version(version));
    }
    serde_json::from_slice(body).map_err(Fault::Content)
}

/// Makes a state of a snapshot whose checksum is right.
pub(crate) fn decode_snapshot(version: i64, body: &[u8]) -> Result<State, Fault> {
    if !(1..=SNAPSHOT_VERSION).contains(&version) {
        return Err(Fault::Version(version));
    }
    serde_json::from_slice(body).map_err(Fault::Content)
}

fn integer(row: &Row<'_>, column: usize) -> Option<i64> {
    row.get_ref(column).ok()?.as_i64().ok()
}

fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a [u8]> {
    match row.get_ref(column).ok()? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes),
        _ => None,
    }
}

fn record(layout: Layout, seq: i64, row: &Row<'_>) -> Result<Record, Fault> {
    let parts = (integer(row, 1), integer(row, 2), bytes(row, 3));
    let (Some(at_us), Some(version), Some(body)) = parts else { return Err(Fault::Changed) };
    let head = Head { seq, at_us, version };
    if layout.has_checksums() && integer(row, 4) != Some(Checksum::of(head).with(body).value()) {
        return Err(Fault::Changed);
    }
    decode_record(version, body)
}

type VersionAndBody = (i64, Vec<u8>);

fn snapshot_v1(connection: &Connection, seq: i64) -> rusqlite::Result<Option<VersionAndBody>> {
    connection.query_row("SELECT version, body FROM snapshot WHERE seq = ?1", [seq], |row| {
        Ok(integer(row, 0).zip(bytes(row, 1).map(<[u8]>::to_vec)))
    })
}

/// None if its checksum is wrong, which also says of every part that it is there, and in its place.
fn snapshot_v2(connection: &Connection, seq: i64) -> rusqlite::Result<Option<VersionAndBody>> {
    let row = connection
        .query_row("SELECT at_us, version, bytes, crc FROM snapshot WHERE seq = ?1", [seq], |row| {
            Ok((integer(row, 0), integer(row, 1), integer(row, 2), integer(row, 3)))
        })
        .optional()?;
    let Some((Some(at_us), Some(version), Some(size), Some(crc))) = row else { return Ok(None) };
    let mut body = Vec::new();
    let mut statement = connection.prepare("SELECT body FROM snapshot_part WHERE seq = ?1 ORDER BY part")?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        match bytes(row, 0) {
            Some(part) => body.extend_from_slice(part),
            None => return Ok(None),
        }
    }
    let sum = Checksum::of(Head { seq, at_us, version }).with(&body).value();
    Ok((sum == crc && i64::try_from(body.len()) == Ok(size)).then_some((version, body)))
}
