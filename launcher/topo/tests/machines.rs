//! Topologies of real machines, synthetic ones, and the machine that runs the test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use muster_topo::{CoreMap, TopoError, Topology, parse_list};

/// Dumps of real machines, where the checkout has them.
fn shared_topologies() -> Option<PathBuf> {
    let shared = match std::env::var_os("MUSTER_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
    };
    Some(shared.join("topologies")).filter(|folder| folder.is_dir())
}

/// What must hold for every machine, whatever it looks like.
fn check(topology: &Topology, name: &str) {
    let mut seen = Vec::new();
    for (position, core) in topology.cores.iter().enumerate() {
        assert_eq!(core.index as usize, position, "{name}: cores are numbered densely");
        assert!(!core.pus.is_empty(), "{name}: core {position} has a CPU");
        assert!((core.numa as usize) < topology.numa_nodes.len(), "{name}: core {position} has memory");
        let local = &topology.numa_nodes[core.numa as usize].pus;
        assert!(
            core.pus.iter().all(|pu| local.contains(pu)),
            "{name}: core {position} is local to its memory"
        );
        seen.extend_from_slice(&core.pus);
    }
    seen.sort_unstable();
    let total = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), total, "{name}: no CPU belongs to two cores");
    assert_eq!(topology.pus(), seen, "{name}");
    let groups = topology.cores.iter().map(|core| core.l3).max().unwrap() + 1;
    for group in 0..groups {
        let mut packages: Vec<u32> =
            topology.cores.iter().filter(|core| core.l3 == group).map(|core| core.package).collect();
        packages.dedup();
        assert_eq!(packages.len(), 1, "{name}: cache group {group} is used and lies in one package");
    }
    assert_eq!(topology.memory_bytes, topology.numa_nodes.iter().map(|node| node.memory_bytes).sum::<u64>());
}

#[test]
fn every_dumped_machine_is_read() {
    let Some(folder) = shared_topologies() else { return };
    // (file, packages, memory nodes, cache groups, cores, CPUs), counted by lstopo. Machines without a
    // third-level cache have one group a package.
    let machines = [
        ("intel-2n6c2t-pci.v2", 2, 2, 2, 12, 24),
        ("intel-cascadelake-2x6230.v2", 2, 1, 2, 40, 80),
        ("amd-zen1-2xepyc7451.v2", 2, 8, 16, 48, 96),
        ("amd-zen3-2xepyc7763.v2", 2, 2, 16, 128, 128),
        // The file in the newer form has one memory node for the whole machine.
        ("amd-zen3-2xepyc7763.v3", 2, 1, 16, 128, 128),
        ("intel-knl-7210-cpuid.v2", 1, 1, 1, 64, 256),
        ("intel-knl-snc4-hybrid.v2", 1, 8, 4, 16, 64),
        ("ibm-power-256pu.v2", 64, 8, 64, 64, 256),
        ("power8-gpu.v2", 2, 2, 8, 8, 16),
        ("nvidia-dgx2.v2", 2, 2, 2, 4, 4),
        ("intel-hybrid-20pu.v2", 1, 1, 1, 14, 20),
        ("intel-raptorlake-hybrid.v3", 1, 1, 1, 14, 20),
        ("intel-4n-96c-pci.v2", 16, 4, 16, 96, 96),
        ("intel-4s2c2t-offline-cpus.v2", 4, 1, 4, 6, 7),
    ];
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let count = files.filter(|path| path.extension().is_some_and(|end| end == "xml")).count();
    assert_eq!(count, machines.len(), "every file is looked at");
    for (name, packages, memories, caches, cores, pus) in machines {
        let topology = Topology::from_xml_file(folder.join(format!("{name}.xml"))).unwrap();
        check(&topology, name);
        let count = |value: fn(&muster_topo::Core) -> u32| {
            let mut values: Vec<u32> = topology.cores.iter().map(value).collect();
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        assert_eq!(count(|core| core.package), packages, "{name}: packages");
        assert_eq!(topology.numa_nodes.len(), memories, "{name}: memory nodes");
        assert_eq!(count(|core| core.l3), caches, "{name}: cache groups");
        assert_eq!(topology.cores.len(), cores, "{name}: cores");
        assert_eq!(topology.pus().len(), pus, "{name}: CPUs");
        assert!(!topology.is_this_system, "{name}");
    }
}

#[test]
fn both_forms_of_a_file_describe_the_same_machine() {
    let Some(folder) = shared_topologies() else { return };
    let read =
        |form: &str| Topology::from_xml_file(folder.join(format!("amd-zen3-2xepyc7763.{form}.xml"))).unwrap();
    // What the newer file does not know: that each package has memory of its own.
    let without_numa = |topology: Topology| -> Vec<muster_topo::Core> {
        topology.cores.into_iter().map(|core| muster_topo::Core { numa: 0, ..core }).collect()
    };
    assert_eq!(without_numa(read("v2")), without_numa(read("v3")));
    let hybrid = Topology::from_xml_file(folder.join("intel-raptorlake-hybrid.v3.xml")).unwrap();
    let threads: Vec<usize> = hybrid.cores.iter().map(|core| core.pus.len()).collect();
    assert_eq!(threads, [vec![2; 6], vec![1; 8]].concat());
}

#[test]
fn a_damaged_file_of_the_third_version_is_refused_with_its_line() {
    let Some(folder) = shared_topologies() else { return };
    let text = std::fs::read_to_string(folder.join("intel-raptorlake-hybrid.v3.xml")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("damaged.xml");
    std::fs::write(&file, text.replacen("</object>", "", 1)).unwrap();
    let error = Topology::from_xml_file(&file).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.to_string().contains("damaged.xml") && cause.contains("line"), "{error}: {cause}");
    let large = std::fs::File::create(&file).unwrap();
    large.set_len(muster_topo::XML_BYTES_MAX + 1).unwrap();
    let error = Topology::from_xml_file(&file).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        matches!(error, TopoError::ReadFile { .. }) && cause.contains("more than 67108864 bytes"),
        "{cause}"
    );
}

