//! The files by which launchers learn of hosts and places.

use std::fmt::Write;

use crate::{GangLayout, Instance};

/// Hosts for Open MPI's `--hostfile`: `node01 slots=2` a line.
pub fn hostfile_openmpi(instances: &[Instance]) -> String {
    instances.iter().map(|instance| format!("{} slots={}\n", instance.host, instance.ranks)).collect()
}

/// Hosts for Hydra's `-f`: `node01:2` a line.
pub fn hostfile_hydra(instances: &[Instance]) -> String {
    instances.iter().map(|instance| format!("{}:{}\n", instance.host, instance.ranks)).collect()
}

/// Hosts in the form of Grid Engine's `PE_HOSTFILE`: host, slots, queue, cores, where `<NULL>` means any.
pub fn hostfile_sge(instances: &[Instance]) -> String {
    instances.iter().map(|instance| format!("{} {} muster <NULL>\n", instance.host, instance.ranks)).collect()
}

/// What a rankfile's core numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankfileCores {
    /// The allocation's own cores on each node, from 0. Open MPI's daemons see only these where the containment is a
    /// cpuset, and number them so.
    OfAllocation,
    /// All cores of each node. Open MPI's daemons see them where nothing confines the attempt's CPUs.
    OfNode,
}

/// The places of all ranks for Open MPI's `--rankfile`: `rank 0=node01 slot=0-1` a line.
///
/// Open MPI 4.1 reads the numbers as logical cores, in hwloc's order, unless `rmaps_rank_file_physical` is set
/// (found by running it; its mpirun(1) agrees).
pub fn rankfile_openmpi(layout: &GangLayout, numbering: RankfileCores) -> String {
    let mut text = String::new();
    let mut rank = 0;
    for instance in &layout.instances {
        let mut sorted = instance.cores.clone();
        sorted.sort_unstable();
        for local in 0..instance.ranks {
            let cores: Vec<u32> = rank_cores(instance, local, layout.cores_per_rank)
                .map(|core| match numbering {
                    RankfileCores::OfNode => core,
                    RankfileCores::OfAllocation => sorted.partition_point(|other| *other < core) as u32,
                })
                .collect();
            let slots = muster_topo::format_list(&cores);
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "rank {rank}={} slot={slots}", instance.host);
            rank += 1;
        }
    }
    text
}

/// The cores of one rank of an instance; if there are more ranks than cores for them, they are shared in turn.
fn rank_cores(instance: &Instance, local_rank: u32, cores_per_rank: u32) -> impl Iterator<Item = u32> {
    let (width, count) = (cores_per_rank.max(1) as usize, instance.cores.len().max(1));
    let first = local_rank as usize * width;
    (first..first + width).filter_map(move |position| instance.cores.get(position % count).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttemptDir;

    fn layout() -> GangLayout {
        let instance = |host: &str, ranks, cores: &[u32]| Instance {
            host: host.to_owned(),
            ranks,
            cores: cores.to_vec(),
        };
        GangLayout {
            job: 1,
            task: 0,
            attempt: 0,
            instances: vec![instance("node01", 2, &[4, 5, 6, 7]), instance("node02", 1, &[2, 9])],
            cores_per_rank: 2,
            threads_per_core: 0,
            wraps_cores: false,
            runs_as_root: false,
            attempt_dir: AttemptDir::new("/x"),
            remote_shell: "/x/muster-rsh".into(),
            rank_starter: "/x/muster-rank".into(),
        }
    }

    #[test]
    fn hosts_are_written_for_all_launchers() {
        assert_eq!(hostfile_openmpi(&layout().instances), "node01 slots=2\nnode02 slots=1\n");
        assert_eq!(hostfile_hydra(&layout().instances), "node01:2\nnode02:1\n");
        assert_eq!(hostfile_sge(&layout().instances), "node01 2 muster <NULL>\nnode02 1 muster <NULL>\n");
    }

    #[test]
    fn ranks_are_placed_on_their_cores() {
        assert_eq!(
            rankfile_openmpi(&layout(), RankfileCores::OfNode),
            "rank 0=node01 slot=4-5\nrank 1=node01 slot=6-7\nrank 2=node02 slot=2,9\n"
        );
        assert_eq!(
            rankfile_openmpi(&layout(), RankfileCores::OfAllocation),
            "rank 0=node01 slot=0-1\nrank 1=node01 slot=2-3\nrank 2=node02 slot=0-1\n"
        );
    }

    #[test]
    fn too_many_ranks_share_cores() {
        let instance = Instance { host: "n".to_owned(), ranks: 3, cores: vec![4, 5] };
        assert_eq!(rank_cores(&instance, 2, 1).collect::<Vec<_>>(), [4]);
    }
}
