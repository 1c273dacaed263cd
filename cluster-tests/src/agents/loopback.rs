//! A real controller with its store on a real disk, which listens on this host alone.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use muster_client::{Client, ClientError};

use super::AgentsError;

/// What a controller is like.
#[derive(Debug, Clone)]
pub struct LoopbackOptions {
    /// An empty folder for all that it keeps.
    pub folder: PathBuf,
    /// Lines under `[controller]`.
    pub controller: String,
    /// Lines under `[policy]`.
    pub policy: String,
    /// Nodes and pools.
    pub cluster: String,
}

/// A controller. It is killed with the value.
#[derive(Debug)]
pub struct Loopback {
    folder: PathBuf,
    program: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

/// What the controller's process has used and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// CPU time so far, in seconds.
    pub cpu_s: f64,
    /// Memory now, in bytes.
    pub memory_bytes: u64,
    /// The most memory so far, in bytes.
    pub memory_peak_bytes: u64,
}

/// Clock ticks of proc(5) in a second, on every architecture of Linux that there is.
const TICKS_PER_SECOND: f64 = 100.0;
/// The end of a log that is shown, in bytes.
const LOG_TAIL_BYTES: usize = 4000;

impl Loopback {
    /// Writes the configuration, which makes it possible to start.
    ///
    /// # Errors
    /// [`AgentsError`] if the program or the folder is missing, or no port is free.
    pub fn new(options: &LoopbackOptions) -> Result<Self, AgentsError> {
        let program = musterd()?;
        let listener = TcpListener::bind("127.0.0.1:0");
        let address = listener.and_then(|listener| listener.local_addr());
        let address = address.map_err(AgentsError::system("find a free port"))?;
        let LoopbackOptions { folder, controller, policy, cluster } = options;
        let text = format!(
            "[cluster]\nname = \"agents\"\n\n[controller]\nlisten = \"{address}\"\nsocket = \"{0}/sock\"\n\
             state_dir = \"{0}/state\"\n{controller}\n\n[policy]\nroot_may_submit = true\n{policy}\n\n{cluster}\n",
            folder.display()
        );
        let path = folder.join("muster.toml");
        std::fs::write(&path, text).map_err(AgentsError::file(&path))?;
        Ok(Self { folder: folder.clone(), program, address, child: None })
    }

    /// Starts it, and returns when it listens.
    ///
    /// # Errors
    /// [`AgentsError::Controller`] with the end of its log.
    pub fn start(&mut self) -> Result<(), AgentsError> {
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path).map_err(AgentsError::file(&path))?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.folder.join("muster.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // Whoever is killed leaves no controller behind.
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(AgentsError::system("start musterd"))?;
        let said = child.stdout.take().map(BufReader::new);
        self.child = Some(child);
        let mut lines = said.into_iter().flat_map(|said| said.lines()).map_while(Result::ok);
        match lines.any(|line| line.contains("nodes at ")) {
            true => Ok(()),
            false => Err(AgentsError::Controller { log: self.log_tail() }),
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// [`AgentsError::System`] if it cannot be waited for.
    pub fn kill(&mut self) -> Result<(), AgentsError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().and_then(|()| child.wait()).map(drop).map_err(AgentsError::system("end musterd"))
    }

    /// Where nodes connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder of its authority and of the nodes' certificates.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.folder.join("state/tls")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("musterd.log")
    }

    /// A client of its API.
    ///
    /// # Errors
    /// [`ClientError`] if it does not answer.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.folder.join("sock"))
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What its process has used and uses (proc(5)); nothing if it does not run.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let Some(pid) = self.pid() else { return Figures::default() };
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let stat = read("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        let status = read("status");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or(0) << 10
        };
        Figures {
            cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_SECOND,
            memory_bytes: kib("VmRSS:"),
            memory_peak_bytes: kib("VmHWM:"),
        }
    }

    fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).into_owned()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// The program of this build: beside this program, or one up from a test's.
fn musterd() -> Result<PathBuf, AgentsError> {
    let here = std::env::current_exe().map_err(AgentsError::file(Path::new("/proc/self/exe")))?;
    let mut folder = here.parent().unwrap_or(Path::new("/")).to_owned();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join("musterd");
    if path.exists() { Ok(path) } else { Err(AgentsError::NotBuilt { path }) }
}
