//! The life of a session: from the hello, over all that the node says, to the end, after which the node is given up unless it comes
//! back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use muster_core::input::{Input, Reply};
use muster_wire::{PROTOCOL_VERSION, v1};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_stream::Stream as _;
use tonic::{Status, Streaming};

use super::{CloseReason, LiveSession, Outbox, Sessions, Slot};
use crate::engine_loop::InputError;
use crate::translate;

/// Messages of a node that are looked at together at most.
const HEARD_AT_ONCE_MAX: usize = 256;
/// How long a node may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

impl Sessions {
    /// A session from its hello to its end. `keeps_common` is set if its node keeps what prepares have in common.
    pub(super) async fn keep(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        mut stream: Streaming<v1::FromNode>,
        first: Outbox,
        outbox: Outbox,
        keeps_common: &AtomicBool,
    ) -> Result<(), Status> {
        let welcome = self.welcome(&slot.node)?;
        let hello = read_hello(&slot.node, &mut stream).await?;
        keeps_common.store(hello.keeps_common, Ordering::Relaxed);
        let (close, mut closed) = oneshot::channel();
        let (generation, answer) = self.begin(slot, hello, outbox, close).await?;
        if let Err(error) = answer {
            self.ended(slot, generation);
            return Err(Status::unavailable(error.to_string()));
        }
        // What the node is to have follows from its hello, which may have been one after a restart.
        let _ = first.try_send(Box::new(Ok(self.with_setup(&slot.node, welcome).into())));
        drop(first);
        tracing::info!(node = %slot.node, "a session began");
        // One alarm for the whole session, set anew only when it goes off: nodes say thousands of things in a second.
        let mut heard = Instant::now();
        let mut silence = std::pin::pin!(sleep(self.silence_max));
        let end = loop {
            let message = tokio::select! {
                // A message that is there counts, however late it is looked at.
                biased;
                reason = &mut closed => {
                    let reason = reason.unwrap_or("the session was replaced by a newer one");
                    break Err(Status::aborted(reason));
                }
                message = stream.message() => message,
                () = &mut silence => {
                    let until = heard + self.silence_max;
                    if Instant::now() < until {
                        silence.as_mut().reset(until.into());
                        continue;
                    }
                    let reason = format!("nothing was heard of it for {} s", self.silence_max.as_secs());
                    self.give_up(slot, generation, &reason).await;
                    break Err(Status::deadline_exceeded(reason));
                }
            };
            match message {
                Ok(Some(message)) => {
                    let (messages, end) = with_what_is_there(message, &mut stream);
                    if let Err(status) = self.heard_all(slot, generation, messages).await {
                        break Err(status);
                    }
                    // Not before: while the engine is busy, what the node has said since waits.
                    heard = Instant::now();
                    if let Some(end) = end {
                        break end;
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
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

    /// What a node has said, which is brought to the engine together, in its order.
    async fn heard_all(
        &self,
        slot: &Slot,
        generation: u64,
        messages: Vec<v1::FromNode>,
    ) -> Result<(), Status> {
        let mut inputs = Vec::with_capacity(messages.len());
        let mut heard = Ok(());
        for message in messages {
            match self.heard(slot, generation, message).await {
                Ok(input) => inputs.extend(input),
                Err(status) => {
                    heard = Err(status);
                    break;
                }
            }
        }
        self.tell(slot, generation, inputs).await;
        heard
    }

    /// What a node has said, and what the engine is to be told of it.
    async fn heard(
        &self,
        slot: &Slot,
        generation: u64,
        message: v1::FromNode,
    ) -> Result<Option<Input>, Status> {
        use v1::from_node::Body;
        let node = || slot.node.clone();
        match message.body {
            Some(Body::Report(report)) => {
                let report =
                    translate::report(report).map_err(|e| Status::invalid_argument(e.to_string()))?;
                return Ok(Some(Input::NodeReport { node: node(), report }));
            }
            Some(Body::Health(health)) => {
                let problem = translate::problem(&health);
                return Ok(Some(Input::NodeHealth { node: node(), problem }));
            }
            Some(Body::Setup(done)) => {
                let errors = translate::setup_errors(&done);
                return Ok(Some(Input::NodeSetUp { node: node(), number: done.number, errors }));
            }
            Some(Body::Heartbeat(beat)) => {
                if let Some(used) = &beat.used {
                    self.uses.heard(&slot.node, used, Instant::now());
                }
            }
            Some(Body::Steps(steps)) => self.heard_steps(slot, generation, steps).await?,
            Some(Body::File(reply)) => self.files.heard(&slot.node, reply),
            Some(Body::Hello(_)) => return Err(Status::invalid_argument("hello was said twice")),
            None => return Err(Status::invalid_argument("the message is empty, or of a later version")),
        }
        Ok(None)
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
    async fn tell(&self, slot: &Slot, generation: u64, inputs: Vec<Input>) {
        if inputs.is_empty() {
            return;
        }
        let current = slot.generation.lock().await;
        if *current == generation {
            self.engine().tell_all(inputs).await;
        }
    }

    /// Gives the node up, unless it has another session by now. A disk that is full only puts it off.
    pub(super) async fn give_up(&self, slot: &Slot, generation: u64, reason: &str) {
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

/// A message with those that came with it or after it and are there already, and the session's end, if that is there too.
fn with_what_is_there(
    first: v1::FromNode,
    stream: &mut Streaming<v1::FromNode>,
) -> (Vec<v1::FromNode>, Option<Result<(), Status>>) {
    let mut messages = vec![first];
    // Nobody has to be woken by these looks: whoever waits for the next message looks again.
    let mut look = Context::from_waker(Waker::noop());
    while messages.len() < HEARD_AT_ONCE_MAX {
        match Pin::new(&mut *stream).poll_next(&mut look) {
            Poll::Ready(Some(Ok(message))) => messages.push(message),
            Poll::Ready(Some(Err(status))) => return (messages, Some(Err(status))),
            Poll::Ready(None) => return (messages, Some(Ok(()))),
            Poll::Pending => break,
        }
    }
    (messages, None)
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
