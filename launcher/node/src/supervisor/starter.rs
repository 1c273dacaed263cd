//! A thread that stands in an attempt's groups of v1 controllers, so that what it starts is born there.
//!
//! To move a process into a group takes, for each hierarchy, a lock of the whole machine, and into a cpuset with other processors the
//! help of another thread: a seventh of all that a supervisor did for a small task. A v1 controller allows the threads of one process
//! to be in different groups (Documentation/admin-guide/cgroup-v1/cgroups.rst of the kernel, `tasks`), and a child begins in those of
//! the thread that made it. This one waits all the time but for the start of a process, is not in the group for the kill, and goes
//! before the groups are removed.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::spawn::Child;
use crate::error::{NodeError, Result};

/// What the thread keeps of memory for itself: the start of a process needs little.
const STACK_BYTES: usize = 128 << 10;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Starter {
    orders: Option<SyncSender<Order>>,
    answers: Receiver<Result<i32>>,
    thread: Option<JoinHandle<()>>,
}

/// A process to be. It lives until it was answered.
struct Order(*const Child<'static>);

// SAFETY: whoever sends it waits for the answer, and neither changes nor drops the process to be meanwhile. What it consists of may be read
// by another thread.
unsafe impl Send for Order {}

impl Starter {
    /// Has a thread enter by these files; `None` if that is not possible.
    pub fn within(entrances: Vec<PathBuf>) -> Option<Self> {
        if entrances.is_empty() {
            return None;
        }
        let (orders, inbox) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (ready, entered) = sync_channel(1);
        // The thread has the mask of who makes it, and no handler is to run there.
        let before = super::spawn::block_signals();
        let thread =
            std::thread::Builder::new().name("starter".into()).stack_size(STACK_BYTES).spawn(move || {
                let has_entered = entrances.iter().try_for_each(|entrance| std::fs::write(entrance, "0"));
                if ready.send(has_entered).is_ok() {
                    start_all(&inbox, &answer);
                }
            });
        super::spawn::set_signal_mask(&before);
        let starter = Self { orders: Some(orders), answers, thread: Some(thread.ok()?) };
        match entered.recv() {
            Ok(Ok(())) => Some(starter),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no thread can enter the groups of an attempt");
                None
            }
            Err(_) => None,
        }
    }

    /// Starts a process, as [`Child::start`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Child::start`].
    pub fn start(&self, child: &Child<'_>) -> Result<i32> {
        let gone = || NodeError::system("have a thread start a process")(nix::errno::Errno::ESRCH);
        let order = Order(std::ptr::from_ref(child).cast());
        self.orders.as_ref().and_then(|orders| orders.send(order).ok()).ok_or_else(gone)?;
        self.answers.recv().map_err(|_| gone())?
    }
}

/// What the thread does until nobody can order any more.
fn start_all(orders: &Receiver<Order>, answers: &SyncSender<Result<i32>>) {
    while let Ok(Order(child)) = orders.recv() {
        // SAFETY: who ordered it waits for the answer.
        let child = unsafe { &*child };
        if answers.send(child.start_here(true)).is_err() {
            break;
        }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containment::Entrances;
    use crate::supervisor::spawn::{Open, Stdio, Step, WayIn};
    use crate::user::Account;

    fn child<'a>(program: &std::ffi::CStr, account: &'a Account, open: &'a Open) -> Child<'a> {
        Child {
            program: program.into(),
            arguments: vec![program.into()],
            environment: Vec::new(),
            common_environment: &[],
            account,
            way_in: WayIn::Open(open),
            cpus: &[],
            shares_cores: false,
            namespace: None,
            directory: None,
            umask: 0o022,
            limits: Vec::new(),
            stdio: Stdio::Files {
                stdin: c"/dev/null".into(),
                stdout: c"/dev/null".into(),
                stderr: None,
                append: false,
            },
        }
    }

    /// Whoever runs the test.
    fn own_account() -> Account {
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        let (uid, gid) = (own.uid.as_raw(), own.gid.as_raw());
        Account { name: own.name, uid, gid, group: None, groups: vec![gid], home: own.dir, shell: own.shell }
    }

    #[test]
    fn it_starts_what_is_to_be_started_and_says_what_cannot_be() {
        let account = own_account();
        // Whatever takes what a thread writes will do.
        let entrance = tempfile::NamedTempFile::new().unwrap();
        let starter = Starter::within(vec![entrance.path().to_owned()]);
        assert_eq!(std::fs::read_to_string(entrance.path()).unwrap(), "0");
        let open = Open { starter, ..Open::default() };
        let pid = child(c"/bin/true", &account, &open).start().unwrap();
        let ended = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
        assert!(matches!(ended, nix::sys::wait::WaitStatus::Exited(_, 0)), "{ended:?}");
        let error = child(c"/no/such/program", &account, &open).start().unwrap_err();
        assert!(matches!(error, NodeError::Spawn { step: Step::Exec, .. }), "{error:?}");
    }

    #[test]
    fn what_cannot_be_born_in_a_group_enters_it() {
        let account = own_account();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let entrance = |name: &str| std::fs::File::create(path(name)).unwrap().into();
        // A folder that is no group's, in which the kernel lets nothing be born.
        let mut open = Open {
            entrances: Entrances {
                kill: Some(entrance("kill")),
                kill_folder: Some(std::fs::File::open(folder.path()).unwrap().into()),
                limits: vec![entrance("limit")],
            },
            starter: Starter::within(vec![tempfile::NamedTempFile::new().unwrap().path().to_owned()]),
        };
        let said = || ["kill", "limit"].map(|name| std::fs::read_to_string(path(name)).unwrap());
        for (by_whom, expected) in [("the thread", ["0", ""]), ("the supervisor", ["00", "0"])] {
            let pid = child(c"/bin/true", &account, &open).start().unwrap();
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
            assert_eq!(said(), expected, "started by {by_whom}");
            open.starter = None;
        }
    }

    #[test]
    fn there_is_none_where_there_is_nothing_to_enter() {
        assert!(Starter::within(Vec::new()).is_none());
        assert!(Starter::within(vec!["/no/such/group/tasks".into()]).is_none());
    }
}
