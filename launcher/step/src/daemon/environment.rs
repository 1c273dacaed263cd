//! The variables of each rank.

use crate::frames::{Common, CpuBind, Own, Task, Wireup};
use crate::lists::{format_list, format_mask};
use crate::words::DaemonStart;
use crate::{StepError, slurm_nodelist, tasks_per_node};

/// Variables that belong to another launch, and would contradict this one.
const FOREIGN: [&str; 6] = ["PMI_", "PMIX_", "OMPI_COMM_", "PRTE_LAUNCHED", "MPI_LOCAL", "HYDI_"];

/// The CPUs of a node's ranks and how they are bound.
pub(super) struct Bound {
    /// The kernel's CPUs of each rank of the node, in the order of [`Own::tasks`]; none: as the daemon.
    pub cpus: Vec<Vec<u32>>,
}

/// Where each rank of the node is bound.
///
/// Where declared cores share real ones, ranks have cores to be told, and by default run on all CPUs of the allocation:
/// of ranks that give one CPU away to each other, the kernel (6.18) may run one for ever.
///
/// # Errors
///
/// [`StepError::Value`] for a CPU that is not the step's.
pub(super) fn bind(start: &DaemonStart, common: &Common, own: &Own) -> Result<Bound, StepError> {
    let of = |cores: &[u32]| -> Vec<u32> {
        let mut cpus: Vec<u32> =
            cores.iter().filter_map(|core| start.cpus.get(*core as usize)).flatten().copied().collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    };
    let all = of(&own.cores);
    let everywhere = of(&(0..start.cpus.len() as u32).collect::<Vec<_>>());
    let check = |wanted: &[u32]| -> Result<Vec<u32>, StepError> {
        match wanted.iter().find(|cpu| !all.contains(cpu)) {
            None => Ok(wanted.to_vec()),
            Some(cpu) => Err(StepError::Value {
                option: "--cpu-bind",
                value: format!("CPU {cpu} on {}", start.host),
                wanted: format!("the step has the CPUs {} there", format_list(&all)),
            }),
        }
    };
    let one = |(local, task): (usize, &Task)| -> Result<Vec<u32>, StepError> {
        match &common.bind {
            CpuBind::Cores if start.cores_wrap => Ok(everywhere.clone()),
            CpuBind::Cores => Ok(of(&task.cores)),
            CpuBind::Threads => {
                let first = |core: &u32| start.cpus.get(*core as usize)?.first().copied();
                Ok(task.cores.iter().filter_map(first).collect())
            }
            CpuBind::None => Ok(all.clone()),
            CpuBind::Rank if all.is_empty() => Ok(Vec::new()),
            CpuBind::Rank => Ok(vec![all[local % all.len()]]),
            CpuBind::Map(list) => check(&[list[local % list.len().max(1)]]),
            CpuBind::Masks(masks) => check(&masks[local % masks.len().max(1)]),
        }
    };
    Ok(Bound { cpus: own.tasks.iter().enumerate().map(one).collect::<Result<_, _>>()? })
}

/// The variables of all ranks of a node.
pub(super) struct Variables<'a> {
    start: &'a DaemonStart,
    own: &'a Own,
    bound: &'a Bound,
    shared: Vec<(String, String)>,
}

