//! Puts the parts together, and takes them apart again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use muster_client::api::LeaderView;
use muster_config::{BatchConfig, CONNECTIONS_MAX, Config, ControllerConfig};
use muster_core::cluster::ClusterConfig;
use muster_core::input::Input;
use muster_store::StoreError;
use muster_store::{
    Damage, HistoryReader, Keyring, Lease, Place, Recovered, Server as Postgres, ServerOptions, Store,
};
use muster_wire::MESSAGE_BYTES_MAX;
use muster_wire::controller::node_controller_server::NodeControllerServer;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tonic::transport::Server;

use crate::api::{self, Admins, App, Door, Lead};
use crate::batch;
use crate::batch_site::BatchSite;
use crate::bootstrap::{Bootstrap, Plans};
use crate::diagnostics::Diagnostics;
use crate::elastic::Elastic;
use crate::engine_loop::{self, EngineHandle, InputError, Outlets, chain};
use crate::error::ServerError;
use crate::forecasts::Forecasts;
use crate::heap;
use crate::mail::Mail;
use crate::node_listener;
use crate::node_uses;
use crate::packages::Packages;
use crate::secrets::Secrets;
use crate::sessions::{NodeService, Sessions};
use crate::shared::Shared;
use crate::time_zone;
use crate::tls::{Authority, private_folder};
use crate::translate;

/// The journal's file below `state_dir`.
pub(crate) const DATABASE: &str = "muster.db";
/// How long clients and nodes may take to let go at a stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// How long they may take where another controller leads.
const STEP_DOWN_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked whether the lease was found over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between two signs of life that the transport asks of a node, so that a cut cable is noticed, at least.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A controller that runs.
pub struct Running {
    /// Where node agents connect.
    pub node_address: SocketAddr,
    /// Where clients connect.
    pub socket: PathBuf,
    /// Where clients of the batch service connect, if there is one.
    pub batch_address: Option<SocketAddr>,
    config: Config,
    engine: EngineHandle,
    engine_ended: oneshot::Receiver<()>,
    admins: Admins,
    door: Arc<Door>,
    authority: Arc<Authority>,
    sessions: Arc<Sessions>,
    plans: Arc<Plans>,
    bootstrap: Option<Bootstrap>,
    elastic: Option<Elastic>,
    giving_up: AbortHandle,
    lease: Option<Lease>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
}

/// How a controller ended that nobody asked to.
#[derive(Debug)]
pub enum End {
    /// Another one leads, or may lead by now.
    Deposed,
    /// Something failed.
    Failed(ServerError),
}

/// Starts a controller that has no others beside it. It is reachable for clients and nodes when this returns.
///
/// # Errors
/// [`ServerError`] if anything that it needs is not to be had.
pub async fn start(config: Config) -> Result<Running, ServerError> {
    start_under(config, None).await
}

/// Starts a controller that leads, as long as the lease lasts.
///
/// # Errors
/// [`ServerError`] if anything that it needs is not to be had.
pub async fn lead(config: Config, lease: Lease) -> Result<Running, ServerError> {
    start_under(config, Some(lease)).await
}

