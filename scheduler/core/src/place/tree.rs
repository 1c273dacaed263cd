//! The network tree, with the nodes numbered in the order of a walk through it.

use std::collections::HashMap;

use crate::cluster::SwitchConfig;
use crate::ids::NodeId;

/// How deep switches may be nested. The configuration is far below it; the limit keeps the walk off the stack's end.
const DEPTH_MAX: u32 = 64;

/// The network tree, of any depth and shape.
///
/// Nodes are numbered by *position* in the order of a walk through the tree, so that the nodes below a switch are a
/// range of positions. A node has level 0, a switch one more than the highest switch below it. Where there are
/// several roots, or nodes on no switch, an imagined switch joins them, one level above all others; nodes on no
/// switch count as one leaf of it. Without any switch, all nodes are on one imagined leaf of level 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchTree {
    /// In the order of the walk: a switch stands before those below it.
    pub(super) switches: Vec<Switch>,
    /// Indices of `switches`, lowest level first, in the order of the walk within a level.
    pub(super) by_level: Vec<u32>,
    /// The leaves' indices in `switches`, in the order of their positions.
    pub(super) leaves: Vec<u32>,
    /// The leaf, as an index of `leaves`, of each position.
    leaf_at: Vec<u32>,
    node_at: Vec<NodeId>,
    position: Vec<u32>,
}

/// One switch that has nodes below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Switch {
    /// The first position below it.
    pub first: u32,
    /// One past its last position.
    pub end: u32,
    /// Its first leaf, as an index of the leaves; its own if it is one.
    pub leaf_first: u32,
    /// One past its last leaf.
    pub leaf_end: u32,
    /// One past the last switch below it: those below are the ones from the next index to here.
    pub below_end: u32,
    /// The switch above; its own index for the root.
    pub parent: u32,
    /// 1 for a leaf switch. The leaf that stands for nodes directly on an inner switch has that switch's level.
    pub level: u32,
}

/// What the walk carries along.
struct Walk<'c> {
    by_name: HashMap<&'c str, &'c SwitchConfig>,
    ids: HashMap<&'c str, NodeId>,
    visited: HashMap<&'c str, ()>,
    placed: Vec<bool>,
    tree: SwitchTree,
}

impl SwitchTree {
    /// The tree of the declared switches over the nodes with these names: `NodeId(i)` is `node_names[i]`.
    ///
    /// Names that no node or switch has are passed over, and what hangs on two switches stays on the first: the
    /// configuration is checked before it comes here.
    #[must_use]
    pub fn new(switches: &[SwitchConfig], node_names: &[&str]) -> Self {
        let by_name: HashMap<&str, &SwitchConfig> =
            switches.iter().rev().map(|switch| (switch.name.as_str(), switch)).collect();
        let ids = node_names.iter().enumerate().map(|(i, name)| (*name, NodeId(i as u32))).collect();
        let count = node_names.len();
        let mut walk = Walk {
            by_name,
            ids,
            visited: HashMap::new(),
            placed: vec![false; count],
            tree: Self {
                switches: Vec::new(),
                by_level: Vec::new(),
                leaves: Vec::new(),
                leaf_at: Vec::with_capacity(count),
                node_at: Vec::with_capacity(count),
                position: vec![0; count],
            },
        };
        walk.all(switches, count);
        walk.tree.finish();
        walk.tree
    }

