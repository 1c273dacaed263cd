//! Starting a process inside an attempt's containment, as the attempt's user.
//!
//! The child enters its cgroups before it becomes the program, or is born there, so no process of an attempt is ever outside. What
//! the child does until its exec allocates nothing and calls the system only.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::clone;
use super::starter::Starter;
use crate::containment::Entrances;
use crate::error::{NodeError, Result};
use crate::user::Account;

/// What the child does between fork and exec, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A session of its own.
    Session,
    /// Entering the cgroups.
    Containment,
    /// Entering the container.
    Container,
    /// Binding to the instance's CPUs.
    Affinity,
    /// Lowering or raising a soft limit.
    Limit,
    /// Becoming the user.
    Identity,
    /// Entering the working directory.
    Directory,
    /// Opening standard input.
    Stdin,
    /// Opening standard output.
    Stdout,
    /// Opening standard error.
    Stderr,
    /// Becoming the program.
    Exec,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Session => "making a session",
            Self::Containment => "entering the cgroups",
            Self::Container => "entering the container",
            Self::Affinity => "binding to the cores",
            Self::Limit => "setting a resource limit",
            Self::Identity => "becoming the user",
            Self::Directory => "entering the working directory",
            Self::Stdin => "opening standard input",
            Self::Stdout => "opening standard output",
            Self::Stderr => "opening standard error",
            Self::Exec => "running the program",
        })
    }
}

/// Where a process reads and writes.
#[derive(Debug)]
pub enum Stdio {
    /// Files that the process opens itself, as the user.
    Files {
        /// Read from here.
        stdin: CString,
        /// Write output here.
        stdout: CString,
        /// Write errors here; `None`: where the output goes.
        stderr: Option<CString>,
        /// Write after what the files hold, instead of emptying them.
        append: bool,
    },
    /// A socket for input and output; errors go to `/dev/null`.
    Socket(OwnedFd),
    /// A socket for input, and in the place of the output a socket that listens; errors go to `/dev/null`.
    Listening {
        /// Read from here.
        stdin: OwnedFd,
        /// Others connect to this.
        listener: OwnedFd,
    },
}

/// How a process gets into its containment.
#[derive(Debug)]
pub enum WayIn<'a> {
    /// Through files, to each of which it writes `0`.
    Files(Vec<CString>),
    /// Through what is open.
    Open(&'a Open),
}

/// What is open of a containment, for one process after another.
#[derive(Debug, Default)]
pub struct Open {
    /// What a process enters by.
    pub entrances: Entrances,
    /// What starts processes where they need not enter all of it.
    pub starter: Option<Starter>,
}

/// A process to be.
#[derive(Debug)]
pub struct Child<'a> {
    /// The file to run.
    pub program: CString,
    /// Its arguments, the first being its own name.
    pub arguments: Vec<CString>,
    /// Its environment, each as `NAME=value`; [`OWN_NUMBER`] gets the process's number.
    pub environment: Vec<CString>,
    /// More of it, in the order of names: what the other has too, that prevails over.
    pub common_environment: &'a [CString],
    /// Who runs it.
    pub account: &'a Account,
    /// How it gets into its containment.
    pub way_in: WayIn<'a>,
    /// The mount namespace of its container, in which all other paths are; none: the node's own.
    pub namespace: Option<BorrowedFd<'a>>,
    /// The kernel's CPU numbers to bind to; none: as the supervisor.
    pub cpus: &'a [u32],
    /// Whether the node has more cores than the machine, so that others wait for the core while this process spins.
    pub shares_cores: bool,
    /// Where it starts; `None`: `/`.
    pub directory: Option<CString>,
    /// The mask of new files' rights.
    pub umask: u32,
    /// Soft limits: what, and how much.
    pub limits: Vec<(libc::__rlimit_resource_t, u64)>,
    /// Input and output.
    pub stdio: Stdio,
}