async fn start_under(config: Config, lease: Option<Lease>) -> Result<Running, ServerError> {
    let state_dir = config.controller.state_dir.clone();
    private_folder(&state_dir)?;
    let (store, recovered, history) = open_store(&config, lease.clone()).await?;
    tracing::info!(
        records = recovered.last_seq,
        replayed = recovered.replayed,
        jobs = recovered.state.jobs.len(),
        "the state was recovered"
    );
    heap::give_back();
    for damage in &recovered.passed_over {
        tracing::error!(%damage, "{}", went_on_without(damage));
    }
    let authority = Arc::new(open_authority(&config, lease.as_ref().map(Keyring::new)).await?);
    let secrets = Secrets::new(store.secret());
    let shared = Arc::new(Shared::new(recovered.state, recovered.last_seq));
    // Before anything happens, so that nothing is missed.
    let feed = config.batch.is_some().then(|| shared.feed());
    let forecasts = Arc::new(Forecasts::default());
    let accounts = batch_accounts(&config).await?;
    let packages = open_packages(&config, &shared).await?;
    let sessions = Sessions::new(
        Arc::clone(&shared),
        Arc::clone(&authority),
        secrets.clone(),
        Duration::from_millis(u64::from(config.controller.heartbeat_ms)),
        Duration::from_secs(config.controller.node_timeout_s),
        config.health.as_ref().map(translate::health_check),
        lease.as_ref().map_or(0, Lease::term),
    );
    let site = config.batch.as_ref().zip(accounts.as_ref()).map(|(batch, accounts)| BatchSite {
        url: batch.client_url(),
        store: batch.store.as_ref().map(|_| accounts.shared_keys()),
        mounts: batch.mounts.clone(),
        images: batch.images.clone(),
    });
    let sessions = Arc::new(sessions.with_batch(site.zip(packages.clone())));
    let mail = Mail::start(config.controller.mail_program.clone());
    let diagnostics = Arc::new(Diagnostics::new(shared.now()));
    let outlets = Outlets {
        shared: Arc::clone(&shared),
        sessions: Arc::clone(&sessions),
        mail: mail.clone(),
        diagnostics: Arc::clone(&diagnostics),
    };
    let thread = engine_loop::start(store, outlets, lease.clone())?;
    let engine = thread.handle.clone();
    let engine_ended = join_later(thread.thread);
    sessions.connect(engine.clone());
    configure(&engine, &config).await;

    let (stop, stopping) = watch::channel(false);
    let admins: Admins = Arc::new(RwLock::new(config.controller.admins.clone()));
    let door = Arc::new(Door::new(config.controller.clients));
    let plans = Arc::new(Plans::new(&config, Arc::clone(&authority)));
    let batch = match (&config.batch, feed, accounts, packages) {
        (Some(batch), Some(feed), Some(accounts), Some(packages)) => {
            let parts = batch::Parts {
                engine: engine.clone(),
                shared: Arc::clone(&shared),
                sessions: Arc::clone(&sessions),
                forecasts: Arc::clone(&forecasts),
                feed,
                packages,
                door: Arc::clone(&door),
                admins: Arc::clone(&admins),
                secrets,
                stopping: stopping.clone(),
            };
            Some((batch::listen(batch.listen).await?, batch_service(batch, accounts, parts).await?))
        }
        _ => None,
    };
    let app = Arc::new(App {
        engine: engine.clone(),
        shared: Arc::clone(&shared),
        history: Mutex::new(history),
        forecasts: Arc::clone(&forecasts),
        mail,
        diagnostics,
        sessions: Arc::clone(&sessions),
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
        part_turns: api::part_turns(),
        admins: Arc::clone(&admins),
        names: Arc::default(),
        door: Arc::clone(&door),
        plans: Arc::clone(&plans),
        stopping: stopping.clone(),
        lead: lease.clone().map(|lease| {
            let view = LeaderView { holder: holder(), term: lease.term() };
            Lead { lease, view }
        }),
    });
    let uses = batch.as_ref().map(|_| {
        let (shared, sessions) = (Arc::clone(&shared), Arc::clone(&sessions));
        tokio::spawn(node_uses::tell(shared, sessions, engine.clone(), stopping.clone()))
    });
    let (node_address, nodes) = serve_nodes(&config, &authority, &sessions, stopping)?;
    let clients = api::listen(&config.controller.socket)?;
    let mut serving = vec![nodes, api::start(clients, app)?];
    let batch_address = batch.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
    serving.extend(batch.map(|(listener, service)| tokio::spawn(batch::serve(listener, service))));
    serving.extend(uses);
    let giving_up = {
        let sessions = Arc::clone(&sessions);
        tokio::spawn(async move { sessions.give_up_missing().await }).abort_handle()
    };
    let bootstrap =
        config.bootstrap.by_controller.then(|| Bootstrap::start(Arc::clone(&plans), Arc::clone(&sessions)));
    let elastic = Elastic::start(&config, shared, engine.clone(), lease.clone());
    let socket = config.controller.socket.clone();
    Ok(Running {
        node_address,
        socket,
        batch_address,
        config,
        engine,
        engine_ended,
        admins,
        door,
        authority,
        sessions,
        plans,
        bootstrap,
        elastic: Some(elastic),
        giving_up,
        lease,
        stop,
        serving,
    })
}

/// What the batch service works with.
async fn batch_service(
    config: &BatchConfig,
    accounts: batch::Accounts,
    parts: batch::Parts,
) -> Result<batch::Service, ServerError> {
    let config = config.clone();
    let (accounts, store, tls) = blocking(move || {
        let store = config.store.as_ref().map(|store| batch::open_store(store, &accounts)).transpose()?;
        let tls = config.tls.as_ref().map(batch::acceptor).transpose()?;
        Ok((accounts, store, tls))
    })
    .await?;
    Ok(batch::Service::new(parts, accounts, store, tls))
}

