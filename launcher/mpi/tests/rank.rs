//! The rank starter, as a launcher's daemon calls it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use muster_mpi::{AttemptDir, Binding, RankBinding};
use muster_topo::{format_list, parse_list};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const REPORT: &str = "grep Cpus_allowed_list /proc/self/status; echo cores $MUSTER_RANK_CORES; exit 6";

/// The CPUs that this process may use.
fn allowed() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap()).unwrap()
}

/// An attempt on this machine with two slots, the first on its first CPU and the second on its last.
fn attempt() -> (tempfile::TempDir, [u32; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let cpus = [*allowed().first().unwrap(), *allowed().last().unwrap()];
    let slot = |cpu, core| RankBinding { cpus: vec![cpu], cores: vec![core] };
    let binding = Binding::new(vec![slot(cpus[0], 4), slot(cpus[1], 5)]);
    std::fs::write(AttemptDir::new(folder.path()).binding(), binding.to_text()).unwrap();
    (folder, cpus)
}

fn starter(folder: &tempfile::TempDir, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster-rank"));
    command.args(["sh", "-c", REPORT]).env(AttemptDir::VARIABLE, folder.path());
    command.envs(variables.iter().copied());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(output: &Output, cpus: &[u32], cores: &str) {
    let expected = format!("Cpus_allowed_list:\t{}\ncores {cores}\n", format_list(cpus));
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(6), "the starter becomes the program");
}

#[test]
fn a_rank_runs_on_its_slot() {
    let (folder, cpus) = attempt();
    let two = ("OMPI_COMM_WORLD_LOCAL_SIZE", "2");
    let second = starter(&folder, &[("OMPI_COMM_WORLD_LOCAL_RANK", "1"), two]).output().unwrap();
    expect(&second, &cpus[1..], "5");
    let third = starter(&folder, &[("MPI_LOCALRANKID", "2"), ("MPI_LOCALNRANKS", "3")]).output().unwrap();
    expect(&third, &cpus[..1], "4");
    let only = starter(&folder, &[("PMI_LOCAL_RANK", "0"), ("PMI_LOCAL_SIZE", "1")]).output().unwrap();
    expect(&only, &cpus, "4-5");
}

#[test]
fn a_binding_that_the_user_asked_for_stays() {
    let (folder, cpus) = attempt();
    if cpus[0] == cpus[1] {
        return;
    }
    let mut command = starter(&folder, &[("OMPI_COMM_WORLD_LOCAL_RANK", "0")]);
    let mut set = CpuSet::new();
    set.set(cpus[1] as usize).unwrap();
    // SAFETY: between fork and exec only sched_setaffinity is called, which is async-signal-safe.
    unsafe { command.pre_exec(move || Ok(sched_setaffinity(Pid::from_raw(0), &set)?)) };
    expect(&command.output().unwrap(), &cpus[1..], "5");
}

#[test]
fn what_is_missing_is_named() {
    let (folder, _) = attempt();
    let no_rank = starter(&folder, &[]).output().unwrap();
    assert_eq!(no_rank.status.code(), Some(125));
    assert!(
        text(&no_rank.stderr).contains("OMPI_COMM_WORLD_LOCAL_RANK is not set"),
        "{}",
        text(&no_rank.stderr)
    );
    let rank = ("OMPI_COMM_WORLD_LOCAL_RANK", "0");
    std::fs::remove_file(AttemptDir::new(folder.path()).binding()).unwrap();
    let no_file = starter(&folder, &[rank]).output().unwrap();
    assert_eq!(no_file.status.code(), Some(125));
    assert!(text(&no_file.stderr).contains("/binding: No such file"), "{}", text(&no_file.stderr));
    std::fs::write(
        AttemptDir::new(folder.path()).binding(),
        "MUSTER_RANK_CPUS=1000\nMUSTER_RANK_CORES_ALL=0\n",
    )
    .unwrap();
    let no_cpu = starter(&folder, &[rank]).output().unwrap();
    assert!(text(&no_cpu.stderr).contains("cannot pin this rank to CPUs `1000`"), "{}", text(&no_cpu.stderr));
}
