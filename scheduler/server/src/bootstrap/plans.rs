//! What a node needs to be brought up, for whoever does it: this controller, or an admin by `muster node up`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use muster_client::api::{
    BootstrapAction, BootstrapJump, BootstrapPlan, BootstrapRequest, BootstrapTls, SCHEMA,
};
use muster_config::{BootstrapConfig, Config, JumpHost};
use muster_core::input::Refusal;
use muster_core::notation::format_hosts;

use crate::error::ServerError;
use crate::tls::{Authority, CONTROLLER_NAME};

/// The port of a jump host's sshd unless it is said.
const SSH_PORT: u16 = 22;

/// Settings, addresses and certificates of nodes.
pub struct Plans {
    authority: Arc<Authority>,
    /// As they were at the start.
    settings: BootstrapConfig,
    /// As it is now.
    config: RwLock<Arc<Config>>,
}

/// Why there is no plan.
#[derive(Debug)]
pub enum NoPlan {
    /// Not all of the nodes are there.
    Refused(Refusal),
    /// A certificate could not be made.
    Failed(ServerError),
}

impl Plans {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config, authority: Arc<Authority>) -> Self {
        let settings = config.bootstrap.clone();
        Self { authority, settings, config: RwLock::new(Arc::new(config.clone())) }
    }

    /// Takes nodes and addresses from another configuration.
    pub fn configure(&self, config: &Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.clone());
    }

    pub(super) fn settings(&self) -> &BootstrapConfig {
        &self.settings
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The declared nodes.
    pub(super) fn nodes(&self) -> Vec<String> {
        self.config().cluster.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// All that these nodes need.
    ///
    /// # Errors
    /// [`NoPlan`]
    pub fn plan(&self, nodes: &[String]) -> Result<BootstrapPlan, NoPlan> {
        let declared: HashSet<String> = self.nodes().into_iter().collect();
        let unknown: Vec<&String> = nodes.iter().filter(|node| !declared.contains(*node)).collect();
        match unknown[..] {
            [] => {}
            [node] => return Err(NoPlan::Refused(Refusal::UnknownNode { node: node.clone() })),
            _ => return Err(NoPlan::Refused(Refusal::UnknownNodes { nodes: format_hosts(&unknown) })),
        }
        let requests: Result<Vec<_>, ServerError> = nodes.iter().map(|node| self.request(node)).collect();
        Ok(BootstrapPlan {
            schema: SCHEMA,
            by_controller: self.settings.by_controller,
            program: super::find_program(&self.settings.program),
            fan_out: self.settings.fan_out,
            requests: requests.map_err(NoPlan::Failed)?,
        })
    }

    /// What the program is asked to bring a node up.
    pub(super) fn request(&self, node: &str) -> Result<BootstrapRequest, ServerError> {
        let config = self.config();
        let keyed = self.authority.node(node)?;
        let settings = &self.settings;
        let jump = |jump: &JumpHost| BootstrapJump {
            host: jump.host.clone(),
            port: jump.port.unwrap_or(SSH_PORT),
            user: jump.user.clone().unwrap_or_else(|| settings.user.clone()),
        };
        Ok(BootstrapRequest {
            action: BootstrapAction::Up,
            node: node.to_owned(),
            address: config.addresses.get(node).cloned().unwrap_or_else(|| node.to_owned()),
            port: settings.port,
            user: settings.user.clone(),
            jump: settings.jump.iter().map(jump).collect(),
            sudo: settings.sudo,
            identity_file: settings.identity_file.clone(),
            known_hosts_files: settings.known_hosts.iter().cloned().collect(),
            connect_timeout_s: None,
            command_timeout_s: None,
            binaries_dir: settings.binaries_dir.clone().unwrap_or_else(own_folder),
            remote_dir: settings.remote_dir.clone(),
            run_dir: settings.run_dir.clone(),
            work_dir: settings.work_dir.clone(),
            shared_roots: settings.shared_roots.clone(),
            controller: config.controller.addresses.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            tls: BootstrapTls {
                ca_pem: self.authority.ca_pem().to_owned(),
                cert_pem: keyed.cert_pem,
                key_pem: keyed.key_pem,
            },
        })
    }
}

/// Where this program lies, and so those of the agents, unless the configuration says.
fn own_folder() -> PathBuf {
    let here = std::env::current_exe().ok();
    here.and_then(|exe| Some(exe.parent()?.to_owned())).unwrap_or_default()
}
