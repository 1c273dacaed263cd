//! The cluster as a test holds it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::cgroup::Groups;
use crate::error::{ClusterError, Result};
use crate::guard::Guard;
use crate::options::{ClusterOptions, HEAD};
use crate::process::{self, PidFd, ProcessInfo, pid_namespace, wait_readable};
use crate::state::{self, Carrier, ClusterState};
use crate::{etc, host, network};

/// The variable that names the `muster-cluster` program, for callers that lie elsewhere.
const PROGRAM_VARIABLE: &str = "MUSTER_CLUSTER_PROGRAM";

/// For how long a host may take to come up. It takes a fraction of a second; the rest is for loaded machines.
const START_LIMIT: Duration = Duration::from_secs(60);

/// For how long a killed host may take to end.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How much of a log an error shows, in bytes.
const LOG_TAIL_LEN: usize = 2000;

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    /// It runs.
    On,
    /// It is powered off.
    Off,
    /// It is there, but none of its processes moves.
    Frozen,
}

/// Whether a host is joined to its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is.
    Up,
    /// Its packets are lost, in both directions.
    Cut,
}

/// What can be said about a host at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// The host's name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it runs.
    pub power: PowerState,
    /// Whether it is joined to its peers.
    pub link: LinkState,
    /// The machine's id of its process 1, while it runs.
    pub pid: Option<i32>,
    /// How many processes it has.
    pub processes: usize,
}

/// A virtual cluster, taken down when it is dropped unless it was kept or attached to.
///
/// All operations work on what is written down about the cluster, so several handles, also in several
/// processes, can be used side by side.
#[derive(Debug)]
pub struct VirtualCluster {
    state: ClusterState,
    /// Holders that this process started and so must collect.
    holders: Mutex<BTreeMap<String, Child>>,
    /// Present exactly if the cluster depends on this handle.
    guard: Option<Guard>,
}

