//! Sessions of node agents: one for each node, over mutual TLS.
//!
//! A new hello of a node ends its older session, and what that still says is dropped. A node that is silent for
//! too long, or whose session ended and that does not come back in that time, is given up.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use muster_core::batch::PackageDigest;
use muster_core::ids::NodeId;
use muster_core::input::{Effect, Input, Reply};
use muster_core::state::{Power, State};
use muster_wire::v1::node_controller_server::NodeController;
use muster_wire::{PROTOCOL_VERSION, v1};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::batch_site::BatchSite;
use crate::engine_loop::{EngineHandle, InputError};
use crate::files::Files;
use crate::packages::Packages;
use crate::secrets::Secrets;
use crate::shared::Shared;
use crate::tls::Authority;
use crate::translate;

/// Messages that may wait for a slow node before its session is closed. It says hello again, and hears what it
/// missed.
const OUTBOX_MAX: usize = 4096;
/// How long a node may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

type Outbox = mpsc::Sender<Result<v1::ToNode, Status>>;

/// Why a session is closed, for the node's log.
type CloseReason = &'static str;

/// All nodes' sessions.
pub struct Sessions {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    secrets: Secrets,
    /// The batch service, if there is one.
    batch: Option<BatchSite>,
    /// Its packages.
    packages: Option<Arc<Packages>>,
    heartbeat: Duration,
    silence_max: Duration,
    /// What agents are to check, and how often.
    health: Option<v1::HealthCheck>,
    /// Set once, when the engine runs: the engine needs the sessions before the sessions can need the engine.
    engine: OnceLock<EngineHandle>,
    stopping: AtomicBool,
    shared: Arc<Shared>,
    authority: Arc<Authority>,
    /// The term in which this controller leads; 0 where there are no others.
    term: u64,
    files: Files,
}

/// One node's place.
struct Slot {
    node: String,
    /// Counts the sessions. Whoever brings a message of a session to the engine holds this lock, so that no
    /// message of an older session can come after the hello of a newer one.
    generation: AsyncMutex<u64>,
    live: Mutex<Option<LiveSession>>,
    /// Whether there is a session.
    present: watch::Sender<bool>,
}

struct LiveSession {
    generation: u64,
    outbox: Outbox,
    close: oneshot::Sender<CloseReason>,
}

impl Slot {
    fn lock_live(&self) -> std::sync::MutexGuard<'_, Option<LiveSession>> {
        self.live.lock().expect("no code panics under this lock")
    }

    fn close(&self, reason: CloseReason) {
        if let Some(session) = self.lock_live().take() {
            let _ = session.close.send(reason);
            self.present.send_replace(false);
        }
    }
}

