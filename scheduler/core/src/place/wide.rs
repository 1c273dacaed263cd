//! As many nodes as possible, for a task that is to be spread (`--spread-job` of sbatch(1)).

use std::cmp::Reverse;

use super::{Candidate, Chosen, SwitchTree};

/// Spreads ranks over as many nodes as there are ranks, or else over all candidates: as evenly as what they hold
/// allows. Of more candidates than ranks, the emptiest are taken; the network tree plays no part, as with sbatch(1).
///
/// None if the candidates together do not hold the ranks. Nodes with more ranks come first.
#[must_use]
pub fn choose_widest(tree: &SwitchTree, ranks: u32, candidates: &[Candidate]) -> Option<Vec<Chosen>> {
    let mut nodes: Vec<Candidate> = candidates.iter().filter(|node| node.ranks > 0).copied().collect();
    nodes.sort_by_key(|node| (Reverse(node.cores), node.position));
    nodes.truncate(ranks as usize);
    let held = |most: u32| nodes.iter().map(|node| u64::from(node.ranks.min(most))).sum::<u64>();
    if ranks == 0 || held(ranks) < u64::from(ranks) {
        return None;
    }
    // The least number on the fullest node with which all ranks have a place.
    let (mut least, mut most) = (1, ranks);
    while least < most {
        let middle = least + (most - least) / 2;
        if held(middle) >= u64::from(ranks) { most = middle } else { least = middle + 1 }
    }
    // It fits, for fewer on each node do not hold all.
    let mut left = ranks - held(least - 1) as u32;
    let mut chosen: Vec<Chosen> = nodes
        .iter()
        .map(|node| {
            let more = u32::from(left > 0 && node.ranks >= least);
            left -= more;
            Chosen { node: tree.node_at(node.position), ranks: node.ranks.min(least - 1) + more }
        })
        .collect();
    chosen.sort_by_key(|chosen| (Reverse(chosen.ranks), tree.position(chosen.node)));
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_could_be_spread_wider_or_more_evenly(
            rooms in prop::collection::vec(0u32..6, 0..8),
            ranks in 0u32..20,
        ) {
            let names: Vec<String> = (0..rooms.len()).map(|i| format!("n{i}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let tree = SwitchTree::new(&[], &names);
            let candidates: Vec<Candidate> =
                (0..).zip(&rooms).map(|(position, &ranks)| Candidate { position, ranks, cores: ranks }).collect();
            let held: u32 = rooms.iter().sum();
            let able = rooms.iter().filter(|room| **room > 0).count();
            match choose_widest(&tree, ranks, &candidates) {
                None => prop_assert!(ranks == 0 || held < ranks),
                Some(chosen) => {
                    prop_assert_eq!(chosen.iter().map(|c| c.ranks).sum::<u32>(), ranks);
                    prop_assert_eq!(chosen.len(), able.min(ranks as usize));
                    let room = |c: &Chosen| rooms[tree.position(c.node) as usize];
                    prop_assert!(chosen.iter().all(|c| c.ranks >= 1 && c.ranks <= room(c)));
                    // No rank could move to a node that has two fewer.
                    let fullest = chosen.iter().map(|c| c.ranks).max().unwrap_or(0);
                    prop_assert!(chosen.iter().all(|c| c.ranks == room(c) || c.ranks + 1 >= fullest));
                    prop_assert!(chosen.is_sorted_by_key(|c| Reverse(c.ranks)));
                }
            }
        }
    }
}
