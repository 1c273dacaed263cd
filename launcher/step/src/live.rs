//! What the ranks of a step use while they run. It is found out when somebody asks.

use serde::{Deserialize, Serialize};

use crate::frames::RankUsage;
use crate::words::StepUsage;

/// Of one rank that runs, with all processes below it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RankNow {
    /// The rank.
    pub rank: u32,
    /// What it has used: of its processes that run, and of those that were waited for.
    pub used: RankUsage,
    /// The memory of its processes that is resident now, in bytes.
    pub resident_bytes: u64,
    /// Largest address space of one process, in bytes.
    pub virtual_peak_bytes: u64,
    /// Its processes.
    pub pids: Vec<i32>,
}

/// Of a whole step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveUsage {
    /// What all ranks have used, those that have ended as well.
    pub usage: StepUsage,
    /// How many ranks run.
    pub running: u32,
    /// What they hold of memory now, in bytes.
    pub resident_bytes: u64,
    /// Largest address space of a process of theirs, in bytes.
    pub virtual_peak_bytes: u64,
    /// The rank that had it.
    pub virtual_peak_rank: u32,
    /// The largest address spaces of all ranks that run, added up, in bytes.
    pub virtual_sum_bytes: u64,
    /// The processes on each node, by the node's position in the step, ascending.
    pub pids: Vec<(u32, Vec<i32>)>,
    /// Nodes with ranks that run and have not answered in time.
    pub silent_nodes: u32,
}

impl LiveUsage {
    /// What those ranks have used that have ended.
    pub fn of_ended(usage: StepUsage) -> Self {
        Self { usage, ..Self::default() }
    }

    /// Adds a rank that runs on a node.
    pub fn add(&mut self, node: u32, rank: RankNow) {
        self.usage.add(rank.rank, &rank.used);
        if self.running == 0 || rank.virtual_peak_bytes > self.virtual_peak_bytes {
            (self.virtual_peak_bytes, self.virtual_peak_rank) = (rank.virtual_peak_bytes, rank.rank);
        }
        self.running += 1;
        self.resident_bytes += rank.resident_bytes;
        self.virtual_sum_bytes += rank.virtual_peak_bytes;
        match self.pids.binary_search_by_key(&node, |(node, _)| *node) {
            Ok(place) => self.pids[place].1.extend(rank.pids),
            Err(place) => self.pids.insert(place, (node, rank.pids)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_run_are_added_to_those_that_have_ended() {
        let mut ended = StepUsage::default();
        ended.add(0, &RankUsage { user_us: 5, memory_peak_bytes: 9, ..RankUsage::default() });
        let mut live = LiveUsage::of_ended(ended);
        for (rank, node, peak) in [(2, 1u32, 7), (1, 0, 4)] {
            let used = RankUsage { user_us: 1, memory_peak_bytes: 2, ..RankUsage::default() };
            let pids = vec![10 + node as i32];
            live.add(node, RankNow { rank, used, resident_bytes: 3, virtual_peak_bytes: peak, pids });
        }
        assert_eq!((live.usage.ranks, live.usage.user_us, live.usage.cpu_min_rank), (3, 7, 2));
        assert_eq!((live.usage.memory_peak_rank, live.running, live.resident_bytes), (0, 2, 6));
        assert_eq!((live.virtual_peak_bytes, live.virtual_peak_rank, live.virtual_sum_bytes), (7, 2, 11));
        assert_eq!(live.pids, [(0, vec![10]), (1, vec![11])]);
    }
}