impl Sessions {
    /// No sessions yet.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        authority: Arc<Authority>,
        secrets: Secrets,
        heartbeat: Duration,
        silence_max: Duration,
        health: Option<v1::HealthCheck>,
        term: u64,
    ) -> Self {
        let (slots, engine) = (Mutex::new(HashMap::new()), OnceLock::new());
        let stopping = AtomicBool::new(false);
        let files = Files::default();
        Self {
            slots,
            secrets,
            batch: None,
            packages: None,
            heartbeat,
            silence_max,
            health,
            term,
            engine,
            stopping,
            shared,
            authority,
            files,
        }
    }

    /// Tells nodes what they must know of the batch service.
    #[must_use]
    pub fn with_batch(self, batch: Option<(BatchSite, Arc<Packages>)>) -> Self {
        let (batch, packages) = batch.unzip();
        Self { batch, packages, ..self }
    }

    /// What the nodes are told of the batch service, if there is one.
    #[must_use]
    pub fn batch(&self) -> Option<&BatchSite> {
        self.batch.as_ref()
    }

    /// Says where the engine is. Must be called before the first session.
    pub fn connect(&self, engine: EngineHandle) {
        let _ = self.engine.set(engine);
    }

    fn engine(&self) -> &EngineHandle {
        self.engine.get().expect("the engine is connected before the server listens")
    }

    fn slot(&self, node: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().expect("no code panics under this lock");
        let slot = slots.entry(node.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                node: node.to_owned(),
                generation: AsyncMutex::new(0),
                live: Mutex::new(None),
                present: watch::channel(false).0,
            })
        });
        Arc::clone(slot)
    }

    /// Whether the node has a session, now and later.
    pub fn presence(&self, node: &str) -> watch::Receiver<bool> {
        self.slot(node).present.subscribe()
    }

    /// Whether the node has a session at this moment.
    #[must_use]
    pub fn is_present(&self, node: &str) -> bool {
        *self.slot(node).present.borrow()
    }

    /// Whether the node counts as up, be it that its agent is known to be there or that it was there when the
    /// controller stopped.
    #[must_use]
    pub fn was_up(&self, node: &str) -> bool {
        let reading = self.shared.read();
        let state = reading.state();
        state.node_by_name(node).is_some_and(|id| state.node(id).is_up())
    }

    /// Whether an agent may be brought onto the node: one that the site's programs bring up must be there first.
    #[must_use]
    pub fn may_have_agent(&self, node: &str) -> bool {
        let reading = self.shared.read();
        let state = reading.state();
        let power = state.node_by_name(node).and_then(|id| state.node(id).power.as_ref());
        power.is_none_or(|power| matches!(power, Power::On { .. } | Power::PoweringUp { called: true, .. }))
    }

    /// Changes whenever that may.
    pub fn power_changes(&self) -> watch::Receiver<u64> {
        self.shared.power_changes()
    }

    /// Tells a node what an effect wants of it. A node without a session hears it after its next hello, because
    /// the engine says then again what the node should know and does not.
    pub fn carry_out(&self, state: &State, effect: &Effect) {
        let (Effect::Prepare { node, .. }
        | Effect::Go { node, .. }
        | Effect::Stop { node, .. }
        | Effect::Signal { node, .. }
        | Effect::SignalStep { node, .. }
        | Effect::AttachStep { node, .. }
        | Effect::SetUp { node, .. }
        | Effect::Forget { node, .. }) = effect;
        self.send(state, *node, || translate::message(state, &self.secrets, self.batch.as_ref(), effect));
    }

    fn send(&self, state: &State, node: NodeId, message: impl FnOnce() -> v1::ToNode) {
        let slot = self.slot(&state.node(node).name);
        let outbox = slot.lock_live().as_ref().map(|session| session.outbox.clone());
        let Some(outbox) = outbox else { return };
        if outbox.try_send(Ok(message())).is_err() {
            slot.close("the node does not take what it is told");
        }
    }

    /// The files of tasks on nodes.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Tells a node something that is not the engine's. Says whether it has a session that takes it.
    pub(crate) fn tell_node(&self, node: &str, message: v1::ToNode) -> bool {
        let outbox = self.slot(node).lock_live().as_ref().map(|session| session.outbox.clone());
        outbox.is_some_and(|outbox| outbox.try_send(Ok(message)).is_ok())
    }

    /// How many messages are yet to be sent to nodes, and to how many nodes.
    #[must_use]
    pub fn backlog(&self) -> (u64, u64) {
        let slots = self.slots.lock().expect("no code panics under this lock");
        let queued = |slot: &Arc<Slot>| {
            let live = slot.lock_live();
            live.as_ref().map_or(0, |live| live.outbox.max_capacity() - live.outbox.capacity())
        };
        let behind = slots.values().map(queued).filter(|queued| *queued > 0);
        behind.fold((0, 0), |(messages, nodes), queued| (messages + queued as u64, nodes + 1))
    }

    /// Ends all sessions; nodes open new ones at once, and say all they hold.
    pub fn close_all(&self, reason: CloseReason) {
        let slots: Vec<Arc<Slot>> =
            self.slots.lock().expect("no code panics under this lock").values().cloned().collect();
        for slot in slots {
            slot.close(reason);
        }
    }

    /// Ends all sessions for good: no node is given up because its controller stops.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.close_all("the controller stops; what runs goes on");
    }

    /// Gives up, after a while, the nodes that were there when the controller stopped and did not come back.
    pub async fn give_up_missing(&self) {
        let were_up: Vec<String> = {
            let reading = self.shared.read();
            reading.state().nodes.iter().filter(|node| node.is_up()).map(|node| node.name.clone()).collect()
        };
        let patience = self.silence_max * 3;
        tokio::time::sleep(patience).await;
        let reason = format!("it did not come back within {} s", patience.as_secs());
        for node in were_up {
            // A node with a session since then, whose number is not 0, is watched by that.
            self.give_up(&self.slot(&node), 0, &reason).await;
        }
    }
}

/// The service that nodes connect to.
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
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ToNode, Status>> + Send>>;
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
        tokio::spawn(async move {
            let slot = sessions.slot(&name);
            if let Err(status) = sessions.keep(&slot, request.into_inner(), welcome, outbox.clone()).await {
                tracing::warn!(node = %slot.node, reason = status.message(), "the session ended");
                let _ = outbox.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(first).chain(ReceiverStream::new(messages)))))
    }
}

