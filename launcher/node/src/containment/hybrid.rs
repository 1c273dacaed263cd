//! Limits in v1 controllers, the kill in the cgroup2 mount (Documentation/admin-guide/cgroup-v1 of the kernel).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_wire::v1;
use serde::{Deserialize, Serialize};

use super::Limits;
use super::files::{Files, OpenFiles, get, make, number_of, remove, set};
use super::v2;
use crate::error::Result;

/// How much may be charged to a group that serves another attempt: about what the kernel sets aside for it on each CPU.
const CHARGED_BYTES_MAX: u64 = 2 << 20;

/// The parent groups of all attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trees {
    pub(super) kill: v2::Tree,
    /// Controllers and the parent group in each one's mount.
    limits: Vec<(String, PathBuf)>,
    /// Whether a new cpuset has what its parent has.
    #[serde(default)]
    cpusets_inherit: bool,
}

impl Trees {
    /// Makes the parent groups. A controller that cannot be used is left out.
    pub(super) fn establish(kill: v2::Tree, mounts: &[(String, PathBuf)], parent: &str) -> Self {
        let mut limits = Vec::new();
        let mut cpusets_inherit = false;
        // The kernel counts CPU time there as well, without a controller (Linux 4.15).
        let counts_cpu = kill.counts_cpu();
        for (controller, mount) in mounts.iter().filter(|(name, _)| !(counts_cpu && name == "cpuacct")) {
            let folder = mount.join(parent);
            let made = make(&folder).and_then(|()| match controller.as_str() {
                "cpuset" => {
                    cpusets_inherit = set(&folder, "cgroup.clone_children", "1").is_ok();
                    inherit_cpuset(mount, &folder)
                }
                _ => Ok(()),
            });
            match made {
                Ok(()) => limits.push((controller.clone(), folder)),
                Err(error) => {
                    tracing::warn!(
                        controller,
                        error = error.sentence(),
                        "a cgroup controller cannot be used"
                    );
                }
            }
        }
        Self { kill, limits, cpusets_inherit }
    }

    /// All attempts together.
    pub(super) fn whole(&self) -> Group {
        let cpuset_inherits = self.cpusets_inherit;
        Group { kill: self.kill.whole(), limits: self.limits.clone(), cpuset_inherits, open: None }
    }

    pub(super) fn group(&self, name: &str) -> Group {
        let limits = self.limits.iter().map(|(controller, parent)| (controller.clone(), parent.join(name)));
        let cpuset_inherits = self.cpusets_inherit;
        Group { kill: self.kill.group(name), limits: limits.collect(), cpuset_inherits, open: None }
    }
}

/// A new v1 cpuset has no CPU and no memory node, and takes no process until it has both.
fn inherit_cpuset(from: &Path, to: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        set(to, file, get(from, file).trim())?;
    }
    Ok(())
}

/// The groups of one attempt.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) kill: v2::Group,
    limits: Vec<(String, PathBuf)>,
    cpuset_inherits: bool,
    open: Option<Arc<OpenFiles>>,
}

impl Group {
    pub(super) fn create(&self, limits: &Limits) -> Result<()> {
        self.kill.create(&Limits { withheld: limits.withheld.clone(), ..Limits::default() })?;
        for (controller, folder) in &self.limits {
            make(folder)?;
            match controller.as_str() {
                "cpuset" => {
                    if let Some(parent) = folder.parent().filter(|_| !self.cpuset_inherits) {
                        inherit_cpuset(parent, folder)?;
                    }
                    if !limits.cpus.is_empty() {
                        set(folder, "cpuset.cpus", &muster_topo::format_list(&limits.cpus))?;
                    }
                }
                "memory" if limits.memory_bytes > 0 => {
                    let bytes = limits.memory_bytes.to_string();
                    set(folder, "memory.limit_in_bytes", &bytes)?;
                    // Memory was promised, not swap space; kernels that do not account for swap lack the file.
                    let _ = set(folder, "memory.memsw.limit_in_bytes", &bytes);
                }
                // By shares, an attempt that spins on all its cores starves neither the agent nor its neighbours.
                "cpu" => {
                    let shares = 1024 * limits.cpus.len().max(1);
                    set(folder, "cpu.shares", &shares.to_string())?;
                }
                "pids" => set(folder, "pids.max", &v2::pids_max().to_string())?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The group for the kill comes first: from then on nothing of the process can be missed.
    pub(super) fn entrances(&self) -> Vec<PathBuf> {
        let limits = self.limits.iter().map(|(_, folder)| folder.join("cgroup.procs"));
        std::iter::once(self.kill.procs()).chain(limits).collect()
    }

    /// The files through which single threads enter the groups of the limits (cgroups.rst, "tasks").
    pub(super) fn thread_entrances(&self) -> Vec<PathBuf> {
        self.limits.iter().map(|(_, folder)| folder.join("tasks")).collect()
    }

    fn files(&self, controller: &str) -> Option<Files<'_>> {
        let (_, folder) = self.limits.iter().find(|(name, _)| name == controller)?;
        Some(Files { folder, open: self.open.as_deref() })
    }

    /// From here on files that are read after each attempt stay open.
    pub(super) fn keep_open(&mut self) {
        let open = Arc::<OpenFiles>::default();
        self.kill.keep_open(open.clone());
        self.open = Some(open);
    }

    pub(super) fn usage(&self) -> v1::Usage {
        let memory = self.files("memory").map(|files| files.get("memory.max_usage_in_bytes"));
        let nanoseconds = self.files("cpuacct").map(|files| files.get("cpuacct.usage"));
        let number = |text: Option<String>| text.and_then(|text| text.trim().parse::<u64>().ok());
        let system = self.files("cpuacct").map(|files| files.get("cpuacct.usage_sys"));
        let known = self.kill.usage();
        v1::Usage {
            cpu_time_us: number(nanoseconds).map_or(known.cpu_time_us, |time_ns| time_ns / 1000),
            memory_peak_bytes: number(memory).unwrap_or(0),
            cpu_system_us: number(system).map_or(known.cpu_system_us, |time_ns| time_ns / 1000),
            ..known
        }
    }

    /// Whether it can serve another attempt.
    pub(super) fn renew(&self) -> bool {
        let Some(files) = self.files("memory") else { return true };
        let held = files.get("memory.usage_in_bytes").trim().parse::<u64>();
        held.is_ok_and(|held| held <= CHARGED_BYTES_MAX)
            && files.set("memory.max_usage_in_bytes", "0").is_ok()
    }

    pub(super) fn move_to(&self, cpus: &[u32]) -> Result<()> {
        match self.files("cpuset") {
            Some(files) => files.set("cpuset.cpus", &muster_topo::format_list(cpus)),
            None => Ok(()),
        }
    }

    /// Memory in use, without files that are kept only because there is room, in bytes.
    pub(super) fn memory_in_use(&self) -> u64 {
        let Some(files) = self.files("memory") else { return 0 };
        let held: u64 = files.get("memory.usage_in_bytes").trim().parse().unwrap_or(0);
        held.saturating_sub(number_of(&files.get("memory.stat"), "total_inactive_file").unwrap_or(0))
    }

    pub(super) fn out_of_memory(&self) -> bool {
        self.files("memory")
            .is_some_and(|files| number_of(&files.get("memory.oom_control"), "oom_kill").unwrap_or(0) > 0)
    }

    /// The kill's group goes last: while it stands, an agent that starts again knows that something is left.
    pub(super) fn remove(&self) -> bool {
        let limits_gone = self.limits.iter().fold(true, |gone, (_, folder)| remove(folder) && gone);
        limits_gone && self.kill.remove()
    }
}
