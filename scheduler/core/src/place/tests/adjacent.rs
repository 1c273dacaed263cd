use super::{Numbers, irregular, regular};
use crate::cluster::Fill;
use crate::place::{Adjacent, Candidate, Chosen, SwitchTree, Wanted, choose_adjacent, longest_run};

/// What makes a choice good; less is better.
type Quality = (u32, usize, u32, usize, usize);

struct Case {
    tree: SwitchTree,
    order: Vec<u32>,
    candidates: Vec<Candidate>,
    required: Vec<u32>,
    wanted: Wanted,
}

impl Case {
    fn choose(&self) -> Option<Vec<Chosen>> {
        let adjacent = Adjacent { order: &self.order, required: &self.required };
        choose_adjacent(&self.tree, &self.wanted, &self.candidates, adjacent, Fill::Pack)
    }

    /// Places in the pool's order of candidates that hold their part.
    fn able(&self) -> Vec<Option<Candidate>> {
        let low = self.wanted.nodes.map_or(1, |count| self.wanted.ranks / count);
        let able = |position: &u32| {
            self.candidates.iter().copied().find(|c| c.position == *position && c.ranks >= low)
        };
        self.order.iter().map(able).collect()
    }

    /// The quality of the nodes at these places in the pool's order, if they hold what is wanted.
    fn quality(&self, able: &[Option<Candidate>], first: usize, end: usize) -> Option<Quality> {
        let chosen: Vec<Candidate> = able[first..end].iter().copied().collect::<Option<_>>()?;
        let holds = match self.wanted.nodes {
            Some(count) => {
                let low = self.wanted.ranks / count;
                let larger = chosen.iter().filter(|c| c.ranks > low).count();
                chosen.len() == count as usize && larger >= (self.wanted.ranks % count) as usize
            }
            None => {
                let ranks: u32 = chosen.iter().map(|c| c.ranks).sum();
                ranks >= self.wanted.ranks && chosen.len() <= self.wanted.ranks as usize
            }
        };
        let all = self.required.iter().all(|position| chosen.iter().any(|c| c.position == *position));
        let nodes: Vec<_> = chosen.iter().map(|c| self.tree.node_at(c.position)).collect();
        let leaves = self.tree.leaves_of(&nodes);
        let few = self.wanted.leaves_max.is_none_or(|most| leaves <= most);
        let before = able[..first].iter().rev().take_while(|c| c.is_some()).count();
        let after = able[end..].iter().take_while(|c| c.is_some()).count();
        let nodes_count = if self.wanted.nodes.is_none() { chosen.len() } else { 0 };
        let height = self.tree.height(&nodes);
        (holds && all && few).then_some((height, nodes_count, leaves, before + after, before.min(after)))
    }

    fn check(&self) -> bool {
        let able = self.able();
        let count = self.order.len();
        let windows = (0..count).flat_map(|first| (first + 1..=count).map(move |end| (first, end)));
        let best = windows.filter_map(|(first, end)| self.quality(&able, first, end)).min();
        let Some(chosen) = self.choose() else {
            assert_eq!(best, None, "{:?} {:?}", self.candidates, self.wanted);
            return false;
        };
        let place = |chosen: &Chosen| {
            self.order.iter().position(|position| *position == self.tree.position(chosen.node)).unwrap()
        };
        let mut places: Vec<usize> = chosen.iter().map(place).collect();
        places.sort_unstable();
        assert!(places.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{places:?} follow each other");
        assert_eq!(chosen.iter().map(|chosen| chosen.ranks).sum::<u32>(), self.wanted.ranks);
        for chosen in &chosen {
            let held = self.candidates.iter().find(|c| c.position == self.tree.position(chosen.node));
            assert!(chosen.ranks > 0 && chosen.ranks <= held.unwrap().ranks);
        }
        assert_eq!(self.quality(&able, places[0], places[places.len() - 1] + 1), best);
        true
    }
}

#[test]
fn windows_are_the_best_of_all() {
    let mut numbers = Numbers(11);
    let (mut found, mut cases) = (0, 0);
    for case in 0..6_000 {
        let tree = irregular(&mut numbers, 12);
        // Some nodes belong to other pools: they are no gap.
        let order: Vec<u32> = (0..12).filter(|_| numbers.to(7) > 0).collect();
        let candidates: Vec<Candidate> = order
            .iter()
            .filter(|_| numbers.to(5) > 0)
            .map(|position| (*position, 1 + numbers_of(case, *position)))
            .map(|(position, ranks)| Candidate { position, ranks, cores: ranks })
            .collect();
        let nodes = (numbers.to(3) > 0).then(|| 1 + numbers.to(4));
        let ranks = nodes.unwrap_or(1) + numbers.to(6);
        let leaves_max = (numbers.to(3) == 0).then(|| 1 + numbers.to(2));
        let wanted = Wanted { leaves_max, ..Wanted::anywhere(nodes, ranks) };
        let required = match nodes {
            Some(count) if numbers.to(2) == 0 && !order.is_empty() => {
                let mut required: Vec<u32> = (0..=numbers.to(count - 1))
                    .map(|_| order[numbers.to(order.len() as u32 - 1) as usize])
                    .collect();
                required.sort_unstable();
                required.dedup();
                required
            }
            _ => Vec::new(),
        };
        cases += 1;
        found += u32::from(Case { tree, order, candidates, required, wanted }.check());
    }
    assert!(found * 3 > cases && found < cases, "{found} of {cases}");
}

/// How many ranks more than one a node holds.
fn numbers_of(case: u32, position: u32) -> u32 {
    (case.wrapping_mul(2_654_435_761).rotate_left(position * 3) >> 7) % 3
}

fn tight(free: &[u32], count: u32) -> Option<Vec<u32>> {
    let tree = regular(2, 2, 4);
    let order: Vec<u32> = (0..16).collect();
    let candidates: Vec<Candidate> =
        free.iter().map(|position| Candidate { position: *position, ranks: 1, cores: 1 }).collect();
    let adjacent = Adjacent { order: &order, required: &[] };
    let wanted = Wanted::anywhere(Some(count), count);
    let chosen = choose_adjacent(&tree, &wanted, &candidates, adjacent, Fill::Pack)?;
    Some(chosen.iter().map(|chosen| chosen.node.0).collect())
}

#[test]
fn the_lowest_switch_goes_before_the_tightest_gap() {
    assert_eq!(tight(&[0, 1, 2, 3, 5, 6], 2).unwrap(), [5, 6], "the gap that it fills");
    assert_eq!(tight(&[3, 4, 8, 9, 10, 11], 2).unwrap(), [8, 9], "below one leaf, at an end of the run");
    assert_eq!(tight(&[2, 3, 4, 9, 10, 12, 13], 3).unwrap(), [2, 3, 4], "there is no other");
    assert_eq!(tight(&[0, 2, 4, 6], 2), None);
}

#[test]
fn runs_are_counted_in_the_pool() {
    assert_eq!(longest_run([1, 3, 4, 9].into_iter(), &[1, 3, 4, 5, 9]), 3);
    assert_eq!(longest_run([1, 4, 9].into_iter(), &[1, 3, 4, 5, 9]), 1);
    assert_eq!(longest_run([].into_iter(), &[1, 3]), 0);
}
