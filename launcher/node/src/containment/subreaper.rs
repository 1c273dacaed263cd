//! Finding the processes of an attempt without cgroups: by a mark in their environment, and by descent.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Finds the processes of one attempt.
///
/// A supervisor is a subreaper (prctl(2)), so whatever its children leave behind stays below it. The mark finds
/// what the supervisor leaves behind. A process that empties its environment after the supervisor's death escapes,
/// which is why this kind is the last resort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    run_folder: PathBuf,
}

impl Sweep {
    pub(super) fn new(run_folder: PathBuf) -> Self {
        Self { run_folder }
    }

    /// Signals every process of the attempt and says how many there were. Processes that have ended but were not
    /// waited for do not count.
    pub(super) fn signal(&self, signal: Signal) -> usize {
        let found = self.processes();
        for pid in &found {
            let _ = nix::sys::signal::kill(Pid::from_raw(*pid), signal);
        }
        found.len()
    }

    /// The living processes of the attempt.
    pub(super) fn processes(&self) -> Vec<i32> {
        let own = std::process::id().cast_signed();
        let mark = format!("MUSTER_ATTEMPT_DIR={}", self.run_folder.display()).into_bytes();
        let all = living();
        // Every descendant of a marked process belongs as well; of the calling process, which is a supervisor
        // or an agent, only where it is the subreaper, so that an agent does not take its other children.
        let mut inside: HashSet<i32> = all.keys().copied().filter(|pid| is_marked(*pid, &mark)).collect();
        if is_subreaper() {
            inside.insert(own);
        }
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|(pid, parent)| inside.contains(parent) && !inside.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                break;
            }
            inside.extend(more);
        }
        inside.remove(&own);
        inside.into_iter().collect()
    }
}

/// Living processes and their parents.
fn living() -> HashMap<i32, i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some((pid, parent))
    })
    .collect()
}

fn is_marked(pid: i32, mark: &[u8]) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark)
}

fn is_subreaper() -> bool {
    nix::sys::prctl::get_child_subreaper().unwrap_or(false)
}
