//! Gangs of two nodes on one machine: each with its own name, mounts and agent, and real MPI launchers.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::controller::Controller;
use common::node::Node;
use common::work::{Task, user};
use common::{eventually, is_root};
use muster_wire::v1::gone::How;
use muster_wire::v1::{Endpoint, Go, Gone, Prepare, User, Welcome};

const NODES: [&str; 2] = ["node01", "node02"];

struct Gang {
    controller: Controller,
    nodes: Vec<Node>,
}

/// Whether the machine can run these tests: root, and the MPI launcher that the test wants.
fn has(launcher: &str) -> bool {
    if !is_root() {
        return false;
    }
    let there = Path::new("/usr/bin").join(launcher).exists();
    assert!(there, "this test needs {launcher}; set MUSTER_TEST_SKIP_CLUSTER=1 to skip it");
    true
}

/// An ordinary user who can log in, or root where there is none.
fn somebody() -> User {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let ordinary = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid: u32 = fields.get(2)?.parse().ok()?;
        let shell = Path::new(fields.get(6)?).file_name()?.to_str()?;
        ((1000..65534).contains(&uid) && matches!(shell, "sh" | "bash")).then(|| fields[0].to_owned())
    });
    user(&ordinary.unwrap_or_else(|| "root".into()))
}

/// The remote shell and the rank starter lie beside the agent's program, as they do when they are installed.
fn build_shims() {
    let beside = Path::new(env!("CARGO_BIN_EXE_muster-node")).with_file_name("muster-rsh");
    let released = beside.parent().is_some_and(|folder| folder.ends_with("release"));
    let profile = if released { "release" } else { "dev" };
    // `make test` has built them, with the features of the whole workspace.
    if std::env::var_os("MUSTER_TEST_BUILT").is_none() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let arguments = ["build", "-q", "--profile", profile, "-p", "muster-mpi", "--bins"];
        assert!(Command::new(cargo).args(arguments).status().unwrap().success());
    }
    assert!(beside.exists(), "{}", beside.display());
}

impl Gang {
    async fn start(known_names: &str) -> Self {
        build_shims();
        let wrapped = Welcome { declared_cores: 4, wrap_cores: true, ..Welcome::default() };
        let mut controller = Controller::start_with(wrapped).await;
        let nodes: Vec<Node> =
            NODES.iter().map(|name| Node::start_private(&controller, name, known_names)).collect();
        for name in NODES {
            controller.hello(name).await;
        }
        Self { controller, nodes }
    }

    /// Prepares a script on two cores of each node, and starts it.
    async fn launch(&mut self, script: &str) -> Task {
        self.launch_within(script, 0).await
    }

    /// With a limit of memory on each node, in bytes.
    async fn launch_within(&mut self, script: &str, memory_bytes: u64) -> Task {
        let mut task = Task::of(somebody(), &[("node01", &[0, 1]), ("node02", &[2, 3])], script);
        let keys = muster_mpi::AttemptKeys::generate().unwrap();
        task.prepare.ssh_authorized_key = keys.public_line;
        task.prepare.memory_bytes = memory_bytes;
        task.work().environment.insert("GREETING".into(), "good day".into());
        let mut secondary = Prepare { instance: 1, ..task.prepare.clone() };
        // As in a large gang.
        let members = std::mem::take(&mut secondary.members);
        secondary.members_packed = muster_wire::pack_members(members).unwrap();
        task.prepare.ssh_private_key = keys.private_openssh;
        self.controller.prepare("node01", &task.prepare).await;
        self.controller.prepare("node02", &secondary).await;
        let mut peers: Vec<Endpoint> = Vec::new();
        for name in NODES {
            peers.push(self.controller.ready(name, task.key()).await);
        }
        assert!(peers[0].gang_port != 0 && peers[1].gang_port == 0);
        let primary_alone = peers[..1].to_vec();
        self.controller.go("node01", Go { key: Some(task.key()), peers }).await;
        self.controller.go("node02", Go { key: Some(task.key()), peers: primary_alone }).await;
        task
    }

    /// What the controller does when the primary is gone.
    async fn finish(&mut self, task: &Task) -> (Gone, Gone) {
        let primary = self.controller.gone("node01", task.key()).await;
        self.controller.stop("node02", task.key(), 0).await;
        (primary, self.controller.gone("node02", task.key()).await)
    }

    fn count(&self, task: &Task) -> usize {
        self.nodes.iter().map(|node| node.processes(&task.name()).len()).sum()
    }
}

