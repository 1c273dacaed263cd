//! The tree in which the daemons of a step hang: the starter speaks with the first node of each of at most so many
//! branches, each of these with the first nodes of its own, and so on. A branch is a range of neighbours, so what a node
//! passes on needs no list of names.

use std::ops::Range;

/// How many daemons the starter, or a daemon, speaks with. With 32, 1,056 nodes are two hops away and 33,824 three; half
/// of it would need one hop more from 273 nodes on, and twice as many connections would take a daemon longer to serve
/// than a hop does.
pub const WIDTH: u32 = 32;

/// The most that may be asked for: Slurm's limit for `TreeWidth` (slurm.conf(5)).
pub const WIDTH_MAX: u32 = 65_533;

/// Splits nodes into branches of nearly the same size, at most `width` of them. The first node of each is its head;
/// the others hang below it in the same way.
pub fn branches(nodes: Range<u32>, width: u32) -> Vec<Range<u32>> {
    let count = nodes.len() as u32;
    let parts = width.clamp(1, WIDTH_MAX).min(count);
    let mut all = Vec::with_capacity(parts as usize);
    let mut first = nodes.start;
    for part in 0..parts {
        let size = count / parts + u32::from(part < count % parts);
        all.push(first..first + size);
        first += size;
    }
    all
}

/// The branches below the head of one.
pub fn below(branch: &Range<u32>, width: u32) -> Vec<Range<u32>> {
    branches(branch.start + 1..branch.end, width)
}

/// The nodes of a step that hang below others, and not directly below the starter.
pub fn deeper(count: u32, width: u32) -> impl Iterator<Item = u32> {
    branches(0..count, width).into_iter().flat_map(|branch| branch.start + 1..branch.end)
}

/// How many hops away from the starter the farthest node is.
pub fn depth(count: u32, width: u32) -> u32 {
    // The first of the branches is never smaller than the others.
    match branches(0..count, width).first() {
        None => 0,
        Some(first) => 1 + depth(first.len() as u32 - 1, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every node of a branch, with how many others speak with it from below.
    fn visit(branches: Vec<Range<u32>>, width: u32, seen: &mut Vec<u32>) {
        assert!(branches.len() <= width as usize);
        for branch in branches {
            seen.push(branch.start);
            visit(below(&branch, width), width, seen);
        }
    }

    #[test]
    fn each_node_is_reached_once_by_no_more_than_the_width() {
        for (count, width) in [(1, 1), (5, 1), (7, 2), (32, 32), (33, 32), (100, 3), (10_000, 32)] {
            let mut seen = Vec::new();
            visit(branches(0..count, width), width, &mut seen);
            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{count} {width}");
        }
    }

    #[test]
    fn it_is_no_deeper_than_it_must_be() {
        for (count, width, hops) in [
            (0, 32, 0),
            (32, 32, 1),
            (33, 32, 2),
            (1_056, 32, 2),
            (1_057, 32, 3),
            (10_000, 32, 3),
            (33_824, 32, 3),
            (33_825, 32, 4),
            (4_368, 16, 3),
            (6, 2, 2),
            (7, 2, 3),
            (3, 1, 3),
        ] {
            assert_eq!(depth(count, width), hops, "{count} {width}");
        }
        assert_eq!(deeper(7, 2).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        assert_eq!(deeper(32, 32).count(), 0);
    }
}
