//! Processes as the machine sees them: handles that survive the reuse of ids, and what `/proc` tells.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// A process of a virtual host, as seen from outside the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessInfo {
    /// The process id on the machine.
    pub pid: i32,
    /// The process id inside the host.
    pub inner_pid: i32,
    /// The parent's process id on the machine.
    pub parent: i32,
    /// The effective user id.
    pub uid: u32,
    /// The state letter of proc(5): `R`, `S`, `D`, `T`, `Z` and so on.
    pub state: char,
    /// The program and its arguments; empty for a zombie.
    pub cmdline: Vec<String>,
    /// The environment the program was started with, as `NAME=value`; empty for a zombie.
    pub environ: Vec<String>,
}

/// Names one process for good: a process id together with the time at which it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// The process id on the machine.
    pub(crate) pid: i32,
    /// The start time in clock ticks since boot, field 22 of proc_pid_stat(5).
    start_ticks: u64,
}

impl ProcessId {
    /// Looks the process up, if it exists.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start_ticks: Stat::read(pid)?.start_ticks })
    }

    /// Whether the process still runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_dead())
    }

    /// Opens a handle, or gives none when the process has ended.
    pub(crate) fn open(self) -> io::Result<Option<PidFd>> {
        let Some(handle) = PidFd::open(self.pid)? else { return Ok(None) };
        // The handle keeps the id from being reused, so this second look is about the same process.
        Ok((Self::of(self.pid) == Some(self)).then_some(handle))
    }
}

/// The fields of `/proc/PID/stat` that the harness reads.
struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the text of the file. The command's name is in parentheses and may itself hold blanks and
    /// parentheses, so fields are counted from the last closing one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A file descriptor that stands for a process, see pidfd_open(2).
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    /// Opens a handle, or gives none when there is no such process.
    pub(crate) fn open(pid: i32) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes two integers and touches no memory of this process.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(fd) {
            Ok(fd) => {
                let fd = i32::try_from(fd).expect("a file descriptor is an int");
                // SAFETY: the call succeeded, so `fd` is open and nobody else owns it.
                Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) })))
            }
            Err(Errno::ESRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a signal; a process that has ended is no error.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open for the whole call, and a null siginfo is allowed by the man page.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, no_info, 0)
        };
        match Errno::result(result) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the process to end; false when the time ran out.
    pub(crate) fn wait_end(&self, limit: Duration) -> io::Result<bool> {
        wait_readable(self.0.as_fd(), limit)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until `fd` can be read, or has reached its end; false when the time ran out.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(count) => return Ok(count > 0),
            // A signal handler of the caller ran; the limit starts anew, which makes it longer at worst.
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The inode of the PID namespace of a process; none when it has ended.
pub(crate) fn pid_namespace(pid: i32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).ok().map(|meta| meta.ino())
}

/// All processes in the PID namespace whose first process is `init`.
///
/// Processes that end while they are being looked at are left out.
pub(crate) fn in_namespace_of(init: i32) -> io::Result<Vec<ProcessInfo>> {
    let Some(namespace) = pid_namespace(init) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid_namespace(pid) == Some(namespace) {
            found.extend(inspect(pid));
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Reads what `/proc` tells about one process; none when it ends meanwhile.
fn inspect(pid: i32) -> Option<ProcessInfo> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = Stat::read(pid)?;
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    Some(ProcessInfo {
        pid,
        inner_pid: field("NSpid:")?.split_ascii_whitespace().last()?.parse().ok()?,
        parent: stat.parent,
        // The four numbers are the real, effective, saved and file system ids.
        uid: field("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok()?,
        state: stat.state,
        cmdline: nul_separated(&fs::read(dir.join("cmdline")).ok()?),
        environ: nul_separated(&fs::read(dir.join("environ")).unwrap_or_default()),
    })
}

fn nul_separated(bytes: &[u8]) -> Vec<String> {
    let text = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|&byte| byte == 0)
        .map(|word| std::ffi::OsStr::from_bytes(word).to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_ticks), ('S', 7, 12345));
    }

    #[test]
    fn a_process_is_known_by_its_start_and_not_only_by_its_id() {
        let own = i32::try_from(std::process::id()).unwrap();
        let id = ProcessId::of(own).unwrap();
        assert!(id.is_alive());
        let earlier = ProcessId { start_ticks: id.start_ticks + 1, ..id };
        assert!(!earlier.is_alive());
        assert!(earlier.open().unwrap().is_none());
    }

    #[test]
    fn the_end_of_a_process_is_awaited() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        let handle = id.open().unwrap().unwrap();
        assert!(!handle.wait_end(Duration::from_millis(20)).unwrap());
        handle.signal(Signal::SIGKILL).unwrap();
        assert!(handle.wait_end(Duration::from_secs(10)).unwrap());
        assert!(!id.is_alive(), "a zombie counts as ended");
        child.wait().unwrap();
    }

    #[test]
    fn words_between_nul_bytes_are_split() {
        assert_eq!(nul_separated(b"a\0\0b c\0"), ["a", "", "b c"]);
        assert_eq!(nul_separated(b""), Vec::<String>::new());
    }
}
