//! `muster-rank PROGRAM [ARGUMENT...]`: pins a rank to its cores of the allocation, then becomes the program.
//!
//! Open MPI's daemons call it in front of each rank (`orte_fork_agent`, `odls_base_exec_agent`). It finds the rank's
//! number on this node in the launcher's variables, the CPUs in the attempt's file `binding` on this node, and sets
//! `MUSTER_RANK_CORES` to the node's declared numbers of the cores. A binding that the user asked of the launcher stays
//! if it lies within the allocation. Exit code 125: it could not do so.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use muster_mpi::{AttemptDir, Binding, LocalRank, MpiError, MpiKind, which_mpi};
use muster_topo::format_list;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, getppid};

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
        None => binding.of(local),
    };
    if variable("OMPI_COMM_WORLD_LOCAL_RANK").is_some() {
        refuse_other_mpi(&program)?;
    }
    pin(&place.cpus)?;
    let source =
        Command::new(&program).args(arguments).env("MUSTER_RANK_CORES", format_list(&place.cores)).exec();
    Err(MpiError::Exec { program: program.to_string_lossy().into_owned(), source })
}

/// Refuses a program that is linked with another MPI than the one that starts it. What cannot be told is let be: a
/// script, or an interpreter that loads its MPI later.
fn refuse_other_mpi(program: &OsStr) -> Result<(), MpiError> {
    let found = if program.as_bytes().contains(&b'/') {
        Some(PathBuf::from(program))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    };
    match found.map(|file| which_mpi(&file)) {
        Some(Ok(Some(MpiKind::Mpich))) => {
            Err(MpiError::WrongMpi { program: program.to_string_lossy().into_owned() })
        }
        _ => Ok(()),
    }
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
