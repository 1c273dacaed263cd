//! musterd, the controller: a thin shell around the engine. It decides nothing.
//!
//! ```text
//! clients ── api ──┐                         ┌── view ◄── shared ◄── durable records
//!                  ├──► engine_loop ── commit ┤
//! nodes ─ sessions ┘    (one thread)          └── sessions ──► effects to nodes
//! ```
//!
//! Nothing leaves the engine's thread before it is durable, be it an answer, an effect, or what readers see.

pub mod accounting;
pub mod api;
pub mod batch;
pub mod batch_site;
pub mod bootstrap;
pub mod clock;
pub mod diagnostics;
mod elastic;
pub mod engine_loop;
pub mod error;
pub mod files;
pub mod forecasts;
mod heap;
pub mod mail;
mod node_listener;
pub mod node_uses;
mod node_view;
mod orders;
mod outputs;
pub mod packages;
pub mod reservation_view;
pub mod secrets;
pub mod server;
pub mod sessions;
pub mod shared;
mod snapshots;
pub mod standby;
mod state_out;
mod steps;
pub mod task_lines;
mod time_zone;
pub mod tls;
pub mod translate;
pub mod view;

pub use error::ServerError;
pub use server::{End, Running, lead, start};
pub use standby::Standby;
pub use state_out::read_state;
