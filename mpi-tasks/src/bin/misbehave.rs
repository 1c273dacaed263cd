//! Fails on demand, in the ways in which real MPI programs fail.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use muster_mpi_tasks::launch::{self, EXIT_TROUBLE, EXIT_USAGE};
use muster_mpi_tasks::report::Document;
use muster_mpi_tasks::{Error, Result, comm};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, execv, fork, setsid};
use serde::Serialize;

/// Let one rank misbehave while all others wait for it in a barrier.
///
/// Modes: `exit:N` leaves without MPI_Finalize; `abort:N` calls MPI_Abort; `segfault` dies of SIGSEGV; `hang`
/// sleeps and never reaches the barrier; `spin` computes and never reaches it; `oom` takes memory until it is
/// killed; `fork-away` leaves behind a process in a session of its own that ignores SIGTERM and sleeps for
/// 1000 seconds, then goes on and ends well.
/// Exit codes: 2 wrong command line, 3 the system refused, 4 oom was not killed; else as the mode says.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Options {
    /// Print one JSON document instead of one line, before the misbehaving.
    #[arg(long)]
    json: bool,
    /// What to do.
    #[arg(long, value_name = "MODE")]
    mode: Mode,
    /// The rank that does it.
    #[arg(long, value_name = "R", default_value_t = 0)]
    rank: usize,
    /// Milliseconds from the moment all ranks are up.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    after_ms: u64,
    /// Most memory that oom takes, in MiB, so that it does no harm where no limit is set.
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    oom_limit_mib: usize,
    /// fork-away writes the stray process's id into this file.
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
}

/// The exit code when oom met no memory limit.
const EXIT_NOT_KILLED: i32 = 4;
/// How long the stray process sleeps, in seconds.
const STRAY_SECONDS: &str = "1000";
/// The stray process's argument 0, by which tests find it.
const STRAY_NAME: &str = "misbehave-stray";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Exit(i32),
    Abort(i32),
    Segfault,
    Hang,
    ForkAway,
    Spin,
    Oom,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let code = |digits: &str| match digits.parse::<u8>() {
            Ok(code) => Ok(i32::from(code)),
            Err(_) => Err("an exit code is a number from 0 to 255"),
        };
        match text.split_once(':') {
            Some(("exit", digits)) => return code(digits).map(Self::Exit),
            Some(("abort", digits)) => return code(digits).map(Self::Abort),
            _ => {}
        }
        match text {
            "segfault" => Ok(Self::Segfault),
            "hang" => Ok(Self::Hang),
            "fork-away" => Ok(Self::ForkAway),
            "spin" => Ok(Self::Spin),
            "oom" => Ok(Self::Oom),
            _ => Err("should be exit:N, abort:N, segfault, hang, fork-away, spin or oom"),
        }
    }
}

#[derive(Serialize)]
struct Plan {
    mode: String,
    rank: usize,
    after_ms: u64,
}

fn system(call: &'static str) -> impl Fn(nix::Error) -> Error {
    move |errno| Error::System { call, source: errno.into() }
}

/// Dies of SIGSEGV, as by a wild pointer.
fn segfault() -> ! {
    // SAFETY: SIG_DFL runs no code of this program. The handlers of MPI and of the Rust runtime are taken away,
    // because a raised signal, unlike a real fault, is not repeated when a handler returns.
    let _ = unsafe { signal(Signal::SIGSEGV, SigHandler::SigDfl) };
    let _ = raise(Signal::SIGSEGV);
    // Only a blocked signal leads here.
    std::process::abort()
}

