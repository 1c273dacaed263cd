//! How near to the best possible, and how fast.

use super::{Numbers, free, regular};
use crate::cluster::Fill;
use crate::ids::NodeId;
use crate::place::{Candidate, Prefer, SwitchTree, Wanted, choose};

fn place(tree: &SwitchTree, candidates: &[Candidate], count: u32, prefer: Prefer) -> Option<Vec<NodeId>> {
    let wanted = Wanted { nodes: Some(count), ranks: count, leaves_max: None, prefer };
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

/// What `count` nodes can have at best, with the lowest height.
struct Best {
    height: u32,
    leaves: u32,
    distance: u64,
    /// The smallest distance of those with the fewest leaves.
    distance_of_fewest: u64,
    /// The fewest leaves of those with the smallest distance.
    leaves_of_nearest: u32,
}

fn optimum(free: &[u32], count: usize) -> Best {
    let pods = [pod(&free[..4]), pod(&free[4..])];
    let pairs = |x: usize| (x * x.saturating_sub(1) / 2) as u64;
    let mut all = Vec::new();
    for x in count.saturating_sub(pods[1].len() - 1)..=count.min(pods[0].len() - 1) {
        let in_pods = pairs(x) + pairs(count - x);
        for (a, first) in pods[0][x].iter().enumerate() {
            for (b, second) in pods[1][count - x].iter().enumerate() {
                let (Some(first), Some(second)) = (first, second) else { continue };
                let distance = 2 * (3 * pairs(count) - in_pods - first - second);
                let height = if x > 0 && x < count { 3 } else { 1 + u32::from(a + b > 1) };
                all.push((height, (a + b) as u32, distance));
            }
        }
    }
    let (height, leaves, distance_of_fewest) = *all.iter().min().unwrap();
    let nearest = all.iter().map(|(height, leaves, distance)| (*height, *distance, *leaves)).min().unwrap();
    Best { height, leaves, distance: nearest.1, distance_of_fewest, leaves_of_nearest: nearest.2 }
}

/// Shares of cases in which something is as good as it can be.
#[derive(Default)]
struct Tally {
    cases: u32,
    fewest: u32,
    nearest: u32,
    ratios: f64,
}

impl Tally {
    fn add(&mut self, tree: &SwitchTree, nodes: &[NodeId], best: &Best) {
        let distance = tree.pair_distance(nodes);
        self.cases += 1;
        self.fewest += u32::from(tree.leaves_of(nodes) == best.leaves);
        self.nearest += u32::from(distance == best.distance);
        self.ratios += distance as f64 / best.distance as f64;
    }

    /// Per cent with the fewest leaves, per cent with the smallest distance, mean ratio to it.
    fn sums(&self, name: &str) -> (f64, f64, f64) {
        let per_cent = |count: u32| f64::from(count) * 100.0 / f64::from(self.cases);
        let sums = (per_cent(self.fewest), per_cent(self.nearest), self.ratios / f64::from(self.cases));
        println!(
            "{name}: {} cases, fewest leaves {:.1} %, nearest {:.1} %, ratio {:.5}",
            self.cases, sums.0, sums.1, sums.2
        );
        sums
    }
}

/// Two pods of four leaves of eight nodes, some of them free, and a gang of any size that fits.
#[test]
fn choices_are_the_best_that_there_are() {
    let tree = regular(2, 4, 8);
    let mut numbers = Numbers(5);
    let [mut leaves_first, mut distance_first, mut up_to_16] = [(); 3].map(|()| Tally::default());
    while leaves_first.cases < 2_000 {
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
        let best = optimum(&per_leaf, count as usize);
        let nodes = place(&tree, &candidates, count, Prefer::FewestLeaves).unwrap();
        let got = (tree.height(&nodes), tree.leaves_of(&nodes), tree.pair_distance(&nodes));
        assert_eq!(got, (best.height, best.leaves, best.distance_of_fewest));
        leaves_first.add(&tree, &nodes, &best);
        if count <= 16 {
            up_to_16.add(&tree, &nodes, &best);
        }
        let nodes = place(&tree, &candidates, count, Prefer::ShortestDistances).unwrap();
        let got = (tree.height(&nodes), tree.leaves_of(&nodes), tree.pair_distance(&nodes));
        assert_eq!(got, (best.height, best.leaves_of_nearest, best.distance));
        distance_first.add(&tree, &nodes, &best);
    }
    // Fewest leaves and smallest distance exclude each other in a tenth of the cases.
    let (fewest, nearest, ratio) = up_to_16.sums("leaves first, up to 16 nodes");
    assert!(fewest == 100.0 && nearest > 90.0 && ratio < 1.005);
    let (fewest, nearest, ratio) = leaves_first.sums("leaves first");
    assert!(fewest == 100.0 && nearest > 85.0 && ratio < 1.01);
    let (fewest, nearest, ratio) = distance_first.sums("distances first");
    assert!(fewest > 85.0 && nearest == 100.0 && ratio == 1.0);
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
    let (mut sum, mut cases) = ([0.0, 0.0], 0);
    for share in [3, 6, 9, 10] {
        for count in [20, 100, 500, 2_000] {
            let candidates = free((0..tree.len()).filter(|_| numbers.to(9) < share));
            for (sum, prefer) in sum.iter_mut().zip([Prefer::FewestLeaves, Prefer::ShortestDistances]) {
                let nodes = place(&tree, &candidates, count, prefer).unwrap();
                let bound = bound(&tree, &candidates, u64::from(count));
                let ratio = tree.pair_distance(&nodes) as f64 / bound as f64;
                println!("{count} nodes, {share} tenths free, {prefer:?}: {ratio:.4}");
                *sum += ratio;
            }
            cases += 1;
        }
    }
    let [leaves, distances] = sum.map(|sum| sum / f64::from(cases));
    println!("mean ratio to the bound: leaves first {leaves:.5}, distances first {distances:.5}");
    // The bound looks at each level for itself, so it is not reached by any choice.
    assert!(leaves < 1.03 && distances < 1.02, "{leaves} {distances}");
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
    for (name, tree, candidates) in
        [("all free", &tree, &all), ("half free", &tree, &half), ("flat", &flat, &half)]
    {
        let counts = [1, 2, 8, 16, 64, 512, 4_000].map(|count| (count, Prefer::FewestLeaves));
        let more = [64, 512, 4_000].map(|count| (count, Prefer::ShortestDistances));
        for (count, prefer) in counts.into_iter().chain(more) {
            let rounds = 500;
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                std::hint::black_box(place(tree, std::hint::black_box(candidates), count, prefer));
            }
            println!(
                "{name}, {count} nodes, {prefer:?}: {:.1} us",
                start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
            );
        }
    }
}