impl Sessions {
    /// A session from its hello to its end.
    async fn keep(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        mut stream: Streaming<v1::FromNode>,
        first: Outbox,
        outbox: Outbox,
    ) -> Result<(), Status> {
        let welcome = self.welcome(&slot.node)?;
        let hello = read_hello(&slot.node, &mut stream).await?;
        let (close, mut closed) = oneshot::channel();
        let (generation, answer) = self.begin(slot, hello, outbox, close).await?;
        if let Err(error) = answer {
            self.ended(slot, generation);
            return Err(Status::unavailable(error.to_string()));
        }
        // What the node is to have follows from its hello, which may have been one after a restart.
        let _ = first.try_send(Ok(self.with_setup(&slot.node, welcome)));
        drop(first);
        tracing::info!(node = %slot.node, "a session began");
        let end = loop {
            let message = tokio::select! {
                reason = &mut closed => {
                    let reason = reason.unwrap_or("the session was replaced by a newer one");
                    break Err(Status::aborted(reason));
                }
                message = timeout(self.silence_max, stream.message()) => message,
            };
            match message {
                Err(_) => {
                    let reason = format!("nothing was heard of it for {} s", self.silence_max.as_secs());
                    self.give_up(slot, generation, &reason).await;
                    break Err(Status::deadline_exceeded(reason));
                }
                Ok(Ok(Some(message))) => {
                    if let Err(status) = self.heard(slot, generation, message).await {
                        break Err(status);
                    }
                }
                Ok(Ok(None)) => break Ok(()),
                Ok(Err(status)) => break Err(status),
            }
        };
        self.ended(slot, generation);
        end
    }

    /// Makes this the node's session, and tells the engine. Gives the session's number and the engine's answer.
    async fn begin(
        &self,
        slot: &Slot,
        hello: v1::Hello,
        outbox: Outbox,
        close: oneshot::Sender<CloseReason>,
    ) -> Result<(u64, Result<Reply, InputError>), Status> {
        let held = hello.held.iter().cloned().map(translate::report).collect::<Result<Vec<_>, _>>();
        let held = held.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let hardware = Arc::new(translate::hardware(&hello));
        let input = Input::NodeHello { node: slot.node.clone(), boot_id: hello.boot_id, hardware, held };
        let mut generation = slot.generation.lock().await;
        slot.close("the session was replaced by a newer one");
        *generation += 1;
        *slot.lock_live() = Some(LiveSession { generation: *generation, outbox, close });
        let answer = self.engine().ask(input).await;
        if answer.is_ok() {
            slot.present.send_replace(true);
        }
        Ok((*generation, answer))
    }

