//! The agent: the node's side of the session with the controller.
//!
//! One loop owns everything. It hears the controller (`link`), the supervisors (`supervisors`) and people who ask
//! for its status (`status`), and keeps one record for each held attempt (`registry`). The agent holds nothing
//! that is not on the disk or in a supervisor as well: it may be killed at any instant and start again.

mod desk;
mod found;
mod health;
mod janitor;
mod lines;
pub mod link;
pub mod lock;
mod places;
mod registry;
mod setup;
mod shared;
pub mod status;
mod supervisors;
mod used;

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_topo::{CoreMap, Topology};
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{self, FromNode, ToNode, from_node, to_node};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{AgentConfig, AgentDir};
use crate::containers::Images;
use crate::containment::Containment;
use crate::error::{NodeError, Result};
use crate::folders::Records;
use health::Checks;
use link::LinkEvent;
use registry::Registry;

/// The version that the agent says to the controller.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How many events of supervisors may wait for the agent.
const EVENTS_MAX: usize = 1024;

/// How many messages to the controller may wait: the start and the end of all that a node holds. A link that takes none for so long is
/// as good as cut, and is made again; its hello then says everything anew.
const OUTBOX_MAX: usize = 2 * registry::HELD_MAX;

/// What the node knows about itself, for as long as the agent runs.
#[derive(Debug)]
struct Node {
    dir: AgentDir,
    config: AgentConfig,
    topology: Topology,
    containment: Containment,
    boot_id: String,
    bin_dir: PathBuf,
    sshd: PathBuf,
}

/// Where OpenSSH's server may lie.
const SSHD_PLACES: [&str; 4] =
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/usr/local/bin/sshd"];

impl Node {
    fn find(dir: AgentDir) -> Result<Self> {
        let config = dir.config()?;
        let topology = Topology::discover().map_err(NodeError::Cores)?;
        open_way(&dir, &dir.work(&config));
        let containment = Containment::detect(&config.cgroup);
        let program = std::env::current_exe().map_err(NodeError::system("find the agent's own program"))?;
        let bin_dir = config.bin_dir.clone().or_else(|| program.parent().map(Into::into)).unwrap_or_default();
        let found = SSHD_PLACES.into_iter().map(PathBuf::from).find(|place| place.is_file());
        let sshd = config.sshd.clone().or(found).unwrap_or_else(|| SSHD_PLACES[0].into());
        Ok(Self { boot_id: crate::process::boot_id(), dir, config, topology, containment, bin_dir, sshd })
    }

    /// Declared cores to the kernel's CPUs, as the controller wants it.
    fn core_map(&self, welcome: Option<&v1::Welcome>) -> Result<CoreMap> {
        match welcome {
            Some(welcome) if welcome.wrap_cores => {
                CoreMap::wrap(&self.topology, welcome.declared_cores).map_err(NodeError::Cores)
            }
            _ => Ok(CoreMap::exact(&self.topology)),
        }
    }

    fn wire_topology(&self) -> v1::Topology {
        let cores = self.topology.cores.iter().map(|core| v1::Core {
            package: core.package,
            numa: core.numa,
            l3: core.l3,
            cpus: core.pus.clone(),
        });
        let devices = self.topology.devices.iter().map(|device| v1::Device {
            name: device.name.to_owned(),
            numa: device.numa,
            package: device.package,
            pci_address: device.pci_address.clone(),
        });
        v1::Topology {
            cores: cores.collect(),
            memory_bytes: self.topology.memory_bytes,
            devices: devices.collect(),
        }
    }
}

/// Lets users pass through the agent's folder where the folders of their tasks are in it. They cannot list it, and what
/// else is in it is closed itself.
fn open_way(dir: &AgentDir, work: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if !work.starts_with(dir.path()) {
        return;
    }
    let opened = std::fs::metadata(dir.path()).and_then(|about| {
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o011 == 0o011 {
            return Ok(());
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode | 0o011))
    });
    if let Err(error) = opened {
        tracing::warn!(%error, "tasks may not reach their folders below the agent's own");
    }
}

