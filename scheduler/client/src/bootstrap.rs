//! What nodes need to be brought up, as the client API hands it out, and the lines that are exchanged with the program
//! `muster-bootstrap serve`, which does it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Nodes that are to be brought up or down over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapPlanRequest {
    /// Host list, such as `n[1-4]`.
    pub nodes: String,
}

/// How that is done, as far as the controller knows.
///
/// It has no `Debug`, because it holds private keys.
#[derive(Clone, Serialize, Deserialize)]
pub struct BootstrapPlan {
    /// [`crate::api::SCHEMA`].
    pub schema: u32,
    /// Whether the controller itself brings up each node that has no session.
    pub by_controller: bool,
    /// The program: a path, or a name to be found.
    pub program: PathBuf,
    /// How many nodes are done at the same time.
    pub fan_out: u16,
    /// What the program is asked for each node.
    pub requests: Vec<BootstrapRequest>,
}

/// What the program is asked to do. One line of JSON; the answer is a [`BootstrapAnswer`].
#[derive(Clone, Serialize, Deserialize)]
pub struct BootstrapRequest {
    /// What is to be done.
    #[serde(default)]
    pub action: BootstrapAction,
    /// The node.
    pub node: String,
    /// Where it is: a name or an address.
    pub address: String,
    /// The port of its sshd.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// The hosts on the way, the first of which is connected to from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jump: Vec<BootstrapJump>,
    /// Whether who logs in becomes root by sudo.
    #[serde(default)]
    pub sudo: bool,
    /// The private key to log in with; those of the SSH agent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_file: Option<PathBuf>,
    /// The files of host keys that are trusted.
    pub known_hosts_files: Vec<PathBuf>,
    /// How long each step of the connection may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<u64>,
    /// How long the node may take for what is to be done, without the time to send the programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_timeout_s: Option<u64>,
    /// Where the agent's programs are on this host.
    pub binaries_dir: PathBuf,
    /// Where they go on the node.
    pub remote_dir: PathBuf,
    /// Where the agent makes the folders of attempts, if not in the usual place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_dir: Option<PathBuf>,
    /// The root of the folders of tasks, if not in the usual place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<PathBuf>,
    /// Below which folders tasks may have files brought from and taken to; anywhere without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_roots: Option<Vec<PathBuf>>,
    /// Where the controller listens.
    pub controller: Vec<String>,
    /// The name in its certificate.
    pub controller_name: String,
    /// Who trusts whom.
    pub tls: BootstrapTls,
}

/// What is to be done on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapAction {
    /// Let the agent run, with these programs and settings.
    #[default]
    Up,
    /// Say what that would do, and change nothing.
    Check,
    /// Stop the agent.
    Down,
}

/// A host on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapJump {
    /// Its name, by which its host key is known, or its address.
    pub host: String,
    /// The port of its sshd.
    pub port: u16,
    /// Who logs in there.
    pub user: String,
}

/// Certificates and a key, each as PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct BootstrapTls {
    /// The authority of the controller's certificate.
    pub ca_pem: String,
    /// The node's certificate.
    pub cert_pem: String,
    /// The node's private key.
    pub key_pem: String,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapAnswer {
    /// The node.
    pub node: String,
    /// Whether it was done.
    pub ok: bool,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// What was done, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<BootstrapDone>,
    /// Whether the programs had to be sent, or would have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<bool>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<BootstrapFailure>,
}

/// What was done on a node, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapDone {
    /// An agent was started where none ran.
    Started,
    /// An agent with other programs or settings was replaced; what runs went on.
    Replaced,
    /// The agent ran already, with the same programs and settings.
    Unchanged,
    /// The agent was stopped.
    Stopped,
    /// There was no agent to stop.
    Absent,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapFailure {
    /// At which step, as in `log in`.
    pub step: String,
    /// What was wrong, in the same words for all nodes where the same was wrong.
    pub cause: String,
    /// What differs from node to node, such as the fingerprint of a host key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// All of it, with the node's name, as a sentence.
    pub error: String,
}
