//! Network namespaces, the switch that joins them, and its cables; all by `ip` of iproute2.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{ClusterError, Result};
use crate::options::Subnet;
use crate::state::ClusterState;

/// Where iproute2 keeps its named network namespaces.
const NAMESPACES: &str = "/run/netns";

/// The bridge inside the switch's namespace.
const BRIDGE: &str = "switch";

/// Finds a program of the system; daemons are often started with a PATH without the sbin directories.
pub(crate) fn find_program(program: &'static str, package: &'static str) -> Result<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .ok_or(ClusterError::MissingProgram { program, package })
}

/// Runs `ip` on a list of commands, in the named namespace or in the current one.
pub(crate) fn ip_batch(action: &'static str, namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = Command::new(find_program("ip", "iproute2")?);
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(ClusterError::system("start `ip`"))?;
    let mut stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    // `ip` stops reading at its first error; what it says about that is worth more than a broken pipe.
    let _maybe_broken = stdin.write_all((lines.join("\n") + "\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(ClusterError::system("wait for `ip`"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(ClusterError::Ip { action, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// The name of the namespace of a host.
pub(crate) fn host_namespace(cluster: &str, host: &str) -> String {
    format!("{cluster}-{host}")
}

/// The file that stands for a namespace.
pub(crate) fn namespace_path(namespace: &str) -> PathBuf {
    Path::new(NAMESPACES).join(namespace)
}

/// The name of the namespace that holds the bridge.
fn switch_namespace(cluster: &str) -> String {
    format!("{cluster}-switch")
}

/// Makes the namespaces, the bridge and one cable for each host. The bridge has a namespace of its own, so
/// neither the machine's firewall nor its network manager meets the cluster's links.
pub(crate) fn build(state: &ClusterState) -> Result<()> {
    let switch = switch_namespace(&state.name);
    let mut namespaces = vec![format!("netns add {switch}")];
    let mut cables =
        vec![format!("link add {BRIDGE} type bridge forward_delay 0"), format!("link set {BRIDGE} up")];
    for host in &state.hosts {
        let namespace = host_namespace(&state.name, &host.name);
        namespaces.push(format!("netns add {namespace}"));
        cables.push(format!("link add {} type veth peer name eth0 netns {namespace}", host.name));
        cables.push(format!("link set {} master {BRIDGE} up", host.name));
    }
    ip_batch("making the network namespaces", None, &namespaces)?;
    ip_batch("building the switch", Some(&switch), &cables)
}

/// Gives the current namespace its address; run by a host when it starts. It can be repeated.
pub(crate) fn configure_host(address: std::net::Ipv4Addr) -> Result<()> {
    let lines = [
        "link set lo up".to_owned(),
        format!("addr replace {address}/{} dev eth0", Subnet::PREFIX_BITS),
        "link set eth0 up".to_owned(),
    ];
    ip_batch("giving the host its address", None, &lines)
}

/// Plugs a host's cable in or out at the switch.
pub(crate) fn set_link(cluster: &str, host: &str, up: bool) -> Result<()> {
    let line = format!("link set {host} {}", if up { "up" } else { "down" });
    ip_batch("switching a cable", Some(&switch_namespace(cluster)), &[line])
}

/// How a link is made bad: netem's way, and what is left of it where the kernel was built without netem.
const NETEM: &str = "netem delay 30ms 20ms loss 5%";
const RATE: &str = "tbf rate 2mbit burst 16kb latency 300ms";

/// What the kernel lets be done to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Badness {
    /// Packets are late, out of order, and some are lost (netem).
    LateAndLost,
    /// The link is slow, and what does not fit is dropped (tbf): the kernel has no netem.
    Slow,
}

/// Makes a host's link bad in both directions.
pub(crate) fn worsen_link(cluster: &str, host: &str) -> Result<Badness> {
    match set_discipline(cluster, host, "replace", NETEM) {
        Ok(()) => Ok(Badness::LateAndLost),
        Err(_no_netem) => set_discipline(cluster, host, "replace", RATE).map(|()| Badness::Slow),
    }
}

/// Ends [`worsen_link`].
pub(crate) fn mend_link(cluster: &str, host: &str) -> Result<()> {
    set_discipline(cluster, host, "del", "")
}

/// Tells the queues at both ends of a host's cable how to send.
fn set_discipline(cluster: &str, host: &str, verb: &str, discipline: &str) -> Result<()> {
    let tc = find_program("tc", "iproute2")?;
    for (namespace, device) in [(switch_namespace(cluster), host), (host_namespace(cluster, host), "eth0")] {
        let output = Command::new(&tc)
            .args(["-n", &namespace, "qdisc"])
            .arg(verb)
            .args(["dev", device, "root"])
            .args(discipline.split_whitespace())
            .output()
            .map_err(ClusterError::system("start `tc`"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ClusterError::Ip { action: "shaping a link", stderr });
        }
    }
    Ok(())
}

/// Which cables are plugged in, by host.
pub(crate) fn links(cluster: &str) -> Result<BTreeMap<String, bool>> {
    let output = Command::new(find_program("ip", "iproute2")?)
        .args(["-n", &switch_namespace(cluster), "-json", "link", "show", "type", "veth"])
        .output()
        .map_err(ClusterError::system("start `ip`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ClusterError::Ip { action: "listing the cables", stderr });
    }
    parse_links(&output.stdout)
}

fn parse_links(json: &[u8]) -> Result<BTreeMap<String, bool>> {
    #[derive(serde::Deserialize)]
    struct Link {
        ifname: String,
        flags: Vec<String>,
    }
    let links: Vec<Link> = serde_json::from_slice(json).map_err(ClusterError::IpOutput)?;
    Ok(links.into_iter().map(|link| (link.ifname, link.flags.iter().any(|flag| flag == "UP"))).collect())
}

/// The namespaces that belong to a cluster, by their names.
pub(crate) fn namespaces_of(cluster: &str) -> Vec<String> {
    names_of(cluster, Path::new(NAMESPACES))
}

/// The entries of a directory that are named as a cluster's namespaces are.
pub(crate) fn names_of(cluster: &str, dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_of(cluster, name))
        .collect()
}

fn is_of(cluster: &str, namespace: &str) -> bool {
    let Some(rest) = namespace.strip_prefix(cluster).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let node =
        rest.strip_prefix("node").is_some_and(|n| n.len() >= 2 && n.bytes().all(|b| b.is_ascii_digit()));
    node || rest == crate::options::HEAD || rest == "switch"
}

/// Removes all namespaces of a cluster; the bridge and the cables end with them.
pub(crate) fn remove(cluster: &str) -> Result<()> {
    let lines: Vec<String> = namespaces_of(cluster).iter().map(|name| format!("netns del {name}")).collect();
    if lines.is_empty() { Ok(()) } else { ip_batch("removing the network namespaces", None, &lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_harness_gives_are_taken_for_its_own() {
        for own in ["mst-head", "mst-switch", "mst-node01", "mst-node240"] {
            assert!(is_of("mst", own), "{own}");
        }
        for other in
            ["mst", "mst-", "mst-nodes", "mst-node", "mst2-head", "docker-head", "mst-heads", "mst-node1x"]
        {
            assert!(!is_of("mst", other), "{other}");
        }
    }

    #[test]
    fn cables_are_read_from_json() {
        let json = br#"[{"ifname":"node01","flags":["BROADCAST","UP","LOWER_UP"]},{"ifname":"node02","flags":["BROADCAST"]}]"#;
        let links = parse_links(json).unwrap();
        assert_eq!((links["node01"], links["node02"]), (true, false));
        assert!(parse_links(b"no json").is_err());
    }
}