fn exit_code(gone: &Gone) -> u32 {
    match &gone.how {
        Some(How::Exited(exited)) => exited.code,
        other => panic!("{other:?}"),
    }
}

fn broken(gone: &Gone) -> &str {
    match &gone.how {
        Some(How::Broken(broken)) => &broken.reason,
        other => panic!("{other:?}"),
    }
}

/// What each rank says about its place.
fn ranks(task: &Task) -> Vec<String> {
    let mut lines: Vec<String> = task.output().lines().map(str::to_owned).collect();
    lines.retain(|line| line.starts_with("rank "));
    lines.sort();
    lines
}

#[tokio::test]
async fn a_bare_mpirun_runs_on_both_nodes_and_its_exit_ends_all() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    let script = "#!/bin/sh
mpirun.openmpi sh -c 'echo \"rank $OMPI_COMM_WORLD_RANK $(hostname) $MUSTER_NODE $GREETING $MUSTER_RANK_CORES\"'
exit 7
";
    let task = gang.launch(script).await;
    let (primary, secondary) = gang.finish(&task).await;
    assert_eq!(exit_code(&primary), 7, "{}", task.output());
    assert!(matches!(secondary.how, Some(How::Stopped(_))), "{secondary:?}");
    assert_eq!(
        ranks(&task),
        [
            "rank 0 node01 node01 good day 0",
            "rank 1 node01 node01 good day 1",
            "rank 2 node02 node02 good day 2",
            "rank 3 node02 node02 good day 3"
        ],
        "{}",
        task.output()
    );
    assert_eq!(gang.count(&task), 0);
}

#[tokio::test]
async fn a_bare_mpiexec_runs_on_both_nodes() {
    if !has("mpiexec.hydra") {
        return;
    }
    let mut gang = Gang::start("node01 node02").await;
    let script = "#!/bin/sh\nmpiexec.hydra sh -c 'echo \"rank $PMI_RANK $(hostname)\"'\n";
    let task = gang.launch(script).await;
    let (primary, _) = gang.finish(&task).await;
    assert_eq!(exit_code(&primary), 0, "{}", task.output());
    assert_eq!(
        ranks(&task),
        ["rank 0 node01", "rank 1 node01", "rank 2 node02", "rank 3 node02"],
        "{}",
        task.output()
    );
}

/// A step of two ranks on each node that never ends by itself.
fn endless(launcher: &str) -> String {
    format!("#!/bin/sh\n{launcher} sh -c 'echo up >>ready; exec sleep 1000'\nexit 0\n")
}

async fn four_ranks(task: &Task) {
    let ready = task.path("ready");
    eventually("four ranks are up", || {
        std::fs::read_to_string(&ready).is_ok_and(|text| text.lines().count() == 4)
    })
    .await;
}

#[tokio::test]
async fn a_hydra_proxy_that_was_killed_ends_the_attempt() {
    if !has("mpiexec.hydra") {
        return;
    }
    for (place, name) in NODES.iter().enumerate().rev() {
        let mut gang = Gang::start("node01 node02").await;
        let task = gang.launch(&endless("mpiexec.hydra")).await;
        four_ranks(&task).await;
        // Long enough for the primary to have seen its own proxy.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let proxy = gang.nodes[place].processes(&task.name()).into_iter().find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("hydra_pmi_proxy"))
        });
        let killed = nix::unistd::Pid::from_raw(proxy.unwrap());
        nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
        let (primary, _) = gang.finish(&task).await;
        let reason = broken(&primary);
        assert!(reason.starts_with(&format!("the MPI daemon on {name} was lost")), "{reason}");
        let why = ["hydra_pmi_proxy ended, but mpiexec.hydra still waits for it", "signal 9"][place];
        assert!(reason.contains(why), "{reason}");
        assert_eq!(gang.count(&task), 0);
    }
}

#[tokio::test]
async fn a_script_may_try_again_after_its_launcher_has_failed() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    let script = "#!/bin/sh
mpirun.openmpi sh -c 'echo up >>ready; exec sleep 1000' && exit 1
echo failed >failed
sleep 5
mpirun.openmpi sh -c 'echo \"rank $OMPI_COMM_WORLD_RANK\"'
";
    let task = gang.launch(script).await;
    four_ranks(&task).await;
    let daemon = gang.nodes[1].processes(&task.name()).into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("orted"))
    });
    let killed = nix::unistd::Pid::from_raw(daemon.unwrap());
    nix::sys::signal::kill(killed, nix::sys::signal::Signal::SIGKILL).unwrap();
    let (primary, _) = gang.finish(&task).await;
    assert_eq!(exit_code(&primary), 0, "{}", task.output());
    assert!(task.path("failed").exists());
    assert_eq!(ranks(&task).len(), 4, "{}", task.output());
}

