//! What agent and supervisor share about one attempt: what the supervisor is told, and what lies on the disk.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use muster_wire::v1::{AttemptKey, InstanceReport};
use serde::{Deserialize, Serialize};

use crate::containment::{Containment, DeviceNumber, Group};
use crate::error::{NodeError, Result};
use crate::process::ProcessId;

/// What an agent tells a supervisor before the controller's prepare: everything that the node knows and the
/// controller does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node's name.
    pub node: String,
    /// The address at which other nodes reach this one.
    pub address: String,
    /// The attempt's folder that only the agent's user may enter.
    pub private: PathBuf,
    /// The attempt's folder that belongs to its user. It has the name of the attempt for which it was made, which may be an earlier
    /// one.
    pub run: PathBuf,
    /// The folder with `muster-rsh` and `muster-rank`.
    pub bin_dir: PathBuf,
    /// The OpenSSH server program, or where it was looked for.
    pub sshd: PathBuf,
    /// How to hold the processes together.
    pub containment: Containment,
    /// The kernel's CPU numbers behind each core of this instance, in the order of the allocation; none for a core that
    /// has fewer hardware threads than the attempt asks for, and so is held but not used.
    pub cores: Vec<Vec<u32>>,
    /// Whether several cores of the node share a CPU, so that ranks must yield while they wait.
    pub cores_wrap: bool,
    /// Devices of the node that the attempt does not hold, and must not open.
    #[serde(default)]
    pub withheld: Vec<DeviceNumber>,
    /// The agent's folder.
    pub agent: PathBuf,
    /// The root of the folders of tasks.
    pub work: PathBuf,
    /// The folder with the records of those folders.
    pub records: PathBuf,
    /// Below which folders tasks may have files brought from and taken to.
    pub shared_roots: Vec<PathBuf>,
    /// How many files a task may have moved at once.
    pub stage_files_max: u64,
    /// How many bytes a task may have moved at once.
    pub stage_bytes_max: u64,
}

/// The containment that belongs to a folder of an attempt: it has the folder's name.
pub fn group(containment: &Containment, run: &Path) -> Group {
    containment.group(&group_name(run), run.to_owned())
}