#[test]
fn devices_are_found_with_their_places() {
    let Some(folder) = shared_topologies() else { return };
    let found = |name: &str, kind: &str| -> Vec<(String, Option<u32>, Option<u32>)> {
        let topology = Topology::from_xml_file(folder.join(format!("{name}.v2.xml"))).unwrap();
        let devices = topology.devices.into_iter().filter(|device| device.name == kind);
        devices.map(|device| (device.pci_address, device.numa, device.package)).collect()
    };
    let places = |name: &str, kind: &str| -> Vec<(Option<u32>, Option<u32>)> {
        found(name, kind).into_iter().map(|(_, numa, package)| (numa, package)).collect()
    };
    let at = |place: u32, count| vec![(Some(place), Some(place)); count];
    assert_eq!(places("nvidia-dgx2", "gpu"), [at(0, 8), at(1, 8)].concat());
    assert_eq!(places("power8-gpu", "gpu"), [at(0, 2), at(1, 2)].concat());
    let addresses: Vec<String> =
        found("intel-2n6c2t-pci", "gpu").into_iter().map(|device| device.0).collect();
    assert_eq!(addresses, ["0000:06:00.0", "0000:11:00.0", "0000:14:00.0"], "without the console");
    assert_eq!(places("intel-2n6c2t-pci", "gpu"), [at(0, 1), at(1, 2)].concat());
    assert_eq!(places("intel-2n6c2t-pci", "nic"), at(0, 3));
    // Two ports in each of four groups of four packages.
    let nics: Vec<_> = (0..4).flat_map(|numa| [(Some(numa), None); 2]).collect();
    assert_eq!(places("intel-4n-96c-pci", "nic"), nics);
    assert!(found("intel-4n-96c-pci", "gpu").is_empty());
}

/// What the scheduler's tests place tasks on: a line for each run of equal cores (package, memory node, cache, threads,
/// how many) and for each device (name, memory node).
fn pictures(folder: &std::path::Path) -> String {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "xml"));
    files.sort();
    let mut text = "# Machines of shared/topologies, written by launcher/topo/tests/machines.rs\n".to_owned();
    for file in files {
        let topology = Topology::from_xml_file(&file).unwrap();
        text += &format!("machine {}\n", file.file_stem().unwrap().to_str().unwrap());
        let place = |core: &muster_topo::Core| [core.package, core.numa, core.l3, core.pus.len() as u32];
        for run in topology.cores.chunk_by(|a, b| place(a) == place(b)) {
            let [package, numa, l3, threads] = place(&run[0]);
            text += &format!("cores {package} {numa} {l3} {threads} {}\n", run.len());
        }
        for device in &topology.devices {
            let numa = device.numa.map_or("-".to_owned(), |numa| numa.to_string());
            text += &format!("device {} {numa}\n", device.name);
        }
    }
    text
}

