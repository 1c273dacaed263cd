//! A whole Muster installation on a virtual cluster: one controller in `head`, agents that it bootstraps on the
//! nodes over SSH, and users who submit.

mod config;
mod error;
mod files;
mod stage;
mod watch;

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_client::Client;
use muster_client::api::{JobDetail, NodeView};
use muster_core::ids::{JobId, JobRef};
use nix::sys::signal::Signal;

pub use self::error::SiteError;
pub use self::files::{binaries_dir, mpi_tasks_dir, mpich_home, repository};
pub use self::stage::Staged;
use crate::{ClusterOptions, HEAD, VirtualCluster};

/// How long a controller may take to listen.
const CONTROLLER_START_LIMIT: Duration = Duration::from_secs(30);
/// How long the nodes may take to be up, all together.
const NODES_UP_LIMIT: Duration = Duration::from_secs(60);

/// What a site is like.
#[derive(Debug, Clone)]
pub struct SiteOptions {
    /// The hosts and users.
    pub cluster: ClusterOptions,
    /// Cores that each node declares; more than the machine has are wrapped onto the real ones.
    pub cores: u32,
    /// Memory that each node declares, such as `4G`: virtual hosts share the machine's.
    pub memory: String,
    /// Lines under `[controller]`.
    pub controller: String,
    /// After how many seconds of silence a node is given up.
    pub node_timeout_s: u64,
    /// Whether the controller brings agents up; else no node is up at first.
    pub by_controller: bool,
    /// Lines under `[policy]`.
    pub policy: String,
    /// Where the controller keeps its state: on a real disk, so that what a commit costs is what it costs.
    pub state_dir: PathBuf,
}

impl SiteOptions {
    /// `nodes` nodes of `cores` cores and one user, `ann`.
    ///
    /// # Errors
    /// [`SiteError::Files`] if no directory for the state can be made.
    pub fn new(name: &str, nodes: usize, cores: u32) -> Result<Self, SiteError> {
        let cluster =
            ClusterOptions { hosts: nodes, users: vec!["ann".to_owned()], ..ClusterOptions::named(name) };
        Ok(Self {
            cluster,
            cores,
            memory: "4G".to_owned(),
            controller: String::new(),
            node_timeout_s: 12,
            by_controller: true,
            policy: String::new(),
            state_dir: files::fresh_state_dir(name)?,
        })
    }
}

/// How long each step of bringing a site up took.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpTimes {
    /// Hosts with their sshd.
    pub hosts: Duration,
    /// The controller, until it listens.
    pub controller: Duration,
    /// All agents, from the controller's start until every node takes work.
    pub agents: Duration,
}

/// A running site. Everything of it ends with the value, unless it is kept.
pub struct Site {
    /// The hosts.
    pub cluster: VirtualCluster,
    /// How long bringing it up took.
    pub up_times: UpTimes,
    /// Where users find programs.
    pub staged: Staged,
    /// The controller is killed and started by one thread while others submit.
    controller: Mutex<Controller>,
}

impl Site {
    /// Brings hosts, controller and agents up, and returns when every node takes work.
    ///
    /// # Errors
    /// [`SiteError`]: what did not come up, with the end of its log.
    pub fn up(options: &SiteOptions) -> Result<Self, SiteError> {
        let started = Instant::now();
        let cluster = VirtualCluster::up(&options.cluster)?;
        let staged = Staged::at(&cluster.shared_dir());
        let mut site = Self {
            cluster,
            staged,
            up_times: UpTimes { hosts: started.elapsed(), ..UpTimes::default() },
            controller: Mutex::new(Controller { child: None, state_dir: Some(options.state_dir.clone()) }),
        };
        site.staged.fill()?;
        let text = config::text(&site.cluster, &site.staged, options)?;
        files::write(&site.config_path(), &text)?;
        let started = Instant::now();
        site.start_controller()?;
        site.up_times.controller = started.elapsed();
        if options.by_controller {
            site.await_nodes_up()?;
        }
        site.up_times.agents = started.elapsed() - site.up_times.controller;
        Ok(site)
    }

