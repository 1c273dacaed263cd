//! A cgroup subtree for every host, in every hierarchy that the machine has mounted.
//!
//! Three layouts occur: version 1 alone, version 2 alone, and the hybrid where version 1 holds the
//! controllers and version 2 only the process tree. See cgroups(7) and the kernel's cgroup-v2 document.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{ClusterError, Result};
use crate::process::PidFd;

/// The version 1 controllers that exist. Hierarchies without one, such as systemd's, are left alone.
const V1_CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The version 2 controllers that hosts get, where version 2 has them. Above the hosts they stay handed on when a
/// cluster has ended, as systemd does it too: others may use them by then.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The group below a host's own in which its system processes live. With version 2 a group that hands
/// controllers on may hold no process itself, as systemd's `system.slice` shows.
const SYSTEM_GROUP: &str = "system";

/// For how long a group may stay busy after its last process was killed.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);

/// How often a version 1 group is looked at; see [`poll_until`].
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Which of the two cgroup interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Where it is mounted, on the machine and in every host.
    pub(crate) mount_point: PathBuf,
    /// The controllers of version 1, separated by commas as mount(2) takes them; empty for version 2.
    pub(crate) controllers: String,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    /// The group in which a new process of the host starts.
    fn start_group(&self, group: &Path) -> PathBuf {
        match self.version {
            Version::V1 => group.to_owned(),
            Version::V2 => group.join(SYSTEM_GROUP),
        }
    }
}

/// The groups of one host, or of a whole cluster, in all hierarchies.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    hierarchies: Vec<Hierarchy>,
    /// The path below each mount point.
    path: PathBuf,
}

/// Finds the hierarchies that are mounted below `/sys/fs/cgroup`.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let path = Path::new("/proc/self/mountinfo");
    Ok(parse_mounts(&fs::read_to_string(path).map_err(ClusterError::file("read", path))?))
}

/// Reads proc_pid_mountinfo(5): the mount point is field 5; after a lone `-` follow the type, the source
/// and the options of the file system.
fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount_point), Some(kind)) = (left.split(' ').nth(4), right.split(' ').next()) else {
            continue;
        };
        if !Path::new(mount_point).starts_with("/sys/fs/cgroup") {
            continue;
        }
        let options = right.rsplit(' ').next().unwrap_or_default();
        let known: Vec<&str> = options.split(',').filter(|option| V1_CONTROLLERS.contains(option)).collect();
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" if !known.is_empty() => Version::V1,
            _ => continue,
        };
        let controllers = if version == Version::V1 { known.join(",") } else { String::new() };
        let hierarchy = Hierarchy { version, mount_point: mount_point.into(), controllers };
        if !found.contains(&hierarchy) {
            found.push(hierarchy);
        }
    }
    found
}

/// Asks the kernel to make joining a group cheap (`favordynmods`, Linux 6.0), as an agent on a real host does; a
/// host of the cluster sees a part of the hierarchy only and may not. Without it every process that joins a group
/// waits 10 to 20 ms for all CPUs of the machine, and no other process can fork meanwhile. The setting lasts until
/// the machine restarts and does no harm; a kernel that does not know it goes on as it is.
pub(crate) fn favor_dynamic_groups() {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let unified = mountinfo.lines().filter_map(|line| line.split_once(" - cgroup2 ")).next_back();
    let Some((left, right)) = unified else { return };
    let (Some(point), Some(options)) = (left.split(' ').nth(4), right.rsplit(' ').next()) else { return };
    let mut options: Vec<&str> =
        options.split(',').filter(|option| !matches!(*option, "rw" | "ro")).collect();
    if options.contains(&"favordynmods") {
        return;
    }
    // A remount replaces all options, so those in force are said again.
    options.push("favordynmods");
    let data = options.join(",");
    let remount = nix::mount::MsFlags::MS_REMOUNT;
    let _older_kernel = nix::mount::mount(None::<&str>, point, None::<&str>, remount, Some(data.as_str()));
}

impl Groups {
    /// The groups of one host.
    pub(crate) fn of_host(cluster: &str, host: &str) -> Result<Self> {
        Ok(Self { hierarchies: hierarchies()?, path: cluster_group(cluster).join(host) })
    }

    /// The groups that hold all hosts of a cluster.
    pub(crate) fn of_cluster(cluster: &str) -> Result<Self> {
        Ok(Self { hierarchies: hierarchies()?, path: cluster_group(cluster) })
    }

