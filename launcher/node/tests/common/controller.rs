//! The controller's side of the wire, in the hands of a test.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use muster_wire::MESSAGE_BYTES_MAX;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::node_controller_server::{NodeController, NodeControllerServer};
use muster_wire::v1::{
    AttemptKey, Forget, FromNode, Go, Gone, Hello, InstanceReport, Package, PackagePart, PackageRequest,
    Prepare, SetupDone, Stop, ToNode, Welcome, from_node, to_node,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::PATIENCE;

/// An authority, and what it signs.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Packages by their digests, and how often one was asked for.
#[derive(Clone, Default)]
pub struct Packages(Arc<Mutex<HashMap<String, Vec<u8>>>>, Arc<AtomicU64>);

impl Packages {
    /// Adds one; says how nodes are told of it.
    pub fn add(&self, name: &str, bytes: Vec<u8>) -> Package {
        use sha2::Digest as _;
        let digest = format!("{:x}", sha2::Sha256::digest(&bytes));
        let length = bytes.len() as u64;
        self.0.lock().unwrap().insert(digest.clone(), bytes);
        Package { name: name.into(), digest, bytes: length }
    }

    pub fn asked(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }
}

type Outboxes = Arc<Mutex<HashMap<String, mpsc::Sender<Result<ToNode, Status>>>>>;

struct Service {
    outboxes: Outboxes,
    inbox: mpsc::UnboundedSender<(String, FromNode)>,
    welcome: Welcome,
    term: Arc<AtomicU64>,
    packages: Packages,
}

#[tonic::async_trait]
impl NodeController for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<ToNode, Status>> + Send>>;
    type PackageStream = Pin<Box<dyn Stream<Item = Result<PackagePart, Status>> + Send>>;

    async fn package(
        &self,
        request: Request<PackageRequest>,
    ) -> Result<Response<Self::PackageStream>, Status> {
        assert!(request.peer_certs().is_some_and(|certificates| !certificates.is_empty()));
        self.packages.1.fetch_add(1, Ordering::SeqCst);
        let found = self.packages.0.lock().unwrap().get(&request.into_inner().digest).cloned();
        let bytes = found.ok_or_else(|| Status::not_found("there is none"))?;
        let parts: Vec<_> = bytes.chunks(100).map(|part| Ok(PackagePart { data: part.to_vec() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn session(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        assert!(request.peer_certs().is_some_and(|certificates| !certificates.is_empty()));
        let (outbox, messages) = mpsc::channel(64);
        let (outboxes, inbox, welcome) = (self.outboxes.clone(), self.inbox.clone(), self.welcome.clone());
        let term = self.term.load(Ordering::SeqCst);
        tokio::spawn(async move {
            let mut stream = request.into_inner();
            let mut node = String::new();
            while let Some(Ok(message)) = stream.next().await {
                if let Some(from_node::Body::Hello(hello)) = &message.body {
                    node.clone_from(&hello.node);
                    let welcome = Welcome { term, ..welcome.clone() };
                    outbox.send(Ok(ToNode { body: Some(to_node::Body::Welcome(welcome)) })).await.unwrap();
                    outboxes.lock().unwrap().insert(node.clone(), outbox.clone());
                }
                if inbox.send((node.clone(), message)).is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// A controller that does what the test says.
pub struct Controller {
    pub authority: Authority,
    pub address: SocketAddr,
    outboxes: Outboxes,
    inbox: mpsc::UnboundedReceiver<(String, FromNode)>,
    /// Messages that were read while others were waited for.
    seen: VecDeque<(String, FromNode)>,
    server: tokio::task::JoinHandle<()>,
    /// What nodes are told when they come, but for the term.
    welcome: Welcome,
    /// The term that is said to nodes that come.
    pub term: Arc<AtomicU64>,
    /// What nodes may fetch.
    pub packages: Packages,
}

impl Controller {
    pub async fn start() -> Self {
        Self::start_with(Welcome::default()).await
    }

    /// With nodes of which the configuration declares this.
    pub async fn start_with(welcome: Welcome) -> Self {
        let welcome = Welcome { heartbeat_interval_ms: 200, ..welcome };
        let authority = Authority::new();
        let outboxes = Outboxes::default();
        let (inbox_to, inbox) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let term = Arc::new(AtomicU64::new(0));
        let packages = Packages::default();
        let service = Service {
            outboxes: outboxes.clone(),
            inbox: inbox_to,
            welcome: welcome.clone(),
            term: Arc::clone(&term),
            packages: packages.clone(),
        };
        let server = serve(listener, &authority, service);
        Self { authority, address, outboxes, inbox, seen: VecDeque::new(), server, welcome, term, packages }
    }

    /// Ends all sessions and listens again at the same port after `down` has run.
    pub async fn restart(&mut self, down: impl AsyncFnOnce()) {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.outboxes.lock().unwrap().clear();
        down().await;
        self.seen.clear();
        let (inbox_to, inbox) = mpsc::unbounded_channel();
        self.inbox = inbox;
        let listener = loop {
            match tokio::net::TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let service = Service {
            outboxes: self.outboxes.clone(),
            inbox: inbox_to,
            welcome: self.welcome.clone(),
            term: Arc::clone(&self.term),
            packages: self.packages.clone(),
        };
        self.server = serve(listener, &self.authority, service);
    }

    pub async fn send(&self, node: &str, body: to_node::Body) {
        let outbox = self.outboxes.lock().unwrap().get(node).cloned();
        let outbox = outbox.unwrap_or_else(|| panic!("no session with {node}"));
        outbox.send(Ok(ToNode { body: Some(body) })).await.unwrap();
    }

    pub async fn prepare(&self, node: &str, prepare: &Prepare) {
        self.send(node, to_node::Body::Prepare(prepare.clone())).await;
    }

    pub async fn go(&self, node: &str, go: Go) {
        self.send(node, to_node::Body::Go(go)).await;
    }

    pub async fn stop(&self, node: &str, key: AttemptKey, grace_ms: u32) {
        let stop = Stop { key: Some(key), grace_ms, reason: "the test says so".into(), ..Stop::default() };
        self.send(node, to_node::Body::Stop(stop)).await;
    }

    pub async fn forget(&self, node: &str, key: AttemptKey) {
        self.send(node, to_node::Body::Forget(Forget { key: Some(key) })).await;
    }

    /// Waits for the first message that the choice takes, and keeps the others for later.
    pub async fn wait<T>(&mut self, what: &str, choice: impl Fn(&str, &FromNode) -> Option<T>) -> T {
        if let Some(place) = self.seen.iter().position(|(node, message)| choice(node, message).is_some()) {
            let (node, message) = self.seen.remove(place).unwrap();
            return choice(&node, &message).unwrap();
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let heard = tokio::time::timeout_at(until, self.inbox.recv()).await;
            let heard = heard.unwrap_or_else(|_| panic!("no message came: {what}; seen: {:?}", self.seen));
            let (node, message) = heard.unwrap();
            if let Some(chosen) = choice(&node, &message) {
                return chosen;
            }
            if !matches!(message.body, Some(from_node::Body::Heartbeat(_))) {
                self.seen.push_back((node, message));
            }
        }
    }

    pub async fn hello(&mut self, node: &str) -> Hello {
        self.wait("hello", |from, message| match &message.body {
            Some(from_node::Body::Hello(hello)) if from == node => Some(hello.clone()),
            _ => None,
        })
        .await
    }

    /// How a set-up of this number ended.
    pub async fn set_up(&mut self, node: &str, number: u64) -> SetupDone {
        self.wait("the end of a set-up", |from, message| match &message.body {
            Some(from_node::Body::Setup(done)) if from == node && done.number == number => Some(done.clone()),
            _ => None,
        })
        .await
    }

    async fn phase<T>(
        &mut self,
        node: &str,
        key: AttemptKey,
        what: &str,
        choice: impl Fn(&Phase) -> Option<T>,
    ) -> T {
        self.wait(what, |from, message| match &message.body {
            Some(from_node::Body::Report(InstanceReport { key: Some(said), phase: Some(phase), .. }))
                if from == node && *said == key =>
            {
                // A preparation that fails must not leave a test waiting for what cannot come.
                match (choice(phase), phase) {
                    (None, Phase::Gone(gone)) => panic!("waiting for {what}, but it is gone: {gone:?}"),
                    (chosen, _) => chosen,
                }
            }
            _ => None,
        })
        .await
    }

    pub async fn ready(&mut self, node: &str, key: AttemptKey) -> muster_wire::v1::Endpoint {
        let ready = |phase: &Phase| match phase {
            Phase::Ready(ready) => Some(ready.endpoint.clone().unwrap()),
            _ => None,
        };
        self.phase(node, key, "ready", ready).await
    }

    pub async fn running(&mut self, node: &str, key: AttemptKey) -> u64 {
        let running = |phase: &Phase| match phase {
            Phase::Running(running) => Some(running.started_at_us),
            _ => None,
        };
        self.phase(node, key, "running", running).await
    }

    pub async fn gone(&mut self, node: &str, key: AttemptKey) -> Gone {
        let gone = |phase: &Phase| match phase {
            Phase::Gone(gone) => Some(gone.clone()),
            _ => None,
        };
        self.phase(node, key, "gone", gone).await
    }

    /// Prepares and starts a task of one instance.
    pub async fn launch(&mut self, node: &str, prepare: &Prepare) {
        self.prepare(node, prepare).await;
        let endpoint = self.ready(node, prepare.key.unwrap()).await;
        self.go(node, Go { key: prepare.key, peers: vec![endpoint] }).await;
    }

    /// Runs a task of one instance to its end.
    pub async fn run(&mut self, node: &str, prepare: &Prepare) -> Gone {
        self.launch(node, prepare).await;
        self.gone(node, prepare.key.unwrap()).await
    }
}

fn serve(
    listener: tokio::net::TcpListener,
    authority: &Authority,
    service: Service,
) -> tokio::task::JoinHandle<()> {
    let (cert, key) = authority.sign("controller");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(&authority.pem));
    let service = NodeControllerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let server = Server::builder().tls_config(tls).unwrap().tcp_nodelay(true);
    tokio::spawn(async move {
        server.serve_with_incoming(service, TcpListenerStream::new(listener)).await.unwrap();
    })
}