    fn welcome(&self, node: &str) -> Result<v1::ToNode, Status> {
        let reading = self.shared.read();
        let state = reading.state();
        let id = state.node_by_name(node).filter(|id| state.node(*id).declared);
        let id =
            id.ok_or_else(|| Status::permission_denied("the configuration does not declare this node"))?;
        let declared = state.node(id);
        let welcome = v1::Welcome {
            heartbeat_interval_ms: u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX),
            declared_cores: declared.cores,
            wrap_cores: declared.wrap_cores,
            declared_memory_bytes: declared.memory_bytes,
            health_check: self.health.clone(),
            term: self.term,
            declared_devices: declared_devices(declared),
            setup: None,
        };
        Ok(v1::ToNode { body: Some(v1::to_node::Body::Welcome(welcome)) })
    }

    fn with_setup(&self, node: &str, mut message: v1::ToNode) -> v1::ToNode {
        let reading = self.shared.read();
        let id = reading.state().node_by_name(node);
        if let (Some(v1::to_node::Body::Welcome(welcome)), Some(site), Some(id)) =
            (&mut message.body, &self.batch, id)
        {
            welcome.setup = Some(site.setup_of(reading.state(), id));
        }
        message
    }

    async fn heard(&self, slot: &Slot, generation: u64, message: v1::FromNode) -> Result<(), Status> {
        use v1::from_node::Body;
        let report = match message.body {
            Some(Body::Heartbeat(_)) => return Ok(()),
            Some(Body::Health(health)) => {
                let input =
                    Input::NodeHealth { node: slot.node.clone(), problem: translate::problem(&health) };
                self.tell(slot, generation, input).await;
                return Ok(());
            }
            Some(Body::Setup(done)) => {
                let (node, errors) = (slot.node.clone(), translate::setup_errors(&done));
                self.tell(slot, generation, Input::NodeSetUp { node, number: done.number, errors }).await;
                return Ok(());
            }
            Some(Body::Steps(steps)) => return self.heard_steps(slot, generation, steps).await,
            Some(Body::File(reply)) => {
                self.files.heard(&slot.node, reply);
                return Ok(());
            }
            Some(Body::Report(report)) => report,
            Some(Body::Hello(_)) => return Err(Status::invalid_argument("hello was said twice")),
            None => return Err(Status::invalid_argument("the message is empty, or of a later version")),
        };
        let report = translate::report(report).map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.tell(slot, generation, Input::NodeReport { node: slot.node.clone(), report }).await;
        Ok(())
    }

    /// Steps come before the report that their attempt is gone, in the same stream, so that they are stored no later.
    async fn heard_steps(&self, slot: &Slot, generation: u64, report: v1::StepReport) -> Result<(), Status> {
        let key = translate::core_key(report.key).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let current = slot.generation.lock().await;
        if *current != generation {
            return Ok(());
        }
        let rows = self.shared.steps.take(self.shared.read().state(), &slot.node, key, report.steps);
        if !rows.is_empty() {
            self.engine().account(rows).await;
        }
        Ok(())
    }

    /// Tells the engine what a session has said, unless the node has another one by now.
    async fn tell(&self, slot: &Slot, generation: u64, input: Input) {
        let current = slot.generation.lock().await;
        if *current == generation {
            self.engine().tell(input).await;
        }
    }

    /// Gives the node up, unless it has another session by now. A disk that is full only puts it off.
    async fn give_up(&self, slot: &Slot, generation: u64, reason: &str) {
        loop {
            {
                let current = slot.generation.lock().await;
                if *current != generation || self.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (node, reason) = (slot.node.clone(), reason.to_owned());
                let answer = self.engine().ask(Input::NodeSilent { node, reason }).await;
                match answer {
                    Err(InputError::NotStored { .. }) => {}
                    Err(InputError::Stopping | InputError::Deposed) => return,
                    Ok(_) | Err(InputError::Refused(_)) => break,
                }
            }
            tokio::time::sleep(self.silence_max).await;
        }
        tracing::warn!(node = %slot.node, reason, "a node was given up");
    }

    /// Clears the node's place, and gives the node up if it is not back in time.
    fn ended(self: &Arc<Self>, slot: &Arc<Slot>, generation: u64) {
        {
            let mut live = slot.lock_live();
            if live.as_ref().is_some_and(|session| session.generation == generation) {
                live.take();
                slot.present.send_replace(false);
            }
        }
        let (sessions, slot) = (Arc::clone(self), Arc::clone(slot));
        tokio::spawn(async move {
            tokio::time::sleep(sessions.silence_max).await;
            let reason = format!(
                "its agent's connection ended and did not come back within {} s",
                sessions.silence_max.as_secs()
            );
            sessions.give_up(&slot, generation, &reason).await;
        });
    }
}

/// All devices of a node, each name once.
fn declared_devices(node: &muster_core::state::Node) -> Vec<v1::DeclaredDevices> {
    let mut all: Vec<v1::DeclaredDevices> = Vec::new();
    for gres in &node.gres {
        match all.iter_mut().find(|known| known.name == gres.name) {
            Some(known) => known.count += gres.count,
            None => all.push(v1::DeclaredDevices {
                name: gres.name.clone(),
                count: gres.count,
                files: node.gres_files.get(&gres.name).cloned().unwrap_or_default(),
            }),
        }
    }
    all
}

async fn read_hello(name: &str, stream: &mut Streaming<v1::FromNode>) -> Result<v1::Hello, Status> {
    let late = |_| Status::deadline_exceeded(format!("no hello within {} s", HELLO_WITHIN.as_secs()));
    let first = timeout(HELLO_WITHIN, stream.message()).await.map_err(late)??;
    let Some(v1::FromNode { body: Some(v1::from_node::Body::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message must be hello"));
    };
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the agent speaks version {} of the protocol, the controller {PROTOCOL_VERSION}: install the agent \
             that belongs to this controller",
            hello.protocol_version
        )));
    }
    if hello.node != name {
        return Err(Status::permission_denied(format!(
            "the agent says that it is '{}', but its certificate was made for '{name}'",
            hello.node
        )));
    }
    Ok(hello)
}
