//! The batch service's REST API: thin handlers between the protocol (`muster-batch`) and the engine.

mod accounts;
mod allowed;
mod call;
mod feed;
mod files;
mod jobs;
mod native;
mod nodes;
mod packages;
mod pools;
mod routes;
mod schedules;
mod store;
mod tasks;
mod tls;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muster_batch::{BatchError, ErrorCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub use self::accounts::Accounts;
use self::call::Refused;
pub use self::feed::{Feed, Following};
pub use self::store::open as open_store;
pub use self::tls::acceptor;
use crate::api::{Admins, Door};
use crate::engine_loop::EngineHandle;
use crate::error::ServerError;
use crate::forecasts::Forecasts;
use crate::packages::Packages;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::shared::Shared;

/// Open connections; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take over the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Answers at once that go on for as long as their clients read them: streams of events, and output that is followed.
const STREAMS_MAX: usize = 256;

/// What the routes work with.
pub struct Service {
    parts: Parts,
    /// Who may ask.
    accounts: Accounts,
    /// The embedded store, if there is one.
    store: Option<Arc<muster_blobs::Store>>,
    /// Encrypts connections, if there is a certificate.
    tls: Option<TlsAcceptor>,
    /// Places for answers that go on for as long as their clients read them.
    streams: Arc<Semaphore>,
}

/// What the service has of the controller.
pub struct Parts {
    /// The engine, for what changes something.
    pub engine: EngineHandle,
    /// The durable state, for what only looks.
    pub shared: Arc<Shared>,
    /// The nodes' sessions, for files.
    pub sessions: Arc<Sessions>,
    /// When what waits is expected to start.
    pub forecasts: Arc<Forecasts>,
    /// What happened of late.
    pub feed: Arc<Feed>,
    /// By what tasks are known that ask.
    pub secrets: Secrets,
    /// The packages.
    pub packages: Arc<Packages>,
    /// Who asks too often, here and by the client API.
    pub door: Arc<Door>,
    /// Who may ask as often as they like.
    pub admins: Admins,
    /// Becomes true when the controller stops.
    pub stopping: watch::Receiver<bool>,
}

impl Service {
    /// The service of these accounts.
    pub fn new(
        parts: Parts,
        accounts: Accounts,
        store: Option<Arc<muster_blobs::Store>>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        Self { parts, accounts, store, tls, streams: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }
}

impl std::ops::Deref for Service {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

type Answer = Result<Response, Refused>;

fn router(service: Arc<Service>) -> Router {
    let (store, tls) = (service.store.clone(), service.tls.is_some());
    let routes = routes::router()
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&service), call::admit))
        .layer(axum::middleware::from_fn(read_all))
        .with_state(service);
    match store {
        Some(store) => routes.layer(axum::middleware::from_fn_with_state((store, tls), store::divert)),
        None => routes,
    }
}

/// Who is refused by the head of a request alone gets the answer all the same, and not a broken connection.
async fn read_all(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    muster_blobs::answer_and_read(request, |request| next.run(request)).await
}

async fn no_route(request: axum::extract::Request) -> Refused {
    let why = format!("There is nothing at {} in this service.", request.uri().path());
    Refused(BatchError::new(ErrorCode::ResourceNotFound, why))
}

async fn no_method(request: axum::extract::Request) -> Refused {
    let why = format!("{} is not possible at {}.", request.method(), request.uri().path());
    Refused(BatchError::new(ErrorCode::UnsupportedHttpVerb, why))
}

/// Listens for clients of the batch service.
///
/// # Errors
/// [`ServerError::ListenBatch`] if the address cannot be had.
pub async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::ListenBatch { address, source })
}

/// Serves until the controller stops.
pub async fn serve(listener: TcpListener, service: Service) {
    let mut stopping = service.stopping.clone();
    let tls = service.tls.clone();
    let routes = router(Arc::new(service));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let routes = routes.clone().layer(axum::Extension(store::Peer(peer.ip())));
                let (stopping, tls) = (stopping.clone(), tls.clone());
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    match tls {
                        None => serve_connection(stream, routes, stopping).await,
                        Some(tls) => match timeout(HEAD_WITHIN, tls.accept(stream)).await {
                            Ok(Ok(stream)) => serve_connection(stream, routes, stopping).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "a client does not speak TLS"),
                            Err(_) => {}
                        },
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: those that are open must end first.
                tracing::warn!(%error, "cannot accept a client of the batch service");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
