//! How fast the batch service takes and finishes tasks through its own SDK, what that costs the controller, and how long a
//! filtered list of many tasks takes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::figures::{Better, Figure, Told};
use muster_cluster_tests::site::repository;
use serde_json::Value;

use crate::batch_site::{BatchSite, ENDPOINT};
use crate::checks::controller_cpu;

const NODES: usize = 1;
const SLOTS: u32 = 8;

pub fn run(tasks: usize, listed: usize, json: bool) -> Result<()> {
    ensure!(tasks > 0 && listed > 0, "at least one task is needed");
    let site = BatchSite::up("bben", NODES, SLOTS)?;
    let outcome = measure(&site, tasks, listed);
    let removed = site.down();
    let figures = outcome?;
    removed?;
    if json {
        Told { figures, ..Told::default() }.print()?;
    }
    Ok(())
}

fn measure(site: &BatchSite, tasks: usize, listed: usize) -> Result<Vec<Figure>> {
    println!(
        "{tasks} tasks that do nothing, through azure-batch 15.1 on one node of {SLOTS} slots; then {listed} tasks are listed"
    );
    let script = repository().join("cluster-tests/clients/batch/measure.py");
    let name = "measure.py";
    std::fs::copy(&script, site.work.join(name)).with_context(|| script.display().to_string())?;
    let python = sdk()?.join("sdk15/bin/python");
    let before = (memory_mib(site)?, controller_cpu(&site.site)?);
    let python = python.display();
    // The script's last line is an object of what it measured.
    let ran = |what: &str, count: usize| -> Result<Value> {
        let said = site.shell(&format!("{python} -B {name} {ENDPOINT} lab key {what} {count} {SLOTS}"))?;
        let (table, last) = said.trim_end().rsplit_once('\n').context("measure.py said less than a line")?;
        println!("{table}");
        serde_json::from_str(last).context("measure.py's last line is no object")
    };
    let finished = ran("finish", tasks)?;
    let after = (memory_mib(site)?, controller_cpu(&site.site)?);
    let each = (after.1 - before.1) * 1e6 / tasks as f64;
    println!(
        "{:34} {:>9.1} MiB, {:.1} MiB before; {each:.0} us of CPU time a task",
        "the controller's memory", after.0, before.0
    );
    let lists = ran("list", listed)?;
    println!("{:34} {:>9.1} MiB", "the controller's memory with them", memory_mib(site)?);
    let number =
        |of: &Value, key: &str| of[key].as_f64().with_context(|| format!("measure.py told no {key}"));
    let rate = |name: &str, what: String, key: &str| {
        Ok::<_, anyhow::Error>(Figure::new(name, what, number(&finished, key)?, "1/s", Better::Higher))
    };
    Ok(vec![
        rate("batch.added", format!("{tasks} tasks added through azure-batch"), "added_per_s")?,
        rate("batch.finished", format!("{tasks} tasks added and finished"), "finished_per_s")?,
        Figure::new("batch.controller", "CPU time of the controller for a task", each, "us", Better::Lower),
        Figure::new(
            "batch.list",
            format!("a list with a filter over {listed} tasks that finds ten"),
            number(&lists, "found_ms")?,
            "ms",
            Better::Lower,
        ),
    ])
}

fn sdk() -> Result<PathBuf> {
    let found = Command::new(repository().join(".ci/batch-clients.sh")).arg("--where").output()?;
    ensure!(found.status.success(), "the SDKs are missing: run .ci/batch-clients.sh as root");
    Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim()))
}

/// What the controller holds in memory (proc(5), `VmRSS`).
fn memory_mib(site: &BatchSite) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.site.controller_pid()?))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("the controller has no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
