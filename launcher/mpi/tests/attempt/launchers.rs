//! Real launchers, where they are installed, with the environment of an allocation and nothing else.

use std::path::Path;
use std::process::Command;

use crate::support::Attempt;
use muster_mpi::{
    Binding, RankfileCores, endpoint_environment, environment, hostfile_hydra, hostfile_openmpi,
    node_environment, rankfile_openmpi,
};
use muster_topo::{CoreMap, Topology};

/// An attempt with all the files of its primary.
fn attempt(hosts: &[&str], ranks: u32) -> Attempt {
    let attempt = Attempt::start(hosts, ranks, endpoint_environment);
    let (layout, dir) = (&attempt.layout, &attempt.layout.attempt_dir);
    let map = CoreMap::wrap(&Topology::discover().unwrap(), 64).unwrap();
    attempt.write(&dir.hostfile(), &hostfile_openmpi(&layout.instances));
    attempt.write(&dir.hostfile_hydra(), &hostfile_hydra(&layout.instances));
    attempt.write(&dir.rankfile(), &rankfile_openmpi(layout, RankfileCores::OfNode));
    let own = &layout.instances[0];
    let cpus = map.cpus_by_core(&own.cores, 0).unwrap();
    attempt.write(&dir.binding(), &Binding::for_instance(own, &cpus, 1, map.wraps()).to_text());
    attempt
}

fn launch(attempt: &Attempt, launcher: &str, words: &[&str]) -> Command {
    let mut command = attempt.command(launcher);
    command.envs(environment(&attempt.layout)).envs(node_environment(&attempt.layout, 0)).args(words);
    command
}

/// The lines of a launcher's output, sorted, and its exit code.
fn outcome(command: &mut Command) -> (Vec<String>, Option<i32>) {
    let output = command.output().unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (lines, output.status.code())
}

fn own_host() -> String {
    nix::unistd::gethostname().unwrap().into_string().unwrap()
}

#[test]
fn hydra_starts_its_proxies_through_the_shim() {
    let launcher = "/usr/bin/mpiexec.hydra";
    if !Path::new(launcher).exists() {
        return;
    }
    // Names that the resolver knows, and that are this machine's; the first is the node that the launcher runs on.
    let attempt = attempt(&["127.0.0.2", "127.0.0.3"], 2);
    let script = "echo $PMI_RANK $MPI_LOCALRANKID $PMI_SIZE ${SSH_CONNECTION:+remote}";
    let mut command = launch(&attempt, launcher, &["sh", "-c", script]);
    let (lines, code) = outcome(&mut command);
    assert_eq!(lines, ["0 0 4", "1 1 4", "2 0 4 remote", "3 1 4 remote"]);
    assert_eq!(code, Some(0));
}

#[test]
fn open_mpi_runs_a_single_node_task() {
    let launcher = "/usr/bin/mpirun.openmpi";
    if !Path::new(launcher).exists() {
        return;
    }
    let host = own_host();
    let script = "echo $OMPI_COMM_WORLD_RANK $OMPI_COMM_WORLD_SIZE $MUSTER_RANK_CORES";
    for (ranks, expected) in [(1, vec!["0 1 0"]), (3, vec!["0 3 0", "1 3 1", "2 3 2"])] {
        let attempt = attempt(&[&host], ranks);
        let (lines, code) = outcome(&mut launch(&attempt, launcher, &["sh", "-c", script]));
        assert_eq!((lines, code), (expected.into_iter().map(str::to_owned).collect(), Some(0)));
    }
}

#[test]
fn hydra_runs_a_single_node_task() {
    let launcher = "/usr/bin/mpiexec.hydra";
    if !Path::new(launcher).exists() {
        return;
    }
    let attempt = attempt(&[&own_host()], 1);
    let (lines, code) = outcome(&mut launch(&attempt, launcher, &["sh", "-c", "echo $PMI_RANK $PMI_SIZE"]));
    assert_eq!((lines, code), (vec!["0 1".to_owned()], Some(0)));
}
