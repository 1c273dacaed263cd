//! The subcommands.

pub mod faults;
pub mod replay;
pub mod scale;
pub mod scenario;
