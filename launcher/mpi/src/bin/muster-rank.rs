//! `muster-rank PROGRAM [ARGUMENT...]`: pins a rank to its cores of the allocation, then becomes the program.
//!
//! Open MPI's daemons call it in front of each rank (`orte_fork_agent`, `odls_base_exec_agent`). It finds the rank's
//! number on this node in the launcher's variables, the CPUs in the attempt's file `binding` on this node, and sets
//! `MUSTER_RANK_CORES` to the node's declared numbers of the cores. A binding that the user asked of the launcher stays
//! if it lies within the allocation. Exit code 125: it could not do so.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use muster_mpi::asked::{OVERSUBSCRIBE_VARIABLE, find_program};
use muster_mpi::{AttemptDir, Binding, LocalRank, MpiError, MpiKind, OVERSUBSCRIBE_BY_US, which_mpi};
use muster_topo::format_list;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, getppid};

/// How long a rank that another one speaks for waits for its end by the launcher.
const ENDED_WITHIN: Duration = Duration::from_secs(30);

/// The exit code of failures of the starter itself, as `env` and `timeout` have it.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let Err(error) = become_rank();
    let mut message = format!("muster-rank: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        message.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    eprintln!("{message}");
    ExitCode::from(FAILED)
}

fn become_rank() -> Result<std::convert::Infallible, MpiError> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or_else(|| MpiError::Usage {
        problem: "no program is named".to_owned(),
        usage: "muster-rank PROGRAM [ARGUMENT...]",
    })?;
    let variable = |name: &str| std::env::var(name).ok();
    let folder = variable(AttemptDir::VARIABLE)
        .ok_or(MpiError::NoVariable { name: AttemptDir::VARIABLE, by: "the node's supervisor" })?;
    let local = LocalRank::from_variables(variable)
        .ok_or(MpiError::NoVariable { name: "OMPI_COMM_WORLD_LOCAL_RANK", by: "mpirun" })?;
    let path = AttemptDir::new(folder).binding();
    let text = std::fs::read_to_string(&path).map_err(|source| MpiError::File {
        doing: "read",
        path: path.clone(),
        source,
    })?;
    let binding = Binding::parse(&text, &path)?;
    let place = match bound_by_launcher().and_then(|bound| binding.bound_by_launcher(&bound)) {
        Some(place) => place,
        None if says("OMPI_MCA_hwloc_base_binding_policy", |policy| policy == "none") => binding.all(),
        None => binding.of(local),
    };
    if variable("OMPI_COMM_WORLD_LOCAL_RANK").is_some() {
        refuse_other_mpi(&program)?;
        refuse_too_many(local, binding.slots())?;
    }
    pin(&place.cpus)?;
    let source =
        Command::new(&program).args(arguments).env("MUSTER_RANK_CORES", format_list(&place.cores)).exec();
    Err(MpiError::Exec { program: program.to_string_lossy().into_owned(), source })
}

/// Refuses a program that is linked with another MPI than the one that starts it. What cannot be told is let be: a
/// script, or an interpreter that loads its MPI later.
fn refuse_other_mpi(program: &OsStr) -> Result<(), MpiError> {
    match find_program(&program.to_string_lossy()).map(|file| which_mpi(&file)) {
        Some(Ok(Some(MpiKind::Mpich))) if !is_first_of_program() => let_another_speak(),
        Some(Ok(Some(MpiKind::Mpich))) => Err(MpiError::WrongMpi {
            program: program.to_string_lossy().into_owned(),
            linked: "MPICH or a library of its kind",
            launcher: "Open MPI's mpirun",
            right: "that MPI's mpiexec",
        }),
        _ => Ok(()),
    }
}

/// Whether this is the first rank of its program; a launch may have several programs.
fn is_first_of_program() -> bool {
    let rank = std::env::var("OMPI_COMM_WORLD_RANK").unwrap_or_default();
    let first = std::env::var("OMPI_FIRST_RANKS").unwrap_or_else(|_| "0".to_owned());
    first.split_whitespace().any(|first| first == rank)
}

/// Refuses more ranks than the allocation has, in all or on this node, unless the user has said that they may be.
///
/// One rank speaks.
fn refuse_too_many(local: LocalRank, slots: usize) -> Result<(), MpiError> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let (Some(world), Some(ranks), Some(nodes), Some(count)) =
        (number("OMPI_COMM_WORLD_SIZE"), number("MUSTER_NTASKS"), number("MUSTER_NNODES"), local.count)
    else {
        return Ok(());
    };
    let in_all = world > ranks;
    if (!in_all && count as usize <= slots) || may_oversubscribe() {
        return Ok(());
    }
    let speaks = if in_all { number("OMPI_COMM_WORLD_RANK") == Some(0) } else { local.rank == 0 };
    if !speaks {
        let_another_speak();
    }
    Err(if in_all {
        MpiError::TooManyRanks { asked: world, ranks, nodes: nodes as usize }
    } else {
        MpiError::TooManyOnNode { asked: count, slots, ranks }
    })
}

/// Whether the user has said so: by Muster's variable, or to Open MPI 4.1, which hands its options on as variables.
fn may_oversubscribe() -> bool {
    says(OVERSUBSCRIBE_VARIABLE, |value| value == "1")
        || says("OMPI_MCA_rmaps_base_oversubscribe", |value| value != OVERSUBSCRIBE_BY_US && value != "0")
        || says("OMPI_MCA_rmaps_base_mapping_policy", |value| {
            value.to_ascii_lowercase().contains(":oversubscribe")
        })
}

fn says(name: &str, is: impl Fn(&str) -> bool) -> bool {
    std::env::var(name).is_ok_and(|value| is(&value))
}

/// Ends this rank with an error that another one says, once the launcher has ended it: it hears of that one first.
fn let_another_speak() -> ! {
    std::thread::sleep(ENDED_WITHIN);
    std::process::exit(i32::from(FAILED))
}

/// The CPUs that this process was bound to by its launcher: those that it may use, if they are fewer than its parent's.
fn bound_by_launcher() -> Option<Vec<u32>> {
    let cpus = |pid: Pid| -> Option<Vec<u32>> {
        let set = sched_getaffinity(pid).ok()?;
        Some(
            (0..CpuSet::count())
                .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
                .map(|cpu| cpu as u32)
                .collect(),
        )
    };
    let (own, parents) = (cpus(Pid::from_raw(0))?, cpus(getppid())?);
    (own.len() < parents.len()).then_some(own)
}

fn pin(cpus: &[u32]) -> Result<(), MpiError> {
    let refused = |source| MpiError::Pin { cpus: cpus.to_vec(), source };
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu as usize).map_err(refused)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(refused)
}
