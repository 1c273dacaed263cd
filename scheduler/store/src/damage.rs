//! What can be wrong with what was stored.

use serde::Serialize;

/// Something that was stored and is not there, or not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "damage", rename_all = "snake_case")]
pub enum Damage {
    /// A snapshot is not as it was written.
    #[error("the snapshot at record {seq} is not as it was written")]
    Snapshot {
        /// The last record that it covers.
        seq: u64,
    },
    /// A snapshot is as it was written and cannot be understood.
    #[error("the snapshot at record {seq} cannot be understood")]
    UnknownSnapshot {
        /// The last record that it covers.
        seq: u64,
    },
    /// Records are not as they were written, and whole ones follow.
    #[error("records {first} to {last} are not as they were written, and whole ones follow them")]
    Middle {
        /// The first.
        first: u64,
        /// The last in a row.
        last: u64,
    },
    /// The last records are not as they were written.
    #[error("the last records, {first} to {last}, are not as they were written")]
    Tail {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// A record is as it was written and cannot be understood.
    #[error("record {seq} cannot be understood: perhaps a newer musterd wrote it")]
    UnknownRecord {
        /// Which one.
        seq: u64,
    },
    /// Records are missing between others.
    #[error("records {first} to {last} are missing")]
    Gap {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Records that were acknowledged are missing at the end.
    #[error("records {first} to {last} were acknowledged and are missing")]
    End {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// The database cannot read a part of what it keeps.
    #[error("a part of the table {table} cannot be read")]
    Unreadable {
        /// Which table.
        table: &'static str,
    },
}
