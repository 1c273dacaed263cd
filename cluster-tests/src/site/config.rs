//! The configuration of a site, as text.

use std::fmt::Write as _;

use super::{SiteError, SiteOptions, Staged};
use crate::VirtualCluster;

pub(super) fn text(
    cluster: &VirtualCluster,
    staged: &Staged,
    options: &SiteOptions,
) -> Result<String, SiteError> {
    let state = cluster.state();
    let head = state.subnet.address(0);
    let real = std::thread::available_parallelism().map_or(1, usize::from);
    let wrap = options.cores as usize > real;
    let mut text = format!(
        "[cluster]\nname = \"{name}\"\n\n[controller]\nlisten = \"{head}:6817\"\nsocket = {socket:?}\n\
         state_dir = {state_dir:?}\nnode_timeout_s = {timeout}\nheartbeat_ms = 500\n{controller}\n\
         [policy]\nhold_node_s = 10\n{policy}\n\
         [bootstrap]\nenabled = {by_controller}\nidentity_file = {key:?}\nknown_hosts = \"/etc/ssh/ssh_known_hosts\"\n\
         binaries_dir = {binaries:?}\nremote_dir = \"/var/lib/muster\"\nprogram = {bootstrap:?}\n\n\
         [[pool]]\nname = \"main\"\nnodes = \"node[01-{count:02}]\"\ndefault = true\ndefault_time = \"10:00\"\n\n",
        name = cluster.name(),
        socket = cluster.shared_dir().join("muster.sock"),
        state_dir = options.state_dir,
        controller = options.controller,
        timeout = options.node_timeout_s,
        policy = options.policy,
        by_controller = options.by_controller,
        key = cluster.bootstrap_key(),
        binaries = staged.bin,
        bootstrap = staged.bin.join("muster-bootstrap"),
        count = options.cluster.hosts,
    );
    for (i, node) in cluster.nodes().enumerate() {
        let _ = write!(
            text,
            "[[node]]\nname = \"{node}\"\naddress = \"{address}\"\ncores = {cores}\nmemory = \"{memory}\"\n\
             wrap_cores = {wrap}\n\n",
            address = state.subnet.address(i + 1),
            cores = options.cores,
            memory = options.memory,
        );
    }
    Ok(text)
}
