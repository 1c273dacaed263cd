//! The subcommands.

pub mod faults;
pub mod from_cluster;
pub mod launch;
pub mod replay;
pub mod scale;
pub mod scenario;
