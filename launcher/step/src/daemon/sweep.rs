//! What a step leaves behind: the daemon is a subreaper, so everything that its ranks started, and that has not ended,
//! is below it in the tree of processes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All descendants of this process.
fn descendants() -> Vec<i32> {
    below(std::process::id().cast_signed())
}

/// All descendants of a process.
pub(super) fn below(pid: i32) -> Vec<i32> {
    let mut found: Vec<i32> = children(pid);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

/// The children of a process, by all of its threads; none of one that has ended meanwhile.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.flatten().filter_map(of_thread).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// Kills them all once. Says whether there was one.
pub(super) fn kill_all() -> bool {
    let found = descendants();
    for pid in &found {
        let _it_may_have_ended = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    !found.is_empty()
}
