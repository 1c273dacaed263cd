//! The variables by which launchers find the allocation.

use crate::{GangLayout, Instance, slurm_nodelist, tasks_per_node};

/// Variables of [`environment`] that only tell Open MPI that root knows what he does.
pub const ALLOW_ROOT: [&str; 4] = [
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM",
];

/// The value by which Open MPI 4.1 is let go on with more ranks than slots, so that `muster-rank` may refuse them. The
/// `--oversubscribe` of a user gives the variable another value.
pub const OVERSUBSCRIBE_BY_US: &str = "yes";

/// The value by which Open MPI 4.1 is told to bind no rank, because `muster-rank` does. A user who says `--bind-to none`
/// gives the variable another spelling.
pub const BIND_NONE_BY_US: &str = "NONE";

/// Variables whose value belongs to one node or one process, so that they must not travel to another node.
pub const NODE_OWN_NAMES: [&str; 32] = [
    "MUSTER_NODE",
    "MUSTER_INSTANCE",
    "MUSTER_CORES",
    "MUSTER_RANK_CORES",
    "SLURMD_NODENAME",
    "SLURM_NODEID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_GTIDS",
    "SLURM_TASK_PID",
    "SLURM_CPUS_ON_NODE",
    "SLURM_GPUS_ON_NODE",
    "SLURM_JOB_GPUS",
    "SLURM_TOPOLOGY_ADDR",
    "SLURM_TOPOLOGY_ADDR_PATTERN",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "GPU_DEVICE_ORDINAL",
    "ENVIRONMENT",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "HOSTNAME",
    "TMPDIR",
    "MAIL",
    "LS_COLORS",
    "_",
];

/// All variables of the allocation that are the same on every node.
///
/// They make a bare `mpirun ./a.out` of Open MPI 4.1 and 5 and a bare `mpiexec ./a.out` of MPICH's Hydra take the
/// allocation's hosts and slots, start remote daemons through `muster-rsh`, and pin ranks. Options on the command line
/// still win over them.
///
/// `SLURM_STEP_ID` is never among them: with it Open MPI 4.1 believes that it was started by `srun`.
pub fn environment(layout: &GangLayout) -> Vec<(String, String)> {
    let mut variables = Variables(Vec::new());
    muster(layout, &mut variables);
    slurm(layout, &mut variables);
    open_mpi_4(layout, &mut variables);
    open_mpi_5(layout, &mut variables);
    hydra(layout, &mut variables);
    intel(layout, &mut variables);
    if layout.runs_as_root {
        for name in ALLOW_ROOT {
            variables.set(name, "1");
        }
    }
    variables.0
}

/// The variables for what launchers start on other nodes: those that describe the allocation and the instance, for
/// [`crate::SshdConfig::environment`].
///
/// The launchers' own settings are not among them. A launcher hands on what its daemons need, as the script has set it;
/// a second copy from before the script would contradict it.
///
/// # Panics
///
/// If there is no instance of this number.
pub fn endpoint_environment(layout: &GangLayout, instance: usize) -> Vec<(String, String)> {
    let mut variables = Variables(Vec::new());
    muster(layout, &mut variables);
    slurm(layout, &mut variables);
    variables.0.extend(node_environment(layout, instance));
    variables.0
}

/// The variables that differ between the nodes of an allocation, for the instance of this number.
///
/// # Panics
///
/// If there is no such instance.
pub fn node_environment(layout: &GangLayout, instance: usize) -> Vec<(String, String)> {
    let here = &layout.instances[instance];
    let mut variables = Variables(Vec::new());
    variables.set("MUSTER_NODE", &here.host);
    variables.set("MUSTER_INSTANCE", instance);
    variables.set("MUSTER_CORES", muster_topo::format_list(&here.cores));
    variables.set("SLURMD_NODENAME", &here.host);
    variables.set("SLURM_NODEID", instance);
    variables.set("SLURM_CPUS_ON_NODE", here.cores.len());
    if instance == 0 {
        // The script itself counts as the first process.
        variables.set("SLURM_PROCID", 0);
        variables.set("SLURM_LOCALID", 0);
        variables.set("SLURM_GTIDS", 0);
    }
    variables.0
}

struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }
}