/// How late a sleep may end for a process that shares its cores: an MPI that spins gives the core away by the shortest
/// of sleeps, and 32 such ranks on two cores leave no time for anything else at the kernel's 50 µs (prctl(2),
/// `PR_SET_TIMERSLACK`; children inherit it).
const SHARED_TIMER_SLACK: Duration = Duration::from_millis(1);

/// An entry of an environment that says the process's own number, which is known to the process alone.
pub const OWN_NUMBER: &CStr = c"SLURM_TASK_PID=";

/// Text for the kernel.
///
/// # Errors
///
/// [`NodeError::ZeroByte`] if it holds one.
pub fn c_text(text: impl Into<Vec<u8>>, what: &'static str) -> Result<CString> {
    CString::new(text).map_err(|_| NodeError::ZeroByte { what })
}

/// A path for the kernel.
///
/// # Errors
///
/// [`NodeError::ZeroByte`] if it holds one.
pub fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| NodeError::ZeroByte { what: "path" })
}

impl Child<'_> {
    /// Starts the process and returns its number as soon as it has become its program.
    ///
    /// Until then the child runs in the memory of this process, and whoever starts it waits for it, as with vfork(2): a copy of the
    /// memory's map, and of every page that is written meanwhile, would cost more than all else here.
    ///
    /// # Errors
    ///
    /// [`NodeError::Spawn`] with the step that failed; nothing is left then. [`NodeError::System`] if no process
    /// could be made.
    pub fn start(&self) -> Result<i32> {
        if let WayIn::Open(Open { starter: Some(starter), .. }) = &self.way_in {
            match starter.start(self) {
                // What the thread makes is charged to the attempt, for which that may be too much already: it is the attempt's process
                // that is to fail then, and be seen to.
                Err(NodeError::System { .. }) => {}
                started => return started,
            }
        }
        self.start_here(false)
    }

    /// As [`Self::start`], by the calling thread, which may stand in the groups for the limits.
    ///
    /// # Errors
    ///
    /// Those of [`Self::start`].
    pub(super) fn start_here(&self, is_limited: bool) -> Result<i32> {
        let mut plan = Plan::of(self);
        plan.is_limited = is_limited;
        let before = block_signals();
        let made = plan.make();
        set_signal_mask(&before);
        let pid = made.map_err(NodeError::system("make a process"))?;
        let Some((step, source)) = plan.failed else { return Ok(pid) };
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
        Err(NodeError::Spawn { program: self.program.to_string_lossy().into_owned(), step, source })
    }
}

/// What a child does. It never returns to the caller's code.
extern "C" fn carry_out(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes its plan, and waits.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    plan.failed = Some(plan.carry_out());
    // SAFETY: ends the child, and nothing else: buffers and handlers are the caller's.
    unsafe { libc::_exit(127) }
}

/// Keeps all signals back, so that no handler runs in a child with the memory of its parent. The answer is the mask before.
pub(super) fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain data; the full one is made before it is used.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

pub(super) fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: the set is valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// The texts of an environment, of which one part is in the order of names. What the other has too, that prevails over.
fn merged<'a>(ordered: &'a [CString], other: &'a [CString]) -> Vec<&'a CStr> {
    let name = |text: &'a CString| text.as_bytes().split(|byte| *byte == b'=').next();
    let mut all: Vec<&CStr> = ordered.iter().map(CString::as_c_str).collect();
    for text in other {
        match ordered.binary_search_by(|known| name(known).cmp(&name(text))) {
            Ok(at) => all[at] = text,
            Err(_) => all.push(text),
        }
    }
    all
}

/// Everything that the child needs, in the form that the kernel wants, made before the fork.
struct Plan<'a> {
    child: &'a Child<'a>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// [`OWN_NUMBER`] with room for a number, to which the environment points.
    own_number: Vec<u8>,
    cpus: libc::cpu_set_t,
    /// The limits that are not as wanted.
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    become_user: bool,
    /// Whether it is born in the group for the kill.
    is_in_group: bool,
    /// Whether it is born in the groups for the limits.
    is_limited: bool,
    /// What the child could not do, and why. It writes into this memory.
    failed: Option<(Step, Errno)>,
}

type Done = std::result::Result<(), (Step, Errno)>;

