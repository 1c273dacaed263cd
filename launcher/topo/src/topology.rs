//! The plain picture of a machine.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::hwloc::Loaded;
use crate::{Device, TopoError};

/// Largest XML file that is read, in bytes. The one of a machine with 128 cores has 200 kB.
pub const XML_BYTES_MAX: u64 = 64 << 20;

/// A core: the unit that the scheduler gives away, with all of its hardware threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// The logical number, dense from 0, in the order in which hwloc walks the machine: neighbours share the most.
    pub index: u32,
    /// The logical number of the package (socket) that holds the core.
    pub package: u32,
    /// The core's memory, as a position in [`Topology::numa_nodes`].
    pub numa: u32,
    /// Which cores share a last-level cache: a number, dense from 0. Cores without a third-level cache are
    /// grouped by package.
    pub l3: u32,
    /// The kernel's CPU numbers of the core's allowed hardware threads, ascending, never empty.
    pub pus: Vec<u32>,
}

/// A node of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaNode {
    /// The kernel's number of the memory node.
    pub os_index: u32,
    /// Its local memory in bytes; 0 where the system does not say.
    pub memory_bytes: u64,
    /// The kernel's CPU numbers that are local to it, ascending. Empty for memory that is near no allowed CPU.
    pub pus: Vec<u32>,
}

/// A machine's cores and memory, as far as this process may use them: what a cpuset or the administrator takes
/// away, and what is off line, is not in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Topology {
    /// All cores with at least one allowed hardware thread; `cores[i].index == i`.
    pub cores: Vec<Core>,
    /// The allowed memory nodes in logical order.
    pub numa_nodes: Vec<NumaNode>,
    /// GPUs and network interfaces, in the order of their PCI addresses.
    pub devices: Vec<Device>,
    /// The sum of the memory nodes' memory, in bytes.
    pub memory_bytes: u64,
    /// Whether this is the machine that the program runs on. Only such a topology binds.
    pub is_this_system: bool,
    pub(crate) loaded: Arc<Loaded>,
}

impl Topology {
    /// Reads the topology of this machine.
    ///
    /// It costs 3 to 7 ms on a two-core machine (first call of a process, loading included); hwloc's `x86` component, which visits every CPU in turn and so
    /// takes longer the more CPUs there are, is left out, because the kernel's own tables say the same.
    /// Call it once at start and keep the answer.
    ///
    /// # Errors
    ///
    /// [`TopoError::Discovery`] if hwloc cannot read the machine, [`TopoError::NoCores`] if nothing may be used.
    pub fn discover() -> Result<Self, TopoError> {
        crate::hwloc::discover()
    }

    /// Reads a topology that was exported as XML by hwloc 2 or 3, for example by `lstopo --of xml`.
    ///
    /// # Errors
    ///
    /// [`TopoError::ReadFile`] if the file cannot be read or is larger than [`XML_BYTES_MAX`],
    /// [`TopoError::Description`] or [`TopoError::Discovery`] if it is not XML of hwloc 2 or 3, [`TopoError::NoCores`]
    /// if it has nothing that may be used.
    pub fn from_xml_file(path: impl AsRef<Path>) -> Result<Self, TopoError> {
        let path = path.as_ref();
        let text = read(path).map_err(|source| TopoError::ReadFile { path: path.to_owned(), source })?;
        crate::hwloc::from_xml(&text, path.display().to_string())
    }

    /// Builds a topology from hwloc's synthetic description, such as `package:2 numa:1 l3:2 core:8 pu:2`.
    ///
    /// # Errors
    ///
    /// [`TopoError::Description`] or [`TopoError::Discovery`] if hwloc does not understand it.
    pub fn from_synthetic(description: &str) -> Result<Self, TopoError> {
        crate::hwloc::from_synthetic(description)
    }

    /// All of the kernel's CPU numbers that may be used, ascending.
    pub fn pus(&self) -> Vec<u32> {
        let mut pus: Vec<u32> = self.cores.iter().flat_map(|core| core.pus.iter().copied()).collect();
        pus.sort_unstable();
        pus
    }

    /// Binds all threads of a process to the given CPUs of the kernel, and reads back from the kernel what holds.
    ///
    /// Threads that the process starts while it is being bound inherit the binding of their parent; bind before
    /// the process runs its program, or read the result of a second call.
    ///
    /// # Errors
    ///
    /// [`TopoError::ForeignTopology`] if this is not this machine's topology, [`TopoError::CpusNotAllowed`] for
    /// CPUs that it lacks, [`TopoError::Bind`] if the kernel refuses, and [`TopoError::ReadBack`] or
    /// [`TopoError::NotBound`] if the kernel does not confirm the binding.
    pub fn bind_process(&self, pid: u32, pus: &[u32]) -> Result<(), TopoError> {
        crate::hwloc::bind_process(self, pid, pus)
    }

    /// Binds the calling thread to the given CPUs of the kernel, and reads back from the kernel what holds.
    ///
    /// # Errors
    ///
    /// As [`Topology::bind_process`].
    pub fn bind_current_thread(&self, pus: &[u32]) -> Result<(), TopoError> {
        crate::hwloc::bind_current_thread(self, pus)
    }
}

/// The text of a file that is not too large.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(XML_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > XML_BYTES_MAX {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("it has more than {XML_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}
