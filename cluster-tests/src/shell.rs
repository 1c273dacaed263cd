//! Runs a program inside a host, as root or as another user.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, getgrouplist, setgid, setgroups, setuid};

use crate::cgroup::{self, Groups};
use crate::error::{ClusterError, Result};
use crate::state::ClusterState;

/// Where programs are looked for in a host when nothing else is said.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code when the program is not there, as of sh(1).
pub const EXIT_NOT_FOUND: u8 = 127;

/// The exit code when the program cannot be run, as of sh(1).
pub const EXIT_NOT_RUNNABLE: u8 = 126;

/// Signals that are handed on to the program.
const FORWARDED: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs `program` in the host until it ends, and gives the exit code to end with: the program's own, or 128 and
/// the number of the signal that ended it, as shells do.
///
/// The program has the caller's standard streams, environment and, where the host can see it, working directory;
/// `HOME`, `USER`, `LOGNAME` and `SHELL` are the user's. It is killed when the caller is. Must be called in a
/// process with one thread, since a thread cannot change its namespaces alone.
///
/// # Errors
///
/// When the host is off, does not know the user, or cannot be entered.
pub fn run(cluster: &str, host: &str, user: Option<&str>, program: &[OsString]) -> Result<u8> {
    let state = ClusterState::load(cluster)?;
    let init = state.running_init(host)?;
    let off = || ClusterError::HostIsOff { host: host.to_owned() };
    let handle = init.open().map_err(ClusterError::system("open process 1 of the host"))?.ok_or_else(off)?;
    let entries = Groups::of_host(cluster, host)?.open_entries()?;
    let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));

    let mut signals = SigSet::from_iter(FORWARDED);
    signals.add(Signal::SIGCHLD);
    signals.thread_block().map_err(ClusterError::system("block signals"))?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP;
    match setns(handle, all) {
        Ok(()) => {}
        // The host ended between the two calls.
        Err(Errno::ESRCH) => return Err(off()),
        Err(errno) => return Err(ClusterError::system("enter the namespaces of the host")(errno)),
    }
    // Entering the mount namespace moved this process to its root.
    if std::env::set_current_dir(&dir).is_err() {
        std::env::set_current_dir("/").map_err(ClusterError::file("change to", Path::new("/")))?;
    }
    let identity = user.map(|user| Identity::look_up(host, user)).transpose()?;
    match start(program, identity, entries) {
        Ok(child) => wait(child, &signals),
        Err(error) => {
            eprintln!(
                "{}: {error}",
                program.first().map_or_else(|| "sh".into(), |name| name.to_string_lossy())
            );
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            Ok(if missing { EXIT_NOT_FOUND } else { EXIT_NOT_RUNNABLE })
        }
    }
}

/// A user with everything that setting it takes, looked up before the fork.
struct Identity {
    user: User,
    groups: Vec<Gid>,
}

impl Identity {
    /// Looks the user up in the host's own files.
    fn look_up(host: &str, name: &str) -> Result<Self> {
        let unknown = || ClusterError::NoSuchUser { host: host.to_owned(), user: name.to_owned() };
        let user =
            User::from_name(name).map_err(ClusterError::system("look the user up"))?.ok_or_else(unknown)?;
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let groups =
            getgrouplist(&c_name, user.gid).map_err(ClusterError::system("look the user's groups up"))?;
        Ok(Self { user, groups })
    }

    /// Becomes the user. The order matters: after setuid the groups could no longer be set.
    fn assume(groups: &[Gid], uid: Uid, gid: Gid) -> nix::Result<()> {
        setgroups(groups)?;
        setgid(gid)?;
        setuid(uid)
    }
}

fn start(program: &[OsString], identity: Option<Identity>, entries: Vec<File>) -> std::io::Result<Child> {
    let shell = OsString::from("/bin/sh");
    let (name, arguments) = program.split_first().map_or((&shell, &[][..]), |(name, rest)| (name, rest));
    let mut command = Command::new(name);
    command.args(arguments);
    if let Some(Identity { user, .. }) = &identity {
        command
            .env("HOME", &user.dir)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("SHELL", &user.shell);
    }
    if std::env::var_os("PATH").is_none() {
        command.env("PATH", DEFAULT_PATH);
    }
    // SAFETY: this process has one thread, so no lock can be held by another at the fork, and the closure only
    // makes system calls on values that were prepared before.
    unsafe {
        command.pre_exec(move || {
            for entry in &entries {
                cgroup::enter(entry)?;
            }
            if let Some(Identity { user, groups }) = &identity {
                Identity::assume(groups, user.uid, user.gid)?;
            }
            unblock_signals()?;
            // After the change of user, which clears it.
            Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
        });
    }
    command.spawn()
}

/// Undoes the blocking of signals in a child, which would pass it on to whatever it starts.
pub(crate) fn unblock_signals() -> std::io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Waits for the program and hands signals on to it.
fn wait(mut child: Child, signals: &SigSet) -> Result<u8> {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id is an int"));
    loop {
        if let Some(status) = child.try_wait().map_err(ClusterError::system("wait for the program"))? {
            return Ok(exit_code(status));
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => {}
            Ok(signal) => {
                // The program is a child that has not been waited for, so the id is still its own.
                let _gone = kill(pid, signal);
            }
            Err(errno) => return Err(ClusterError::system("wait for signals")(errno)),
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_a_code_above_128() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }
}
