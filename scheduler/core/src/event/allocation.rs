//! What an attempt holds, where its instances are reached, and what they have used.

use serde::{Deserialize, Serialize};

use crate::cores::CoreSet;
use crate::gres::ShareGres;
use crate::ids::NodeId;

/// What an attempt holds: one share for each instance; the first is the primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allocation {
    /// The shares, in the order of the instances.
    pub shares: Vec<Share>,
    /// Cores of one rank.
    pub cores_per_rank: u32,
}

/// What an attempt holds on one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// The node.
    pub node: NodeId,
    /// Exactly these cores.
    pub cores: CoreSet,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Ranks here.
    pub ranks: u32,
    /// Exactly these devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gres: Vec<ShareGres>,
}

impl Allocation {
    /// Cores on all nodes together.
    #[must_use]
    pub fn cores(&self) -> u64 {
        self.shares.iter().map(|share| u64::from(share.cores.len())).sum()
    }

    /// Ranks on all nodes together.
    #[must_use]
    pub fn ranks(&self) -> u32 {
        self.shares.iter().map(|share| share.ranks).sum()
    }

    /// Which instance runs on `node`.
    #[must_use]
    pub fn instance_on(&self, node: NodeId) -> Option<u32> {
        self.shares.iter().position(|share| share.node == node).map(|i| i as u32)
    }
}

/// Where the other instances of a gang reach one of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Endpoint {
    /// Host name.
    pub host: String,
    /// IP address.
    pub address: String,
    /// Port of the attempt's own SSH endpoint; 0 for a task on one node.
    pub ssh_port: u16,
    /// Its host key, one line in OpenSSH's public key format.
    pub ssh_host_key: String,
    /// Port of the gang's membership on the primary, else 0.
    pub gang_port: u16,
}

/// What an instance used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Usage {
    /// CPU time of all its processes, in microseconds.
    pub cpu_time_us: u64,
    /// Memory high-water mark, in bytes; 0 if unknown.
    pub memory_peak_bytes: u64,
    /// The kernel's part of the CPU time, in microseconds; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cpu_system_us: u64,
    /// Bytes that were read from block devices; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub read_bytes: u64,
    /// Bytes that were written to them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub write_bytes: u64,
    /// How often something was read from them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub read_operations: u64,
    /// How often something was written to them; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub write_operations: u64,
    /// How long the script ran, by its node's clock, in microseconds; 0 if unknown. When it started and ended is known by the controller's
    /// clock, and so no better than by when the node told.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub ran_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_nothing(number: &u64) -> bool {
    *number == 0
}

impl Usage {
    /// What it counts, as it is written down in rows.
    pub(crate) fn numbers(self) -> [i64; 8] {
        [
            self.cpu_time_us,
            self.memory_peak_bytes,
            self.cpu_system_us,
            self.ran_us,
            self.read_bytes,
            self.write_bytes,
            self.read_operations,
            self.write_operations,
        ]
        .map(u64::cast_signed)
    }

    /// What a row tells of.
    pub(crate) fn of(numbers: [i64; 8]) -> Self {
        let [
            cpu_time_us,
            memory_peak_bytes,
            cpu_system_us,
            ran_us,
            read_bytes,
            write_bytes,
            read_operations,
            write_operations,
        ] = numbers.map(i64::cast_unsigned);
        Self {
            cpu_time_us,
            memory_peak_bytes,
            cpu_system_us,
            read_bytes,
            write_bytes,
            read_operations,
            write_operations,
            ran_us,
        }
    }

    /// What both used together; the higher one of their high-water marks, and the longer time.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_time_us: self.cpu_time_us.saturating_add(other.cpu_time_us),
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
            cpu_system_us: self.cpu_system_us.saturating_add(other.cpu_system_us),
            read_bytes: self.read_bytes.saturating_add(other.read_bytes),
            write_bytes: self.write_bytes.saturating_add(other.write_bytes),
            read_operations: self.read_operations.saturating_add(other.read_operations),
            write_operations: self.write_operations.saturating_add(other.write_operations),
            ran_us: self.ran_us.max(other.ran_us),
        }
    }
}
