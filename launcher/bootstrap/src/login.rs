//! The way to a node.

use std::net::IpAddr;

use muster_ssh::{Credentials, HostAddr, HostKeys, Session, SshTarget, with_retries};

use crate::error::{BootstrapError, Result};
use crate::request::Request;

/// A session with a node, and its address as far as it is known here.
pub(crate) fn log_in(request: &Request) -> Result<(Session, Option<IpAddr>)> {
    let failed = |source| BootstrapError::Login { node: request.node.clone(), source };
    let addr = match HostAddr::of(&request.address) {
        HostAddr::Name(name) if request.jump.is_empty() => {
            SshTarget::resolve(&name, request.port, &request.user).map_err(failed)?.addr
        }
        // Behind jump hosts, only the last of them need know a name.
        addr => addr,
    };
    // The key is looked up by the node's name, wherever the node is reached.
    let target = SshTarget {
        host: request.node.clone(),
        addr: addr.clone(),
        port: request.port,
        user: request.user.clone(),
    };
    let jumps: Vec<SshTarget> = request
        .jump
        .iter()
        .map(|jump| SshTarget {
            host: jump.host.clone(),
            addr: HostAddr::of(&jump.host),
            port: jump.port,
            user: jump.user.clone(),
        })
        .collect();
    let credentials = match &request.identity_file {
        Some(path) => Credentials::KeyFile { path: path.clone() },
        None => Credentials::Agent,
    };
    let host_keys = HostKeys::KnownHostsFiles(request.known_hosts_files.clone());
    let within = request.connect_within();
    let connect =
        |target: &SshTarget| Session::connect_through(&jumps, target, &credentials, &host_keys, within);
    Ok((with_retries(&target, &connect).map_err(failed)?, addr.ip()))
}
