//! The embedded store, at the address of the batch service: paths that begin with an account are its own.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State as Shell};
use axum::middleware::Next;
use axum::response::Response;
use muster_blobs::{Limits, Store};
use muster_config::BatchStoreConfig;

use super::{Accounts, native};
use crate::error::ServerError;

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// Opens the store. Blocks for as long as the disk takes.
///
/// # Errors
/// [`ServerError::Blobs`] if its folder cannot be used.
pub fn open(config: &BatchStoreConfig, accounts: &Accounts) -> Result<Arc<Store>, ServerError> {
    let limits = Limits { account_bytes: config.account_gib << 30, ..Limits::default() };
    Store::open(&config.folder, "", accounts.shared_keys(), limits)
        .map_err(|source| ServerError::Blobs { folder: config.folder.clone(), source })
}

/// Answers requests for the store, and passes others on.
pub(super) async fn divert(
    Shell((store, tls)): Shell<(Arc<Store>, bool)>,
    request: Request,
    next: Next,
) -> Response {
    // No container has so short a name as the native paths have after their first part, so that nothing of a store is hidden.
    if native::owns(request.uri().path()) || !store.serves(request.uri().path()) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    store.serve(request, peer, tls).await
}
