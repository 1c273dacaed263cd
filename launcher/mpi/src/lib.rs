//! What lets an unmodified `mpirun ./a.out` or `mpiexec ./a.out` do the right thing inside an allocation.
//!
//! Open MPI and Hydra (MPICH, Intel MPI) are told about the allocation in words they know, host files and
//! environment variables ([`environment()`]), and are given two programs of ours in place of their own means:
//!
//! - `muster-rsh` instead of `ssh`: it reaches the attempt's own SSH endpoint on each node ([`SshdConfig`]), so that
//!   whatever is started there lands inside the attempt's containment, and it needs no key of the user's;
//! - `muster-rank` in front of each rank (Open MPI only): it pins the rank to the cores that the allocation holds for
//!   it on that node ([`Binding`]).
//!
//! All files of an attempt lie in one folder with the same path on every node, see [`AttemptDir`].
//!
//! Nothing here decides anything: given a [`GangLayout`], the texts follow.

pub mod asked;
mod attempt_dir;
mod binding;
mod environment;
mod error;
mod keys;
mod launch_files;
mod layout;
mod peers;
pub mod shim;
mod sshd;

pub use attempt_dir::AttemptDir;
pub use binding::{Binding, LocalRank, RankBinding};
pub use environment::{
    ALLOW_ROOT, BIND_NONE_BY_US, NODE_OWN_NAMES, OVERSUBSCRIBE_BY_US, endpoint_environment, environment,
    node_environment,
};
pub use error::MpiError;
pub use keys::AttemptKeys;
pub use launch_files::{RankfileCores, hostfile_hydra, hostfile_openmpi, hostfile_sge, rankfile_openmpi};
pub use layout::{GangLayout, Instance};
pub use muster_step::{MpiKind, slurm_nodelist, tasks_per_node, which_mpi};
pub use peers::{Peer, find_peer, format_peers, parse_peers};
pub use sshd::SshdConfig;
