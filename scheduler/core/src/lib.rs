//! Muster's core: the words of the domain as types, the engine, and the policies.
//!
//! Nothing here reads a clock, opens a file, draws a random number or waits: time and identifiers come in with
//! the inputs, and what is to be done goes out as [`input::Effect`]s. `ARCHITECTURE.md` shows the way of a job
//! through it.

pub mod autoscale;
pub mod batch;
pub mod cluster;
pub mod common;
pub mod cores;
pub mod cron;
pub mod eligibility;
pub mod engine;
pub mod event;
pub mod features;
pub mod gres;
pub mod ids;
pub mod input;
#[cfg(test)]
mod mutated;
pub mod notation;
pub mod on;
pub mod patterns;
pub mod place;
pub mod plan;
pub mod preempt;
pub mod priority;
pub mod rate;
mod refusal;
pub mod reservation;
mod rows;
pub mod spec;
pub mod staging;
pub mod state;
#[cfg(test)]
mod testing;
pub mod threads;
