//! Blobs.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{At, Index, add_used, container_id, file_id, length, next_version, number};
use crate::conditions::{Conditions, Version};
use crate::data::FileId;
use crate::error::{BlobsError, Code, refuse};

/// What a client says of a blob.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Properties {
    /// Headers that are told as they were given, by their names.
    pub(crate) headers: BTreeMap<String, String>,
    /// The digest of the whole, in base64.
    pub(crate) md5: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// A piece of a blob: one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) file: FileId,
    pub(crate) length: u64,
    /// The id of the block that it was, unless the blob was put whole.
    pub(crate) block: Option<String>,
}

/// A blob.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    /// The number of this version.
    pub(crate) id: i64,
    pub(crate) version: Version,
    pub(crate) created: i64,
    pub(crate) length: u64,
    pub(crate) properties: Properties,
}

impl Index {
    /// A blob.
    pub(crate) fn blob(&self, at: At<'_>) -> Result<Blob, BlobsError> {
        let inner = self.lock();
        let container = container_id(&inner.connection, at.account, at.container)?;
        find(&inner.connection, container, at.blob)?.ok_or_else(not_found)
    }

    /// A blob and its parts, which stay until [`Index::unpin`].
    pub(crate) fn pin(&self, at: At<'_>) -> Result<(Blob, Vec<Part>), BlobsError> {
        let mut inner = self.lock();
        let container = container_id(&inner.connection, at.account, at.container)?;
        let blob = find(&inner.connection, container, at.blob)?.ok_or_else(not_found)?;
        let parts = parts(&inner.connection, blob.id)?;
        inner.readers.entry(blob.id).or_default().0 += 1;
        Ok((blob, parts))
    }

    /// Puts a whole blob in the place of the one that is there. Gives its version, and the files that may go.
    pub(crate) fn put_blob(
        &self,
        at: At<'_>,
        properties: &Properties,
        conditions: &Conditions,
        part: Part,
        now: i64,
    ) -> Result<(Version, Vec<FileId>), BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let container = container_id(&transaction, at.account, at.container)?;
        let before = find(&transaction, container, at.blob)?;
        conditions.check_write(before.as_ref().map(|blob| blob.version))?;
        let old = before.as_ref().map_or_else(|| Ok(Vec::new()), |blob| parts(&transaction, blob.id))?;
        let freed: i64 = old.iter().map(|part| length(part.length)).sum();
        let (blocks, bytes) = take_blocks(&transaction, container, at.blob)?;
        add_used(&transaction, at.account, length(part.length) - freed - bytes)?;
        let version = replace(&transaction, container, at.blob, before.as_ref(), properties, &[part], now)?;
        transaction.commit()?;
        let mut gone = inner.doomed(before.map(|blob| blob.id), old.iter().map(|part| part.file).collect());
        gone.extend(blocks);
        Ok((version, gone))
    }

    /// Changes what is said of a blob.
    pub(crate) fn set_properties(
        &self,
        at: At<'_>,
        conditions: &Conditions,
        change: impl FnOnce(&mut Properties),
        now: i64,
    ) -> Result<Version, BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let container = container_id(&transaction, at.account, at.container)?;
        let mut blob = find(&transaction, container, at.blob)?.ok_or_else(not_found)?;
        conditions.check_write(Some(blob.version))?;
        change(&mut blob.properties);
        let version = next_version(&transaction, now)?;
        transaction.execute(
            "UPDATE blob SET properties = ?1, etag = ?2, modified = ?3 WHERE id = ?4",
            params![serde_json::json!(blob.properties).to_string(), version.etag, version.modified, blob.id],
        )?;
        transaction.commit()?;
        Ok(version)
    }

    /// Deletes a blob. Gives the files that may go.
    pub(crate) fn delete_blob(&self, at: At<'_>, conditions: &Conditions) -> Result<Vec<FileId>, BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let container = container_id(&transaction, at.account, at.container)?;
        let blob = find(&transaction, container, at.blob)?.ok_or_else(not_found)?;
        conditions.check_write(Some(blob.version))?;
        let parts = parts(&transaction, blob.id)?;
        let (blocks, bytes) = take_blocks(&transaction, container, at.blob)?;
        transaction.execute("DELETE FROM part WHERE blob = ?1", [blob.id])?;
        transaction.execute("DELETE FROM blob WHERE id = ?1", [blob.id])?;
        add_used(&transaction, at.account, -length(blob.length) - bytes)?;
        transaction.commit()?;
        let mut gone = inner.doomed(Some(blob.id), parts.iter().map(|part| part.file).collect());
        gone.extend(blocks);
        Ok(gone)
    }
}

