//! Whom to connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::SshError;

/// A user's account on a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshTarget {
    /// The host's name: for messages, and for the look-up of its key.
    pub host: String,
    /// The address to connect to. Without it, whoever opens the connection looks the name up: this host, or the
    /// last jump host.
    pub addr: Option<IpAddr>,
    /// The TCP port, usually 22.
    pub port: u16,
    /// The account to log in to.
    pub user: String,
}

impl SshTarget {
    /// Looks up the host's first address in the system's resolver.
    ///
    /// # Errors
    ///
    /// [`SshError::Resolve`] if the name has no address.
    pub fn resolve(host: &str, port: u16, user: &str) -> Result<Self, SshError> {
        let failed = |source| SshError::Resolve { host: host.to_owned(), source };
        let mut addresses = (host, port).to_socket_addrs().map_err(failed)?;
        let first =
            addresses.next().ok_or_else(|| failed(std::io::Error::other("the name has no address")))?;
        Ok(Self { host: host.to_owned(), addr: Some(first.ip()), port, user: user.to_owned() })
    }

    /// Where this host connects to.
    pub(crate) fn socket_addr(&self) -> Result<SocketAddr, SshError> {
        match self.addr {
            Some(addr) => Ok(SocketAddr::new(addr, self.port)),
            None => Self::resolve(&self.host, self.port, &self.user)?.socket_addr(),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, .. } = self;
        match self.addr {
            Some(addr) => write!(formatter, "{user}@{host} ({})", SocketAddr::new(addr, *port)),
            None => write!(formatter, "{user}@{host} (port {port})"),
        }
    }
}
