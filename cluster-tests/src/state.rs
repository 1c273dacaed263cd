//! What is written down about a cluster, so that any process can attach to it or clean up after it.
//!
//! ```text
//! /run/muster-cluster/NAME/cluster.json      the hosts, their addresses, the users
//! /run/muster-cluster/NAME/hosts/HOST/       holder.json and init.json (process ids), host.log
//! /run/muster-cluster/NAME/keys/             root's bootstrap key, readable by root alone
//! /run/muster-cluster/NAME/home/USER         homes of users that only the cluster knows
//! /run/muster-cluster/NAME/shared/           free for tests, as for a controller's Unix socket
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{ClusterError, Result};
use crate::options::{ClusterOptions, Subnet, check_name};
use crate::process::ProcessId;

/// Where the state of all clusters is.
const BASE: &str = "/run/muster-cluster";

/// The list of [`MOUNT_POINTS`] that were missing and have been made.
const MADE_LIST: &str = ".made-directories";

/// The file whose lock guards the making and the removal of clusters.
const LOCK: &str = ".lock";

/// Directories over which every host mounts its own; they must exist on the machine. `/run/sshd` is
/// where sshd confines its unprivileged half; it refuses to start without.
pub(crate) const MOUNT_POINTS: [&str; 3] = ["/run/muster", "/var/lib/muster", "/run/sshd"];

/// A cluster as it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// The cluster's name.
    pub name: String,
    /// Tells this cluster from earlier and later ones of the same name.
    pub identity: String,
    /// The subnet of its hosts.
    pub subnet: Subnet,
    /// The users that its hosts were asked to know.
    pub users: Vec<String>,
    /// What stands in their `/etc/sudoers`.
    #[serde(default)]
    pub sudoers: Option<String>,
    /// Its hosts, `head` first.
    pub hosts: Vec<HostState>,
}

/// A host as it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// The host's name, as in `node01`.
    pub name: String,
    /// Its address, which its peers know by its name.
    pub address: Ipv4Addr,
}

/// The two processes that carry a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The process outside, whose end ends the host.
    Holder,
    /// The host's process 1.
    Init,
}

impl Carrier {
    fn file(self) -> &'static str {
        match self {
            Self::Holder => "holder.json",
            Self::Init => "init.json",
        }
    }
}

impl ClusterState {
    /// Takes the name and a subnet for a new cluster and writes its state, before anything else is made.
    pub(crate) fn claim(options: &ClusterOptions) -> Result<Self> {
        options.check()?;
        let _lock = Lock::take()?;
        let leftovers = crate::network::namespaces_of(&options.name);
        if cluster_dir(&options.name).exists() || !leftovers.is_empty() {
            return Err(ClusterError::Exists { name: options.name.clone() });
        }
        let taken: BTreeMap<Subnet, String> =
            list()?.into_iter().map(|state| (state.subnet, state.name)).collect();
        let subnet = Subnet::choose(options.subnet, &taken)?;
        let hosts = options.host_names().into_iter().enumerate();
        let state = Self {
            name: options.name.clone(),
            identity: format!("{:016x}", rand_core::RngCore::next_u64(&mut rand_core::OsRng)),
            subnet,
            users: options.users.clone(),
            sudoers: options.sudoers.clone(),
            hosts: hosts.map(|(index, name)| HostState { name, address: subnet.address(index) }).collect(),
        };
        make_mount_points()?;
        make_dir(&state.dir(), 0o755)?;
        for (name, mode) in [("hosts", 0o755), ("keys", 0o700), ("home", 0o755), ("shared", 0o755)] {
            make_dir(&state.dir().join(name), mode)?;
        }
        for host in &state.hosts {
            make_dir(&state.host_dir(&host.name), 0o755)?;
        }
        write_json(&state.dir().join("cluster.json"), &state)?;
        Ok(state)
    }

    /// Reads the state of the cluster.
    pub(crate) fn load(name: &str) -> Result<Self> {
        check_name(name)?;
        let path = cluster_dir(name).join("cluster.json");
        read_json(&path)?.ok_or_else(|| ClusterError::NoSuchCluster { name: name.to_owned() })
    }

    pub(crate) fn dir(&self) -> PathBuf {
        cluster_dir(&self.name)
    }

    pub(crate) fn host_dir(&self, host: &str) -> PathBuf {
        self.dir().join("hosts").join(host)
    }

    /// What the host's processes print.
    pub(crate) fn log_path(&self, host: &str) -> PathBuf {
        self.host_dir(host).join("host.log")
    }

