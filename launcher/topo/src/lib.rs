//! What a node is made of: its cores, the caches and memory they share, and binding of processes to them.
//!
//! [`Topology`] is a plain picture of the machine, read by hwloc once when the agent starts.
//! [`CoreMap`] translates the *core numbers a node declares* (dense, logical, from 0) into the
//! *CPU numbers of the kernel* that a process must be bound to. [`format_list`] and [`parse_list`]
//! write and read sets of either as `0-3,8`, the form of `/sys/devices/system/cpu/online`.
//!
//! hwloc itself is touched by one private module only, so that a change of its Rust binding touches one file.

mod core_map;
mod devices;
mod error;
mod hwloc;
mod list;
mod topology;
mod xml_v3;

pub use core_map::CoreMap;
pub use devices::Device;
pub use error::TopoError;
pub use list::{LIST_LENGTH_MAX, format_list, parse_list};
pub use topology::{Core, NumaNode, Topology, XML_BYTES_MAX};