/// Who may use the batch service, if there is one.
async fn batch_accounts(config: &Config) -> Result<Option<batch::Accounts>, ServerError> {
    let Some(batch) = config.batch.clone() else { return Ok(None) };
    blocking(move || batch::Accounts::load(&batch).map(Some)).await
}

/// The folder with the packages of the batch service, if there is one.
async fn open_packages(config: &Config, shared: &Arc<Shared>) -> Result<Option<Arc<Packages>>, ServerError> {
    let Some(batch) = &config.batch else { return Ok(None) };
    let folder = batch.packages.clone().unwrap_or_else(|| config.controller.state_dir.join("packages"));
    let (bytes_max, shared) = (batch.package_mib << 20, Arc::clone(shared));
    blocking(move || Packages::open(folder, bytes_max, shared.read().state()).map(Some)).await
}

/// Opens the journal and the accounting.
async fn open_store(
    config: &Config,
    lease: Option<Lease>,
) -> Result<(Store, Recovered, HistoryReader), ServerError> {
    let place = place(&config.controller).map_err(ServerError::Store)?;
    blocking(move || {
        let open = || {
            let (store, recovered) = match (&place, &lease) {
                (Place::Postgres(_), Some(lease)) => Store::lead(lease)?,
                (Place::Sqlite(path), _) => Store::open(path)?,
                (Place::Postgres(_), None) => return Err(StoreError::Deposed { term: 0 }),
            };
            Ok((store, recovered, HistoryReader::open(&place)?))
        };
        open().map_err(ServerError::Store)
    })
    .await
}

/// Where the journal of a configuration is.
///
/// # Errors
/// [`StoreError::Server`] or [`StoreError::ServerFile`] if what names a PostgreSQL server cannot be used.
pub fn place(controller: &ControllerConfig) -> Result<Place, StoreError> {
    let Some(store) = &controller.store else { return Ok((&controller.state_dir.join(DATABASE)).into()) };
    let (url, password_file, ca_file) =
        (store.url.clone(), store.password_file.clone(), store.ca_file.clone());
    Ok(Place::Postgres(Postgres::new(&ServerOptions { url, password_file, ca_file })?))
}

/// What this controller calls itself among others.
pub(crate) fn holder() -> String {
    format!("musterd {} on {}", std::process::id(), host_name())
}

/// The name of this host.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

/// What it means that the store was opened in spite of the damage.
fn went_on_without(damage: &Damage) -> &'static str {
    match damage {
        Damage::Snapshot { .. } => {
            "the journal is damaged: the snapshot before this one and all records since gave the same state, so that \
             nothing is lost; look after the disk"
        }
        _ => {
            "the journal is damaged: what its last records said is lost. They are not known to have been acknowledged, \
             and are kept in the table set_aside; ids of jobs that they may have made are not used again. No crash \
             can do this: look after the disk"
        }
    }
}

/// Runs what reads and writes files off the threads that serve others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let doing = "run a blocking step";
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| ServerError::System { doing, source: std::io::Error::other(error) })?
}

async fn open_authority(config: &Config, keyring: Option<Keyring>) -> Result<Authority, ServerError> {
    let state_dir = config.controller.state_dir.clone();
    let nodes: Vec<String> = config.cluster.nodes.iter().map(|node| node.name.clone()).collect();
    blocking(move || {
        let authority = Authority::open(&state_dir, keyring)?;
        authority.admit(nodes.iter().map(String::as_str))?;
        Ok(authority)
    })
    .await
}

/// Makes the end of a thread something to be awaited.
fn join_later(thread: std::thread::JoinHandle<()>) -> oneshot::Receiver<()> {
    let (ended, receiver) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        if thread.join().is_err() {
            tracing::error!("the engine's thread panicked");
        }
        let _ = ended.send(());
    });
    receiver
}

/// Tells the engine of the configuration. A disk that is full must not keep the controller from starting: what
/// was configured before stays in force.
async fn configure(engine: &EngineHandle, config: &Config) {
    let cluster = ClusterConfig { time_zone: time_zone::of_site(), ..config.cluster.clone() };
    match engine.ask(Input::Configure(Arc::new(cluster))).await {
        Ok(_) => {}
        Err(error @ InputError::NotStored { .. }) => {
            tracing::error!(%error, "the configuration is not in force; reload it when there is room");
        }
        Err(error) => tracing::error!(%error, "the configuration is not in force"),
    }
}

