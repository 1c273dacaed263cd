//! The guard: a process that takes a cluster down when the process that made it ends in whatever way.
//!
//! Without it, a test that is killed would leave its hosts running. The guard holds the reading end of a pipe
//! whose other end only the maker has; the end of that pipe is the end of the maker.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use crate::cluster::VirtualCluster;
use crate::error::{ClusterError, Result};
use crate::state::ClusterState;

/// The byte by which the maker says that the cluster no longer depends on it.
const RELEASE: u8 = b'r';

/// The maker's side of the guard.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts a guard for the cluster.
    pub(crate) fn start(state: &ClusterState) -> Result<Self> {
        let mut command = Command::new(crate::cluster::program()?);
        command.args(["guard", "--name", &state.name, "--identity", &state.identity]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/");
        let child = command.spawn().map_err(ClusterError::system("start the cluster's guard"))?;
        Ok(Self { child })
    }

    /// Ends the guard and leaves the cluster alone.
    pub(crate) fn release(mut self) -> Result<()> {
        let mut stdin = self.child.stdin.take().expect("the guard is started with a pipe");
        match stdin.write_all(&[RELEASE]) {
            // The guard was killed; what it should have done no longer has to be done.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(ClusterError::system("release the cluster's guard")(error));
            }
            _ => {}
        }
        drop(stdin);
        self.child.wait().map_err(ClusterError::system("wait for the cluster's guard"))?;
        Ok(())
    }
}

/// The guard's own work: waits on standard input, and takes the cluster down unless it is released.
///
/// # Errors
///
/// Those of [`VirtualCluster::down`].
pub fn stand_guard(name: &str, identity: &str) -> Result<()> {
    // A new session: the signals of the maker's terminal and process group must not reach the guard.
    nix::unistd::setsid().map_err(ClusterError::system("make a session"))?;
    let mut said = Vec::new();
    let end = io::stdin().read_to_end(&mut said);
    if end.is_ok() && said == [RELEASE] {
        return Ok(());
    }
    match ClusterState::load(name) {
        Ok(state) if state.identity == identity => VirtualCluster::attach(name)?.down(),
        // Somebody else took it down, or even made a new one of the same name.
        Ok(_) | Err(ClusterError::NoSuchCluster { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
