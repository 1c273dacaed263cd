//! The one thread that owns the engine and the store.
//!
//! It takes what is queued, lets the engine decide it, runs a scheduling pass, makes everything durable in one
//! commit, and only then lets effects and answers out. If the commit fails, nothing of the batch has happened:
//! those who asked are told so, the engine goes back to the last durable state, and if nodes were heard in it,
//! sessions are closed so that every report is said again. A leader whose lease is over lets nothing out any more.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster_core::engine::{Applied, Engine};
use muster_core::event::{Event, Record};
use muster_core::ids::Timestamp;
use muster_core::input::{Effect, Input, Refusal, Reply};
use muster_core::plan::Impossible;
use muster_store::{HistoryRow, Lease, Store, StoreError};

use crate::accounting;
use crate::diagnostics::Diagnostics;
use crate::error::ServerError;
use crate::mail::Mail;
pub use crate::orders::{EngineHandle, InputError};
use crate::orders::{Inbox, Order, ReplySender, queue};
use crate::sessions::Sessions;
use crate::shared::Shared;
use crate::snapshots::{Outcome, Snapshots};

/// How long after a failed commit work is tried again that nobody asks for.
const AGAIN_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The shortest sleep, so that a wake-up that brought nothing about cannot become a busy loop.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// The engine's thread, started by [`start`].
pub struct EngineThread {
    /// Brings inputs to it.
    pub handle: EngineHandle,
    /// Ends when the engine was stopped.
    pub thread: JoinHandle<()>,
}

/// Whom the engine tells what happened, once that is durable.
pub struct Outlets {
    /// Those who read.
    pub shared: Arc<Shared>,
    /// The nodes.
    pub sessions: Arc<Sessions>,
    /// People.
    pub mail: Mail,
    /// Those who watch the controller.
    pub diagnostics: Arc<Diagnostics>,
}

/// Starts the engine in the state that `outlets.shared` holds. Under a lease, nothing is let out once that is over.
///
/// # Errors
/// [`ServerError::System`] if there can be no thread.
pub fn start(store: Store, outlets: Outlets, lease: Option<Lease>) -> Result<EngineThread, ServerError> {
    let system = |doing| move |source| ServerError::System { doing, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(system("make the engine's timer"))?;
    let (handle, inbox) = queue();
    let writer = store.snapshot_writer().map_err(ServerError::Store)?;
    let snapshots = Snapshots::start(writer, Arc::clone(&outlets.shared), store.records_since_snapshot())?;
    let mut engine_loop = Loop {
        engine: Engine::new(outlets.shared.copy()),
        store,
        snapshots,
        outlets,
        lease,
        now: Timestamp(0),
        failed: false,
        deposed: false,
    };
    let thread = std::thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || engine_loop.run(&runtime, inbox))
        .map_err(system("start the engine's thread"))?;
    Ok(EngineThread { handle, thread })
}

struct Loop {
    engine: Engine,
    store: Store,
    snapshots: Snapshots,
    outlets: Outlets,
    /// What this controller leads under, where others stand by.
    lease: Option<Lease>,
    now: Timestamp,
    /// Whether the last commit failed.
    failed: bool,
    /// Whether the lease was found over.
    deposed: bool,
}

/// What a batch brought about, until it is durable.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    history: Vec<HistoryRow>,
    effects: Vec<Effect>,
    replies: Vec<(ReplySender, Result<Reply, Refusal>)>,
    /// Whether a node said something in it.
    heard_nodes: bool,
}

impl Batch {
    fn add(&mut self, engine: &Engine, shared: &Shared, applied: &mut Applied) {
        accounting::add_rows(&mut self.history, engine.state(), &applied.records);
        // What ended in this batch was there before it: nothing is placed and ends in one.
        let before = shared.read();
        accounting::add_follow_ups(&mut self.history, before.state(), engine.state(), &applied.records);
        drop(before);
        for record in &applied.records {
            if let Event::AttemptEnded { key, .. } | Event::AttemptRan { key, .. } = &record.event {
                self.history.extend(shared.steps.end(*key, record.at));
            }
        }
        self.records.append(&mut applied.records);
        self.effects.append(&mut applied.effects);
    }
}

impl Loop {
    /// Only waiting is asynchronous: the store blocks, and must not be used by what runs in a runtime.
    fn run(&mut self, runtime: &tokio::runtime::Runtime, mut inbox: Inbox) {
        let mut orders = Vec::new();
        loop {
            let stop = runtime.block_on(inbox.take(self.sleep(), &mut orders));
            let stop = self.turn(&mut orders) || stop;
            if self.deposed {
                return;
            }
            if stop {
                break;
            }
        }
        self.last_snapshot();
    }

    /// How long nothing has to be done.
    fn sleep(&self) -> Option<Duration> {
        if self.failed {
            return Some(AGAIN_AFTER_FAILURE);
        }
        let wake = self.engine.next_wake()?;
        Some(Duration::from_micros(wake.micros_since(self.outlets.shared.now())).max(SLEEP_MIN))
    }

