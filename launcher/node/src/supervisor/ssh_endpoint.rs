//! The attempt's own SSH endpoint: a port at which the launchers of the other instances start processes here.
//!
//! No daemon stands behind the port. Each connection gets one `sshd -i`, started as the attempt's user inside the
//! attempt's containment, so whatever a launcher starts is inside as well.

use std::ffi::CString;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use muster_wire::v1;
use tokio::sync::mpsc;

use super::prepare::Prepared;
use super::run_folder::RunFolder;
use super::spawn::{Child, Stdio, WayIn, c_path};
use super::{Event, Supervisor};
use crate::containers::tools;
use crate::error::{NodeError, Result};
use crate::user::Account;

/// How many connections may be served at once. Launchers open one for each node, or a few.
const DAEMONS_MAX: usize = 1024;

/// The configuration's name in the attempt's folder.
pub(super) const CONFIG: &str = "sshd_config";

/// The open port.
pub(super) struct Endpoint(TcpListener);

impl Endpoint {
    /// Opens the port and writes what sshd needs.
    ///
    /// # Errors
    ///
    /// [`NodeError`] if there is no sshd, or the port or the files cannot be made.
    pub fn prepare(
        supervisor: &Supervisor,
        folder: &mut RunFolder,
        account: &Account,
        endpoint: &mut v1::Endpoint,
    ) -> Result<Self> {
        let sshd = &supervisor.assignment.sshd;
        if !sshd.is_file() {
            return Err(NodeError::NoSshd { path: sshd.clone() });
        }
        endpoint.ssh_host_key = supervisor.write_ssh_files(folder, account, CONFIG)?;
        let listener = listen_at(&supervisor.assignment.address)?;
        let port = listener.local_addr().map_err(NodeError::system("ask for a port's number"))?.port();
        endpoint.ssh_port = u32::from(port);
        Ok(Self(listener))
    }

    /// Takes connections from now on. Those that came earlier have waited in the system's queue.
    ///
    /// # Errors
    ///
    /// [`NodeError::System`] if the port cannot be used.
    pub fn listen(self, events: mpsc::Sender<Event>) -> Result<()> {
        let listener =
            tokio::net::TcpListener::from_std(self.0).map_err(NodeError::system("use the SSH port"))?;
        tokio::task::spawn_local(async move {
            loop {
                let Ok((connection, _)) = listener.accept().await else { continue };
                let Ok(connection) = connection.into_std() else { continue };
                if events.send(Event::Ssh(connection)).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Opens a port on the node's address, ready for tokio.
pub(super) fn listen_at(address: &str) -> Result<TcpListener> {
    let action = "listen at this node's address";
    let listener = TcpListener::bind((address, 0)).map_err(NodeError::system(action))?;
    listener.set_nonblocking(true).map_err(NodeError::system(action))?;
    Ok(listener)
}

impl Supervisor {
    /// Starts an sshd for a connection. A failure ends the connection only, which its launcher reports.
    pub(super) fn serve_ssh(&mut self, prepared: &Prepared, connection: TcpStream) {
        if self.daemons.len() >= DAEMONS_MAX {
            tracing::warn!(limit = DAEMONS_MAX, "too many SSH connections at once; one is refused");
            return;
        }
        match self.start_sshd(prepared, connection) {
            Ok(pid) => {
                self.daemons.insert(pid);
            }
            Err(error) => tracing::error!(error = error.sentence(), "an SSH connection cannot be served"),
        }
    }

    fn start_sshd(&self, prepared: &Prepared, connection: TcpStream) -> Result<i32> {
        connection.set_nonblocking(false).map_err(NodeError::system("pass a connection on"))?;
        let run = &self.assignment.run;
        let sshd = c_path(&self.assignment.sshd)?;
        let config = c_path(&run.join(CONFIG))?;
        let log: PathBuf = run.join("sshd.log");
        let cpus = self.assignment.cpus();
        let mut arguments = match &self.container {
            // The image need not have what the node's server is made of.
            Some(_) => ssh_in_container(&self.assignment.sshd)?,
            None => vec![sshd],
        };
        let program = arguments[0].clone();
        arguments.extend([c"-i".into(), c"-f".into(), config, c"-E".into(), c_path(&log)?]);
        let child = Child {
            program,
            arguments,
            environment: vec![c"PATH=/usr/local/bin:/usr/bin:/bin".into()],
            common_environment: &[],
            account: &prepared.account,
            way_in: WayIn::Files(prepared.entrances()?),
            cpus: &cpus,
            shares_cores: self.assignment.cores_wrap,
            namespace: self.container.as_ref().map(|container| container.namespace.as_fd()),
            directory: None,
            umask: 0o077,
            limits: Vec::new(),
            stdio: Stdio::Socket(connection.into()),
        };
        child.start()
    }
}

/// How the node's SSH server is run in a container: with its own loader and libraries.
fn ssh_in_container(sshd: &Path) -> Result<Vec<CString>> {
    let name = Path::new(tools::FOLDER).join(sshd.file_name().unwrap_or_default());
    let words = [Path::new(tools::LOADER), Path::new("--library-path"), Path::new(tools::FOLDER), &name];
    words.into_iter().map(c_path).collect()
}