    /// The socket of the client API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.cluster.shared_dir().join("muster.sock")
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.cluster.shared_dir().join("muster.toml")
    }

    /// What the controller logs.
    #[must_use]
    pub fn controller_log(&self) -> PathBuf {
        self.cluster.shared_dir().join("musterd.log")
    }

    /// Starts the controller in `head` and returns when it listens.
    ///
    /// # Errors
    /// [`SiteError::Controller`] with the end of its log.
    pub fn start_controller(&self) -> Result<(), SiteError> {
        let log = files::append(&self.controller_log())?;
        let (ready, ready_child) = nix::unistd::pipe().map_err(|errno| SiteError::Pipe(errno.into()))?;
        let mut command = self.cluster.exec(HEAD, None)?;
        // Only the standard streams go through into the host: the shell makes descriptor 3 of its output.
        command
            .arg("/bin/sh")
            .args(["-c", "exec \"$0\" --config \"$1\" --ready-fd 3 3>&1 >&2"])
            .arg(self.staged.bin.join("musterd"))
            .arg(self.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::from(ready_child))
            .stderr(Stdio::from(log));
        let child = command.spawn().map_err(|source| SiteError::Spawn { program: "musterd", source })?;
        drop(command);
        self.lock_controller().child = Some(child);
        self.await_ready(std::fs::File::from(ready))
    }

    fn lock_controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The controller writes a line, or closes the pipe by its end.
    fn await_ready(&self, mut ready: std::fs::File) -> Result<(), SiteError> {
        let mut fds = [nix::poll::PollFd::new(ready.as_fd(), nix::poll::PollFlags::POLLIN)];
        let limit_ms = u16::try_from(CONTROLLER_START_LIMIT.as_millis()).unwrap_or(u16::MAX);
        let polled = nix::poll::poll(&mut fds, limit_ms).map_err(|errno| SiteError::Pipe(errno.into()))?;
        let mut byte = [0];
        if polled > 0 && ready.read(&mut byte).map_err(SiteError::Pipe)? > 0 {
            return Ok(());
        }
        Err(SiteError::Controller { log: files::tail(&self.controller_log()) })
    }

    /// Kills the controller with SIGKILL.
    ///
    /// # Errors
    /// [`SiteError`] if its process cannot be found.
    pub fn kill_controller(&self) -> Result<(), SiteError> {
        self.end_controller(Signal::SIGKILL)
    }

    /// Stops the controller in good order with SIGTERM.
    ///
    /// # Errors
    /// [`SiteError`] if its process cannot be found.
    pub fn stop_controller(&self) -> Result<(), SiteError> {
        self.end_controller(Signal::SIGTERM)
    }

    /// The same, after a look at what it has stored up to then: it stands still meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Site::stop_controller`].
    pub fn stop_controller_after(&self, look: impl FnOnce()) -> Result<(), SiteError> {
        let pid = self.controller_pid()?;
        self.cluster.kill(pid, Signal::SIGSTOP)?;
        look();
        self.cluster.kill(pid, Signal::SIGTERM)?;
        self.cluster.kill(pid, Signal::SIGCONT)?;
        self.await_end_of_controller()
    }

    /// The controller's process.
    ///
    /// # Errors
    ///
    /// [`SiteError`] if it cannot be found.
    pub fn controller_pid(&self) -> Result<i32, SiteError> {
        let processes = self.cluster.processes(HEAD)?;
        let is_controller =
            |p: &&crate::ProcessInfo| p.cmdline.first().is_some_and(|program| program.ends_with("/musterd"));
        processes.iter().find(is_controller).map(|p| p.pid).ok_or(SiteError::NoController)
    }

    fn end_controller(&self, signal: Signal) -> Result<(), SiteError> {
        self.cluster.kill(self.controller_pid()?, signal)?;
        self.await_end_of_controller()
    }

    fn await_end_of_controller(&self) -> Result<(), SiteError> {
        let child = self.lock_controller().child.take();
        if let Some(mut child) = child {
            child.wait().map_err(|source| SiteError::Spawn { program: "musterd", source })?;
        }
        Ok(())
    }

    /// A command of ours, run in `head` as a user.
    ///
    /// # Errors
    /// [`SiteError`] if `head` is off or the binary was not built.
    pub fn muster(&self, user: &str, directory: &Path) -> Result<Command, SiteError> {
        let mut command = self.cluster.exec(HEAD, Some(user))?;
        command
            .args(["/usr/bin/env", "-C"])
            .arg(directory)
            .arg(self.staged.bin.join("muster"))
            .env("MUSTER_SOCKET", self.socket())
            .env("MUSTER_MPI_TASKS", &self.staged.mpi_tasks)
            .env("MPICH_HOME", &self.staged.mpich)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `muster ARGS` as a user in their directory and gives back what it printed.
    ///
    /// # Errors
    /// [`SiteError`] if it could not be run; a non-zero exit is no error here.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        user: &str,
        directory: &Path,
        args: &[S],
    ) -> Result<Output, SiteError> {
        let mut command = self.muster(user, directory)?;
        command.args(args);
        command.output().map_err(|source| SiteError::Spawn { program: "muster", source })
    }

    /// Submits a script file as a user with `muster submit`.
    ///
    /// # Errors
    /// [`SiteError::Refused`] with what the command said.
    pub fn submit(&self, user: &str, directory: &Path, args: &[&str]) -> Result<JobId, SiteError> {
        let output = self.run(user, directory, &[&["submit", "--parsable"], args].concat())?;
        let id = String::from_utf8_lossy(&output.stdout).trim().parse();
        match id {
            Ok(id) if output.status.success() => Ok(JobId(id)),
            _ => Err(SiteError::Refused {
                code: output.status.code(),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
        }
    }

    /// A client of the API, as this process's user.
    ///
    /// # Errors
    /// [`SiteError::Client`] if the controller does not answer.
    pub fn client(&self) -> Result<Client, SiteError> {
        Ok(Client::connect(&self.socket())?)
    }

    /// Waits until a job has finished.
    ///
    /// # Errors
    /// [`SiteError::Late`] after `limit`, with what is known of the job.
    pub fn wait(&self, job: JobId, limit: Duration) -> Result<JobDetail, SiteError> {
        let target = JobRef { job, task: None };
        let mut client = self.client()?;
        match client.wait_finished(target, Some(limit))? {
            Some(detail) => Ok(detail),
            None => Err(SiteError::late(&client.job(target)?)),
        }
    }

    /// The nodes as the controller sees them.
    ///
    /// # Errors
    /// [`SiteError::Client`] if the controller does not answer.
    pub fn nodes(&self) -> Result<Vec<NodeView>, SiteError> {
        Ok(self.client()?.nodes()?.nodes)
    }

    /// A job with its tasks.
    ///
    /// # Errors
    /// [`SiteError::Client`] if there is none.
    pub fn job(&self, job: JobId) -> Result<JobDetail, SiteError> {
        Ok(self.client()?.job(JobRef { job, task: None })?)
    }

    /// Leaves everything running.
    ///
    /// # Errors
    /// [`SiteError::Cluster`] if the hosts cannot be kept.
    pub fn keep(self) -> Result<(), SiteError> {
        let Self { cluster, controller, .. } = self;
        let mut controller = controller.into_inner().unwrap_or_else(PoisonError::into_inner);
        controller.child = None;
        controller.state_dir = None;
        Ok(cluster.keep()?)
    }

    /// Ends everything and says whether that went well.
    ///
    /// # Errors
    /// [`SiteError::Cluster`] if something of the hosts could not be removed.
    pub fn down(self) -> Result<(), SiteError> {
        let Self { cluster, controller, .. } = self;
        drop(controller);
        Ok(cluster.down()?)
    }
}

/// The controller's launcher and state on disk. Both end with the value, unless they were taken out of it.
struct Controller {
    child: Option<Child>,
    state_dir: Option<PathBuf>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its launcher hands the kill on; errors mean that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(state_dir) = self.state_dir.take().filter(|_| !std::thread::panicking()) {
            let _ = std::fs::remove_dir_all(state_dir);
        }
    }
}
