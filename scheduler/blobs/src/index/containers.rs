//! Containers.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, params};

use super::{Index, add_used, file_id, next_version};
use crate::conditions::Version;
use crate::data::FileId;
use crate::error::{BlobsError, Code, refuse};

/// Most containers of one list.
const LIST_MAX: i64 = 5000;

/// A container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Index {
    pub(crate) fn create_container(
        &self,
        account: &str,
        name: &str,
        metadata: &BTreeMap<String, String>,
        now: i64,
    ) -> Result<Version, BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let version = next_version(&transaction, now)?;
        let made = transaction.execute(
            "INSERT INTO container (account, name, etag, modified, metadata) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (account, name) DO NOTHING",
            params![account, name, version.etag, version.modified, serde_json::json!(metadata).to_string()],
        )?;
        if made == 0 {
            return Err(refuse(Code::ContainerAlreadyExists, format!("The container {name} is there.")));
        }
        transaction.commit()?;
        Ok(version)
    }

    pub(crate) fn container(&self, account: &str, name: &str) -> Result<Container, BlobsError> {
        let inner = self.lock();
        let found = inner
            .connection
            .prepare("SELECT name, etag, modified, metadata FROM container WHERE account = ?1 AND name = ?2")?
            .query_row(params![account, name], read)
            .optional()?;
        found.ok_or_else(|| refuse(Code::ContainerNotFound, format!("There is no container {name}.")))
    }

    /// The containers of an account whose names begin so, from one name on.
    pub(crate) fn containers(
        &self,
        account: &str,
        prefix: &str,
        from: &str,
    ) -> Result<Vec<Container>, BlobsError> {
        let inner = self.lock();
        let mut select = inner.connection.prepare(
            "SELECT name, etag, modified, metadata FROM container
             WHERE account = ?1 AND name >= ?2 AND substr(name, 1, length(?3)) = ?3 ORDER BY name LIMIT ?4",
        )?;
        let from = from.max(prefix);
        let rows = select.query_map(params![account, from, prefix, LIST_MAX], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Deletes a container with all that is in it. Gives the files that may go.
    pub(crate) fn delete_container(&self, account: &str, name: &str) -> Result<Vec<FileId>, BlobsError> {
        let mut inner = self.lock();
        let transaction = inner.connection.transaction()?;
        let id = super::container_id(&transaction, account, name)?;
        let mut freed = 0_i64;
        let mut files: Vec<(Option<i64>, FileId)> = Vec::new();
        {
            let mut select = transaction.prepare(
                "SELECT part.blob, part.file, part.length FROM part JOIN blob ON blob.id = part.blob
                   WHERE blob.container = ?1
                 UNION ALL SELECT NULL, file, length FROM block WHERE container = ?1",
            )?;
            let mut rows = select.query([id])?;
            while let Some(row) = rows.next()? {
                files.push((row.get(0)?, file_id(row.get(1)?)));
                freed += row.get::<_, i64>(2)?;
            }
        }
        transaction
            .execute("DELETE FROM part WHERE blob IN (SELECT id FROM blob WHERE container = ?1)", [id])?;
        transaction.execute("DELETE FROM blob WHERE container = ?1", [id])?;
        transaction.execute("DELETE FROM block WHERE container = ?1", [id])?;
        transaction.execute("DELETE FROM container WHERE id = ?1", [id])?;
        add_used(&transaction, account, -freed)?;
        transaction.commit()?;
        let mut gone = Vec::new();
        for (blob, file) in files {
            gone.extend(inner.doomed(blob, vec![file]));
        }
        Ok(gone)
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Container> {
    Ok(Container {
        name: row.get(0)?,
        version: Version { etag: row.get(1)?, modified: row.get(2)? },
        metadata: serde_json::from_str(&row.get::<_, String>(3)?).unwrap_or_default(),
    })
}
