//! A host from the inside: its holder, which stays outside, and its process 1.
//!
//! ```text
//! muster-cluster host-hold   (outside; its end ends the host)
//! └─ muster-cluster host-init   (process 1 of the host: makes its world, starts sshd, reaps orphans)
//!    ├─ sshd
//!    └─ whatever is started in the host
//! ```
//!
//! Standard output is the line to whoever starts the host: process 1 writes `ready` there when sshd listens.
//! Standard error is the host's log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::cgroup::{Groups, Hierarchy, Version};
use crate::error::{ClusterError, Result};
use crate::network::{configure_host, find_program, host_namespace, namespace_path};
use crate::process::{ProcessId, wait_readable};
use crate::state::{Carrier, ClusterState, MOUNT_POINTS};

/// What process 1 writes when the host can be used.
pub(crate) const READY: &str = "ready\n";

/// What sshd logs when it is ready for connections.
const LISTENING: &str = "Server listening on";

/// The most that a host may put into its /dev/shm. MPI programs keep their shared segments there.
const SHM_OPTIONS: &str = "mode=1777,size=2g";

/// The most that a host may put into each other directory of its own, such as an uploaded agent.
const PRIVATE_OPTIONS: &str = "mode=755,size=1g";

/// Holds a host: starts its process 1 and ends with it.
///
/// # Errors
///
/// Whatever keeps process 1 from being started; the host is then off.
pub fn hold(cluster: &str, host: &str) -> Result<()> {
    let state = ClusterState::load(cluster)?;
    state.host(host)?;
    // The terminal and the process group of the starter must not reach the host with their signals.
    nix::unistd::setsid().map_err(ClusterError::system("make a session"))?;
    let own = i32::try_from(std::process::id()).expect("a process id is an int");
    let own = ProcessId::of(own).expect("a process can see itself");
    state.write_carrier(host, Carrier::Holder, own)?;

    let program = crate::cluster::program()?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(ClusterError::system("make a PID namespace"))?;
    let mut command = Command::new(program);
    command.args(["host-init", "--name", cluster, host]).env_clear().current_dir("/").stdin(Stdio::piped());
    // SAFETY: prctl is one system call on integers, which is safe between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    let mut init = command.spawn().map_err(ClusterError::system("start process 1 of the host"))?;
    let pid = i32::try_from(init.id()).expect("a process id is an int");
    // Open until this process ends, see `check_holder`; waiting for a child would close it.
    let _lifeline = init.stdin.take();
    if let Some(process) = ProcessId::of(pid) {
        state.write_carrier(host, Carrier::Init, process)?;
    }
    init.wait().map_err(ClusterError::system("wait for process 1 of the host"))?;
    Ok(())
}

/// Is process 1 of a host; returns when it is told to end by SIGTERM.
///
/// # Errors
///
/// Whatever keeps the host from coming up. When process 1 ends, the kernel kills all others in the host.
pub fn init(cluster: &str, host: &str) -> Result<()> {
    check_holder()?;
    let state = ClusterState::load(cluster)?;
    let address = state.host(host)?.address;
    // Blocked before anything is started, so that no end of a child is missed.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(ClusterError::system("block signals"))?;

    let hierarchies = enter_namespaces(cluster, host)?;
    let etc = crate::etc::host_etc(cluster, host);
    make_mounts(&hierarchies, &etc)?;
    nix::unistd::sethostname(host).map_err(ClusterError::system("set the host name"))?;
    configure_host(address)?;
    start_sshd()?;
    reap(&signals)
}

/// Ends process 1 when its holder ended before it could ask to be killed with it. From that request on the kernel
/// watches; of the time before, the pipe at standard input tells.
fn check_holder() -> Result<()> {
    let ended = wait_readable(std::io::stdin().as_fd(), Duration::ZERO);
    if ended.map_err(ClusterError::system("look at the holder's pipe"))? {
        return Err(ClusterError::System {
            action: "run without the holder, which has ended",
            source: Errno::EPIPE.into(),
        });
    }
    Ok(())
}

/// Enters the host's cgroups and namespaces; the PID namespace is there already.
fn enter_namespaces(cluster: &str, host: &str) -> Result<Vec<Hierarchy>> {
    let groups = Groups::of_host(cluster, host)?;
    groups.create()?;
    groups.enter_as_first(|| {
        let flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP;
        unshare(flags).map_err(ClusterError::system("make the namespaces of the host"))
    })?;
    let path = namespace_path(&host_namespace(cluster, host));
    let namespace = File::open(&path).map_err(ClusterError::file("open", &path))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(ClusterError::file("enter", &path))?;
    Ok(groups.hierarchies().to_vec())
}