impl<'a> Variables<'a> {
    /// What all ranks share; the later of two with one name counts.
    pub fn new(
        start: &'a DaemonStart,
        common: &'a Common,
        own: &'a Own,
        bound: &'a Bound,
        wireup: Wireup,
    ) -> Self {
        if common.relayed {
            // A variable that is no text cannot be passed on.
            let variables = std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            let shared = variables.filter(|(name, _)| name != super::ATTACH_VARIABLE).collect();
            return Self { start, own, bound, shared };
        }
        let foreign = |name: &str| FOREIGN.iter().any(|prefix| name.starts_with(prefix));
        let mut shared: Vec<(String, String)> =
            common.environment.iter().filter(|(name, _)| !foreign(name)).cloned().collect();
        let mut set = |name: &str, value: String| shared.push((name.to_owned(), value));
        let counts: Vec<u32> = (0..common.hosts.len() as u32)
            .map(|node| common.node_of_rank.iter().filter(|of_rank| **of_rank == node).count() as u32)
            .collect();
        let hosts: Vec<&str> = common.hosts.iter().map(String::as_str).collect();
        let (nodelist, per_node) = (slurm_nodelist(&hosts), tasks_per_node(&counts));
        for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
            set(name, start.job.to_string());
        }
        for name in ["SLURM_STEP_ID", "SLURM_STEPID", "MUSTER_STEP_ID"] {
            set(name, start.step.to_string());
        }
        set("SLURM_STEP_NODELIST", nodelist);
        for name in ["SLURM_STEP_NUM_NODES", "SLURM_NNODES"] {
            set(name, common.hosts.len().to_string());
        }
        for name in ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"] {
            set(name, common.ntasks.to_string());
        }
        for name in ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"] {
            set(name, per_node.clone());
        }
        set("SLURM_CPUS_PER_TASK", common.cores_per_task.to_string());
        set("SLURM_CPUS_ON_NODE", own.cores.len().to_string());
        set("SLURM_NODEID", own.position.to_string());
        for name in ["SLURMD_NODENAME", "MUSTER_NODE"] {
            set(name, start.host.clone());
        }
        set("MUSTER_INSTANCE", start.instance.to_string());
        set("MUSTER_ATTEMPT_DIR", start.attempt_dir.clone());
        set("MUSTER_CORES", format_list(&declared(start, &own.cores)));
        let ranks: Vec<String> = own.tasks.iter().map(|task| task.rank.to_string()).collect();
        set("SLURM_GTIDS", ranks.join(","));
        set("SLURM_LAUNCH_NODE_IPADDR", start.starter.0.clone());
        set("SLURM_SRUN_COMM_HOST", start.starter.0.clone());
        set("SLURM_SRUN_COMM_PORT", start.starter.1.to_string());
        set("SLURM_STEP_LAUNCHER_PORT", start.starter.1.to_string());
        set("SLURM_UMASK", format!("{:04o}", common.umask));
        set("SLURM_PRIO_PROCESS", "0".to_owned());
        let masks: Vec<String> = bound.cpus.iter().map(|cpus| format_mask(cpus)).collect();
        let masks = masks.join(",");
        set("SLURM_CPU_BIND_VERBOSE", "quiet".to_owned());
        match common.bind {
            CpuBind::None => {
                set("SLURM_CPU_BIND", "quiet,none".to_owned());
                set("SLURM_CPU_BIND_TYPE", "none".to_owned());
                set("SLURM_CPU_BIND_LIST", String::new());
            }
            _ => {
                set("SLURM_CPU_BIND", format!("quiet,mask_cpu:{masks}"));
                set("SLURM_CPU_BIND_TYPE", "mask_cpu:".to_owned());
                set("SLURM_CPU_BIND_LIST", masks);
            }
        }
        // Ranks are bound when they start; Intel MPI would bind them once more, by its own ideas.
        if common.environment.iter().all(|(name, _)| name != "I_MPI_PIN") {
            set("I_MPI_PIN", "off".to_owned());
        }
        // MPICH 5 gives up where it finds both, and is not told which.
        if wireup == Wireup::Both
            && common.environment.iter().all(|(name, _)| name != "MPIR_CVAR_PMI_VERSION")
        {
            set("MPIR_CVAR_PMI_VERSION", "1".to_owned());
        }
        if wireup.has_pmi() {
            set("PMI_SIZE", common.ntasks.to_string());
            set("PMI_JOBID", format!("{}.{}", start.job, start.step));
            set("PMI_SPAWNED", "0".to_owned());
        }
        Self { start, own, bound, shared }
    }

    /// Those of one rank, before its process number is known.
    pub fn of(&self, local: usize, wireup: Wireup) -> Vec<(String, String)> {
        let task = &self.own.tasks[local];
        let mut all = self.shared.clone();
        if self.start.cores.is_empty() {
            return all;
        }
        let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
        set("SLURM_PROCID", task.rank.to_string());
        set("SLURM_LOCALID", local.to_string());
        let cpus = &self.bound.cpus[local];
        let cores: Vec<u32> = (0..self.start.cores.len() as u32)
            .filter(|core| self.own.cores.contains(core))
            .filter(|core| self.start.cpus[*core as usize].iter().any(|cpu| cpus.contains(cpu)))
            .filter(|core| !self.start.cores_wrap || task.cores.contains(core))
            .collect();
        set("MUSTER_RANK_CORES", format_list(&declared(self.start, &cores)));
        if wireup.has_pmi() {
            set("PMI_RANK", task.rank.to_string());
            set("MPI_LOCALRANKID", local.to_string());
            set("MPI_LOCALNRANKS", self.own.tasks.len().to_string());
        }
        all
    }
}

