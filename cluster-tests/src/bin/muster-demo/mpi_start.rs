//! How long a program of 32 ranks on four nodes takes until all ranks have done `MPI_Init`: by direct launch, and by
//! `mpirun` over plain SSH on the same hosts, which Muster has no part in.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::HEAD;
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks;

const USER: &str = "ann";
const NODES: usize = 4;
const RANKS_PER_NODE: u32 = 8;
const RANKS: usize = 32;
const JOB_LIMIT: Duration = Duration::from_secs(120);

/// How the ranks are started.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A job whose script says `muster run`.
    Direct,
    /// `mpirun` over SSH, without a job.
    Plain,
}

const WAYS: [(Way, &str); 2] =
    [(Way::Direct, "submit, and direct launch in the job"), (Way::Plain, "mpirun over SSH, without Muster")];

/// Both MPIs: the folder of the programs, and the launcher.
const MPIS: [(&str, &str); 2] = [
    ("ompi", "mpirun.openmpi --hostfile hosts -np 32"),
    ("mpich", "\"$MPICH_HOME/bin/mpiexec\" -f hosts -n 32"),
];

/// What keeps 32 ranks on a machine with fewer cores from spinning against each other; jobs have it by themselves.
const YIELD: &str = "export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none \
                     OMPI_MCA_plm_rsh_no_tree_spawn=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 MPIR_CVAR_ENABLE_HEAVY_YIELD=1 HYDRA_LAUNCHER=ssh\n";

pub fn run(samples: usize) -> Result<()> {
    ensure!(samples > 0, "at least one sample is needed");
    let name = format!("qms{}", std::process::id() % 10_000);
    let site = Site::up(&SiteOptions::new(&name, NODES, RANKS_PER_NODE)?)?;
    let work = checks::user_directory(&site, USER)?;
    let hosts = |separator| {
        (1..=NODES).map(|node| format!("node{node:02}{separator}{RANKS_PER_NODE}\n")).collect::<String>()
    };
    println!(
        "{samples} starts of 32 ranks on {NODES} nodes, in turn; milliseconds until all ranks have done MPI_Init: \
         median (fastest, slowest)"
    );
    println!("{:40} {:>26} {:>26}", "", "Open MPI", "MPICH");
    let mut all = vec![Vec::new(); WAYS.len() * MPIS.len()];
    for _ in 0..samples {
        for (place, times) in all.iter_mut().enumerate() {
            let (way, (mpi, launcher)) = (WAYS[place / MPIS.len()].0, MPIS[place % MPIS.len()]);
            std::fs::write(work.join("hosts"), hosts(if mpi == "ompi" { " slots=" } else { ":" }))?;
            times.push(sample(&site, &work, way, mpi, launcher)?);
        }
    }
    for (row, (_, what)) in WAYS.iter().enumerate() {
        let cell = |mpi: usize| {
            let mut times = all[row * MPIS.len() + mpi].clone();
            times.sort_unstable();
            let ms = |micros: u64| micros as f64 / 1000.0;
            let last = times.len() - 1;
            format!("{:.0} ({:.0}, {:.0})", ms(times[last / 2]), ms(times[0]), ms(times[last]))
        };
        println!("{what:40} {:>26} {:>26}", cell(0), cell(1));
    }
    site.down()?;
    Ok(())
}

/// One start, in microseconds.
fn sample(site: &Site, work: &Path, way: Way, mpi: &str, launcher: &str) -> Result<u64> {
    let bin = site.staged.bin.display();
    let path = format!("PATH={bin}:$PATH\n");
    let program = format!("\"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks {RANKS}");
    let launch = match way {
        Way::Direct => format!("muster run {program}"),
        Way::Plain => format!("{YIELD}{launcher} {program}"),
    };
    let script = format!("#!/bin/bash\n{path}{launch}\n");
    let before = micros(SystemTime::now())?;
    let text = match way {
        Way::Direct => {
            std::fs::write(work.join("start.sh"), script)?;
            let job = site.submit(USER, work, &["-N4", "--ntasks-per-node=8", "-t5", "start.sh"])?;
            let detail = site.wait(job, JOB_LIMIT)?;
            ensure!(checks::all_completed(&detail), "{}", checks::complaint(&detail));
            let task = detail.task_list.first().context("the job has no task")?;
            std::fs::read_to_string(&task.stdout_path)?
        }
        Way::Plain => {
            // Root alone may log in to the hosts, from there.
            let mut command = site.cluster.exec(HEAD, None)?;
            command.args(["/usr/bin/env", "-C"]).arg(work).args(["/bin/bash", "-c", &script]);
            command.env("MUSTER_MPI_TASKS", &site.staged.mpi_tasks).env("MPICH_HOME", &site.staged.mpich);
            let output = command.stdin(std::process::Stdio::null()).output()?;
            let complaint = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{mpi} by {way:?}: {}: {complaint}", output.status);
            String::from_utf8(output.stdout)?
        }
    };
    last_initialised(&text).map(|done| done.saturating_sub(before))
}

/// When the last rank had done `MPI_Init`, in microseconds since 1970: the hosts of a virtual cluster have one clock.
fn last_initialised(report: &str) -> Result<u64> {
    let report: serde_json::Value =
        serde_json::from_str(report).with_context(|| format!("no report in {report:?}"))?;
    let ranks = report["rank"].as_array().context("the report has no ranks")?;
    ensure!(ranks.len() == RANKS, "{} ranks reported instead of {RANKS}", ranks.len());
    ranks.iter().map(|rank| rank["initialised_us"].as_u64()).max().flatten().context("a rank says no time")
}

fn micros(time: SystemTime) -> Result<u64> {
    Ok(u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}
