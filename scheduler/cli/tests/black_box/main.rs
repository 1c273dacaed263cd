//! The command as its users meet it, against a stand-in for the controller.
#![expect(clippy::unwrap_used, reason = "tests")]

mod batch;
mod changes;
mod commands;
mod common;
mod controller;
mod exit_codes;
mod matrix;
mod migrate;
mod node;
mod reservations;
mod sbatch;
mod scrontab;
mod sreport;
