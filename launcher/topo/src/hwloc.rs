//! The only module that touches hwloc. Everything that leaves it is one of our plain types.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hwlocality::cpu::binding::CpuBindingFlags;
use hwlocality::cpu::cpuset::CpuSet;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{OSDeviceType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

use crate::devices::PciId;
use crate::{Core, Device, NumaNode, TopoError, Topology, parse_list, xml_v3};

/// hwloc's own topology, kept for binding, with a name for messages.
pub(crate) struct Loaded {
    raw: hwlocality::Topology,
    origin: String,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Loaded").field("origin", &self.origin).finish_non_exhaustive()
    }
}

pub(crate) fn discover() -> Result<Topology, TopoError> {
    let origin = "this machine".to_owned();
    // The x86 component would move this thread over every CPU to run the cpuid instruction there.
    let builder = match hwlocality::Topology::builder().without_component("x86") {
        Ok(builder) => builder,
        Err(source) => return Err(TopoError::Discovery { origin, source: Box::new(source) }),
    };
    load(builder, origin)
}

pub(crate) fn from_xml(text: &str, origin: String) -> Result<Topology, TopoError> {
    let text = match xml_v3::to_v2(text) {
        Ok(text) => text,
        Err(source) => return Err(TopoError::Description { origin, source: Box::new(source) }),
    };
    match hwlocality::Topology::builder().from_xml(&text) {
        Ok(builder) => load(builder, origin),
        Err(source) => Err(TopoError::Description { origin, source: Box::new(source) }),
    }
}

pub(crate) fn from_synthetic(description: &str) -> Result<Topology, TopoError> {
    let origin = format!("the synthetic topology `{description}`");
    match hwlocality::Topology::builder().from_synthetic(description) {
        Ok(builder) => load(builder, origin),
        Err(source) => Err(TopoError::Description { origin, source: Box::new(source) }),
    }
}

fn load(builder: TopologyBuilder, origin: String) -> Result<Topology, TopoError> {
    // Distances, memory attributes and kinds of CPU cost start time and nothing here reads them.
    let flags =
        BuildFlags::IGNORE_DISTANCES | BuildFlags::IGNORE_MEMORY_ATTRIBUTES | BuildFlags::IGNORE_CPU_KINDS;
    let built = builder
        .with_flags(flags)
        .map_err(|source| TopoError::Discovery { origin: origin.clone(), source: Box::new(source) })?
        .with_io_type_filter(TypeFilter::KeepImportant)
        .map_err(|source| TopoError::Discovery { origin: origin.clone(), source: Box::new(source) })?;
    match built.build() {
        Ok(raw) => picture(Loaded { raw, origin }),
        Err(source) => Err(TopoError::Discovery { origin, source: Box::new(source) }),
    }
}

/// Translates hwloc's tree into plain types.
fn picture(loaded: Loaded) -> Result<Topology, TopoError> {
    let raw = &loaded.raw;
    let allowed = numbers(&raw.allowed_cpuset());
    let numa_objects: Vec<&TopologyObject> = raw.objects_with_type(ObjectType::NUMANode).collect();
    let numa_nodes: Vec<NumaNode> = numa_objects.iter().map(|object| numa_node(object, &allowed)).collect();
    let mut cores = Vec::new();
    let mut cache_groups: Vec<(bool, u64)> = Vec::new();
    for object in core_objects(raw) {
        let mut pus = object.cpuset().map(|set| numbers(&set)).unwrap_or_default();
        pus.retain(|pu| allowed.binary_search(pu).is_ok());
        if pus.is_empty() {
            continue;
        }
        let package =
            object.first_ancestor_with_type(ObjectType::Package).map_or(0, TopologyObject::logical_index);
        let group = match object.first_ancestor_with_type(ObjectType::L3Cache) {
            Some(cache) => (true, cache.logical_index() as u64),
            None => (false, package as u64),
        };
        let l3 = cache_groups.iter().position(|known| *known == group).unwrap_or_else(|| {
            cache_groups.push(group);
            cache_groups.len() - 1
        });
        cores.push(Core {
            index: small(cores.len()),
            package: small(package),
            numa: small(local_memory(&numa_nodes, pus[0])),
            l3: small(l3),
            pus,
        });
    }
    if cores.is_empty() {
        return Err(TopoError::NoCores { origin: loaded.origin });
    }
    let devices = devices(raw, &cores, &numa_nodes);
    Ok(Topology {
        cores,
        devices,
        memory_bytes: numa_nodes.iter().map(|node| node.memory_bytes).sum(),
        numa_nodes,
        is_this_system: raw.is_this_system(),
        loaded: Arc::new(loaded),
    })
}