    pub(crate) fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Makes the groups, empty and ready for processes. What an earlier life of the host left is removed.
    pub(crate) fn create(&self) -> Result<()> {
        self.remove()?;
        for hierarchy in &self.hierarchies {
            let group = hierarchy.mount_point.join(&self.path);
            fs::create_dir_all(&group).map_err(ClusterError::file("make the cgroup", &group))?;
            if hierarchy.has("cpuset") {
                fill_cpuset(hierarchy, &self.path)?;
            }
            if hierarchy.version == Version::V2 {
                let mut above = hierarchy.mount_point.clone();
                for part in std::iter::once(Path::new("")).chain(self.path.iter().map(Path::new)) {
                    above.push(part);
                    if above != group {
                        hand_controllers_on(&above);
                    }
                }
                let system = group.join(SYSTEM_GROUP);
                fs::create_dir(&system).map_err(ClusterError::file("make the cgroup", &system))?;
            }
        }
        Ok(())
    }

    /// Opens the files into which a process of the host writes `0` to enter its groups.
    ///
    /// They are opened before any namespace is entered: what a write may do is judged by the namespaces of
    /// the one who opened the file.
    pub(crate) fn open_entries(&self) -> Result<Vec<File>> {
        let groups = self.hierarchies.iter().map(|h| h.start_group(&h.mount_point.join(&self.path)));
        groups.map(|group| open_procs(&group)).collect()
    }

    /// Moves the calling process into the host's groups and calls `make_namespace` while the host's own
    /// group is the current one, so that it becomes the root of the host's view.
    pub(crate) fn enter_as_first(&self, make_namespace: impl FnOnce() -> Result<()>) -> Result<()> {
        let roots: Vec<PathBuf> = self.hierarchies.iter().map(|h| h.mount_point.join(&self.path)).collect();
        let entries = self.open_entries()?;
        for root in &roots {
            enter(&open_procs(root)?).map_err(ClusterError::file("enter the cgroup", root))?;
        }
        make_namespace()?;
        for ((hierarchy, root), entry) in self.hierarchies.iter().zip(&roots).zip(&entries) {
            if hierarchy.version == Version::V2 {
                enter(entry).map_err(ClusterError::file("enter the cgroup", root))?;
                hand_controllers_on(root);
            }
        }
        Ok(())
    }

    /// Stops every process of the host, or lets all run again, and waits until that is so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        // Version 2 is preferred: it tells when it is done, and a frozen process can be killed.
        if let Some(v2) = self.hierarchies.iter().find(|h| h.version == Version::V2) {
            let group = v2.mount_point.join(&self.path);
            write_file(&group.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
            let wish = if frozen { "frozen 1" } else { "frozen 0" };
            return wait_event(&group, wish);
        }
        let Some(v1) = self.hierarchies.iter().find(|h| h.has("freezer")) else {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            return Err(ClusterError::System {
                action: "freeze a host without cgroup2 and v1 freezer",
                source,
            });
        };
        let state = v1.mount_point.join(&self.path).join("freezer.state");
        let wish = if frozen { "FROZEN" } else { "THAWED" };
        write_file(&state, wish)?;
        poll_until(&format!("{} = {wish}", state.display()), || {
            Ok(fs::read_to_string(&state).map_err(ClusterError::file("read", &state))?.trim() == wish)
        })
    }

    /// Whether the host is frozen; false when its groups are gone.
    pub(crate) fn is_frozen(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let group = hierarchy.mount_point.join(&self.path);
            let says = |file: &str, line: &str| {
                fs::read_to_string(group.join(file)).is_ok_and(|text| text.lines().any(|found| found == line))
            };
            says("cgroup.events", "frozen 1") || says("freezer.state", "FROZEN")
        })
    }

    /// Kills every process in the groups, removes them and all below them. Groups that are not there are
    /// no error.
    pub(crate) fn remove(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let group = hierarchy.mount_point.join(&self.path);
            if group.exists() {
                remove_tree(&group)?;
            }
        }
        Ok(())
    }
}

/// The group of a cluster, relative to a hierarchy's mount point.
fn cluster_group(cluster: &str) -> PathBuf {
    PathBuf::from(format!("vcluster-{cluster}"))
}

