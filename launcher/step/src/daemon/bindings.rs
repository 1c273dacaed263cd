//! Where ranks are bound, drawn for the user: which packages, NUMA nodes, cores and hardware threads of the node. They are
//! read from the kernel's own tables (sysfs) and not by hwloc, whose library would be loaded for this alone.

use std::path::Path;

use crate::lists::{format_list, format_mask, parse_list};

/// Where the kernel tells of its CPUs.
const SYSTEM: &str = "/sys/devices/system";

/// A core of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Core {
    package: u32,
    numa: Option<u32>,
    /// Its hardware threads: the kernel's CPUs, ascending.
    cpus: Vec<u32>,
}

/// The node's cores: neighbours are of one package, and within that of one NUMA node. They are numbered from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine(Vec<Core>);

impl Machine {
    /// As the kernel tells it; without cores where it does not.
    pub fn read() -> Self {
        let system = Path::new(SYSTEM);
        let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let list = |path: &Path| parse_list(&text(path)).unwrap_or_default();
        let nodes = list(&system.join("node/online"));
        let numa: Vec<(u32, Vec<u32>)> = nodes
            .into_iter()
            .map(|node| (node, list(&system.join(format!("node/node{node}/cpulist")))))
            .collect();
        let mut cores: Vec<Core> = Vec::new();
        for cpu in list(&system.join("cpu/online")) {
            let topology = system.join(format!("cpu/cpu{cpu}/topology"));
            let package = text(&topology.join("physical_package_id")).parse().unwrap_or(0);
            let mut cpus = list(&topology.join("thread_siblings_list"));
            cpus.sort_unstable();
            // A core is told of by the first of its threads.
            if cpus.first().is_none_or(|first| *first == cpu) {
                let cpus = if cpus.is_empty() { vec![cpu] } else { cpus };
                let numa = numa.iter().find(|(_, cpus)| cpus.contains(&cpu)).map(|(node, _)| *node);
                cores.push(Core { package, numa, cpus });
            }
        }
        cores.sort();
        Self(cores)
    }

    /// A line such as `package 0, NUMA node 0, core 0-1, CPU 0-3: [BB/BB/../..][../../../..]`: a pair of brackets for each
    /// package, a slash between cores, and a letter for each hardware thread, as Open MPI's `--report-bindings` draws it.
    pub fn draw(&self, cpus: &[u32]) -> String {
        let has = |core: &Core| core.cpus.iter().any(|cpu| cpus.contains(cpu));
        let of = |number: &dyn Fn((u32, &Core)) -> Option<u32>| {
            let held = (0..).zip(&self.0).filter(|(_, core)| has(core));
            format_list(&held.filter_map(number).collect::<Vec<u32>>())
        };
        let mut parts = Vec::new();
        for (name, numbers) in [
            ("package", of(&|(_, core)| Some(core.package))),
            ("NUMA node", of(&|(_, core)| core.numa)),
            ("core", of(&|(number, _)| Some(number))),
            ("CPU", format_list(cpus)),
        ] {
            if !numbers.is_empty() {
                parts.push(format!("{name} {numbers}"));
            }
        }
        let mut drawn = String::new();
        for package in self.0.chunk_by(|left, right| left.package == right.package) {
            let core = |core: &Core| -> String {
                core.cpus.iter().map(|cpu| if cpus.contains(cpu) { 'B' } else { '.' }).collect()
            };
            drawn.push_str(&format!("[{}]", package.iter().map(core).collect::<Vec<_>>().join("/")));
        }
        let everywhere =
            !self.0.is_empty() && self.0.iter().flat_map(|core| &core.cpus).all(|cpu| cpus.contains(cpu));
        let all = if everywhere { " (all that there is)" } else { "" };
        format!("{}: {drawn}{all}", parts.join(", "))
    }
}

/// The line of Slurm's `--cpu-bind=verbose`.
pub(super) fn slurm_line(host: &str, rank: u32, local: usize, pid: i32, cpus: &[u32], bound: bool) -> String {
    let (kind, set) = if bound { ("MASK", " set") } else { ("NONE", "") };
    format!("cpu-bind={kind} - {host}, task {rank:2} {local:2} [{pid}]: mask {}{set}", format_mask(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_drawn_by_package_core_and_thread() {
        let core = |package, numa, cpus: [u32; 2]| Core { package, numa: Some(numa), cpus: cpus.to_vec() };
        let machine =
            Machine(vec![core(0, 0, [0, 4]), core(0, 1, [1, 5]), core(1, 2, [2, 6]), core(1, 2, [3, 7])]);
        assert_eq!(
            machine.draw(&[1, 2, 5]),
            "package 0-1, NUMA node 1-2, core 1-2, CPU 1-2,5: [../BB][B./..]"
        );
        assert_eq!(
            machine.draw(&(0..8).collect::<Vec<_>>()),
            "package 0-1, NUMA node 0-2, core 0-3, CPU 0-7: [BB/BB][BB/BB] (all that there is)"
        );
        assert_eq!(Machine::default().draw(&[3]), "CPU 3: ");
        assert_eq!(
            slurm_line("n1", 3, 1, 99, &[0, 1], true),
            "cpu-bind=MASK - n1, task  3  1 [99]: mask 0x3 set"
        );
    }

    #[test]
    fn this_machine_has_all_cpus_that_this_process_may_use_and_each_once() {
        let machine = Machine::read();
        let mut cpus: Vec<u32> = machine.0.iter().flat_map(|core| core.cpus.clone()).collect();
        cpus.sort_unstable();
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        assert_eq!(cpus, parse_list(online.trim()).unwrap());
    }
}
