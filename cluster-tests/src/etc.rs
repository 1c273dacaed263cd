//! The files that each host sees in its own `/etc`.
//!
//! They lie in `/etc/netns/NAMESPACE`, where `ip netns exec` looks for them too, so a shell opened that way
//! resolves the cluster's names as well.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use crate::error::{ClusterError, Result};
use crate::network::host_namespace;
use crate::state::{ClusterState, make_dir};

/// Where iproute2 looks for the files of a namespace.
const NETNS_ETC: &str = "/etc/netns";

/// The first id for users that only the cluster knows; above those that useradd gives out.
const FIRST_USER_ID: u32 = 61_000;

/// How many ids from there on are taken for such users.
const USERS_MAX: u32 = 1_000;

/// Where, below /etc, a host's sshd finds the keys that may log in as root.
const AUTHORIZED_KEYS: &str = "ssh/authorized_keys";

/// A key pair as the text of its two files.
struct KeyPair {
    private: String,
    public: String,
}

impl KeyPair {
    fn generate(comment: &str) -> Result<Self> {
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(ClusterError::Key)?;
        key.set_comment(comment);
        let public = key.public_key().to_openssh().map_err(ClusterError::Key)?;
        let private = key.to_openssh(LineEnding::LF).map_err(ClusterError::Key)?.to_string();
        Ok(Self { private, public })
    }

    /// The type and the key, without the comment, as known_hosts wants them.
    fn known(&self) -> String {
        self.public.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }
}

/// The directory with the files of one host.
pub(crate) fn host_etc(cluster: &str, host: &str) -> PathBuf {
    Path::new(NETNS_ETC).join(host_namespace(cluster, host))
}

/// Root's private key for logging in to every host.
pub(crate) fn bootstrap_key(state: &ClusterState) -> PathBuf {
    state.dir().join("keys").join("bootstrap_ed25519")
}

/// Writes the files of all hosts and the keys.
pub(crate) fn write(state: &ClusterState) -> Result<()> {
    let mut hosts = "127.0.0.1 localhost\n".to_owned();
    let mut known_hosts = String::new();
    let mut host_keys = Vec::new();
    for host in &state.hosts {
        let key = KeyPair::generate(&host.name)?;
        let _infallible = writeln!(hosts, "{} {}", host.address, host.name);
        let _infallible = writeln!(known_hosts, "{},{} {}", host.name, host.address, key.known());
        host_keys.push(key);
    }
    let bootstrap = KeyPair::generate("root@head")?;
    let key_path = bootstrap_key(state);
    write_file(&key_path, 0o600, &bootstrap.private)?;
    write_file(&key_path.with_extension("pub"), 0o644, &bootstrap.public)?;
    let accounts = Accounts::with_users(state)?;
    fs::create_dir_all(NETNS_ETC).map_err(ClusterError::file("make", Path::new(NETNS_ETC)))?;
    for (host, key) in state.hosts.iter().zip(&host_keys) {
        let etc = host_etc(&state.name, &host.name);
        make_dir(&etc, 0o755)?;
        write_file(&etc.join("hosts"), 0o644, &hosts)?;
        write_file(&etc.join("hostname"), 0o644, &format!("{}\n", host.name))?;
        accounts.write(&etc)?;
        if let Some(sudoers) = &state.sudoers {
            write_file(&etc.join("sudoers"), 0o440, sudoers)?;
        }
        let ssh = etc.join("ssh");
        make_dir(&ssh, 0o755)?;
        write_file(&ssh.join("ssh_host_ed25519_key"), 0o600, &key.private)?;
        write_file(&ssh.join("ssh_host_ed25519_key.pub"), 0o644, &key.public)?;
        write_file(&ssh.join("ssh_known_hosts"), 0o644, &known_hosts)?;
        write_file(&ssh.join("sshd_config"), 0o644, SSHD_CONFIG)?;
        write_file(&ssh.join("ssh_config"), 0o644, &ssh_config(&key_path))?;
        write_file(&etc.join(AUTHORIZED_KEYS), 0o644, &bootstrap.public)?;
    }
    Ok(())
}