#[tokio::test]
async fn a_member_that_falls_silent_breaks_the_gang() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    for (silent, other, sentence) in
        [(1, 0, "lost contact with node02"), (0, 1, "lost contact with the primary on node01")]
    {
        // The script does not care for its gang, as mpirun does not when the network is cut.
        let task = gang.launch("#!/bin/sh\necho up >ready\nsleep 1000\n").await;
        eventually("the script is up", || task.path("ready").exists()).await;
        for name in NODES {
            gang.controller.running(name, task.key()).await;
        }
        // A stopped supervisor says nothing, as one behind a cut cable.
        let supervisor = nix::unistd::Pid::from_raw(gang.nodes[silent].supervisor(&task.name()));
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let cut = std::time::Instant::now();
        let gone = gang.controller.gone(NODES[other], task.key()).await;
        assert_eq!(broken(&gone), sentence);
        assert!(cut.elapsed().as_secs() < 15, "{:?}", cut.elapsed());
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGCONT).unwrap();
        gang.controller.stop(NODES[silent], task.key(), 0).await;
        gang.controller.gone(NODES[silent], task.key()).await;
    }
}

#[tokio::test]
async fn a_stop_takes_a_whole_step_away_on_both_nodes() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    let task = gang.launch(&endless("mpirun.openmpi")).await;
    four_ranks(&task).await;
    assert!(gang.nodes[1].processes(&task.name()).len() >= 3);
    // One after the other, with a grace: neither may call the other's end a loss of contact.
    gang.controller.stop("node02", task.key(), 2000).await;
    let secondary = gang.controller.gone("node02", task.key()).await;
    gang.controller.stop("node01", task.key(), 2000).await;
    let primary = gang.controller.gone("node01", task.key()).await;
    assert!(matches!(secondary.how, Some(How::Stopped(_))), "{secondary:?}");
    assert!(!matches!(primary.how, Some(How::Broken(_))), "{primary:?}");
    assert_eq!(gang.count(&task), 0);
}

#[tokio::test]
async fn nobody_else_enters_the_attempts_ssh_endpoint() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    let task = gang.launch("#!/bin/sh\necho up >ready\nsleep 1000\n").await;
    eventually("the script is up", || task.path("ready").exists()).await;
    for name in NODES {
        gang.controller.running(name, task.key()).await;
    }
    let other = muster_mpi::AttemptKeys::generate().unwrap();
    let key = task.path("other_key");
    std::fs::write(&key, other.private_openssh).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let peers = std::fs::read_to_string(format!(
        "/proc/{}/root{}/attempts/{}/peers",
        gang.nodes[0].supervisor(&task.name()),
        gang.nodes[0].run.display(),
        task.name()
    ))
    .unwrap();
    let port = peers.lines().nth(1).unwrap().split(' ').nth(2).unwrap().to_owned();
    let user = task.prepare.user.as_ref().unwrap().name.clone();
    let output = tokio::process::Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "UserKnownHostsFile=/dev/null", "-p", &port, "-i"])
        .arg(&key)
        .arg(format!("{user}@127.0.0.1"))
        .arg("id")
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    gang.controller.stop("node01", task.key(), 0).await;
    gang.controller.stop("node02", task.key(), 0).await;
    for name in NODES {
        gang.controller.gone(name, task.key()).await;
    }
}

#[tokio::test]
async fn the_primary_tells_that_another_node_was_out_of_memory() {
    if !has("mpirun.openmpi") {
        return;
    }
    let mut gang = Gang::start("").await;
    let rsh = Path::new(env!("CARGO_BIN_EXE_muster-node")).with_file_name("muster-rsh");
    let script = format!(
        "#!/bin/sh\n{} node02 'exec /usr/bin/python3 -c \"x = bytearray(400_000_000)\"'\n",
        rsh.display()
    );
    let task = gang.launch_within(&script, 150_000_000).await;
    let (primary, _) = gang.finish(&task).await;
    match &primary.how {
        Some(How::Exited(exited)) => assert!(exited.out_of_memory && exited.code == 137, "{exited:?}"),
        other => panic!("{other:?}: {}", task.output()),
    }
}
