//! Where the instances of an attempt are reached.

use std::net::IpAddr;
use std::path::Path;

use crate::MpiError;

/// The SSH endpoint of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub host: String,
    /// The address that the endpoint listens on.
    pub addr: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// Its public host key as `ssh-ed25519 AAAA...`, without a comment.
    pub host_key: String,
}

/// The text of [`crate::AttemptDir::peers`]: `node01 10.0.0.1 40001 ssh-ed25519 AAAA...` a line.
pub fn format_peers(peers: &[Peer]) -> String {
    peers
        .iter()
        .map(|peer| format!("{} {} {} {}\n", peer.host, peer.addr, peer.port, peer.host_key.trim()))
        .collect()
}

/// Reads [`crate::AttemptDir::peers`]; `path` is for messages.
///
/// # Errors
///
/// [`MpiError::Line`] names the first line that is wrong.
pub fn parse_peers(text: &str, path: &Path) -> Result<Vec<Peer>, MpiError> {
    let line_of = |(position, line): (usize, &str)| {
        peer(line).ok_or_else(|| MpiError::Line {
            path: path.to_owned(),
            line_number: position + 1,
            line: line.to_owned(),
            wanted: "`HOST ADDRESS PORT KEY-TYPE KEY`",
        })
    };
    text.lines().enumerate().map(line_of).collect()
}

fn peer(line: &str) -> Option<Peer> {
    let mut words = line.split_whitespace();
    let (host, addr, port) = (words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let host_key = format!("{} {}", words.next()?, words.next()?);
    Some(Peer { host: host.to_owned(), addr, port, host_key })
}

/// Finds a host by the name that a launcher says: as it is, by its address, or without its domain, as Open MPI shortens
/// names.
///
/// # Errors
///
/// [`MpiError::UnknownHost`] lists the hosts that there are.
pub fn find_peer<'a>(peers: &'a [Peer], host: &str) -> Result<&'a Peer, MpiError> {
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let by_short_name = || {
        let mut matching = peers.iter().filter(|peer| short(&peer.host) == short(host));
        // Two hosts that differ in their domain only cannot be told apart by a short name.
        matching.next().filter(|_| matching.next().is_none())
    };
    let address: Option<IpAddr> = host.parse().ok();
    let is_meant = |peer: &&Peer| peer.host == host || Some(peer.addr) == address;
    peers.iter().find(is_meant).or_else(by_short_name).ok_or_else(|| MpiError::UnknownHost {
        host: host.to_owned(),
        allocation: peers.iter().map(|peer| peer.host.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "node01 10.0.0.1 4001 ssh-ed25519 AAAA\nnode02.site 10.0.0.2 4002 ssh-ed25519 BBBB\n";

    #[test]
    fn the_text_is_read_back() {
        let peers = parse_peers(TEXT, Path::new("peers")).unwrap();
        assert_eq!(format_peers(&peers), TEXT);
        assert_eq!((peers[1].port, peers[1].host_key.as_str()), (4002, "ssh-ed25519 BBBB"));
        let wrong =
            parse_peers("node01 10.0.0.1 4001 ssh-ed25519 AAAA\nnode02 nowhere 1 k k\n", Path::new("peers"));
        assert!(wrong.unwrap_err().to_string().starts_with("line 2 of peers"));
    }

    #[test]
    fn hosts_are_found_with_and_without_domain() {
        let peers = parse_peers(TEXT, Path::new("peers")).unwrap();
        for (name, port) in [
            ("node01", 4001),
            ("node02", 4002),
            ("node02.site", 4002),
            ("node01.site", 4001),
            ("10.0.0.2", 4002),
        ] {
            assert_eq!(find_peer(&peers, name).unwrap().port, port, "{name}");
        }
        let unknown = find_peer(&peers, "node03").unwrap_err().to_string();
        assert_eq!(unknown, "host `node03` is not in this allocation, which holds node01, node02.site");
    }
}
