//! Reads records and snapshots, and says of each whether it is as it was written.

use std::ops::ControlFlow;
use std::path::Path;

use muster_core::event::Record;
use muster_core::state::State;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::checksum::{Checksum, Head};
use crate::error::StoreError;
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
    pub fn not_damage(self, what: &'static str, path: &Path, seq: u64) -> Option<StoreError> {
        let path = path.to_owned();
        match self {
            Self::Changed => None,
            Self::Version(version) => {
                let known = if what == "snapshot" { SNAPSHOT_VERSION } else { RECORD_VERSION };
                Some(StoreError::UnknownVersion { what, path, seq, version, known })
            }
            Self::Content(source) => Some(StoreError::BrokenRecord { what, path, seq, source }),
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

/// Reads records one after another, until `each` breaks.
pub(crate) fn records(
    connection: &Connection,
    path: &Path,
    layout: Layout,
    which: Which,
    mut each: impl FnMut(u64, Result<Record, Fault>) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let failed = failed(path, "read the journal");
    let crc = if layout.has_checksums() { "crc" } else { "NULL" };
    let (after, order) = match which {
        Which::After(seq) => (signed(seq), "ASC"),
        Which::Down => (i64::MIN, "DESC"),
    };
    let mut statement = connection
        .prepare(&format!(
            "SELECT seq, at_us, version, body, {crc} FROM journal WHERE seq > ?1 ORDER BY seq {order}"
        ))
        .map_err(&failed)?;
    let mut rows = statement.query([after]).map_err(&failed)?;
    while let Some(row) = rows.next().map_err(&failed)? {
        let seq: i64 = row.get(0).map_err(&failed)?;
        if each(seq.unsigned_abs(), record(layout, seq, row))?.is_break() {
            break;
        }
    }
    Ok(())
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
    if version != RECORD_VERSION {
        return Err(Fault::Version(version));
    }
    serde_json::from_slice(body).map_err(Fault::Content)
}

/// The sequence numbers of all snapshots, the newest first.
pub(crate) fn snapshot_seqs(connection: &Connection, path: &Path) -> Result<Vec<u64>, StoreError> {
    let read = || {
        let mut statement = connection.prepare("SELECT seq FROM snapshot ORDER BY seq DESC")?;
        statement
            .query_map([], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))?
            .collect::<Result<Vec<_>, _>>()
    };
    read().map_err(failed(path, "read the snapshots"))
}

/// Reads a snapshot's state.
pub(crate) fn snapshot(
    connection: &Connection,
    path: &Path,
    layout: Layout,
    seq: u64,
) -> Result<Result<State, Fault>, StoreError> {
    let read = || match layout {
        Layout::V1 => snapshot_v1(connection, signed(seq)),
        Layout::V2 => snapshot_v2(connection, signed(seq)),
    };
    let (version, body) = match read().map_err(failed(path, "read a snapshot"))? {
        Some(found) => found,
        None => return Ok(Err(Fault::Changed)),
    };
    if version != SNAPSHOT_VERSION {
        return Ok(Err(Fault::Version(version)));
    }
    Ok(serde_json::from_slice(&body).map_err(Fault::Content))
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