#[test]
fn the_schedulers_pictures_of_these_machines_are_right() {
    let Some(folder) = shared_topologies() else { return };
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scheduler/core/src/place/tests/machines.txt");
    let pictures = pictures(&folder);
    if std::env::var_os("MUSTER_UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&file, &pictures).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept == pictures, "write {} anew with MUSTER_UPDATE_GOLDEN=1", file.display());
}

#[test]
fn synthetic_machines_are_read() {
    let topology = Topology::from_synthetic("package:2 numa:1 l3:2 core:8 pu:2").unwrap();
    check(&topology, "synthetic");
    assert_eq!(topology.cores.len(), 32);
    assert_eq!(topology.cores[9].l3, 1);
    assert_eq!(topology.cores[16].package, 1);
    assert_eq!(topology.cores[16].numa, 1);
    assert_eq!(topology.cores[1].pus, [2, 3]);
    check(&Topology::from_synthetic("pu:4").unwrap(), "no cores named");
}

#[test]
fn wrong_descriptions_are_refused_with_an_example() {
    let message = Topology::from_synthetic("nonsense:x").unwrap_err().to_string();
    assert!(message.contains("nonsense:x") && message.contains("package:2 core:4 pu:2"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.xml");
    assert!(matches!(Topology::from_xml_file(&file), Err(TopoError::ReadFile { .. })));
    std::fs::write(&file, "<topology version=\"2.0\"><object/>").unwrap();
    assert!(Topology::from_xml_file(&file).unwrap_err().to_string().contains("broken.xml"));
}

/// A process that waits for its standard input to be closed, and so ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn cpus(&self) -> Vec<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        parse_list(list).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn this_machine_is_read_and_binds_a_process() {
    let started = std::time::Instant::now();
    let topology = Topology::discover().unwrap();
    println!("discover() took {:?} for {} cores", started.elapsed(), topology.cores.len());
    check(&topology, "this machine");
    assert!(topology.is_this_system);
    assert!(topology.memory_bytes > 0);
    let map = CoreMap::exact(&topology);
    let last = map.cpus(&[map.declared_cores() - 1]).unwrap();
    let sleeper = Sleeper::start();
    topology.bind_process(sleeper.0.id(), &last).unwrap();
    assert_eq!(sleeper.cpus(), last);
}

#[test]
fn the_calling_thread_is_bound_alone() {
    let topology = Topology::discover().unwrap();
    let first = topology.cores[0].pus.clone();
    let bound = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            topology.bind_current_thread(&first).unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        thread.join().unwrap()
    });
    assert!(
        bound.contains(&format!("Cpus_allowed_list:\t{}\n", muster_topo::format_list(&first))),
        "{bound}"
    );
    let here = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let list = here.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    assert_eq!(parse_list(list).unwrap(), topology.pus(), "the other threads keep their CPUs");
}

#[test]
fn a_foreign_topology_binds_nothing() {
    let foreign = Topology::from_synthetic("core:2 pu:1").unwrap();
    let sleeper = Sleeper::start();
    let before = sleeper.cpus();
    let refused = foreign.bind_process(sleeper.0.id(), &[0]);
    assert!(matches!(refused, Err(TopoError::ForeignTopology { .. })), "{refused:?}");
    assert!(matches!(foreign.bind_current_thread(&[0]), Err(TopoError::ForeignTopology { .. })));
    assert_eq!(sleeper.cpus(), before);
}

#[test]
fn cpus_that_do_not_exist_are_refused() {
    let topology = Topology::discover().unwrap();
    let beyond = topology.pus().last().unwrap() + 1;
    for wanted in [vec![], vec![beyond]] {
        let refused = topology.bind_current_thread(&wanted);
        assert!(matches!(refused, Err(TopoError::CpusNotAllowed { .. })), "{refused:?}");
    }
    let gone = topology.bind_process(u32::try_from(i32::MAX).unwrap(), &topology.pus());
    assert!(matches!(gone, Err(TopoError::Bind { .. } | TopoError::ReadBack { .. })), "{gone:?}");
}
