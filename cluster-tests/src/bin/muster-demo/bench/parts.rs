//! The parts of the suite: programs that each tell figures of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use muster_cluster_tests::figures::Told;
use muster_cluster_tests::site::repository;

use super::adapt;

/// A part of the suite.
pub struct Part {
    /// By which it is asked for.
    pub name: &'static str,
    /// What it measures.
    pub what: &'static str,
    /// What runs.
    runs: Runs,
}

/// What runs for a part: its words, and fewer of everything for a quick run.
enum Runs {
    /// `muster-demo agents`, which tells a report of its own shape.
    Agents { whole: &'static [&'static str], quick: &'static [&'static str] },
    /// A command of this program.
    Demo { whole: &'static [&'static str], quick: &'static [&'static str] },
    /// A measurement among the tests, which knows a quick run by its environment.
    Test { target: &'static str, name: &'static str },
    /// `muster-sim scale`, which tells a report of its own shape.
    Scale { whole: &'static [&'static str], quick: &'static [&'static str] },
}

/// Set for tests that are to measure less.
const QUICK: &str = "MUSTER_BENCH_QUICK";

/// All parts, in the order in which they run.
pub const PARTS: [Part; 12] = [
    Part {
        name: "latency",
        what: "one task: from the submit to its script's first line, and to its known end",
        runs: Runs::Demo {
            whole: &["latency", "--samples", "30", "--json"],
            quick: &["latency", "--samples", "8", "--json"],
        },
    },
    Part {
        name: "swarm",
        what: "10,000 small tasks of an array in turns with xargs, and 100,000",
        runs: Runs::Demo {
            whole: &["swarm", "--count", "10000", "--then", "100000", "--json"],
            quick: &["swarm", "--count", "2000", "--rounds", "1", "--then", "4000", "--json"],
        },
    },
    Part {
        name: "peers",
        what: "the same tasks, submits and steps by Slurm and by HyperQueue, where they are installed",
        runs: Runs::Test { target: "e2e", name: "compare::peers" },
    },
    Part {
        name: "commands",
        what: "each command as a whole process beside Slurm's of the same name",
        runs: Runs::Test { target: "e2e", name: "compare::speed" },
    },
    Part {
        name: "steps",
        what: "steps of one process within a job",
        runs: Runs::Demo {
            whole: &["steps", "--count", "2000", "--json"],
            quick: &["steps", "--count", "200", "--json"],
        },
    },
    Part {
        name: "mpi",
        what: "the start of 32 MPI ranks beside mpirun over SSH and Slurm's srun",
        runs: Runs::Test { target: "e2e", name: "compare::mpi_start" },
    },
    Part {
        name: "batch",
        what: "the batch service through its SDK",
        runs: Runs::Demo {
            whole: &["batch", "--tasks", "10000", "--listed", "100000", "--json"],
            quick: &["batch", "--tasks", "1000", "--listed", "10000", "--json"],
        },
    },
    Part {
        name: "submits",
        what: "durable submits by 1 to 64 clients beside a loop of fsync, a bare echo, and services without work",
        runs: Runs::Test { target: "durability", name: "acknowledged_submits_per_second" },
    },
    Part {
        name: "agents",
        what: "thousands of agents in one process on the loopback",
        runs: Runs::Agents {
            whole: &["agents", "--json"],
            quick: &[
                "agents",
                "--agents",
                "500",
                "--gang",
                "400",
                "--waiting",
                "10000",
                "--tasks",
                "4000",
                "--rest-s",
                "5",
                "--json",
            ],
        },
    },
    Part {
        name: "scale",
        what: "passes of the engine over a large cluster with a long queue",
        runs: Runs::Scale { whole: &[], quick: &["--nodes", "1000", "--pending", "10000"] },
    },
    Part {
        name: "waiting",
        what: "the controller's memory for a million elements and 100,000 jobs that wait",
        runs: Runs::Test { target: "growth", name: "waiting_tasks" },
    },
    Part {
        name: "history",
        what: "submits, tasks, lists, memory and a restart after 1,000,000 finished tasks, and before the first",
        runs: Runs::Test { target: "growth", name: "finished_tasks" },
    },
];

impl Part {
    /// The program with its arguments.
    pub fn command(&self, quick: bool) -> Result<Command> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut command = match &self.runs {
            Runs::Demo { whole, quick: less } | Runs::Agents { whole, quick: less } => {
                let mut command = Command::new(program);
                command.args(if quick { *less } else { *whole });
                command
            }
            Runs::Scale { whole, quick: less } => {
                let mut command = Command::new(beside(&program, "muster-sim"));
                command.args(["scale", "--json"]).args(if quick { *less } else { *whole });
                command
            }
            Runs::Test { target, name } => test(target, name),
        };
        command.current_dir(repository());
        if quick {
            command.env(QUICK, "1");
        }
        Ok(command)
    }

    /// What it told, from what it wrote.
    pub fn told(&self, output: &str) -> Result<Told> {
        match self.runs {
            Runs::Scale { .. } => adapt::scale(output),
            Runs::Agents { .. } => adapt::agents(output),
            Runs::Demo { .. } | Runs::Test { .. } => Ok(Told::read(output)?),
        }
    }
}

/// One measurement among the tests.
fn test(target: &str, name: &str) -> Command {
    let mut command = Command::new("cargo");
    // With the whole workspace's features, as everything else was built.
    command.args(["test", "--release", "--locked", "--quiet", "--workspace", "--test", target]);
    command.args(["--", "--ignored", "--nocapture", "--test-threads=1", name]);
    command
}

fn beside(program: &Path, name: &str) -> PathBuf {
    program.with_file_name(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_of_parts_are_different_words() {
        let mut names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase())));
    }
}
