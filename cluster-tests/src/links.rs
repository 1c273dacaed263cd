//! What can be done to the cable of a host.

use crate::cluster::VirtualCluster;
use crate::error::Result;
use crate::network::{self, Badness};

impl VirtualCluster {
    /// Loses every packet from and to a host, without telling either side.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`](crate::ClusterError::NoSuchHost), [`ClusterError::Ip`](crate::ClusterError::Ip).
    pub fn cut(&self, host: &str) -> Result<()> {
        self.state().host(host)?;
        network::set_link(self.name(), host, false)
    }

    /// Ends [`VirtualCluster::cut`].
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`](crate::ClusterError::NoSuchHost), [`ClusterError::Ip`](crate::ClusterError::Ip).
    pub fn heal(&self, host: &str) -> Result<()> {
        self.state().host(host)?;
        network::set_link(self.name(), host, true)
    }

    /// Makes a host's link bad, as far as the kernel can: it says how. Packets are late and lost, in both directions.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`](crate::ClusterError::NoSuchHost), [`ClusterError::Ip`](crate::ClusterError::Ip).
    pub fn worsen(&self, host: &str) -> Result<Badness> {
        self.state().host(host)?;
        network::worsen_link(self.name(), host)
    }

    /// Ends [`VirtualCluster::worsen`].
    ///
    /// # Errors
    ///
    /// [`ClusterError::NoSuchHost`](crate::ClusterError::NoSuchHost), [`ClusterError::Ip`](crate::ClusterError::Ip).
    pub fn mend(&self, host: &str) -> Result<()> {
        self.state().host(host)?;
        network::mend_link(self.name(), host)
    }
}
