//! The parts of the suite: programs that each tell figures of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use muster_cluster_tests::figures::{Against, Better, Figure, Told};
use muster_cluster_tests::site::repository;
use serde_json::Value;

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
    /// A command of this program.
    Demo { whole: &'static [&'static str], quick: &'static [&'static str] },
    /// A measurement among the tests, which knows a quick run by its environment.
    Test { package: &'static str, target: &'static str, name: &'static str },
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
        what: "10,000 and 100,000 small tasks of an array beside xargs",
        runs: Runs::Demo {
            whole: &["swarm", "--count", "10000", "--then", "100000", "--json"],
            quick: &["swarm", "--count", "2000", "--then", "4000", "--json"],
        },
    },
    Part {
        name: "peers",
        what: "the same tasks, submits and steps by Slurm and by HyperQueue, where they are installed",
        runs: Runs::Test { package: "muster-cluster-tests", target: "e2e", name: "compare::peers" },
    },
    Part {
        name: "commands",
        what: "each command as a whole process beside Slurm's of the same name",
        runs: Runs::Test { package: "muster-cluster-tests", target: "e2e", name: "compare::speed" },
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
        runs: Runs::Test { package: "muster-cluster-tests", target: "e2e", name: "compare::mpi_start" },
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
        what: "durable submits by 1 to 64 clients beside a loop of fsync and a bare echo",
        runs: Runs::Test {
            package: "muster-server",
            target: "durability",
            name: "acknowledged_submits_per_second",
        },
    },
    Part {
        name: "agents",
        what: "thousands of agents in one process on the loopback",
        runs: Runs::Demo {
            whole: &["agents", "--agents", "5000", "--json"],
            quick: &["agents", "--agents", "500", "--json"],
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
        runs: Runs::Test { package: "muster-server", target: "growth", name: "waiting_tasks" },
    },
    Part {
        name: "history",
        what: "submits, tasks, lists, memory and a restart after 1,000,000 finished tasks, and before the first",
        runs: Runs::Test { package: "muster-server", target: "growth", name: "finished_tasks" },
    },
];

impl Part {
    /// The program with its arguments.
    pub fn command(&self, quick: bool) -> Result<Command> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut command = match &self.runs {
            Runs::Demo { whole, quick: less } => {
                let mut command = Command::new(program);
                command.args(if quick { *less } else { *whole });
                command
            }
            Runs::Scale { whole, quick: less } => {
                let mut command = Command::new(beside(&program, "muster-sim"));
                command.args(["scale", "--json"]).args(if quick { *less } else { *whole });
                command
            }
            Runs::Test { package, target, name } => {
                let mut command = Command::new("cargo");
                command.args(["test", "--release", "--locked", "--quiet", "-p", package, "--test", target]);
                command.args(["--", "--ignored", "--nocapture", "--test-threads=1", name]);
                command
            }
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
            Runs::Scale { .. } => scale(output),
            _ => Ok(Told::read(output)?),
        }
    }
}

fn beside(program: &Path, name: &str) -> PathBuf {
    program.with_file_name(name)
}

/// Figures from the report of `muster-sim scale --json`.
fn scale(output: &str) -> Result<Told> {
    let line = output.lines().last().unwrap_or_default();
    let report: Value = serde_json::from_str(line).context("muster-sim told no report")?;
    let number = |path: &str| {
        report.pointer(path).and_then(Value::as_f64).with_context(|| format!("the report has no {path}"))
    };
    let cluster = format!("{} nodes, {} waiting jobs", number("/nodes")?, number("/pending_jobs")?);
    let lower = |name: &str, what: &str, path: &str, unit: &str| {
        Ok::<_, anyhow::Error>(Figure::new(
            name,
            format!("{what} ({cluster})"),
            number(path)?,
            unit,
            Better::Lower,
        ))
    };
    let elements = 1e6;
    Ok(Told {
        figures: vec![
            lower("engine.submit", "one submit in the engine", "/submit_us", "us")?,
            lower(
                "engine.full_pass",
                "a pass over the whole queue of a full cluster",
                "/passes/full_ms",
                "ms",
            )?,
            lower("engine.next_pass", "the pass after the end of one task", "/incremental/median_us", "us")?,
            lower(
                "engine.waiting_job",
                "memory of a waiting job in the engine",
                "/memory/per_waiting_job",
                "bytes",
            )?,
            Figure::new(
                "engine.array_element",
                "memory of a waiting element of an array of a million, in the engine",
                number("/memory/million_array")? / elements,
                "bytes",
                Better::Lower,
            )
            .bar(Against::Value, 64.0),
        ],
        ..Told::default()
    })
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

    #[test]
    fn a_report_of_the_simulator_becomes_figures() {
        let report = serde_json::json!({
            "nodes": 10, "pending_jobs": 20, "submit_us": 2.5, "passes": {"full_ms": 30.0},
            "incremental": {"median_us": 400.0}, "memory": {"per_waiting_job": 1300.0, "million_array": 4561}
        });
        let told = scale(&format!("a line before\n{report}\n")).unwrap();
        assert_eq!(told.figures[0].what, "one submit in the engine (10 nodes, 20 waiting jobs)");
        assert_eq!((told.figures[2].value, told.figures[4].value), (400.0, 0.004_561));
        let error = scale("{\"nodes\": 10}").unwrap_err();
        assert_eq!(error.to_string(), "the report has no /pending_jobs");
    }
}
