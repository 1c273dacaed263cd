//! Holding all processes of an attempt together: limits for them, one kill for all of them, and their use of the
//! machine.
//!
//! Three kinds exist, and [`Containment::detect`] finds the best that this node permits, by trying:
//! cgroup v2 with its controllers; *hybrid*, where the limits are set by v1 controllers and the killing is done in
//! the controller-less cgroup2 mount; and a *subreaper* sweep through `/proc` where no cgroup may be made.

mod devices;
mod files;
pub mod hybrid;
mod mounts;
pub mod subreaper;
pub mod v2;
mod watch;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use devices::DeviceNumber;
use muster_wire::v1;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use watch::Watch;

use crate::error::{NodeError, Result};

/// How often a kill is repeated while something is left. The kernel tells at once when a group is empty; this is
/// for processes that wait for a device and for the sweep, which nobody tells anything.
const KILL_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The pause between two sweeps through `/proc`.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// How long the removal of an empty group is tried. A v1 group stays busy until the last process has left the
/// scheduler, and no event tells of that.
const REMOVE_WITHIN: Duration = Duration::from_secs(2);

/// The kind of containment of this node, with the places where it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Containment {
    /// Limits and kill in cgroup v2.
    V2(v2::Tree),
    /// Limits in v1 controllers, kill in the cgroup2 mount.
    Hybrid(hybrid::Trees),
    /// No cgroups.
    Subreaper,
}

/// What an attempt may use on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// The kernel's CPU numbers.
    pub cpus: Vec<u32>,
    /// Bytes of memory; 0: no limit.
    pub memory_bytes: u64,
    /// Devices that it must not open.
    pub withheld: Vec<DeviceNumber>,
}

/// The containment of one attempt.
#[derive(Debug, Clone)]
pub enum Group {
    /// A cgroup of version 2.
    V2(v2::Group),
    /// A cgroup for the kill, and one in each v1 controller.
    Hybrid(hybrid::Group),
    /// A mark in the environment.
    Subreaper(subreaper::Sweep),
}

/// The open entrances of a containment.
#[derive(Debug, Default)]
pub struct Entrances {
    /// Where a process writes `0` to enter the group for the kill.
    pub kill: Option<OwnedFd>,
    /// That group's folder, if a process can be born in it.
    pub kill_folder: Option<OwnedFd>,
    /// Where a process writes `0` to enter the groups for the limits, if those are others.
    pub limits: Vec<OwnedFd>,
}

