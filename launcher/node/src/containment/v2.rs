//! cgroup version 2 (Documentation/admin-guide/cgroup-v2.rst of the kernel).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use muster_wire::v1;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::files::{Files, OpenFiles, below, get, make, number_of, remove, set, sum_of};
use super::{Limits, devices};
use crate::error::Result;

/// The controllers whose limits an attempt gets, where the kernel offers them.
const CONTROLLERS: [&str; 4] = ["cpuset", "memory", "pids", "cpu"];

/// The group below the parent that takes processes which would stand in the way of controllers.
const AGENT: &str = "agent";

/// The parent group of all attempts in the cgroup2 mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    parent: PathBuf,
    controllers: Vec<String>,
}

impl Tree {
    /// Makes the parent group and passes the controllers on to it.
    ///
    /// # Errors
    ///
    /// [`crate::NodeError::File`] if no group may be made. A controller that cannot be had is left out.
    pub(super) fn establish(mount: &Path, parent: &str) -> Result<Self> {
        let parent = mount.join(parent);
        make(&parent)?;
        let offered = get(mount, "cgroup.controllers");
        let wanted = CONTROLLERS.iter().filter(|name| offered.split_whitespace().any(|one| one == **name));
        let mut tree = Self { parent, controllers: Vec::new() };
        for controller in wanted {
            match tree.pass_on(mount, controller) {
                Ok(()) => tree.controllers.push((*controller).to_owned()),
                Err(error) => {
                    tracing::warn!(
                        controller,
                        error = error.sentence(),
                        "a cgroup controller cannot be used"
                    );
                }
            }
        }
        // It limits nothing here, and counts what is read and written.
        if offered.split_whitespace().any(|one| one == "io")
            && let Err(error) = tree.pass_on(mount, "io")
        {
            tracing::debug!(error = error.sentence(), "what tasks read and write cannot be counted");
        }
        // The try that decides whether this kind works at all.
        let probe = tree.group(&format!("probe-{}", std::process::id()));
        make(&probe.path)?;
        probe.remove();
        Ok(tree)
    }

    /// Lets the groups below the parent have a controller. A group that holds processes cannot pass controllers
    /// on (the rule of no internal processes), so an agent that stands in the visible root moves out of the way.
    fn pass_on(&self, mount: &Path, controller: &str) -> Result<()> {
        let switch = format!("+{controller}");
        if set(mount, "cgroup.subtree_control", &switch).is_err() {
            self.shelter(AGENT)?;
            set(mount, "cgroup.subtree_control", &switch)?;
        }
        set(&self.parent, "cgroup.subtree_control", &switch)
    }

    /// Whether the kernel counts CPU time here, whatever the controllers.
    pub(super) fn counts_cpu(&self) -> bool {
        number_of(&get(&self.parent, "cpu.stat"), "usage_usec").is_some()
    }

    /// Whether any limit can be set.
    pub(super) fn has_limits(&self) -> bool {
        !self.controllers.is_empty()
    }

    /// Moves the calling process into a group of its own kind below the parent.
    pub(super) fn shelter(&self, role: &str) -> Result<()> {
        let folder = self.parent.join(role);
        make(&folder)?;
        set(&folder, "cgroup.procs", "0")
    }

    /// The entrance of such a group, if the group can be made.
    pub(super) fn shelter_entrance(&self, role: &str) -> Option<PathBuf> {
        let folder = self.parent.join(role);
        make(&folder).ok().map(|()| folder.join("cgroup.procs"))
    }

    /// Whether the hierarchy that is seen here is a part of the machine's, as in a container: every group but the machine's own root
    /// has a type.
    pub(super) fn sees_part(&self) -> bool {
        let groups = self.parent.ancestors().filter(|folder| folder.join("cgroup.procs").exists());
        groups.last().is_some_and(|root| root.join("cgroup.type").exists())
    }

    /// All attempts together, with the agent.
    pub(super) fn whole(&self) -> Group {
        Group { path: self.parent.clone(), controllers: self.controllers.clone(), open: None }
    }

    pub(super) fn group(&self, name: &str) -> Group {
        Group { path: self.parent.join(name), controllers: self.controllers.clone(), open: None }
    }
}

