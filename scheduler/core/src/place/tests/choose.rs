use super::{Numbers, free, irregular, names, regular};
use crate::cluster::Fill;
use crate::ids::NodeId;
use crate::place::{Candidate, Chosen, Prefer, SwitchTree, Wanted, choose};

fn gang(nodes: u32) -> Wanted {
    Wanted { nodes: Some(nodes), ranks: nodes, leaves_max: None, prefer: Prefer::FewestLeaves }
}

fn nodes(chosen: &[Chosen]) -> Vec<NodeId> {
    chosen.iter().map(|chosen| chosen.node).collect()
}

fn shares(chosen: &Option<Vec<Chosen>>) -> Vec<(u32, u32)> {
    chosen.iter().flatten().map(|chosen| (chosen.node.0, chosen.ranks)).collect()
}

/// How good a choice is; what counts most first.
fn quality(tree: &SwitchTree, nodes: &[NodeId]) -> (u32, u32, u64) {
    (tree.height(nodes), tree.leaves_of(nodes), tree.pair_distance(nodes))
}

/// All sets of so many of the candidates that `holds` accepts.
fn all_sets<'a>(
    candidates: &'a [Candidate],
    holds: impl Fn(&[Candidate]) -> bool + 'a,
) -> impl Iterator<Item = Vec<Candidate>> + 'a {
    (1_u32..1 << candidates.len())
        .map(|set| (0..candidates.len()).filter(|i| set >> i & 1 == 1).map(|i| candidates[i]).collect())
        .filter(move |set: &Vec<Candidate>| holds(set))
}

fn best_quality(
    tree: &SwitchTree,
    candidates: &[Candidate],
    leaves_max: u32,
    holds: impl Fn(&[Candidate]) -> bool,
) -> Option<(u32, u32, u64)> {
    all_sets(candidates, holds)
        .map(|set| set.iter().map(|candidate| tree.node_at(candidate.position)).collect::<Vec<_>>())
        .map(|set| quality(tree, &set))
        .filter(|quality| quality.1 <= leaves_max)
        .min()
}

/// What must hold for every answer.
fn check(wanted: &Wanted, tree: &SwitchTree, candidates: &[Candidate], chosen: &[Chosen]) {
    assert_eq!(chosen.iter().map(|chosen| chosen.ranks).sum::<u32>(), wanted.ranks);
    let key = |chosen: &Chosen| (std::cmp::Reverse(chosen.ranks), tree.position(chosen.node));
    assert!(chosen.is_sorted_by(|a, b| key(a) < key(b)), "{chosen:?} follows the tree");
    for chosen in chosen {
        let position = tree.position(chosen.node);
        let candidate = candidates.iter().find(|candidate| candidate.position == position).unwrap();
        assert!(candidate.ranks >= chosen.ranks && chosen.ranks > 0);
    }
    if let Some(count) = wanted.nodes {
        assert_eq!(chosen.len(), count as usize);
        let (most, least) = (chosen[0].ranks, chosen[chosen.len() - 1].ranks);
        assert!(most - least <= 1);
    }
    assert!(wanted.leaves_max.is_none_or(|most| tree.leaves_of(&nodes(chosen)) <= most));
}

#[test]
fn gangs_of_any_tree_are_as_near_as_can_be() {
    let mut numbers = Numbers(2);
    for case in 0..1_500 {
        let tree = irregular(&mut numbers, 10);
        let candidates = free((0..10).filter(|_| numbers.to(3) > 0));
        let leaves_max = numbers.to(4);
        let wanted = Wanted { leaves_max: (leaves_max > 0).then_some(leaves_max), ..gang(2 + numbers.to(6)) };
        let count = wanted.ranks as usize;
        let most = wanted.leaves_max.unwrap_or(u32::MAX);
        let best = best_quality(&tree, &candidates, most, |set| set.len() == count);
        if most == u32::MAX {
            let wanted = Wanted { prefer: Prefer::ShortestDistances, ..wanted };
            let nearest = choose(&tree, &wanted, &candidates, Fill::Pack);
            let nearest = nearest.map(|chosen| quality(&tree, &nodes(&chosen))).map(|(h, s, d)| (h, d, s));
            let best = all_sets(&candidates, |set| set.len() == count)
                .map(|set| set.iter().map(|candidate| tree.node_at(candidate.position)).collect::<Vec<_>>())
                .map(|set| (tree.height(&set), tree.pair_distance(&set), tree.leaves_of(&set)))
                .min();
            assert_eq!(nearest, best, "case {case}: {tree:?} {candidates:?}");
        }
        let chosen = choose(&tree, &wanted, &candidates, Fill::Pack);
        if let Some(chosen) = &chosen {
            check(&wanted, &tree, &candidates, chosen);
        }
        assert_eq!(
            chosen.map(|chosen| quality(&tree, &nodes(&chosen))),
            best,
            "case {case}: {tree:?} {candidates:?}"
        );
    }
}