impl VirtualCluster {
    /// Builds a cluster and returns when every host's sshd listens.
    ///
    /// Until [`VirtualCluster::keep`] is called, the cluster also ends with this process, however that ends.
    /// What a failed start has made is removed again.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotRoot`], [`ClusterError::MissingProgram`], [`ClusterError::Exists`], those for options out
    /// of range, [`ClusterError::HostStart`] and those of the system.
    pub fn up(options: &ClusterOptions) -> Result<Self> {
        crate::require_root()?;
        network::find_program("ip", "iproute2")?;
        network::find_program("sshd", "openssh-server")?;
        crate::cgroup::favor_dynamic_groups();
        let state = ClusterState::claim(options)?;
        let mut cluster = Self { state, holders: Mutex::default(), guard: None };
        let built = Guard::start(&cluster.state).and_then(|guard| {
            cluster.guard = Some(guard);
            cluster.build()
        });
        match built {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The first error is the one to tell; what the removal says would only hide it.
                let _second_error = cluster.take_down();
                Err(error)
            }
        }
    }

    /// Attaches to a cluster that is there; dropping the handle leaves it so.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotRoot`], [`ClusterError::NoSuchCluster`], [`ClusterError::State`].
    pub fn attach(name: &str) -> Result<Self> {
        crate::require_root()?;
        Ok(Self { state: ClusterState::load(name)?, holders: Mutex::default(), guard: None })
    }

    /// Lets the cluster live on after this handle and this process.
    ///
    /// # Errors
    ///
    /// [`ClusterError::System`] when the guard cannot be told.
    pub fn keep(mut self) -> Result<()> {
        self.guard.take().map_or(Ok(()), Guard::release)
    }

    /// Ends all hosts and removes everything that the cluster put on this machine.
    ///
    /// # Errors
    ///
    /// The first thing that could not be removed; the rest has been tried all the same.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    /// Removes what is there of a cluster, also if it never came up or its processes are long gone.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchCluster`] when there is nothing, else as [`VirtualCluster::down`].
    pub fn remove(name: &str) -> Result<()> {
        crate::require_root()?;
        match Self::attach(name) {
            Ok(cluster) => cluster.down(),
            Err(ClusterError::State { .. }) => remove_traces(name),
            Err(ClusterError::NoSuchCluster { .. }) if !network::namespaces_of(name).is_empty() => {
                remove_traces(name)
            }
            Err(error) => Err(error),
        }
    }

    /// What was written down about the cluster: hosts, addresses, users.
    #[must_use]
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The names of all nodes, that is of all hosts but `head`.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.state.hosts.iter().map(|host| host.name.as_str()).filter(|name| *name != HEAD)
    }

    /// A directory that all hosts and the machine see at the same path, as for a controller's Unix socket.
    /// It belongs to root and others may read it.
    #[must_use]
    pub fn shared_dir(&self) -> PathBuf {
        self.state.dir().join("shared")
    }

    /// Root's private key for every host, for programs that do not read `/etc/ssh/ssh_config`.
    #[must_use]
    pub fn bootstrap_key(&self) -> PathBuf {
        etc::bootstrap_key(&self.state)
    }

    /// What the processes of a host's own, such as sshd, print.
    #[must_use]
    pub fn log_path(&self, host: &str) -> PathBuf {
        self.state.log_path(host)
    }

    /// The beginning of a command that runs inside a host: add the program and its arguments.
    ///
    /// The exit code is the program's, or 128 and the number of the signal that ended it. Killing the child kills
    /// the program; SIGTERM, SIGINT and their like are handed on to it.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`], [`ClusterError::HostIsOff`].
    pub fn exec(&self, host: &str, user: Option<&str>) -> Result<Command> {
        self.state.running_init(host)?;
        let mut command = Command::new(program()?);
        command.args(["exec", "--name", self.name()]);
        if let Some(user) = user {
            command.args(["--user", user]);
        }
        command.args([host, "--"]);
        Ok(command)
    }

    /// Kills a host's process 1, and the kernel all its other processes with it. Returns when all have ended.
    ///
    /// Its address stays: peers get "connection refused". For a host that no longer answers at all, call
    /// [`VirtualCluster::cut`] first. Powering off what is off is no error.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`], [`ClusterError::Timeout`].
    pub fn power_off(&self, host: &str) -> Result<()> {
        self.state.host(host)?;
        self.kill_carrier(host, Carrier::Init)?;
        self.await_end(host)
    }

    /// Starts a host that is off, with nothing but what it had at its first start: its own directories are empty.
    ///
    /// # Errors
    ///
    /// [`ClusterError::HostIsOn`], [`ClusterError::HostStart`], [`ClusterError::Timeout`].
    pub fn power_on(&self, host: &str) -> Result<()> {
        match self.state.running_init(host) {
            Err(ClusterError::HostIsOff { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(ClusterError::HostIsOn { host: host.to_owned() }),
        }
        let line = self.start(host)?;
        self.await_ready(host, line, Instant::now() + START_LIMIT)
    }

    /// Stops every process of a host where it is; its kernel still answers, so connections are accepted and stay
    /// silent. Returns when all have stopped.
    ///
    /// # Errors
    ///
    /// [`ClusterError::HostIsOff`], [`ClusterError::Timeout`].
    pub fn freeze(&self, host: &str) -> Result<()> {
        self.state.running_init(host)?;
        Groups::of_host(self.name(), host)?.freeze(true)
    }

    /// Ends [`VirtualCluster::freeze`].
    ///
    /// # Errors
    ///
    /// [`ClusterError::HostIsOff`], [`ClusterError::Timeout`].
    pub fn thaw(&self, host: &str) -> Result<()> {
        self.state.running_init(host)?;
        Groups::of_host(self.name(), host)?.freeze(false)
    }

    /// All processes of a host, process 1 and sshd among them; none when it is off.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`], and [`ClusterError::File`] when `/proc` cannot be read.
    pub fn processes(&self, host: &str) -> Result<Vec<ProcessInfo>> {
        match self.state.running_init(host) {
            Ok(init) => {
                process::in_namespace_of(init.pid).map_err(ClusterError::file("read", Path::new("/proc")))
            }
            Err(ClusterError::HostIsOff { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Sends a signal to a process of the cluster, named by the machine's id as in [`ProcessInfo::pid`].
    ///
    /// # Errors
    ///
    /// [`ClusterError::ForeignProcess`] when it is not a process of this cluster, or has ended.
    pub fn kill(&self, pid: i32, signal: Signal) -> Result<()> {
        let foreign = || ClusterError::ForeignProcess { pid, cluster: self.name().to_owned() };
        let handle =
            PidFd::open(pid).map_err(ClusterError::system("open the process"))?.ok_or_else(foreign)?;
        // Looked at while the handle is open, so the id cannot have gone to another process.
        let namespace = pid_namespace(pid).ok_or_else(foreign)?;
        let inits = self.state.hosts.iter().filter_map(|host| self.state.running_init(&host.name).ok());
        if !inits.into_iter().any(|init| pid_namespace(init.pid) == Some(namespace)) {
            return Err(foreign());
        }
        handle.signal(signal).map_err(ClusterError::system("send the signal"))
    }

    /// How every host is, at this moment.
    ///
    /// # Errors
    ///
    /// Those of [`VirtualCluster::processes`] and of `ip`.
    pub fn status(&self) -> Result<Vec<HostStatus>> {
        let links = network::links(self.name())?;
        let one = |host: &state::HostState| {
            let pid = self.state.running_init(&host.name).ok().map(|init| init.pid);
            let frozen = Groups::of_host(self.name(), &host.name)?.is_frozen();
            Ok(HostStatus {
                name: host.name.clone(),
                address: host.address,
                power: match pid {
                    None => PowerState::Off,
                    Some(_) if frozen => PowerState::Frozen,
                    Some(_) => PowerState::On,
                },
                link: if links.get(&host.name) == Some(&true) { LinkState::Up } else { LinkState::Cut },
                pid,
                processes: self.processes(&host.name)?.len(),
            })
        };
        self.state.hosts.iter().map(one).collect()
    }

    fn build(&self) -> Result<()> {
        etc::write(&self.state)?;
        network::build(&self.state)?;
        let deadline = Instant::now() + START_LIMIT;
        // All are started before the first is waited for, so they come up side by side.
        let names = self.state.hosts.iter().map(|host| host.name.as_str());
        let lines: Vec<_> = names.map(|name| Ok((name, self.start(name)?))).collect::<Result<_>>()?;
        lines.into_iter().try_for_each(|(name, line)| self.await_ready(name, line, deadline))
    }

    /// Starts a host's holder; gives the line on which the host says that it is ready.
    fn start(&self, host: &str) -> Result<ChildStdout> {
        let path = self.state.log_path(host);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(ClusterError::file("open", &path))?;
        let mut command = Command::new(program()?);
        command.args(["host-hold", "--name", self.name(), host]).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(ClusterError::system("start the holder of a host"))?;
        let line = child.stdout.take().expect("stdout was asked for as a pipe");
        self.holders.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), child);
        Ok(line)
    }

    fn await_ready(&self, host: &str, mut line: ChildStdout, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let readable = wait_readable(line.as_fd(), left).map_err(ClusterError::system("wait for a host"))?;
        if !readable {
            return Err(ClusterError::Timeout {
                what: format!("the start of {host}"),
                seconds: START_LIMIT.as_secs(),
            });
        }
        // Process 1 writes the word at once or, by ending, nothing at all.
        let mut said = vec![0; host::READY.len()];
        match std::io::Read::read_exact(&mut line, &mut said) {
            Ok(()) if said == host::READY.as_bytes() => Ok(()),
            _ => {
                let log = self.state.log_path(host);
                Err(ClusterError::HostStart { host: host.to_owned(), tail: tail_of(&log), log })
            }
        }
    }

    /// Kills a carrier if it runs.
    fn kill_carrier(&self, host: &str, carrier: Carrier) -> Result<()> {
        let Some(process) = self.state.carrier(host, carrier)? else { return Ok(()) };
        let action = "kill the processes of a host";
        if let Some(handle) = process.open().map_err(ClusterError::system(action))? {
            handle.signal(Signal::SIGKILL).map_err(ClusterError::system(action))?;
            // A process that version 1 has frozen dies only when it is thawed.
            let groups = Groups::of_host(self.name(), host)?;
            if groups.is_frozen() {
                let _gone_already = groups.freeze(false);
            }
        }
        Ok(())
    }

    /// Waits until a killed host has ended altogether, and collects its holder if that is ours.
    fn await_end(&self, host: &str) -> Result<()> {
        let action = "wait for the end of a host";
        for carrier in [Carrier::Init, Carrier::Holder] {
            let Some(process) = self.state.carrier(host, carrier)? else { continue };
            let Some(handle) = process.open().map_err(ClusterError::system(action))? else { continue };
            if !handle.wait_end(END_LIMIT).map_err(ClusterError::system(action))? {
                return Err(ClusterError::Timeout {
                    what: format!("the end of {host}"),
                    seconds: END_LIMIT.as_secs(),
                });
            }
        }
        let holder = self.holders.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
        if let Some(mut holder) = holder {
            holder.wait().map_err(ClusterError::system(action))?;
        }
        Ok(())
    }

    /// Ends and removes everything, once; goes on after an error and gives the first.
    fn take_down(&mut self) -> Result<()> {
        let unchanged = match ClusterState::load(self.name()) {
            Ok(now) => now.identity == self.state.identity,
            Err(_) => false,
        };
        let mut result = Ok(());
        if unchanged {
            let names: Vec<String> = self.state.hosts.iter().map(|host| host.name.clone()).collect();
            for name in &names {
                // A holder ends with its process 1, which it collects. Only one that has not got that far must be
                // killed itself.
                let started = self.state.running_init(name).is_ok();
                let carrier = if started { Carrier::Init } else { Carrier::Holder };
                result = result.and(self.kill_carrier(name, carrier));
            }
            for name in &names {
                result = result.and(self.await_end(name));
            }
            result = result.and(remove_traces(self.name()));
        }
        self.guard.take().map_or(Ok(()), Guard::release).and(result)
    }
}

impl Drop for VirtualCluster {
    fn drop(&mut self) {
        if self.guard.is_some()
            && let Err(error) = self.take_down()
        {
            eprintln!("the cluster `{}` could not be taken down: {error}", self.name());
        }
    }
}

/// Removes what is left of a cluster whose hosts have ended; goes on after an error and gives the first.
fn remove_traces(name: &str) -> Result<()> {
    let groups = Groups::of_cluster(name).and_then(|groups| groups.remove());
    // The state goes last, and only if nothing is left that a later `down` would need it for.
    groups
        .and(network::remove(name))
        .and(etc::remove(name))
        .and(etc::remove_left_files())
        .and_then(|()| state::forget(name))
}

/// The end of a host's log, for an error.
fn tail_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_LEN)..]).trim_end().to_owned()
}

/// Finds the `muster-cluster` program, which hosts consist of: named by [`PROGRAM_VARIABLE`], or this program, or
/// beside this one, as it is for test binaries, which Cargo puts one directory deeper.
pub(crate) fn program() -> Result<PathBuf> {
    const NAME: &str = "muster-cluster";
    if let Some(path) = std::env::var_os(PROGRAM_VARIABLE) {
        return Ok(path.into());
    }
    let own = std::env::current_exe().map_err(ClusterError::system("find the path of this program"))?;
    let dirs = own.ancestors().skip(1).take(2).map(|dir| dir.join(NAME));
    dirs.into_iter().find(|path| path.is_file()).ok_or(ClusterError::MissingProgram {
        program: NAME,
        package: "nothing: run `cargo build -p muster-cluster-tests`",
    })
}