/// The group of one attempt.
#[derive(Debug, Clone)]
pub struct Group {
    path: PathBuf,
    controllers: Vec<String>,
    open: Option<Arc<OpenFiles>>,
}

impl Group {
    pub(super) fn create(&self, limits: &Limits) -> Result<()> {
        make(&self.path)?;
        devices::withhold(&self.path, &limits.withheld)?;
        let has = |name: &str| self.controllers.iter().any(|known| known == name);
        if has("cpuset") && !limits.cpus.is_empty() {
            set(&self.path, "cpuset.cpus", &muster_topo::format_list(&limits.cpus))?;
        }
        if has("cpu") {
            // By weight, an attempt that spins on all its cores starves neither the agent nor its neighbours.
            let weight = (100 * limits.cpus.len()).clamp(100, 10_000);
            set(&self.path, "cpu.weight", &weight.to_string())?;
        }
        if has("pids") {
            set(&self.path, "pids.max", &pids_max().to_string())?;
        }
        if has("memory") {
            // One process that is killed for want of memory leaves an MPI program hanging; all go together.
            set(&self.path, "memory.oom.group", "1")?;
            if limits.memory_bytes > 0 {
                set(&self.path, "memory.max", &limits.memory_bytes.to_string())?;
                // Memory was promised, not swap space; kernels without swap lack the file.
                let _ = set(&self.path, "memory.swap.max", "0");
            }
        }
        Ok(())
    }

    fn files(&self) -> Files<'_> {
        Files { folder: &self.path, open: self.open.as_deref() }
    }

    /// From here on files that are read after each attempt stay open.
    pub(super) fn keep_open(&mut self, open: Arc<OpenFiles>) {
        self.open = Some(open);
    }

    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    pub(super) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.path.join("cgroup.events")
    }

    pub(super) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    pub(super) fn is_empty(&self) -> bool {
        match number_of(&self.files().get("cgroup.events"), "populated") {
            Some(populated) => populated == 0,
            None => !self.exists(),
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            // A process that has ended meanwhile needs no signal.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    pub(super) fn processes(&self) -> Vec<i32> {
        processes_in(&self.path)
    }

    /// Kills everything inside, once. `cgroup.kill` exists since Linux 5.14; before, the group is frozen so that
    /// nothing can fork away from the kill, which reaches frozen processes too.
    pub(super) fn kill(&self) {
        if set(&self.path, "cgroup.kill", "1").is_err() {
            let _ = set(&self.path, "cgroup.freeze", "1");
            self.signal(Signal::SIGKILL);
        }
    }

    pub(super) fn usage(&self) -> v1::Usage {
        let cpu = self.files().get("cpu.stat");
        let devices = self.files().get("io.stat");
        let has_memory = self.controllers.iter().any(|name| name == "memory");
        let peak = if has_memory { self.files().get("memory.peak") } else { String::new() };
        v1::Usage {
            cpu_time_us: number_of(&cpu, "usage_usec").unwrap_or(0),
            memory_peak_bytes: peak.trim().parse().unwrap_or(0),
            cpu_system_us: number_of(&cpu, "system_usec").unwrap_or(0),
            read_bytes: sum_of(&devices, "rbytes"),
            write_bytes: sum_of(&devices, "wbytes"),
            read_operations: sum_of(&devices, "rios"),
            write_operations: sum_of(&devices, "wios"),
        }
    }

    /// Whether it can serve another attempt. The peak of memory of a group cannot be set back for all who read it.
    pub(super) fn renew(&self) -> bool {
        !self.controllers.iter().any(|name| name == "memory")
    }

    pub(super) fn move_to(&self, cpus: &[u32]) -> Result<()> {
        match self.controllers.iter().any(|name| name == "cpuset") {
            true => self.files().set("cpuset.cpus", &muster_topo::format_list(cpus)),
            false => Ok(()),
        }
    }

    /// Memory in use, without files that are kept only because there is room, in bytes.
    pub(super) fn memory_in_use(&self) -> u64 {
        let held: u64 = get(&self.path, "memory.current").trim().parse().unwrap_or(0);
        held.saturating_sub(number_of(&get(&self.path, "memory.stat"), "inactive_file").unwrap_or(0))
    }

    pub(super) fn out_of_memory(&self) -> bool {
        number_of(&self.files().get("memory.events"), "oom_kill").unwrap_or(0) > 0
    }

    pub(super) fn remove(&self) -> bool {
        remove(&self.path)
    }
}

