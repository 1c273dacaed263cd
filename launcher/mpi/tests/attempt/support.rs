//! An attempt on hosts that are really this machine, each with its own SSH endpoint, under an ordinary user.

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_mpi::{AttemptDir, AttemptKeys, GangLayout, Instance, Peer, SshdConfig};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::User;
use tempfile::TempDir;

/// The account that tests run as root make for themselves.
const TEST_USER: &str = "muster-test";

/// An account that work runs under: the tests' own, or one that exists as long as this value.
pub struct Account {
    pub user: User,
    made: bool,
}

impl Account {
    /// An ordinary user. Root makes one, because the endpoints are meant for ordinary users.
    pub fn ordinary() -> Self {
        let own = User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        if !own.uid.is_root() {
            return Self { user: own, made: false };
        }
        let name = format!("{TEST_USER}-{}", std::process::id());
        let _lock = account_files();
        run(Command::new("useradd").args([
            "--no-create-home",
            "--home-dir",
            "/tmp",
            "--shell",
            "/bin/sh",
            &name,
        ]));
        // Without PAM, sshd takes an account without a password as locked.
        run(Command::new("usermod").args(["-p", "*", &name]));
        Self { user: User::from_name(&name).unwrap().unwrap(), made: true }
    }

    /// Makes the command run as the user.
    pub fn dress(&self, command: &mut Command) {
        if self.made {
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
        command.env("USER", &self.user.name).env("LOGNAME", &self.user.name).current_dir("/tmp");
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.made {
            let _lock = account_files();
            // By force: something that a test killed the parent of may still be about to end.
            run(Command::new("userdel").arg("--force").arg(&self.user.name));
        }
    }
}

/// Tests run side by side, and useradd gives up at once when another one holds the account files.
fn account_files() -> Flock<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open("/tmp/muster-test-accounts.lock")
        .unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// One host's endpoint: a listener that gives each connection to an `sshd -i` of the user.
pub struct Endpoint {
    pub port: u16,
    stopping: Arc<Mutex<bool>>,
    thread: Option<std::thread::JoinHandle<Vec<Child>>>,
    _folder: TempDir,
}

impl Endpoint {
    pub fn start(
        account: &Account,
        keys: &AttemptKeys,
        entry: &str,
        environment: &[(String, String)],
    ) -> Self {
        let folder = folder_of(account);
        let dir = AttemptDir::new(folder.path());
        write(account, &dir.host_key(), &keys.private_openssh);
        write(account, &dir.authorized_keys(), entry);
        let config = SshdConfig { user: &account.user.name, attempt_dir: &dir, environment };
        write(account, &dir.sshd_config(), &config.to_text().unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stopping = Arc::new(Mutex::new(false));
        let (stop, config_file, log_file) = (stopping.clone(), dir.sshd_config(), folder.path().join("log"));
        let (uid, gid) = (account.user.uid.as_raw(), account.user.gid.as_raw());
        let made = account.made;
        let serve = move || {
            let mut children = Vec::new();
            for connection in listener.incoming() {
                if *stop.lock().unwrap() {
                    break;
                }
                let input = OwnedFd::from(connection.unwrap());
                let mut sshd = Command::new("/usr/sbin/sshd");
                sshd.args(["-i", "-e", "-f"]).arg(&config_file);
                sshd.stdout(input.try_clone().unwrap()).stdin(input);
                sshd.stderr(File::options().create(true).append(true).open(&log_file).unwrap());
                if made {
                    sshd.uid(uid).gid(gid);
                }
                children.push(sshd.spawn().unwrap());
            }
            children
        };
        Self { port, stopping, thread: Some(std::thread::spawn(serve)), _folder: folder }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        *self.stopping.lock().unwrap() = true;
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        for mut child in self.thread.take().unwrap().join().unwrap() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// The primary's side of an attempt.
pub struct Attempt {
    pub layout: GangLayout,
    _endpoints: Vec<Endpoint>,
    pub peers: Vec<Peer>,
    pub events: UnixDatagram,
    _folder: TempDir,
    pub account: Account,
}

impl Attempt {
    /// An attempt with one endpoint for each of the hosts; each endpoint's variables are given by `environment`.
    pub fn start(
        hosts: &[&str],
        ranks: u32,
        environment: impl Fn(&GangLayout, usize) -> Vec<(String, String)>,
    ) -> Self {
        let account = Account::ordinary();
        let folder = folder_of(&account);
        let dir = AttemptDir::new(folder.path());
        let instance =
            |host: &&str| Instance { host: (*host).to_owned(), ranks, cores: (0..ranks).collect() };
        let layout = GangLayout {
            job: 7,
            task: 0,
            attempt: 1,
            instances: hosts.iter().map(instance).collect(),
            cores_per_rank: 1,
            threads_per_core: 0,
            wraps_cores: true,
            runs_as_root: account.user.uid.is_root(),
            attempt_dir: dir.clone(),
            remote_shell: program(&folder, env!("CARGO_BIN_EXE_muster-rsh")),
            rank_starter: program(&folder, env!("CARGO_BIN_EXE_muster-rank")),
        };
        let entry = AttemptKeys::generate().unwrap();
        write(&account, &dir.private_key(), &entry.private_openssh);
        let (mut endpoints, mut peers) = (Vec::new(), Vec::new());
        for (number, host) in hosts.iter().enumerate() {
            let keys = AttemptKeys::generate().unwrap();
            let endpoint =
                Endpoint::start(&account, &keys, &entry.public_line, &environment(&layout, number));
            let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
            peers.push(Peer {
                host: (*host).to_owned(),
                addr,
                port: endpoint.port,
                host_key: keys.public_line,
            });
            endpoints.push(endpoint);
        }
        let events = UnixDatagram::bind(dir.events_socket()).unwrap();
        events.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        std::fs::set_permissions(dir.events_socket(), Permissions::from_mode(0o666)).unwrap();
        let attempt = Self { layout, _endpoints: endpoints, peers, events, _folder: folder, account };
        attempt.write(&dir.peers(), &muster_mpi::format_peers(&attempt.peers));
        attempt
    }

    /// Writes a file of the attempt.
    pub fn write(&self, path: &Path, text: &str) {
        write(&self.account, path, text);
    }

    /// A program run by the user on the primary, with a clean environment that names the attempt.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/tmp");
        command.env(AttemptDir::VARIABLE, self.layout.attempt_dir.path());
        self.account.dress(&mut command);
        command.stdin(Stdio::null());
        command
    }

    /// A call of the remote-shell shim.
    pub fn rsh(&self, words: &[&str]) -> Command {
        let mut command = self.command(&self.layout.remote_shell);
        command.args(words);
        command
    }

    /// The next event that the shim has sent.
    pub fn event(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.events.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

/// A folder that the user owns.
fn folder_of(account: &Account) -> TempDir {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    chown(folder.path(), Some(account.user.uid.as_raw()), Some(account.user.gid.as_raw())).unwrap();
    folder
}

/// A copy of a program that the user can reach, wherever the build lies.
fn program(folder: &TempDir, built: &str) -> PathBuf {
    let built = Path::new(built);
    let copy = folder.path().join(built.file_name().unwrap());
    std::fs::copy(built, &copy).unwrap();
    std::fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

fn write(account: &Account, path: &Path, text: &str) {
    let mut file = File::create(path).unwrap();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    chown(path, Some(account.user.uid.as_raw()), Some(account.user.gid.as_raw())).unwrap();
}
