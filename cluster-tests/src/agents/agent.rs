//! The life of one agent: sessions, one after another, and what it says in them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_wire::v1::from_node::Body as Said;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::node_controller_client::NodeControllerClient;
use muster_wire::v1::to_node::Body as Told;
use muster_wire::{Kept, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::Conduct;
use super::counts::Counts;
use super::gate::{Connector, Gate};
use super::lines::Lines;

/// The argument of a script that runs until it is stopped.
pub const STAYS: &str = "stays";

// As the real agent (`launcher/node/src/agent/link.rs`).
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
const ALIVE_EVERY: Duration = Duration::from_secs(3);
const ALIVE_WITHIN: Duration = Duration::from_secs(3);
const OUTBOX_MAX: usize = 8192;
/// A start that is over within this time is told with its end.
const TOLD_WITH_END: Duration = Duration::from_millis(20);
/// How often the node tells what it uses.
const USE_EVERY: Duration = Duration::from_secs(5);

/// What an agent is made of.
pub(super) struct Parts {
    pub name: String,
    pub cores: u32,
    pub controller: SocketAddr,
    pub gate: Arc<Gate>,
    pub conduct: watch::Receiver<Conduct>,
    pub counts: Arc<Counts>,
}

/// An attempt: its job, its task, and which try it is.
pub(super) type Key = (u64, u32, u32);

pub(super) struct Agent {
    parts: Parts,
    endpoint: Endpoint,
    held: HashMap<Key, Held>,
    lines: Lines,
    /// Tasks whose time is over.
    over: (mpsc::UnboundedSender<Key>, mpsc::UnboundedReceiver<Key>),
    outbox: Option<mpsc::Sender<v1::FromNode>>,
    heartbeat: Option<Interval>,
    sequence: u64,
    told_use: Instant,
}

/// An instance.
struct Held {
    key: v1::AttemptKey,
    instance: u32,
    runs_for: RunsFor,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum RunsFor {
    Time(Duration),
    /// Until it is stopped.
    Ever,
}

impl Held {
    fn report(&self) -> v1::InstanceReport {
        let phase = Some(self.phase.clone());
        v1::InstanceReport {
            key: Some(self.key),
            instance: self.instance,
            phase,
            ..v1::InstanceReport::default()
        }
    }
}

impl Agent {
    pub(super) fn new(
        parts: Parts,
        tls: ClientTlsConfig,
        asks_whether_alive: bool,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("https://{}", parts.controller))?
            .tls_config(tls)?
            .connect_timeout(CONNECT_WITHIN);
        let endpoint = match asks_whether_alive {
            true => endpoint
                .http2_keep_alive_interval(ALIVE_EVERY)
                .keep_alive_timeout(ALIVE_WITHIN)
                .keep_alive_while_idle(true),
            false => endpoint,
        };
        Ok(Self {
            parts,
            endpoint,
            held: HashMap::new(),
            lines: Lines::default(),
            over: mpsc::unbounded_channel(),
            outbox: None,
            heartbeat: None,
            sequence: 0,
            told_use: Instant::now(),
        })
    }

    /// Keeps a session for ever, as far as it is to behave so.
    pub(super) async fn live(mut self) {
        let mut pause = AGAIN_AFTER.0;
        loop {
            let may_connect = |conduct: &Conduct| matches!(conduct, Conduct::Present | Conduct::Deaf);
            if self.parts.conduct.wait_for(may_connect).await.is_err() {
                return;
            }
            let mut was_up = false;
            // Why it ended does not matter here: it is made again, as a real one.
            let _ = self.session(&mut was_up).await;
            (self.outbox, self.heartbeat) = (None, None);
            if *self.parts.conduct.borrow() == Conduct::Killed {
                self.lines = Lines::default();
            }
            if was_up {
                self.parts.counts.change(|counted| counted.sessions -= 1);
                pause = AGAIN_AFTER.0;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER.1);
        }
    }

    async fn session(&mut self, was_up: &mut bool) -> Result<(), Status> {
        let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        let late = |_| Status::deadline_exceeded("the controller does not answer");
        let connector = Connector { address: self.parts.controller, gate: Arc::clone(&self.parts.gate) };
        let connecting = self.endpoint.connect_with_connector(connector);
        let channel = timeout(CONNECT_WITHIN, connecting).await.map_err(late)?.map_err(unavailable)?;
        let (outbox, messages) = mpsc::channel(OUTBOX_MAX);
        self.outbox = Some(outbox);
        self.say(Said::Hello(self.hello()));
        let mut client = NodeControllerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let answer = timeout(CONNECT_WITHIN, client.session(ReceiverStream::new(messages))).await;
        let mut stream = answer.map_err(late)??.into_inner();
        let mut kept = Kept::default();
        // The end of the outbox ends the session.
        while self.outbox.is_some() {
            tokio::select! {
                message = stream.message() => match message? {
                    Some(v1::ToNode { body: Some(mut told) }) => {
                        if let Told::Prepare(prepare) = &mut told {
                            kept.complete(prepare).map_err(|error| Status::data_loss(error.to_string()))?;
                        }
                        self.hear(told, was_up);
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                Some(key) = self.over.1.recv() => self.end(key),
                () = tick(&mut self.heartbeat) => self.beat(),
                changed = self.parts.conduct.changed() => {
                    if changed.is_err() || *self.parts.conduct.borrow() == Conduct::Killed {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, body: Said) {
        let Some(outbox) = &self.outbox else { return };
        if outbox.try_send(v1::FromNode { body: Some(body) }).is_err() {
            self.outbox = None;
        }
    }

    fn hello(&self) -> v1::Hello {
        let core = |i| v1::Core { package: 0, numa: 0, l3: 0, cpus: vec![i] };
        v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            node: self.parts.name.clone(),
            boot_id: "played".to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            topology: Some(v1::Topology {
                cores: (0..self.parts.cores).map(core).collect(),
                memory_bytes: 1 << 40,
                devices: Vec::new(),
            }),
            held: self.held.values().map(Held::report).chain(self.lines.all().map(preparing)).collect(),
            address: "127.0.0.1".to_owned(),
            containment: v1::Containment::CgroupV2.into(),
            takes_lines: true,
            keeps_common: true,
        }
    }

    fn beat(&mut self) {
        self.sequence += 1;
        let is_due = self.told_use.elapsed() >= USE_EVERY;
        let used = is_due.then(|| {
            let period = std::mem::replace(&mut self.told_use, Instant::now()).elapsed();
            v1::NodeUse {
                period_ms: u32::try_from(period.as_millis()).unwrap_or(u32::MAX),
                cpu_hundredths: 5_000,
                memory_bytes: 16 << 30,
                disk_bytes: 100 << 30,
                load_hundredths: Some(400),
                memory_free_bytes: Some(8 << 30),
                ..v1::NodeUse::default()
            }
        });
        self.say(Said::Heartbeat(v1::Heartbeat { sequence: self.sequence, used }));
    }

    fn hear(&mut self, told: Told, was_up: &mut bool) {
        match told {
            Told::Welcome(welcome) => {
                let every = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(1)));
                let mut heartbeat = interval_at(Instant::now() + every, every);
                heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
                self.heartbeat = Some(heartbeat);
                if !std::mem::replace(was_up, true) {
                    self.parts.counts.change(|counted| {
                        counted.sessions += 1;
                        counted.welcomed += 1;
                    });
                }
                self.say(Said::Health(v1::Health::default()));
            }
            Told::Prepare(prepare) => self.prepare(prepare),
            Told::Go(go) => self.go(go.key.unwrap_or_default()),
            Told::Stop(stop) => self.stop(stop.key.unwrap_or_default()),
            Told::Forget(forget) => {
                self.held.remove(&order(&forget.key.unwrap_or_default()));
                self.parts.counts.change(|counted| counted.forgotten += 1);
            }
            Told::Signal(_) | Told::File(_) | Told::Setup(_) => {}
        }
    }

    fn prepare(&mut self, prepare: v1::Prepare) {
        let key = prepare.key.unwrap_or_default();
        if let Some(held) = self.held.get(&order(&key)) {
            let report = held.report();
            return self.say(Said::Report(report));
        }
        if self.lines.has(order(&key)) {
            return self.say(Said::Report(preparing(&prepare)));
        }
        if let Some(after) = prepare.after.as_ref().map(order)
            && !matches!(self.held.get(&after), Some(Held { phase: Phase::Gone(_), .. }))
        {
            let is_there = self.held.contains_key(&after) || self.lines.has(after);
            if is_there && self.lines.add(after, prepare) {
                return self.parts.counts.change(|counted| counted.prepared += 1);
            }
            let phase = Some(gone(v1::gone::How::Returned(v1::Returned {}), 0));
            let report = v1::InstanceReport { key: Some(key), phase, ..Default::default() };
            return self.say(Said::Report(report));
        }
        self.parts.counts.change(|counted| counted.prepared += 1);
        self.begin(&prepare);
    }

    /// Begins with an attempt that is new here and waits for nobody.
    fn begin(&mut self, prepare: &v1::Prepare) {
        let key = prepare.key.unwrap_or_default();
        let work = prepare.decode_work().ok().flatten();
        let argument = work.as_ref().and_then(|work| work.arguments.first());
        let runs_for = match argument.map_or("0", String::as_str) {
            STAYS => RunsFor::Ever,
            millis => RunsFor::Time(Duration::from_millis(millis.parse().unwrap_or(0))),
        };
        let phase = Phase::Preparing(v1::Preparing {});
        self.held.insert(order(&key), Held { key, instance: prepare.instance, runs_for, phase });
        if prepare.at_once {
            return self.run(key);
        }
        self.tell(key, Phase::Preparing(v1::Preparing {}));
        let endpoint = v1::Endpoint {
            host: self.parts.name.clone(),
            address: "127.0.0.1".to_owned(),
            ssh_port: 40_000,
            ssh_host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"
                .to_owned(),
            gang_port: if prepare.instance == 0 { 40_001 } else { 0 },
        };
        self.tell(key, Phase::Ready(v1::Ready { endpoint: Some(endpoint) }));
    }

    fn go(&mut self, key: v1::AttemptKey) {
        let held = self.held.get(&order(&key)).map(|held| &held.phase);
        if matches!(held, Some(Phase::Ready(_))) {
            self.parts.counts.change(|counted| counted.told_to_go += 1);
            self.run(key);
        }
    }

    /// The script runs, or on another node than the primary's whatever it starts there.
    fn run(&mut self, key: v1::AttemptKey) {
        let Some(held) = self.held.get(&order(&key)) else { return };
        let (is_primary, runs_for) = (held.instance == 0, held.runs_for);
        match runs_for {
            RunsFor::Time(time) if is_primary && time <= TOLD_WITH_END => self.end(order(&key)),
            RunsFor::Time(time) if is_primary => {
                self.tell(key, Phase::Running(v1::Running { started_at_us: now_us() }));
                let over = self.over.0.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    let _ = over.send(order(&key));
                });
            }
            // The others end with the primary, which here the controller tells them.
            _ => self.tell(key, Phase::Running(v1::Running { started_at_us: now_us() })),
        }
    }

    /// The script has ended.
    fn end(&mut self, key: Key) {
        let Some(held) = self.held.get(&key).filter(|held| !matches!(held.phase, Phase::Gone(_))) else {
            return;
        };
        let attempt = held.key;
        self.parts.counts.change(|counted| counted.ended += 1);
        let exited = v1::Exited { code: 0, signal: 0, out_of_memory: false };
        self.tell(attempt, gone(v1::gone::How::Exited(exited), now_us()));
    }

    fn stop(&mut self, key: v1::AttemptKey) {
        self.lines.take_out(order(&key));
        let gone = gone(v1::gone::How::Stopped(v1::Stopped {}), 0);
        let Some(held) = self.held.get(&order(&key)) else {
            let report = v1::InstanceReport { key: Some(key), phase: Some(gone), ..Default::default() };
            return self.say(Said::Report(report));
        };
        if matches!(held.phase, Phase::Gone(_)) {
            let report = held.report();
            return self.say(Said::Report(report));
        }
        self.parts.counts.change(|counted| counted.stopped += 1);
        self.tell(key, gone);
    }

    /// Keeps the phase, for the next hello, and says it.
    fn tell(&mut self, key: v1::AttemptKey, phase: Phase) {
        let Some(held) = self.held.get_mut(&order(&key)) else { return };
        held.phase = phase;
        let report = held.report();
        let is_over = matches!(held.phase, Phase::Gone(_));
        self.say(Said::Report(report));
        if is_over && let Some(next) = self.lines.next(order(&key)) {
            self.begin(&next);
        }
    }
}

/// The report about one that waits, or has begun only now.
fn preparing(prepare: &v1::Prepare) -> v1::InstanceReport {
    let phase = Some(Phase::Preparing(v1::Preparing {}));
    v1::InstanceReport {
        key: prepare.key,
        instance: prepare.instance,
        phase,
        ..v1::InstanceReport::default()
    }
}

pub(super) fn order(key: &v1::AttemptKey) -> Key {
    (key.job, key.task, key.attempt)
}

fn gone(how: v1::gone::How, started_at_us: u64) -> Phase {
    let usage = v1::Usage { cpu_time_us: 1_000, memory_peak_bytes: 1 << 20, ..v1::Usage::default() };
    Phase::Gone(v1::Gone { how: Some(how), usage: Some(usage), started_at_us, ended_at_us: now_us() })
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

async fn tick(heartbeat: &mut Option<Interval>) {
    match heartbeat {
        Some(heartbeat) => {
            heartbeat.tick().await;
        }
        None => std::future::pending().await,
    }
}
