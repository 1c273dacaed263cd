//! Figures from what programs tell in a shape of their own: one object in their last line.

use anyhow::{Context as _, Result};
use muster_cluster_tests::figures::{Against, Better, Figure, Told};
use serde_json::Value;

/// The part of a rate that is told apart from the same rate.
const SAME_RATE: f64 = 0.95;

/// A program's report.
struct Report {
    of: &'static str,
    value: Value,
}

impl Report {
    fn read(of: &'static str, output: &str) -> Result<Self> {
        let line = output.lines().last().unwrap_or_default();
        let value =
            serde_json::from_str(line).with_context(|| format!("{of} told no report in its last line"))?;
        Ok(Self { of, value })
    }

    fn number(&self, path: &str) -> Result<f64> {
        let number = self.value.pointer(path).and_then(Value::as_f64);
        number.with_context(|| format!("the report of {} has no {path}", self.of))
    }

    /// Something of which less is better.
    fn lower(&self, name: &str, what: String, path: &str, unit: &str) -> Result<Figure> {
        Ok(Figure::new(name, what, self.number(path)?, unit, Better::Lower))
    }
}

/// Of `muster-sim scale --json`.
pub fn scale(output: &str) -> Result<Told> {
    const ELEMENTS: f64 = 1e6;
    let report = Report::read("muster-sim scale", output)?;
    let cluster =
        format!("{} nodes, {} waiting jobs", report.number("/nodes")?, report.number("/pending_jobs")?);
    let lower = |name: &str, what: &str, path: &str, unit: &str| {
        report.lower(name, format!("{what} ({cluster})"), path, unit)
    };
    let element = report.number("/memory/million_array")? / ELEMENTS;
    let words = "memory of a waiting element of an array of a million, in the engine";
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
            lower("engine.job", "memory of a waiting job in the engine", "/memory/per_waiting_job", "bytes")?,
            Figure::new("engine.element", words, element, "bytes", Better::Lower),
        ],
        ..Told::default()
    })
}

/// Of `muster-demo agents --json`.
pub fn agents(output: &str) -> Result<Told> {
    let report = Report::read("muster-demo agents", output)?;
    let all =
        format!("{} agents, {} waiting tasks", report.number("/agents")?, report.number("/waiting_tasks")?);
    let lower = |name: &str, what: &str, path: &str, unit: &str| {
        report.lower(name, format!("{what} ({all})"), path, unit)
    };
    let gang = format!("a gang of {} nodes, from the submit until it runs", report.number("/gang/nodes")?);
    let rate = report.number("/swarm/many/tasks_per_s")?;
    Ok(Told {
        figures: vec![
            lower(
                "agents.registration",
                "all agents at once, until the last is idle",
                "/registration/seconds",
                "s",
            )?
            .bar(Against::Value, 10.0),
            lower(
                "agents.memory",
                "the controller's memory for a node",
                "/registration/memory_kib_per_node",
                "KiB",
            )?,
            lower(
                "agents.heartbeats",
                "CPU of the controller at rest, of one core",
                "/rest/cpu_percent",
                "%",
            )?
            .bar(Against::Value, 10.0),
            lower("agents.gang", &gang, "/gang/running_s", "s")?.bar(Against::Value, 1.0),
            Figure::new("agents.rate", format!("small tasks ({all})"), rate, "1/s", Better::Higher)
                .floor("with one agent of as many slots", report.number("/swarm/one/tasks_per_s")?)
                .bar(Against::Floor, SAME_RATE),
            lower(
                "agents.controller",
                "CPU of the controller for a small task",
                "/swarm/many/cpu_us_per_task",
                "us",
            )?
            .bar(Against::Value, 30.0),
            lower("agents.deaf", "99 % of single tasks while others do not read", "/deaf/p99_ms", "ms")?
                .floor("the same before", report.number("/deaf/p99_ms_before")?),
            lower("agents.restart", "a killed controller has all agents again", "/restart/back_s", "s")?,
        ],
        ..Told::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_report_of_the_simulator_becomes_figures() {
        let report = serde_json::json!({
            "nodes": 10, "pending_jobs": 20, "submit_us": 2.5, "passes": {"full_ms": 30.0},
            "incremental": {"median_us": 400.0}, "memory": {"per_waiting_job": 1300.0, "million_array": 4561}
        });
        let told = scale(&format!("a line before\n{report}\n")).unwrap();
        assert_eq!(told.figures[0].what, "one submit in the engine (10 nodes, 20 waiting jobs)");
        assert_eq!((told.figures[2].value, told.figures[4].value), (400.0, 0.004_561));
    }

    #[test]
    fn a_report_of_agents_becomes_figures_with_their_bars() {
        let report = serde_json::json!({
            "agents": 5000, "waiting_tasks": 100_000, "registration": {"seconds": 4.0, "memory_kib_per_node": 30.0},
            "rest": {"cpu_percent": 12.0}, "gang": {"nodes": 4000, "running_s": 0.8},
            "swarm": {"many": {"tasks_per_s": 5000.0, "cpu_us_per_task": 60.0}, "one": {"tasks_per_s": 10_000.0}},
            "deaf": {"p99_ms": 4.0, "p99_ms_before": 3.0}, "restart": {"back_s": 6.0}
        });
        let told = agents(&report.to_string()).unwrap();
        let ratio = told.figures.iter().find(|figure| figure.name == "agents.rate").unwrap().to_floor();
        assert_eq!(ratio, Some(0.5));
        assert_eq!(told.figures.iter().map(|figure| figure.bars.len()).sum::<usize>(), 5);
    }

    #[test]
    fn what_a_report_lacks_is_named() {
        let error = scale("{\"nodes\": 10}").unwrap_err();
        assert_eq!(error.to_string(), "the report of muster-sim scale has no /pending_jobs");
        assert_eq!(
            agents("no report").unwrap_err().to_string(),
            "muster-demo agents told no report in its last line"
        );
    }
}
