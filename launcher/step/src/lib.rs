//! Direct launch: parallel steps inside an allocation, started without `mpirun`.
//!
//! A step has three sides. The *starter* (`muster run`, `srun`) runs inside the attempt and asks the supervisor of the
//! attempt's primary for a place; the supervisor keeps which cores running steps hold and decides by [`place`], a pure
//! function; on each node of the step its supervisor starts a *step daemon* (the program `muster-step`), as the user
//! and inside the attempt's containment. The daemons connect back to the starter, or are connected to by other daemons
//! where there are many ([`tree`]); they start and bind their ranks, and serve PMI to them; all output, input, signals
//! and exchanges of the ranks go between starter and daemons. The controller has no part in it:
//! it is told of each step once, by the supervisor.
//!
//! | module | what |
//! | --- | --- |
//! | [`words`] | what starter and supervisor say to each other |
//! | [`place`] | which node and cores each rank gets |
//! | [`link`], [`auth`], [`frames`] | the connection between starter and daemon |
//! | [`tree`] | which daemon speaks with which |
//! | [`model`] | what a start on thousands of nodes costs, worked out |
//! | [`live`] | what ranks use while they run |
//! | [`client`] | the starter |
//! | [`daemon`] | the step daemon |
//! | [`pmi`] | PMI-1 and PMI-2, as a server |

pub mod auth;
mod barrier;
pub mod client;
pub mod daemon;
mod elf;
mod error;
pub mod frames;
mod greeting;
mod hostlist;
pub mod link;
mod lists;
pub mod live;
mod mapping;
pub mod model;
pub mod options;
pub mod place;
pub mod pmi;
mod status;
pub mod tree;
pub mod words;

pub use elf::{MpiKind, which_mpi};
pub use error::StepError;
pub use hostlist::{slurm_nodelist, tasks_per_node};
pub use mapping::process_mapping;

/// The name of the socket in the attempt's folder at which the primary's supervisor is asked for steps.
pub const SOCKET_NAME: &str = "steps.sock";

/// The name of the step daemon's program, beside `muster-rank` on each node.
pub const DAEMON_NAME: &str = "muster-step";
