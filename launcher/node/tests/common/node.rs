//! A node: an agent's folder, and the agent that runs with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use muster_node::config::AgentConfig;

use super::controller::Controller;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Node {
    pub name: String,
    pub dir: tempfile::TempDir,
    pub cgroup: String,
    pub run: PathBuf,
    agent: Option<Child>,
    kind: Kind,
}

/// How a node's agent lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As root, like any daemon.
    Plain,
    /// In mounts of its own, where the folder for attempts has the same path as on other nodes.
    PrivateRun,
    /// Where no cgroup file system is mounted.
    NoCgroups,
    /// As the user `nobody`.
    Nobody,
}

impl Node {
    /// A node that runs with a folder of its own for attempts.
    pub fn start(controller: &Controller, name: &str) -> Self {
        Self::start_as(controller, name, Kind::Plain)
    }

    pub fn start_as(controller: &Controller, name: &str, kind: Kind) -> Self {
        let mut node = Self::make(controller, name, kind);
        node.start_agent();
        node
    }

    /// A node whose folder for attempts has the same path as another's, as on two machines.
    ///
    /// `known_names`: further names that `/etc/hosts` knows there. Hydra's daemons look theirs up; Open MPI would take
    /// all names with a loopback address for one host.
    pub fn start_private(controller: &Controller, name: &str, known_names: &str) -> Self {
        let mut node = Self::make(controller, name, Kind::PrivateRun);
        let hosts = format!("127.0.0.1 localhost {known_names}\n");
        std::fs::write(node.dir.path().join("hosts"), hosts).unwrap();
        node.start_agent();
        node
    }

    pub fn make(controller: &Controller, name: &str, kind: Kind) -> Self {
        let dir = tempfile::Builder::new().prefix("muster-node-").tempdir().unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("muster-test-{}-{number}", std::process::id());
        let (cert, key) = controller.authority.sign(name);
        for (file, text) in [("ca.pem", &controller.authority.pem), ("node.pem", &cert), ("node.key", &key)] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let run = match kind {
            Kind::PrivateRun => PathBuf::from(format!("/tmp/muster-run-{}", std::process::id())),
            // Everybody may pass to the attempts' folders, so it cannot lie in the agent's.
            _ => PathBuf::from(format!("/tmp/muster-run-{}-{number}", std::process::id())),
        };
        let mut config = AgentConfig::new(name, vec![controller.address.to_string()], "controller");
        config.address = Some("127.0.0.1".into());
        config.run_dir = run.clone();
        config.cgroup.clone_from(&cgroup);
        std::fs::write(dir.path().join("agent.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        Self { name: name.into(), dir, cgroup, run, agent: None, kind }
    }

    pub fn start_agent(&mut self) {
        let program = env!("CARGO_BIN_EXE_muster-node");
        let (run, dir) = (self.run.display(), self.dir.path().display());
        let agent = format!("exec {program} agent --dir {dir}");
        let before = match self.kind {
            Kind::Plain => String::new(),
            Kind::PrivateRun => format!(
                "mkdir -p {run} && hostname {} && mount --bind {dir}/hosts /etc/hosts \
                 && mount -t tmpfs -o mode=755 muster-test {run} && ",
                self.name
            ),
            Kind::NoCgroups => "umount -R /sys/fs/cgroup && ".into(),
            Kind::Nobody => format!(
                "mkdir -p {run} && chown -R nobody {run} {dir} \
                 && exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{agent}' && "
            ),
        };
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--uts", "sh", "-c"]);
        command.arg(format!("{before}{agent}"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join("agent.log"))
            .unwrap();
        command.env("MUSTER_LOG", "debug,h2=info,hyper=info,tower=info,rustls=info");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
    }

    /// SIGKILL, as nothing polite would be.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// The folder of an attempt that only root may enter.
    pub fn attempt(&self, key: &str) -> PathBuf {
        self.dir.path().join("attempts").join(key)
    }

    /// The processes in the cgroup of an attempt.
    pub fn processes(&self, key: &str) -> Vec<i32> {
        let file = Path::new("/sys/fs/cgroup");
        let candidates =
            [file.join("unified").join(&self.cgroup).join(key), file.join(&self.cgroup).join(key)];
        let text = candidates.iter().find_map(|path| std::fs::read_to_string(path.join("cgroup.procs")).ok());
        text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The agent's children, which are its supervisors, dead ones included.
    pub fn children(&self) -> Vec<i32> {
        let pid = self.agent.as_ref().unwrap().id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// The supervisor's process of an attempt.
    pub fn supervisor(&self, key: &str) -> i32 {
        let text = std::fs::read(self.attempt(key).join("state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&text).unwrap();
        i32::try_from(state["supervisor"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Every folder of a cgroup hierarchy that belongs to this node.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()),
        );
        roots.into_iter().map(|root| root.join(&self.cgroup)).filter(|group| group.is_dir()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
            for entry in std::fs::read_dir(self.dir.path().join("attempts")).into_iter().flatten().flatten() {
                let log = std::fs::read_to_string(entry.path().join("supervisor.log")).unwrap_or_default();
                eprintln!("--- {}\n{log}", entry.path().display());
            }
        }
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // Attempts first, then the supervisors' own group, then the folders from below.
        for group in self.cgroups() {
            let _ = std::fs::write(group.join("cgroup.kill"), "1");
        }
        let panicking = std::thread::panicking();
        let mut left = self.cgroups();
        let until = std::time::Instant::now() + super::PATIENCE;
        while !left.is_empty() && std::time::Instant::now() < until {
            for group in &left {
                for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
                    let _ = std::fs::remove_dir(below.path());
                }
                let _ = std::fs::remove_dir(group);
            }
            left = self.cgroups();
        }
        assert!(panicking || left.is_empty(), "these cgroups are not empty: {left:?}");
        let _ = std::fs::remove_dir_all(&self.run);
    }
}
