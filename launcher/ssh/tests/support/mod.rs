//! A real sshd on a free port of the loopback, for the time of a test.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use muster_ssh::{Credentials, HostKeys, Session, SshTarget};
use rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};
use tempfile::TempDir;

pub const TIMEOUT: Duration = Duration::from_secs(20);
pub const HOST: &str = "node01";

/// A running sshd; it ends with this value.
pub struct Sshd {
    child: Child,
    pub folder: TempDir,
    pub port: u16,
    pub host_key: PrivateKey,
}

impl Sshd {
    /// Starts an sshd for the user who runs the tests. `extra` is added to its configuration.
    pub fn start(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host_key = new_key(&folder.path().join("host_key"));
        let user_key = new_key(&folder.path().join("user_key"));
        write(&folder.path().join("authorized_keys"), &user_key.public_key().to_openssh().unwrap());
        if nix::unistd::geteuid().is_root() {
            // sshd's unprivileged part lives in this folder and insists on it.
            std::fs::create_dir_all("/run/sshd").unwrap();
            std::fs::set_permissions("/run/sshd", std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let port = free_port();
        let path = folder.path().display();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {path}/host_key\nAuthorizedKeysFile {path}/authorized_keys\n\
             PidFile none\nUsePAM no\nUseDNS no\nStrictModes no\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel VERBOSE\n{extra}\n"
        );
        write(&folder.path().join("sshd_config"), &config);
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(folder.path().join("sshd_config"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Server listening") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "sshd ended at once");
        }
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, folder, port, host_key }
    }

    pub fn target(&self) -> SshTarget {
        SshTarget {
            host: HOST.to_owned(),
            addr: IpAddr::from(Ipv4Addr::LOCALHOST).into(),
            port: self.port,
            user: user(),
        }
    }

    pub fn credentials(&self) -> Credentials {
        Credentials::KeyFile { path: self.folder.path().join("user_key") }
    }

    /// A file of known hosts with these lines.
    pub fn known_hosts(&self, lines: &str) -> HostKeys {
        let file = self.known_hosts_file();
        write(&file, lines);
        HostKeys::KnownHostsFiles(vec![file])
    }

    pub fn known_hosts_file(&self) -> PathBuf {
        self.folder.path().join("known_hosts")
    }

    pub fn host_key_line(&self) -> String {
        self.host_key.public_key().to_openssh().unwrap()
    }

    #[allow(dead_code, reason = "each of the test programs uses a part of this")]
    pub fn session(&self) -> Session {
        let host_keys = HostKeys::from_openssh_line(&self.host_key_line()).unwrap();
        Session::connect(&self.target(), &self.credentials(), &host_keys, TIMEOUT).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

/// A port on which nothing listens now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A new key, also stored in the file.
pub fn new_key(file: &Path) -> PrivateKey {
    let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).unwrap();
    write(file, &key.to_openssh(LineEnding::LF).unwrap());
    key
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
