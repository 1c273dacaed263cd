//! The client API: its types ([`api`]) and the client that every front end uses ([`Client`]).
//!
//! The client blocks: a command asks one thing after another, and a runtime with threads would cost it more
//! time than its questions.

pub mod api;
mod bootstrap;
mod changes;
mod client;
mod crontabs;
mod diagnostics;
mod error;
mod files;
mod licenses;
mod nodes;
mod notes;
mod priority;
mod query;
mod reservations;
mod retry;
mod steps;
mod submits;
mod tasks;
mod transport;
mod usage;
mod why;

pub use client::{
    Client, JobFilter, Options, RETRY_DEFAULT, RETRY_WAITING_DEFAULT, SOCKET_DEFAULT, default_sockets,
    new_request_key,
};
pub use error::ClientError;
pub use licenses::format_licenses;
pub use tasks::TaskFilter;