fn node_list(layout: &GangLayout) -> String {
    slurm_nodelist(&layout.instances.iter().map(|instance| instance.host.as_str()).collect::<Vec<_>>())
}

fn per_node(layout: &GangLayout, count: impl Fn(&Instance) -> u32) -> String {
    tasks_per_node(&layout.instances.iter().map(count).collect::<Vec<_>>())
}

fn muster(layout: &GangLayout, variables: &mut Variables) {
    let dir = &layout.attempt_dir;
    variables.set("MUSTER_JOB_ID", layout.job);
    variables.set("MUSTER_TASK_INDEX", layout.task);
    variables.set("MUSTER_ATTEMPT", layout.attempt);
    variables.set("MUSTER_ATTEMPT_DIR", dir.path().display());
    variables.set("MUSTER_NODELIST", node_list(layout));
    variables.set("MUSTER_NNODES", layout.instances.len());
    variables.set("MUSTER_NTASKS", layout.ranks());
    variables.set("MUSTER_TASKS_PER_NODE", per_node(layout, |instance| instance.ranks));
    variables.set("MUSTER_CORES_PER_RANK", layout.cores_per_rank);
    variables.set("MUSTER_HOSTFILE", dir.hostfile().display());
    variables.set("MUSTER_HOSTFILE_HYDRA", dir.hostfile_hydra().display());
    variables.set("MUSTER_RANKFILE", dir.rankfile().display());
}

/// Old and new names: Open MPI 4.1 reads `SLURM_JOBID`, Hydra `SLURM_NODELIST` and `SLURM_NNODES`, scripts all of them.
fn slurm(layout: &GangLayout, variables: &mut Variables) {
    for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
        variables.set(name, layout.job);
    }
    for name in ["SLURM_JOB_NODELIST", "SLURM_NODELIST"] {
        variables.set(name, node_list(layout));
    }
    for name in ["SLURM_JOB_NUM_NODES", "SLURM_NNODES"] {
        variables.set(name, layout.instances.len());
    }
    for name in ["SLURM_NTASKS", "SLURM_NPROCS"] {
        variables.set(name, layout.ranks());
    }
    variables.set("SLURM_TASKS_PER_NODE", per_node(layout, |instance| instance.ranks));
    variables.set("SLURM_JOB_CPUS_PER_NODE", per_node(layout, |instance| instance.cores.len() as u32));
    variables.set("SLURM_CPUS_PER_TASK", layout.cores_per_rank);
    if layout.threads_per_core > 0 {
        variables.set("SLURM_THREADS_PER_CORE", layout.threads_per_core);
    }
}

/// Open MPI 4.1 (orted).
fn open_mpi_4(layout: &GangLayout, variables: &mut Variables) {
    // Without this it would look for srun, because the variables above look like Slurm.
    variables.set("OMPI_MCA_plm", "rsh");
    variables.set("OMPI_MCA_plm_rsh_agent", layout.remote_shell.display());
    // Only the primary holds the key to the other instances, so they must all be reached from there.
    variables.set("OMPI_MCA_plm_rsh_no_tree_spawn", 1);
    // A daemon that went into the background and is killed before it has called its mpirun would be missed by nobody:
    // mpirun would wait for ever. So daemons stay the children of their remote shells, all of which run at once then.
    variables.set("OMPI_MCA_orte_leave_session_attached", 1);
    variables.set("OMPI_MCA_plm_rsh_num_concurrent", remote_shells_at_once(layout));
    // Hosts come from the file: unlike the Slurm variables it gives way to a --hostfile or --host of the user's.
    variables.set("OMPI_MCA_ras", "^slurm");
    variables.set("OMPI_MCA_orte_default_hostfile", layout.attempt_dir.hostfile().display());
    // muster-rank pins, because it knows which cores the allocation holds on which node. No mapping policy is set: it
    // would contradict a --rankfile of the user's.
    variables.set("OMPI_MCA_orte_fork_agent", layout.rank_starter.display());
    variables.set("OMPI_MCA_hwloc_base_binding_policy", BIND_NONE_BY_US);
    // muster-rank refuses what is more than the allocation has, and says how much that is.
    variables.set("OMPI_MCA_rmaps_base_oversubscribe", OVERSUBSCRIBE_BY_US);
    // What daemons leave behind when they are killed goes with the attempt instead of staying in /tmp.
    variables.set("OMPI_MCA_orte_tmpdir_base", layout.attempt_dir.path().display());
    if layout.wraps_cores {
        variables.set("OMPI_MCA_mpi_yield_when_idle", 1);
        // MPICH gives the core away as well. Ranks that only spin next to ranks that yield can keep everything
        // else on the core waiting for seconds.
        variables.set("MPIR_CVAR_ENABLE_HEAVY_YIELD", 1);
    }
}

