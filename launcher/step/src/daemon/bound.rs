//! Where a rank may run, as the kernel says it just before the rank becomes its program.
//!
//! Whoever asks later may find the program in the middle of a look at the machine: hwloc, which MPI libraries begin with, runs on each
//! CPU in turn for a moment.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::fcntl::OFlag;
use nix::libc;

/// Where the daemon reads what the rank was told.
pub(super) struct Asked(File);

/// The rank's end.
pub(super) struct Tell(OwnedFd);

/// A pipe that no program inherits.
pub(super) fn ask() -> std::io::Result<(Asked, Tell)> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((Asked(File::from(ours)), Tell(theirs)))
}

impl Tell {
    /// Tells where the calling process may run. Runs between fork and exec, and therefore calls the system only.
    pub fn tell(&self) {
        let size = size_of::<libc::cpu_set_t>();
        // SAFETY: the set is this function's, and as large as is said; the descriptor is open.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size, &raw mut set) == 0 {
                // What cannot be told is not known, and nothing else.
                libc::write(self.0.as_raw_fd(), (&raw const set).cast(), size);
            }
        }
    }
}

impl Asked {
    /// The CPUs, once the rank is its program and no other end of the pipe is open; `None` if it was not told.
    pub fn answer(mut self) -> Option<Vec<u32>> {
        // SAFETY: a CPU set of zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: any bytes make a CPU set, and these are all of it.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut((&raw mut set).cast::<u8>(), size_of::<libc::cpu_set_t>())
        };
        self.0.read_exact(bytes).ok()?;
        // SAFETY: the number is below the size of the set.
        let may = |cpu: &u32| unsafe { libc::CPU_ISSET(*cpu as usize, &set) };
        Some((0..libc::CPU_SETSIZE.cast_unsigned()).filter(may).collect())
    }
}

/// The CPUs that a rank was bound to, if they are others than were meant: the kernel takes away what a cpuset forbids without a word
/// (sched_setaffinity(2)).
pub(super) fn otherwise<'a>(found: &'a [u32], meant: &[u32]) -> Option<&'a [u32]> {
    let mut meant = meant.to_vec();
    meant.sort_unstable();
    meant.dedup();
    (!meant.is_empty() && found != meant).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    /// What a process is told that binds itself to one CPU and becomes a program.
    fn told(cpu: u32, tells: bool) -> Option<Vec<u32>> {
        let (asked, tell) = ask().unwrap();
        let mut set = CpuSet::new();
        set.set(cpu as usize).unwrap();
        let mut command = Command::new("true");
        // SAFETY: it only calls the system.
        unsafe {
            command.pre_exec(move || {
                sched_setaffinity(Pid::from_raw(0), &set)?;
                if tells {
                    tell.tell();
                }
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        drop(command);
        let answer = asked.answer();
        child.wait().unwrap();
        answer
    }

    #[test]
    fn the_kernel_is_asked_before_the_program_runs() {
        let own = sched_getaffinity(Pid::this()).unwrap();
        let may = |cpu: &u32| own.is_set(*cpu as usize).unwrap();
        let all: Vec<u32> = (0..CpuSet::count() as u32).filter(may).collect();
        for cpu in &all {
            assert_eq!(told(*cpu, true), Some(vec![*cpu]));
        }
        assert_eq!(told(all[0], false), None);
    }

    #[test]
    fn what_was_not_meant_is_found() {
        assert_eq!(otherwise(&[0, 1], &[1, 0, 1]), None);
        assert_eq!(otherwise(&[0, 1], &[]), None, "nothing was meant");
        assert_eq!(otherwise(&[0], &[0, 1023]), Some(&[0][..]));
    }
}
