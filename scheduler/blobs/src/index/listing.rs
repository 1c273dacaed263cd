//! Lists of blobs.

use rusqlite::{OptionalExtension as _, params};

use super::blobs::{Blob, read};
use super::{Index, container_id};
use crate::error::BlobsError;

/// Which blobs are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) prefix: String,
    /// Names are cut after the first of these that follows the prefix.
    pub(crate) delimiter: Option<String>,
    /// The first name, or what names that come later begin with.
    pub(crate) from: Vec<u8>,
    pub(crate) max_results: usize,
}

/// A line of a list.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Blob(String, Box<Blob>),
    /// What the names of many begin with.
    Prefix(String),
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<Row>,
    /// Where the next page begins.
    pub(crate) next: Option<Vec<u8>>,
}

impl Index {
    /// Lists blobs in the order of their names. What lies behind a common prefix is stepped over, however much it is.
    pub(crate) fn list(
        &self,
        account: &str,
        container: &str,
        wanted: &Wanted,
    ) -> Result<Listing, BlobsError> {
        let inner = self.lock();
        let container = container_id(&inner.connection, account, container)?;
        let mut select = inner.connection.prepare(
            "SELECT name, id, etag, modified, created, length, properties FROM blob
             WHERE container = ?1 AND name >= ?2 ORDER BY name LIMIT 1",
        )?;
        let prefix = wanted.prefix.as_bytes();
        let mut from = wanted.from.clone().max(prefix.to_vec());
        let mut listing = Listing::default();
        loop {
            let found = select
                .query_row(params![container, from], |row| Ok((row.get::<_, Vec<u8>>(0)?, read(row, 1)?)))
                .optional()?;
            let Some((name, blob)) = found.filter(|(name, _)| name.starts_with(prefix)) else {
                return Ok(listing);
            };
            if listing.rows.len() == wanted.max_results {
                listing.next = Some(name);
                return Ok(listing);
            }
            let text = String::from_utf8(name)
                .map_err(|_| BlobsError::BadIndex { what: "a name that is not UTF-8" })?;
            match cut(&text, wanted) {
                Some(common) => {
                    from = after_all(common.as_bytes());
                    listing.rows.push(Row::Prefix(common.to_owned()));
                }
                None => {
                    from = text.as_bytes().to_vec();
                    from.push(0);
                    listing.rows.push(Row::Blob(text, Box::new(blob)));
                }
            }
        }
    }
}

/// The name up to and with the first delimiter after the prefix.
fn cut<'n>(name: &'n str, wanted: &Wanted) -> Option<&'n str> {
    let delimiter = wanted.delimiter.as_deref()?;
    let at = name.get(wanted.prefix.len()..)?.find(delimiter)?;
    name.get(..wanted.prefix.len() + at + delimiter.len())
}

/// What comes first after all that begins with this. No byte of a name is 255, which is in no UTF-8.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    after.push(0xff);
    after
}
