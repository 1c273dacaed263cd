//! The controller from outside: a real process, real sockets, and nodes that the tests play.

#![expect(clippy::unwrap_used, reason = "tests")]

mod attempts;
mod clocks;
#[path = "../common/mod.rs"]
mod common;
mod crontabs;
mod exhausted;
mod from_cluster;
mod full_disk;
mod mail;
mod nodes;
mod postgres;
mod process;
mod reservations;
mod routes;
mod rows;
mod slow_disk;
mod storage;
mod store;
mod usage;
mod users;
mod why;
