//! Requests for containers.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use muster_batch::query::Query;

use crate::error::{BlobsError, Code, refuse};
use crate::headers;
use crate::index::Wanted;
use crate::service::{Asked, Store, empty, xml};

/// Most rows of a page.
const RESULTS_MAX: usize = 5000;
/// Most containers of a page.
const CONTAINERS_MAX: usize = 1000;

impl Store {
    pub(crate) async fn create_container(
        self: Arc<Self>,
        asked: Asked,
    ) -> Result<Response<Body>, BlobsError> {
        if asked.headers.contains_key("x-ms-blob-public-access") {
            return Err(refuse(
                Code::UnsupportedHeader,
                "There is no public access: every request is signed.",
            ));
        }
        let metadata = headers::metadata(&asked.headers)?;
        let made = move |store: &Self| {
            store.index.create_container(&asked.account, &asked.container, &metadata, asked.now)
        };
        let version = self.blocking(made).await?;
        Ok(empty(headers::version(Response::builder().status(201), version)))
    }

    pub(crate) async fn get_container(self: Arc<Self>, asked: Asked) -> Result<Response<Body>, BlobsError> {
        let found =
            self.blocking(move |store| store.index.container(&asked.account, &asked.container)).await?;
        let builder = headers::version(Response::builder(), found.version);
        Ok(empty(headers::metadata_of(builder, &found.metadata)))
    }

    pub(crate) async fn delete_container(
        self: Arc<Self>,
        asked: Asked,
    ) -> Result<Response<Body>, BlobsError> {
        self.blocking(move |store| {
            let version = store.index.container(&asked.account, &asked.container)?.version;
            asked.conditions.check_write(Some(version))?;
            let files = store.index.delete_container(&asked.account, &asked.container)?;
            store.data.remove(&files);
            Ok(())
        })
        .await?;
        Ok(empty(Response::builder().status(202)))
    }

    pub(crate) async fn list_containers(
        self: Arc<Self>,
        asked: Asked,
        query: &Query<'_>,
    ) -> Result<Response<Body>, BlobsError> {
        let prefix = query.get("prefix").unwrap_or_default().to_owned();
        let from = String::from_utf8(marker(query)?).map_err(|_| bad_marker())?;
        let (most, metadata) = (max_results(query)?.min(CONTAINERS_MAX), includes_metadata(query));
        let listed = prefix.clone();
        let mut found =
            self.blocking(move |store| store.index.containers(&asked.account, &listed, &from)).await?;
        let next = found.get(most).map(|next| crate::xml::marker(next.name.as_bytes())).unwrap_or_default();
        found.truncate(most);
        Ok(xml(crate::xml::containers(&prefix, &found, metadata, &next)))
    }

    pub(crate) async fn list_blobs(
        self: Arc<Self>,
        asked: Asked,
        query: &Query<'_>,
    ) -> Result<Response<Body>, BlobsError> {
        let wanted = Wanted {
            prefix: query.get("prefix").unwrap_or_default().to_owned(),
            delimiter: query.get("delimiter").map(str::to_owned),
            from: marker(query)?,
            max_results: max_results(query)?,
        };
        let metadata = includes_metadata(query);
        self.blocking(move |store| {
            let listing = store.index.list(&asked.account, &asked.container, &wanted)?;
            Ok(xml(crate::xml::blobs(&asked.container, &wanted, &listing, metadata)))
        })
        .await
    }
}

fn includes_metadata(query: &Query<'_>) -> bool {
    query.get("include").is_some_and(|include| include.split(',').any(|each| each.trim() == "metadata"))
}

fn bad_marker() -> BlobsError {
    refuse(
        Code::InvalidQueryParameterValue,
        "The marker is not one that a list gave: begin again without it.",
    )
}

/// Where the page begins. A plus sign that was not encoded has become a space.
fn marker(query: &Query<'_>) -> Result<Vec<u8>, BlobsError> {
    STANDARD.decode(query.get("marker").unwrap_or_default().replace(' ', "+")).map_err(|_| bad_marker())
}

fn max_results(query: &Query<'_>) -> Result<usize, BlobsError> {
    let Some(text) = query.get("maxresults") else { return Ok(RESULTS_MAX) };
    let number: usize =
        text.parse().map_err(|_| refuse(Code::InvalidQueryParameterValue, "maxresults is not a number."))?;
    if number == 0 {
        return Err(refuse(Code::OutOfRangeQueryParameterValue, "maxresults is at least 1."));
    }
    Ok(number.min(RESULTS_MAX))
}