impl<'a> Plan<'a> {
    fn of(child: &'a Child<'a>) -> Self {
        let pointers = |texts: &'a [CString]| {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        // SAFETY: a CPU set of zeros is the empty set.
        let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for cpu in child.cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE.cast_unsigned()) {
            // SAFETY: the number is below the size of the set.
            unsafe { libc::CPU_SET(*cpu as usize, &mut cpus) };
        }
        // Zero bytes follow the text: as many as the longest number has digits, and one more.
        let mut own_number = OWN_NUMBER.to_bytes().to_vec();
        own_number.resize(own_number.len() + DIGITS_MAX + 1, 0);
        let number = own_number.as_ptr().cast();
        let place = |text: &CStr| if text == OWN_NUMBER { number } else { text.as_ptr() };
        let environment = merged(child.common_environment, &child.environment).into_iter().map(place);
        Self {
            child,
            arguments: pointers(&child.arguments),
            environment: environment.chain([std::ptr::null()]).collect(),
            own_number,
            cpus,
            limits: child
                .limits
                .iter()
                .filter_map(|(resource, soft)| other_limit(*resource, *soft))
                .collect(),
            become_user: nix::unistd::geteuid().is_root(),
            is_in_group: false,
            is_limited: false,
            failed: None,
        }
    }

    /// Makes the child, in its group if that is possible.
    fn make(&mut self) -> std::result::Result<i32, Errno> {
        if let WayIn::Open(Open { entrances: Entrances { kill_folder: Some(folder), .. }, .. }) =
            &self.child.way_in
        {
            self.is_in_group = true;
            // SAFETY: the child makes system calls only, and the plan lives until this call returns.
            let made = unsafe { clone::make_in(folder.as_fd(), carry_out, std::ptr::from_mut(self).cast()) };
            if made.is_ok() {
                return made;
            }
            self.is_in_group = false;
        }
        // SAFETY: as above.
        unsafe { clone::make(carry_out, std::ptr::from_mut(self).cast()) }
    }

    /// Runs in the child. Returns only if a step fails.
    fn carry_out(&mut self) -> (Step, Errno) {
        write_number(std::process::id(), &mut self.own_number[OWN_NUMBER.count_bytes()..]);
        let steps = [Self::enter, Self::limit, Self::identify, Self::connect];
        for step in steps {
            if let Err(failed) = step(&*self) {
                return failed;
            }
        }
        reset_signals();
        // SAFETY: both arrays end with a null pointer, and all texts live in `self.child`.
        unsafe {
            libc::execve(self.child.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
        }
        (Step::Exec, Errno::last())
    }

    /// Session, cgroups and CPUs.
    fn enter(&self) -> Done {
        // SAFETY: no arguments.
        check(unsafe { libc::setsid() }, Step::Session)?;
        // The supervisor goes before the work; the work itself does not. Without the right to raise it, the
        // supervisor's own priority was never raised.
        // SAFETY: numbers only.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
        if self.child.shares_cores {
            let nanoseconds = SHARED_TIMER_SLACK.as_nanos() as libc::c_ulong;
            // SAFETY: numbers only. A kernel that refuses leaves what was.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) };
        }
        self.enter_groups()?;
        if let Some(namespace) = self.child.namespace {
            // SAFETY: an open descriptor and a flag.
            check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }, Step::Container)?;
        }
        if self.child.cpus.is_empty() {
            return Ok(());
        }
        let size = std::mem::size_of::<libc::cpu_set_t>();
        // SAFETY: the set is as large as said.
        check(unsafe { libc::sched_setaffinity(0, size, &raw const self.cpus) }, Step::Affinity)
    }

    fn enter_groups(&self) -> Done {
        match &self.child.way_in {
            WayIn::Files(entrances) => {
                for entrance in entrances {
                    let fd = open(entrance, libc::O_WRONLY | libc::O_CLOEXEC, Step::Containment)?;
                    move_in(fd)?;
                    // SAFETY: the descriptor is this function's own.
                    unsafe { libc::close(fd) };
                }
            }
            WayIn::Open(Open { entrances, .. }) => {
                let kill = entrances.kill.iter().filter(|_| !self.is_in_group);
                let limits = entrances.limits.iter().filter(|_| !self.is_limited);
                for entrance in kill.chain(limits) {
                    move_in(entrance.as_raw_fd())?;
                }
            }
        }
        Ok(())
    }

    /// Soft limits, as far as the hard ones allow. It comes before the change of the user, whom a low limit on
    /// processes could otherwise stop here.
    fn limit(&self) -> Done {
        for (resource, limit) in &self.limits {
            // SAFETY: the structure is valid.
            check(unsafe { libc::setrlimit(*resource, limit) }, Step::Limit)?;
        }
        Ok(())
    }

    fn identify(&self) -> Done {
        if self.become_user {
            let account = self.child.account;
            // SAFETY: pointer and length describe a slice; the raw calls do what the C library's would do in a
            // process with one thread, as the child is.
            unsafe {
                let (count, groups) = (account.groups.len(), account.groups.as_ptr());
                check(libc::syscall(libc::SYS_setgroups, count, groups), Step::Identity)?;
                let (gid, uid) = (account.gid, account.uid);
                check(libc::syscall(libc::SYS_setresgid, gid, gid, gid), Step::Identity)?;
                check(libc::syscall(libc::SYS_setresuid, uid, uid, uid), Step::Identity)?;
            }
        }
        if self.child.namespace.is_some() {
            // No program of an image gives more rights than its user has.
            // SAFETY: numbers only.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, Step::Container)?;
        }
        // SAFETY: no memory is involved.
        unsafe { libc::umask(self.child.umask) };
        let directory = self.child.directory.as_deref().unwrap_or(c"/");
        // SAFETY: the text ends with a zero byte.
        check(unsafe { libc::chdir(directory.as_ptr()) }, Step::Directory)
    }

    fn connect(&self) -> Done {
        match &self.child.stdio {
            Stdio::Socket(socket) => {
                duplicate(socket.as_raw_fd(), 0, Step::Stdin)?;
                duplicate(socket.as_raw_fd(), 1, Step::Stdout)?;
                let null = open(c"/dev/null", libc::O_WRONLY | libc::O_CLOEXEC, Step::Stderr)?;
                duplicate(null, 2, Step::Stderr)
            }
            Stdio::Listening { stdin, listener } => {
                duplicate(stdin.as_raw_fd(), 0, Step::Stdin)?;
                duplicate(listener.as_raw_fd(), 1, Step::Stdout)?;
                let null = open(c"/dev/null", libc::O_WRONLY | libc::O_CLOEXEC, Step::Stderr)?;
                duplicate(null, 2, Step::Stderr)
            }
            Stdio::Files { stdin, stdout, stderr, append } => {
                let fd = open(stdin, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY, Step::Stdin)?;
                duplicate(fd, 0, Step::Stdin)?;
                let fd = open(stdout, output_flags(*append), Step::Stdout)?;
                duplicate(fd, 1, Step::Stdout)?;
                let fd = match stderr {
                    Some(path) => open(path, output_flags(*append), Step::Stderr)?,
                    None => 1,
                };
                duplicate(fd, 2, Step::Stderr)
            }
        }
    }
}