fn spin() -> ! {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Takes and touches memory until the kernel ends it, or the program's own limit is reached.
fn eat_memory(limit_mib: usize) -> ! {
    const MIB: usize = 1 << 20;
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..limit_mib {
        // Bytes other than zero: a page is real only when it is written.
        held.push(black_box(vec![0xa5; MIB]));
    }
    eprintln!("misbehave: took {} MiB and no memory limit struck", held.len());
    std::process::exit(EXIT_NOT_KILLED)
}

/// Forks twice into a session of its own, as a daemon does, and gives the stray process's id.
fn fork_away() -> Result<i32> {
    let io_error = |call| move |source| Error::System { call, source };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(|source| Error::File {
        action: "open",
        path: "/dev/null".into(),
        source,
    })?;
    let (mut pid_reader, pid_writer) = io::pipe().map_err(io_error("pipe"))?;
    let program = CString::new("/bin/sleep").expect("no zero byte in a literal");
    let arguments =
        [STRAY_NAME, STRAY_SECONDS].map(|word| CString::new(word).expect("no zero byte in a literal"));
    // SAFETY: the child only makes system calls until it ends or executes another program.
    match unsafe { fork() }.map_err(system("fork"))? {
        ForkResult::Parent { child } => {
            drop(pid_writer);
            waitpid(child, None).map_err(system("waitpid"))?;
            let mut bytes = [0; 4];
            pid_reader.read_exact(&mut bytes).map_err(io_error("fork"))?;
            Ok(i32::from_ne_bytes(bytes))
        }
        ForkResult::Child => {
            let _ = setsid();
            // SAFETY: as above; the first child ends without running any code of the parent's exit.
            if !matches!(unsafe { fork() }, Ok(ForkResult::Child)) {
                // SAFETY: `_exit` ends this process at once and touches nothing that is shared with the parent.
                unsafe { nix::libc::_exit(0) };
            }
            become_stray(&null, pid_writer, &program, &arguments)
        }
    }
}

/// The grandchild: ignores SIGTERM, tells its id, and sleeps under another name.
///
/// It lets go of all files, as daemons do, so that nothing but containment can find it. When it kept the rank's
/// files open, Hydra's mpiexec did not end.
fn become_stray(null: &File, mut pid: io::PipeWriter, program: &CString, arguments: &[CString]) -> ! {
    // SAFETY: SIG_IGN runs no code of this program; the kernel keeps it over execv.
    let _ = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
    let _ = dup2_stdin(null);
    let _ = dup2_stdout(null);
    let _ = dup2_stderr(null);
    let _ = pid.write_all(&nix::unistd::getpid().as_raw().to_ne_bytes());
    // SAFETY: what is closed is this process's own copy, and nothing uses it until execv or `_exit`.
    let _ = unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, 0) };
    let _ = execv(program, arguments);
    // SAFETY: `_exit` ends this process at once and touches nothing that is shared with the parent.
    unsafe { nix::libc::_exit(127) }
}

fn leave_stray(pid_file: Option<&Path>) -> Result<()> {
    let pid = fork_away()?;
    eprintln!("misbehave: left process {pid} behind");
    let Some(path) = pid_file else { return Ok(()) };
    std::fs::write(path, format!("{pid}\n")).map_err(|source| Error::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Does what was asked for; returns only after fork-away.
fn misbehave(world: &SimpleCommunicator, options: &Options) -> Result<()> {
    // The delay is part of what was asked for.
    std::thread::sleep(Duration::from_millis(options.after_ms));
    match options.mode {
        Mode::Exit(code) => std::process::exit(code),
        Mode::Abort(code) => world.abort(code),
        Mode::Segfault => segfault(),
        Mode::Hang => loop {
            std::thread::park();
        },
        Mode::Spin => spin(),
        Mode::Oom => eat_memory(options.oom_limit_mib),
        Mode::ForkAway => leave_stray(options.pid_file.as_deref()),
    }
}

fn main() -> ExitCode {
    let options: Options = match launch::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let (_universe, world) = comm::start();
    let (rank, ranks) = (comm::index(world.rank()), comm::index(world.size()));
    if options.rank >= ranks {
        if rank == 0 {
            eprintln!(
                "misbehave: there is no rank {} in a world of {ranks}: ranks count from 0",
                options.rank
            );
        }
        return ExitCode::from(EXIT_USAGE);
    }
    let mode = format!("{:?}", options.mode);
    if rank == 0 {
        let text = format!("rank {} of {ranks} will do {mode} in {} ms", options.rank, options.after_ms);
        let found = Plan { mode, rank: options.rank, after_ms: options.after_ms };
        let _ = Document { program: "misbehave", mpi_library: comm::library(), ranks, passed: true, found }
            .tell(options.json, &text);
    }
    world.barrier();
    if rank == options.rank
        && let Err(error) = misbehave(&world, &options)
    {
        eprintln!("misbehave: rank {rank}: {error}");
        world.abort(i32::from(EXIT_TROUBLE));
    }
    // A real barrier: the others wait here as the ranks of any program do, for ever if it must be.
    world.barrier();
    ExitCode::SUCCESS
}
