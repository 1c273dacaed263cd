//! Requests for blocks.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use muster_batch::query::Query;

use crate::error::{BlobsError, Code, refuse};
use crate::headers;
use crate::index::{Blocks, Part};
use crate::service::{Asked, Store, empty, xml};

/// Longest id of a block, in bytes before it is base64.
const ID_BYTES_MAX: usize = 64;
/// Longest list of blocks, in bytes.
const LIST_BYTES_MAX: u64 = 8 << 20;

impl Store {
    pub(crate) async fn put_block(
        self: Arc<Self>,
        asked: Asked,
        query: &Query<'_>,
        body: Body,
    ) -> Result<Response<Body>, BlobsError> {
        if asked.headers.contains_key("x-ms-copy-source") {
            return Err(refuse(Code::UnsupportedHeader, "There is no copying: read the source, and put it."));
        }
        // A plus sign that was not encoded has become a space.
        let id = query.get("blockid").unwrap_or_default().replace(' ', "+");
        let bytes = STANDARD.decode(&id).map_or(0, |bytes| bytes.len());
        if !(1..=ID_BYTES_MAX).contains(&bytes) {
            let what = format!("The blockid is base64 of 1 to {ID_BYTES_MAX} bytes.");
            return Err(refuse(Code::InvalidBlockId, what));
        }
        let length = headers::content_length(&asked.headers, self.limits.body_bytes)?;
        let md5 = headers::digest(&asked.headers, "content-md5")?;
        let reserved = self.reserve(&asked, length).await?;
        let incoming = self.data.receive(body, length, md5).await?;
        let digest = STANDARD.encode(incoming.md5);
        self.blocking(move |store| {
            let part = Part { file: incoming.id, length: incoming.length, block: Some(id) };
            let files = store.index.put_block(asked.at(), &part, asked.now)?;
            incoming.keep();
            store.data.remove(&files);
            Ok(())
        })
        .await?;
        drop(reserved);
        Ok(empty(Response::builder().status(201).header("content-md5", digest)))
    }

    pub(crate) async fn put_block_list(
        self: Arc<Self>,
        asked: Asked,
        body: Body,
    ) -> Result<Response<Body>, BlobsError> {
        let length = headers::content_length(&asked.headers, LIST_BYTES_MAX)?;
        let most = usize::try_from(length).unwrap_or(usize::MAX);
        let body = axum::body::to_bytes(body, most).await.map_err(BlobsError::Body)?;
        let list = crate::xml::block_list(&body)?;
        let properties = headers::properties(&asked.headers, false)?;
        let version = self
            .blocking(move |store| {
                store
                    .index
                    .put_block_list(asked.at(), &list, &properties, &asked.conditions, asked.now)
                    .map(|done| store.clear(done))
            })
            .await?;
        Ok(empty(headers::version(Response::builder().status(201), version)))
    }

    pub(crate) async fn get_block_list(
        self: Arc<Self>,
        asked: Asked,
        query: &Query<'_>,
    ) -> Result<Response<Body>, BlobsError> {
        let kind = query.get("blocklisttype").unwrap_or("committed").to_ascii_lowercase();
        let mut blocks = self.blocking(move |store| store.index.blocks(asked.at())).await?;
        match kind.as_str() {
            "all" => {}
            "committed" => blocks = Blocks { uncommitted: Vec::new(), ..blocks },
            "uncommitted" => blocks = Blocks { committed: Vec::new(), ..blocks },
            _ => {
                let what = "blocklisttype is committed, uncommitted or all.";
                return Err(refuse(Code::InvalidQueryParameterValue, what));
            }
        }
        Ok(xml(crate::xml::blocks(&blocks)))
    }
}
