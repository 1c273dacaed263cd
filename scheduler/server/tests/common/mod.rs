//! A real musterd on a folder of its own, and nodes that are played by the test over real TLS.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod bare;
pub mod floor;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use muster_client::api::{SubmitRequest, TaskState};
use muster_client::{Client, ClientError, Options};
use muster_core::ids::{JobId, JobRef};
use muster_core::spec::Request;
use muster_wire::v1;
use muster_wire::v1::from_node::Body as Said;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::node_controller_client::NodeControllerClient;
use muster_wire::v1::to_node::Body as Told;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

/// How long anything may take that must happen.
pub const SOON: Duration = Duration::from_secs(20);

/// A folder with a configuration, and the musterd that runs on it.
pub struct Controller {
    pub folder: tempfile::TempDir,
    child: Option<Child>,
    pub node_address: Option<SocketAddr>,
    pub batch_address: Option<SocketAddr>,
}

/// A configuration of nodes `n01`, `n02`, ... with 4 cores each; `more` goes to its end.
pub fn configuration(folder: &Path, nodes: u32, more: &str) -> String {
    format!(
        r#"
[cluster]
name = "test"
[controller]
listen = "127.0.0.1:0"
socket = "{0}/run/muster.sock"
state_dir = "{0}/state"
node_timeout_s = 2
[policy]
root_may_submit = true
requeue_delay_s = 0
[[node]]
name = "n[01-{nodes:02}]"
cores = 4
memory = "4G"
[[pool]]
name = "main"
nodes = "n[01-{nodes:02}]"
{more}
"#,
        folder.display()
    )
}

impl Controller {
    /// Starts a controller for so many nodes.
    pub fn start(nodes: u32) -> Self {
        Self::start_with(nodes, "")
    }

    pub fn start_with(nodes: u32, more: &str) -> Self {
        let mut controller = Self::prepared(nodes, more);
        controller.run();
        controller
    }