    /// Finds a host by its name.
    pub(crate) fn host(&self, name: &str) -> Result<&HostState> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| {
            let last = self.hosts.last().map_or(crate::HEAD, |host| &host.name);
            let known = format!("{} and node01 to {last}", crate::HEAD);
            ClusterError::NoSuchHost { cluster: self.name.clone(), host: name.to_owned(), known }
        })
    }

    pub(crate) fn write_carrier(&self, host: &str, carrier: Carrier, process: ProcessId) -> Result<()> {
        write_json(&self.host_dir(host).join(carrier.file()), &process)
    }

    /// The process as it was written down; it may have ended since.
    pub(crate) fn carrier(&self, host: &str, carrier: Carrier) -> Result<Option<ProcessId>> {
        read_json(&self.host_dir(host).join(carrier.file()))
    }

    /// The host's process 1, which must run.
    pub(crate) fn running_init(&self, host: &str) -> Result<ProcessId> {
        self.host(host)?;
        let init = self.carrier(host, Carrier::Init)?.filter(|init| init.is_alive());
        init.ok_or_else(|| ClusterError::HostIsOff { host: host.to_owned() })
    }
}

/// All clusters of this machine, running or left over, by name.
///
/// # Errors
///
/// [`ClusterError::File`] and [`ClusterError::State`] when a state file cannot be read.
pub fn list() -> Result<Vec<ClusterState>> {
    let entries = match fs::read_dir(BASE) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ClusterError::file("read", Path::new(BASE))(error)),
    };
    let mut states = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ClusterError::file("read", Path::new(BASE)))?;
        // A directory without its state file belongs to a cluster that is just being made or removed.
        states.extend(read_json::<ClusterState>(&entry.path().join("cluster.json"))?);
    }
    states.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(states)
}

/// Removes what is written down about a cluster and, with the last cluster, everything else in [`BASE`]
/// and the mount points that were made.
pub(crate) fn forget(name: &str) -> Result<()> {
    let lock = Lock::take()?;
    let dir = cluster_dir(name);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ClusterError::file("remove", &dir)(error));
        }
        _ => {}
    }
    let base = Path::new(BASE);
    let entries = fs::read_dir(base).map_err(ClusterError::file("read", base))?;
    let others = entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if !others {
        // While a host still mounts something over a directory, its removal would take that mount away
        // from the host; so they stay until the last cluster has ended.
        let list = base.join(MADE_LIST);
        for made in fs::read_to_string(&list).unwrap_or_default().lines() {
            let _used_by_others_by_now = fs::remove_dir(made);
        }
        let _never_made = fs::remove_file(&list);
        lock.release_for_good();
    }
    Ok(())
}

fn cluster_dir(name: &str) -> PathBuf {
    Path::new(BASE).join(name)
}

/// Makes a directory with exactly these permissions, whatever the umask is.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().mode(mode).create(path).map_err(ClusterError::file("make", path))?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
        .map_err(ClusterError::file("set the permissions of", path))
}

fn make_mount_points() -> Result<()> {
    let list = Path::new(BASE).join(MADE_LIST);
    let mut made = fs::read_to_string(&list).unwrap_or_default();
    for dir in MOUNT_POINTS.iter().map(Path::new).filter(|dir| !dir.exists()) {
        make_dir(dir, 0o755)?;
        made = format!("{made}{}\n", dir.display());
    }
    fs::write(&list, made).map_err(ClusterError::file("write", &list))
}

/// Writes a file so that a reader sees all of it or nothing.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value).expect("states hold only text and numbers");
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(ClusterError::file("write", &new))?;
    fs::rename(&new, path).map_err(ClusterError::file("replace", path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(ClusterError::file("read", path)(error)),
    };
    serde_json::from_slice(&text)
        .map_err(|source| ClusterError::State { path: path.to_owned(), source })
        .map(Some)
}

/// The right to make or remove clusters, held until dropped.
struct Lock {
    file: File,
}

impl Lock {
    fn take() -> Result<Self> {
        crate::require_root()?;
        let base = Path::new(BASE);
        let path = base.join(LOCK);
        loop {
            match make_dir(base, 0o755) {
                Err(ClusterError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
            let file = match File::create(&path) {
                // The last cluster's end removed the directory just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(ClusterError::file("open", &path))?,
            };
            file.lock().map_err(ClusterError::file("lock", &path))?;
            // A lock on a file that its holder removed meanwhile guards nothing.
            let inode = file.metadata().map_err(ClusterError::file("look at", &path))?.ino();
            if fs::metadata(&path).is_ok_and(|meta| meta.ino() == inode) {
                return Ok(Self { file });
            }
        }
    }

    /// Removes the lock and the directory it is in, when nothing else is left there.
    fn release_for_good(self) {
        let base = Path::new(BASE);
        let _in_use_again = fs::remove_file(base.join(LOCK)).and_then(|()| fs::remove_dir(base));
        drop(self.file);
    }
}
