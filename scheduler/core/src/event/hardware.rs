//! What nodes have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a node's agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Hardware {
    /// Usable cores, by index.
    pub cores: Vec<HardwareCore>,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The address at which other nodes reach it.
    pub address: String,
    /// The agent's version.
    pub agent_version: String,
    /// How it contains attempts: `cgroup_v2`, `cgroup_hybrid` or `subreaper`.
    pub containment: String,
    /// Devices that it found, in the order of their PCI addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<HardwareDevice>,
    /// Whether its agent takes several tasks of an array in a line, to start one after the other by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_lines: bool,
    /// Anything that a later version reports.
    #[serde(default, flatten)]
    pub more: BTreeMap<String, String>,
}

/// A device that an agent found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareDevice {
    /// What it is: `gpu` or `nic`.
    pub name: String,
    /// The number of the NUMA node that it is attached to, if it is attached to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa: Option<u32>,
    /// The number of the package that it is attached to, if it is attached to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<u32>,
    /// Its address, such as `0000:3b:00.0`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pci_address: String,
}

/// Where a core sits, and how wide it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareCore {
    /// Package number.
    pub package: u32,
    /// NUMA node number.
    pub numa: u32,
    /// Number of the last-level cache group.
    pub l3: u32,
    /// How many of its hardware threads may be used.
    #[serde(default = "one_thread", skip_serializing_if = "is_one_thread")]
    pub threads: u32,
}

fn one_thread() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one_thread(threads: &u32) -> bool {
    *threads == 1
}

impl Default for HardwareCore {
    fn default() -> Self {
        Self { package: 0, numa: 0, l3: 0, threads: 1 }
    }
}
