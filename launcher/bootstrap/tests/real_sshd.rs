//! A real sshd on the loopback, and the real agent behind it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use muster_bootstrap::Answer;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

struct Host {
    folder: tempfile::TempDir,
    sshd: Child,
    port: u16,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_root() -> bool {
    if std::env::var("MUSTER_TEST_SKIP_CLUSTER").is_ok_and(|value| value == "1") {
        return false;
    }
    let able = nix::unistd::geteuid().is_root() && Path::new("/usr/sbin/sshd").exists();
    assert!(able, "this test needs root and sshd; set MUSTER_TEST_SKIP_CLUSTER=1 to skip it");
    true
}

/// Builds the programs, in the profile of this test, unless `make test` has, and says where they are.
fn binaries() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_muster-bootstrap")).parent().unwrap();
    if std::env::var_os("MUSTER_TEST_BUILT").is_some() {
        return folder.to_owned();
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let profile = if folder.ends_with("release") { "release" } else { "dev" };
    run(&cargo, &["build", "-q", "--profile", profile, "-p", "muster-mpi", "-p", "muster-node", "--bins"]);
    folder.to_owned()
}

impl Host {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("muster-bootstrap-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for key in ["host_key", "id"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
        }
        std::fs::copy(path("id.pub"), path("authorized_keys")).unwrap();
        std::fs::set_permissions(path("authorized_keys"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPermitRootLogin prohibit-password\nPidFile none\n",
            path("host_key"),
            path("authorized_keys"),
        );
        std::fs::write(path("sshd_config"), config).unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let host = Self { folder, sshd, port };
        host.trust("host_key.pub");
        host
    }

    /// Writes the known hosts with this key as the node's.
    fn trust(&self, key: &str) {
        let key = std::fs::read_to_string(self.folder.path().join(key)).unwrap();
        let line = format!("node01,[node01]:{} {key}", self.port);
        std::fs::write(self.folder.path().join("known_hosts"), line).unwrap();
    }

    fn remote(&self) -> PathBuf {
        self.folder.path().join("remote")
    }

    fn request(&self, binaries: &Path) -> Value {
        json!({
            "node": "node01",
            "address": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "identity_file": self.folder.path().join("id"),
            "known_hosts_files": [self.folder.path().join("known_hosts")],
            "binaries_dir": binaries,
            "remote_dir": self.remote(),
            "controller": ["127.0.0.1:9"],
            "controller_name": "controller",
            "tls": certificates(),
            "run_dir": self.folder.path().join("run"),
            "cgroup": self.cgroup(),
        })
    }

    fn cgroup(&self) -> String {
        format!("muster-bootstrap-test-{}", std::process::id())
    }

    fn node(&self, words: &[&str]) -> String {
        let bin = std::fs::read_dir(self.remote().join("bin")).unwrap().next().unwrap().unwrap();
        let dir = self.remote().to_str().unwrap().to_owned();
        run(bin.path().join("muster-node").to_str().unwrap(), &[words, &["--dir", &dir]].concat())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.remote().join("bin").exists() {
            self.node(&["stop"]);
        }
        self.sshd.kill().unwrap();
        self.sshd.wait().unwrap();
        let roots =
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|root| root.path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let group = root.join(self.cgroup());
            let until = Instant::now() + PATIENCE;
            while group.is_dir() && Instant::now() < until {
                for below in std::fs::read_dir(&group).into_iter().flatten().flatten() {
                    let _ = std::fs::remove_dir(below.path());
                }
                let _ = std::fs::remove_dir(&group);
            }
        }
    }
}

/// A self-signed certificate serves all three purposes: nobody answers at the controller's address.
fn certificates() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, cert) = (path("key"), path("cert"));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    run("openssl", &[&new[..], &["-subj", "/CN=node01", "-keyout", &key, "-out", &cert]].concat());
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    json!({"ca_pem": read(&cert), "cert_pem": read(&cert), "key_pem": read(&key)})
}

