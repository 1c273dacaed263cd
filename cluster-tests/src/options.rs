//! What a cluster looks like: its name, its hosts, its subnet and its users.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ClusterError, Result};

/// The name of the host on which the controller runs.
pub const HEAD: &str = "head";

/// The greatest number of nodes beside `head`; their addresses must fit into one /24.
pub const MAX_NODES: usize = 240;

/// The longest cluster name, in bytes; names of namespaces and directories are built from it.
const MAX_NAME_LEN: usize = 8;

/// The longest user name that `useradd` of Debian accepts, less one for safety.
const MAX_USER_LEN: usize = 31;

/// The last number of the address of `head`; node N follows at this plus N.
const HEAD_ADDRESS: u8 = 10;

/// How a cluster is to be built.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The name, 1 to 8 lower-case letters and digits. Clusters of different names do not disturb one another.
    pub name: String,
    /// The number of nodes beside `head`, 1 to [`MAX_NODES`].
    pub hosts: usize,
    /// The subnet, or none to have a free one chosen.
    pub subnet: Option<Subnet>,
    /// Users that the hosts must know. Those that the machine has are taken as they are; the others exist
    /// only inside the cluster, with a home directory that all its hosts share.
    pub users: Vec<String>,
    /// What stands in the hosts' `/etc/sudoers`, if sudo is installed; a line may name a host.
    pub sudoers: Option<String>,
}

impl ClusterOptions {
    /// Four nodes, a free subnet and no users of its own.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), hosts: 4, subnet: None, users: Vec::new(), sudoers: None }
    }

    /// Checks everything that can be checked without looking at the machine.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if !(1..=MAX_NODES).contains(&self.hosts) {
            return Err(ClusterError::BadHostCount { hosts: self.hosts, limit: MAX_NODES });
        }
        for user in &self.users {
            let fits = starts_with_letter(user)
                && user.len() <= MAX_USER_LEN
                && user
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
            if !fits {
                return Err(ClusterError::BadUser { user: user.clone() });
            }
        }
        Ok(())
    }

    /// The names of all hosts, `head` first.
    pub(crate) fn host_names(&self) -> Vec<String> {
        std::iter::once(HEAD.to_owned()).chain((1..=self.hosts).map(|n| format!("node{n:02}"))).collect()
    }
}

fn starts_with_letter(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Checks a cluster's name; it becomes part of paths, so nothing else may reach the file system.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = starts_with_letter(name)
        && name.len() <= MAX_NAME_LEN
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits { Ok(()) } else { Err(ClusterError::BadName { name: name.to_owned() }) }
}

/// A /24 in 10.64.0.0/10, written as its first three numbers: `10.77.0`.
///
/// The range is one that few sites use at all. As a cluster's traffic never leaves its own switch, an
/// overlap would do no harm; distinct subnets make it plain in a log which cluster speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet([u8; 2]);

impl Subnet {
    /// The prefix length of every cluster's subnet, in bits.
    pub const PREFIX_BITS: u8 = 24;

    /// The first subnet that is tried when none is asked for.
    const FIRST: Self = Self([77, 0]);

    /// The address of the host at `index`, where `head` is 0 and node N is N.
    #[must_use]
    pub fn address(self, index: usize) -> Ipv4Addr {
        let last = u8::try_from(usize::from(HEAD_ADDRESS) + index).expect("MAX_NODES keeps hosts in one /24");
        Ipv4Addr::new(10, self.0[0], self.0[1], last)
    }

    /// Chooses the first subnet from 10.77.0 upwards that none of the clusters in `taken` uses.
    pub(crate) fn choose(wish: Option<Self>, taken: &BTreeMap<Self, String>) -> Result<Self> {
        if let Some(subnet) = wish {
            return match taken.get(&subnet) {
                Some(cluster) => {
                    Err(ClusterError::SubnetTaken { subnet: subnet.to_string(), cluster: cluster.clone() })
                }
                None => Ok(subnet),
            };
        }
        let upwards = (Self::FIRST.0[0]..128).flat_map(|a| (0..=255).map(move |b| Self([a, b])));
        let rest = (64..Self::FIRST.0[0]).flat_map(|a| (0..=255).map(move |b| Self([a, b])));
        upwards.chain(rest).find(|subnet| !taken.contains_key(subnet)).ok_or(ClusterError::NoFreeSubnet)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "10.{}.{}", self.0[0], self.0[1])
    }
}

impl FromStr for Subnet {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[10, a @ 64..=127, b]) => Ok(Self([a, b])),
            _ => Err(ClusterError::BadSubnet { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = ClusterError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_directory_are_refused() {
        for bad in ["", "a/b", "..", "Mst", "1st", "averylongname", "a-b", "ä"] {
            assert!(check_name(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["m", "mst", "e2e00001"] {
            assert!(check_name(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn users_and_host_counts_are_checked() {
        let options = |users: &[&str], hosts| ClusterOptions {
            users: users.iter().map(|&user| user.to_owned()).collect(),
            hosts,
            ..ClusterOptions::named("mst")
        };
        assert!(options(&["alice", "web-01"], 240).check().is_ok());
        assert!(matches!(options(&["Alice"], 1).check(), Err(ClusterError::BadUser { .. })));
        assert!(matches!(options(&["a:b"], 1).check(), Err(ClusterError::BadUser { .. })));
        assert!(matches!(options(&[], 0).check(), Err(ClusterError::BadHostCount { .. })));
        assert!(matches!(options(&[], 241).check(), Err(ClusterError::BadHostCount { .. })));
    }

    #[test]
    fn subnets_read_back_as_written_and_stay_in_range() {
        assert_eq!("10.77.3".parse::<Subnet>().unwrap().to_string(), "10.77.3");
        assert_eq!("10.77.3".parse::<Subnet>().unwrap().address(2), Ipv4Addr::new(10, 77, 3, 12));
        for bad in ["10.77", "10.77.0.0", "10.63.0", "10.128.0", "192.168.1", "10.77.256", "10.77.x"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_free_subnet_is_found_and_a_taken_one_names_its_holder() {
        let mut taken = BTreeMap::new();
        assert_eq!(Subnet::choose(None, &taken).unwrap().to_string(), "10.77.0");
        taken.insert(Subnet([77, 0]), "mst".to_owned());
        assert_eq!(Subnet::choose(None, &taken).unwrap().to_string(), "10.77.1");
        let error = Subnet::choose(Some(Subnet([77, 0])), &taken).unwrap_err();
        assert!(error.to_string().contains("`mst`"), "{error}");
        for a in 64..128 {
            for b in 0..=255 {
                taken.insert(Subnet([a, b]), "x".to_owned());
            }
        }
        assert!(matches!(Subnet::choose(None, &taken), Err(ClusterError::NoFreeSubnet)));
    }
}