/// A limit with this soft one, as far as the hard one allows; `None` if that is how it is.
fn other_limit(
    resource: libc::__rlimit_resource_t,
    soft: u64,
) -> Option<(libc::__rlimit_resource_t, libc::rlimit)> {
    // A supervisor's own limits are those that it was started with.
    static OWN: [OnceLock<libc::rlimit>; RESOURCES] = [const { OnceLock::new() }; RESOURCES];
    let own = OWN.get(resource as usize)?.get_or_init(|| {
        let mut own = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the structure is a valid place for the answer.
        unsafe { libc::getrlimit(resource, &raw mut own) };
        own
    });
    let wanted = soft.min(own.rlim_max);
    (wanted != own.rlim_cur).then_some((resource, libc::rlimit { rlim_cur: wanted, rlim_max: own.rlim_max }))
}

/// The most digits that the number of a process has.
const DIGITS_MAX: usize = 10;

/// Writes a number without asking for memory. The place has room for [`DIGITS_MAX`] digits.
fn write_number(number: u32, place: &mut [u8]) {
    let mut digits = [0; DIGITS_MAX];
    let (mut rest, mut at) = (number, DIGITS_MAX);
    while rest > 0 || at == DIGITS_MAX {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    place[..DIGITS_MAX - at].copy_from_slice(&digits[at..]);
}

/// Output is always written at the end of the file, because all processes of the script, and often several nodes,
/// write to the same file.
fn output_flags(append: bool) -> i32 {
    let fresh = if append { 0 } else { libc::O_TRUNC };
    libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY | fresh
}

fn open(path: &CStr, flags: i32, step: Step) -> std::result::Result<RawFd, (Step, Errno)> {
    // SAFETY: the text ends with a zero byte.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    check(fd, step).map(|()| fd)
}

fn duplicate(from: RawFd, to: RawFd, step: Step) -> Done {
    // A descriptor that already has the wanted number would keep its close-on-exec flag.
    let done = if from == to {
        // SAFETY: the call takes numbers only.
        unsafe { libc::fcntl(to, libc::F_SETFD, 0) }
    } else {
        // SAFETY: the call takes numbers only.
        unsafe { libc::dup2(from, to) }
    };
    check(done, step)
}

fn check(result: impl Into<i64>, step: Step) -> Done {
    if result.into() < 0 { Err((step, Errno::last())) } else { Ok(()) }
}

/// Moves the calling process into the group of an open entrance.
fn move_in(entrance: RawFd) -> Done {
    // SAFETY: one byte from a constant.
    check(unsafe { libc::write(entrance, c"0".as_ptr().cast(), 1) } as i64, Step::Containment)
}

/// What a supervisor ignores, and nothing else: it ends when its attempt does, and whoever wants it to end earlier stops the attempt.
const IGNORED: [Signal; 5] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE];

