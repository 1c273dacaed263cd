//! What the start of a step costs on many nodes: messages, hops and time, over the very tree that daemons hang in, by the
//! model of Slurm's and PRRTE's tree launches (T = h (t_msg + (k - 1) t_send) + p t_fork + T_wireup). Nothing is started,
//! and no clock is read.

use std::ops::Range;

use serde::Serialize;

use crate::tree;

/// How large the step is, and what things cost. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// How long a message is on the way.
    pub message_us: f64,
    /// How long a process is busy with a message that it sends or receives.
    pub send_us: f64,
    /// How many bytes go over a connection in a microsecond.
    pub bytes_per_us: f64,
    /// From a supervisor's order to a daemon that listens or calls.
    pub daemon_us: f64,
    /// The start of one rank.
    pub fork_us: f64,
    /// Bytes of the launch that every node is told.
    pub launch_bytes: f64,
    /// Bytes that each rank brings to the first barrier; the others are empty.
    pub fence_bytes: f64,
    /// How many barriers there are before all ranks have done `MPI_Init`.
    pub fences: u32,
}

impl Default for Costs {
    /// A cluster's Ethernet, what was measured of daemons and ranks on idle nodes, and the barriers of Open MPI 4.1.
    fn default() -> Self {
        Self {
            message_us: 500.0,
            send_us: 50.0,
            bytes_per_us: 1_000.0,
            daemon_us: 3_000.0,
            fork_us: 1_000.0,
            launch_bytes: 16_384.0,
            fence_bytes: 256.0,
            fences: 3,
        }
    }
}

/// What the start of a step comes to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Launch {
    /// Nodes.
    pub nodes: u32,
    /// Ranks.
    pub ranks: u32,
    /// With how many daemons the starter, and each daemon, speaks at most.
    pub width: u32,
    /// Hops from the starter to the farthest node.
    pub hops: u32,
    /// Orders of the primary's supervisor, answers to them, messages of the launch, and of all barriers.
    pub messages: u64,
    /// The most connections that one process of the step holds to others of it.
    pub connections_max: u32,
    /// The most bytes that one process sends.
    pub bytes_max: f64,
    /// Until all daemons have been started, and the starter knows where they listen.
    pub orders_us: f64,
    /// From there until the last node has been told what to start.
    pub tree_us: f64,
    /// The start of a node's ranks.
    pub fork_us: f64,
    /// All barriers.
    pub wireup_us: f64,
}

impl Launch {
    /// From the place of the step until all ranks have done `MPI_Init`, but for what MPI itself does meanwhile.
    pub fn total_us(&self) -> f64 {
        self.orders_us + self.tree_us + self.fork_us + self.wireup_us
    }
}

/// Works out the start of a step.
pub fn launch(nodes: u32, ranks_per_node: u32, width: u32, costs: &Costs) -> Launch {
    let ranks = nodes * ranks_per_node;
    let branches = tree::branches(0..nodes, width);
    let heads = branches.len() as u32;
    let of_daemon = branches.first().map_or(0, |branch| tree::below(branch, width).len() as u32 + 1);
    let below = nodes - heads;
    // The launch names every host and, for each rank, its node.
    let common_bytes = costs.launch_bytes + 10.0 * f64::from(nodes) + 4.0 * f64::from(ranks);
    let pass = |bytes: f64| costs.send_us + bytes / costs.bytes_per_us;
    let all_pairs = costs.fence_bytes * f64::from(ranks);
    let barriers = f64::from(costs.fences);
    let down = latency(0..nodes, width, costs.message_us, pass(common_bytes));
    // Up, each takes what comes from below one after the other; what a branch brings grows on the way, and all of it goes
    // through the last hop. Down, everybody hears everything.
    let fence = |bytes: f64| {
        let costs = Costs { fence_bytes: bytes, ..*costs };
        let all = bytes * f64::from(ranks);
        gathering(0..nodes, width, &costs, ranks_per_node)
            + latency(0..nodes, width, costs.message_us, pass(all))
    };
    let wireup_us = match costs.fences {
        0 => 0.0,
        _ => fence(costs.fence_bytes) + (barriers - 1.0) * fence(0.0),
    };
    let fanout = f64::from(heads.max(1));
    Launch {
        nodes,
        ranks,
        width,
        hops: tree::depth(nodes, width),
        // An order to each node but the primary's own, where each of the deeper ones listens to its supervisor, to the
        // primary's, and to the starter; a launch after three messages of proof; and two messages a node and barrier.
        messages: u64::from(nodes.saturating_sub(1))
            + 2 * u64::from(below)
            + 4 * u64::from(nodes)
            + 2 * u64::from(nodes) * u64::from(costs.fences),
        connections_max: heads.max(of_daemon),
        bytes_max: fanout * (common_bytes + all_pairs),
        orders_us: f64::from(nodes.saturating_sub(1) + 2 * below) * costs.send_us
            + costs.message_us * if below > 0 { 2.0 } else { 1.0 }
            + costs.daemon_us,
        // Challenge, answer and launch are three messages on the way of each hop.
        tree_us: down + 2.0 * f64::from(tree::depth(nodes, width)) * costs.message_us,
        fork_us: f64::from(ranks_per_node) * costs.fork_us,
        wireup_us,
    }
}

