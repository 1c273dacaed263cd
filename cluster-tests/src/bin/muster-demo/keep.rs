//! A cluster that stays up, for people to try things on.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::site::{Site, SiteOptions};
use muster_cluster_tests::{ClusterOptions, VirtualCluster, require_root};

/// The name of the one cluster that `make cluster` keeps.
const NAME: &str = "muster";

pub fn up(nodes: usize, cpus: u32, env_file: &Path) -> Result<()> {
    require_root()?;
    ensure!(cpus > 0, "a node needs at least one core: --cpus 1 or more");
    ensure!(
        VirtualCluster::attach(NAME).is_err(),
        "a cluster is up already: source {} to use it, `make cluster-down` to remove it",
        env_file.display()
    );
    let mut options = SiteOptions::new(NAME, nodes, cpus)?;
    options.cluster = ClusterOptions { hosts: nodes, ..ClusterOptions::named(NAME) };
    let site = Site::up(&options)?;
    let env = format!(
        "# Puts Muster's commands on the path of this shell: source this file.\n\
         export PATH={bin:?}:\"$PATH\"\nexport MUSTER_SOCKET={socket:?}\n\
         export MUSTER_MPI_TASKS={tasks:?}\nexport MPICH_HOME={mpich:?}\n",
        bin = site.staged.bin,
        socket = site.socket(),
        tasks = site.staged.mpi_tasks,
        mpich = site.staged.mpich,
    );
    if let Some(dir) = env_file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    std::fs::write(env_file, env).with_context(|| format!("{} cannot be written", env_file.display()))?;
    let times = site.up_times;
    println!(
        "{nodes} nodes of {cpus} cores are up ({:.1} s hosts, {:.1} s controller, {:.1} s agents).",
        times.hosts.as_secs_f64(),
        times.controller.as_secs_f64(),
        times.agents.as_secs_f64()
    );
    println!("source {}", env_file.display());
    site.keep()?;
    Ok(())
}

pub fn down(env_file: &Path) -> Result<()> {
    require_root()?;
    VirtualCluster::remove(NAME)?;
    let state = muster_cluster_tests::site::repository().join("target/sites").join(NAME);
    for (path, removed) in
        [(state.as_path(), std::fs::remove_dir_all(&state)), (env_file, std::fs::remove_file(env_file))]
    {
        if let Err(error) = removed {
            let absent = error.kind() == std::io::ErrorKind::NotFound;
            ensure!(absent, "{} cannot be removed: {error}", path.display());
        }
    }
    println!("The cluster is gone.");
    Ok(())
}