pub(super) fn not_found() -> BlobsError {
    refuse(Code::BlobNotFound, "There is no such blob.")
}

/// The blob of this name.
pub(super) fn find(connection: &Connection, container: i64, name: &str) -> Result<Option<Blob>, BlobsError> {
    let found = connection
        .prepare(
            "SELECT id, etag, modified, created, length, properties FROM blob WHERE container = ?1 AND name = ?2",
        )?
        .query_row(params![container, name.as_bytes()], |row| read(row, 0))
        .optional()?;
    Ok(found)
}

/// A blob whose columns begin at `first`.
pub(super) fn read(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Blob> {
    Ok(Blob {
        id: row.get(first)?,
        version: Version { etag: row.get(first + 1)?, modified: row.get(first + 2)? },
        created: row.get(first + 3)?,
        length: row.get::<_, i64>(first + 4)?.unsigned_abs(),
        properties: serde_json::from_str(&row.get::<_, String>(first + 5)?).unwrap_or_default(),
    })
}

/// The parts of a version, in their order.
pub(super) fn parts(connection: &Connection, blob: i64) -> Result<Vec<Part>, BlobsError> {
    let mut select = connection.prepare("SELECT file, length, block FROM part WHERE blob = ?1 ORDER BY n")?;
    let parts = select
        .query_map([blob], |row| {
            Ok(Part {
                file: file_id(row.get(0)?),
                length: row.get::<_, i64>(1)?.unsigned_abs(),
                block: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(parts)
}

/// Forgets the blocks of a blob that it does not name. Gives their files and how many bytes they have.
pub(super) fn take_blocks(
    transaction: &Transaction<'_>,
    container: i64,
    name: &str,
) -> Result<(Vec<FileId>, i64), BlobsError> {
    let mut taken = (Vec::new(), 0);
    let mut delete =
        transaction.prepare("DELETE FROM block WHERE container = ?1 AND name = ?2 RETURNING file, length")?;
    let mut rows = delete.query(params![container, name.as_bytes()])?;
    while let Some(row) = rows.next()? {
        taken.0.push(file_id(row.get(0)?));
        taken.1 += row.get::<_, i64>(1)?;
    }
    Ok(taken)
}

/// Writes a new version of a blob in the place of the one before.
pub(super) fn replace(
    transaction: &Transaction<'_>,
    container: i64,
    name: &str,
    before: Option<&Blob>,
    properties: &Properties,
    parts: &[Part],
    now: i64,
) -> Result<Version, BlobsError> {
    if let Some(before) = before {
        transaction.execute("DELETE FROM part WHERE blob = ?1", [before.id])?;
        transaction.execute("DELETE FROM blob WHERE id = ?1", [before.id])?;
    }
    let version = next_version(transaction, now)?;
    let total: u64 = parts.iter().map(|part| part.length).sum();
    let created = before.map_or(now, |before| before.created);
    transaction.execute(
        "INSERT INTO blob (container, name, etag, created, modified, length, properties)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            container,
            name.as_bytes(),
            version.etag,
            created,
            version.modified,
            length(total),
            serde_json::json!(properties).to_string()
        ],
    )?;
    let blob = transaction.last_insert_rowid();
    let mut insert =
        transaction.prepare("INSERT INTO part (file, blob, n, length, block) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (n, part) in parts.iter().enumerate() {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        insert.execute(params![number(part.file), blob, n, length(part.length), part.block])?;
    }
    Ok(version)
}
