//! The client API: HTTP and JSON on a Unix socket, whose callers are who the kernel says they are.

mod answer;
mod changes;
mod crontabs;
mod diagnostics;
mod files;
mod jobs;
mod nodes;
mod peer;
mod priority;
mod reservations;
mod tasks;
mod usage;
pub(crate) mod why;

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muster_client::api::LeaderView;
use muster_store::{HistoryReader, Leader, Lease};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use self::answer::ApiError;
pub use self::peer::{Admins, Peer};
use crate::bootstrap::Plans;
use crate::diagnostics::Diagnostics;
use crate::engine_loop::EngineHandle;
use crate::error::ServerError;
use crate::forecasts::Forecasts;
use crate::mail::Mail;
use crate::sessions::Sessions;
use crate::shared::Shared;

/// Largest body of a request: a script, an environment and arguments, in JSON.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Open connections; more wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take over the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long any answer may take: longer than the longest wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(660);

/// What the routes work with.
pub struct App {
    /// The engine, for what changes something.
    pub engine: EngineHandle,
    /// The durable state, for what only looks.
    pub shared: Arc<Shared>,
    /// The accounting tables, for what has left the memory.
    pub history: Mutex<HistoryReader>,
    /// When what waits is expected to start.
    pub forecasts: Arc<Forecasts>,
    /// How people are told of their jobs.
    pub mail: Mail,
    /// What was counted.
    pub diagnostics: Arc<Diagnostics>,
    /// The nodes' sessions.
    pub sessions: Arc<Sessions>,
    /// Places for connections of clients.
    pub places: Arc<Semaphore>,
    /// Who administers the cluster.
    pub admins: Admins,
    /// What nodes need to be brought up.
    pub plans: Arc<Plans>,
    /// Becomes true when the controller stops: waits are answered then.
    pub stopping: watch::Receiver<bool>,
    /// The lead, where other controllers stand by.
    pub lead: Option<Lead>,
}

/// The lead of this controller.
pub struct Lead {
    /// For as long as it lasts.
    pub lease: Lease,
    /// As clients see it.
    pub view: LeaderView,
}

impl App {
    fn history(&self) -> MutexGuard<'_, HistoryReader> {
        // A reader that a panic left behind is still whole: it only reads.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what may take a while, or read a disk, off the threads that serve others.
async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let app = Arc::clone(app);
    tokio::task::spawn_blocking(move || work(&app)).await.map_err(|_| ApiError::Panicked)?
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/ping", get(nodes::ping))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{ref}", get(jobs::show))
        .route("/v1/jobs/{ref}/why", get(why::why))
        .route("/v1/jobs/{ref}/wait", get(jobs::wait))
        .route("/v1/jobs/{ref}/script", get(changes::script))
        .route("/v1/jobs/{ref}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{ref}/signal", post(changes::signal))
        .route("/v1/jobs/{ref}/steps/{step}/signal", post(changes::signal_step))
        .route("/v1/jobs/{ref}/steps/{step}/attach", post(changes::attach_step))
        .route("/v1/jobs/{ref}/requeue", post(changes::requeue))
        .route("/v1/jobs/{ref}/update", post(changes::update))
        .route("/v1/jobs/{ref}/hold", post(jobs::hold))
        .route("/v1/jobs/{ref}/release", post(jobs::release))
        .route("/v1/tasks", get(tasks::list))
        .route("/v1/tasks/{ref}/files", get(files::list).delete(files::remove))
        .route("/v1/tasks/{ref}/files/data", get(files::data))
        .route("/v1/nodes", get(nodes::nodes))
        .route("/v1/nodes/drain", post(nodes::drain))
        .route("/v1/nodes/down", post(nodes::down))
        .route("/v1/nodes/resume", post(nodes::resume))
        .route("/v1/nodes/bootstrap", post(nodes::bootstrap))
        .route("/v1/nodes/{name}/hold", post(nodes::hold))
        .route("/v1/nodes/{name}/release", post(nodes::release))
        .route("/v1/pools", get(nodes::pools))
        .route("/v1/pools/{name}/state", post(nodes::pool_state))
        .route("/v1/licenses", get(nodes::licenses))
        .route("/v1/reservations", get(reservations::list).post(reservations::make))
        .route("/v1/reservations/{name}", delete(reservations::remove))
        .route("/v1/priority", get(priority::priority))
        .route("/v1/shares", get(priority::shares))
        .route("/v1/crontab", get(crontabs::show).post(crontabs::set).delete(crontabs::remove))
        .route("/v1/usage", get(usage::usage))
        .route("/v1/diagnostics", get(diagnostics::show))
        .route("/v1/diagnostics/reset", post(diagnostics::reset))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), while_leading))
        .layer(middleware::from_fn(within_time))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), diagnostics::count))
        .with_state(app)
}

/// What a controller knows that may have been replaced is not to be shown.
async fn while_leading(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match &app.lead {
        Some(lead) if !lead.lease.is_valid() => ApiError::NotLeading { leader: None }.into_response(),
        _ => next.run(request).await,
    }
}

/// Answers every request with who leads, until it is dropped.
pub async fn serve_standby(
    listener: UnixListener,
    leader: watch::Receiver<Option<Leader>>,
    mut stopping: watch::Receiver<bool>,
) {
    let refuse = move || {
        let leader = leader.borrow().clone();
        async move { ApiError::NotLeading { leader } }
    };
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let served = axum::serve(listener, Router::new().fallback(refuse)).with_graceful_shutdown(stopped).await;
    if let Err(error) = served {
        tracing::warn!(%error, "clients are not told any more who leads");
    }
}

async fn no_route(request: Request) -> ApiError {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    ApiError::NoRoute { method, path }
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TooLong.into_response(),
    }
}

/// Listens at `path`, for everybody on this host: what a caller may do is decided by who they are.
///
/// # Errors
/// [`ServerError::File`] if the socket cannot be made.
pub fn listen(path: &Path) -> Result<UnixListener, ServerError> {
    if let Some(folder) = path.parent() {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(ServerError::file("make the folder", folder))?;
    }
    // The lock on the state shows that no other controller is alive: a socket that is there is a dead one's.
    if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        fs::remove_file(path).map_err(ServerError::file("remove the old socket", path))?;
    }
    let listener = UnixListener::bind(path).map_err(ServerError::file("listen at", path))?;
    fs::set_permissions(path, Permissions::from_mode(0o666))
        .map_err(ServerError::file("open to all users", path))?;
    Ok(listener)
}

/// Serves until the controller stops.
pub async fn serve(listener: UnixListener, app: Arc<App>) {
    let routes = router(Arc::clone(&app));
    let mut stopping = app.stopping.clone();
    loop {
        let Ok(place) = Arc::clone(&app.places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let (routes, app) = (routes.clone(), Arc::clone(&app));
                tokio::spawn(async move {
                    serve_connection(stream, routes, app).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: those that are open must end first.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: UnixStream, routes: Router, app: Arc<App>) {
    let Ok(credentials) = stream.peer_cred() else { return };
    let admins = Arc::clone(&app.admins);
    let look_up = move || Peer::new(credentials.uid(), credentials.gid(), &admins);
    let Ok(peer) = tokio::task::spawn_blocking(look_up).await else { return };
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        routes.call(request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stopping = app.stopping.clone();
    // A client that breaks off harms only itself.
    tokio::select! {
        _ = &mut connection => return,
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
