//! What agent and supervisor share about one attempt: what the supervisor is told, and what lies on the disk.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use muster_wire::v1::{AttemptKey, InstanceReport};
use serde::{Deserialize, Serialize};

use crate::containment::{Containment, DeviceNumber, Group};
use crate::error::{NodeError, Result};
use crate::process::ProcessId;
use crate::state_log::{self, OpenLog, Records, StateLog};

/// What an agent tells a supervisor before the controller's prepare: everything that the node knows and the
/// controller does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node's name.
    pub node: String,
    /// The address at which other nodes reach this one.
    pub address: String,
    /// The attempt's folder that only the agent's user may enter.
    pub private: AttemptDir,
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
    /// That of another attempt, which is told all else alike.
    #[must_use]
    pub fn again(self, key: AttemptKey) -> Self {
        Self { private: AttemptDir { key, ..self.private }, ..self }
    }

    /// Whether it is [`Self::again`] of another one.
    pub fn is_again(&self, before: &Self) -> bool {
        // All fields are named, so that none that is added is left out without a thought.
        let Self {
            node,
            address,
            private,
            run,
            bin_dir,
            sshd,
            containment,
            cores,
            cores_wrap,
            withheld,
            agent,
            work,
            records,
            shared_roots,
            stage_files_max,
            stage_bytes_max,
        } = self;
        (private.is_shared, &private.path, run)
            == (before.private.is_shared, &before.private.path, &before.run)
            && (cores, cores_wrap, withheld) == (&before.cores, &before.cores_wrap, &before.withheld)
            && (node, address, bin_dir, sshd)
                == (&before.node, &before.address, &before.bin_dir, &before.sshd)
            && (agent, work, records) == (&before.agent, &before.work, &before.records)
            && (shared_roots, containment) == (&before.shared_roots, &before.containment)
            && (stage_files_max, stage_bytes_max) == (&before.stage_files_max, &before.stage_bytes_max)
    }

    /// All CPUs of the instance, ascending.
    pub fn cpus(&self) -> Vec<u32> {
        let mut cpus: Vec<u32> = self.cores.iter().flatten().copied().collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

/// The file with the state of an attempt that has a folder of its own.
const STATE: &str = "state.json";

/// What the name of a folder ends with until its state is in it.
pub const UNFINISHED: &str = ".new";

/// An attempt's private folder: what agent and supervisor know of it, and what must outlive both.
///
/// Attempts that are held in one place, one after another, share one, which is named after the first of them: their states are in a
/// [`StateLog`], so that none of them makes or removes a file. Any other attempt has one of its own, with a `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptDir {
    path: PathBuf,
    key: AttemptKey,
    is_shared: bool,
}

/// What an agent that starts must know about an attempt that it finds.
///
/// `state.json` is replaced as a whole by a rename, so that a reader sees one phase or the next. It is not forced to the disk:
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

#[cfg(test)]
impl Assignment {
    /// One of an attempt in a shared place.
    pub fn of_test(key: AttemptKey) -> Self {
        Self {
            node: "node01".into(),
            address: "127.0.0.1".into(),
            private: AttemptDir::shared("/var/lib/muster/attempts/7_1.1".as_ref(), &key),
            run: "/run/muster/attempts/7_1.1".into(),
            bin_dir: "/usr/bin".into(),
            sshd: "/usr/sbin/sshd".into(),
            containment: Containment::Subreaper,
            cores: vec![vec![3]],
            cores_wrap: false,
            withheld: Vec::new(),
            agent: "/var/lib/muster".into(),
            work: "/var/lib/muster/work".into(),
            records: "/var/lib/muster/folders".into(),
            shared_roots: Vec::new(),
            stage_files_max: 0,
            stage_bytes_max: 0,
        }
    }
}

#[cfg(test)]
impl AttemptState {
    /// One of an attempt that runs in this boot as far as a test cares, whose record of steps is so long.
    pub fn of_test(key: AttemptKey, steps_bytes: u64) -> Self {
        Self {
            boot_id: "b".into(),
            supervisor: ProcessId { pid: 1, start_ticks: 2 },
            containment: Containment::Subreaper,
            run: "/run/muster/attempts/12_0.1".into(),
            at_once: true,
            report: InstanceReport { key: Some(key), steps_bytes, ..InstanceReport::default() },
        }
    }
}

impl AttemptDir {
    /// A folder of the attempt's own, below the agent's `attempts`.
    pub fn own(attempts: &Path, key: &AttemptKey) -> Self {
        Self { path: attempts.join(key.to_string()), key: *key, is_shared: false }
    }