/// The processes of a group and of all groups below.
fn processes_in(folder: &Path) -> Vec<i32> {
    let text = get(folder, "cgroup.procs");
    let mut all: Vec<i32> =
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    all.extend(below(folder).iter().flat_map(|folder| processes_in(folder)));
    all
}

/// How many processes and threads an attempt may have: half of what the node can have at all, so that a task that
/// forks without end locks out neither the agent nor the node's administrator.
pub(super) fn pids_max() -> u64 {
    static FOUND: OnceLock<u64> = OnceLock::new();
    let limit = |file| get(Path::new("/proc/sys/kernel"), file).trim().parse().unwrap_or(32768u64);
    *FOUND.get_or_init(|| limit("pid_max").min(limit("threads-max")) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    /// A folder that looks like a group with these files.
    fn pretended(files: &[&str]) -> (tempfile::TempDir, Group) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let controllers = ["cpuset", "memory", "pids"].map(str::to_owned).to_vec();
        let group = Group { path: folder.path().to_owned(), controllers, open: None };
        (folder, group)
    }

    #[test]
    fn limits_are_written_as_the_kernel_wants_them() {
        let files = ["cpuset.cpus", "memory.max", "memory.oom.group", "memory.swap.max", "pids.max"];
        let (folder, group) = pretended(&files);
        group.create(&Limits { cpus: vec![0, 1, 2, 5], memory_bytes: 1 << 30, ..Limits::default() }).unwrap();
        let read = |file| std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert_eq!(files.map(read), ["0-2,5", "1073741824", "1", "0", &pids_max().to_string()]);
        // Without a limit the kernel's own, none, stays.
        let (folder, group) = pretended(&files);
        group.create(&Limits::default()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("memory.max")).unwrap(), "");
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let (_folder, group) = pretended(&["cpuset.cpus", "pids.max"]);
        let error = group.create(&Limits::default()).unwrap_err().to_string();
        assert!(error.contains("memory.oom.group"), "{error}");
    }

    #[test]
    fn what_was_used_is_read() {
        let (folder, group) = pretended(&[]);
        std::fs::write(folder.path().join("cpu.stat"), "usage_usec 123\nuser_usec 100\nsystem_usec 23\n")
            .unwrap();
        std::fs::write(folder.path().join("memory.peak"), "4096\n").unwrap();
        std::fs::write(folder.path().join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        let devices =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1 rbytes=5 wbytes=0 rios=1 wios=0\n";
        std::fs::write(folder.path().join("io.stat"), devices).unwrap();
        let used = v1::Usage {
            cpu_time_us: 123,
            memory_peak_bytes: 4096,
            cpu_system_us: 23,
            read_bytes: 15,
            write_bytes: 20,
            read_operations: 2,
            write_operations: 2,
        };
        assert_eq!(group.usage(), used);
        assert!(group.out_of_memory());
    }

    /// On the cgroup2 mount of this machine, wherever it is, without controllers.
    #[tokio::test]
    async fn a_real_group_is_entered_killed_and_removed() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let mounts = super::super::mounts::Mounts::read();
        let Some(mount) = mounts.unified else { return };
        let name = format!("muster-unit-{}", std::process::id());
        let tree = Tree { parent: mount.join(&name), controllers: Vec::new() };
        make(&tree.parent).unwrap();
        let group = tree.group("1_0.1");
        group.create(&Limits::default()).unwrap();
        let entrance = group.procs();
        let mut command = std::process::Command::new("sleep");
        // SAFETY: the write of a small file allocates, which is harmless in a test.
        unsafe { command.arg("1000").pre_exec(move || std::fs::write(&entrance, "0")) };
        let mut child = command.spawn().unwrap();
        assert_eq!(group.processes(), [child.id().cast_signed()]);
        assert!(!group.is_empty());
        let whole = super::super::Group::V2(group.clone());
        whole.end().await.unwrap();
        assert!(group.is_empty());
        child.wait().unwrap();
        whole.remove().await;
        assert!(!group.exists());
        remove(&tree.parent);
    }
}