fn serve_nodes(
    config: &Config,
    authority: &Authority,
    sessions: &Arc<Sessions>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<()>), ServerError> {
    let (node_address, incoming) = node_listener::listen(config.controller.listen, authority)?;
    // Whoever has a session is heard more often than that; what is asked here of the others would be work for each idle node.
    let keepalive = KEEPALIVE.max(Duration::from_secs(config.controller.node_timeout_s));
    let service = NodeControllerServer::new(NodeService::new(Arc::clone(sessions)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder()
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(service);
    let serving = tokio::spawn(async move {
        let stopped = async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stopped).await {
            tracing::error!(error = %chain(&error), "the server for node agents failed");
        }
    });
    Ok((node_address, serving))
}

impl Running {
    /// Puts another configuration into force. What is only read at the start stays as it was, and is logged.
    ///
    /// # Errors
    /// [`ServerError`] if new nodes can be given no certificates; nothing has changed then.
    pub async fn reload(&mut self, config: Config) -> Result<(), ServerError> {
        let (new, old) = (&config.controller, &self.config.controller);
        let fixed = [
            ("listen", new.listen != old.listen),
            ("socket", new.socket != old.socket),
            ("state_dir", new.state_dir != old.state_dir),
            ("store", new.store != old.store),
            ("node_timeout_s", new.node_timeout_s != old.node_timeout_s),
            ("heartbeat_ms", new.heartbeat_ms != old.heartbeat_ms),
            ("mail_program", new.mail_program != old.mail_program),
            ("[health]", config.health != self.config.health),
            ("[batch]", config.batch != self.config.batch),
            ("[bootstrap]", config.bootstrap != self.config.bootstrap),
        ];
        for (key, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!(key, "a change of this takes effect when musterd is started again");
        }
        let nodes: Vec<String> = config.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let authority = Arc::clone(&self.authority);
        blocking(move || authority.admit(nodes.iter().map(String::as_str))).await?;
        // Before the engine wants any of its nodes.
        if let Some(elastic) = &self.elastic {
            elastic.configure(&config);
        }
        configure(&self.engine, &config).await;
        *self.admins.write().expect("no code panics under this lock") = config.controller.admins.clone();
        self.door.configure(config.controller.clients);
        self.plans.configure(&config);
        if let Some(bootstrap) = &mut self.bootstrap {
            bootstrap.reconcile();
        }
        self.config = config;
        Ok(())
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> End {
        let lease = self.lease.clone();
        let lease_over = async {
            match &lease {
                Some(lease) => until_over(lease).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lease_over => End::Deposed,
            _ = &mut self.engine_ended => match &self.lease {
                Some(lease) if !lease.is_valid() => End::Deposed,
                _ => End::Failed(ServerError::EngineEnded),
            },
        }
    }

    /// Stops: lets nodes go without touching what runs on them, takes a snapshot, answers those who wait, and gives the
    /// lead back.
    pub async fn stop(mut self) {
        self.bootstrap.take();
        self.elastic.take();
        self.giving_up.abort();
        self.sessions.stop();
        self.engine.stop().await;
        let _ = self.engine_ended.await;
        if let Some(lease) = self.lease.take() {
            let _ = blocking(move || {
                lease.release();
                Ok(())
            })
            .await;
        }
        self.stop.send_replace(true);
        let end = tokio::time::Instant::now() + STOP_WITHIN;
        for task in self.serving {
            if tokio::time::timeout_at(end, task).await.is_err() {
                tracing::debug!("a part did not end in time, and is left behind");
            }
        }
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Lets nodes and clients go at once, because another controller leads, or may. The engine may still wait for the
    /// database; nothing that it does is stored or let out any more.
    pub async fn step_down(mut self) {
        self.bootstrap.take();
        self.elastic.take();
        self.giving_up.abort();
        self.sessions.stop();
        self.stop.send_replace(true);
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.stop().await });
        let end = tokio::time::Instant::now() + STEP_DOWN_WITHIN;
        for mut task in self.serving {
            if tokio::time::timeout_at(end, &mut task).await.is_err() {
                // Its address must be free for when this controller leads again.
                task.abort();
                let _ = task.await;
            }
        }
    }
}

/// Waits until the lease is over.
async fn until_over(lease: &Lease) {
    loop {
        let remaining = lease.remaining();
        if remaining.is_zero() {
            return;
        }
        // Another thread may find it over before that.
        tokio::time::sleep(remaining.min(LOOK_EVERY)).await;
    }
}

/// Where the journal is below a `state_dir`, unless it is in another place.
#[must_use]
pub fn database(state_dir: &Path) -> PathBuf {
    state_dir.join(DATABASE)
}
