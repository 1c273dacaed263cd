//! How many ranks each node of a step gets, which they are, and how cores are shared out among them.

use crate::words::{Distribution, StepRequest};

/// How many ranks each node gets. `ranks` is what the allocation has there, `rooms` is how many fit.
///
/// # Errors
///
/// What does not fit, in a sentence.
pub(super) fn counts(request: &StepRequest, ranks: &[u32], rooms: &[u32]) -> Result<Vec<u32>, String> {
    let own: u32 = ranks.iter().sum();
    let nodes = ranks.len() as u32;
    let total = match (request.ntasks, request.tasks_per_node) {
        (Some(total), _) => total.max(1),
        (None, Some(per_node)) => per_node.saturating_mul(nodes),
        (None, None) => own.max(1),
    };
    let as_allocated =
        total == own && request.tasks_per_node.is_none() && request.distribution == Distribution::Block;
    if as_allocated && ranks.iter().zip(rooms).all(|(rank, room)| (1..=*room).contains(rank)) {
        return Ok(ranks.to_vec());
    }
    let room: u32 = rooms.iter().fold(0, |sum: u32, room| sum.saturating_add(*room));
    if room < total {
        return Err(format!(
            "More processors requested than permitted: {total} ranks, and {room} fit on {nodes} node{}",
            if nodes == 1 { "" } else { "s" }
        ));
    }
    if nodes > total {
        return Err(format!("Node count specification invalid: {nodes} nodes for {total} ranks"));
    }
    Ok(match request.distribution {
        Distribution::Block => block(total, rooms),
        Distribution::Cyclic => in_turn(total, rooms, 1),
        Distribution::Plane(size) => in_turn(total, rooms, size.max(1)),
    })
}

/// One rank for each node, and then each node is filled in its turn (srun(1), `--distribution=block`).
fn block(total: u32, rooms: &[u32]) -> Vec<u32> {
    let mut counts = vec![1; rooms.len()];
    let mut left = total - rooms.len() as u32;
    for (count, room) in counts.iter_mut().zip(rooms) {
        let more = left.min(room.saturating_sub(*count));
        *count += more;
        left -= more;
    }
    counts
}

/// Each node gets `size` more in its turn, as long as it has room.
fn in_turn(total: u32, rooms: &[u32], size: u32) -> Vec<u32> {
    let mut counts = vec![0; rooms.len()];
    let mut left = total;
    while left > 0 {
        for (count, room) in counts.iter_mut().zip(rooms) {
            let more = size.min(left).min(*room - *count);
            *count += more;
            left -= more;
        }
    }
    counts
}

/// The position of each rank's node, by rank.
pub(super) fn deal(counts: &[u32], distribution: Distribution) -> Vec<usize> {
    let size = match distribution {
        Distribution::Block => u32::MAX,
        Distribution::Cyclic => 1,
        Distribution::Plane(size) => size.max(1),
    };
    let mut left = counts.to_vec();
    let mut ranks = Vec::new();
    while left.iter().any(|left| *left > 0) {
        for (node, left) in left.iter_mut().enumerate() {
            let now = size.min(*left);
            ranks.extend(std::iter::repeat_n(node, now as usize));
            *left -= now;
        }
    }
    ranks
}

/// The same for a list of hosts, all of which are in `nodes`.
pub(super) fn arbitrary(hosts: &[String], nodes: &[&str]) -> Vec<usize> {
    hosts.iter().filter_map(|host| nodes.iter().position(|node| node == host)).collect()
}

/// The cores of each of `count` ranks. Where there are more than `width` for each, all are shared out evenly; where
/// there are fewer, ranks share cores in turn.
pub(super) fn spread(cores: &[u32], count: usize, width: usize) -> Vec<Vec<u32>> {
    let total = cores.len();
    if count.saturating_mul(width) <= total {
        return (0..count)
            .map(|rank| cores[rank * total / count..(rank + 1) * total / count].to_vec())
            .collect();
    }
    let one = |rank: usize| {
        let mut own: Vec<u32> =
            (rank * width..(rank + 1) * width).map(|place| cores[place % total]).collect();
        own.sort_unstable();
        own.dedup();
        own
    };
    (0..count).map(one).collect()
}
