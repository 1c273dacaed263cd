//! A PostgreSQL server of a test's own, in a folder of its own, that ends with the value. It runs as the user `postgres`
//! where root may not run it; the thread that starts it must outlive it. `muster` is its superuser, and whoever runs the test may be `muster` over the socket.

mod cut;

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use postgres::{Client, NoTls};

pub use cut::Cut;

/// How long the server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// It is not installed.
    #[error("PostgreSQL's initdb is neither below /usr/lib/postgresql nor in PATH: run .ci/deps.sh")]
    Missing,
    /// A file or process.
    #[error("cannot {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program of PostgreSQL's failed.
    #[error("{program} failed: {log}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        log: String,
    },
    /// The server refused something.
    #[error("the server refused")]
    Refused(#[from] postgres::Error),
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> PostgresError {
    move |source| PostgresError::System { doing, source }
}

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    folder: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
}

impl PostgresServer {
    /// Makes a cluster of databases and starts a server for it.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn start() -> Result<Self, PostgresError> {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same, in a new folder below `parent`: for a server on a file system of its own.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn start_in(parent: &Path) -> Result<Self, PostgresError> {
        let folder = tempfile::tempdir_in(parent).map_err(system("make a folder"))?;
        let port = free_port().map_err(system("find a free port"))?;
        let mut server = Self { folder, child: None, port };
        server.make()?;
        server.run()?;
        Ok(server)
    }

    /// The same, with this certificate and its key, in PEM, for connections over the network.
    ///
    /// # Errors
    /// [`PostgresError`].
    pub fn start_with_tls(cert_pem: &str, key_pem: &str) -> Result<Self, PostgresError> {
        let mut server = Self::start()?;
        server.kill();
        let write = |name: &str, text: &str| {
            let path = server.data().join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            if let Ok(Some(user)) = server_user() {
                nix::unistd::chown(&path, Some(user.uid), Some(user.gid))?;
            }
            Ok(())
        };
        let config = std::fs::read_to_string(server.data().join("postgresql.conf"));
        config
            .and_then(|text| write("postgresql.conf", &format!("{text}\nssl = on\n")))
            .and_then(|()| write("server.crt", cert_pem))
            .and_then(|()| write("server.key", key_pem))
            .map_err(system("write the server's certificate"))?;
        server.run()?;
        Ok(server)
    }

    fn make(&self) -> Result<(), PostgresError> {
        let folder = self.folder.path();
        if let Some(user) = server_user()? {
            nix::unistd::chown(folder, Some(user.uid), Some(user.gid))
                .map_err(|errno| system("give the folder to the server's user")(errno.into()))?;
        }
        let mut initdb = as_server_user(&program("initdb")?)?;
        initdb.arg("-D").arg(self.data()).args(["-U", "muster", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = initdb.output().map_err(system("run initdb"))?;
        if !output.status.success() {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(PostgresError::Failed { program: "initdb", log });
        }
        let caller = User::from_uid(geteuid()).ok().flatten().map_or("root".to_owned(), |user| user.name);
        let write = |name: &str, text: String| std::fs::write(self.data().join(name), text);
        let hosts = "local all all peer map=muster\nhost all all 127.0.0.1/32 scram-sha-256\n";
        let config = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n",
            self.port,
            folder.display(),
        );
        write("pg_hba.conf", hosts.to_owned())
            .and_then(|()| write("pg_ident.conf", format!("muster {caller} muster\n")))
            .and_then(|()| write("postgresql.conf", config))
            .map_err(system("write the server's configuration"))
    }

    /// Starts the server again after [`PostgresServer::kill`].
    ///
    /// # Errors
    /// [`PostgresError`] with the server's log.
    pub fn run(&mut self) -> Result<(), PostgresError> {
        let log_path = self.folder.path().join("log");
        let log = std::fs::File::create(&log_path).map_err(system("make the server's log"))?;
        let mut command = as_server_user(&program("postgres")?)?;
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: prctl(2) is a plain system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                // A test that is killed leaves no server behind.
                nix::sys::prctl::set_pdeathsig(Signal::SIGQUIT)?;
                Ok(())
            });
        }
        self.child = Some(command.spawn().map_err(system("start the server"))?);
        let end = Instant::now() + START_LIMIT;
        loop {
            match self.connect("postgres") {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < end && self.is_running() => {
                    // The server tells nobody when it is ready but those who ask.
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(_) => {
                    let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                    return Err(PostgresError::Failed { program: "postgres", log });
                }
            }
        }
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the server's socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's port, which is also a part of its socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's first process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The URL of a database over the server's socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://muster@/{database}?host={}&port={}", self.folder.path().display(), self.port)
    }

    /// Connects to a database.
    ///
    /// # Errors
    /// [`PostgresError::Refused`].
    pub fn connect(&self, database: &str) -> Result<Client, PostgresError> {
        Ok(Client::connect(&self.url(database), NoTls)?)
    }

    /// Makes a database and gives its URL.
    ///
    /// # Errors
    /// [`PostgresError::Refused`].
    pub fn database(&self, name: &str) -> Result<String, PostgresError> {
        self.connect("postgres")?.batch_execute(&format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    /// Kills the server as a loss of power would, with all its processes.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // SIGQUIT makes it end its processes, and itself, without writing anything.
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGQUIT);
        let _ = child.wait();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Whom the server runs as, if not as the caller: it refuses to run as root.
fn server_user() -> Result<Option<User>, PostgresError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(PostgresError::Missing),
    }
}

fn as_server_user(program: &Path) -> Result<Command, PostgresError> {
    let mut command = Command::new(program);
    if let Some(user) = server_user()? {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    }
    Ok(command)
}

/// Debian keeps the server's programs out of `PATH`, in a folder for each version.
fn program(name: &str) -> Result<PathBuf, PostgresError> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.is_file()).collect();
    found.sort();
    let in_path = || {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
    };
    found.pop().or_else(in_path).ok_or(PostgresError::Missing)
}
