//! Requests and answers: one JSON text a line.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A node to bring the agent to.
///
/// It has no `Debug`, because it holds a private key.
#[derive(Clone, Deserialize)]
pub struct Request {
    /// The node's name, by which its host key is known and which its certificate bears.
    pub node: String,
    /// Where it is: a name or an IP address.
    pub address: String,
    /// Its SSH port.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// The account to log in to; root, if tasks of several users are to run.
    #[serde(default = "root")]
    pub user: String,
    /// The private key to log in with, without passphrase.
    pub identity_file: PathBuf,
    /// The host keys that are trusted, in the form of `ssh_known_hosts`.
    pub known_hosts_file: PathBuf,
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
    /// The name of the node's cgroup for attempts, if not the usual one.
    #[serde(default)]
    pub cgroup: Option<String>,
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

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The node's name; empty if the request did not say one.
    pub node: String,
    /// Whether the agent runs now.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Whether the programs had to be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<bool>,
    /// Why it failed, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
