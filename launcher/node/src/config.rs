//! The agent's folder and the settings in it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{NodeError, Result};

/// `agent.json`, as the bootstrap writes it into the agent's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The node's name; it equals the common name of the node's certificate.
    pub node: String,
    /// The address at which other nodes reach this one. Without it the agent takes the address from which it
    /// reaches the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where the controller listens, each as `HOST:PORT`; tried in turn.
    pub controller: Vec<String>,
    /// The name that the controller's certificate must be valid for.
    pub controller_name: String,
    /// The certificate of the authority that signed the controller's certificate. Relative paths start at the
    /// agent's folder, here and below.
    #[serde(default = "default_ca")]
    pub ca: PathBuf,
    /// This node's certificate.
    #[serde(default = "default_cert")]
    pub cert: PathBuf,
    /// This node's private key.
    #[serde(default = "default_key")]
    pub key: PathBuf,
    /// Where the attempts' run-time folders are made. The hosts of a virtual cluster that share one file system
    /// need one each.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// The root of the folders of tasks, with what they share on this node.
    #[serde(default = "default_work_dir")]
    pub work_dir: PathBuf,
    /// Below which folders tasks may have files brought from and taken to; they need the rights of their users besides.
    #[serde(default = "default_shared_roots")]
    pub shared_roots: Vec<PathBuf>,
    /// How many files a task may have moved at once.
    #[serde(default = "default_stage_files_max")]
    pub stage_files_max: u64,
    /// How many bytes a task may have moved at once.
    #[serde(default = "default_stage_bytes_max")]
    pub stage_bytes_max: u64,
    /// The folder with `muster-rsh` and `muster-rank`; without it, the one that holds the agent's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin_dir: Option<PathBuf>,
    /// The OpenSSH server program; without it, the usual places are searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sshd: Option<PathBuf>,
    /// The name of the cgroup under which all attempts' groups are made.
    #[serde(default = "default_cgroup")]
    pub cgroup: String,
}

fn default_ca() -> PathBuf {
    "ca.pem".into()
}
fn default_cert() -> PathBuf {
    "node.pem".into()
}
fn default_key() -> PathBuf {
    "node.key".into()
}
fn default_run_dir() -> PathBuf {
    "/run/muster".into()
}
fn default_work_dir() -> PathBuf {
    "work".into()
}
fn default_shared_roots() -> Vec<PathBuf> {
    vec!["/".into()]
}
fn default_stage_files_max() -> u64 {
    1_000_000
}
fn default_stage_bytes_max() -> u64 {
    16 << 40
}
fn default_cgroup() -> String {
    "muster".into()
}

impl AgentConfig {
    /// A configuration with the default paths.
    pub fn new(node: &str, controller: Vec<String>, controller_name: &str) -> Self {
        Self {
            node: node.to_owned(),
            address: None,
            controller,
            controller_name: controller_name.to_owned(),
            ca: default_ca(),
            cert: default_cert(),
            key: default_key(),
            run_dir: default_run_dir(),
            work_dir: default_work_dir(),
            shared_roots: default_shared_roots(),
            stage_files_max: default_stage_files_max(),
            stage_bytes_max: default_stage_bytes_max(),
            bin_dir: None,
            sshd: None,
            cgroup: default_cgroup(),
        }
    }
}

/// The agent's folder, such as `/var/lib/muster`, and the names of what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDir(PathBuf);

impl AgentDir {
    /// The folder at a path; the path is made absolute, because agent and supervisors have other working folders.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the folder does not exist.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(NodeError::file("find the agent's folder", path))?;
        Ok(Self(path))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The settings.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::Malformed`] if `agent.json` cannot be used.
    pub fn config(&self) -> Result<AgentConfig> {
        let path = self.0.join("agent.json");
        let text = std::fs::read(&path).map_err(NodeError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| NodeError::Malformed {
            kind: "agent configuration",
            path,
            source,
        })
    }

    /// Reads a PEM file that the settings name.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be read.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let path = self.0.join(path);
        std::fs::read(&path).map_err(NodeError::file("read", &path))
    }

    /// A digest of all that an agent reads when it starts, as far as it can be read.
    pub fn digest(&self) -> String {
        let mut files = vec![PathBuf::from("agent.json")];
        if let Ok(config) = self.config() {
            files.extend([config.ca, config.cert, config.key]);
        }
        digest_of(files.iter().map(|file| self.read(file).unwrap_or_default()))
    }

    /// The file that the running agent locks; it holds an `agent::lock::Holder`.
    pub fn lock(&self) -> PathBuf {
        self.0.join("agent.lock")
    }

    /// The socket at which the running agent answers `status`.
    pub fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// The agent's log.
    pub fn log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    /// The folder that holds one record for each folder of a task.
    pub fn folders(&self) -> PathBuf {
        self.0.join("folders")
    }

    /// The root of the folders of tasks.
    pub fn work(&self, config: &AgentConfig) -> PathBuf {
        self.0.join(&config.work_dir)
    }

    /// The folder that holds one folder for each held attempt.
    pub fn attempts(&self) -> PathBuf {
        self.0.join("attempts")
    }

    /// The notes of what supervisors may keep between two attempts.
    #[must_use]
    pub fn places(&self) -> PathBuf {
        self.0.join("places")
    }
}

/// The digest over the contents of `agent.json`, the authority's certificate, the node's and its key, in this order.
pub fn digest_of(contents: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    for text in contents {
        digest.update(text.as_ref().len().to_be_bytes());
        digest.update(text);
    }
    format!("{:x}", digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_what_the_file_leaves_out() {
        let text = r#"{"node":"node01","controller":["10.77.0.10:6817"],"controller_name":"controller"}"#;
        let config: AgentConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config, AgentConfig::new("node01", vec!["10.77.0.10:6817".into()], "controller"));
        assert_eq!(config.run_dir, Path::new("/run/muster"));
    }

    #[test]
    fn unknown_keys_are_named() {
        let text = r#"{"node":"n","controller":[],"controller_name":"c","contrller":1}"#;
        let error = serde_json::from_str::<AgentConfig>(text).unwrap_err().to_string();
        assert!(error.contains("contrller"), "{error}");
    }
}
