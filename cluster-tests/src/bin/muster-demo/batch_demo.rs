//! The scenario of the batch service in its seven steps, by the commands that people type: a film, and an MPI program.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::site::repository;

use crate::batch_site::BatchSite;
use crate::story::Story;

/// Frames of the film, as its job file says.
const FRAMES: usize = 24;

pub fn run(out: &Path) -> Result<()> {
    ensure!(
        Path::new("/usr/bin/povray").exists(),
        "the film is rendered by povray: run .ci/deps.sh --demo as root"
    );
    let mut story = Story::new();
    let started = Instant::now();
    let site = BatchSite::up("bdem", 3, 4)?;
    story.step("3 hosts, a controller with the batch service and its store, 3 agents", started.elapsed());
    let outcome =
        film(&site, &mut story).and_then(|()| heat(&site, &mut story)).and_then(|()| fetch(&site, out));
    let removed = site.down();
    outcome?;
    removed?;
    story.summary();
    println!("\nThe film is {}, its frames are beside it.", out.join("film/film.png").display());
    Ok(())
}

/// Types a command, and shows what it says.
fn type_in(site: &BatchSite, story: &mut Story, what: &str, line: &str) -> Result<String> {
    println!("\n$ {line}");
    let started = Instant::now();
    let said = site.shell(line)?;
    print!("{said}");
    story.step(what, started.elapsed());
    Ok(said)
}

fn film(site: &BatchSite, story: &mut Story) -> Result<()> {
    for name in ["film.toml", "film.pov", "animate.py", "grow.autoscale", "heat.yaml"] {
        let from = repository().join("configs/jobs").join(name);
        std::fs::copy(&from, site.work.join(name)).with_context(|| from.display().to_string())?;
    }
    story.headline("A film of 24 frames");
    type_in(
        site,
        story,
        "what the job file stands for",
        "muster batch job submit film.toml --dry-run | tail -4",
    )?;
    type_in(
        site,
        story,
        "inputs and application uploaded, the job made, its 25 tasks added",
        "muster batch job submit film.toml",
    )?;
    type_in(
        site,
        story,
        "a pool that scales itself by what waits",
        "muster batch pool create farm --class main --slots 4 --formula-file grow.autoscale --wait",
    )?;
    let watched = type_in(
        site,
        story,
        "frames rendered on the nodes, and merged",
        "muster batch job wait film && muster batch job show film && muster batch task list film --limit 5",
    )?;
    ensure!(watched.contains(&format!("{} tasks succeeded, 0 failed", FRAMES + 1)), "frames are missing");
    type_in(
        site,
        story,
        "the pool gives its nodes back, for nothing waits",
        "muster batch pool autoscale farm --formula-file grow.autoscale && muster batch pool wait farm",
    )?;
    type_in(site, story, "the film fetched", "muster batch job download film film && ls film")?;
    type_in(site, story, "cleaned up", "muster batch job delete film && muster batch pool delete farm")?;
    Ok(())
}

fn heat(site: &BatchSite, story: &mut Story) -> Result<()> {
    story.headline("The heat equation by MPI, on two nodes at once");
    let program = site.site.staged.mpi_tasks.join("ompi/stencil");
    std::fs::copy(&program, site.work.join("stencil")).with_context(|| program.display().to_string())?;
    let line = "muster batch job submit heat.yaml --download heat && cat heat/table.txt";
    let said = type_in(site, story, "two sizes solved and put together", line)?;
    ensure!(said.matches(" 0 cells differ").count() == 2, "the parallel result is not the serial one");
    Ok(())
}

/// Copies the results out of the cluster.
fn fetch(site: &BatchSite, out: &Path) -> Result<()> {
    let frames = std::fs::read_dir(site.work.join("film/frames"))?.count();
    ensure!(frames == FRAMES, "there are {frames} frames rather than {FRAMES}");
    for folder in ["film", "heat"] {
        copy(&site.work.join(folder), &out.join(folder))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