/// The objects that count as cores. Systems that do not tell which threads form a core (some virtual machines) have
/// none; there every hardware thread counts as one.
fn core_objects(raw: &hwlocality::Topology) -> Vec<&TopologyObject> {
    let cores: Vec<&TopologyObject> = raw.objects_with_type(ObjectType::Core).collect();
    if cores.is_empty() { raw.objects_with_type(ObjectType::PU).collect() } else { cores }
}

fn numa_node(object: &TopologyObject, allowed: &[u32]) -> NumaNode {
    let mut pus = object.cpuset().map(|set| numbers(&set)).unwrap_or_default();
    pus.retain(|pu| allowed.binary_search(pu).is_ok());
    NumaNode {
        os_index: small(object.os_index().unwrap_or_default()),
        // The total of a memory node is its own memory: it has no children with more.
        memory_bytes: object.total_memory(),
        pus,
    }
}

/// GPUs and network interfaces, in the order of their addresses.
fn devices(raw: &hwlocality::Topology, cores: &[Core], numa_nodes: &[NumaNode]) -> Vec<Device> {
    let mut devices = Vec::new();
    for object in raw.pci_devices() {
        let Some(ObjectAttributes::PCIDevice(pci)) = object.attributes() else { continue };
        let id = PciId {
            class: pci.class_id(),
            vendor: pci.vendor_id(),
            device: pci.device_id(),
            is_on_first_bus: pci.domain() == 0 && pci.bus_id() == 0,
        };
        let Some(name) = id.name(object.io_children().any(computes)) else { continue };
        let address = (pci.domain(), pci.bus_id(), pci.bus_device(), pci.function());
        let (numa, package) = place(object, cores, numa_nodes);
        let (domain, bus, device, function) = address;
        let pci_address = format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}");
        devices.push((address, Device { name, numa, package, pci_address }));
    }
    devices.sort_by_key(|(address, _)| *address);
    devices.into_iter().map(|(_, device)| device).collect()
}

/// Whether a driver offers a device for computing. Linux makes graphics devices (`card0`) of consoles as well.
fn computes(child: &TopologyObject) -> bool {
    let Some(ObjectAttributes::OSDevice(device)) = child.attributes() else { return false };
    let name = child.name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
    match device.device_type() {
        OSDeviceType::CoProcessor => true,
        OSDeviceType::GPU => ["nvml", "rsmi", "ze"].iter().any(|known| name.starts_with(known.as_bytes())),
        _ => false,
    }
}

/// The memory node and the package that a device is attached to, where it is one of each.
fn place(device: &TopologyObject, cores: &[Core], numa_nodes: &[NumaNode]) -> (Option<u32>, Option<u32>) {
    let Some(above) = device.first_non_io_ancestor() else { return (None, None) };
    let pus = above.cpuset().map(|set| numbers(&set)).unwrap_or_default();
    let near: Vec<&Core> = cores.iter().filter(|core| pus.binary_search(&core.pus[0]).is_ok()).collect();
    let same = |value: fn(&Core) -> u32| {
        let first = near.first().map(|core| value(core))?;
        near.iter().all(|core| value(core) == first).then_some(first)
    };
    if !near.is_empty() {
        return (same(|core| core.numa), same(|core| core.package));
    }
    // No core of that part of the machine may be used; its memory is still nearest.
    let nodes: Vec<u32> = above
        .nodeset()
        .map(|set| set.iter_set().map(|n| small(usize::from(n))).collect())
        .unwrap_or_default();
    let [node] = nodes[..] else { return (None, None) };
    (numa_nodes.iter().position(|numa| numa.os_index == node).map(small), None)
}

