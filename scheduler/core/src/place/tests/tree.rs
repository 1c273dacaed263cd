use super::{Numbers, irregular, names, regular, switch};
use crate::ids::NodeId;
use crate::place::SwitchTree;

fn tree(switches: &[(&str, &[&str], &[&str])], nodes: u32) -> SwitchTree {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let switches: Vec<_> = switches
        .iter()
        .map(|(name, nodes, below)| switch((*name).to_owned(), owned(nodes), owned(below)))
        .collect();
    let names = names(nodes);
    SwitchTree::new(&switches, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn distances_of_a_regular_tree() {
    let tree = regular(2, 2, 2);
    assert_eq!((tree.levels(), tree.leaves(), tree.len()), (3, 4, 8));
    let distances: Vec<u32> = (0..8).map(|node| tree.distance(NodeId(0), NodeId(node))).collect();
    assert_eq!(distances, [0, 2, 4, 4, 6, 6, 6, 6]);
    assert_eq!(tree.pair_distance(&[NodeId(0), NodeId(1), NodeId(2), NodeId(7)]), 2 + 4 + 4 + 6 + 6 + 6);
}

#[test]
fn without_switches_all_nodes_are_on_one() {
    let tree = tree(&[], 3);
    assert_eq!((tree.levels(), tree.leaves()), (1, 1));
    assert_eq!(tree.distance(NodeId(0), NodeId(2)), 2);
    assert!(self::tree(&[], 0).is_empty());
}

#[test]
fn several_roots_and_nodes_on_no_switch_are_joined_above() {
    let tree = tree(&[("a", &["n3", "n0"], &[]), ("top", &[], &["mid"]), ("mid", &["n1"], &[])], 5);
    // a is a leaf of its own, top has level 2, so the imagined switch has level 3.
    assert_eq!((tree.levels(), tree.leaves()), (3, 3));
    let order: Vec<u32> = (0..5).map(|position| tree.node_at(position).0).collect();
    assert_eq!(order, [3, 0, 1, 2, 4]);
    assert_eq!(tree.distance(NodeId(0), NodeId(3)), 2);
    assert_eq!(tree.distance(NodeId(0), NodeId(1)), 6);
    // These two are on no switch.
    assert_eq!(tree.distance(NodeId(2), NodeId(4)), 6);
    assert_eq!(tree.leaves_of(&[NodeId(2), NodeId(4), NodeId(0)]), 2);
}

#[test]
fn nodes_directly_on_an_inner_switch_meet_there() {
    let tree = tree(&[("top", &["n0", "n1"], &["leaf"]), ("leaf", &["n2", "n3"], &[])], 4);
    assert_eq!((tree.levels(), tree.leaves()), (2, 2));
    assert_eq!(tree.distance(NodeId(0), NodeId(1)), 4);
    assert_eq!(tree.distance(NodeId(2), NodeId(3)), 2);
    assert_eq!(tree.distance(NodeId(1), NodeId(2)), 4);
}

#[test]
fn what_the_configuration_would_refuse_does_no_harm() {
    let tree = tree(
        &[
            ("a", &["n0", "x"], &["b", "none"]),
            ("b", &["n0", "n1"], &["a"]),
            ("a", &["n2"], &[]),
            ("empty", &[], &[]),
        ],
        4,
    );
    assert_eq!(tree.len(), 4);
    let mut nodes: Vec<u32> = (0..4).map(|position| tree.node_at(position).0).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [0, 1, 2, 3]);
}

#[test]
fn switches_are_ranges_and_distances_agree() {
    let mut numbers = Numbers(1);
    for _ in 0..500 {
        let tree = irregular(&mut numbers, 12);
        let nodes: Vec<NodeId> = (0..12).map(NodeId).collect();
        for node in &nodes {
            assert_eq!(tree.node_at(tree.position(*node)), *node);
        }
        for (index, switch) in tree.switches.iter().enumerate() {
            let parent = tree.switches[switch.parent as usize];
            assert!(parent.first <= switch.first && switch.end <= parent.end && switch.first < switch.end);
            assert!(parent.level >= switch.level);
            assert!(index < switch.below_end as usize && switch.below_end <= parent.below_end);
        }
        let mut sum = 0;
        for (i, a) in nodes.iter().enumerate() {
            for b in &nodes[..i] {
                assert_eq!(tree.distance(*a, *b), tree.distance(*b, *a));
                sum += u64::from(tree.distance(*a, *b));
            }
        }
        assert_eq!(tree.pair_distance(&nodes), sum);
    }
}