/// As many as there are nodes, and no fewer than Open MPI's own default.
fn remote_shells_at_once(layout: &GangLayout) -> usize {
    const OPEN_MPIS_DEFAULT: usize = 128;
    layout.instances.len().max(OPEN_MPIS_DEFAULT)
}

/// Open MPI 5 (prrte): the same, under other names.
fn open_mpi_5(layout: &GangLayout, variables: &mut Variables) {
    variables.set("PRTE_MCA_plm", "ssh");
    variables.set("PRTE_MCA_plm_ssh_agent", layout.remote_shell.display());
    variables.set("PRTE_MCA_plm_ssh_no_tree_spawn", 1);
    // That its daemons stay the children of their remote shells is the remote shell's doing: no setting says so.
    variables.set("PRTE_MCA_plm_ssh_num_concurrent", remote_shells_at_once(layout));
    variables.set("PRTE_MCA_ras", "^slurm");
    variables.set("PRTE_MCA_prte_default_hostfile", layout.attempt_dir.hostfile().display());
    variables.set("PRTE_MCA_odls_base_exec_agent", layout.rank_starter.display());
    variables.set("PRTE_MCA_hwloc_default_binding_policy", "none");
    variables.set("PRTE_MCA_rmaps_default_mapping_policy", "slot:OVERSUBSCRIBE");
    variables.set("PRTE_MCA_prte_tmpdir_base", layout.attempt_dir.path().display());
}

/// Hydra (MPICH), under the names of several of its ages.
fn hydra(layout: &GangLayout, variables: &mut Variables) {
    for name in ["HYDRA_BOOTSTRAP", "HYDRA_LAUNCHER"] {
        variables.set(name, "ssh");
    }
    for name in ["HYDRA_BOOTSTRAP_EXEC", "HYDRA_LAUNCHER_EXEC"] {
        variables.set(name, layout.remote_shell.display());
    }
    // The shim is in front of the proxy on this node as well, and refuses what Hydra would not.
    variables.set("HYDRA_LAUNCHER_AUTOFORK", 0);
    variables.set("HYDRA_HOST_FILE", layout.attempt_dir.hostfile_hydra().display());
    // Hydra counts cores within the cpuset that its proxy runs in, which is the allocation.
    let binding = match (layout.wraps_cores, layout.cores_per_rank) {
        (true, _) => "none".to_owned(),
        (false, 0 | 1) => "core".to_owned(),
        (false, cores) => format!("core:{cores}"),
    };
    variables.set("HYDRA_BINDING", binding);
}

