//! What can go wrong with the database.

use std::path::PathBuf;

use crate::damage::Damage;

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
    #[error("there is no journal at {}: is `state_dir` under [controller] the right folder?", path.display())]
    NoDatabase {
        /// The database.
        path: PathBuf,
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
        "{} has schema version {found}, but this musterd knows versions up to {known}: start the musterd that \
         made it, or a newer one",
        path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A record or snapshot of a version that this program does not know.
    #[error(
        "{what} {seq} in {} has version {version}, but this musterd reads versions up to {known}: start the \
         musterd that wrote it, or a newer one; nothing was changed",
        path.display()
    )]
    UnknownVersion {
        /// `journal record` or `snapshot`.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// Which one.
        seq: u64,
        /// Its version.
        version: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A record or snapshot that is as it was written, as far as can be told, and cannot be understood.
    #[error(
        "{what} {seq} in {} cannot be read: if a newer musterd wrote it, start that one; else the file is damaged: \
         restore the state directory from a backup, or see what `musterd store repair` would do. Nothing was changed",
        path.display()
    )]
    BrokenRecord {
        /// `journal record` or `snapshot`.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// Which one.
        seq: u64,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// Something that was stored is not as it was stored.
    #[error(
        "{} is damaged: {damage}. No crash can do that, for records are stored in transactions: suspect the disk, or \
         whoever copied or changed the file. Nothing was changed. Restore the state directory from a backup; or \
         `musterd store check` says what is left, and `musterd store repair` what it would give up",
        path.display()
    )]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// SQLite cannot read its own file.
    #[error(
        "cannot {doing} in {}: the file is damaged. No crash can do that: suspect the disk, or whoever changed the \
         file. Restore the state directory from a backup; or `musterd store check` says what is left, and \
         `musterd store repair` what it would give up",
        path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// A value that should be in `meta` is not, or not in its form.
    #[error(
        "the entry '{key}' in table meta of {} is missing or damaged; restore the state directory from a backup",
        path.display()
    )]
    BrokenMeta {
        /// The database.
        path: PathBuf,
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
    #[error("the file system of {} is full: make room there; nothing is lost meanwhile", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// Anything else that SQLite refuses.
    #[error("cannot {doing} in {}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: rusqlite::Error,
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
}
