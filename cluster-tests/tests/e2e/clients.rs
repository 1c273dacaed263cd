//! Programs that people drive Slurm with, unmodified and at pinned versions (`cluster-tests/clients/`), through the faces:
//! each runs real work from the head node, all at the same time. `MUSTER_TEST_CLIENT=submitit` runs one of them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_cluster_tests::site::repository;

use crate::support::{ANN, Bench};

/// How long all of them may take together, in seconds.
const ALL_WITHIN_S: u32 = 240;

/// A client: its name, and how it is run in a folder of its own; `$CLIENTS` has its files, `$P` Python's programs.
const CLIENTS: [(&str, &str); 6] = [
    ("submitit", "$P/python $CLIENTS/submitit_client.py"),
    ("dask-jobqueue", "$P/python $CLIENTS/dask_client.py"),
    ("parsl", "PATH=$P:$PATH $P/python $CLIENTS/parsl_client.py"),
    ("psij", "$P/python $CLIENTS/psij_client.py"),
    (
        "reframe",
        "$P/python $P/reframe --prefix=$PWD -C $CLIENTS/reframe/settings.py -c $CLIENTS/reframe/checks.py -r",
    ),
    (
        "snakemake",
        "cp $CLIENTS/snakemake/Snakefile . && PATH=$P:$PATH $P/python -m snakemake --executor slurm --jobs 3 \
         --latency-wait 20 --slurm-init-seconds-before-status-checks 3 \
         --default-resources slurm_partition=main mem_mb=700 runtime=3 && grep -qx 60 sum.txt",
    ),
];

/// Where `.ci/clients.sh` has put Python and the clients.
fn programs() -> PathBuf {
    let found = Command::new(repository().join(".ci/clients.sh")).arg("--where").output().unwrap();
    assert!(found.status.success(), "the Python clients are missing: run .ci/clients.sh as root");
    Path::new(String::from_utf8(found.stdout).unwrap().trim()).join("bin")
}

fn run(bench: &Bench, faces: &Path, name: &str, line: &str) -> Output {
    let folder = bench.work.join(name);
    let made = bench.shell(faces, &bench.work, &format!("mkdir -p {name}")).status().unwrap();
    assert!(made.success());
    let hosts = &bench.site.cluster.state().hosts;
    let address = hosts.iter().find(|host| host.name == "head").unwrap().address;
    let mut command = bench.shell(faces, &folder, line);
    command
        .env("P", programs())
        .env("CLIENTS", bench.work.join("clients"))
        .env("HEAD_ADDRESS", address.to_string())
        .env("HOME", bench.work.parent().unwrap())
        // Files of the clients are of the test's folder, and its own modules are not to be compiled there.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command.output().unwrap()
}

#[test]
fn clients_of_slurm_run_their_work_unmodified() {
    let Some(bench) = Bench::up("cl", 2, 8) else { return };
    let faces = bench.make_faces();
    // A clone may lie where only root may look.
    let copied = Command::new("cp")
        .arg("-r")
        .arg(repository().join("cluster-tests/clients"))
        .arg(&bench.work)
        .status();
    assert!(copied.unwrap().success());
    let outputs: Vec<(&str, Output)> = std::thread::scope(|scope| {
        let only = std::env::var("MUSTER_TEST_CLIENT").ok();
        let wanted = CLIENTS.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name));
        let runs: Vec<_> = wanted
            .map(|(name, line)| {
                let line = format!("timeout {ALL_WITHIN_S} bash -c '{line}'");
                (
                    name,
                    scope.spawn({
                        let (bench, faces) = (&bench, &faces);
                        move || run(bench, faces, name, &line)
                    }),
                )
            })
            .collect();
        runs.into_iter().map(|(name, run)| (name, run.join().unwrap())).collect()
    });
    let mut failed = Vec::new();
    for (name, output) in &outputs {
        if !output.status.success() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            println!("==== {name}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
            let tell = "sacct -D -o JobID%20,JobName,State,ExitCode,NodeList; \
                        find . -type f -size -8k \\( -name '*.sh' -o -name '*log*' -o -name '*.out' \\) -exec tail -n +1 {} +";
            let told = bench.shell(&faces, &bench.work.join(name), tell).output().unwrap();
            println!("---- its jobs and files\n{}\n{}", text(&told.stdout), text(&told.stderr));
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} did not do their work for {ANN}");
    bench.await_clean(&["node01", "node02"]);
}
