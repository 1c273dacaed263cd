//! Whom to connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::SshError;

/// A user's account on a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshTarget {
    /// The host's name: for messages, and for the look-up of its key.
    pub host: String,
    /// Where to connect to.
    pub addr: HostAddr,
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
        Ok(Self { host: host.to_owned(), addr: first.ip().into(), port, user: user.to_owned() })
    }

    /// Where this host connects to.
    pub(crate) fn socket_addr(&self) -> Result<SocketAddr, SshError> {
        match &self.addr {
            HostAddr::Ip(addr) => Ok(SocketAddr::new(*addr, self.port)),
            HostAddr::Name(name) => Self::resolve(name, self.port, &self.user)?.socket_addr(),
        }
    }
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddr {
    /// At this address.
    Ip(IpAddr),
    /// Under this name, which is looked up by whoever opens the connection: this host, or the last jump host.
    Name(String),
}

impl HostAddr {
    /// An address, or else a name.
    #[must_use]
    pub fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Ip)
    }

    /// The address, if it is known.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Name(_) => None,
        }
    }
}

impl From<IpAddr> for HostAddr {
    fn from(addr: IpAddr) -> Self {
        Self::Ip(addr)
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

impl fmt::Display for SshTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, addr, port, user } = self;
        match addr {
            HostAddr::Ip(addr) => write!(formatter, "{user}@{host} ({})", SocketAddr::new(*addr, *port)),
            HostAddr::Name(name) => write!(formatter, "{user}@{host} ({name}:{port})"),
        }
    }
}
