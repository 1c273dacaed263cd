//! The socket, the threads that speak with clients, and what happens around every request.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use muster_config::CONNECTIONS_MAX;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::answer::ApiError;
use super::peer::Peer;
use super::{App, BODY_BYTES_MAX, jobs, router};
use crate::error::ServerError;

/// Places that only root has when all others are taken.
const ROOT_PLACES: usize = 16;
/// Connections at once that are told why they are refused; more are only closed.
const REFUSALS_MAX: usize = 64;
/// How long a client may take over the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// And one that is to be refused.
const REFUSED_HEAD_WITHIN: Duration = Duration::from_secs(2);
/// How long any answer may take: longer than the longest wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(660);
/// How long clients may take to let go at a stop.
const LET_GO_WITHIN: Duration = Duration::from_secs(2);
/// Threads that speak with clients, at most; one alone keeps the engine busy on a small machine.
const THREADS_MAX: usize = 4;
/// Threads of each for what takes a while, or reads a disk.
const BLOCKING_THREADS_MAX: usize = 64;

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

/// A thread that speaks with clients. What a request goes through stays on one thread, so that an answer of the engine
/// wakes one thread and no other.
#[derive(Clone)]
struct Speaker {
    handle: Handle,
    /// Held by each connection, so that the thread ends after them.
    alive: mpsc::Sender<Infallible>,
}

impl Speaker {
    fn start(number: usize, stopping: watch::Receiver<bool>) -> Result<Self, ServerError> {
        let system = |doing| move |source| ServerError::System { doing, source };
        // Of the two kinds of runtime, the one with workers: a system call wakes its one worker for the first of many answers that
        // come together, and none does while it works.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name(format!("clients-{number}"))
            .build()
            .map_err(system("prepare to speak with clients"))?;
        let handle = runtime.handle().clone();
        let (alive, gone) = mpsc::channel(1);
        std::thread::Builder::new()
            .name(format!("clients-{number}"))
            .spawn(move || speak(runtime, stopping, gone))
            .map_err(system("start a thread for clients"))?;
        Ok(Self { handle, alive })
    }
}

/// Drives the connections of one thread until the controller stops and they have ended, or taken too long.
fn speak(runtime: Runtime, mut stopping: watch::Receiver<bool>, mut gone: mpsc::Receiver<Infallible>) {
    runtime.block_on(async {
        // A timer that is due before all others of the runtime wakes its thread when it is set, by a system call. Where there is
        // always one that is due soon, the timer for the head of a client's next request never is.
        while tokio::time::timeout(HEAD_WITHIN / 3, stopping.wait_for(|stop| *stop)).await.is_err() {}
        let _ = tokio::time::timeout(LET_GO_WITHIN, gone.recv()).await;
    });
    runtime.shutdown_background();
}

/// Serves on threads of its own until the controller stops. What is given ends when nobody is accepted any more.
///
/// # Errors
/// [`ServerError::System`] if there can be no thread.
pub fn start(listener: UnixListener, app: Arc<App>) -> Result<JoinHandle<()>, ServerError> {
    let system = |doing| move |source| ServerError::System { doing, source };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let speakers = (0..(cpus / 4).clamp(1, THREADS_MAX)).map(|i| Speaker::start(i, app.stopping.clone()));
    let speakers = speakers.collect::<Result<Vec<_>, _>>()?;
    let listener = listener.into_std().map_err(system("hand the clients' socket over"))?;
    let first = speakers[0].handle.clone();
    Ok(first.spawn(async move {
        match UnixListener::from_std(listener) {
            Ok(listener) => accept(listener, &speakers, app).await,
            Err(error) => tracing::error!(%error, "clients cannot be served"),
        }
    }))
}

async fn accept(listener: UnixListener, speakers: &[Speaker], app: Arc<App>) {
    let routes = router(Arc::clone(&app));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut stopping = app.stopping.clone();
    for speaker in speakers.iter().cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: those that are open must end first.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(credentials) = stream.peer_cred() else { continue };
        let Some(place) = place(&app, credentials.uid() == 0) else {
            if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                let error = ApiError::Connections { limit: CONNECTIONS_MAX };
                tokio::spawn(refuse(stream, error, place));
            }
            continue;
        };
        let connection =
            Connection { routes: routes.clone(), app: Arc::clone(&app), refusals: Arc::clone(&refusals) };
        let alive = speaker.alive.clone();
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let serve = async move |stream| {
            connection.serve(stream, uid, gid, place).await;
            drop(alive);
        };
        if speakers.len() == 1 {
            tokio::spawn(serve(stream));
        } else if let Ok(stream) = stream.into_std() {
            // It is driven where it is served.
            speaker.handle.spawn(async move {
                if let Ok(stream) = UnixStream::from_std(stream) {
                    serve(stream).await;
                }
            });
        }
    }
}

/// A place for a connection, if there is one left.
fn place(app: &App, is_root: bool) -> Option<OwnedSemaphorePermit> {
    if !is_root && app.places.available_permits() <= ROOT_PLACES {
        return None;
    }
    Arc::clone(&app.places).try_acquire_owned().ok()
}

/// Answers what is asked with a refusal, and closes the connection.
async fn refuse(stream: UnixStream, error: ApiError, _place: OwnedSemaphorePermit) {
    let error = Arc::new(error);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let error = Arc::clone(&error);
        async move { Ok::<_, Infallible>(refused(request, &error).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REFUSED_HEAD_WITHIN).keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(2 * REFUSED_HEAD_WITHIN, connection).await;
}

/// A refusal of what nobody looks at. Its body is read all the same: whoever still sends would not read the answer.
async fn refused(request: hyper::Request<Incoming>, error: &ApiError) -> Response {
    let _ = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
    error.response()
}

/// What a connection is served with.
struct Connection {
    routes: Router,
    app: Arc<App>,
    refusals: Arc<Semaphore>,
}

impl Connection {
    async fn serve(self, stream: UnixStream, uid: u32, gid: u32, _place: OwnedSemaphorePermit) {
        let app = self.app;
        let name = match app.names.known(uid) {
            Some(name) => Some(name),
            None => {
                let names = Arc::clone(&app.names);
                let Ok(name) = tokio::task::spawn_blocking(move || names.look_up(uid)).await else { return };
                name
            }
        };
        let peer = Peer::new(uid, gid, name, &app.admins);
        let _entered = match app.door.enter(&peer) {
            Ok(entered) => entered,
            Err(error) => {
                if let Ok(place) = self.refusals.try_acquire_owned() {
                    refuse(stream, error, place).await;
                }
                return;
            }
        };
        let routes = TowerToHyperService::new(self.routes);
        let service = service_fn(|request| answer(&app, &routes, &peer, request));
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
}

/// Answers one request, unless its user asks too often, or another controller may lead: what this one knows is not to be
/// shown then.
async fn answer(
    app: &Arc<App>,
    routes: &TowerToHyperService<Router>,
    peer: &Peer,
    mut request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Err(error) = app.door.ask(peer, app.shared.now()) {
        return Ok(refused(request, &error).await);
    }
    if app.lead.as_ref().is_some_and(|lead| !lead.lease.is_valid()) {
        return Ok(ApiError::NotLeading { leader: None }.into_response());
    }
    let is_submit = request.method() == Method::POST && request.uri().path() == "/v1/jobs";
    let answered = async {
        if is_submit {
            return Ok(jobs::submit(app, peer, request).await);
        }
        request.extensions_mut().insert(peer.clone());
        routes.call(request).await
    };
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(response) => response,
        Err(_) => Ok(ApiError::TooLong.into_response()),
    }
}