#[test]
fn unequal_parts_find_nodes_with_room_at_the_lowest_height() {
    let mut numbers = Numbers(3);
    let (mut cases, mut best_cases) = (0, 0);
    for _ in 0..1_500 {
        let tree = irregular(&mut numbers, 10);
        let mut candidates = free((0..10).filter(|_| numbers.to(5) > 0));
        for candidate in &mut candidates {
            candidate.ranks = 1 + numbers.to(2);
        }
        let count = 2 + numbers.to(4);
        let wanted = Wanted {
            nodes: Some(count),
            ranks: count + numbers.to(count),
            leaves_max: None,
            prefer: Prefer::FewestLeaves,
        };
        let (low, larger) = (wanted.ranks / count, wanted.ranks % count);
        let best = best_quality(&tree, &candidates, u32::MAX, |set| {
            set.len() == count as usize
                && set.iter().all(|candidate| candidate.ranks >= low)
                && set.iter().filter(|candidate| candidate.ranks > low).count() >= larger as usize
        });
        let chosen = choose(&tree, &wanted, &candidates, Fill::Pack);
        assert_eq!(chosen.is_some(), best.is_some());
        if let (Some(chosen), Some(best)) = (chosen, best) {
            check(&wanted, &tree, &candidates, &chosen);
            let got = quality(&tree, &nodes(&chosen));
            assert_eq!(got.0, best.0, "{candidates:?} {wanted:?}");
            cases += 1;
            best_cases += u32::from(got == best);
        }
    }
    assert!(cases > 500 && best_cases * 100 >= cases * 98, "{best_cases} of {cases} are the best");
}

#[test]
fn few_nodes_are_as_few_as_can_be_below_the_lowest_switch() {
    let mut numbers = Numbers(4);
    let (mut cases, mut best_cases) = (0, 0);
    for _ in 0..1_500 {
        let tree = irregular(&mut numbers, 10);
        let mut candidates = free((0..10).filter(|_| numbers.to(5) > 0));
        for candidate in &mut candidates {
            candidate.ranks = 1 + numbers.to(3);
        }
        let wanted =
            Wanted { nodes: None, ranks: 1 + numbers.to(15), leaves_max: None, prefer: Prefer::FewestLeaves };
        let holds = |set: &[Candidate]| set.iter().map(|c| c.ranks).sum::<u32>() >= wanted.ranks;
        let best = all_sets(&candidates, holds)
            .map(|set| set.iter().map(|candidate| tree.node_at(candidate.position)).collect::<Vec<_>>())
            .map(|set| (tree.height(&set), set.len(), tree.leaves_of(&set), tree.pair_distance(&set)))
            .min();
        let chosen = choose(&tree, &wanted, &candidates, Fill::Pack);
        assert_eq!(chosen.is_some(), best.is_some());
        if let (Some(chosen), Some(best)) = (chosen, best) {
            check(&wanted, &tree, &candidates, &chosen);
            let (height, leaves, distance) = quality(&tree, &nodes(&chosen));
            let got = (height, chosen.len(), leaves, distance);
            assert_eq!((got.0, got.1), (best.0, best.1), "{candidates:?} {wanted:?}");
            cases += 1;
            best_cases += u32::from(got == best);
        }
    }
    assert!(cases > 500 && best_cases * 100 >= cases * 95, "{best_cases} of {cases} are the best");
}

