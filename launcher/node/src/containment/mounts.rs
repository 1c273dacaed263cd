//! Where the cgroup hierarchies are mounted.

use std::path::PathBuf;

/// The v1 controllers that are used, in the order in which a process enters them.
pub(super) const V1_CONTROLLERS: [&str; 5] = ["cpuset", "memory", "pids", "cpu", "cpuacct"];

/// The hierarchies that this process sees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The cgroup2 mount.
    pub unified: Option<PathBuf>,
    /// Controllers of version 1 with their mounts. Controllers may share one.
    pub v1: Vec<(String, PathBuf)>,
    /// The mount options of the cgroup2 file system.
    unified_options: String,
}

impl Mounts {
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Asks the kernel to make joining a group cheap (`favordynmods`, Linux 6.0,
    /// Documentation/admin-guide/cgroup-v2): without it every process that joins one waits 10 to 20 ms for all
    /// CPUs, and nothing on the node can fork meanwhile. Older kernels and hosts that see only a part of the
    /// hierarchy refuse, and go on as they are.
    pub(super) fn favor_dynamic_groups(&self) {
        const OPTION: &str = "favordynmods";
        let Some(unified) = &self.unified else { return };
        let mut options: Vec<&str> =
            self.unified_options.split(',').filter(|option| !matches!(*option, "rw" | "ro")).collect();
        if options.contains(&OPTION) {
            return;
        }
        // A remount replaces all options, so those in force are said again.
        options.push(OPTION);
        let remount = nix::mount::MsFlags::MS_REMOUNT;
        let data = options.join(",");
        if let Err(errno) =
            nix::mount::mount(None::<&str>, unified, None::<&str>, remount, Some(data.as_str()))
        {
            tracing::debug!(%errno, "the kernel does not make joining a cgroup cheap");
        }
    }

    /// Reads proc_pid_mountinfo(5). A later mount on the same point hides the earlier one.
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next().unwrap_or_default(), right.nth(1).unwrap_or_default());
            // Blanks and other odd characters are written in octal; a cgroup mount never has one.
            let point = PathBuf::from(point);
            match kind {
                "cgroup2" => {
                    found.unified = Some(point);
                    options.clone_into(&mut found.unified_options);
                }
                "cgroup" => {
                    for controller in V1_CONTROLLERS {
                        if options.split(',').any(|option| option == controller) {
                            found.v1.retain(|(known, _)| known != controller);
                            found.v1.push((controller.to_owned(), point.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        let rank = |name: &str| V1_CONTROLLERS.iter().position(|known| *known == name);
        found.v1.sort_by_key(|(name, _)| rank(name));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hybrid_machine() {
        let text = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/cpuset rw,relatime shared:7 - cgroup cgroup rw,cpuset
34 30 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
40 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = Mounts::parse(text);
        assert_eq!(found.unified, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found.v1,
            [
                ("cpuset".to_owned(), PathBuf::from("/sys/fs/cgroup/cpuset")),
                ("cpu".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
                ("cpuacct".to_owned(), PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")),
            ]
        );
    }
}
