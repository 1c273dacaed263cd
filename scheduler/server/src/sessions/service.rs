//! The service that nodes connect to.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_core::batch::PackageDigest;
use muster_wire::controller::node_controller_server::NodeController;
use muster_wire::{Told, ToldLast, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::{OUTBOX_MAX, Outgoing, Sessions};

/// What nodes call: one session each, and packages.
#[derive(Clone)]
pub struct NodeService {
    sessions: Arc<Sessions>,
}

impl NodeService {
    /// Serves these sessions.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }
}

impl NodeService {
    /// The node that asks, by its certificate.
    fn caller<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let certificates = request.peer_certs().unwrap_or_default();
        let certificate =
            certificates.first().ok_or_else(|| Status::unauthenticated("show a certificate"))?;
        self.sessions.authority.name_of(certificate).ok_or_else(|| {
            tracing::warn!(peer = ?request.remote_addr(), "a session with an unknown certificate was refused");
            Status::unauthenticated(
                "this certificate is not one that the controller made for a node of its configuration: \
                 declare the node, and give it the certificate under tls/nodes/ of the controller's state_dir",
            )
        })
    }
}

#[tonic::async_trait]
impl NodeController for NodeService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<Told, Status>> + Send>>;
    type PackageStream = Pin<Box<dyn Stream<Item = Result<v1::PackagePart, Status>> + Send>>;

    async fn package(
        &self,
        request: Request<v1::PackageRequest>,
    ) -> Result<Response<Self::PackageStream>, Status> {
        self.caller(&request)?;
        let digest = PackageDigest::try_from(request.into_inner().digest)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let packages = self.sessions.packages.clone();
        let packages = packages.ok_or_else(|| Status::not_found("this controller has no batch service"))?;
        Ok(Response::new(Box::pin(packages.parts(&digest).await?)))
    }

    async fn session(
        &self,
        request: Request<Streaming<v1::FromNode>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let name = self.caller(&request)?;
        // The welcome goes first, but only once the hello is durable; what the engine says because of the hello
        // waits behind it.
        let (welcome, first) = mpsc::channel(1);
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        let sessions = Arc::clone(&self.sessions);
        // Known once the hello is there, before which nothing is told.
        let keeps_common = Arc::new(AtomicBool::new(false));
        let shortens = Arc::clone(&keeps_common);
        tokio::spawn(async move {
            let slot = sessions.slot(&name);
            let kept = sessions.keep(&slot, request.into_inner(), welcome, outbox.clone(), &keeps_common);
            if let Err(status) = kept.await {
                tracing::warn!(node = %slot.node, reason = status.message(), "the session ended");
                let _ = outbox.send(Box::new(Err(status))).await;
            }
        });
        let all = ReceiverStream::new(first).chain(ReceiverStream::new(messages));
        let mut last = ToldLast::default();
        let told = move |message: Outgoing| match *message {
            Ok(told) if shortens.load(Ordering::Relaxed) => Ok(last.shorten(told)),
            other => other,
        };
        Ok(Response::new(Box::pin(all.map(told))))
    }
}