    /// That of an attempt in a folder that others have as well.
    pub fn shared(folder: &Path, key: &AttemptKey) -> Self {
        Self { path: folder.to_owned(), key: *key, is_shared: true }
    }

    /// Makes the folder together with its first state: whoever finds the folder finds a state in it, even if the agent
    /// is killed on the way.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if it cannot be made.
    pub fn create(&self, state: &AttemptState) -> Result<()> {
        let mut unfinished = self.path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let path = PathBuf::from(unfinished);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(NodeError::file("remove the old folder", path)(error));
            }
            _ => {}
        }
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(NodeError::file("create the folder", &path))?;
        let (name, text) = match self.is_shared {
            true => (state_log::NAME, self.records(state)?.as_bytes().to_owned()),
            false => (STATE, self.to_text(state)?),
        };
        let state_path = path.join(name);
        std::fs::write(&state_path, text).map_err(NodeError::file("write", &state_path))?;
        std::fs::rename(&path, &self.path).map_err(NodeError::file("create the folder", &self.path))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket at which the supervisor listens for an agent.
    pub fn control(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Removes what is there of this attempt alone. Most have a state and nothing else.
    ///
    /// # Errors
    ///
    /// As of remove_dir_all.
    pub fn remove(&self) -> std::io::Result<()> {
        if self.is_shared {
            for file in [self.log(), self.steps()] {
                let _ = std::fs::remove_file(file);
            }
            return Ok(());
        }
        for file in [self.control(), self.state()] {
            let _ = std::fs::remove_file(file);
        }
        std::fs::remove_dir(&self.path).or_else(|_| std::fs::remove_dir_all(&self.path))
    }

    /// What the supervisor logs.
    pub fn log(&self) -> PathBuf {
        self.file("supervisor.log")
    }

    /// The record of the attempt's steps.
    pub fn steps(&self) -> PathBuf {
        self.file("steps.log")
    }

    /// A file of this attempt alone.
    fn file(&self, name: &str) -> PathBuf {
        match self.is_shared {
            true => self.path.join(format!("{}.{name}", self.key)),
            false => self.path.join(name),
        }
    }

    fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// The attempt's state.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::Malformed`] if it cannot be read.
    pub fn load(&self) -> Result<AttemptState> {
        if self.is_shared {
            return StateLog::of(&self.path).read_one(&self.key);
        }
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
        self.save_in(&mut None, state)
    }

    /// As [`Self::save`], by a log that stays open if attempts share one.
    ///
    /// # Errors
    ///
    /// As [`Self::save`].
    pub fn save_in(&self, log: &mut Option<OpenLog>, state: &AttemptState) -> Result<()> {
        if self.is_shared {
            return OpenLog::of(log, &self.path)?.append(&self.records(state)?);
        }
        let (path, new) = (self.state(), self.path.join("state.json.new"));
        std::fs::write(&new, self.to_text(state)?).map_err(NodeError::file("write", &new))?;
        std::fs::rename(&new, &path).map_err(NodeError::file("replace", &path))
    }

    fn records(&self, state: &AttemptState) -> Result<Records> {
        let mut records = Records::default();
        records.state(self.key, state)?;
        Ok(records)
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
    fn what_is_told_again_differs_in_the_attempt_alone() {
        let key = |task| AttemptKey { job: 7, task, attempt: 1 };
        let (before, next) = (Assignment::of_test(key(1)), Assignment::of_test(key(2)));
        assert_ne!(before, next);
        assert!(next.is_again(&before));
        assert_eq!(before.clone().again(key(2)), next);
        let own = AttemptDir::own("/var/lib/muster/attempts".as_ref(), &key(2));
        let others = [
            Assignment { cores: vec![vec![4]], ..next.clone() },
            Assignment { address: "127.0.0.2".into(), ..next.clone() },
            Assignment { run: "/run/muster/attempts/7_2.1".into(), ..next.clone() },
            Assignment { private: own, ..next },
        ];
        assert!(others.iter().all(|other| !other.is_again(&before)));
    }

    #[test]
    fn a_state_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let key = AttemptKey { job: 12, task: 3, attempt: 1 };
        let dir = AttemptDir::own(folder.path(), &key);
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
                leaves_nothing: true,
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

        let shared = AttemptDir::shared(&folder.path().join("12_1.1"), &key);
        shared.create(&state).unwrap();
        assert_eq!(shared.load().unwrap(), state);
        let state = AttemptState { boot_id: "d".into(), ..state };
        shared.save(&state).unwrap();
        assert_eq!(shared.load().unwrap(), state);
        assert_eq!(std::fs::read_dir(shared.path()).unwrap().count(), 1);
    }
}