    pub fn prepared(nodes: u32, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("muster.toml"), configuration(folder.path(), nodes, more)).unwrap();
        Self { folder, child: None, node_address: None, batch_address: None }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("muster.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/muster.sock")
    }

    /// The program, ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_musterd"));
        command.arg("--config").arg(self.config());
        command
    }

    pub fn run(&mut self) {
        let command = self.command();
        self.run_command(command);
    }

    /// Starts the program and waits until it says that it is ready.
    pub fn run_command(&mut self, mut command: Command) {
        command.stdout(Stdio::piped());
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A test that is killed leaves no controller behind.
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        // On PostgreSQL it says first that it stands by.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.find(|line| line.contains("nodes at ")).expect("it ended before it was ready");
        let after = |words: &str| Some(ready.split(words).nth(1)?.split(',').next()?.parse().unwrap());
        self.node_address = after("nodes at ");
        self.batch_address = after("batch service at ");
        self.child = Some(child);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends it without a chance to do anything.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.child.take().unwrap().wait().unwrap()
    }

    pub fn client(&self) -> Client {
        let options = Options { retry: Duration::ZERO, ..Options::new(&self.socket()) };
        Client::connect_with(options).unwrap()
    }

    /// Opens a node's session, with the node's own certificate.
    pub async fn node(&self, name: &str) -> Node {
        self.node_holding(name, Vec::new()).await
    }

    pub async fn node_holding(&self, name: &str, held: Vec<v1::InstanceReport>) -> Node {
        self.node_saying(hello(name, held)).await
    }

    pub async fn node_saying(&self, hello: v1::Hello) -> Node {
        let name = hello.node.clone();
        let tls = self.folder.path().join("state/tls");
        let mut node = Node::connect(self.node_address.unwrap(), &tls, &tls, &name, hello).await.unwrap();
        match node.told().await {
            Told::Welcome(welcome) => assert_eq!(welcome.declared_cores, 4),
            other => panic!("{other:?}"),
        }
        node
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A node that the test plays. It says that it is there until it is dropped or told to fall silent.
pub struct Node {
    pub name: String,
    beating: tokio::task::AbortHandle,
    outbox: mpsc::Sender<v1::FromNode>,
    inbox: Streaming<v1::ToNode>,
}

pub fn hello(name: &str, held: Vec<v1::InstanceReport>) -> v1::Hello {
    let core = |i| v1::Core { package: 0, numa: 0, l3: 0, cpus: vec![i] };
    v1::Hello {
        protocol_version: 1,
        node: name.to_owned(),
        boot_id: "boot".to_owned(),
        agent_version: "test".to_owned(),
        topology: Some(v1::Topology {
            cores: (0..4).map(core).collect(),
            memory_bytes: 4 << 30,
            ..v1::Topology::default()
        }),
        held,
        address: "127.0.0.1".to_owned(),
        containment: v1::Containment::Subreaper.into(),
        takes_lines: false,
        keeps_common: false,
    }
}

impl Node {
    /// Connects with the certificate of `name` below `own`, trusting the authority below `trusted`.
    pub async fn connect(
        address: SocketAddr,
        own: &Path,
        trusted: &Path,
        name: &str,
        hello: v1::Hello,
    ) -> Result<Self, Status> {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let (cert, key) =
            (read(own.join(format!("nodes/{name}.crt"))), read(own.join(format!("nodes/{name}.key"))));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(trusted.join("ca.crt"))))
            .identity(Identity::from_pem(cert, key))
            .domain_name("muster-controller");
        let unavailable = |error: tonic::transport::Error| Status::unavailable(format!("{error:?}"));
        let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
        let channel = endpoint.tls_config(tls).map_err(unavailable)?.connect().await.map_err(unavailable)?;
        let (outbox, messages) = mpsc::channel(100);
        outbox.send(v1::FromNode { body: Some(Said::Hello(hello)) }).await.unwrap();
        let mut client = NodeControllerClient::new(channel);
        let inbox = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let beating = tokio::spawn(beat(outbox.clone())).abort_handle();
        Ok(Self { name: name.to_owned(), beating, outbox, inbox })
    }

    /// The next message, or how the session ended.
    pub async fn next(&mut self) -> Result<Option<Told>, Status> {
        let message = timeout(SOON, self.inbox.message()).await.expect("a message must come")?;
        Ok(message.and_then(|message| message.body))
    }

    /// The next message; none if there is none for so long, or the session has ended.
    pub async fn next_within(&mut self, time: Duration) -> Option<Told> {
        timeout(time, self.inbox.message()).await.ok()?.ok()??.body
    }

    /// Says something, if the session still takes it.
    pub async fn try_report(&self, report: v1::InstanceReport) -> bool {
        self.outbox.send(v1::FromNode { body: Some(Said::Report(report)) }).await.is_ok()
    }

    pub async fn told(&mut self) -> Told {
        self.next().await.unwrap().expect("the session must go on")
    }

    pub async fn told_to_prepare(&mut self) -> v1::Prepare {
        match self.told().await {
            Told::Prepare(prepare) => prepare,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub async fn told_to_go(&mut self) -> v1::Go {
        match self.told().await {
            Told::Go(go) => go,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub async fn told_to_stop(&mut self) -> v1::Stop {
        match self.told().await {
            Told::Stop(stop) => stop,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    pub async fn told_to_forget(&mut self) -> v1::Forget {
        match self.told().await {
            Told::Forget(forget) => forget,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// Says no more that it is there, with its session open.
    pub fn fall_silent(&self) {
        self.beating.abort();
    }

    pub async fn says_health(&self, problem: &str) {
        self.send(Said::Health(v1::Health { problem: problem.to_owned() })).await;
    }

    pub async fn report(&self, report: v1::InstanceReport) {
        self.send(Said::Report(report)).await;
    }

    /// Says whatever a node may.
    pub async fn say(&self, body: Said) {
        let _ = self.outbox.send(v1::FromNode { body: Some(body) }).await;
    }

    async fn send(&self, body: Said) {
        self.outbox.send(v1::FromNode { body: Some(body) }).await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.beating.abort();
    }
}

async fn beat(outbox: mpsc::Sender<v1::FromNode>) {
    for sequence in 0.. {
        let body = Some(Said::Heartbeat(v1::Heartbeat { sequence, used: None }));
        if outbox.send(v1::FromNode { body }).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub fn ready(prepare: &v1::Prepare) -> v1::InstanceReport {
    let endpoint = v1::Endpoint {
        host: prepare.members[prepare.instance as usize].host.clone(),
        address: "127.0.0.1".to_owned(),
        ssh_port: 2200 + prepare.instance,
        ssh_host_key: "ssh-ed25519 AAAA".to_owned(),
        gang_port: 0,
    };
    in_phase(prepare, Phase::Ready(v1::Ready { endpoint: Some(endpoint) }))
}

pub fn preparing(prepare: &v1::Prepare) -> v1::InstanceReport {
    in_phase(prepare, Phase::Preparing(v1::Preparing {}))
}

pub fn running(prepare: &v1::Prepare) -> v1::InstanceReport {
    in_phase(prepare, Phase::Running(v1::Running { started_at_us: 5_000_000 }))
}

pub fn exited(prepare: &v1::Prepare, code: u32, signal: u32) -> v1::InstanceReport {
    gone(prepare, v1::gone::How::Exited(v1::Exited { code, signal, out_of_memory: false }))
}

pub fn gone(prepare: &v1::Prepare, how: v1::gone::How) -> v1::InstanceReport {
    let usage =
        Some(v1::Usage { cpu_time_us: 1_500_000, memory_peak_bytes: 1 << 20, ..v1::Usage::default() });
    let gone = v1::Gone { how: Some(how), usage, started_at_us: 5_000_000, ended_at_us: 6_000_000 };
    in_phase(prepare, Phase::Gone(gone))
}

fn in_phase(prepare: &v1::Prepare, phase: Phase) -> v1::InstanceReport {
    v1::InstanceReport {
        key: prepare.key,
        instance: prepare.instance,
        phase: Some(phase),
        ..v1::InstanceReport::default()
    }
}

pub fn job(name: &str) -> SubmitRequest {
    SubmitRequest {
        arguments: vec!["one".to_owned()],
        environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        working_directory: "/tmp".to_owned(),
        submit_host: "head".to_owned(),
        ..SubmitRequest::of(name, "#!/bin/sh\ntrue\n")
    }
}

/// A gang of one whole node's cores on each of `nodes` nodes.
pub fn gang(nodes: u32) -> SubmitRequest {
    let request =
        Request { nodes: Some(nodes), ranks: 4 * nodes, ranks_per_node: Some(4), ..Request::default() };
    SubmitRequest { request, ..job("gang") }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub fn whole(job: u64) -> JobRef {
    JobRef { job: JobId(job), task: None }
}

pub fn code(error: &ClientError) -> (u16, &str) {
    match error {
        ClientError::Refused { status, body } => (*status, body.code.as_str()),
        other => panic!("{other:?}"),
    }
}

/// Waits until the job is in `state`.
pub fn until(
    client: &mut muster_client::Client,
    job: u64,
    state: TaskState,
) -> muster_client::api::JobDetail {
    let mut seen = None;
    let end = std::time::Instant::now() + SOON;
    loop {
        let detail = client.wait_change(whole(job), seen, SOON).unwrap();
        if detail.summary.state == state {
            return detail;
        }
        assert!(std::time::Instant::now() < end, "{state:?} must come, not {detail:?}");
        seen = Some(detail.version);
    }
}