impl Containment {
    /// Finds the best kind that works here. `parent` is the name of the cgroup that is to hold all others.
    pub fn detect(parent: &str) -> Self {
        let mounts = mounts::Mounts::read();
        mounts.favor_dynamic_groups();
        let tree = match &mounts.unified {
            Some(mount) => v2::Tree::establish(mount, parent),
            None => return Self::Subreaper,
        };
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                tracing::warn!(
                    error = error.sentence(),
                    "no cgroup may be made here; the processes of an attempt are found by a sweep, without limits"
                );
                return Self::Subreaper;
            }
        };
        if tree.has_limits() || mounts.v1.is_empty() {
            return Self::V2(tree);
        }
        Self::Hybrid(hybrid::Trees::establish(tree, &mounts.v1, parent))
    }

    /// The kind, as the controller is told.
    pub fn kind(&self) -> v1::Containment {
        match self {
            Self::V2(_) => v1::Containment::CgroupV2,
            Self::Hybrid(_) => v1::Containment::CgroupHybrid,
            Self::Subreaper => v1::Containment::Subreaper,
        }
    }

    /// Takes the calling process out of its session's group, so that whatever ends that (a service manager, a
    /// login that closes) does not end it. `role` names the group below the parent.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the group cannot be made or entered.
    pub fn shelter(&self, role: &str) -> Result<()> {
        match self {
            Self::V2(tree) => tree.shelter(role),
            Self::Hybrid(trees) => trees.kill.shelter(role),
            Self::Subreaper => Ok(()),
        }
    }

    /// The file to which a process writes `0` to be sheltered so; `None` where there are no groups.
    pub fn shelter_entrance(&self, role: &str) -> Option<PathBuf> {
        match self {
            Self::V2(tree) => tree.shelter_entrance(role),
            Self::Hybrid(trees) => trees.kill.shelter_entrance(role),
            Self::Subreaper => None,
        }
    }

    /// Whether this node is a part of its machine, as a container is.
    pub fn sees_part(&self) -> bool {
        match self {
            Self::V2(tree) => tree.sees_part(),
            Self::Hybrid(trees) => trees.kill.sees_part(),
            Self::Subreaper => false,
        }
    }

    /// What holds all attempts of this node, if anything does.
    pub fn whole(&self) -> Option<Group> {
        match self {
            Self::V2(tree) => Some(Group::V2(tree.whole())),
            Self::Hybrid(trees) => Some(Group::Hybrid(trees.whole())),
            Self::Subreaper => None,
        }
    }

    /// Makes the containment of an attempt.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] for the first group or limit that the kernel refuses; what was made before is removed.
    pub fn create(&self, name: &str, run_folder: PathBuf, limits: &Limits) -> Result<Group> {
        let group = self.group(name, run_folder);
        let made = match &group {
            Group::V2(group) => group.create(limits),
            Group::Hybrid(group) => group.create(limits),
            Group::Subreaper(_) => Ok(()),
        };
        if let Err(error) = made {
            group.remove_now();
            return Err(error);
        }
        Ok(group)
    }

    /// The containment of an attempt that exists, or existed, already.
    pub fn group(&self, name: &str, run_folder: PathBuf) -> Group {
        match self {
            Self::V2(tree) => Group::V2(tree.group(name)),
            Self::Hybrid(trees) => Group::Hybrid(trees.group(name)),
            Self::Subreaper => Group::Subreaper(subreaper::Sweep::new(run_folder)),
        }
    }
}

impl Group {
    /// The files to which a process writes `0` to enter.
    pub fn entrances(&self) -> Vec<PathBuf> {
        match self {
            Self::V2(group) => vec![group.procs()],
            Self::Hybrid(group) => group.entrances(),
            Self::Subreaper(_) => Vec::new(),
        }
    }

