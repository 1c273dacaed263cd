//! The parts that Muster's MPI programs share.
//!
//! Everything that can be wrong without a network is pure and tested without MPI: the grid split, the stencil
//! kernel, the random stream, cpu lists. Only [`comm`] talks to MPI, and only with the feature `mpi`.

pub mod checks;
#[cfg(feature = "mpi")]
pub mod comm;
pub mod cpulist;
mod error;
pub mod grid;
pub mod heat;
pub mod launch;
pub mod pi;
pub mod report;
pub mod splitmix;

pub use error::{Error, Result};
