//! Which CPUs each rank of a node runs on.

use std::path::Path;

use muster_topo::{CoreMap, TopoError, format_list, parse_list};

use crate::launch_files::rank_cores;
use crate::{Instance, MpiError};

const CPUS: &str = "MUSTER_RANK_CPUS";
const CORES: &str = "MUSTER_RANK_CORES_ALL";

/// The place of one slot of the allocation on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankBinding {
    /// The kernel's CPU numbers to run on.
    pub cpus: Vec<u32>,
    /// The same place in the node's declared core numbers, for the rank to read.
    pub cores: Vec<u32>,
}

/// How the ranks of an attempt are bound on one node, one entry a slot.
///
/// The node's supervisor writes it to [`crate::AttemptDir::binding`] as two lines, `MUSTER_RANK_CPUS=0;1` and
/// `MUSTER_RANK_CORES_ALL=4;5`, with the slots' lists between semicolons; `muster-rank` reads it. It is a file and not
/// a variable because a variable would travel from the primary to nodes on which it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    slots: Vec<RankBinding>,
}

/// A rank's place among the ranks of its step on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalRank {
    /// Counted from 0.
    pub rank: u32,
    /// How many ranks the step has on this node; `None` where the launcher does not say.
    pub count: Option<u32>,
}

impl LocalRank {
    /// Finds the local rank in the variables that launchers set, the launcher's own before Slurm's.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        [
            ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
            ("PMIX_LOCAL_RANK", "PMIX_LOCAL_SIZE"),
            ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
            ("PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
            ("SLURM_LOCALID", ""),
        ]
        .into_iter()
        .find_map(|(rank, count)| {
            Some(Self { rank: number(rank)?, count: number(count).filter(|count| *count > 0) })
        })
    }
}

impl Binding {
    /// How the ranks of an instance are bound on a node with these cores.
    ///
    /// Where declared cores share real ones, ranks are told their declared cores but may run on all CPUs: MPI
    /// libraries spin while they wait, and spinning ranks that are pinned to one CPU starve each other for ever.
    ///
    /// # Errors
    ///
    /// [`TopoError::UnknownCore`] if the node lacks one of the instance's cores.
    pub fn for_instance(map: &CoreMap, instance: &Instance, cores_per_rank: u32) -> Result<Self, TopoError> {
        let slot = |local_rank| -> Result<RankBinding, TopoError> {
            let cores: Vec<u32> = rank_cores(instance, local_rank, cores_per_rank).collect();
            let cpus = if map.wraps() { map.all_cpus() } else { map.cpus(&cores)? };
            Ok(RankBinding { cpus, cores })
        };
        Ok(Self { slots: (0..instance.ranks).map(slot).collect::<Result<_, _>>()? })
    }

    /// A binding with these slots.
    pub fn new(slots: Vec<RankBinding>) -> Self {
        Self { slots }
    }

    /// The ranks that the allocation has on the node.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let join = |list: fn(&RankBinding) -> &[u32]| {
            self.slots.iter().map(|slot| format_list(list(slot))).collect::<Vec<_>>().join(";")
        };
        format!("{CPUS}={}\n{CORES}={}\n", join(|slot| &slot.cpus), join(|slot| &slot.cores))
    }

    /// Reads the text of the file; `path` is for messages. Lines with other keys are ignored.
    ///
    /// # Errors
    ///
    /// [`MpiError::BindingList`] or [`MpiError::BindingLength`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, MpiError> {
        let lists = |key: &str| -> Result<Vec<Vec<u32>>, MpiError> {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            let parts = value.into_iter().flat_map(|value| value.split(';'));
            parts
                .map(|part| {
                    parse_list(part).map_err(|source| MpiError::BindingList { path: path.to_owned(), source })
                })
                .collect()
        };
        let (cpus, cores) = (lists(CPUS)?, lists(CORES)?);
        if cpus.is_empty() || cpus.len() != cores.len() || cpus.iter().any(Vec::is_empty) {
            return Err(MpiError::BindingLength {
                path: path.to_owned(),
                cpus: cpus.len(),
                cores: cores.len(),
            });
        }
        let slots = cpus.into_iter().zip(cores).map(|(cpus, cores)| RankBinding { cpus, cores }).collect();
        Ok(Self { slots })
    }

    /// The place of a rank that its launcher has bound already, as `mpirun --bind-to` or `--rankfile` ask for, to the
    /// CPUs `bound`: these CPUs, if they lie within the allocation. `None` if they do not.
    pub fn bound_by_launcher(&self, bound: &[u32]) -> Option<RankBinding> {
        let within = |cpu: &u32| self.slots.iter().any(|slot| slot.cpus.contains(cpu));
        if bound.is_empty() || !bound.iter().all(within) {
            return None;
        }
        let touched = self.slots.iter().filter(|slot| slot.cpus.iter().any(|cpu| bound.contains(cpu)));
        let cores = touched.flat_map(|slot| slot.cores.iter().copied()).collect();
        Some(RankBinding { cpus: bound.to_vec(), cores })
    }

    /// The place of a rank.
    ///
    /// A step with as many ranks as there are slots has one slot each. A step with fewer shares all slots out among
    /// its ranks, so that a rank with threads has room for them. With more ranks than slots they go round.
    pub fn of(&self, local: LocalRank) -> RankBinding {
        let (slots, rank) = (self.slots.len(), local.rank as usize);
        let count = local.count.map_or(slots, |count| count as usize);
        if count >= slots || rank >= count {
            return self.slots[rank % slots].clone();
        }
        merge(&self.slots[rank * slots / count..(rank + 1) * slots / count])
    }

    /// The place of a rank that is not to be bound: all that the allocation has on the node.
    pub fn all(&self) -> RankBinding {
        merge(&self.slots)
    }
}

