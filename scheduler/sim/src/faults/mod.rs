//! The engine against faults: a controller, nodes and the network between them in virtual time.
//!
//! One seed decides everything: what is submitted, which messages are late, who crashes and when. The checkers
//! watch what really happens on the simulated nodes, not what the engine believes. After a stormy phase the
//! faults stop, and everything that was accepted must come to its end. A failure names its seed.

mod changes;
mod claims;
mod controller;
mod crontabs;
mod link;
mod node;
mod reservations;
mod traffic;
mod violation;
mod wishes;
mod world;

pub use link::Mishaps;
pub use violation::Violation;
pub use world::{Outcome, WorldOptions, run};
