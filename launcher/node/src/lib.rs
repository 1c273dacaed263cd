//! What runs on every node: the agent, which speaks with the controller, and one supervisor for each attempt,
//! which outlives the agent.

pub mod agent;
pub mod attempt;
pub mod config;
pub mod containers;
pub mod containment;
pub mod daemon;
pub mod deploy;
pub mod devices;
pub mod error;
pub mod folders;
pub mod frame;
pub mod mounts;
pub mod packages;
pub mod process;
pub mod programs;
pub mod quiet;
pub mod state_log;
pub mod step_log;
pub mod supervisor;
pub mod user;

pub use error::{NodeError, Result};
