//! What the user is told of a step: how ranks ended, and where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::lists::format_list;
use crate::place::Placement;
use crate::slurm_nodelist;

/// How a rank ended, in Slurm's words; `None` if well.
pub(super) fn ending(status: i32) -> Option<String> {
    let status = ExitStatus::from_raw(status);
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("Exited with exit code {code}")),
        (None, Some(signal)) => {
            let core = if status.core_dumped() { " (core dumped)" } else { "" };
            Some(format!("{}{core}", signal_text(signal)))
        }
        (None, None) => Some(format!("ended with status {status}")),
    }
}

/// What strsignal(3) says.
fn signal_text(signal: i32) -> String {
    // SAFETY: the call gives a text that lasts until the next call in this thread, or a null pointer.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return format!("Signal {signal}");
    }
    // SAFETY: it is not null and ends with a zero byte.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Ends that have not been told: the ranks, by the position of their node and how they ended.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<(u32, String), Vec<u32>>);

impl Ends {
    pub fn add(&mut self, node: u32, ending: String, rank: u32) {
        self.0.entry((node, ending)).or_default().push(rank);
    }

    /// A line for each node and kind of end, such as `srun: error: n1: tasks 0-3: Exited with exit code 1`.
    pub fn lines(&mut self, name: &str, hosts: &[String]) -> Vec<String> {
        let all = std::mem::take(&mut self.0);
        // In the order of the first ranks, as they would come one by one.
        let mut all: Vec<_> = all.into_iter().map(|((node, ending), ranks)| (ranks, node, ending)).collect();
        all.sort();
        let line = |(ranks, node, ending): (Vec<u32>, u32, String)| {
            let host = hosts.get(node as usize).map_or("?", String::as_str);
            let word = if ranks.len() == 1 { "task" } else { "tasks" };
            format!("{name}: error: {host}: {word} {}: {ending}", format_list(&ranks))
        };
        all.into_iter().map(line).collect()
    }
}

/// Nodes that failed and have not been told: by what happened, their positions.
#[derive(Debug, Default)]
pub(super) struct Failures {
    lost: BTreeMap<String, BTreeSet<u32>>,
    refused: BTreeMap<String, BTreeSet<u32>>,
    /// Refusals that were told. The others say the same a little later.
    told: BTreeSet<String>,
}

impl Failures {
    /// A node has started nothing, for a reason that is said in a sentence.
    pub fn refused(&mut self, node: u32, problem: &str) {
        if !self.told.contains(problem) {
            self.refused.entry(problem.to_owned()).or_default().insert(node);
        }
    }

    /// A node was lost.
    pub fn lost(&mut self, node: u32, problem: &str) {
        self.lost.entry(problem.to_owned()).or_default().insert(node);
    }

    /// What there is to tell: a line, or a table of nodes and what happened to them.
    pub fn text(&mut self, name: &str, hosts: &[String]) -> Option<String> {
        let (lost, refused) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.refused));
        self.told.extend(refused.keys().cloned());
        let list = |nodes: &BTreeSet<u32>| {
            let hosts = nodes.iter().filter_map(|node| hosts.get(*node as usize));
            slurm_nodelist(&hosts.map(String::as_str).collect::<Vec<_>>())
        };
        let rows: Vec<(String, &String)> =
            lost.iter().chain(&refused).map(|(problem, nodes)| (list(nodes), problem)).collect();
        match &rows[..] {
            [] => None,
            [(_, problem)] if lost.is_empty() => Some(format!("{name}: error: {problem}")),
            [(nodes, problem)] => Some(format!("{name}: error: {nodes}: {problem}")),
            rows => {
                let failed: BTreeSet<&u32> = lost.values().chain(refused.values()).flatten().collect();
                let width = rows.iter().map(|(nodes, _)| nodes.len()).max().unwrap_or(0);
                let (failed, all) = (failed.len(), hosts.len());
                let mut text = format!("{name}: error: {failed} of {all} nodes failed:");
                for (nodes, problem) in rows {
                    text.push_str(&format!("\n  {nodes:width$}  {problem}"));
                }
                Some(text)
            }
        }
    }
}

/// The local time, as Slurm writes it.
pub(super) fn now_text() -> String {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = libc::time_t::try_from(now).unwrap_or(0);
    // SAFETY: a structure of numbers and a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid.
    unsafe { libc::localtime_r(&raw const now, &raw mut parts) };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    )
}

/// Prints where each rank of a step would go.
pub(super) fn draw(placement: &Placement) {
    for node in &placement.nodes {
        println!("{}: cores {} of the allocation there", node.host, format_list(&node.cores));
        for task in &node.tasks {
            println!("  rank {}: cores {}", task.rank, format_list(&task.cores));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_fail_are_one_table() {
        let hosts: Vec<String> = (1..=4).map(|node| format!("n{node}")).collect();
        let mut failures = Failures::default();
        assert_eq!(failures.text("srun", &hosts), None);
        failures.lost(2, "was lost");
        assert_eq!(failures.text("srun", &hosts).unwrap(), "srun: error: n3: was lost");
        failures.lost(0, "was lost");
        failures.lost(1, "cut off");
        failures.lost(2, "cut off");
        assert_eq!(
            failures.text("srun", &hosts).unwrap(),
            "srun: error: 3 of 4 nodes failed:\n  n[2-3]  cut off\n  n1      was lost"
        );
        for node in 0..4 {
            failures.refused(node, "it cannot work");
        }
        assert_eq!(failures.text("srun", &hosts).unwrap(), "srun: error: it cannot work");
        failures.refused(0, "it cannot work");
        assert_eq!(failures.text("srun", &hosts), None);
    }

    #[test]
    fn ends_are_said_in_slurms_words_and_gathered() {
        assert_eq!(ending(0), None);
        assert_eq!(ending(3 << 8).unwrap(), "Exited with exit code 3");
        assert_eq!(ending(9).unwrap(), "Killed");
        assert_eq!(ending(11 | 0x80).unwrap(), "Segmentation fault (core dumped)");
        let mut ends = Ends::default();
        for rank in [3, 0, 1] {
            ends.add(0, "Killed".into(), rank);
        }
        ends.add(1, "Exited with exit code 1".into(), 2);
        let lines = ends.lines("srun", &["n1".into(), "n2".into()]);
        assert!(lines.contains(&"srun: error: n1: tasks 0-1,3: Killed".to_owned()), "{lines:?}");
        assert!(lines.contains(&"srun: error: n2: task 2: Exited with exit code 1".to_owned()), "{lines:?}");
        assert!(ends.lines("srun", &[]).is_empty());
    }
}