/// Removes what MPICH's process manager leaves in `/tmp`, which the hosts share with the machine: a description of
/// the machine for each gang and host, under a fixed name. Only those of users that no machine has are touched.
pub(crate) fn remove_left_files() -> Result<()> {
    const PREFIX: &str = "hydra_hwloc_xmlfile_";
    let folder = Path::new("/tmp");
    for entry in fs::read_dir(folder).map_err(ClusterError::file("read", folder))?.flatten() {
        let ours = |id: u32| (FIRST_USER_ID..FIRST_USER_ID + USERS_MAX).contains(&id);
        let owner = entry.metadata().map(|data| std::os::unix::fs::MetadataExt::uid(&data));
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && owner.is_ok_and(ours) {
            // Somebody else may have removed it meanwhile.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Removes the files of all hosts of a cluster.
pub(crate) fn remove(cluster: &str) -> Result<()> {
    let base = Path::new(NETNS_ETC);
    for name in crate::network::names_of(cluster, base) {
        let path = base.join(name);
        fs::remove_dir_all(&path).map_err(ClusterError::file("remove", &path))?;
    }
    let _others_use_it = fs::remove_dir(base);
    Ok(())
}

/// Root alone can log in, with the bootstrap key. PAM is off: hosts have no sessions of systemd to open.
/// The limits are far above what a parallel bootstrap of one host needs.
const SSHD_CONFIG: &str = "\
Port 22
AddressFamily inet
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile none
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile /etc/ssh/authorized_keys
AcceptEnv LANG LC_* MUSTER_*
MaxStartups 256
MaxSessions 256
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
";

fn ssh_config(key: &Path) -> String {
    format!(
        "\
Match localuser root
  IdentityFile {}
Match all
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /etc/ssh/ssh_known_hosts
  ConnectTimeout 5
  LogLevel ERROR
",
        key.display()
    )
}

/// The users of the hosts: the machine's own and those that were asked for. The files of the machine are
/// copied and not changed, so a test can have users without leaving any behind.
struct Accounts {
    passwd: String,
    group: String,
    shadow: String,
}

impl Accounts {
    fn with_users(state: &ClusterState) -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).map_err(ClusterError::file("read", Path::new(path)));
        let mut accounts =
            Self { passwd: read("/etc/passwd")?, group: read("/etc/group")?, shadow: String::new() };
        // Root's shells on the hosts must not run what root keeps in its home for itself: bash reads ~/.bashrc for
        // every command over SSH, and a host that loses power in the middle of it may leave a lock behind there.
        let root_home = state.dir().join("home/root");
        make_dir(&root_home, 0o700)?;
        let with_home = |line: &str| {
            let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
            if fields.first().is_some_and(|name| name == "root")
                && let Some(home) = fields.get_mut(5)
            {
                *home = root_home.display().to_string();
            }
            fields.join(":") + "\n"
        };
        accounts.passwd = accounts.passwd.lines().map(with_home).collect();
        for (id, user) in (FIRST_USER_ID..).zip(&state.users) {
            if accounts.passwd.lines().any(|line| line.split(':').next() == Some(user)) {
                continue;
            }
            let home = state.dir().join("home").join(user);
            make_dir(&home, 0o700)?;
            std::os::unix::fs::chown(&home, Some(id), Some(id))
                .map_err(ClusterError::file("give away", &home))?;
            let _infallible = writeln!(accounts.passwd, "{user}:x:{id}:{id}::{}:/bin/sh", home.display());
            let _infallible = writeln!(accounts.group, "{user}:x:{id}:");
        }
        // sshd takes an account whose password begins with `!` for locked; `*` is one that never matches.
        let names = accounts.passwd.lines().filter_map(|line| line.split(':').next());
        accounts.shadow = names.map(|name| format!("{name}:*:19000:0:99999:7:::\n")).collect();
        Ok(accounts)
    }

    fn write(&self, etc: &Path) -> Result<()> {
        write_file(&etc.join("passwd"), 0o644, &self.passwd)?;
        write_file(&etc.join("group"), 0o644, &self.group)?;
        write_file(&etc.join("shadow"), 0o600, &self.shadow)
    }
}

fn write_file(path: &Path, mode: u32, text: &str) -> Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(ClusterError::file("make", path))?;
    file.write_all(text.as_bytes()).map_err(ClusterError::file("write", path))?;
    // The umask may have taken bits away; sshd's unprivileged half and users must read these files.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .map_err(ClusterError::file("set the permissions of", path))
}
