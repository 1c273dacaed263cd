//! Sessions of node agents: one for each node, over mutual TLS.
//!
//! A new hello of a node ends its older session, and what that still says is dropped. A node that is silent for
//! too long, or whose session ended and that does not come back in that time, is given up.

mod life;
mod service;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use muster_core::cores::CORES_PER_NODE_MAX;
use muster_core::ids::NodeId;
use muster_core::input::Effect;
use muster_core::state::{Power, State};
use muster_wire::{Told, v1};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};
use tonic::Status;

pub use self::service::NodeService;
use crate::batch_site::BatchSite;
use crate::engine_loop::EngineHandle;
use crate::files::Files;
use crate::node_uses::NodeUses;
use crate::packages::Packages;
use crate::secrets::Secrets;
use crate::shared::Shared;
use crate::tls::Authority;
use crate::translate::Translator;

/// Messages that may wait for a slow node before its session is closed. It says hello again, and hears what it
/// missed. A node of the most cores may be told of the end and of the next task of each of them at once, and once more before it
/// has read that.
const OUTBOX_MAX: usize = 4 * CORES_PER_NODE_MAX as usize;

/// Boxed: a channel has room for 32 messages as soon as it has held one, which would be 35 KiB for each idle node.
type Outgoing = Box<Result<Told, Status>>;
type Outbox = mpsc::Sender<Outgoing>;

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
    uses: NodeUses,
    translator: Translator,
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

    fn outbox(&self) -> Option<Outbox> {
        self.lock_live().as_ref().map(|session| session.outbox.clone())
    }

    fn close(&self, reason: CloseReason) {
        if let Some(session) = self.lock_live().take() {
            let _ = session.close.send(reason);
            self.present.send_replace(false);
        }
    }

    /// Closes the session of this outbox, unless the node has another one by now.
    fn close_if_of(&self, outbox: &Outbox, reason: CloseReason) {
        let is_it = |session: &mut LiveSession| session.outbox.same_channel(outbox);
        let session = self.lock_live().take_if(is_it);
        if let Some(session) = session {
            let _ = session.close.send(reason);
            self.present.send_replace(false);
        }
    }
}

/// What a node is to be told in one turn of the engine.
struct ToTell {
    slot: Arc<Slot>,
    /// Where it goes, if the node has a session.
    outbox: Option<Outbox>,
    /// How many effects of the turn are for it.
    effects: usize,
    messages: Vec<Outgoing>,
}

impl ToTell {
    fn new(slot: Arc<Slot>) -> Self {
        let outbox = slot.outbox();
        Self { slot, outbox, effects: 0, messages: Vec::new() }
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
        let (files, uses, translator) = (Files::default(), NodeUses::default(), Translator::default());
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
            uses,
            translator,
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
        if let Some(slot) = slots.get(node) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            node: node.to_owned(),
            generation: AsyncMutex::new(0),
            live: Mutex::new(None),
            present: watch::channel(false).0,
        });
        slots.insert(node.to_owned(), Arc::clone(&slot));
        slot
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

    /// Tells nodes what effects want of them. A node without a session hears it after its next hello, because the engine says then
    /// again what the node should know and does not.
    pub fn carry_out(&self, state: &State, effects: &[Effect]) {
        let mut nodes: HashMap<NodeId, ToTell> = HashMap::new();
        for effect in effects {
            let to_tell = || ToTell::new(self.slot(&state.node(effect.node()).name));
            nodes.entry(effect.node()).or_insert_with(to_tell).effects += 1;
        }
        // In their order, because what a gang is told alike is made for the one that was told of last.
        for effect in effects {
            let Some(to_tell) = nodes.get_mut(&effect.node()) else { continue };
            let Some(outbox) = &to_tell.outbox else { continue };
            let told = self.translator.message(state, &self.secrets, self.batch.as_ref(), effect);
            to_tell.messages.push(Box::new(Ok(told)));
            if to_tell.messages.len() < to_tell.effects {
                continue;
            }
            // All that there is for a node goes at once: its session is woken once, and sends it in one piece.
            if to_tell.messages.drain(..).try_for_each(|message| outbox.try_send(message)).is_err() {
                to_tell.slot.close_if_of(outbox, "the node does not take what it is told");
            }
        }
    }

    /// The files of tasks on nodes.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// What nodes use.
    #[must_use]
    pub fn uses(&self) -> &NodeUses {
        &self.uses
    }

    /// Tells a node something that is not the engine's. Says whether it has a session that takes it.
    pub(crate) fn tell_node(&self, node: &str, message: v1::ToNode) -> bool {
        self.slot(node).outbox().is_some_and(|outbox| outbox.try_send(Box::new(Ok(message.into()))).is_ok())
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
