//! The client API: HTTP and JSON on a Unix socket, whose callers are who the kernel says they are.

mod answer;
mod changes;
mod crontabs;
mod diagnostics;
mod door;
mod files;
mod job_list;
mod jobs;
mod nodes;
mod parts;
mod peer;
mod priority;
mod reservations;
mod serve;
mod tasks;
mod usage;
pub(crate) mod why;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::routing::{delete, get, post};
use muster_client::api::LeaderView;
use muster_store::{HistoryReader, Leader, Lease};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

use self::answer::ApiError;
pub use self::door::Door;
pub use self::parts::part_turns;
pub use self::peer::{Admins, Names, Peer};
pub use self::serve::{listen, start};
use crate::bootstrap::Plans;
use crate::diagnostics::Diagnostics;
use crate::engine_loop::EngineHandle;
use crate::forecasts::Forecasts;
use crate::mail::Mail;
use crate::sessions::Sessions;
use crate::shared::Shared;

/// Largest body of a request: a script, an environment and arguments, in JSON.
const BODY_BYTES_MAX: usize = 8 << 20;

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
    /// How many parts of lists are made at once.
    pub part_turns: Semaphore,
    /// Who administers the cluster.
    pub admins: Admins,
    /// Login names.
    pub names: Arc<Names>,
    /// Who is let in.
    pub door: Arc<Door>,
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

/// All routes but that of submits, which [`serve`] takes by itself.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/ping", get(nodes::ping))
        .route("/v1/jobs", get(job_list::list))
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
        .layer(middleware::from_fn_with_state(Arc::clone(&app), diagnostics::count))
        .with_state(app)
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
