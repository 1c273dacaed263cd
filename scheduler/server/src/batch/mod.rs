//! The batch service's REST API: thin handlers between the protocol (`muster-batch`) and the engine.

mod accounts;
mod allowed;
mod call;
mod files;
mod jobs;
mod nodes;
mod packages;
mod pools;
mod schedules;
mod store;
mod tasks;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post, put};
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
pub use self::store::open as open_store;
pub use self::tls::acceptor;
use crate::engine_loop::EngineHandle;
use crate::error::ServerError;
use crate::packages::Packages;
use crate::secrets::Secrets;
use crate::sessions::Sessions;
use crate::shared::Shared;

/// Open connections; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take over the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// What the routes work with.
pub struct Service {
    /// The engine, for what changes something.
    pub engine: EngineHandle,
    /// The durable state, for what only looks.
    pub shared: Arc<Shared>,
    /// The nodes' sessions, for files.
    pub sessions: Arc<Sessions>,
    /// By what tasks are known that ask.
    pub secrets: Secrets,
    /// Who may ask.
    pub accounts: Accounts,
    /// The packages.
    pub packages: Arc<Packages>,
    /// The embedded store, if there is one.
    pub store: Option<Arc<muster_blobs::Store>>,
    /// Encrypts connections, if there is a certificate.
    pub tls: Option<TlsAcceptor>,
    /// Becomes true when the controller stops.
    pub stopping: watch::Receiver<bool>,
}

type Answer = Result<Response, Refused>;

fn router(service: Arc<Service>) -> Router {
    let (store, tls) = (service.store.clone(), service.tls.is_some());
    let routes = Router::new()
        .route("/pools", get(pools::list).post(pools::create))
        .route(
            "/pools/{pool}",
            get(pools::show).head(pools::exists).patch(pools::patch).delete(pools::delete),
        )
        .route("/pools/{pool}/resize", post(pools::resize))
        .route("/pools/{pool}/stopresize", post(pools::stop_resize))
        .route("/pools/{pool}/enableautoscale", post(pools::enable_scaling))
        .route("/pools/{pool}/disableautoscale", post(pools::disable_scaling))
        .route("/pools/{pool}/evaluateautoscale", post(pools::evaluate_scaling))
        .route("/pools/{pool}/removenodes", post(pools::remove_nodes))
        .route("/pools/{pool}/updateproperties", post(pools::update_properties))
        .route("/pools/{pool}/nodes", get(nodes::list))
        .route("/pools/{pool}/nodes/{node}", get(nodes::show))
        .route("/pools/{pool}/nodes/{node}/disablescheduling", post(nodes::disable))
        .route("/pools/{pool}/nodes/{node}/enablescheduling", post(nodes::enable))
        .route("/pools/{pool}/nodes/{node}/remoteloginsettings", get(nodes::login))
        .route("/pools/{pool}/nodes/{node}/reboot", post(nodes::for_virtual_ones))
        .route("/pools/{pool}/nodes/{node}/reimage", post(nodes::for_virtual_ones))
        .route("/pools/{pool}/nodes/{node}/start", post(nodes::for_virtual_ones))
        .route("/pools/{pool}/nodes/{node}/deallocate", post(nodes::for_virtual_ones))
        .route("/pools/{pool}/nodes/{node}/users", post(nodes::for_virtual_ones))
        .route(
            "/pools/{pool}/nodes/{node}/users/{user}",
            put(nodes::user_of_virtual_ones).delete(nodes::user_of_virtual_ones),
        )
        .route("/applications", get(packages::list))
        .route("/applications/{application}", get(packages::show).patch(packages::patch))
        .route("/applications/{application}/versions/{version}", put(packages::add).delete(packages::remove))
        .route("/pools/{pool}/nodes/{node}/files", get(files::list_of_node))
        .route(
            "/pools/{pool}/nodes/{node}/files/{*path}",
            get(files::get_of_node).head(files::head_of_node).delete(files::delete_of_node),
        )
        .route("/nodecounts", get(nodes::counts))
        .route("/supportedimages", get(nodes::images))
        .route("/jobschedules", get(schedules::list).post(schedules::create))
        .route(
            "/jobschedules/{schedule}",
            get(schedules::show)
                .head(schedules::exists)
                .patch(schedules::patch)
                .put(schedules::put)
                .delete(schedules::delete),
        )
        .route("/jobschedules/{schedule}/terminate", post(schedules::terminate))
        .route("/jobschedules/{schedule}/disable", post(schedules::disable))
        .route("/jobschedules/{schedule}/enable", post(schedules::enable))
        .route("/jobschedules/{schedule}/jobs", get(schedules::jobs))
        .route("/jobs", get(jobs::list).post(jobs::create))
        .route("/jobs/{job}", get(jobs::show).patch(jobs::patch).put(jobs::put).delete(jobs::delete))
        .route("/jobs/{job}/terminate", post(jobs::terminate))
        .route("/jobs/{job}/disable", post(jobs::disable))
        .route("/jobs/{job}/enable", post(jobs::enable))
        .route("/jobs/{job}/taskcounts", get(jobs::counts))
        .route("/jobs/{job}/jobpreparationandreleasetaskstatus", get(jobs::preparation))
        .route("/jobs/{job}/tasks", get(tasks::list).post(tasks::add))
        .route("/jobs/{job}/addtaskcollection", post(tasks::add_collection))
        .route("/jobs/{job}/tasks/{task}", get(tasks::show).put(tasks::put).delete(tasks::delete))
        .route("/jobs/{job}/tasks/{task}/terminate", post(tasks::terminate))
        .route("/jobs/{job}/tasks/{task}/reactivate", post(tasks::reactivate))
        .route("/jobs/{job}/tasks/{task}/subtasksinfo", get(tasks::subtasks))
        .route("/jobs/{job}/tasks/{task}/files", get(files::list_of_task))
        .route(
            "/jobs/{job}/tasks/{task}/files/{*path}",
            get(files::get_of_task).head(files::head_of_task).delete(files::delete_of_task),
        )
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
