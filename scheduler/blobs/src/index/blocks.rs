//! Blocks: pieces of a blob that is being put together.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::blobs::{Part, Properties, find, parts, replace, take_blocks};
use super::{At, Index, add_used, container_id, file_id, length, number};
use crate::conditions::{Conditions, Version};
use crate::data::FileId;
use crate::error::{BlobsError, Code, refuse};

/// Most blocks of a blob that are not part of it yet.
const WAITING_MAX: i64 = 100_000;

/// A block that a list names, and where it is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlockRef {
    /// Among those that were put since.
    Uncommitted(String),
    /// In the blob as it is.
    Committed(String),
    /// Among those that were put since, and then in the blob.
    Latest(String),
}

/// The blocks of a blob, as ids and lengths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    pub(crate) committed: Vec<(String, u64)>,
    pub(crate) uncommitted: Vec<(String, u64)>,
}

impl Index {
    /// Keeps a block until a list names it. Gives the file of the one of the same id before, which may go.
    pub(crate) fn put_block(&self, at: At<'_>, part: &Part, now: i64) -> Result<Vec<FileId>, BlobsError> {
        let block = part.block.as_deref().unwrap_or_default();
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let container = container_id(&transaction, at.account, at.container)?;
        let (count, longest): (i64, Option<i64>) = transaction
            .prepare("SELECT count(*), max(length(block)) FROM block WHERE container = ?1 AND name = ?2")?
            .query_row(params![container, at.blob.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count >= WAITING_MAX {
            let what = format!("The blob has {WAITING_MAX} blocks that no list has named.");
            return Err(refuse(Code::BlockCountExceedsLimit, what));
        }
        if longest.is_some_and(|longest| longest.unsigned_abs() != block.len() as u64) {
            return Err(refuse(Code::InvalidBlockId, "All ids of a blob's blocks are of one length."));
        }
        let mut gone = Vec::new();
        let mut freed = 0;
        {
            let mut delete = transaction.prepare(
                "DELETE FROM block WHERE container = ?1 AND name = ?2 AND block = ?3 RETURNING file, length",
            )?;
            let mut rows = delete.query(params![container, at.blob.as_bytes(), block])?;
            while let Some(row) = rows.next()? {
                gone.push(file_id(row.get(0)?));
                freed += row.get::<_, i64>(1)?;
            }
        }
        transaction.execute(
            "INSERT INTO block (file, container, name, block, length, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![number(part.file), container, at.blob.as_bytes(), block, length(part.length), now],
        )?;
        add_used(&transaction, at.account, length(part.length) - freed)?;
        transaction.commit()?;
        Ok(gone)
    }

    /// Makes a blob of blocks. Gives its version, and the files that may go: blocks that the list does not name are forgotten.
    pub(crate) fn put_block_list(
        &self,
        at: At<'_>,
        list: &[BlockRef],
        properties: &Properties,
        conditions: &Conditions,
        now: i64,
    ) -> Result<(Version, Vec<FileId>), BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let container = container_id(&transaction, at.account, at.container)?;
        let before = find(&transaction, container, at.blob)?;
        conditions.check_write(before.as_ref().map(|blob| blob.version))?;
        let old = before.as_ref().map_or_else(|| Ok(Vec::new()), |blob| parts(&transaction, blob.id))?;
        let waiting = waiting(&transaction, container, at.blob)?;
        let parts = choose(list, &waiting, &old)?;
        take_blocks(&transaction, container, at.blob)?;
        let named: HashSet<FileId> = parts.iter().map(|part| part.file).collect();
        let all = || waiting.iter().chain(&old);
        let freed: i64 =
            all().filter(|part| !named.contains(&part.file)).map(|part| length(part.length)).sum();
        add_used(&transaction, at.account, -freed)?;
        let version = replace(&transaction, container, at.blob, before.as_ref(), properties, &parts, now)?;
        transaction.commit()?;
        let unnamed = |parts: &[Part]| -> Vec<FileId> {
            parts.iter().map(|part| part.file).filter(|file| !named.contains(file)).collect()
        };
        let mut gone = inner.doomed(before.map(|blob| blob.id), unnamed(&old));
        gone.extend(unnamed(&waiting));
        Ok((version, gone))
    }

    /// The blocks of a blob, which need not be there yet.
    pub(crate) fn blocks(&self, at: At<'_>) -> Result<Blocks, BlobsError> {
        let inner = self.lock();
        let container = container_id(&inner.connection, at.account, at.container)?;
        let blob = find(&inner.connection, container, at.blob)?;
        let waiting = waiting(&inner.connection, container, at.blob)?;
        if blob.is_none() && waiting.is_empty() {
            return Err(super::blobs::not_found());
        }
        let told = |parts: Vec<Part>| {
            parts.into_iter().filter_map(|part| Some((part.block?, part.length))).collect()
        };
        let committed = blob.map_or_else(|| Ok(Vec::new()), |blob| parts(&inner.connection, blob.id))?;
        Ok(Blocks { committed: told(committed), uncommitted: told(waiting) })
    }

    /// Forgets blocks that were put before `before` and that no list has named. Gives their files.
    pub(crate) fn forget_blocks(&self, before: i64) -> Result<Vec<FileId>, BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let mut gone = Vec::new();
        let mut freed: HashMap<String, i64> = HashMap::new();
        {
            let mut select = transaction.prepare(
                "SELECT block.file, block.length, container.account FROM block
                 JOIN container ON container.id = block.container WHERE block.created < ?1",
            )?;
            let mut rows = select.query([before])?;
            while let Some(row) = rows.next()? {
                gone.push(file_id(row.get(0)?));
                *freed.entry(row.get(2)?).or_default() += row.get::<_, i64>(1)?;
            }
        }
        transaction.execute("DELETE FROM block WHERE created < ?1", [before])?;
        for (account, bytes) in freed {
            add_used(&transaction, &account, -bytes)?;
        }
        transaction.commit()?;
        Ok(gone)
    }
}

/// Blocks that no list has named.
fn waiting(connection: &Connection, container: i64, name: &str) -> Result<Vec<Part>, BlobsError> {
    let mut select = connection
        .prepare("SELECT file, length, block FROM block WHERE container = ?1 AND name = ?2 ORDER BY block")?;
    let blocks = select
        .query_map(params![container, name.as_bytes()], |row| {
            let length = row.get::<_, i64>(1)?.unsigned_abs();
            Ok(Part { file: file_id(row.get(0)?), length, block: row.get(2)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(blocks)
}

/// The parts that a list names, in its order.
fn choose(list: &[BlockRef], waiting: &[Part], old: &[Part]) -> Result<Vec<Part>, BlobsError> {
    let by_id = |parts: &[Part]| -> HashMap<String, Part> {
        parts.iter().filter_map(|part| Some((part.block.clone()?, part.clone()))).collect()
    };
    let (waiting, old) = (by_id(waiting), by_id(old));
    let mut used = HashSet::new();
    list.iter()
        .map(|wanted| {
            let (id, found) = match wanted {
                BlockRef::Uncommitted(id) => (id, waiting.get(id)),
                BlockRef::Committed(id) => (id, old.get(id)),
                BlockRef::Latest(id) => (id, waiting.get(id).or_else(|| old.get(id))),
            };
            let part =
                found.ok_or_else(|| refuse(Code::InvalidBlockList, format!("There is no block {id}.")))?;
            if !used.insert(part.file) {
                return Err(refuse(Code::InvalidBlockList, format!("The list names the block {id} twice.")));
            }
            Ok(part.clone())
        })
        .collect()
}