/// Moves the calling process into the group whose `cgroup.procs` is `entry`; `0` means the writer.
pub(crate) fn enter(mut entry: &File) -> io::Result<()> {
    entry.write_all(b"0")
}

fn open_procs(group: &Path) -> Result<File> {
    let path = group.join("cgroup.procs");
    OpenOptions::new().write(true).open(&path).map_err(ClusterError::file("open", &path))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    // No file may be made here: an absent one means that the kernel lacks the feature.
    let opened = OpenOptions::new().write(true).open(path);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(ClusterError::file("write", path))
}

/// A new cpuset of version 1 holds no CPU and no memory node and so takes no process; fill it from its
/// parent, the outermost first.
fn fill_cpuset(hierarchy: &Hierarchy, path: &Path) -> Result<()> {
    let mut parent = hierarchy.mount_point.clone();
    for part in path {
        let group = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = parent.join(file);
            let value = fs::read_to_string(&from).map_err(ClusterError::file("read", &from))?;
            let to = group.join(file);
            let own = fs::read_to_string(&to).map_err(ClusterError::file("read", &to))?;
            if own.trim().is_empty() {
                write_file(&to, value.trim())?;
            }
        }
        parent = group;
    }
    Ok(())
}

/// Lets the groups below `group` use those of [`V2_CONTROLLERS`] that it has. One at a time, and a refusal is no
/// error: a machine may lack the right to one of them, and a host then lacks it too.
fn hand_controllers_on(group: &Path) {
    let available = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_ascii_whitespace().filter(|name| V2_CONTROLLERS.contains(name)) {
        let _refused = write_file(&group.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// Waits for a line of `cgroup.events` by the kernel's notification.
fn wait_event(group: &Path, wish: &str) -> Result<()> {
    let path = group.join("cgroup.events");
    let file = File::open(&path).map_err(ClusterError::file("open", &path))?;
    let deadline = Instant::now() + EMPTY_LIMIT;
    loop {
        // The notification is armed by a read from the start, and each read must be a new one.
        let text = io::read_to_string(&file).map_err(ClusterError::file("read", &path))?;
        if text.lines().any(|line| line == wish) {
            return Ok(());
        }
        io::Seek::rewind(&mut &file).map_err(ClusterError::file("read", &path))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let what = format!("`{wish}` in {}", path.display());
            return Err(ClusterError::Timeout { what, seconds: EMPTY_LIMIT.as_secs() });
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(ClusterError::file("watch", &path)(errno)),
        }
    }
}

/// Removes a group and all below it, the innermost first.
fn remove_tree(group: &Path) -> Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ClusterError::file("read", group)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(ClusterError::file("read", group))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    poll_until(&format!("the removal of {}", group.display()), || match fs::remove_dir(group) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            kill_members(group);
            Ok(false)
        }
        Err(error) => Err(ClusterError::file("remove the cgroup", group)(error)),
    })
}

/// Kills the processes of one group; those that end meanwhile are no error.
fn kill_members(group: &Path) {
    let _not_frozen = write_file(&group.join("freezer.state"), "THAWED");
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| line.parse().ok()).filter(|&pid| pid > 0) {
        if let Ok(Some(process)) = PidFd::open(pid) {
            let _gone = process.signal(nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Asks again and again until `done` or [`EMPTY_LIMIT`]. Version 1 groups send no event when they become
/// empty or frozen, and neither version tells when a dying process no longer makes a group busy.
fn poll_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + EMPTY_LIMIT;
    while !done()? {
        if Instant::now() >= deadline {
            return Err(ClusterError::Timeout { what: what.to_owned(), seconds: EMPTY_LIMIT.as_secs() });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(version: Version, mount_point: &str, controllers: &str) -> Hierarchy {
        Hierarchy { version, mount_point: mount_point.into(), controllers: controllers.to_owned() }
    }

    #[test]
    fn the_hybrid_layout_is_read() {
        let text = "\
25 1 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
29 25 0:25 / /mnt/elsewhere rw - cgroup2 cgroup2 rw";
        assert_eq!(
            parse_mounts(text),
            [
                hierarchy(Version::V1, "/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
                hierarchy(Version::V2, "/sys/fs/cgroup/unified", ""),
            ]
        );
    }

    #[test]
    fn the_unified_layout_is_read() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
        assert_eq!(parse_mounts(text), [hierarchy(Version::V2, "/sys/fs/cgroup", "")]);
    }
}
