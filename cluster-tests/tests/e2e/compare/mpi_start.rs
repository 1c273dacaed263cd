//! How long a program of 32 ranks on four nodes takes until the last rank has done `MPI_Init`: by direct launch, submit
//! included; by `mpirun` over plain SSH on the same hosts, which Muster has no part in; and by Slurm's `srun`, submit
//! included, where Slurm is installed.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::SystemTime;

use muster_cluster_tests::figures::{Better, Figure, Told, median};

use super::slurm::{self, Slurm};
use crate::support::Bench;

const NODES: usize = 4;
const RANKS_PER_NODE: u32 = 8;
const RANKS: usize = 32;
const SAMPLES: usize = 5;

/// Both MPIs: the folder of the programs, the launcher with its hosts, and what Slurm's `srun` is told.
const MPIS: [(&str, &str, &str); 2] = [
    ("ompi", "mpirun.openmpi --hostfile hosts.ompi -np 32", "--mpi=pmix"),
    ("mpich", "\"$MPICH_HOME/bin/mpiexec\" -f hosts.mpich -n 32", "--mpi=pmi2"),
];

/// What keeps 32 ranks on a machine with fewer cores from spinning against each other; Muster's jobs have it by themselves.
const YIELD: &str = "export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none \
                     OMPI_MCA_plm_rsh_no_tree_spawn=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
                     MPIR_CVAR_ENABLE_HEAVY_YIELD=1 HYDRA_LAUNCHER=ssh\n";

#[test]
#[ignore = "a measurement, for `make bench`"]
fn thirty_two_ranks() {
    let Some(bench) = Bench::up("mps", NODES, RANKS_PER_NODE) else { return };
    let names: Vec<String> = (1..=NODES).map(|node| format!("node{node:02}")).collect();
    for (file, separator) in [("hosts.ompi", " slots="), ("hosts.mpich", ":")] {
        let lines = names.iter().map(|name| format!("{name}{separator}{RANKS_PER_NODE}\n"));
        bench.write(file, &lines.collect::<String>());
    }
    let slurm = slurm::is_there().then(|| Slurm::start(&names, RANKS_PER_NODE));
    let mut times = vec![Vec::new(); 3 * MPIS.len()];
    for _ in 0..SAMPLES {
        for (place, mpi) in MPIS.iter().enumerate() {
            times[place].push(direct(&bench, mpi.0));
            times[MPIS.len() + place].push(plain(&bench, mpi.0, mpi.1));
            times[2 * MPIS.len() + place]
                .extend(slurm.as_ref().and_then(|slurm| by_slurm(&bench, slurm, mpi.0, mpi.2)));
        }
    }
    println!(
        "{SAMPLES} starts of {RANKS} ranks on {NODES} nodes, in turn; milliseconds until the last has done MPI_Init: \
         median (fastest, slowest)"
    );
    println!("{:40} {:>22} {:>22}", "", "Open MPI", "MPICH");
    let ways = [
        "submit, and direct launch in the job",
        "mpirun over SSH, without Muster",
        "Slurm: sbatch, and srun in the job",
    ];
    for (way, cells) in ways.into_iter().zip(times.chunks(MPIS.len())) {
        println!("{way:40} {:>22} {:>22}", cell(&cells[0]), cell(&cells[1]));
    }
    let ms =
        |place: usize| median(&times[place].iter().map(|micros| *micros as f64 / 1000.0).collect::<Vec<_>>());
    let figures = MPIS.iter().enumerate().map(|(place, (mpi, ..))| {
        let what = format!("{RANKS} ranks of {mpi} on {NODES} nodes, from the submit to the last MPI_Init");
        let mut figure =
            Figure::new(&format!("mpi.start_{mpi}"), what, ms(place).unwrap(), "ms", Better::Lower);
        for (peer, place) in ways[1..].iter().zip([MPIS.len() + place, 2 * MPIS.len() + place]) {
            if let Some(ms) = ms(place) {
                figure = figure.peer(*peer, ms);
            }
        }
        figure
    });
    Told { figures: figures.collect(), ..Told::default() }.print().unwrap();
}

fn cell(times: &[u64]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return "-".to_owned() };
    let ms = |micros: u64| micros as f64 / 1000.0;
    format!("{:.0} ({:.0}, {:.0})", ms(times[last / 2]), ms(times[0]), ms(times[last]))
}

fn direct(bench: &Bench, mpi: &str) -> u64 {
    let body = format!(
        "PATH=\"{}:$PATH\"\nmuster run \"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks {RANKS}\n",
        bench.site.staged.bin.display()
    );
    let before = SystemTime::now();
    let job = bench.submit(&["-N4", "--ntasks-per-node=8", "-t5"], &body);
    last_initialised(&bench.output(&bench.complete(job)), before)
}

/// Root alone may log in to the hosts, from the head.
fn plain(bench: &Bench, mpi: &str, launcher: &str) -> u64 {
    let script =
        format!("{YIELD}{launcher} \"$MUSTER_MPI_TASKS/{mpi}/rank-report\" --json --expect-ranks {RANKS}");
    let mut command = bench.site.cluster.exec("head", None).unwrap();
    command.args(["/usr/bin/env", "-C"]).arg(&bench.work).args(["/bin/bash", "-c", &script]);
    command.env("MUSTER_MPI_TASKS", &bench.site.staged.mpi_tasks).env("MPICH_HOME", &bench.site.staged.mpich);
    let before = SystemTime::now();
    last_initialised(&said(&command.stdin(Stdio::null()).output().unwrap()), before)
}

/// Slurm's nodes share this machine's network; it has no part in the virtual hosts. `None` where it does not
/// start them, and then it is printed what it said.
fn by_slurm(bench: &Bench, slurm: &Slurm, mpi: &str, wireup: &str) -> Option<u64> {
    let program = bench.site.staged.mpi_tasks.join(mpi).join("rank-report");
    let folder = tempfile::tempdir().unwrap();
    let (script, output) = (folder.path().join("start.sh"), folder.path().join("out"));
    let text =
        format!("#!/bin/bash\n{YIELD}srun {wireup} {} --json --expect-ranks {RANKS}\n", program.display());
    std::fs::write(&script, text).unwrap();
    let out = format!("-o{}", output.display());
    let before = SystemTime::now();
    let words = ["-W", "-N4", "--ntasks-per-node=8", "-t5", &out, script.to_str().unwrap()];
    let done = slurm.run("sbatch", &words);
    let text = std::fs::read_to_string(Path::new(&output)).unwrap_or_default();
    if !done.status.success() || !text.starts_with('{') {
        println!("Slurm's srun {wireup} did not start it: {}", text.lines().next().unwrap_or_default());
        return None;
    }
    Some(last_initialised(&text, before))
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The microseconds until the last rank had done `MPI_Init`; all hosts have one clock.
fn last_initialised(report: &str, before: SystemTime) -> u64 {
    let report: serde_json::Value =
        serde_json::from_str(report).unwrap_or_else(|error| panic!("{error} in {report}"));
    let ranks = report["rank"].as_array().unwrap();
    assert_eq!(ranks.len(), RANKS);
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
    ranks.iter().map(|rank| rank["initialised_us"].as_u64().unwrap()).max().unwrap() - before
}