    /// Decides a batch, makes it durable, and lets its consequences out. Says whether to stop.
    fn turn(&mut self, orders: &mut Vec<Order>) -> bool {
        self.now = self.outlets.shared.now();
        let mut batch = Batch::default();
        let mut stop = false;
        for order in orders.drain(..) {
            match order {
                Order::Stop => stop = true,
                Order::Rows(rows) => {
                    batch.heard_nodes = true;
                    batch.history.extend(rows);
                }
                Order::Input { input, reply } => {
                    batch.heard_nodes |= matches!(
                        input,
                        Input::NodeHello { .. } | Input::NodeReport { .. } | Input::NodeSetUp { .. }
                    );
                    let begun = Instant::now();
                    let mut applied = self.engine.apply(&input, self.now);
                    if let Some(what) = said_by_node(&input) {
                        self.outlets.diagnostics.asked(what, None, begun.elapsed());
                    }
                    if matches!(input, Input::Configure(_)) && !applied.records.is_empty() {
                        warn_of_impossible(&self.engine);
                    }
                    batch.add(&self.engine, &self.outlets.shared, &mut applied);
                    match (reply, applied.reply) {
                        (Some(reply), answer) => batch.replies.push((reply, answer)),
                        (None, Err(refusal)) => tracing::warn!(%refusal, "an input was refused"),
                        (None, Ok(_)) => {}
                    }
                }
            }
        }
        if self.engine.next_wake().is_some_and(|wake| wake <= self.now) {
            let mut applied = self.engine.apply(&Input::Tick, self.now);
            batch.add(&self.engine, &self.outlets.shared, &mut applied);
        }
        if !stop {
            let mut applied = self.pass();
            batch.add(&self.engine, &self.outlets.shared, &mut applied);
        }
        self.finish(batch);
        stop
    }

    /// One scheduling pass, if one is due.
    fn pass(&mut self) -> Applied {
        let begun = Instant::now();
        let applied = self.engine.pass(self.now);
        if let Some(effort) = applied.effort {
            let waiting = self.engine.state().queue_len();
            self.outlets.diagnostics.passed(effort, begun.elapsed(), self.now, waiting);
        }
        applied
    }

    fn finish(&mut self, mut batch: Batch) {
        batch.records = Record::gathered(batch.records);
        match self.store.append(&batch.records, &batch.history) {
            Ok(()) => self.let_out(batch),
            Err(error @ StoreError::Deposed { .. }) => return self.step_down(batch, &error),
            Err(error) => self.take_back(batch, &error),
        }
        if let Some(outcome) = self.snapshots.outcome() {
            self.note(outcome);
        }
        if !self.failed {
            self.snapshots.request_if_due(self.now);
        }
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Ok(snapshot) => self.store.snapshot_taken(snapshot),
            Err(error) => tracing::warn!(error = %chain(&error), "cannot take a snapshot"),
        }
    }

    /// At the end, so that the next start has nothing to replay.
    fn last_snapshot(&mut self) {
        if let Some(outcome) = self.snapshots.wait() {
            self.note(outcome);
        }
        if let Err(error) = self.store.snapshot(self.engine.state(), self.now) {
            tracing::warn!(error = %chain(&error), "cannot take a snapshot; the next start replays the journal");
        }
    }

    fn let_out(&mut self, mut batch: Batch) {
        if self.failed && !batch.records.is_empty() {
            tracing::info!("the controller can store again");
            self.failed = false;
        }
        self.outlets.shared.publish(&batch.records, self.engine.state());
        self.snapshots.stored(&batch.records);
        self.outlets.diagnostics.happened(&batch.records);
        // What was stored is true whoever leads, but what follows from it is for the leader to say: this one may have been
        // frozen since.
        self.deposed = self.lease.as_ref().is_some_and(|lease| !lease.is_valid());
        if self.deposed {
            batch.effects.clear();
        } else {
            self.outlets.mail.tell(self.engine.state(), &batch.records);
        }
        self.outlets.sessions.carry_out(self.engine.state(), &batch.effects);
        for (reply, answer) in batch.replies {
            let _ = reply.send(answer.map_err(InputError::Refused));
        }
    }

    /// Lets nothing of the batch out: whether it was stored, the next leader knows.
    fn step_down(&mut self, batch: Batch, error: &StoreError) {
        tracing::warn!(error = %chain(error), records = batch.records.len(), "the engine ends");
        self.deposed = true;
        for (reply, _) in batch.replies {
            let _ = reply.send(Err(InputError::Deposed));
        }
    }

    fn take_back(&mut self, batch: Batch, error: &StoreError) {
        let reason = chain(error);
        tracing::error!(
            error = %reason,
            records = batch.records.len(),
            "cannot store; nothing of this batch has happened"
        );
        self.failed = true;
        self.engine = Engine::new(self.outlets.shared.copy());
        if batch.heard_nodes {
            // What they said is lost here; a new session begins with everything they hold.
            self.outlets.sessions.close_all("the controller could not store what it heard");
        }
        // Refusals as well may rest on what did not happen.
        for (reply, _) in batch.replies {
            let _ = reply.send(Err(InputError::NotStored { reason: reason.clone() }));
        }
    }
}

/// What a node says, for those who count it.
fn said_by_node(input: &Input) -> Option<&'static str> {
    match input {
        Input::NodeHello { .. } => Some("node hello"),
        Input::NodeReport { .. } => Some("node report"),
        Input::NodeHealth { .. } => Some("node health"),
        _ => None,
    }
}

/// Names the waiting jobs that a new configuration leaves without any place.
fn warn_of_impossible(engine: &Engine) {
    const NAMED_MAX: usize = 10;
    for Impossible { reason, jobs } in engine.impossible() {
        let named: Vec<String> = jobs.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = if jobs.len() > NAMED_MAX { ", ..." } else { "" };
        tracing::warn!(
            count = jobs.len(),
            jobs = %format!("{}{more}", named.join(", ")),
            %reason,
            "waiting jobs can never run with this configuration"
        );
    }
}

/// An error with its causes, for a line of the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
