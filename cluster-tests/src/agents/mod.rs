//! Thousands of node agents in one process.
//!
//! Each speaks the protocol of a real one, over a connection of its own, with its own certificate, to a real controller; it answers
//! orders as a real one does, and carries nothing out. How long a task runs is the first argument of its script: so many
//! milliseconds, or [`STAYS`] until it is stopped.

mod agent;
mod counts;
mod gate;
mod lines;
mod loopback;
mod submits;

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use self::agent::Agent;
pub use self::agent::STAYS;
pub use self::counts::Counted;
use self::counts::Counts;
use self::gate::Gate;
pub use self::loopback::{Figures, Loopback, LoopbackOptions};
pub use self::submits::{array, gang, job};

/// Why agents, or the controller that they speak with, cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program was not built.
    #[error("{} is missing: build it first", path.display())]
    NotBuilt {
        /// Where it is looked for.
        path: PathBuf,
    },
    /// Something of the system.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The controller did not start.
    #[error("musterd does not start; its log ends with:\n{log}")]
    Controller {
        /// The end of its log.
        log: String,
    },
    /// A certificate is none.
    #[error("the certificate of {node} cannot be used: {source}")]
    Certificate {
        /// Of which node.
        node: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// What was waited for did not come.
    #[error("{what} did not come within {} s: {counted:?}", limit.as_secs())]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
        /// What had come.
        counted: Counted,
    },
}

impl AgentsError {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source }
    }

    fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// How an agent behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// As it should.
    Present,
    /// Its process was killed: its connection is closed, and it does not come back.
    Killed,
    /// Its cable is cut: its connection stands, and nothing goes over it either way.
    Cut,
    /// It says that it lives, and reads nothing of what it is told.
    Deaf,
}

/// What the agents are like.
#[derive(Debug, Clone)]
pub struct AgentsOptions {
    /// Where the controller listens for nodes.
    pub controller: SocketAddr,
    /// The folder `tls` of the controller's state: each agent has the certificate that was made for its node.
    pub tls: PathBuf,
    /// Their nodes, as the configuration names them.
    pub names: Vec<String>,
    /// Cores of each node.
    pub cores: u32,
    /// How many of them, the last ones, do not ask whether the controller lives: those that are to be deaf for long.
    pub unasking: usize,
}

/// A number of agents. They end with the value.
pub struct Agents {
    // Dropped first, and with it all that runs.
    runtime: tokio::runtime::Runtime,
    handles: Vec<Handle>,
    /// Those that do not live yet.
    waiting: Vec<Agent>,
    counts: Arc<Counts>,
}

struct Handle {
    conduct: watch::Sender<Conduct>,
    gate: Arc<Gate>,
}

impl Agents {
    /// Makes them, with their certificates.
    ///
    /// # Errors
    /// [`AgentsError`] if there is no thread, or a certificate cannot be read.
    pub fn new(options: &AgentsOptions) -> Result<Self, AgentsError> {
        let descriptors = "have a file descriptor for each agent";
        allow_descriptors().map_err(|errno| AgentsError::system(descriptors)(errno.into()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(AgentsError::system("start a thread for the agents"))?;
        let counts = Arc::new(Counts::default());
        let ca = read(&options.tls.join("ca.crt"))?;
        let mut handles = Vec::with_capacity(options.names.len());
        let mut agents = Vec::with_capacity(options.names.len());
        for (place, name) in options.names.iter().enumerate() {
            let asks = place + options.unasking < options.names.len();
            let (conduct, watched) = watch::channel(Conduct::Present);
            let gate = Arc::new(Gate::default());
            handles.push(Handle { conduct, gate: Arc::clone(&gate) });
            let folder = options.tls.join("nodes");
            let (cert, key) =
                (read(&folder.join(format!("{name}.crt")))?, read(&folder.join(format!("{name}.key")))?);
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(&ca))
                .identity(Identity::from_pem(cert, key))
                .domain_name("muster-controller");
            let parts = agent::Parts {
                name: name.clone(),
                cores: options.cores,
                controller: options.controller,
                gate,
                conduct: watched,
                counts: Arc::clone(&counts),
            };
            let wrong = |source| AgentsError::Certificate { node: name.clone(), source };
            agents.push(Agent::new(parts, tls, asks).map_err(wrong)?);
        }
        Ok(Self { runtime, handles, waiting: agents, counts })
    }

    /// Lets them all live: they connect at once.
    pub fn connect(&mut self) {
        for agent in self.waiting.drain(..) {
            self.runtime.spawn(agent.live());
        }
    }

    /// What has happened so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.counts.now()
    }

    /// Waits until what has happened is enough.
    ///
    /// # Errors
    /// [`AgentsError::Late`] after `limit`.
    pub fn wait(
        &self,
        what: &'static str,
        limit: Duration,
        enough: impl Fn(&Counted) -> bool,
    ) -> Result<Counted, AgentsError> {
        self.counts.wait(limit, enough).map_err(|counted| AgentsError::Late { what, limit, counted })
    }

    /// Has these agents, by their places among the names, behave so from now on.
    pub fn behave(&self, which: Range<usize>, conduct: Conduct) {
        for handle in self.handles.get(which).unwrap_or_default() {
            handle.gate.set(conduct);
            handle.conduct.send_replace(conduct);
        }
    }
}

/// As many file descriptors as may be had.
fn allow_descriptors() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
}

fn read(path: &Path) -> Result<String, AgentsError> {
    std::fs::read_to_string(path).map_err(AgentsError::file(path))
}
