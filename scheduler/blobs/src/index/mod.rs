//! What the store holds, in a database: containers, blobs, the files that each blob is made of, and blocks that no blob names yet.
//!
//! All of it is behind one lock. A change is one transaction, on the disk when it returns.

mod blobs;
mod blocks;
mod containers;
mod listing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::conditions::Version;
use crate::data::FileId;
use crate::error::{BlobsError, Code, refuse};

pub(crate) use blobs::{Blob, Part, Properties};
pub(crate) use blocks::{BlockRef, Blocks};
pub(crate) use containers::Container;
pub(crate) use listing::{Listing, Row, Wanted};

/// Where a blob is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) account: &'a str,
    pub(crate) container: &'a str,
    pub(crate) blob: &'a str,
}

/// The version of the tables.
const SCHEMA: i64 = 1;

const TABLES: &str = "
    CREATE TABLE account (name TEXT PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE container (
        id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, name TEXT NOT NULL, etag INTEGER NOT NULL,
        modified INTEGER NOT NULL, metadata TEXT NOT NULL, UNIQUE (account, name));
    CREATE TABLE blob (
        id INTEGER PRIMARY KEY AUTOINCREMENT, container INTEGER NOT NULL, name BLOB NOT NULL, etag INTEGER NOT NULL,
        created INTEGER NOT NULL, modified INTEGER NOT NULL, length INTEGER NOT NULL, properties TEXT NOT NULL,
        UNIQUE (container, name));
    CREATE TABLE part (
        file INTEGER PRIMARY KEY, blob INTEGER NOT NULL, n INTEGER NOT NULL, length INTEGER NOT NULL, block TEXT);
    CREATE UNIQUE INDEX part_of_blob ON part (blob, n);
    CREATE TABLE block (
        file INTEGER PRIMARY KEY, container INTEGER NOT NULL, name BLOB NOT NULL, block TEXT NOT NULL,
        length INTEGER NOT NULL, created INTEGER NOT NULL, UNIQUE (container, name, block));
    CREATE TABLE clock (etag INTEGER NOT NULL);
    INSERT INTO clock VALUES (0);
";

/// The database, and who reads what.
#[derive(Debug)]
pub(crate) struct Index(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// How many read each version of a blob, and its files if it is gone.
    readers: HashMap<i64, (usize, Vec<FileId>)>,
}

impl Index {
    /// Opens the database, and makes it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, BlobsError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > SCHEMA {
            return Err(BlobsError::Newer { path: path.to_owned(), found, known: SCHEMA });
        }
        if found == 0 {
            connection.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;"))?;
        }
        Ok(Self(Mutex::new(Inner { connection, readers: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A transaction that panicked was rolled back.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// All files that anything names.
    pub(crate) fn files(&self) -> Result<HashSet<FileId>, BlobsError> {
        let inner = self.lock();
        let mut select =
            inner.connection.prepare("SELECT file FROM part UNION ALL SELECT file FROM block")?;
        let files = select.query_map([], |row| Ok(file_id(row.get(0)?)))?.collect::<Result<_, _>>()?;
        Ok(files)
    }

    /// How many bytes an account has in blobs and in blocks.
    pub(crate) fn used(&self, account: &str) -> Result<u64, BlobsError> {
        let used: Option<i64> = self
            .lock()
            .connection
            .query_row("SELECT used FROM account WHERE name = ?1", [account], |row| row.get(0))
            .optional()?;
        Ok(used.map_or(0, |used| used.max(0).unsigned_abs()))
    }

    /// A reader of this version of a blob has ended. Gives the files that may go now.
    pub(crate) fn unpin(&self, blob: i64) -> Vec<FileId> {
        let mut inner = self.lock();
        match inner.readers.get_mut(&blob) {
            Some((readers, _)) if *readers > 1 => {
                *readers -= 1;
                Vec::new()
            }
            _ => inner.readers.remove(&blob).map(|(_, files)| files).unwrap_or_default(),
        }
    }
}

impl Inner {
    /// The files of a version that is gone: those that may go now, because nobody reads them.
    fn doomed(&mut self, blob: Option<i64>, files: Vec<FileId>) -> Vec<FileId> {
        match blob.and_then(|blob| self.readers.get_mut(&blob)) {
            Some((_, doomed)) => {
                doomed.extend(files);
                Vec::new()
            }
            None => files,
        }
    }
}

fn file_id(number: i64) -> FileId {
    FileId(number.unsigned_abs())
}

fn number(id: FileId) -> i64 {
    i64::try_from(id.0).unwrap_or(i64::MAX)
}

fn length(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A container's number.
fn container_id(connection: &Connection, account: &str, container: &str) -> Result<i64, BlobsError> {
    connection
        .prepare("SELECT id FROM container WHERE account = ?1 AND name = ?2")?
        .query_row(params![account, container], |row| row.get(0))
        .optional()?
        .ok_or_else(|| refuse(Code::ContainerNotFound, format!("There is no container {container}.")))
}

/// A version that no blob or container has had before.
fn next_version(transaction: &Transaction<'_>, now: i64) -> Result<Version, BlobsError> {
    let etag =
        transaction
            .query_row("UPDATE clock SET etag = max(etag + 1, ?1) RETURNING etag", [now], |row| row.get(0))?;
    Ok(Version { etag, modified: now })
}

/// Changes how much an account has.
fn add_used(transaction: &Transaction<'_>, account: &str, bytes: i64) -> Result<(), BlobsError> {
    transaction
        .prepare(
            "INSERT INTO account VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET used = used + excluded.used",
        )?
        .execute(params![account, bytes])?;
    Ok(())
}