fn serve(requests: &[Value]) -> Vec<Answer> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_muster-bootstrap"))
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for request in requests {
        writeln!(stdin, "{request}").unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_bare_host_becomes_a_node() {
    if !is_root() {
        return;
    }
    let (host, binaries) = (Host::start(), binaries());
    let request = host.request(&binaries);
    let first = serve(std::slice::from_ref(&request)).remove(0);
    assert!(first.ok && first.uploaded == Some(true), "{first:?}");
    let status: Value = serde_json::from_str(&host.node(&["status", "--json"])).unwrap();
    assert_eq!(status["node"], "node01");
    let mode = |name: &str| std::fs::metadata(host.remote().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("node.key"), mode("agent.json")), (0o711, 0o600, 0o600));
    let config: Value =
        serde_json::from_slice(&std::fs::read(host.remote().join("agent.json")).unwrap()).unwrap();
    assert_eq!(config["address"], "127.0.0.1");

    // Again: nothing is sent, and the agent goes on.
    let second = serve(std::slice::from_ref(&request)).remove(0);
    assert!(second.ok && second.uploaded == Some(false), "{second:?}");
    let again: Value = serde_json::from_str(&host.node(&["status", "--json"])).unwrap();
    assert_eq!(again["holder"], status["holder"]);
    println!("first {} ms, again {} ms", first.duration_ms, second.duration_ms);

    // Programs that lost their contents, as by a power failure, are sent again; the agent that runs is another's then.
    let bin = std::fs::read_dir(host.remote().join("bin")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(bin.join("muster-rsh")).unwrap();
    std::fs::write(bin.join("muster-rsh"), "").unwrap();
    let repaired = serve(std::slice::from_ref(&request)).remove(0);
    assert!(repaired.ok && repaired.uploaded == Some(true), "{repaired:?}");
    let names: Vec<_> =
        std::fs::read_dir(host.remote().join("bin")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 1, "nothing is left behind: {names:?}");
    assert!(std::fs::metadata(bin.join("muster-rsh")).unwrap().len() > 0);
    let status: Value = serde_json::from_str(&host.node(&["status", "--json"])).unwrap();

    // New certificates need a new agent.
    let mut renewed = request.clone();
    renewed["tls"] = certificates();
    assert!(serve(&[renewed]).remove(0).ok);
    let after: Value = serde_json::from_str(&host.node(&["status", "--json"])).unwrap();
    assert_ne!(after["holder"], status["holder"]);
}

#[test]
fn failures_name_the_node_and_the_step() {
    if !is_root() {
        return;
    }
    let (host, binaries) = (Host::start(), binaries());
    let request = host.request(&binaries);
    let set = muster_bootstrap::Binaries::read(&binaries).unwrap();
    let error = |request: &Value| {
        let request = serde_json::from_value(request.clone()).unwrap();
        muster_bootstrap::carry_out(&request, &set).unwrap_err().sentence()
    };
    host.trust("id.pub");
    let text = error(&request);
    assert!(text.contains("cannot log in to node node01") && text.contains("does not match"), "{text}");
    std::fs::write(host.folder.path().join("known_hosts"), "").unwrap();
    let text = error(&request);
    assert!(text.contains("unknown"), "{text}");
    host.trust("host_key.pub");
    let mut wrong = request.clone();
    wrong["identity_file"] = json!(host.folder.path().join("host_key"));
    let text = error(&wrong);
    assert!(text.contains("does not accept"), "{text}");
    let mut wrong = request.clone();
    wrong["remote_dir"] = json!("/proc/muster");
    let text = error(&wrong);
    assert!(text.contains("node node01 failed to make the programs' folder"), "{text}");
    let mut wrong = request.clone();
    wrong["tls"]["key_pem"] = json!("nonsense");
    let text = error(&wrong);
    assert!(text.contains("node node01 failed to start the agent"), "{text}");
    assert!(!text.contains("nonsense"), "{text}");
}
