//! A private Slurm on this host: one slurmctld, a slurmd for each node on the loopback, and a munged of their own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// For how long a test waits for a daemon to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Slurm. Its daemons end with the value.
pub struct Slurm {
    folder: TempDir,
    daemons: Vec<Child>,
}

/// Whether Slurm's daemons are installed; says so if they are not.
pub fn is_there() -> bool {
    if std::env::var_os("MUSTER_TEST_SKIP_SLURM").is_some_and(|value| value == "1") {
        eprintln!("MUSTER_TEST_SKIP_SLURM=1: nothing is compared with Slurm");
        return false;
    }
    let missing = ["/usr/sbin/slurmctld", "/usr/sbin/slurmd", "/usr/sbin/munged"]
        .into_iter()
        .find(|path| !Path::new(path).exists());
    if let Some(path) = missing {
        eprintln!("{path} is missing (Debian's slurm-wlm and munge have it): nothing is compared with Slurm");
    }
    missing.is_none()
}

/// Ports that nobody uses at present, one after another. Each call looks in a range of its own: what another test has
/// found may not be used yet.
fn free_ports(count: u16) -> u16 {
    const RANGE: u16 = 4096;
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let is_free =
        |port: &u16| (*port..port + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let call = CALLS.fetch_add(1, Ordering::Relaxed) % 8;
    let start = 20_000 + call * RANGE + u16::try_from(std::process::id() % 1024).unwrap();
    (start..start + RANGE / 2).step_by(16).find(is_free).expect("a range of free ports")
}

impl Slurm {
    /// Starts it with nodes of these names and returns when all of them are idle.
    pub fn start(nodes: &[String], cpus: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["munge", "state", "log"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        for node in nodes {
            fs::create_dir_all(path.join("spool").join(node)).unwrap();
        }
        let port = free_ports(u16::try_from(nodes.len()).unwrap() + 1);
        fs::write(path.join("slurm.conf"), configuration(path, nodes, cpus, port)).unwrap();
        // Nothing here uses cgroups, and the part for version 2 does not begin where no systemd runs.
        fs::write(path.join("cgroup.conf"), "CgroupPlugin=cgroup/v1\n").unwrap();
        let mut key = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path.join("munge/key"))
            .unwrap();
        key.write_all(&[7; 128]).unwrap();
        let mut slurm = Self { folder, daemons: Vec::new() };
        let munge = |name: &str| slurm.folder.path().join("munge").join(name).display().to_string();
        let arguments = ["socket", "key-file", "pid-file", "log-file", "seed-file"]
            .map(|name| format!("--{name}={}", munge(if name == "key-file" { "key" } else { name })));
        slurm
            .daemon("munged", &[&["--foreground".to_owned(), "--force".to_owned()][..], &arguments].concat());
        slurm.until("munged", |slurm| slurm.folder.path().join("munge/socket").exists());
        let conf = slurm.folder.path().join("slurm.conf").display().to_string();
        slurm.daemon("slurmctld", &["-D".to_owned(), "-f".to_owned(), conf.clone()]);
        slurm.until("slurmctld", |slurm| slurm.run("scontrol", &["ping"]).status.success());
        for node in nodes {
            slurm.daemon("slurmd", &["-D", "-f", &conf, "-N", node].map(str::to_owned));
        }
        let all = nodes.len().to_string();
        slurm.until("the nodes", |slurm| {
            let idle = slurm.run("sinfo", &["-h", "-t", "idle", "-o", "%D"]);
            String::from_utf8_lossy(&idle.stdout).trim() == all
        });
        slurm
    }

    fn daemon(&mut self, name: &str, arguments: &[String]) {
        let log =
            File::create(self.folder.path().join(format!("log/{name}.{}", self.daemons.len()))).unwrap();
        let child = Command::new(format!("/usr/sbin/{name}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemons.push(child);
    }

    /// Waits for something of which nobody tells an outsider.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "{what} did not come; see {:?}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.folder.path().join("log")).unwrap().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let _ = writeln!(text, "{}: {}", entry.path().display(), log.lines().last().unwrap_or_default());
        }
        text
    }

    /// One of its commands, ready to run.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        // By its bare name, by which it calls itself in messages.
        command
            .env("PATH", "/usr/bin:/bin")
            .args(arguments)
            .env("SLURM_CONF", self.folder.path().join("slurm.conf"))
            .stdin(Stdio::null());
        command.current_dir("/tmp");
        command
    }

    /// Runs one of its commands to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        self.command(program, arguments).output().unwrap()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // A step whose slurmd has gone would outlive it, so that its jobs end before.
        if self.run("scancel", &["-u", "root"]).status.success() {
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end && !self.run("squeue", &["-h", "-t", "R,CG"]).stdout.is_empty() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        // The controller and the nodes before the munged that they need.
        for daemon in self.daemons.iter_mut().rev() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = daemon.wait();
        }
    }
}

fn configuration(folder: &Path, nodes: &[String], cpus: u32, port: u16) -> String {
    let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    let (folder, names) = (folder.display(), nodes.join(","));
    let mut text = format!(
        "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={port}\nAuthType=auth/munge\n\
         AuthInfo=socket={folder}/munge/socket\nSlurmUser=root\nStateSaveLocation={folder}/state\n\
         SlurmdSpoolDir={folder}/spool/%n\nSlurmctldPidFile={folder}/ctld.pid\nSlurmdPidFile={folder}/%n.pid\n\
         SlurmdParameters=config_overrides\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
         JobAcctGatherType=jobacct_gather/none\nAccountingStorageType=accounting_storage/none\nReturnToService=2\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nSchedulerType=sched/backfill\nMpiDefault=none\n\
         Licenses=matlab:2\n\
         SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1\n\
         PartitionName=main Nodes={names} Default=YES MaxTime=7-0 DefaultTime=10 State=UP\n"
    );
    for (place, node) in (1..).zip(nodes) {
        let _ = writeln!(
            text,
            "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs={cpus}",
            port + place
        );
    }
    text
}