    /// The entrances, opened for processes that are to enter.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] for the first that cannot be opened.
    pub fn open_entrances(&self) -> Result<Entrances> {
        let open = |path: PathBuf| match std::fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) => Ok(file.into()),
            Err(error) => Err(NodeError::file("open", path)(error)),
        };
        let mut all: Vec<OwnedFd> = self.entrances().into_iter().map(open).collect::<Result<_>>()?;
        let limits = all.split_off(all.len().min(1));
        let folder = match self {
            Self::V2(group) => Some(group),
            Self::Hybrid(group) => Some(&group.kill),
            Self::Subreaper(_) => None,
        };
        let folder = folder.and_then(|group| std::fs::File::open(group.folder()).ok());
        Ok(Entrances { kill: all.pop(), kill_folder: folder.map(Into::into), limits })
    }

    /// The files to which a single thread writes `0` to enter all but the group for the kill, so that what it starts is born there.
    pub fn thread_entrances(&self) -> Vec<PathBuf> {
        match self {
            Self::Hybrid(group) => group.thread_entrances(),
            Self::V2(_) | Self::Subreaper(_) => Vec::new(),
        }
    }

    /// Keeps the files open that are read after each attempt, for a group that is to serve one after another.
    pub fn keep_open(&mut self) {
        match self {
            Self::V2(group) => group.keep_open(Arc::default()),
            Self::Hybrid(group) => group.keep_open(),
            Self::Subreaper(_) => {}
        }
    }

    /// The processes inside at this moment.
    pub fn processes(&self) -> Vec<i32> {
        match self {
            Self::V2(group) => group.processes(),
            Self::Hybrid(group) => group.kill.processes(),
            Self::Subreaper(sweep) => sweep.processes(),
        }
    }

    /// Sends a signal to every process inside. Processes that start meanwhile may miss it.
    pub fn signal(&self, signal: Signal) {
        match self {
            Self::V2(group) => group.signal(signal),
            Self::Hybrid(group) => group.kill.signal(signal),
            Self::Subreaper(sweep) => {
                sweep.signal(signal);
            }
        }
    }

    /// Kills everything inside and returns when nothing is left, however long that takes.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the kernel cannot be asked.
    pub async fn end(&self) -> Result<()> {
        let kill = match self {
            Self::V2(group) => group,
            Self::Hybrid(group) => &group.kill,
            Self::Subreaper(sweep) => {
                while sweep.signal(Signal::SIGKILL) > 0 {
                    tokio::time::sleep(SWEEP_PAUSE).await;
                }
                return Ok(());
            }
        };
        // Most often nothing is inside any more, and nobody must be waited for.
        if kill.is_empty() {
            return Ok(());
        }
        let watch = Watch::of(&kill.events())?;
        loop {
            kill.kill();
            if kill.is_empty() {
                return Ok(());
            }
            if let Ok(changed) = tokio::time::timeout(KILL_AGAIN_AFTER, watch.changed()).await {
                changed.map_err(NodeError::system("wait for the end of a cgroup"))?;
            }
        }
    }

    /// Returns when nothing is inside any more, without doing anything for it.
    pub async fn emptied(&self) {
        let group = match self {
            Self::V2(group) => group,
            Self::Hybrid(group) => &group.kill,
            Self::Subreaper(sweep) => {
                while !sweep.processes().is_empty() {
                    tokio::time::sleep(KILL_AGAIN_AFTER).await;
                }
                return;
            }
        };
        if group.is_empty() {
            return;
        }
        let watch = Watch::of(&group.events());
        while !group.is_empty() {
            let changed = match &watch {
                Ok(watch) => watch.changed().await.is_ok(),
                Err(_) => false,
            };
            if !changed {
                tokio::time::sleep(KILL_AGAIN_AFTER).await;
            }
        }
    }

    /// What the processes inside have used so far.
    pub fn usage(&self) -> v1::Usage {
        match self {
            Self::V2(group) => group.usage(),
            Self::Hybrid(group) => group.usage(),
            Self::Subreaper(_) => v1::Usage::default(),
        }
    }

    /// Makes the empty containment ready for another attempt: the peak of memory counts anew, and all else goes on. False if it must be
    /// made anew as well: nothing may be charged to it that was another's.
    pub fn renew(&self) -> bool {
        match self {
            Self::V2(group) => group.renew(),
            Self::Hybrid(group) => group.renew(),
            Self::Subreaper(_) => true,
        }
    }

    /// Moves the empty containment to other CPUs, as many as before.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if the kernel refuses.
    pub fn move_to(&self, cpus: &[u32]) -> Result<()> {
        match self {
            Self::V2(group) => group.move_to(cpus),
            Self::Hybrid(group) => group.move_to(cpus),
            Self::Subreaper(_) => Ok(()),
        }
    }

    /// Memory in use inside at this moment, in bytes; 0 if it is not known.
    pub fn memory_in_use(&self) -> u64 {
        match self {
            Self::V2(group) => group.memory_in_use(),
            Self::Hybrid(group) => group.memory_in_use(),
            Self::Subreaper(_) => 0,
        }
    }

    /// Whether the kernel killed a process inside for want of memory.
    pub fn out_of_memory(&self) -> bool {
        match self {
            Self::V2(group) => group.out_of_memory(),
            Self::Hybrid(group) => group.out_of_memory(),
            Self::Subreaper(_) => false,
        }
    }

    /// Removes the empty containment.
    pub async fn remove(&self) {
        let until = tokio::time::Instant::now() + REMOVE_WITHIN;
        while !self.remove_now() {
            if tokio::time::Instant::now() > until {
                tracing::warn!(group = ?self, "an empty cgroup cannot be removed");
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// One try at the removal: whether nothing is left.
    fn remove_now(&self) -> bool {
        match self {
            Self::V2(group) => group.remove(),
            Self::Hybrid(group) => group.remove(),
            Self::Subreaper(_) => true,
        }
    }
}
