//! The configuration file. [`load`] reads TOML and gives a [`Config`] that is right as a whole, or every error
//! that it holds, each with its place, what is wrong and what would be right.

mod accounts;
mod batch;
mod bootstrap;
mod controller;
mod elastic;
mod licenses;
mod nodes;
mod pools;
mod priority;
mod problem;
mod qos;
mod section;
#[cfg(test)]
mod sharing_tests;
mod switches;
#[cfg(test)]
mod tests;
mod topology_file;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use batch::{BatchConfig, BatchKeyConfig, BatchStoreConfig, BatchTlsConfig};
pub use bootstrap::{BadJumpHost, BootstrapConfig, FAN_OUT_MAX, JUMPS_MAX, JumpHost};
pub use elastic::ElasticConfig;
use muster_core::cluster::ClusterConfig;
use muster_core::rate::Rate;
pub use problem::{ConfigErrors, Place, Problem, ProblemKind};
use section::Reader;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What the engine is told.
    pub cluster: ClusterConfig,
    /// How the controller runs.
    pub controller: ControllerConfig,
    /// How agents are brought onto nodes, by the controller or by `muster node up`.
    pub bootstrap: BootstrapConfig,
    /// The batch service, if it is offered.
    pub batch: Option<BatchConfig>,
    /// The program that says whether a node is fit for work.
    pub health: Option<HealthConfig>,
    /// Nodes that the site's programs bring up and take down.
    pub elastic: Vec<ElasticConfig>,
    /// Addresses of nodes, where they are not reached by their names.
    pub addresses: BTreeMap<String, String>,
}

/// How the controller runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Where node agents connect.
    pub listen: SocketAddr,
    /// `HOST:PORT` texts that node agents are given to connect to, in order.
    pub addresses: Vec<String>,
    /// The client API's Unix socket.
    pub socket: PathBuf,
    /// Where the journal and the keys are.
    pub state_dir: PathBuf,
    /// The database that the journal is in, if it is not in a file below `state_dir`.
    pub store: Option<StoreConfig>,
    /// Login names of those who administer the cluster, beside root.
    pub admins: Vec<String>,
    /// How long a node may be silent before it is given up, in seconds.
    pub node_timeout_s: u64,
    /// How often a node says that it is there, in milliseconds.
    pub heartbeat_ms: u32,
    /// The program by which people are told of what becomes of their jobs.
    pub mail_program: Option<PathBuf>,
    /// What one user's clients may ask of the controller.
    pub clients: ClientLimits,
}

/// What the clients of one user may ask of the controller. Nothing of it limits those who administer the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// How often they may ask; without a limit if none.
    pub rate: Option<Rate>,
    /// How many connections they may have open at once.
    pub connections_max: u32,
}

/// Connections of clients that the controller has open at once, whoever they are.
pub const CONNECTIONS_MAX: u32 = 4096;

impl Default for ClientLimits {
    fn default() -> Self {
        Self { rate: None, connections_max: CONNECTIONS_MAX / 4 }
    }
}

/// A database of a PostgreSQL server that several controllers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `postgresql://USER@HOST:PORT/DATABASE`, without a password.
    pub url: String,
    /// The file that the password is in, if the server wants one.
    pub password_file: Option<PathBuf>,
    /// The certificates of the authorities that vouch for the server.
    pub ca_file: Option<PathBuf>,
}

/// How the health of nodes is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// The program, on each node.
    pub program: PathBuf,
    /// Seconds from the end of one run to the start of the next.
    pub interval_s: u32,
    /// Seconds after which a run has failed and is killed.
    pub timeout_s: u32,
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// [`ConfigErrors::Read`] if the file cannot be read, [`ConfigErrors::Invalid`] with all that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigErrors::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Checks `text`, which is called `path` in messages.
///
/// # Errors
/// [`ConfigErrors::Invalid`] with all that is wrong with it.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::new(text);
    let (config, elsewhere) = read(path, &mut reader);
    let mut problems = reader.finish(path);
    match config {
        Some(config) if problems.is_empty() && elsewhere.is_empty() => Ok(config),
        _ => {
            problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
            problems.extend(elsewhere);
            Err(ConfigErrors::Invalid { problems })
        }
    }
}

/// Reads all sections, going on after errors so that all of them are found; those in other files come with the
/// configuration.
fn read(path: &Path, reader: &mut Reader<'_>) -> (Option<Config>, Vec<Problem>) {
    let Some(document) = reader.document() else { return (None, Vec::new()) };
    let mut top = reader.top(&document);
    let cluster_section = top.required_table(reader, "cluster");
    let controller_section = top.table(reader, "controller");
    let policy_section = top.table(reader, "policy");
    let priority_section = top.table(reader, "priority");
    let account_sections = top.tables(reader, "account");
    let qos_sections = top.tables(reader, "qos");
    let bootstrap_section = top.table(reader, "bootstrap");
    let health_section = top.table(reader, "health");
    let batch_section = top.table(reader, "batch");
    let node_sections = top.tables(reader, "node");
    let elastic_sections = top.tables(reader, "elastic");
    let pool_sections = top.tables(reader, "pool");
    let switch_sections = top.tables(reader, "switch");
    let license_sections = top.tables(reader, "license");
    top.finish(reader);

    let (name, topology_file) = controller::cluster(reader, cluster_section);
    let controller = controller::controller(reader, controller_section);
    let mut policy = controller::policy(reader, policy_section);
    let priority = priority::priority(reader, priority_section);
    if let Some(policy) = &mut policy {
        policy.priority = priority;
    }
    let accounts = accounts::accounts(reader, account_sections);
    let qos = qos::qos(reader, qos_sections, &accounts);
    let bootstrap = bootstrap::bootstrap(reader, bootstrap_section);
    let health = controller::health(reader, health_section);
    let batch = batch::batch(reader, batch_section);
    let mut nodes = nodes::nodes(reader, node_sections);
    let elastic = elastic::elastic(reader, elastic_sections, &mut nodes);
    let licenses = licenses::licenses(reader, license_sections);
    let pools = pools::pools(reader, pool_sections, &nodes);
    let first_switch = switch_sections.first().map(|section| section.span.clone());
    let mut switches = switches::switches(reader, switch_sections, &nodes);
    let mut elsewhere = Vec::new();
    if let Some(file) = topology_file {
        if let Some(first) = first_switch {
            let first_line = reader.line(&first);
            reader.problem(file.span, ProblemKind::TwoTopologies { first_line });
        } else {
            (switches, elsewhere) = topology_file::load(reader, path, file, &nodes);
        }
    }
    let config = || {
        let addresses = nodes.addresses;
        let cluster = ClusterConfig {
            name: name?,
            nodes: nodes.list,
            pools,
            switches,
            policy: policy?,
            accounts,
            qos,
            licenses,
            time_zone: String::new(),
        };
        let (controller, bootstrap, health) = (controller?, bootstrap?, health?);
        Some(Config { cluster, controller, bootstrap, batch, health, elastic, addresses })
    };
    (config(), elsewhere)
}
