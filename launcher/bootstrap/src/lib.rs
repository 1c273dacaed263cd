//! Brings the node agent to nodes that have nothing but `sshd`.
//!
//! One SSH session a node, and in the usual case one command on it: the settings and certificates travel over its
//! standard input, so that no secret is ever an argument, and the same command starts the agent. Only a node that
//! lacks the programs costs one command more: they are put into a folder named by their contents, all or nothing, so
//! that several versions live side by side and a running attempt keeps the programs that it began with.

mod binaries;
mod error;
mod install;
mod login;
mod request;
mod scripts;
mod serve;

pub use binaries::{Binaries, PROGRAMS, Program};
pub use error::{BootstrapError, Result};
pub use install::{Outcome, carry_out};
pub use request::{Action, Answer, Done, Failure, Jump, Request, Tls};
pub use serve::{THREADS_DEFAULT, serve};