/// Runs the agent until a SIGTERM or SIGINT. Attempts go on without it.
///
/// # Errors
///
/// [`NodeError`] if it cannot start: another agent holds the folder, the settings are wrong, or the topology cannot
/// be read.
pub fn run(dir: AgentDir) -> Result<()> {
    let _lock = lock::Lock::take(&dir)?;
    crate::process::go_ahead_of_work();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(NodeError::system("start the runtime"))?;
    let node = Node::find(dir)?;
    if let Err(error) = node.containment.shelter("agent") {
        tracing::warn!(error = error.sentence(), "the agent stays in the group of whoever started it");
    }
    runtime.block_on(Agent::new(node)?.serve())
}

struct Agent {
    holder: lock::Holder,
    registry: Registry,
    events: mpsc::Receiver<supervisors::Event>,
    link_events: mpsc::Receiver<LinkEvent>,
    status: mpsc::Receiver<status::Question>,
    /// Where messages to the controller go while there is a session.
    outbox: Option<mpsc::Sender<FromNode>>,
    controller: Option<String>,
    address: Option<String>,
    heartbeat: Option<tokio::time::Interval>,
    sequence: u64,
    /// The site's health check, while it is to run.
    checks: Option<Checks>,
    health_to: mpsc::Sender<Option<String>>,
    health: mpsc::Receiver<Option<String>>,
    /// What the health check found last.
    problem: Option<String>,
    /// Answers to requests for files, as they become ready.
    replies_to: mpsc::Sender<v1::FileReply>,
    replies: mpsc::Receiver<v1::FileReply>,
    /// How many requests for files are being worked on.
    asked: usize,
    /// What the last look at the folders of tasks found, while the next one is not under way.
    looks_to: mpsc::Sender<janitor::Looked>,
    looks: mpsc::Receiver<janitor::Looked>,
    is_looking: bool,
    /// Why the disk lets the node take no work.
    disk_problem: Option<String>,
    /// What the node is to have for the pool that has it.
    setups: setup::Setups,
    setups_done: mpsc::Receiver<v1::SetupDone>,
    /// Looks at what the node uses, while there is a session.
    meter: Option<used::Meter>,
    /// Reports that are told together, at this instant at the latest.
    to_tell: Vec<v1::InstanceReport>,
    tell_at: Option<Instant>,
}

impl Agent {
    fn new(node: Node) -> Result<Self> {
        // Everything that tasks of the runtime need is made in `serve`; channels may be made here.
        let (events_to, events) = mpsc::channel(EVENTS_MAX);
        let (links_to, link_events) = mpsc::channel(64);
        let (questions_to, status) = mpsc::channel(16);
        let (health_to, health) = mpsc::channel(1);
        let (replies_to, replies) = mpsc::channel(desk::AT_ONCE_MAX);
        let (looks_to, looks) = mpsc::channel(1);
        let (done_to, setups_done) = mpsc::channel(1);
        let holder = lock::Holder::own(&node.dir);
        let registry = Registry::new(node, events_to, links_to, questions_to)?;
        Ok(Self {
            holder,
            registry,
            events,
            link_events,
            status,
            outbox: None,
            controller: None,
            address: None,
            heartbeat: None,
            sequence: 0,
            checks: None,
            health_to,
            health,
            problem: None,
            replies_to,
            replies,
            asked: 0,
            looks_to,
            looks,
            is_looking: false,
            disk_problem: None,
            setups: setup::Setups::new(done_to),
            setups_done,
            meter: None,
            to_tell: Vec::new(),
            tell_at: None,
        })
    }

