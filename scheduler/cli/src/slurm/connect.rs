//! The connection to the controller, and what faces say of themselves.

use muster_client::{Client, Options, default_sockets};

use super::fault::Fault;

/// The version of Slurm whose commands the faces follow.
pub(super) const SLURM_VERSION: (u32, u32, u32) = (23, 11, 0);

/// What `--version` prints; it begins with [`SLURM_VERSION`].
pub(super) const VERSION: &str = concat!("slurm 23.11.0 (Muster ", env!("CARGO_PKG_VERSION"), ")\n");

/// The same, for those who own their texts.
pub(super) fn version() -> String {
    VERSION.to_owned()
}

/// Connects to the controller that the environment names. `doing` is what Slurm calls what is tried.
pub(super) fn connect(doing: &'static str) -> Result<Client, Fault> {
    let mut options = Options::of(default_sockets());
    // Programs read what faces say on the standard error.
    options.on_away = Box::new(|_| {});
    Client::connect_with(options).map_err(Fault::client(doing))
}

/// Whether `--clusters` names this cluster: its own name, or `all`.
pub(super) fn check_clusters(face: &str, named: &str, own: &str) -> Result<(), Fault> {
    match named.split(',').find(|name| !matches!(*name, "" | "all") && *name != own) {
        None => Ok(()),
        Some(other) => Err(Fault::Said(format!(
            "{face}: error: No cluster '{other}' known by database.\n{face}: error: '{other}' can't be reached now, or it is \
             an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters."
        ))),
    }
}