/// The node's own numbers of cores.
fn declared(start: &DaemonStart, cores: &[u32]) -> Vec<u32> {
    cores.iter().filter_map(|core| start.cores.get(*core as usize)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DaemonStart {
        DaemonStart {
            job: 7,
            step: 3,
            instance: 1,
            host: "n2".into(),
            starter: ("10.0.0.1".into(), 4000),
            listens: false,
            key: String::new(),
            attempt_dir: "/run/a".into(),
            cores: vec![4, 5, 6],
            cpus: vec![vec![8, 9], vec![10, 11], vec![12, 13]],
            cores_wrap: false,
        }
    }

    fn own() -> Own {
        let task = |rank, core| Task { rank, cores: vec![core], ..Task::default() };
        Own { position: 1, cores: vec![0, 1], tasks: vec![task(2, 0), task(3, 1)] }
    }

    fn cpus(bind: CpuBind) -> Result<Vec<Vec<u32>>, StepError> {
        let common = Common { bind, ..Common::default() };
        super::bind(&start(), &common, &own()).map(|bound| bound.cpus)
    }

    #[test]
    fn ranks_are_bound_as_they_ask_within_the_step() {
        assert_eq!(cpus(CpuBind::Cores).unwrap(), [[8, 9], [10, 11]]);
        assert_eq!(cpus(CpuBind::Threads).unwrap(), [[8], [10]]);
        assert_eq!(cpus(CpuBind::None).unwrap(), [[8, 9, 10, 11], [8, 9, 10, 11]]);
        assert_eq!(cpus(CpuBind::Rank).unwrap(), [[8], [9]]);
        assert_eq!(cpus(CpuBind::Map(vec![11])).unwrap(), [[11], [11]]);
        assert_eq!(cpus(CpuBind::Masks(vec![vec![8, 10], vec![9]])).unwrap(), [vec![8, 10], vec![9]]);
        let error = cpus(CpuBind::Map(vec![12])).unwrap_err().to_string();
        assert_eq!(error, "--cpu-bind cannot be 'CPU 12 on n2': the step has the CPUs 8-11 there");
    }

    #[test]
    fn ranks_are_not_bound_to_cores_that_share_a_cpu() {
        let start = DaemonStart { cpus: vec![vec![0], vec![1], vec![0]], cores_wrap: true, ..start() };
        let cpus = |bind| super::bind(&start, &Common { bind, ..Common::default() }, &own()).unwrap().cpus;
        assert_eq!(cpus(CpuBind::Cores), [[0, 1], [0, 1]]);
        assert_eq!(cpus(CpuBind::Rank), [[0], [1]]);
    }

    #[test]
    fn a_rank_is_told_where_it_is() {
        let common = Common {
            ntasks: 4,
            cores_per_task: 1,
            node_of_rank: vec![0, 0, 1, 1],
            hosts: vec!["n1".into(), "n2".into()],
            environment: [("A", "1"), ("PMI_RANK", "9"), ("SLURM_STEP_ID", "1")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            ..Common::default()
        };
        let (start, own) = (start(), own());
        let bound = super::bind(&start, &common, &own).unwrap();
        let variables = Variables::new(&start, &common, &own, &bound, Wireup::Pmi).of(1, Wireup::Pmi);
        let get = |name: &str| {
            variables.iter().rev().find(|variable| variable.0 == name).map(|variable| variable.1.as_str())
        };
        for (name, value) in [
            ("A", "1"),
            ("SLURM_PROCID", "3"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_NODEID", "1"),
            ("SLURM_STEP_ID", "3"),
            ("SLURM_GTIDS", "2,3"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
            ("SLURM_STEP_NODELIST", "n[1-2]"),
            ("SLURM_CPU_BIND_LIST", "0x300,0xc00"),
            ("MUSTER_RANK_CORES", "5"),
            ("MUSTER_CORES", "4-5"),
            ("PMI_RANK", "3"),
            ("PMI_SIZE", "4"),
        ] {
            assert_eq!(get(name), Some(value), "{name}");
        }
    }
}
