//! The gang, as far as MPI launchers care.

use std::path::PathBuf;

use crate::AttemptDir;

/// The part of the gang on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The node's name, by which its peers reach it.
    pub host: String,
    /// How many ranks the allocation holds here; Open MPI calls them slots.
    pub ranks: u32,
    /// The allocation's cores on the node, as the node declares them, in the order in which ranks take them.
    pub cores: Vec<u32>,
}

/// An attempt of a task on its nodes. Instance 0 is the primary, on which the script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GangLayout {
    /// The job's number.
    pub job: u64,
    /// The task's index within the job.
    pub task: u32,
    /// The number of the attempt.
    pub attempt: u32,
    /// All instances, in order. There is at least one.
    pub instances: Vec<Instance>,
    /// How many cores one rank takes.
    pub cores_per_rank: u32,
    /// How many hardware threads of each core it asked for; 0: all of them.
    pub threads_per_core: u32,
    /// Whether several declared cores of some node stand on one real core, so that ranks share CPUs.
    pub wraps_cores: bool,
    /// Whether the user is root, whom Open MPI refuses to serve without being told twice.
    pub runs_as_root: bool,
    /// The attempt's folder.
    pub attempt_dir: AttemptDir,
    /// The absolute path of `muster-rsh`, the same on every node.
    pub remote_shell: PathBuf,
    /// The absolute path of `muster-rank`, the same on every node.
    pub rank_starter: PathBuf,
}

impl GangLayout {
    /// The ranks of the whole gang.
    pub fn ranks(&self) -> u32 {
        self.instances.iter().map(|instance| instance.ranks).sum()
    }
}
