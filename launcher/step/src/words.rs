//! What the starter of a step and the supervisor of the attempt's primary say to each other, one JSON text a line over
//! the attempt's socket [`crate::SOCKET_NAME`].
//!
//! The supervisor opens with [`Answer::Allocation`]; the starter asks once; the supervisor answers, perhaps after it has
//! said that the step waits; and the connection stays open for as long as the step lives. A starter says how its step
//! has ended. When the connection closes, the step is over, and its cores are free once its daemons have ended.

use serde::{Deserialize, Serialize};

use crate::frames::RankUsage;
use crate::place::Placement;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// What a step asks for. What is `None` was not said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepRequest {
    /// How many ranks.
    pub ntasks: Option<u32>,
    /// On how many nodes, at least and at most.
    pub nodes: Option<(u32, u32)>,
    /// At most so many ranks on a node; with [`Self::nodes`] alone, exactly so many.
    pub tasks_per_node: Option<u32>,
    /// Cores of each rank.
    pub cores_per_task: Option<u32>,
    /// These nodes must be among those of the step.
    pub nodelist: Vec<String>,
    /// The host of each rank, in their order (`-m arbitrary` with `SLURM_HOSTFILE`).
    pub hosts: Vec<String>,
    /// None of these nodes.
    pub exclude: Vec<String>,
    /// The first node that is looked at, as a position in the allocation.
    pub relative: u32,
    /// Only the cores that the ranks need, instead of all that are free on the nodes.
    pub exact: bool,
    /// Cores that other steps hold may be used too, and none are held.
    pub overlap: bool,
    /// More ranks than cores are no error.
    pub overcommit: bool,
    /// How ranks go to nodes.
    pub distribution: Distribution,
    /// Refuse instead of waiting for cores.
    pub immediate: bool,
}

/// How ranks are dealt out to the nodes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Neighbours share a node.
    #[default]
    Block,
    /// One to each node in turn.
    Cyclic,
    /// So many to each node in turn.
    Plane(u32),
}

/// From the starter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Ask {
    /// A step, whose first daemons shall connect to this TCP port of the starter's node.
    Create {
        /// What it asks for.
        request: StepRequest,
        /// The port.
        port: u16,
        /// The step's name, for its record.
        #[serde(default)]
        name: String,
        /// With how many daemons the starter speaks; the others listen (see [`crate::tree`]).
        #[serde(default = "default_width")]
        tree_width: u32,
    },
    /// The step has ended.
    Ended(StepEnd),
}

/// How a step ended, as its starter saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepEnd {
    /// Why, if not by the ranks themselves.
    pub cause: EndCause,
    /// The highest exit code of its ranks.
    pub code: u8,
    /// The signal that killed a rank, if the exit status is a signal's.
    pub signal: u8,
    /// What its ranks have used.
    pub usage: StepUsage,
}

/// Why a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Its ranks ended.
    #[default]
    Ranks,
    /// Somebody ended it.
    Cancelled,
    /// Its time was over.
    TimeLimit,
    /// A node, or a daemon on it, was lost.
    NodeLost,
}

/// What the ranks of a step have used, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepUsage {
    /// How many ranks this tells of.
    pub ranks: u32,
    /// CPU time in programs, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Least CPU time of a rank, in microseconds.
    pub cpu_min_us: u64,
    /// The rank that had it.
    pub cpu_min_rank: u32,
    /// Largest resident memory of a rank, in bytes.
    pub memory_peak_bytes: u64,
    /// The rank that had it.
    pub memory_peak_rank: u32,
    /// The largest resident memories of all ranks, added up, in bytes.
    pub memory_sum_bytes: u64,
    /// Read from disks, in bytes.
    pub read_bytes: u64,
    /// Written to disks, in bytes.
    pub written_bytes: u64,
}