/// Mounts what differs between hosts.
fn make_mounts(hierarchies: &[Hierarchy], etc: &Path) -> Result<()> {
    // Nothing that is mounted here may be seen outside; what is unmounted outside goes away here too, else
    // hosts would keep network namespaces of other clusters alive.
    mount_at(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_SLAVE, None)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_at(Some(Path::new("proc")), Path::new("/proc"), Some("proc"), plain, None)?;
    // Links that stand in /sys/fs/cgroup, such as cpu -> cpu,cpuacct, must be read before it is hidden.
    let links = cgroup_links();
    mount_at(Some(Path::new("sysfs")), Path::new("/sys"), Some("sysfs"), plain, None)?;
    mount_cgroups(hierarchies, &links)?;
    let devices = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(Some(Path::new("tmpfs")), Path::new("/dev/shm"), Some("tmpfs"), devices, Some(SHM_OPTIONS))?;
    for point in MOUNT_POINTS {
        mount_at(Some(Path::new("tmpfs")), Path::new(point), Some("tmpfs"), devices, Some(PRIVATE_OPTIONS))?;
    }
    for entry in fs::read_dir(etc).map_err(ClusterError::file("read", etc))? {
        let entry = entry.map_err(ClusterError::file("read", etc))?;
        let target = Path::new("/etc").join(entry.file_name());
        if target.exists() {
            mount_at(Some(&entry.path()), &target, None, MsFlags::MS_BIND, None)?;
        } else {
            eprintln!("{} is not there, so the host has no own one", target.display());
        }
    }
    Ok(())
}

fn mount_at(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    mount(source, target, kind, flags, options).map_err(ClusterError::file("mount at", target))
}

/// The symbolic links in `/sys/fs/cgroup`, as name and target.
fn cgroup_links() -> Vec<(std::ffi::OsString, std::path::PathBuf)> {
    let entries = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name(), fs::read_link(entry.path()).ok()?))).collect()
}

/// Mounts every hierarchy at the place where the machine has it. In the host's cgroup namespace each shows the
/// host's own subtree as its root.
fn mount_cgroups(
    hierarchies: &[Hierarchy],
    links: &[(std::ffi::OsString, std::path::PathBuf)],
) -> Result<()> {
    let base = Path::new("/sys/fs/cgroup");
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if !hierarchies.iter().any(|hierarchy| hierarchy.mount_point == base) {
        mount_at(Some(Path::new("tmpfs")), base, Some("tmpfs"), plain, Some("mode=755"))?;
        for (name, target) in links {
            let link = base.join(name);
            std::os::unix::fs::symlink(target, &link).map_err(ClusterError::file("make the link", &link))?;
        }
    }
    for hierarchy in hierarchies {
        let target = &hierarchy.mount_point;
        if target != base {
            fs::create_dir_all(target).map_err(ClusterError::file("make", target))?;
        }
        let (kind, options) = match hierarchy.version {
            Version::V1 => ("cgroup", Some(hierarchy.controllers.as_str())),
            Version::V2 => ("cgroup2", None),
        };
        mount_at(Some(Path::new(kind)), target, Some(kind), plain, options)?;
    }
    Ok(())
}

/// Starts sshd and lets a thread write its messages to the log and say when it listens.
fn start_sshd() -> Result<()> {
    let sshd = find_program("sshd", "openssh-server")?;
    let mut command = Command::new(sshd);
    command.args(["-D", "-e"]).env_clear().env("PATH", crate::shell::DEFAULT_PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: changing the signal mask is one system call, which is safe between fork and exec.
    unsafe {
        command.pre_exec(crate::shell::unblock_signals);
    }
    let mut child = command.spawn().map_err(ClusterError::system("start sshd"))?;
    let messages = child.stderr.take().expect("stderr was asked for as a pipe");
    // The thread must go on reading for as long as the host lives: sshd would wait on a full pipe.
    std::thread::spawn(move || follow_sshd(messages));
    Ok(())
}

fn follow_sshd(messages: ChildStderr) {
    let mut listened = false;
    for line in BufReader::new(messages).split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        eprintln!("sshd: {}", line.trim_end());
        if line.starts_with(LISTENING) {
            listened = true;
            let mut out = std::io::stdout();
            let _nobody_waits = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
        }
    }
    // An sshd that ends later is what a test may want; one that never listened is a host that failed to start.
    if !listened {
        std::process::exit(1);
    }
}

/// Collects every process that ends in the host, for ever. Nothing is started again.
fn reap(signals: &SigSet) -> Result<()> {
    loop {
        match signals.wait() {
            Ok(Signal::SIGTERM) => return Ok(()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(ClusterError::system("wait for signals")(errno)),
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(ClusterError::system("collect processes")(errno)),
            }
        }
    }
}
