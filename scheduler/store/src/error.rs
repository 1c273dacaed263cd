//! What can go wrong with the database.

use std::path::PathBuf;

use crate::damage::Damage;
use crate::place::Place;

/// What the database itself says.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// PostgreSQL, or the connection to it.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
}

/// Why the database could not do what was asked. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store could not be opened or made.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file of the store could not be copied, moved or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// There is no database.
    #[error("there is no journal at {place}: {}", place.none_there())]
    NoDatabase {
        /// The database.
        place: Place,
    },
    /// Another process holds the store.
    #[error(
        "{} is locked by another process: a controller already runs on this state directory; stop it first, or \
         give this one a state_dir of its own",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A newer program made this database.
    #[error(
        "{place} has schema version {found}, but this musterd knows versions up to {known}: start the musterd that \
         made it, or a newer one"
    )]
    NewerSchema {
        /// The database.
        place: Place,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A record or snapshot of a version that this program does not know.
    #[error(
        "{what} {seq} in {place} has version {version}, but this musterd reads versions up to {known}: start the \
         musterd that wrote it, or a newer one; nothing was changed"
    )]
    UnknownVersion {
        /// `journal record` or `snapshot`.
        what: &'static str,
        /// The database.
        place: Place,
        /// Which one.
        seq: u64,
        /// Its version.
        version: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A record or snapshot that is as it was written, as far as can be told, and cannot be understood.
    #[error(
        "{what} {seq} in {place} cannot be read: if a newer musterd wrote it, start that one; else it is damaged. {}. \
         Nothing was changed",
        place.ways_out()
    )]
    BrokenRecord {
        /// `journal record` or `snapshot`.
        what: &'static str,
        /// The database.
        place: Place,
        /// Which one.
        seq: u64,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Something that was stored is not as it was stored.
    #[error(
        "{place} is damaged: {damage}. No crash can do that, for records are stored in transactions: suspect the disk, or \
         whoever copied or changed it. Nothing was changed. {}",
        place.ways_out()
    )]
    Damaged {
        /// The database.
        place: Place,
        /// What is wrong.
        damage: Damage,
    },
    /// The database cannot read its own files.
    #[error(
        "cannot {doing} in {place}: its files are damaged. No crash can do that: suspect the disk, or whoever changed \
         them. {}",
        place.ways_out()
    )]
    Corrupt {
        /// The database.
        place: Place,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: DatabaseError,
    },
    /// A value that should be in `meta` is not, or not in its form.
    #[error(
        "the entry '{key}' in table meta of {place} is missing or damaged; {}",
        place.restore()
    )]
    BrokenMeta {
        /// The database.
        place: Place,
        /// Which entry.
        key: &'static str,
    },
    /// Too much is gone for a repair.
    #[error(
        "{} cannot be repaired: no snapshot is whole, and the records do not reach back to the first. Restore the \
         state directory from a backup",
        path.display()
    )]
    BeyondRepair {
        /// The database.
        path: PathBuf,
    },
    /// What is left adds up to a state that cannot be.
    #[error("what is left in {} adds up to a state that cannot be: restore the state directory from a backup", path.display())]
    Invariant {
        /// The database.
        path: PathBuf,
        /// Which invariant.
        #[source]
        source: muster_core::state::Broken,
    },
    /// The disk, the quota or the database's own limit is full.
    #[error("the file system of {place} is full: make room there; nothing is lost meanwhile")]
    Full {
        /// The database.
        place: Place,
    },
    /// Anything else that the database refuses.
    #[error("cannot {doing} in {place}")]
    Database {
        /// The database.
        place: Place,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: DatabaseError,
    },
    /// A value could not be written as JSON.
    #[error("cannot write {what} as JSON")]
    Encode {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// What names the PostgreSQL server cannot be used.
    #[error("`store` under [controller]: {problem}")]
    Server {
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A file with a password or with certificates cannot be used.
    #[error("{}: {problem}", path.display())]
    ServerFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Another controller leads, or may lead by now.
    #[error(
        "this controller led in term {term}, and leads no longer; what it was about to store was not stored, or the next leader finds it"
    )]
    Deposed {
        /// The term that is over.
        term: u64,
    },
}