impl StepUsage {
    /// Adds what a rank has used.
    pub fn add(&mut self, rank: u32, used: &RankUsage) {
        let cpu_us = used.user_us + used.system_us;
        if self.ranks == 0 || cpu_us < self.cpu_min_us {
            (self.cpu_min_us, self.cpu_min_rank) = (cpu_us, rank);
        }
        if self.ranks == 0 || used.memory_peak_bytes > self.memory_peak_bytes {
            (self.memory_peak_bytes, self.memory_peak_rank) = (used.memory_peak_bytes, rank);
        }
        self.ranks += 1;
        self.user_us += used.user_us;
        self.system_us += used.system_us;
        self.memory_sum_bytes += used.memory_peak_bytes;
        self.read_bytes += used.read_bytes;
        self.written_bytes += used.written_bytes;
    }
}

fn default_width() -> u32 {
    crate::tree::WIDTH
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Answer {
    /// The allocation that steps are placed in.
    Allocation {
        /// The job.
        job: u64,
        /// This node's address, at which the starter listens.
        address: String,
        /// The supervisor's process: signals that it sends reach all processes of the attempt.
        supervisor_pid: i32,
        /// The nodes in their order.
        hosts: Vec<String>,
    },
    /// Cores or nodes are held by other steps; an answer follows when they are free.
    Waiting,
    /// The step may begin: its daemons are being started.
    Placed {
        /// The step's number within the attempt.
        step: u32,
        /// With this key starter and daemons prove themselves to each other; in hexadecimal digits.
        key: String,
        /// Who runs where.
        placement: Placement,
    },
    /// It can never begin, or not at once although that was asked for.
    Refused {
        /// Slurm's sentence, and the numbers.
        reason: String,
    },
    /// The daemon of a node that hangs below another is there, and listens.
    Listens {
        /// The instance of the attempt.
        instance: u32,
        /// The node's address.
        address: String,
        /// The port.
        port: u16,
    },
    /// A node's daemon could not be started, or has ended without its starter's word.
    DaemonLost {
        /// The node.
        host: String,
        /// What happened.
        detail: String,
    },
    /// Somebody sends the ranks a signal.
    Signal {
        /// Its number.
        number: i32,
    },
    /// Somebody ends the step.
    Cancel,
    /// Somebody looks on, and waits to be called.
    Attach {
        /// Addresses of their host, with commas between them.
        hosts: String,
        /// The port.
        port: u16,
        /// With this key both sides prove themselves.
        key: String,
    },
}

/// What a supervisor writes to a step daemon's standard input, as one JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DaemonStart {
    /// The job.
    pub job: u64,
    /// The step.
    pub step: u32,
    /// The instance of the attempt on this node.
    pub instance: u32,
    /// The node.
    pub host: String,
    /// Where the starter listens.
    pub starter: (String, u16),
    /// The daemon is connected to by another: its standard output is a socket that listens, and its standard input
    /// closes when nobody will come any more.
    #[serde(default)]
    pub listens: bool,
    /// The step's key.
    pub key: String,
    /// The attempt's folder.
    pub attempt_dir: String,
    /// The instance's cores, in the order of the allocation.
    pub cores: Vec<u32>,
    /// The kernel's CPUs behind each; none for a core that is held but not used.
    pub cpus: Vec<Vec<u32>>,
    /// Whether several declared cores share a CPU.
    pub cores_wrap: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ranks_have_used_adds_up_and_the_extremes_are_known() {
        let used = |cpu_us, memory_peak_bytes| RankUsage {
            user_us: cpu_us,
            system_us: 1,
            memory_peak_bytes,
            ..RankUsage::default()
        };
        let mut usage = StepUsage::default();
        for (rank, used) in [(0, used(30, 5)), (2, used(10, 9)), (1, used(20, 7))] {
            usage.add(rank, &used);
        }
        assert_eq!((usage.ranks, usage.user_us, usage.system_us), (3, 60, 3));
        assert_eq!((usage.cpu_min_us, usage.cpu_min_rank), (11, 2));
        assert_eq!((usage.memory_peak_bytes, usage.memory_peak_rank, usage.memory_sum_bytes), (9, 2, 21));
    }
}