#[test]
fn one_node_is_the_tightest_or_the_emptiest() {
    let tree = regular(1, 2, 2);
    let cores = [8, 4, 6, 8];
    let candidates: Vec<Candidate> = (0..4)
        .map(|i| Candidate { position: i, ranks: cores[i as usize], cores: cores[i as usize] })
        .collect();
    let wanted = Wanted { nodes: None, ranks: 5, leaves_max: None, prefer: Prefer::FewestLeaves };
    assert_eq!(shares(&choose(&tree, &wanted, &candidates, Fill::Pack)), [(2, 5)]);
    assert_eq!(shares(&choose(&tree, &wanted, &candidates, Fill::Spread)), [(0, 5)]);
    let wanted = Wanted { nodes: None, ranks: 14, leaves_max: None, prefer: Prefer::FewestLeaves };
    assert_eq!(shares(&choose(&tree, &wanted, &candidates, Fill::Pack)), [(3, 8), (2, 6)]);
    // Of equal nodes, that on the leaf that is used already.
    let wanted = Wanted { nodes: Some(1), ranks: 8, leaves_max: Some(1), prefer: Prefer::FewestLeaves };
    assert_eq!(shares(&choose(&tree, &wanted, &candidates[1..], Fill::Pack)), [(3, 8)]);
    let equal: Vec<Candidate> = [0, 1, 3].map(|i| Candidate { position: i, ranks: 8, cores: 8 }).to_vec();
    assert_eq!(shares(&choose(&tree, &wanted, &equal, Fill::Pack)), [(3, 8)]);
    assert_eq!(shares(&choose(&tree, &wanted, &equal, Fill::Spread)), [(0, 8)]);
}

#[test]
fn the_tightest_leaf_and_the_tightest_nodes_are_taken() {
    let tree = regular(1, 2, 4);
    // The first leaf is all free, the second has one node less.
    assert_eq!(shares(&choose(&tree, &gang(2), &free([0, 1, 2, 3, 4, 5, 7]), Fill::Pack)), [(4, 1), (5, 1)]);
    let mut candidates = free(4..8);
    candidates[0].cores = 4;
    candidates[2].cores = 2;
    assert_eq!(shares(&choose(&tree, &gang(2), &candidates, Fill::Pack)), [(5, 1), (7, 1)]);
    assert_eq!(shares(&choose(&tree, &gang(2), &candidates, Fill::Spread)), [(4, 1), (6, 1)]);
}

#[test]
fn a_limit_on_leaves_may_cost_height() {
    // Two pods: the first has leaves with two free nodes each, the second one with four.
    let tree = regular(2, 3, 4);
    let candidates = free([0, 1, 4, 5, 8, 9, 12, 13, 14, 15]);
    let leaves = |leaves_max: Option<u32>| {
        let chosen = choose(&tree, &Wanted { leaves_max, ..gang(6) }, &candidates, Fill::Pack);
        chosen.map(|chosen| (tree.height(&nodes(&chosen)), tree.leaves_of(&nodes(&chosen))))
    };
    assert_eq!(leaves(None), Some((2, 3)));
    assert_eq!(leaves(Some(2)), Some((3, 2)));
    assert_eq!(leaves(Some(1)), None);
    assert_eq!(leaves(Some(0)), None);
}

#[test]
fn larger_parts_come_first() {
    let names = names(4);
    let tree = SwitchTree::new(&[], &names.iter().map(String::as_str).collect::<Vec<_>>());
    let candidates: Vec<Candidate> = [1, 2, 1, 2]
        .iter()
        .zip(0..)
        .map(|(&ranks, position)| Candidate { position, ranks, cores: ranks })
        .collect();
    let wanted = Wanted { nodes: Some(3), ranks: 5, leaves_max: None, prefer: Prefer::FewestLeaves };
    assert_eq!(shares(&choose(&tree, &wanted, &candidates, Fill::Pack)), [(1, 2), (3, 2), (0, 1)]);
    let wanted = Wanted { ranks: 6, ..wanted };
    assert_eq!(choose(&tree, &wanted, &candidates, Fill::Pack), None);
}

#[test]
fn nothing_comes_of_nothing() {
    let tree = regular(2, 2, 2);
    for wanted in [gang(1), gang(3), Wanted { nodes: None, ..gang(3) }, gang(0)] {
        assert_eq!(choose(&tree, &wanted, &[], Fill::Pack), None);
    }
    assert_eq!(choose(&tree, &gang(9), &free(0..8), Fill::Pack), None);
    let empty = SwitchTree::new(&[], &[]);
    assert_eq!(choose(&empty, &gang(2), &[], Fill::Pack), None);
}
