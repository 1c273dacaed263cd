//! One rank: its start, and the ends of its streams that the daemon holds.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};

use super::bound;
use super::image::Image;
use crate::frames::{Common, Place, RankUsage, Task};

/// How much of a rank's output is read at once.
const READ_BYTES: usize = 64 << 10;

/// The last signal's number (signal(7)).
const SIGNAL_MAX: i32 = 64;

/// A rank that was started.
#[derive(Debug)]
pub(super) struct Rank {
    pub number: u32,
    pub pid: i32,
    /// The CPUs that it was let run on when it became its program, if that is known.
    pub bound_to: Option<Vec<u32>>,
    /// As wait(2) says it.
    pub status: Option<i32>,
    /// What it has used, once it has ended.
    pub usage: RankUsage,
    /// Its end was told to the starter.
    pub told: bool,
    pub stdin: Option<Input>,
    pub stdout: Option<File>,
    pub stderr: Option<File>,
    /// The server's end of its PMI socket.
    pub pmi: Option<UnixStream>,
}

impl Rank {
    /// One that was not started, and counts as ended.
    pub fn over(number: u32, status: i32) -> Self {
        Self {
            number,
            pid: 0,
            bound_to: None,
            status: Some(status),
            usage: RankUsage::default(),
            told: false,
            stdin: None,
            stdout: None,
            stderr: None,
            pmi: None,
        }
    }
}

/// What goes into a rank.
#[derive(Debug)]
pub(super) struct Input {
    file: File,
    pending: VecDeque<u8>,
    ended: bool,
}

impl Input {
    fn new(file: File) -> std::io::Result<Self> {
        unblock(&file)?;
        Ok(Self { file, pending: VecDeque::new(), ended: false })
    }

    /// Puts bytes behind those that wait; none mean the end.
    pub fn put(&mut self, bytes: &[u8]) {
        self.ended |= bytes.is_empty();
        self.pending.extend(bytes);
    }

    pub fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes what the rank takes now. Says whether there is more to come.
    pub fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.file.write(self.pending.as_slices().0) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.ended
    }
}

/// What one read of a rank's output gave.
pub(super) enum Output {
    Bytes(Vec<u8>),
    NothingNow,
    End,
}

/// Reads what a rank has written.
pub(super) fn read_output(file: &mut File) -> Output {
    let mut part = vec![0; READ_BYTES];
    loop {
        match file.read(&mut part) {
            Ok(0) => return Output::End,
            Ok(count) => {
                part.truncate(count);
                return Output::Bytes(part);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Output::NothingNow,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A terminal whose last user has gone gives EIO.
            Err(_) => return Output::End,
        }
    }
}

/// Makes a descriptor that never waits.
fn unblock(file: &File) -> std::io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Everything about a start that is not in [`Task`] and [`Common`].
pub(super) struct Surroundings<'a> {
    pub common: &'a Common,
    /// The file of the program; `None` if there is none.
    pub program: Option<&'a Path>,
    /// The program's name and its arguments.
    pub words: &'a [String],
    /// Where the rank starts, which exists.
    pub directory: &'a Path,
    pub environment: Vec<(String, String)>,
    /// The kernel's CPUs that the rank may use; none: as the daemon.
    pub cpus: &'a [u32],
    /// Whether the rank gets a PMI socket.
    pub pmi: bool,
}

/// Why a rank was not started.
pub(super) enum Failed {
    /// Its program could not be run.
    Exec(std::io::Error),
    /// A file of its streams could not be opened.
    Stream(String, std::io::Error),
}

/// The ends of a rank's streams.
struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    terminal: bool,
}

/// Starts a rank.
pub(super) fn start(task: &Task, around: Surroundings<'_>) -> Result<Rank, Failed> {
    let common = around.common;
    let program = around.program.ok_or_else(|| Failed::Exec(std::io::ErrorKind::NotFound.into()))?;
    let mut command = Command::new(program);
    command.args(&around.words[1..]).env_clear().current_dir(around.directory);
    let terminal = common.terminal.filter(|_| task.rank == 0);
    let streams = match (terminal, common.terminal) {
        (Some((rows, columns)), _) => on_terminal(&mut command, rows, columns).map_err(Failed::Exec)?,
        (None, Some(_)) => connect(
            &mut command,
            &Task { stdin: Place::Null, stdout: Place::Null, stderr: Place::Null, ..task.clone() },
            common,
        )?,
        (None, None) => connect(&mut command, task, common)?,
    };
    let sockets = match around.pmi {
        true => Some(UnixStream::pair().map_err(Failed::Exec)?),
        false => None,
    };
    let pmi_fd = sockets.as_ref().map(|(_, theirs)| theirs.as_raw_fd());
    let mut environment = around.environment;
    environment.extend(pmi_fd.map(|fd| ("PMI_FD".to_owned(), fd.to_string())));
    let mut image = Image::new(program, around.words, &environment).map_err(Failed::Exec)?;
    command.envs(environment);
    let (asked, tell) = bound::ask().map_err(Failed::Exec)?;
    let own = Own {
        terminal: streams.terminal,
        pmi_fd,
        tell,
        cpus: cpu_set(around.cpus),
        umask: common.umask,
        limits: common.limits.clone(),
    };
    // SAFETY: what runs between fork and exec only calls the system, on memory that was made before.
    unsafe {
        command.pre_exec(move || {
            own.prepare()?;
            image.become_it()
        })
    };
    let child = command.spawn().map_err(Failed::Exec)?;
    drop(command);
    let pmi = sockets.map(|(ours, _)| ours);
    if let Some(socket) = &pmi {
        socket.set_nonblocking(true).map_err(Failed::Exec)?;
    }
    Ok(Rank {
        number: task.rank,
        pid: child.id().cast_signed(),
        bound_to: asked.answer(),
        status: None,
        usage: RankUsage::default(),
        told: false,
        stdin: streams.stdin.map(Input::new).transpose().map_err(Failed::Exec)?,
        stdout: streams.stdout,
        stderr: streams.stderr,
        pmi,
    })
}