/// Has this process ignore what a supervisor ignores, and give all other signals their default meaning, whatever it was started with.
pub(super) fn ignore_signals() {
    for number in 1..=64 {
        // SAFETY: the default disposition is valid for every signal; those that cannot be set are refused.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    for ignored in IGNORED {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(ignored as libc::c_int, libc::SIG_IGN) };
    }
}

/// Gives all signals their default meaning. A program inherits what is ignored; handlers end with what was there before.
fn reset_signals() {
    for ignored in IGNORED {
        // SAFETY: the default disposition is valid for every signal.
        unsafe { libc::signal(ignored as libc::c_int, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is made before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// How many resources may be limited (getrlimit(2)); those that [`resource`] knows are the first ten of them.
const RESOURCES: usize = 16;

/// The resource that a name of the wire means, such as `nofile`.
pub fn resource(name: &str) -> Option<libc::__rlimit_resource_t> {
    Some(match name {
        "as" => libc::RLIMIT_AS,
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_tasks_own_prevails_over_what_all_have() {
        let texts = |texts: &[&str]| texts.iter().map(|text| c_text(*text, "test").unwrap()).collect();
        // In the order of names, "A" is before "A-".
        let common: Vec<CString> = texts(&["A=1", "A-=2", "B==", "C"]);
        let own: Vec<CString> = texts(&["B=3", "AA=4", "A=5"]);
        let expected: Vec<CString> = texts(&["A=5", "A-=2", "B=3", "C", "AA=4"]);
        assert_eq!(merged(&common, &own), expected.iter().map(CString::as_c_str).collect::<Vec<_>>());
        assert_eq!(merged(&[], &own), own.iter().map(CString::as_c_str).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_are_written_as_people_do() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let mut place = [0; DIGITS_MAX + 1];
            write_number(number, &mut place);
            let text = CStr::from_bytes_until_nul(&place).unwrap().to_str().unwrap();
            assert_eq!(text, number.to_string());
        }
    }
}
