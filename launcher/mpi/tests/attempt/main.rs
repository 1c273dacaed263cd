//! Attempts under an ordinary user, with real sshds and, where they are installed, real launchers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endpoint;
mod launchers;
mod support;
