//! What Muster promises, on real processes: real sshd, real mpirun, real cgroups, processes killed for real.
//!
//! These tests need root. Without it they fail, unless `MUSTER_TEST_SKIP_CLUSTER=1` says that this is meant.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod bad_input;
mod batch;
mod batch_containers;
mod batch_gangs;
mod batch_load;
mod batch_people;
mod batch_setup;
mod changes;
mod claims;
mod clients;
mod compare;
mod elastic;
mod failures;
mod files;
mod gangs;
mod kills;
mod mpis;
mod node_up;
mod programs;
mod recovery;
mod recurring;
mod scripts;
mod step_accounting;
mod steps;
mod steps_elsewhere;
mod steps_live;
mod store;
mod support;
mod swarm;
mod takeover;
mod users;
mod violence;
