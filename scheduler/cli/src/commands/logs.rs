//! `muster logs`: the output files of a task, read as the caller.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use muster_client::api::{JobDetail, TaskView};
use muster_client::{Client, ClientError};
use muster_core::ids::{JobRef, TaskIndex};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::pipe;

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::print_bytes;
use crate::text::state_words;

/// How often a file is looked at without a message from the kernel: on a network file system it is written on
/// another host, and the kernel here is not told.
const LOOK_PERIOD_MS: u16 = 1000;
/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// How long one request for a change stays open.
const WAIT_TIME: Duration = Duration::from_secs(60);

/// Arguments of `muster logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster logs 12            what job 12 has written so far\n  \
    muster logs -f 12         follow it to its end, also if it has not started yet\n  \
    muster logs 12_3 --stderr the standard error of task 3 of array 12")]
pub struct LogsArgs {
    /// Job (12) or task of an array (12_3)
    #[arg(value_name = "JOB[_TASK]")]
    job: String,
    /// Go on until the task has ended and all is printed
    #[arg(short, long)]
    follow: bool,
    /// The standard error, where it has a file of its own
    #[arg(long)]
    stderr: bool,
}

pub(crate) fn run(args: &LogsArgs) -> Result<ExitCode, CliError> {
    let job: JobRef = args.job.parse()?;
    let mut client = connect()?;
    let mut detail = client.job(job)?;
    if job.task.is_none() && detail.summary.array {
        let example =
            detail.array_spec.as_ref().and_then(|array| array.indices.first()).map_or(0, |range| range.first);
        return Err(CliError::WhichTask { job: job.job.0, example });
    }
    // A job without an array has one task, whose index is 0.
    let task = JobRef { task: job.task.or(Some(TaskIndex(0))), ..job };
    while args.follow
        && output(&detail, args.stderr).is_none()
        && !has_folder(&detail)
        && !is_finished(&detail)
    {
        detail = client.wait_change(job, Some(detail.version), WAIT_TIME)?;
    }
    if output(&detail, args.stderr).is_none() && has_folder(&detail) {
        return on_node(&mut client, job, task, args);
    }
    let Some(path) = output(&detail, args.stderr) else {
        let state = detail.task_list.first().map_or(detail.summary.state, |task| task.state);
        return Err(CliError::NoOutputYet { task: args.job.clone(), state: state_words(state) });
    };
    let mut tail = Tail { path, file: None, position: 0 };
    if args.follow && !is_finished(&detail) {
        follow(&mut tail, job)?;
    }
    tail.reopen()?;
    if !tail.print_new()? {
        let node =
            detail.task_list.first().and_then(|task| task.shares.first()).map(|share| share.node.clone());
        return Err(CliError::NoOutputHere {
            task: task_name(job, task),
            path: tail.path,
            node: node.unwrap_or_default(),
        });
    }
    Ok(Exit::Ok.into())
}

/// Whether the task has, or had, a folder of its own on a node: without a path its output is there.
fn has_folder(detail: &JobDetail) -> bool {
    detail.has_folders && only_task(detail).is_some_and(|task| !task.shares.is_empty())
}

/// Prints the output that is in the task's folder on its node.
fn on_node(client: &mut Client, job: JobRef, task: JobRef, args: &LogsArgs) -> Result<ExitCode, CliError> {
    let path = if args.stderr { "stderr.txt" } else { "stdout.txt" };
    let mut at = 0;
    loop {
        // Asked before the file is read, so that nothing is written after what is printed last.
        let ended = !args.follow || is_finished(&client.job(job)?);
        loop {
            let part = client.file_part(task, path, at)?;
            if part.is_empty() {
                break;
            }
            print_bytes(&part)?;
            at += part.len() as u64;
        }
        if ended {
            return Ok(Exit::Ok.into());
        }
        thread::sleep(Duration::from_millis(LOOK_PERIOD_MS.into()));
    }
}

/// `12` for a job without an array, `12_3` for a task of one.
fn task_name(job: JobRef, task: JobRef) -> String {
    if job.task.is_some() { task.to_string() } else { job.to_string() }
}

