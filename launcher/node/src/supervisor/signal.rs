//! Signals to what runs.
//!
//! What the script has started is signalled rather than its ranks: mpirun, mpiexec and srun pass signals on to their
//! ranks on all nodes, and their daemons are not for others to signal. Shells in between, which are of the script's own
//! program, are passed over, so that a signal that was meant for programs does not end the loop that runs them.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;

use muster_wire::v1::{self, SignalTo};

use super::Supervisor;
use super::prepare::Prepared;
use crate::process::{ProcessId, parent_of};

impl Supervisor {
    /// Carries a signal out. A process that ends meanwhile misses it.
    pub(super) fn signal(&mut self, prepared: &Prepared, signal: &v1::Signal) {
        let Some(script) = self.script else { return };
        self.signals_sent = self.signals_sent.wrapping_add(1);
        let number = signal.number.cast_signed();
        let ranks = || started_by(script, &prepared.group.processes(), parent_of, program);
        let targets = match signal.to() {
            SignalTo::Script => vec![script],
            SignalTo::Ranks => ranks(),
            SignalTo::All | SignalTo::Unspecified => ranks().into_iter().chain([script]).collect(),
        };
        tracing::info!(number, to = ?signal.to(), processes = targets.len(), "signal");
        for pid in targets {
            if let Some(Err(errno)) =
                ProcessId::of(pid).map(|process| process.queue_signal(number, self.signals_sent))
            {
                tracing::debug!(pid, %errno, "a process cannot be signalled");
            }
        }
    }
}

/// The program that a process runs, as device and inode.
fn program(pid: i32) -> Option<(u64, u64)> {
    let found = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((found.dev(), found.ino()))
}

/// The first processes on each way down from the script that run another program.
fn started_by<P: PartialEq>(
    script: i32,
    processes: &[i32],
    parent_of: impl Fn(i32) -> Option<i32>,
    program: impl Fn(i32) -> Option<P>,
) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in processes {
        if let Some(parent) = parent_of(*pid) {
            children.entry(parent).or_default().push(*pid);
        }
    }
    let own = program(script);
    let (mut found, mut shells) = (Vec::new(), vec![script]);
    while let Some(shell) = shells.pop() {
        for child in children.remove(&shell).unwrap_or_default() {
            if own.is_some() && program(child) == own { shells.push(child) } else { found.push(child) }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_below_the_script_are_found_and_shells_between_are_passed_over() {
        // 1 is the script, 2 a subshell with 3 (which has 4), and 5 a program; 6 hangs elsewhere.
        let parents = HashMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 99)]);
        let programs =
            HashMap::from([(1, "bash"), (2, "bash"), (3, "srun"), (4, "bash"), (5, "a.out"), (6, "b")]);
        let parent = |pid| parents.get(&pid).copied();
        let mut found = started_by(1, &[1, 2, 3, 4, 5, 6], parent, |pid| programs.get(&pid).copied());
        found.sort_unstable();
        assert_eq!(found, [3, 5]);
        // Where programs cannot be told apart, the script's own children are meant.
        assert_eq!(started_by(1, &[1, 2, 3, 4, 5, 6], parent, |_| None::<&str>).len(), 2);
    }
}
