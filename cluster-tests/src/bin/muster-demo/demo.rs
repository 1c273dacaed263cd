//! The demo on a virtual cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use muster_client::api::JobDetail;
use muster_cluster_tests::site::{Site, SiteOptions, repository};
use muster_core::ids::{JobId, JobRef};

use crate::checks;
use crate::story::{Story, progress};

/// The ordinary user who submits. Known only inside the cluster.
const USER: &str = "ann";
const NODES: usize = 4;
const CORES: u32 = 8;
const ARRAY_TASKS: u64 = 200;
const SAMPLES_PER_TASK: u64 = 1_000_000;
/// How long everything together may run.
const RUN_LIMIT: Duration = Duration::from_secs(300);

pub fn run() -> Result<()> {
    let mut story = Story::new();
    println!(
        "Muster: {NODES} hosts, one controller, agents over SSH; then MPI gangs next to {ARRAY_TASKS} tasks."
    );
    story.headline("The cluster comes up");
    let name = format!("demo{}", std::process::id() % 10_000);
    let site = Site::up(&SiteOptions::new(&name, NODES, CORES)?)?;
    let times = site.up_times;
    story.step(format!("{NODES} hosts with their own sshd"), times.hosts);
    story.step("the controller with its journal", times.controller);
    story.step(format!("{NODES} agents copied and started over SSH"), times.agents);
    let outcome = play(&site, &mut story);
    let started = Instant::now();
    let removed =
        site.down().context("the cluster could not be removed").and_then(|()| checks::nothing_left(&name));
    // What went wrong first is what the reader must know first.
    outcome?;
    removed?;
    story.step("everything removed", started.elapsed());
    story.summary();
    println!("\nAll went as it should.");
    Ok(())
}

/// Which jobs the demo submits.
struct Jobs {
    open_mpi: JobId,
    mpich: JobId,
    array: JobId,
}

fn play(site: &Site, story: &mut Story) -> Result<()> {
    let work = checks::user_directory(site, USER)?;
    let started = Instant::now();
    story.headline("Jobs are submitted, as an ordinary user");
    let jobs = submit(site, &work)?;
    story.step("3 jobs submitted: 2 MPI gangs on 4 nodes each, 1 array of 200 tasks", started.elapsed());
    let mut details = await_all(site, &[jobs.open_mpi, jobs.mpich, jobs.array])?;
    story.step("all of them finished", started.elapsed());
    let reports = submit_reports(site, &work)?;
    details.extend(await_all(site, &reports)?);

    story.headline("The queue's history");
    print!("{}", muster(site, &work, &["queue", "--all"])?);
    story.headline("Results, checked");
    for (id, which) in [(jobs.open_mpi, "Open MPI"), (jobs.mpich, "MPICH")] {
        let detail = detail_of(&details, id)?;
        println!("  {which}: {}", checks::stencil(detail)?);
        story.step(
            format!("stencil on 4 nodes with {which}, from submit to end"),
            checks::whole_time(detail)?,
        );
    }
    let pi = checks::pi(&work, jobs.array, ARRAY_TASKS, SAMPLES_PER_TASK)?;
    println!("  array: {ARRAY_TASKS} tasks counted {SAMPLES_PER_TASK} samples each, pi = {pi:.6}");
    story.step(
        "array of 200 tasks, from submit to end",
        checks::whole_time(detail_of(&details, jobs.array)?)?,
    );
    let shares = checks::no_core_twice(&details)?;
    println!("  cores: {shares} shares of nodes were held, no core by two tasks at the same instant");
    for id in reports {
        let ranks = checks::pinning(detail_of(&details, id)?)?;
        println!(
            "  layout: {ranks} ranks of job {id} ran on the nodes and cores that were allocated to them"
        );
    }
    story.headline("Which rank ran where");
    for id in [jobs.open_mpi, jobs.mpich] {
        print!("{}", muster(site, &work, &["layout", &id.to_string()])?);
    }
    Ok(())
}

/// Puts scripts of the MPI programs' folder into the user's directory, as they are.
fn place(work: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let script = repository().join("mpi-tasks/jobs").join(name);
        std::fs::copy(&script, work.join(name))
            .with_context(|| format!("{} cannot be copied", script.display()))?;
    }
    Ok(())
}

fn submit(site: &Site, work: &Path) -> Result<Jobs> {
    place(work, &["stencil-openmpi.sh", "stencil-mpich.sh", "pi-array.sh"])?;
    let elements = format!("--array=0-{}", ARRAY_TASKS - 1);
    Ok(Jobs {
        open_mpi: site.submit(USER, work, &["stencil-openmpi.sh"])?,
        mpich: site.submit(USER, work, &["stencil-mpich.sh"])?,
        array: site.submit(USER, work, &[&elements, "pi-array.sh"])?,
    })
}

/// Gangs in which every rank says where it runs.
fn submit_reports(site: &Site, work: &Path) -> Result<[JobId; 2]> {
    place(work, &["report-openmpi.sh", "report-mpich.sh"])?;
    Ok([site.submit(USER, work, &["report-openmpi.sh"])?, site.submit(USER, work, &["report-mpich.sh"])?])
}

/// Waits for all jobs; on a terminal, shows how many tasks have finished.
fn await_all(site: &Site, ids: &[JobId]) -> Result<Vec<JobDetail>> {
    let bar = progress(if ids.len() > 2 { ARRAY_TASKS + 2 } else { ids.len() as u64 });
    let mut client = site.client()?;
    let until = Instant::now() + RUN_LIMIT;
    let mut details = Vec::new();
    let mut finished_before = 0;
    for &id in ids {
        let left = until.saturating_duration_since(Instant::now());
        let detail = client.watch_finished(JobRef { job: id, task: None }, Some(left), |detail| {
            let finished: u64 =
                detail.summary.tasks.iter().filter(|(state, _)| state.is_finished()).map(|(_, n)| n).sum();
            bar.set_position(finished_before + finished);
            bar.set_message(format!("job {id}"));
        })?;
        let Some(detail) = detail else { bail!("job {id} had not ended after {} s", RUN_LIMIT.as_secs()) };
        finished_before += detail.summary.tasks.values().sum::<u64>();
        ensure!(checks::all_completed(&detail), "job {id} did not complete: {}", checks::complaint(&detail));
        details.push(detail);
    }
    bar.finish_and_clear();
    Ok(details)
}

fn detail_of(details: &[JobDetail], id: JobId) -> Result<&JobDetail> {
    details.iter().find(|detail| detail.summary.job == id.0).context("a job of the demo is missing")
}

fn muster(site: &Site, work: &Path, args: &[&str]) -> Result<String> {
    let output = site.run(USER, work, args)?;
    ensure!(
        output.status.success(),
        "muster {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
