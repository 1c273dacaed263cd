//! From the core numbers that a node declares to the CPU numbers of its kernel.

use crate::{TopoError, Topology};

/// Which CPUs of the kernel stand behind each core that a node declares to the cluster.
///
/// The scheduler speaks of cores 0, 1, 2, ... of a node. Only the node knows which CPUs of its kernel these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreMap {
    real: Vec<Vec<u32>>,
    declared: u32,
}

impl CoreMap {
    /// Declared core `i` is the machine's `i`-th core, with all of its hardware threads.
    pub fn exact(topology: &Topology) -> Self {
        let real: Vec<Vec<u32>> = topology.cores.iter().map(|core| core.pus.clone()).collect();
        let declared = u32::try_from(real.len()).unwrap_or(u32::MAX);
        Self { real, declared }
    }

    /// Declared core `c` is the machine's core `c mod R` of its `R` cores.
    ///
    /// This serves nodes that declare more cores than they have, such as the hosts of a virtual cluster that all
    /// share one small machine. A node that declares fewer cores than it has uses its first ones.
    ///
    /// # Errors
    ///
    /// [`TopoError::NoDeclaredCores`] if `declared_cores` is 0.
    pub fn wrap(topology: &Topology, declared_cores: u32) -> Result<Self, TopoError> {
        if declared_cores == 0 {
            return Err(TopoError::NoDeclaredCores);
        }
        Ok(Self { declared: declared_cores, ..Self::exact(topology) })
    }

    /// The kernel's CPU numbers behind each of the declared cores, in their order: the first `threads` hardware threads
    /// of each, or all of them if `threads` is 0. A core that has fewer is not to be used, and has none.
    ///
    /// # Errors
    ///
    /// [`TopoError::UnknownCore`] if the node lacks one of the cores, [`TopoError::TooFewThreads`] if none of them has as
    /// many threads.
    pub fn cpus_by_core(&self, cores: &[u32], threads: u32) -> Result<Vec<Vec<u32>>, TopoError> {
        let of_core = |core: &u32| {
            let cpus = self.cpus_of(*core)?;
            let count = if threads == 0 { cpus.len() } else { threads as usize };
            Ok(cpus.get(..count).unwrap_or_default().to_vec())
        };
        let cpus: Vec<Vec<u32>> = cores.iter().map(of_core).collect::<Result<_, TopoError>>()?;
        if !cores.is_empty() && cpus.iter().all(Vec::is_empty) {
            return Err(TopoError::TooFewThreads { cores: cores.to_vec(), threads });
        }
        Ok(cpus)
    }

    /// How many cores the node declares.
    pub fn declared_cores(&self) -> u32 {
        self.declared
    }

    /// Whether some CPUs stand behind several declared cores, so that ranks on different cores may share one CPU.
    ///
    /// MPI libraries that spin while they wait must be told to yield on such nodes.
    pub fn wraps(&self) -> bool {
        self.declared as usize > self.real.len()
    }

    /// The kernel's CPU numbers behind the declared core.
    ///
    /// # Errors
    ///
    /// [`TopoError::UnknownCore`] if the node declares no such core.
    pub fn cpus_of(&self, core: u32) -> Result<&[u32], TopoError> {
        if core >= self.declared {
            return Err(TopoError::UnknownCore { core, declared: self.declared });
        }
        Ok(&self.real[core as usize % self.real.len()])
    }

    /// The kernel's CPU numbers behind all of the declared cores, ascending and without repetition.
    ///
    /// # Errors
    ///
    /// [`TopoError::UnknownCore`] if the node lacks one of the cores.
    pub fn cpus(&self, cores: &[u32]) -> Result<Vec<u32>, TopoError> {
        let mut cpus = Vec::new();
        for &core in cores {
            cpus.extend_from_slice(self.cpus_of(core)?);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(cpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_takes_all_threads_of_a_core() {
        let map = CoreMap::exact(&Topology::from_synthetic("package:1 core:4 pu:2").unwrap());
        assert_eq!(map.declared_cores(), 4);
        assert!(!map.wraps());
        assert_eq!(map.cpus(&[3, 1]).unwrap(), [2, 3, 6, 7]);
        assert_eq!(
            map.cpus(&[4]).unwrap_err().to_string(),
            "core 4 does not exist on this node, which declares cores 0-3"
        );
    }

    #[test]
    fn the_first_threads_of_each_core_are_used() {
        let machine = Topology::from_synthetic("package:1 core:3 pu:2").unwrap();
        let mut map = CoreMap::exact(&machine);
        assert_eq!(map.cpus_by_core(&[0, 2], 0).unwrap(), [vec![0, 1], vec![4, 5]]);
        assert_eq!(map.cpus_by_core(&[0, 2], 1).unwrap(), [[0], [4]]);
        map.real[2].pop();
        assert_eq!(map.cpus_by_core(&[1, 2], 2).unwrap(), [vec![2, 3], vec![]]);
        assert_eq!(
            map.cpus_by_core(&[2], 2).unwrap_err().to_string(),
            "none of the cores `2` has 2 hardware threads that may be used"
        );
        assert_eq!(map.cpus_by_core(&[], 2).unwrap(), Vec::<Vec<u32>>::new());
        assert!(map.cpus_by_core(&[3], 1).is_err());
    }

    #[test]
    fn wrap_goes_round() {
        let machine = Topology::from_synthetic("package:1 core:2 pu:1").unwrap();
        let map = CoreMap::wrap(&machine, 5).unwrap();
        assert!(map.wraps());
        assert_eq!(map.cpus_of(4).unwrap(), [0]);
        assert_eq!(map.cpus(&[1, 3]).unwrap(), [1]);
        assert!(map.cpus_of(5).is_err());
        assert!(matches!(CoreMap::wrap(&machine, 0), Err(TopoError::NoDeclaredCores)));
        assert!(!CoreMap::wrap(&machine, 1).unwrap().wraps());
    }
}