/// When the last node of some branches has heard what is told from above, where one is told after the other.
fn latency(nodes: Range<u32>, width: u32, message_us: f64, pass_us: f64) -> f64 {
    let mut last: f64 = 0.0;
    for (turn, branch) in tree::branches(nodes, width).into_iter().enumerate() {
        let heard = (turn + 1) as f64 * pass_us + message_us;
        last = last.max(heard + latency(branch.start + 1..branch.end, width, message_us, pass_us));
    }
    last
}

/// When everything that the ranks of some branches bring has come up.
fn gathering(nodes: Range<u32>, width: u32, costs: &Costs, ranks_per_node: u32) -> f64 {
    let mut free_at: f64 = 0.0;
    let mut arrivals: Vec<(f64, f64)> = Vec::new();
    for branch in tree::branches(nodes, width) {
        let bytes = f64::from(branch.len() as u32 * ranks_per_node) * costs.fence_bytes;
        let below = gathering(branch.start + 1..branch.end, width, costs, ranks_per_node);
        arrivals.push((below + costs.message_us, bytes));
    }
    arrivals.sort_by(|one, other| one.0.total_cmp(&other.0));
    for (at, bytes) in arrivals {
        free_at = free_at.max(at) + costs.send_us + bytes / costs.bytes_per_us;
    }
    free_at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_nodes_are_three_hops_away_and_nobody_speaks_with_more_than_33() {
        let costs = Costs::default();
        let deep = launch(10_000, 8, 32, &costs);
        assert_eq!((deep.hops, deep.connections_max), (3, 33));
        // 9,999 orders, two words of each of the 9,968 that listen, four for each launch, six for the barriers.
        assert_eq!(deep.messages, 9_999 + 2 * 9_968 + 40_000 + 60_000);
        let flat = launch(10_000, 8, tree::WIDTH_MAX, &costs);
        assert_eq!((flat.hops, flat.connections_max), (1, 10_000));
        assert_eq!(flat.messages, 9_999 + 40_000 + 60_000);
        assert!(deep.total_us() < flat.total_us() && deep.bytes_max < flat.bytes_max / 100.0);
    }

    #[test]
    fn small_steps_are_a_star_and_cost_what_the_formula_says() {
        let costs = Costs { launch_bytes: 0.0, bytes_per_us: f64::INFINITY, fences: 0, ..Costs::default() };
        let star = launch(32, 2, 32, &costs);
        assert_eq!((star.hops, star.wireup_us, star.fork_us), (1, 0.0, 2_000.0));
        assert_eq!(star.tree_us, 32.0 * 50.0 + 3.0 * 500.0);
        assert_eq!(star.orders_us, 31.0 * 50.0 + 500.0 + 3_000.0);
        let one = launch(1, 1, 32, &costs);
        assert_eq!((one.messages, one.connections_max), (4, 1));
    }
}
