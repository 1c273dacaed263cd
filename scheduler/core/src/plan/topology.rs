//! The network tree, made ready for questions.

use std::collections::{HashMap, HashSet};

use crate::cluster::SwitchConfig;
use crate::ids::NodeId;
use crate::state::State;

/// All switches with the nodes below them.
pub(super) struct SwitchTree {
    /// The smallest first.
    switches: Vec<Below>,
    /// Where each node stands in a walk through the tree.
    positions: HashMap<NodeId, usize>,
    /// On which leaf switch each node hangs.
    leaves: HashMap<NodeId, usize>,
}

/// The nodes below one switch.
pub(super) struct Below {
    nodes: HashSet<NodeId>,
}

impl Below {
    pub fn holds(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }
}

impl SwitchTree {
    pub fn new(state: &State) -> Self {
        let by_name: HashMap<&str, &SwitchConfig> =
            state.config.switches.iter().map(|switch| (switch.name.as_str(), switch)).collect();
        let ids: HashMap<&str, NodeId> =
            state.nodes.iter().enumerate().map(|(i, node)| (node.name.as_str(), NodeId(i as u32))).collect();
        let mut positions = HashMap::new();
        let mut leaves = HashMap::new();
        let mut switches: Vec<Below> = Vec::new();
        for (leaf, switch) in state.config.switches.iter().enumerate() {
            leaves
                .extend(switch.nodes.iter().filter_map(|name| ids.get(name.as_str())).map(|id| (*id, leaf)));
            let mut nodes = Vec::new();
            walk(switch, &by_name, &ids, &mut nodes, 0);
            for node in &nodes {
                let next = positions.len();
                positions.entry(*node).or_insert(next);
            }
            switches.push(Below { nodes: nodes.into_iter().collect() });
        }
        switches.sort_by_key(|below| below.nodes.len());
        Self { switches, positions, leaves }
    }

    pub fn smallest_first(&self) -> impl Iterator<Item = &Below> {
        self.switches.iter()
    }

    /// On which leaf switch a node hangs.
    pub fn leaf(&self, node: NodeId) -> Option<usize> {
        self.leaves.get(&node).copied()
    }

    /// Nodes on no switch come last, in the order of their ids.
    pub fn position(&self, node: NodeId) -> usize {
        self.positions.get(&node).copied().unwrap_or(usize::MAX)
    }
}

/// Collects the nodes below a switch. The configuration has no cycles; the depth makes sure of it.
fn walk(
    switch: &SwitchConfig,
    by_name: &HashMap<&str, &SwitchConfig>,
    ids: &HashMap<&str, NodeId>,
    nodes: &mut Vec<NodeId>,
    depth: u32,
) {
    const DEPTH_MAX: u32 = 64;
    nodes.extend(switch.nodes.iter().filter_map(|name| ids.get(name.as_str())));
    if depth < DEPTH_MAX {
        for below in switch.switches.iter().filter_map(|name| by_name.get(name.as_str())) {
            walk(below, by_name, ids, nodes, depth + 1);
        }
    }
}