fn merge(slots: &[RankBinding]) -> RankBinding {
    let (mut cpus, mut cores) = (Vec::new(), Vec::new());
    for slot in slots {
        cpus.extend_from_slice(&slot.cpus);
        cores.extend_from_slice(&slot.cores);
    }
    RankBinding { cpus, cores }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Binding {
        let slot = |cpu, core| RankBinding { cpus: vec![cpu, cpu + 4], cores: vec![core] };
        Binding::new(vec![slot(0, 4), slot(1, 5), slot(2, 6), slot(3, 7)])
    }

    #[test]
    fn the_text_is_read_back() {
        let text = "MUSTER_RANK_CPUS=0,4;1,5;2,6;3,7\nMUSTER_RANK_CORES_ALL=4;5;6;7\n";
        assert_eq!(four().to_text(), text);
        assert_eq!(Binding::parse(&format!("OTHER=1\n{text}"), Path::new("b")).unwrap(), four());
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "MUSTER_RANK_CPUS=0;1\nMUSTER_RANK_CORES_ALL=4\n",
            "MUSTER_RANK_CPUS=;\nMUSTER_RANK_CORES_ALL=1;2",
        ] {
            assert!(
                matches!(Binding::parse(text, Path::new("b")), Err(MpiError::BindingLength { .. })),
                "{text}"
            );
        }
        let broken = Binding::parse("MUSTER_RANK_CPUS=x\n", Path::new("b"));
        assert!(matches!(broken, Err(MpiError::BindingList { .. })));
    }

    #[test]
    fn ranks_take_slots_share_them_out_or_go_round() {
        let cores = |rank, count| four().of(LocalRank { rank, count }).cores;
        assert_eq!(cores(2, Some(4)), [6]);
        assert_eq!(cores(1, Some(2)), [6, 7]);
        assert_eq!(cores(0, Some(1)), [4, 5, 6, 7]);
        assert_eq!((cores(0, Some(3)), cores(2, Some(3))), (vec![4], vec![6, 7]));
        assert_eq!(cores(5, Some(8)), [5]);
        assert_eq!(cores(6, None), [6]);
        assert_eq!(four().all().cores, [4, 5, 6, 7]);
    }

    #[test]
    fn a_binding_by_the_launcher_holds_within_the_allocation() {
        let bound = four().bound_by_launcher(&[1, 2]).unwrap();
        assert_eq!((bound.cpus, bound.cores), (vec![1, 2], vec![5, 6]));
        assert_eq!(four().bound_by_launcher(&[1, 9]), None);
        assert_eq!(four().bound_by_launcher(&[]), None);
    }

    #[test]
    fn an_instance_is_bound_to_its_cores_threads_included() {
        let machine = muster_topo::Topology::from_synthetic("package:1 core:4 pu:2").unwrap();
        let instance = Instance { host: "n".to_owned(), ranks: 2, cores: vec![0, 1, 2, 3] };
        let exact = Binding::for_instance(&CoreMap::exact(&machine), &instance, 2).unwrap();
        assert_eq!(exact.to_text(), "MUSTER_RANK_CPUS=0-3;4-7\nMUSTER_RANK_CORES_ALL=0-1;2-3\n");
        let shared = CoreMap::wrap(&machine, 16).unwrap();
        let shared =
            Binding::for_instance(&shared, &Instance { cores: vec![14, 15], ..instance }, 1).unwrap();
        assert_eq!(shared.to_text(), "MUSTER_RANK_CPUS=0-7;0-7\nMUSTER_RANK_CORES_ALL=14;15\n");
    }

    #[test]
    fn the_launchers_own_variable_comes_first() {
        let found = |pairs: &[(&str, &str)]| {
            LocalRank::from_variables(|name| {
                pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned())
            })
        };
        let both = [
            ("SLURM_LOCALID", "0"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "3"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
        ];
        assert_eq!(found(&both), Some(LocalRank { rank: 3, count: Some(4) }));
        assert_eq!(found(&[("MPI_LOCALRANKID", "1")]), Some(LocalRank { rank: 1, count: None }));
        assert_eq!(found(&[]), None);
    }
}