    /// How many nodes there are; positions are below it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.node_at.len() as u32
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.node_at.is_empty()
    }

    /// Where a node stands in the walk.
    ///
    /// # Panics
    /// If the tree was built without the node.
    #[must_use]
    pub fn position(&self, node: NodeId) -> u32 {
        self.position[node.0 as usize]
    }

    /// The node at a position.
    ///
    /// # Panics
    /// If the position is not below [`Self::len`].
    #[must_use]
    pub fn node_at(&self, position: u32) -> NodeId {
        self.node_at[position as usize]
    }

    /// The level of the highest switch; 0 without nodes.
    #[must_use]
    pub fn levels(&self) -> u32 {
        self.switches.first().map_or(0, |root| root.level)
    }

    /// How many leaf switches have nodes.
    #[must_use]
    pub fn leaves(&self) -> u32 {
        self.leaves.len() as u32
    }

    /// The number of the leaf switch of a position, in the order of positions.
    ///
    /// # Panics
    /// If the position is not below [`Self::len`].
    #[must_use]
    pub fn leaf_of(&self, position: u32) -> u32 {
        self.leaf_at[position as usize]
    }

    /// Links between two nodes: twice the level of the lowest switch above both; 0 for a node and itself.
    #[must_use]
    pub fn distance(&self, a: NodeId, b: NodeId) -> u32 {
        if a == b { 0 } else { 2 * self.height(&[a, b]) }
    }

    /// The level of the lowest switch above all of the nodes; 0 for fewer than two.
    #[must_use]
    pub fn height(&self, nodes: &[NodeId]) -> u32 {
        let positions = || nodes.iter().map(|node| self.position(*node));
        let (Some(first), Some(last)) = (positions().min(), positions().max()) else { return 0 };
        if first == last {
            return 0;
        }
        let mut at = self.leaves[self.leaf_of(first) as usize];
        while self.switches[at as usize].end <= last {
            at = self.switches[at as usize].parent;
        }
        self.switches[at as usize].level
    }

    /// How many leaf switches the nodes are on.
    #[must_use]
    pub fn leaves_of(&self, nodes: &[NodeId]) -> u32 {
        let mut leaves: Vec<u32> = nodes.iter().map(|node| self.leaf_of(self.position(*node))).collect();
        leaves.sort_unstable();
        leaves.dedup();
        leaves.len() as u32
    }

    /// The sum of the distances of all pairs of the nodes, each pair once.
    #[must_use]
    pub fn pair_distance(&self, nodes: &[NodeId]) -> u64 {
        let mut counts = vec![0_u64; self.switches.len()];
        for node in nodes {
            counts[self.leaves[self.leaf_of(self.position(*node)) as usize] as usize] += 1;
        }
        // Switches stand before those below them, so the counts below are complete when their switch's turn comes.
        let (mut as_far_as_the_top, mut nearer) = (0, 0);
        for (index, switch) in self.switches.iter().enumerate().rev() {
            let pairs = counts[index] * counts[index].saturating_sub(1) / 2;
            let parent = &self.switches[switch.parent as usize];
            // A pair below this switch is nearer than it would be if it only met at the parent.
            let level = u64::from(switch.level);
            if switch.parent as usize == index {
                as_far_as_the_top = 2 * level * pairs;
            } else {
                nearer += 2 * (u64::from(parent.level) - level) * pairs;
                counts[switch.parent as usize] += counts[index];
            }
        }
        as_far_as_the_top - nearer
    }

    /// How much nearer than at the parent two nodes below the switch are, in levels.
    pub(super) fn gain(&self, switch: usize) -> u32 {
        let switch = &self.switches[switch];
        self.switches[switch.parent as usize].level - switch.level
    }

    fn open(&mut self, parent: u32) -> u32 {
        let index = self.switches.len() as u32;
        let (first, leaf_first) = (self.len(), self.leaves());
        self.switches.push(Switch {
            first,
            end: first,
            leaf_first,
            leaf_end: leaf_first,
            below_end: index + 1,
            parent,
            level: 1,
        });
        index
    }

    /// Ends the switch; one without any node is taken away again, with all below it.
    fn close(&mut self, index: u32, level: u32) -> bool {
        let (end, leaf_end, below_end) = (self.len(), self.leaves(), self.switches.len() as u32);
        let switch = &mut self.switches[index as usize];
        if switch.first == end {
            self.switches.truncate(index as usize);
            return false;
        }
        *switch = Switch { end, leaf_end, below_end, level, ..*switch };
        true
    }

    fn add_leaf(&mut self, parent: u32, nodes: &[NodeId]) -> u32 {
        let index = self.open(parent);
        let leaf = self.leaves();
        for node in nodes {
            self.position[node.0 as usize] = self.len();
            self.node_at.push(*node);
            self.leaf_at.push(leaf);
        }
        self.leaves.push(index);
        self.close(index, 1);
        index
    }

    fn finish(&mut self) {
        self.by_level = (0..self.switches.len() as u32).collect();
        self.by_level.sort_by_key(|index| self.switches[*index as usize].level);
    }
}

impl<'c> Walk<'c> {
    fn all(&mut self, switches: &'c [SwitchConfig], count: usize) {
        let named: HashMap<&str, ()> = switches
            .iter()
            .flat_map(|switch| switch.switches.iter())
            .map(|name| (name.as_str(), ()))
            .collect();
        let top = self.tree.open(0);
        let mut highest = 0;
        // Roots first; a circle has none, and what is left of it is walked from its first switch.
        let (below, roots): (Vec<_>, Vec<_>) =
            switches.iter().partition(|switch| named.contains_key(switch.name.as_str()));
        let mut joined = 0;
        for switch in roots.into_iter().chain(below) {
            if let Some(index) = self.switch(switch, top, 0) {
                highest = highest.max(self.tree.switches[index as usize].level);
                joined += 1;
            }
        }
        let rest: Vec<NodeId> = (0..count).filter(|i| !self.placed[*i]).map(|i| NodeId(i as u32)).collect();
        let leaf = (!rest.is_empty()).then(|| self.tree.add_leaf(top, &rest));
        let level = highest + 1;
        if let Some(leaf) = leaf {
            self.tree.switches[leaf as usize].level = level;
        }
        if !self.tree.close(top, level) {
            return;
        }
        // One root, or one leaf for all, needs no imagined switch above it.
        if joined + usize::from(leaf.is_some()) == 1 {
            self.tree.switches.remove(0);
            for switch in &mut self.tree.switches {
                switch.parent = switch.parent.saturating_sub(1);
                switch.below_end -= 1;
            }
            for leaf in &mut self.tree.leaves {
                *leaf -= 1;
            }
        }
    }

    fn switch(&mut self, config: &'c SwitchConfig, parent: u32, depth: u32) -> Option<u32> {
        if depth == DEPTH_MAX || self.visited.insert(&config.name, ()).is_some() {
            return None;
        }
        let mut nodes = Vec::new();
        for id in config.nodes.iter().filter_map(|name| self.ids.get(name.as_str())) {
            if !std::mem::replace(&mut self.placed[id.0 as usize], true) {
                nodes.push(*id);
            }
        }
        if config.switches.is_empty() {
            return (!nodes.is_empty()).then(|| self.tree.add_leaf(parent, &nodes));
        }
        let index = self.tree.open(parent);
        let mut highest = 0;
        for below in &config.switches {
            let Some(below) = self.by_name.get(below.as_str()).copied() else { continue };
            if let Some(below) = self.switch(below, index, depth + 1) {
                highest = highest.max(self.tree.switches[below as usize].level);
            }
        }
        let leaf = (!nodes.is_empty()).then(|| self.tree.add_leaf(index, &nodes));
        if let Some(leaf) = leaf {
            self.tree.switches[leaf as usize].level = highest + 1;
        }
        self.tree.close(index, highest + 1).then_some(index)
    }
}