/// Pipes and files for a rank without a terminal.
fn connect(command: &mut Command, task: &Task, common: &Common) -> Result<Streams, Failed> {
    let mut streams = Streams { stdin: None, stdout: None, stderr: None, terminal: false };
    command.stdin(match &task.stdin {
        Place::Starter => {
            let (theirs, ours) = pipe()?;
            streams.stdin = Some(ours);
            Stdio::from(theirs)
        }
        Place::File(path) => {
            Stdio::from(File::open(path).map_err(|error| Failed::Stream(path.clone(), error))?)
        }
        Place::Null | Place::Stdout => Stdio::null(),
    });
    let output = |place: &Place| -> Result<(Stdio, Option<File>), Failed> {
        Ok(match place {
            Place::Starter => {
                let (ours, theirs) = pipe()?;
                unblock(&ours).map_err(Failed::Exec)?;
                (Stdio::from(theirs), Some(ours))
            }
            Place::File(path) => (Stdio::from(output_file(path, common.append)?), None),
            Place::Null | Place::Stdout => (Stdio::null(), None),
        })
    };
    let same =
        task.stderr == Place::Stdout || (task.stderr == task.stdout && matches!(task.stdout, Place::File(_)));
    if let (true, Place::File(path)) = (same, &task.stdout) {
        let file = output_file(path, common.append)?;
        command.stderr(file.try_clone().map_err(Failed::Exec)?).stdout(file);
        return Ok(streams);
    }
    let (stdout, ours) = output(&task.stdout)?;
    command.stdout(stdout);
    streams.stdout = ours;
    let (stderr, ours) = output(if same { &task.stdout } else { &task.stderr })?;
    command.stderr(stderr);
    streams.stderr = ours;
    Ok(streams)
}

fn output_file(path: &str, append: bool) -> Result<File, Failed> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    let file = opened.map_err(|error| Failed::Stream(path.to_owned(), error))?;
    if !append && file.metadata().is_ok_and(|found| found.is_file()) {
        file.set_len(0).map_err(|error| Failed::Stream(path.to_owned(), error))?;
    }
    Ok(file)
}

fn pipe() -> Result<(File, File), Failed> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| Failed::Exec(error.into()))?;
    Ok((File::from(read), File::from(write)))
}

/// A terminal for a rank; both its output streams are read from one end.
fn on_terminal(command: &mut Command, rows: u16, columns: u16) -> std::io::Result<Streams> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    let close_on_exec = |fd: &OwnedFd| fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC));
    close_on_exec(&pair.master)?;
    close_on_exec(&pair.slave)?;
    let ours = File::from(pair.master);
    command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
    unblock(&ours)?;
    Ok(Streams { stdin: Some(ours.try_clone()?), stdout: Some(ours), stderr: None, terminal: true })
}

/// Tells a terminal its size.
pub(super) fn resize(terminal: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the structure is valid.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

fn cpu_set(cpus: &[u32]) -> Option<libc::cpu_set_t> {
    if cpus.is_empty() {
        return None;
    }
    // SAFETY: a CPU set of zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE.cast_unsigned()) {
        // SAFETY: the number is below the size of the set.
        unsafe { libc::CPU_SET(*cpu as usize, &mut set) };
    }
    Some(set)
}

/// What a process has used that was waited for.
pub(super) fn usage(used: &libc::rusage) -> RankUsage {
    let micros =
        |time: libc::timeval| u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or_default();
    let bytes = |units: libc::c_long, unit: u64| u64::try_from(units).unwrap_or_default() * unit;
    RankUsage {
        user_us: micros(used.ru_utime),
        system_us: micros(used.ru_stime),
        memory_peak_bytes: bytes(used.ru_maxrss, 1 << 10),
        read_bytes: bytes(used.ru_inblock, 512),
        written_bytes: bytes(used.ru_oublock, 512),
    }
}

/// What a rank does to itself before it becomes its program.
struct Own {
    terminal: bool,
    pmi_fd: Option<RawFd>,
    tell: bound::Tell,
    cpus: Option<libc::cpu_set_t>,
    umask: u32,
    limits: Vec<(u32, u64)>,
}

impl Own {
    /// Runs between fork and exec, and therefore calls the system only.
    fn prepare(&self) -> std::io::Result<()> {
        let check = |result: i32| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: all calls take numbers, or pointers to memory of this process that lives through them.
        unsafe {
            if self.terminal {
                check(libc::setsid())?;
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            } else {
                check(libc::setpgid(0, 0))?;
            }
            // Ranks do not outlive a daemon that is killed.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            for number in 1..=SIGNAL_MAX {
                libc::signal(number, libc::SIG_DFL);
            }
            // The daemon holds signals back, and a program inherits what is held.
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
            if let Some(set) = &self.cpus {
                check(libc::sched_setaffinity(
                    0,
                    std::mem::size_of::<libc::cpu_set_t>(),
                    std::ptr::from_ref(set),
                ))?;
            }
            self.tell.tell();
            for (resource, soft) in &self.limits {
                let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                // What this system does not know limits nothing here.
                if libc::getrlimit(*resource, &raw mut now) == 0 {
                    now.rlim_cur = (*soft).min(now.rlim_max);
                    libc::setrlimit(*resource, &raw const now);
                }
            }
            libc::umask(self.umask);
            if let Some(fd) = self.pmi_fd {
                check(libc::fcntl(fd, libc::F_SETFD, 0))?;
            }
        }
        Ok(())
    }
}
