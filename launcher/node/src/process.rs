//! Naming processes so that a number that the kernel gives away again is not mistaken for the old one.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A process: its number, and its start as field 22 of proc_pid_stat(5) tells it, in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// The start.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process with this number, if there is one at this moment.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, start_ticks: start_ticks(&stat)? })
    }

    /// The calling process.
    pub fn own() -> Self {
        static OWN: OnceLock<ProcessId> = OnceLock::new();
        let pid = std::process::id().cast_signed();
        *OWN.get_or_init(|| Self::of(pid).unwrap_or(Self { pid, start_ticks: 0 }))
    }

    /// A handle that becomes readable when the process ends; `None` if it has ended already.
    pub fn watch(self) -> Option<OwnedFd> {
        // SAFETY: pidfd_open(2) takes two integers and returns a new file descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the descriptor is new and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Asked after the handle was opened: if the start agrees now, the handle is the right process's.
        (Self::of(self.pid) == Some(self)).then_some(fd)
    }

    /// Returns when the process has ended.
    pub async fn ended(self) {
        let Some(handle) = self.watch() else { return };
        // SAFETY: an owned descriptor stays open and the same for as long as it is registered.
        if let Ok(handle) = unsafe { tokio::io::unix::AsyncFd::register(handle) } {
            let _ = handle.readable().await;
        }
    }

    /// Sends a signal to this process, and to no other that got its number.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it has ended; otherwise as kill(2).
    pub fn signal(self, signal: nix::sys::signal::Signal) -> Result<(), Errno> {
        let fd = self.watch().ok_or(Errno::ESRCH)?;
        // SAFETY: pidfd_send_signal(2) with a null siginfo behaves as kill(2); the descriptor is open.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                signal as i32,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        Errno::result(done).map(drop)
    }

    /// Queues a signal as sigqueue(3) does, by which a starter of ranks knows that it is meant for them. `value` goes with
    /// it: pending signals are read by their numbers, and a reader puts them back in order by what goes with them.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it has ended; otherwise as sigqueue(3).
    pub fn queue_signal(self, number: i32, value: i32) -> Result<(), Errno> {
        let fd = self.watch().ok_or(Errno::ESRCH)?;
        // SAFETY: a siginfo_t is plain data, for which zeros are valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        (info.si_signo, info.si_code) = (number, libc::SI_QUEUE);
        // SAFETY: a siginfo_t is larger than this beginning of it, is aligned as it, and has these fields for SI_QUEUE.
        unsafe {
            (*std::ptr::from_mut(&mut info).cast::<QueuedInfo>()).sent = Sent {
                pid: std::process::id().cast_signed(),
                uid: nix::unistd::getuid().as_raw(),
                value: SignalValue { int: value },
            };
        }
        // SAFETY: pidfd_send_signal(2) reads the siginfo, which lives on this stack; the descriptor is open.
        let done = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), number, std::ptr::from_ref(&info), 0)
        };
        Errno::result(done).map(drop)
    }
}

/// How a `siginfo_t` begins for a signal that sigqueue(3) sends; the crate `libc` gives no way to write these fields.
#[repr(C)]
struct QueuedInfo {
    signo: i32,
    errno: i32,
    code: i32,
    sent: Sent,
}

/// Who sent it, and what goes with it. Aligned as a pointer, because the value may be one.
#[repr(C)]
struct Sent {
    pid: i32,
    uid: u32,
    value: SignalValue,
}

#[repr(C)]
union SignalValue {
    int: i32,
    pointer: *mut libc::c_void,
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The start in a line of `/proc/PID/stat`. The command's name stands in parentheses and may hold blanks and
/// parentheses itself, so the fields are counted from the last one.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    // The field after the parenthesis is number 3.
    rest.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// What changes with every boot of the node: the kernel's boot id, and the start of process 1, because the hosts
/// of a virtual cluster share a kernel and boot one by one.
pub fn boot_id() -> String {
    static FOUND: OnceLock<String> = OnceLock::new();
    let find = || {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let init = ProcessId::of(1).map_or(0, |init| init.start_ticks);
        format!("{}-{init}", kernel.trim())
    };
    FOUND.get_or_init(find).clone()
}

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// How much the agent and the supervisors go before the work of the node, as a nice value of setpriority(2).
const AHEAD: libc::c_int = -10;

/// Lets the calling process go before the work of the node: ranks that spin on every core must not keep a heartbeat
/// waiting until others believe that the node is dead. Without the right to do so everything stays as it is.
pub fn go_ahead_of_work() {
    // SAFETY: numbers only; 0 is the calling process.
    let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, AHEAD) };
    if set != 0 {
        tracing::debug!(errno = %nix::errno::Errno::last(), "the priority cannot be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_stat_may_hold_anything() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        assert_eq!(start_ticks(stat), Some(4711));
    }

    #[test]
    fn a_process_is_watched_until_it_ends_and_then_no_more() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let id = ProcessId::of(child.id().cast_signed()).unwrap();
        assert!(id.watch().is_some());
        assert!(ProcessId { start_ticks: id.start_ticks + 1, ..id }.watch().is_none());
        id.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(id.watch().is_none());
        assert_eq!(id.signal(nix::sys::signal::Signal::SIGKILL), Err(Errno::ESRCH));
    }
    #[test]
    fn a_queued_signal_says_who_sent_it_and_what_goes_with_it() {
        use nix::sys::signal::{SigSet, Signal};
        use nix::sys::wait::{WaitStatus, waitpid};
        let held: SigSet = [Signal::SIGUSR2].into_iter().collect();
        // The child begins with the signal held.
        held.thread_block().unwrap();
        // SAFETY: the child calls nothing that is not safe after a fork of a program with threads.
        let child = match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => child,
            // SAFETY: as above.
            nix::unistd::ForkResult::Child => unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::sigwaitinfo(held.as_ref(), &raw mut info);
                let is_of_parent = info.si_pid() == libc::getppid() && info.si_uid() == libc::getuid();
                let value = info.si_value().sival_ptr.addr() & 0xffff_ffff;
                libc::_exit(if is_of_parent && info.si_code == libc::SI_QUEUE && value == 42 {
                    42
                } else {
                    1
                })
            },
        };
        ProcessId::of(child.as_raw()).unwrap().queue_signal(libc::SIGUSR2, 42).unwrap();
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 42));
    }
}
