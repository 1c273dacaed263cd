//! Requests and answers: one JSON text a line.

use std::path::PathBuf;
use std::time::Duration;

use muster_ssh::Cause;
use serde::{Deserialize, Serialize};

/// A node, and what is to be done there.
///
/// It has no `Debug`, because it holds a private key.
#[derive(Clone, Deserialize)]
pub struct Request {
    /// What is to be done.
    #[serde(default)]
    pub action: Action,
    /// The node's name, by which its host key is known and which its certificate bears.
    pub node: String,
    /// Where it is: a name or an IP address.
    pub address: String,
    /// Its SSH port.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// The account to log in to; root, or one that may become root, if tasks of several users are to run.
    #[serde(default = "root")]
    pub user: String,
    /// The hosts on the way, the first of which is connected to from here.
    #[serde(default)]
    pub jump: Vec<Jump>,
    /// Whether everything on the node is done as root by `sudo -n`.
    #[serde(default)]
    pub sudo: bool,
    /// The private key to log in with, without passphrase; the keys of the SSH agent without.
    #[serde(default)]
    pub identity_file: Option<PathBuf>,
    /// The host keys that are trusted, in files in the form of `ssh_known_hosts`.
    pub known_hosts_files: Vec<PathBuf>,
    /// How long each step of the connection may take.
    #[serde(default = "connect_within_s")]
    pub connect_timeout_s: u64,
    /// How long the node may take for what is to be done, without the time to send the programs.
    #[serde(default = "command_within_s")]
    pub command_timeout_s: u64,
    /// The local folder with the programs.
    pub binaries_dir: PathBuf,
    /// The agent's folder on the node.
    #[serde(default = "remote_dir")]
    pub remote_dir: String,
    /// Where the controller listens, each as `HOST:PORT`.
    pub controller: Vec<String>,
    /// The name in the controller's certificate.
    pub controller_name: String,
    /// Who trusts whom.
    pub tls: Tls,
    /// Where the node makes the folders of attempts, if not in the usual place.
    #[serde(default)]
    pub run_dir: Option<PathBuf>,
    /// The root of the folders of tasks, if not in the usual place.
    #[serde(default)]
    pub work_dir: Option<PathBuf>,
    /// Below which folders tasks may have files brought from and taken to; anywhere without.
    #[serde(default)]
    pub shared_roots: Option<Vec<PathBuf>>,
    /// The name of the node's cgroup for attempts, if not the usual one.
    #[serde(default)]
    pub cgroup: Option<String>,
}

impl Request {
    pub(crate) fn connect_within(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_s)
    }

    pub(crate) fn command_within(&self) -> Duration {
        Duration::from_secs(self.command_timeout_s)
    }
}

/// What is to be done on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let the agent run, with these programs and settings.
    #[default]
    Up,
    /// Say what [`Action::Up`] would do, and change nothing.
    Check,
    /// Stop the agent. Attempts go on under their supervisors.
    Down,
}

/// A host on the way to a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Jump {
    /// Its name, by which its host key is known, or its address.
    pub host: String,
    /// Its SSH port.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// The account to log in to.
    pub user: String,
}

/// Certificates and a key, each as PEM.
#[derive(Clone, Deserialize)]
pub struct Tls {
    /// The authority of the controller's certificate.
    pub ca_pem: String,
    /// The node's certificate.
    pub cert_pem: String,
    /// The node's private key.
    pub key_pem: String,
}

fn ssh_port() -> u16 {
    22
}
fn root() -> String {
    "root".to_owned()
}
fn remote_dir() -> String {
    "/var/lib/muster".to_owned()
}
fn connect_within_s() -> u64 {
    10
}
/// The agent gives up its start after 10 s itself, and the stop of the one before it.
fn command_within_s() -> u64 {
    45
}

/// What was done on a node, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// An agent was started where none ran.
    Started,
    /// An agent with other programs or settings was replaced.
    Replaced,
    /// The agent ran already, with the same programs and settings.
    Unchanged,
    /// The agent was stopped.
    Stopped,
    /// There was no agent to stop.
    Absent,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The node's name; empty if the request did not say one.
    pub node: String,
    /// Whether it was done.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What was done, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did: Option<Done>,
    /// Whether the programs had to be sent, or would have to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<bool>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// At which step, as in `log in`.
    pub step: String,
    /// What was wrong, in the same words for all nodes where the same was wrong.
    pub cause: String,
    /// What differs from node to node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// All of it, with the node's name, as a sentence.
    pub error: String,
}

impl Failure {
    pub(crate) fn new(cause: Cause, error: String) -> Self {
        Self { step: cause.step.to_owned(), cause: cause.what, detail: cause.detail, error }
    }
}