    async fn serve(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::system("await SIGTERM"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::system("await SIGINT"))?;
        self.registry.begin().await?;
        crate::daemon::say_ready();
        tracing::info!(node = self.registry.node.config.node, version = VERSION, "the agent serves");
        let mut look = tokio::time::interval(janitor::EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(event) = self.events.recv() => {
                    for steps in self.registry.steps(&event) {
                        self.send(from_node::Body::Steps(steps));
                    }
                    for report in self.registry.on_supervisor(event) {
                        self.report(report);
                    }
                }
                () = until(self.registry.lines.return_at()) => {
                    for report in self.registry.lines.give_back(Instant::now()) {
                        self.report(report);
                    }
                }
                () = until(self.tell_at) => self.tell(),
                Some(event) = self.link_events.recv() => self.on_link(event),
                Some(problem) = self.health.recv() => self.on_health(problem),
                Some(question) = self.status.recv() => self.answer(question),
                Some(reply) = self.replies.recv() => {
                    self.asked -= 1;
                    self.send(from_node::Body::File(reply));
                }
                _ = look.tick() => self.look_at_folders(),
                Some(looked) = self.looks.recv() => self.on_looked(looked),
                Some(done) = self.setups_done.recv() => {
                    if let Some(done) = self.setups.ended(&self.registry.node, done) {
                        self.send(from_node::Body::Setup(done));
                    }
                }
                () = tick(&mut self.heartbeat) => {
                    self.sequence += 1;
                    self.registry.let_idle_go();
                    crate::daemon::limit_log(&self.registry.node.dir);
                    let used = self.meter.as_ref().and_then(used::Meter::take);
                    let beat = v1::Heartbeat { sequence: self.sequence, used };
                    self.send(from_node::Body::Heartbeat(beat));
                }
            }
        }
        tracing::info!("the agent ends; attempts go on");
        Ok(())
    }

    fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { outbox, controller, local_address } => {
                tracing::info!(controller, "connected");
                self.outbox = Some(outbox);
                self.controller = Some(controller);
                let address = self.registry.node.config.address.clone();
                self.address = Some(address.unwrap_or(local_address));
                self.registry.address = self.address.clone().unwrap_or_default();
                // It says all that there is to tell.
                self.to_tell.clear();
                let hello = self.hello();
                self.send(from_node::Body::Hello(hello));
                for steps in self.registry.all_steps() {
                    self.send(from_node::Body::Steps(steps));
                }
            }
            LinkEvent::Heard(message) => self.on_controller(*message),
            LinkEvent::Down { reason } => {
                tracing::warn!(reason, "no session with the controller");
                self.outbox = None;
                self.controller = None;
                self.heartbeat = None;
                self.meter = None;
            }
        }
    }

    fn on_controller(&mut self, message: ToNode) {
        let report = match message.body {
            Some(to_node::Body::Welcome(welcome)) => {
                let interval = Duration::from_millis(u64::from(welcome.heartbeat_interval_ms.max(1)));
                let mut heartbeat = tokio::time::interval(interval);
                heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
                self.heartbeat = Some(heartbeat);
                self.check_health(welcome.health_check.clone());
                if let Some(setup) = welcome.setup.clone() {
                    self.setups.begin(&self.registry.node, setup);
                }
                self.meter = Some(used::Meter::start(&self.registry.node, &welcome));
                self.registry.welcome = Some(welcome);
                None
            }
            Some(to_node::Body::Prepare(prepare)) => self.registry.prepare(prepare),
            Some(to_node::Body::Go(go)) => self.registry.go(go),
            Some(to_node::Body::Stop(stop)) => self.registry.stop(stop),
            Some(to_node::Body::Signal(signal)) => {
                self.registry.signal(signal);
                None
            }
            Some(to_node::Body::Forget(forget)) => {
                self.registry.forget(&forget.key.unwrap_or_default());
                None
            }
            Some(to_node::Body::Setup(setup)) => {
                self.setups.begin(&self.registry.node, setup);
                None
            }
            Some(to_node::Body::File(request)) => {
                self.ask_desk(request);
                None
            }
            None => {
                tracing::warn!("the controller sent a message that this version does not know");
                None
            }
        };
        if let Some(report) = report {
            self.report(report);
        }
    }

    /// Begins to check as this session's controller wants it; without a check the node is fit for work.
    fn check_health(&mut self, check: Option<v1::HealthCheck>) {
        let node = self.registry.node.config.node.clone();
        self.checks = check.map(|check| Checks::start(check, node, self.health_to.clone()));
        if self.checks.is_none() {
            self.on_health(None);
        }
    }

    /// Has a request for files answered, away from this loop.
    fn ask_desk(&mut self, request: v1::FileRequest) {
        if self.asked >= desk::AT_ONCE_MAX {
            self.send(from_node::Body::File(desk::busy(request.id)));
            return;
        }
        self.asked += 1;
        let node = &self.registry.node;
        let desk = desk::Desk { root: node.dir.work(&node.config), records: Records::at(node.dir.folders()) };
        let replies = self.replies_to.clone();
        tokio::task::spawn_blocking(move || {
            let _ = replies.blocking_send(desk.answer(&request));
        });
    }

    /// Looks after the folders of tasks, away from this loop.
    fn look_at_folders(&mut self) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let node = &self.registry.node;
        let (root, records) = (node.dir.work(&node.config), Records::at(node.dir.folders()));
        let (attempts, looks) = (node.dir.attempts(), self.looks_to.clone());
        let images = Images::of(node.dir.path());
        tokio::task::spawn_blocking(move || {
            let now_s = crate::process::now_us() / 1_000_000;
            let _ = looks.blocking_send(janitor::look(&root, &records, &attempts, now_s));
            images.tidy(std::time::SystemTime::now(), janitor::is_nearly_full);
        });
    }

    fn on_looked(&mut self, looked: janitor::Looked) {
        self.is_looking = false;
        if self.disk_problem != looked.problem {
            self.disk_problem = looked.problem;
            self.on_health(self.problem.clone());
        }
    }

    fn on_health(&mut self, problem: Option<String>) {
        if self.problem != problem {
            match &problem {
                Some(problem) => tracing::warn!(problem, "the health check fails"),
                None => tracing::info!("the health check passes again"),
            }
        }
        let told = problem.clone().or_else(|| self.disk_problem.clone()).unwrap_or_default();
        self.send(from_node::Body::Health(v1::Health { problem: told }));
        self.problem = problem;
    }

    fn hello(&self) -> v1::Hello {
        let node = &self.registry.node;
        v1::Hello {
            protocol_version: muster_wire::PROTOCOL_VERSION,
            node: node.config.node.clone(),
            boot_id: node.boot_id.clone(),
            agent_version: VERSION.to_owned(),
            topology: Some(node.wire_topology()),
            held: self.registry.held(),
            address: self.address.clone().unwrap_or_default(),
            containment: node.containment.kind() as i32,
            takes_lines: true,
            keeps_common: true,
        }
    }

    /// Tells of an attempt. The ends of those in a line are told together: their node needs no answer to go on.
    fn report(&mut self, report: v1::InstanceReport) {
        let order = report.key.as_ref().map(registry::order).unwrap_or_default();
        let goes_on = matches!(&report.phase, Some(Phase::Gone(_))) && self.registry.lines.is_followed(order);
        self.to_tell.push(report);
        if goes_on && lines::may_wait(self.to_tell.len(), self.registry.lines.len()) {
            self.tell_at.get_or_insert_with(|| Instant::now() + lines::TOLD_WITHIN);
        } else {
            self.tell();
        }
    }

    fn tell(&mut self) {
        self.tell_at = None;
        for report in std::mem::take(&mut self.to_tell) {
            self.send(from_node::Body::Report(report));
        }
    }

    /// Says something if there is a session; whatever matters is said again in the next hello.
    fn send(&mut self, body: from_node::Body) {
        let Some(outbox) = &self.outbox else { return };
        if outbox.try_send(FromNode { body: Some(body) }).is_err() {
            // The end of the outbox ends the stream, and the link is made anew.
            self.outbox = None;
            self.heartbeat = None;
        }
    }

    fn answer(&self, question: status::Question) {
        let node = &self.registry.node;
        let _ = question.answer.send(status::Status {
            holder: self.holder.clone(),
            node: node.config.node.clone(),
            version: VERSION.to_owned(),
            controller: self.controller.clone(),
            containment: node.containment.kind().as_str_name().to_owned(),
            attempts: self.registry.held(),
        });
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn tick(heartbeat: &mut Option<tokio::time::Interval>) {
    match heartbeat {
        Some(heartbeat) => {
            heartbeat.tick().await;
        }
        None => std::future::pending().await,
    }
}