/// The name of such a containment.
pub fn group_name(run: &Path) -> String {
    run.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Assignment {
    /// All CPUs of the instance, ascending.
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.cores.iter().flatten().copied().collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

/// What the name of a folder ends with until its state is in it.
pub const UNFINISHED: &str = ".new";

/// The files in an attempt's private folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptDir(PathBuf);

/// `state.json`: what an agent that starts must know about an attempt that it finds.
///
/// It is replaced as a whole by a rename, so that a reader sees one phase or the next. It is not forced to the disk:
/// what can be lost by that is lost with the node's power, and then the boot id tells that nothing runs any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptState {
    /// The boot of the node in which the attempt was prepared.
    pub boot_id: String,
    /// The process that holds the attempt.
    pub supervisor: ProcessId,
    /// How its processes are held together.
    pub containment: Containment,
    /// The folder that belongs to the user.
    pub run: PathBuf,
    /// Whether it starts as soon as it is prepared: then its phase does not say that nothing of it has run.
    #[serde(default)]
    pub at_once: bool,
    /// The present phase.
    pub report: InstanceReport,
}

impl AttemptState {
    /// The attempt's containment.
    pub fn group(&self) -> Group {
        group(&self.containment, &self.run)
    }
}

impl AttemptDir {
    /// The folder of an attempt below the agent's `attempts`.
    pub fn new(attempts: &Path, key: &AttemptKey) -> Self {
        Self(attempts.join(key.to_string()))
    }

    /// A folder that was found.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder together with its first state: whoever finds the folder finds a state in it, even if the agent
    /// is killed on the way.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be made.
    pub fn create(&self, state: &AttemptState) -> Result<()> {
        let mut unfinished = self.0.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = Self(unfinished.into());
        let path = unfinished.path();
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(NodeError::file("remove the old folder", path)(error));
            }
            _ => {}
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(path);
        made.map_err(NodeError::file("create the folder", path))?;
        let state_path = unfinished.state();
        let text = unfinished.to_text(state)?;
        std::fs::write(&state_path, text).map_err(NodeError::file("write", &state_path))?;
        std::fs::rename(path, &self.0).map_err(NodeError::file("create the folder", &self.0))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The socket at which the supervisor listens for an agent.
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Removes the folder. Most hold these two files and nothing else.
    ///
    /// # Errors
    ///
    /// As of remove_dir_all.
    pub fn remove(&self) -> std::io::Result<()> {
        for file in [self.control(), self.state()] {
            let _ = std::fs::remove_file(file);
        }
        std::fs::remove_dir(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0))
    }

    /// What the supervisor logs.
    pub fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The attempt's state.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::Malformed`] if it cannot be read.
    pub fn load(&self) -> Result<AttemptState> {
        let path = self.state();
        let text = std::fs::read(&path).map_err(NodeError::file("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| NodeError::Malformed {
            kind: "attempt's state",
            path,
            source,
        })
    }

    /// Replaces the attempt's state.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be written.
    pub fn save(&self, state: &AttemptState) -> Result<()> {
        let (path, new) = (self.state(), self.0.join("state.json.new"));
        std::fs::write(&new, self.to_text(state)?).map_err(NodeError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(NodeError::file("replace", &path))
    }

    fn to_text(&self, state: &AttemptState) -> Result<Vec<u8>> {
        serde_json::to_vec(state).map_err(|source| NodeError::Malformed {
            kind: "attempt's state",
            path: self.state(),
            source,
        })
    }
}

/// The key in a folder's name, `JOB_TASK.ATTEMPT`.
pub fn parse_key(name: &str) -> Option<AttemptKey> {
    let (job, rest) = name.split_once('_')?;
    let (task, attempt) = rest.split_once('.')?;
    Some(AttemptKey { job: job.parse().ok()?, task: task.parse().ok()?, attempt: attempt.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_wire::v1;

    #[test]
    fn a_key_is_read_back_from_its_name() {
        let key = AttemptKey { job: 12, task: 3, attempt: 1 };
        assert_eq!(parse_key(&key.to_string()), Some(key));
        assert_eq!(parse_key("lost+found"), None);
    }

    #[test]
    fn a_state_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let key = AttemptKey { job: 12, task: 3, attempt: 1 };
        let dir = AttemptDir::new(folder.path(), &key);
        let exited = v1::Exited { code: 7, signal: 0, out_of_memory: true };
        let gone = v1::Gone {
            how: Some(v1::gone::How::Exited(exited)),
            usage: Some(v1::Usage { cpu_time_us: 1, memory_peak_bytes: 2, ..v1::Usage::default() }),
            started_at_us: 3,
            ended_at_us: 4,
        };
        let state = AttemptState {
            boot_id: "b".into(),
            supervisor: ProcessId { pid: 1, start_ticks: 2 },
            containment: Containment::Subreaper,
            run: "/run/muster/attempts/12_3.1".into(),
            at_once: true,
            report: InstanceReport {
                key: Some(key),
                instance: 2,
                phase: Some(v1::instance_report::Phase::Gone(gone)),
                steps_bytes: 7,
            },
        };
        // What an agent has left that was killed before the state was written is no attempt, and stands in no way.
        std::fs::create_dir(folder.path().join("12_3.1.new")).unwrap();
        assert_eq!(parse_key("12_3.1.new"), None);
        dir.create(&state).unwrap();
        assert_eq!(dir.load().unwrap(), state);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let state = AttemptState { boot_id: "c".into(), ..state };
        dir.save(&state).unwrap();
        assert_eq!(dir.load().unwrap(), state);
    }
}