/// Intel MPI, whose Hydra is a branch with names and ways of its own.
fn intel(layout: &GangLayout, variables: &mut Variables) {
    variables.set("I_MPI_HYDRA_BOOTSTRAP", "ssh");
    variables.set("I_MPI_HYDRA_BOOTSTRAP_EXEC", layout.remote_shell.display());
    variables.set("I_MPI_HYDRA_BOOTSTRAP_AUTOFORK", 0);
    // Its proxies would start further ones, but only the primary holds the key to the other instances.
    variables.set("I_MPI_HYDRA_BRANCH_COUNT", layout.instances.len());
    // Of a host file it takes the hosts and not their slots. From Slurm's variables it takes one number for all nodes,
    // and gives way to `-ppn`; from the file of Grid Engine it takes each node's own.
    let first = layout.instances.first().map(|instance| instance.ranks);
    if layout.instances.iter().all(|instance| Some(instance.ranks) == first) {
        variables.set("I_MPI_HYDRA_RMK", "slurm");
    } else {
        variables.set("I_MPI_HYDRA_RMK", "sge");
        variables.set("PE_HOSTFILE", layout.attempt_dir.hostfile_sge().display());
    }
    variables.set("I_MPI_JOB_RESPECT_PROCESS_PLACEMENT", 0);
    if layout.wraps_cores {
        variables.set("I_MPI_PIN", "off");
        // A rank that waits sleeps instead of spinning: 3 means usleep(3), for as many microseconds as the other says.
        variables.set("I_MPI_THREAD_YIELD", 3);
        variables.set("I_MPI_THREAD_SLEEP", 100);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttemptDir;

    fn layout(cores: &[u32], cores_per_rank: u32) -> GangLayout {
        let instance = |host: &str| Instance {
            host: host.to_owned(),
            ranks: cores.len() as u32 / cores_per_rank,
            cores: cores.to_vec(),
        };
        GangLayout {
            job: 42,
            task: 7,
            attempt: 2,
            instances: vec![instance("node01"), instance("node02")],
            cores_per_rank,
            threads_per_core: 0,
            wraps_cores: false,
            runs_as_root: false,
            attempt_dir: AttemptDir::new("/run/muster/42.7.2"),
            remote_shell: "/opt/muster/muster-rsh".into(),
            rank_starter: "/opt/muster/muster-rank".into(),
        }
    }

    fn get<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
        variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.as_str())
    }

    #[test]
    fn no_name_is_set_twice_and_none_looks_like_a_step() {
        let mut variables = environment(&layout(&[0, 1], 1));
        variables.extend(node_environment(&layout(&[0, 1], 1), 0));
        let mut names: Vec<&str> = variables.iter().map(|variable| variable.0.as_str()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.starts_with("SLURM_STEP")));
        for (name, _) in node_environment(&layout(&[0], 1), 0) {
            assert!(NODE_OWN_NAMES.contains(&name.as_str()), "{name} must not travel");
        }
    }

    #[test]
    fn the_allocation_is_described() {
        let variables = environment(&layout(&[4, 5, 6, 7], 2));
        for (name, value) in [
            ("SLURM_JOBID", "42"),
            ("SLURM_NODELIST", "node[01-02]"),
            ("SLURM_TASKS_PER_NODE", "2(x2)"),
            ("SLURM_JOB_CPUS_PER_NODE", "4(x2)"),
            ("SLURM_NTASKS", "4"),
            ("MUSTER_TASK_INDEX", "7"),
            ("MUSTER_HOSTFILE", "/run/muster/42.7.2/hostfile"),
            ("HYDRA_BINDING", "core:2"),
        ] {
            assert_eq!(get(&variables, name), Some(value), "{name}");
        }
        assert_eq!(get(&variables, "OMPI_MCA_mpi_yield_when_idle"), None);
        assert_eq!(get(&variables, "OMPI_ALLOW_RUN_AS_ROOT"), None);
        assert_eq!(get(&variables, "SLURM_THREADS_PER_CORE"), None);
        let narrow = environment(&GangLayout { threads_per_core: 1, ..layout(&[0], 1) });
        assert_eq!(get(&narrow, "SLURM_THREADS_PER_CORE"), Some("1"));
    }

    #[test]
    fn intel_mpi_takes_one_number_for_all_nodes_or_each_nodes_own() {
        let mut uneven = layout(&[0, 1], 1);
        let even = environment(&uneven);
        assert_eq!(get(&even, "I_MPI_HYDRA_RMK"), Some("slurm"));
        assert_eq!((get(&even, "PE_HOSTFILE"), get(&even, "I_MPI_HYDRA_BRANCH_COUNT")), (None, Some("2")));
        uneven.instances[1].ranks = 1;
        let uneven = environment(&uneven);
        assert_eq!(get(&uneven, "I_MPI_HYDRA_RMK"), Some("sge"));
        assert_eq!(get(&uneven, "PE_HOSTFILE"), Some("/run/muster/42.7.2/hostfile.sge"));
    }

    #[test]
    fn shared_cores_are_neither_spun_on_nor_bound() {
        let variables = environment(&GangLayout { wraps_cores: true, runs_as_root: true, ..layout(&[0], 1) });
        assert_eq!(get(&variables, "OMPI_MCA_mpi_yield_when_idle"), Some("1"));
        assert_eq!(get(&variables, "HYDRA_BINDING"), Some("none"));
        assert_eq!(get(&variables, "OMPI_ALLOW_RUN_AS_ROOT"), Some("1"));
    }
}
