//! How near to the best possible, and how fast.

use super::{Numbers, free, regular};
use crate::cluster::Fill;
use crate::ids::NodeId;
use crate::place::{Candidate, SwitchTree, Wanted, choose};

fn place(tree: &SwitchTree, candidates: &[Candidate], count: u32) -> Option<Vec<NodeId>> {
    let wanted = Wanted { nodes: Some(count), ranks: count, leaves_max: None };
    let chosen = choose(tree, &wanted, candidates, Fill::Pack)?;
    Some(chosen.into_iter().map(|chosen| chosen.node).collect())
}

/// For each number of nodes in a pod of four leaves: the pairs on the same leaf, for each number of leaves, at most.
/// Found by trying all numbers of nodes on each leaf.
fn pod(free: &[u32]) -> Vec<[Option<u64>; 5]> {
    let mut best = vec![[None; 5]; free.iter().sum::<u32>() as usize + 1];
    let mut x = [0; 4];
    loop {
        let leaves = x.iter().filter(|x| **x > 0).count();
        let pairs: u64 = x.iter().map(|x| u64::from(x * (x.max(&1) - 1) / 2)).sum();
        let entry = &mut best[x.iter().sum::<u32>() as usize][leaves];
        *entry = (*entry).max(Some(pairs));
        let Some(i) = (0..4).find(|i| x[*i] < free[*i]) else { return best };
        x[i] += 1;
        x[..i].fill(0);
    }
}

/// The fewest leaves, and the smallest sum of distances, each on its own, that `count` nodes can have.
fn optimum(free: &[u32], count: usize) -> (u32, u64) {
    let pods = [pod(&free[..4]), pod(&free[4..])];
    let pairs = |x: usize| (x * x.saturating_sub(1) / 2) as u64;
    let (mut leaves, mut distance) = (usize::MAX, u64::MAX);
    for x in count.saturating_sub(pods[1].len() - 1)..=count.min(pods[0].len() - 1) {
        let in_pods = pairs(x) + pairs(count - x);
        for (a, first) in pods[0][x].iter().enumerate() {
            for (b, second) in pods[1][count - x].iter().enumerate() {
                let (Some(first), Some(second)) = (first, second) else { continue };
                leaves = leaves.min(a + b);
                distance = distance.min(2 * (3 * pairs(count) - in_pods - first - second));
            }
        }
    }
    (leaves as u32, distance)
}

/// Two pods of four leaves of eight nodes, about `share` tenths of them free, and a gang of any size that fits.
#[test]
fn nearly_all_choices_are_the_best() {
    let tree = regular(2, 4, 8);
    let mut numbers = Numbers(5);
    let (mut cases, mut fewest, mut nearest, mut lowest, mut ratio) = (0, 0, 0, 0, 0.0);
    while cases < 4_000 {
        let share = 1 + numbers.to(8);
        let candidates = free((0..64).filter(|_| numbers.to(9) < share));
        if candidates.len() < 2 {
            continue;
        }
        let count = 2 + numbers.to(candidates.len() as u32 - 2);
        let mut per_leaf = [0_u32; 8];
        for candidate in &candidates {
            per_leaf[candidate.position as usize / 8] += 1;
        }
        let (leaves, distance) = optimum(&per_leaf, count as usize);
        let nodes = place(&tree, &candidates, count).unwrap();
        let most_in = |size: usize| per_leaf.chunks(size).map(|leaf| leaf.iter().sum::<u32>()).max().unwrap();
        let height = if most_in(1) >= count { 1 } else if most_in(4) >= count { 2 } else { 3 };
        cases += 1;
        lowest += u32::from(tree.height(&nodes) == height);
        fewest += u32::from(tree.leaves_of(&nodes) == leaves);
        nearest += u32::from(tree.pair_distance(&nodes) == distance);
        ratio += tree.pair_distance(&nodes) as f64 / distance as f64;
    }
    let ratio = ratio / f64::from(cases);
    println!("of {cases}: lowest {lowest}, fewest leaves {fewest}, nearest {nearest}; mean ratio {ratio:.5}");
    assert_eq!(lowest, cases);
    assert!(fewest * 100 >= cases * 98, "fewest leaves in {fewest} of {cases}");
    assert!(nearest * 100 >= cases * 98, "nearest in {nearest} of {cases}");
    assert!(ratio < 1.005, "mean ratio to the optimum {ratio}");
}

/// The smallest sum of distances that is thinkable on a tree of three levels: as many pairs as possible on a leaf and
/// in a pod, each level for itself.
fn bound(tree: &SwitchTree, candidates: &[Candidate], count: u64) -> u64 {
    let pairs_at = |size: u32| {
        let mut free = vec![0_u64; (tree.len() / size) as usize];
        for candidate in candidates {
            free[(candidate.position / size) as usize] += 1;
        }
        free.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = count;
        let mut pairs = 0;
        for free in free {
            let x = free.min(left);
            pairs += x * x.saturating_sub(1) / 2;
            left -= x;
        }
        pairs
    };
    2 * (3 * (count * (count - 1) / 2) - pairs_at(18) - pairs_at(324))
}

#[test]
fn large_gangs_on_a_large_tree_are_near_the_bound() {
    let tree = regular(31, 18, 18);
    let mut numbers = Numbers(6);
    let (mut sum, mut cases) = (0.0, 0);
    for share in [3, 6, 9, 10] {
        for count in [20, 100, 500, 2_000] {
            let candidates = free((0..tree.len()).filter(|_| numbers.to(9) < share));
            let nodes = place(&tree, &candidates, count).unwrap();
            let ratio = tree.pair_distance(&nodes) as f64 / bound(&tree, &candidates, u64::from(count)) as f64;
            assert!(ratio < 1.05, "{count} nodes, {share} tenths free: {ratio}");
            sum += ratio;
            cases += 1;
        }
    }
    let mean = sum / f64::from(cases);
    println!("mean ratio to the bound {mean:.5}");
    assert!(mean < 1.02, "mean ratio to the bound {mean}");
}

/// `cargo test --release -p muster-core --lib place::tests::quality::speed -- --ignored --nocapture`
#[test]
#[ignore = "measures time"]
fn speed() {
    let tree = regular(31, 18, 18);
    let mut numbers = Numbers(7);
    let all = free(0..tree.len());
    let half = free((0..tree.len()).filter(|_| numbers.to(1) == 0));
    let names: Vec<String> = (0..tree.len()).map(|i| i.to_string()).collect();
    let flat = SwitchTree::new(&[], &names.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, tree, candidates) in [("all free", &tree, &all), ("half free", &tree, &half), ("flat", &flat, &half)] {
        for count in [1, 2, 8, 16, 64, 512, 4_000] {
            let rounds = 500;
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                std::hint::black_box(place(tree, std::hint::black_box(candidates), count));
            }
            println!("{name}, {count} nodes: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
        }
    }
}