/// The only task of the answer, if it is there: the one that was asked for.
fn only_task(detail: &JobDetail) -> Option<&TaskView> {
    detail.task_list.first()
}

fn is_finished(detail: &JobDetail) -> bool {
    only_task(detail).map_or(detail.summary.state, |task| task.state).is_finished()
}

fn output(detail: &JobDetail, is_stderr: bool) -> Option<PathBuf> {
    let task = only_task(detail)?;
    let path = if is_stderr { &task.stderr_path } else { &task.stdout_path };
    (!path.is_empty()).then(|| path.into())
}

/// A file that grows, and how much of it has been printed.
struct Tail {
    path: PathBuf,
    file: Option<File>,
    position: u64,
}

impl Tail {
    fn failed(&self, source: io::Error) -> CliError {
        CliError::File { action: "read the output", path: self.path.clone(), source }
    }

    /// Opens the file, again if it is open: that is when a network file system looks at what others wrote.
    fn reopen(&mut self) -> Result<(), CliError> {
        self.file = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(self.failed(error)),
        };
        Ok(())
    }

    /// Prints what is new, and says whether the file is there. A file that became shorter was begun again.
    fn print_new(&mut self) -> Result<bool, CliError> {
        let Some(mut file) = self.file.take() else { return Ok(false) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let about = file.metadata().map_err(|error| self.failed(error))?;
        // A pipe or a device has no position.
        if about.is_file() {
            if about.len() < self.position {
                self.position = 0;
            }
            file.seek(SeekFrom::Start(self.position)).map_err(|error| self.failed(error))?;
        }
        loop {
            let count = file.read(&mut chunk).map_err(|error| self.failed(error))?;
            if count == 0 {
                break;
            }
            print_bytes(&chunk[..count])?;
            self.position += count as u64;
        }
        self.file = Some(file);
        Ok(true)
    }
}

/// Prints what is written until the task has ended.
fn follow(tail: &mut Tail, job: JobRef) -> Result<(), CliError> {
    let system = |action| move |errno: Errno| CliError::System { action, source: errno.into() };
    let inotify =
        Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(system("watch files"))?;
    let (ended, waiter) = watch_end(job)?;
    let mut is_watched = false;
    loop {
        if tail.file.is_none() {
            tail.reopen()?;
        }
        if tail.file.is_some() && !is_watched {
            is_watched = watch(&inotify, &tail.path, AddWatchFlags::IN_MODIFY);
        } else if tail.file.is_none() {
            let parent = tail.path.parent().unwrap_or(Path::new("/"));
            watch(&inotify, parent, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
        }
        tail.print_new()?;
        let mut fds =
            [PollFd::new(inotify.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(LOOK_PERIOD_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("watch files")(errno)),
        }
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            waiter.join().expect("the waiting thread does not panic")?;
            return Ok(());
        }
        let _ = inotify.read_events();
    }
}

/// Watches `path`. A file system that cannot be watched is looked at from time to time anyway.
fn watch(inotify: &Inotify, path: &Path, flags: AddWatchFlags) -> bool {
    inotify.add_watch(path, flags).is_ok()
}

/// A thread that waits for the end of the task; its pipe is closed then.
fn watch_end(job: JobRef) -> Result<(OwnedFd, JoinHandle<Result<(), ClientError>>), CliError> {
    let (reader, writer) =
        pipe().map_err(|errno| CliError::System { action: "make a pipe", source: errno.into() })?;
    let mut client: Client = connect()?;
    let waiter = thread::spawn(move || {
        let ended = client.wait_finished(job, None);
        drop(writer);
        ended.map(|_| ())
    });
    Ok((reader, waiter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_begun_again_is_read_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut tail = Tail { path: path.clone(), file: None, position: 0 };
        tail.reopen().unwrap();
        assert!(!tail.print_new().unwrap());
        std::fs::write(&path, "first attempt\n").unwrap();
        tail.reopen().unwrap();
        assert!(tail.print_new().unwrap());
        assert_eq!(tail.position, 14);
        std::fs::write(&path, "2nd\n").unwrap();
        tail.print_new().unwrap();
        assert_eq!(tail.position, 4);
    }
}
