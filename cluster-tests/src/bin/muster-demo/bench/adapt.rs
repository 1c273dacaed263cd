//! Figures from what programs and tests tell in a shape of their own: one object in their last line, or lines for people.

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

/// Of the measurement of durable submits in `scheduler/server/tests/durability.rs`, which tells a line for each number of
/// clients: `64 clients: 14028 submits/s, median 3.8 ms, ... floor 0.15 ms ...`.
pub fn submits(output: &str) -> Result<Told> {
    let after = |line: &str, words: &str| {
        let rest = line.split_once(words)?.1.trim_start();
        rest.split([' ', ',']).next()?.parse::<f64>().ok()
    };
    let mut figures = Vec::new();
    // The rate of one client, by what the clients are: those that follow are beside one of their own kind.
    let mut alone: Vec<(String, f64)> = Vec::new();
    for line in output.lines() {
        // The harness of tests leaves its line open.
        let line = line.rsplit("... ").next().unwrap_or(line);
        let Some((who, said)) = line.split_once(':').filter(|(_, said)| said.contains(" submits/s,")) else {
            continue;
        };
        let (clients, kind) =
            who.trim().split_once(' ').context("a line begins without the number of clients")?;
        let clients: u32 = clients.parse().with_context(|| format!("'{clients}' is no number of clients"))?;
        let rate = said.trim_start().split(' ').next().and_then(|rate| rate.parse::<f64>().ok());
        let rate = rate.with_context(|| format!("no rate in '{line}'"))?;
        let bare = kind.contains("bare");
        let name = |name: &str| if bare { format!("{name}_bare") } else { name.to_owned() };
        let kind = if bare { "over bare sockets" } else { "of the client library" };
        match alone.iter().find(|(known, _)| known == kind) {
            None => {
                let median = after(said, "median").with_context(|| format!("no median in '{line}'"))?;
                let words = format!("one durable submit {kind}");
                let figure = Figure::new(&name("durable.one"), words, median, "ms", Better::Lower);
                figures.push(match (after(said, "floor"), after(said, "one sync")) {
                    (Some(floor), _) => {
                        figure.floor("one sync and one round trip", floor).bar(Against::Floor, 1.5)
                    }
                    (None, Some(sync)) => figure.floor("one sync", sync),
                    (None, None) => figure,
                });
                alone.push((kind.to_owned(), rate));
            }
            Some((_, one)) => {
                let words = format!("durable submits of {clients} clients {kind}");
                let figure =
                    Figure::new(&name(&format!("durable.{clients}")), words, rate, "1/s", Better::Higher)
                        .floor("one client", *one);
                figures.push(if clients == 64 { figure.bar(Against::Floor, 20.0) } else { figure });
            }
        }
    }
    anyhow::ensure!(!figures.is_empty(), "the measurement of durable submits told none");
    Ok(Told { figures, ..Told::default() })
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
    fn lines_of_durable_submits_become_figures() {
        let told = submits(
            "test acknowledged_submits_per_second ...   1 clients:    2242 submits/s, median   0.43 ms, 99 %   0.70 ms; one sync 0.10 ms before\n\
             64 clients:   14028 submits/s, median   3.80 ms\n\
               1 bare connections :    3000 submits/s, median 0.300 ms, 99 % 0.50 ms; floor 0.200 ms = one sync 0.150 + more\n\
             64 bare connections :   66000 submits/s, median 0.900 ms; floor 0.200 ms\nok\n",
        )
        .unwrap();
        let found: Vec<_> = told
            .figures
            .iter()
            .map(|figure| (figure.name.as_str(), figure.value, figure.bars.len()))
            .collect();
        assert_eq!(
            found,
            [
                ("durable.one", 0.43, 0),
                ("durable.64", 14_028.0, 1),
                ("durable.one_bare", 0.3, 1),
                ("durable.64_bare", 66_000.0, 1)
            ]
        );
        assert_eq!(told.figures[2].to_floor(), Some(0.3 / 0.2));
        assert_eq!(told.figures[3].to_floor(), Some(22.0));
        assert!(submits("nothing").is_err());
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
