//! Where exactly: which nodes a task gets, and which cores of a node.
//!
//! Pure functions over plain values; a scheduling pass keeps what is free and asks here. Nodes are named by their
//! position in a walk through the [`SwitchTree`], so that a switch is a range of positions.

mod adjacent;
mod cores;
mod few;
mod gang;
mod near;
mod split;
#[cfg(test)]
mod tests;
mod tree;
mod wide;

pub use adjacent::{Adjacent, choose_adjacent, longest_run};
pub use cores::pick_cores;
pub use near::{DeviceWish, pick_with_devices};
pub use tree::SwitchTree;
pub use wide::choose_widest;

use crate::cluster::Fill;
use crate::ids::NodeId;

/// What is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Exactly so many nodes; as few as hold the ranks without.
    pub nodes: Option<u32>,
    /// Ranks of all nodes together.
    pub ranks: u32,
    /// Most leaf switches that the nodes may be on.
    pub leaves_max: Option<u32>,
    /// What makes several nodes near to each other.
    pub prefer: Prefer,
}

/// Which nodes below the lowest switch are the best. Both counts are least at once for most gangs; where they are
/// not, one has to give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Prefer {
    /// Those on the fewest leaf switches, and of these the nearest. A large gang may so be scattered over the fullest
    /// leaves of the whole cluster.
    FewestLeaves,
    /// Those with the least sum of distances over all pairs, and of these the ones on the fewest leaf switches.
    #[default]
    ShortestDistances,
}

/// A node that could hold a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The node's position in the tree.
    pub position: u32,
    /// How many ranks it can hold.
    pub ranks: u32,
    /// How many of its cores are free; says which nodes are tight and which are empty.
    pub cores: u32,
}

/// A node and how many ranks it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The node.
    pub node: NodeId,
    /// Its ranks.
    pub ranks: u32,
}

/// Chooses nodes, or none if the candidates cannot hold what is wanted.
///
/// `candidates` are in rising order of their positions, each once. The nodes are always below the lowest switch
/// that can hold what is wanted; there they are on as few leaf switches as possible and as near to each other as
/// possible (the sum of [`SwitchTree::distance`] over all pairs), in the order of [`Wanted::prefer`]; then where they
/// leave as little broken up as possible: switches and nodes that are partly used anyway first. Where the search
/// for the best would take long (hundreds of nodes among thousands), or where nodes differ in the ranks that they
/// hold, leaf switches and distances may be a little more than the least.
///
/// With [`Wanted::nodes`] the ranks are split as equally as possible over exactly that many nodes. Without, one node
/// is taken if one has room ([`Fill::Pack`]: the one with the fewest free cores, [`Fill::Spread`]: the emptiest),
/// else as few as possible below the lowest switch, filled in turn.
///
/// The answer follows the tree, but nodes with more ranks come first.
#[must_use]
pub fn choose(
    tree: &SwitchTree,
    wanted: &Wanted,
    candidates: &[Candidate],
    fill: Fill,
) -> Option<Vec<Chosen>> {
    debug_assert!(candidates.is_sorted_by(|a, b| a.position < b.position), "candidates rise and differ");
    if wanted.leaves_max == Some(0) {
        return None;
    }
    match wanted.nodes {
        Some(0) => None,
        Some(1) => one_node(tree, wanted.ranks, candidates, fill).map(|one| vec![one]),
        Some(count) => gang::choose_exactly(tree, wanted, count, candidates, Manner::new(wanted, fill)),
        None => match one_node(tree, wanted.ranks, candidates, fill) {
            Some(one) => Some(vec![one]),
            None => few::choose_few(tree, wanted.ranks, candidates, Manner::new(wanted, fill)),
        },
    }
}

/// How nodes are compared.
#[derive(Debug, Clone, Copy)]
struct Manner {
    leaves_max: Option<u32>,
    prefer: Prefer,
    fill: Fill,
}

impl Manner {
    fn new(wanted: &Wanted, fill: Fill) -> Self {
        Self { leaves_max: wanted.leaves_max, prefer: wanted.prefer, fill }
    }

    /// The same without the limit on leaves.
    fn unlimited(self) -> Self {
        Self { leaves_max: None, ..self }
    }

    fn allows(self, leaves: u32) -> bool {
        self.leaves_max.is_none_or(|most| leaves <= most)
    }

    /// The ways to look for nodes, one after the other until one keeps the limit on leaves.
    fn attempts(self) -> impl Iterator<Item = Self> {
        let fewest = Self { prefer: Prefer::FewestLeaves, ..self };
        let again = self.leaves_max.is_some() && self.prefer != Prefer::FewestLeaves;
        std::iter::once(self).chain(again.then_some(fewest))
    }
}

/// The candidates by leaf switch.
struct Below<'c> {
    tree: &'c SwitchTree,
    candidates: &'c [Candidate],
    /// The first candidate of each leaf, and the number of all at the end.
    starts: Vec<u32>,
}

impl<'c> Below<'c> {
    fn new(tree: &'c SwitchTree, candidates: &'c [Candidate]) -> Self {
        let mut starts = Vec::with_capacity(tree.leaves.len() + 1);
        let mut at = 0;
        for leaf in &tree.leaves {
            starts.push(at as u32);
            let leaf = &tree.switches[*leaf as usize];
            // Positions differ, so the leaf has no more candidates than positions; often it has exactly these.
            let window = &candidates[at..candidates.len().min(at + (leaf.end - leaf.first) as usize)];
            at += match window.last() {
                Some(last) if last.position < leaf.end => window.len(),
                _ => window.partition_point(|candidate| candidate.position < leaf.end),
            };
        }
        starts.push(at as u32);
        Self { tree, candidates, starts }
    }

    /// The candidates below a switch, by index.
    fn range(&self, switch: usize) -> std::ops::Range<usize> {
        let switch = &self.tree.switches[switch];
        self.starts[switch.leaf_first as usize] as usize..self.starts[switch.leaf_end as usize] as usize
    }

    /// How many candidates are below a switch.
    fn count(&self, switch: usize) -> u32 {
        self.range(switch).len() as u32
    }

    /// The candidates on a leaf, by index.
    fn on_leaf(&self, leaf: usize) -> std::ops::Range<usize> {
        self.starts[leaf] as usize..self.starts[leaf + 1] as usize
    }
}

/// The node for a task that needs only one: the tightest fit, or the emptiest; of equal ones that on the leaf switch
/// with the fewest candidates, or the most.
fn one_node(tree: &SwitchTree, ranks: u32, candidates: &[Candidate], fill: Fill) -> Option<Chosen> {
    let below = Below::new(tree, candidates);
    let mut best = None;
    for leaf in 0..tree.leaves.len() {
        let range = below.on_leaf(leaf);
        let on_leaf = range.len() as u32;
        let fitting = candidates[range].iter().filter(|candidate| candidate.ranks >= ranks);
        // Keys that are smaller for better ones, so that the first of equal ones stays.
        let key = |candidate: &Candidate| match fill {
            Fill::Pack => candidate.cores,
            Fill::Spread => u32::MAX - candidate.cores,
        };
        let Some(node) = fitting.min_by_key(|candidate| key(candidate)) else { continue };
        let key = (key(node), if fill == Fill::Pack { on_leaf } else { u32::MAX - on_leaf });
        if best.is_none_or(|(least, _)| key < least) {
            best = Some((key, node.position));
        }
    }
    best.map(|(_, position)| Chosen { node: tree.node_at(position), ranks })
}