/// The position of the memory node that a CPU allocates from by default.
///
/// A CPU may be local to several: on machines with two kinds of memory the kernel numbers ordinary memory first,
/// and memory that belongs to fewer CPUs is nearer.
fn local_memory(numa_nodes: &[NumaNode], pu: u32) -> usize {
    numa_nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.pus.binary_search(&pu).is_ok())
        .min_by_key(|(_, node)| (node.pus.len(), node.os_index))
        .map_or(0, |(position, _)| position)
}

/// The members of a set of CPUs, ascending. The set of an object is always finite.
fn numbers(set: &CpuSet) -> Vec<u32> {
    set.iter_set().map(|index| small(usize::from(index))).collect()
}

/// hwloc counts in `unsigned`, so every number of its fits.
fn small(number: usize) -> u32 {
    u32::try_from(number).expect("hwloc numbers objects with 32 bits")
}

pub(crate) fn bind_process(topology: &Topology, pid: u32, pus: &[u32]) -> Result<(), TopoError> {
    let target = format!("process {pid}");
    let set = wanted_set(topology, pus)?;
    topology.loaded.raw.bind_process_cpu(pid, &set, CpuBindingFlags::empty()).map_err(|source| {
        TopoError::Bind { target: target.clone(), wanted: pus.to_vec(), source: Box::new(source) }
    })?;
    let threads = PathBuf::from(format!("/proc/{pid}/task"));
    let unread = |source| TopoError::ReadBack { target: target.clone(), path: threads.clone(), source };
    for thread in std::fs::read_dir(&threads).map_err(unread)? {
        let thread = thread.map_err(unread)?;
        match confirm(&target, &thread.path().join("status"), pus) {
            // A thread may end between the listing and the reading; the process must not.
            Err(TopoError::ReadBack { .. }) if threads.exists() && !thread.path().exists() => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

pub(crate) fn bind_current_thread(topology: &Topology, pus: &[u32]) -> Result<(), TopoError> {
    let target = "the calling thread".to_owned();
    let set = wanted_set(topology, pus)?;
    match topology.loaded.raw.bind_cpu(&set, CpuBindingFlags::THREAD) {
        Ok(()) => confirm(&target, Path::new("/proc/thread-self/status"), pus),
        Err(source) => Err(TopoError::Bind { target, wanted: pus.to_vec(), source: Box::new(source) }),
    }
}

/// Checks what was asked for before hwloc sees it: on a topology of another machine hwloc binds nothing and
/// reports success.
fn wanted_set(topology: &Topology, pus: &[u32]) -> Result<CpuSet, TopoError> {
    if !topology.is_this_system {
        return Err(TopoError::ForeignTopology { origin: topology.loaded.origin.clone() });
    }
    let allowed = topology.pus();
    if pus.is_empty() || pus.iter().any(|pu| allowed.binary_search(pu).is_err()) {
        return Err(TopoError::CpusNotAllowed { wanted: pus.to_vec(), allowed });
    }
    let mut set = CpuSet::new();
    for &pu in pus {
        set.set(pu as usize);
    }
    Ok(set)
}

/// Asks the kernel, not hwloc, which CPUs the thread of a `status` file is held to.
fn confirm(target: &str, status: &Path, pus: &[u32]) -> Result<(), TopoError> {
    let unread = |source| TopoError::ReadBack { target: target.to_owned(), path: status.to_owned(), source };
    let text = std::fs::read_to_string(status).map_err(unread)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = line.ok_or_else(|| unread(std::io::Error::other("it has no line `Cpus_allowed_list:`")))?;
    let actual = parse_list(list)?;
    let mut wanted = pus.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    if actual == wanted {
        return Ok(());
    }
    Err(TopoError::NotBound { target: target.to_owned(), wanted, actual })
}
