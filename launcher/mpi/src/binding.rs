//! Which CPUs each rank of a node runs on.

use std::path::Path;

use muster_topo::{format_list, parse_list};

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
    /// How the slots of an instance are bound: `cores` are its declared cores, with the kernel's CPUs behind each in
    /// `cpus`. A core without CPUs is held and not used; slots without cores of their own go round.
    ///
    /// Where declared cores share real ones (`wraps_cores`), ranks are told their declared cores but may run on all
    /// CPUs of the instance: MPI libraries spin while they wait, and of spinning ranks that are pinned to one CPU the
    /// kernel (6.18) may run one for ever.
    pub fn for_instance(
        instance: &Instance,
        cpus: &[Vec<u32>],
        cores_per_rank: u32,
        wraps_cores: bool,
    ) -> Self {
        let width = cores_per_rank.max(1) as usize;
        let usable: Vec<(u32, &Vec<u32>)> =
            instance.cores.iter().copied().zip(cpus).filter(|(_, cpus)| !cpus.is_empty()).collect();
        let mut everywhere: Vec<u32> = usable.iter().flat_map(|(_, cpus)| cpus.iter().copied()).collect();
        everywhere.sort_unstable();
        everywhere.dedup();
        let slots = (0..instance.ranks.max(1) as usize).map(|slot| {
            let places = slot * width..(slot + 1) * width;
            let own = places.filter_map(|place| usable.get(place % usable.len().max(1)));
            let (cores, cpus): (Vec<u32>, Vec<&Vec<u32>>) = own.copied().unzip();
            let cpus =
                if wraps_cores { everywhere.clone() } else { cpus.into_iter().flatten().copied().collect() };
            RankBinding { cpus, cores }
        });
        Self { slots: slots.collect() }
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
    fn slots_take_their_cores_in_turn_and_pass_over_unusable_ones() {
        let instance = Instance { host: "n".to_owned(), ranks: 2, cores: vec![4, 5, 6, 7] };
        let text =
            |cpus: &[Vec<u32>], width, wraps| Binding::for_instance(&instance, cpus, width, wraps).to_text();
        let all = [vec![8, 9], vec![10, 11], vec![12], vec![13]];
        assert_eq!(text(&all, 2, false), "MUSTER_RANK_CPUS=8-11;12-13\nMUSTER_RANK_CORES_ALL=4-5;6-7\n");
        // Two threads of each core were asked for: the narrow ones are held, but no rank runs there.
        let wide = [vec![8, 9], vec![], vec![12, 14], vec![]];
        assert_eq!(text(&wide, 1, false), "MUSTER_RANK_CPUS=8-9;12,14\nMUSTER_RANK_CORES_ALL=4;6\n");
        let shared = [vec![0], vec![1], vec![0], vec![1]];
        assert_eq!(text(&shared, 1, true), "MUSTER_RANK_CPUS=0-1;0-1\nMUSTER_RANK_CORES_ALL=4;5\n");
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
