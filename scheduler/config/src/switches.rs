//! `[[switch]]`: the network tree.

use std::collections::{BTreeMap, HashMap, HashSet};

use muster_core::cluster::SwitchConfig;

use crate::nodes::Nodes;
use crate::pools::{check_name, known_nodes};
use crate::problem::{ProblemKind, nearest};
use crate::section::{At, Reader, Section, Span};

/// A switch with the places that its errors are reported at.
pub(crate) struct Declared {
    pub config: SwitchConfig,
    pub span: Span,
    pub below: At<Vec<String>>,
}

pub(crate) fn switches(
    reader: &mut Reader<'_>,
    sections: Vec<Section<'_, '_>>,
    nodes: &Nodes,
) -> Vec<SwitchConfig> {
    let declared = sections.into_iter().filter_map(|section| switch(reader, section, nodes)).collect();
    unique(reader, declared, nodes, true)
}

/// Checks all switches together. `nodes_here` says whether the nodes are declared in the text that is read, so that
/// problems with them can be reported at their place.
pub(crate) fn unique(
    reader: &mut Reader<'_>,
    all: Vec<Declared>,
    nodes: &Nodes,
    nodes_here: bool,
) -> Vec<SwitchConfig> {
    let mut declared: Vec<Declared> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for switch in all {
        let first = places.get(&switch.config.name).map(|first| &declared[*first]);
        match first {
            Some(first) => {
                let (name, first_line) = (switch.config.name, reader.line(&first.span));
                reader.problem(switch.span, ProblemKind::Duplicate { what: "switch", name, first_line });
            }
            None => {
                places.insert(switch.config.name.clone(), declared.len());
                declared.push(switch);
            }
        }
    }
    if !declared.is_empty() {
        each_node_on_one_leaf(reader, &declared, nodes, nodes_here);
        let parents = parents(reader, &declared);
        no_circles(reader, &declared, &parents);
    }
    declared.into_iter().map(|switch| switch.config).collect()
}

fn switch(reader: &mut Reader<'_>, mut section: Section<'_, '_>, nodes: &Nodes) -> Option<Declared> {
    let span = section.span.clone();
    let name = section.text(reader, "name", "leaf1");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"leaf1\"");
    }
    let (has_nodes, has_switches) = (section.has("nodes"), section.has("switches"));
    let members = section.hosts(reader, "nodes");
    let below = section.hosts(reader, "switches");
    section.finish(reader);
    let name = name?;
    check_name(reader, &name);
    check_members(reader, &span, &name.value, has_nodes, has_switches);
    let owner = format!("switch '{}'", name.value);
    if let Some(below) = below.as_ref().filter(|below| below.value.is_empty()) {
        reader.problem(below.span.clone(), ProblemKind::Empty { owner: owner.clone() });
    }
    let members = members.map(|members| known_nodes(reader, &owner, members, nodes)).unwrap_or_default();
    let below = below.unwrap_or(At { value: Vec::new(), span: span.clone() });
    let config = SwitchConfig { name: name.value, nodes: members, switches: below.value.clone() };
    Some(Declared { config, span, below })
}

/// A switch joins nodes or switches.
pub(crate) fn check_members(
    reader: &mut Reader<'_>,
    span: &Span,
    switch: &str,
    has_nodes: bool,
    has_switches: bool,
) {
    if has_nodes == has_switches {
        reader.problem(span.clone(), ProblemKind::SwitchMembers { switch: switch.to_owned() });
    }
}

fn each_node_on_one_leaf(reader: &mut Reader<'_>, declared: &[Declared], nodes: &Nodes, nodes_here: bool) {
    let mut leaf_of: BTreeMap<&str, &str> = BTreeMap::new();
    for switch in declared {
        for node in &switch.config.nodes {
            if let Some(first) = leaf_of.insert(node, &switch.config.name) {
                let (first, second) = (first.to_owned(), switch.config.name.clone());
                let kind = ProblemKind::TwoSwitches { what: "node", name: node.clone(), first, second };
                reader.problem(switch.span.clone(), kind);
            }
        }
    }
    for node in nodes.list.iter().filter(|node| !leaf_of.contains_key(node.name.as_str())) {
        let place = nodes.places.get(&node.name).filter(|_| nodes_here);
        let span = place.cloned().unwrap_or(0..0);
        reader.problem(span, ProblemKind::OnNoSwitch { node: node.name.clone() });
    }
}

/// Which switch each is under. A switch under two is reported, and left under the first.
fn parents<'s>(reader: &mut Reader<'_>, declared: &'s [Declared]) -> BTreeMap<&'s str, &'s str> {
    let mut parent_of: BTreeMap<&str, &str> = BTreeMap::new();
    let names = || declared.iter().map(|switch| switch.config.name.as_str());
    let known: HashSet<&str> = names().collect();
    for switch in declared {
        for name in &switch.config.switches {
            let kind = if !known.contains(name.as_str()) {
                let owner = format!("switch '{}'", switch.config.name);
                let nearest = nearest(name, names().filter(|known| *known != switch.config.name));
                ProblemKind::UnknownName { owner, what: "switch", name: name.clone(), nearest }
            } else if let Some(first) = parent_of.get(name.as_str()) {
                let (first, second) = ((*first).to_owned(), switch.config.name.clone());
                ProblemKind::TwoSwitches { what: "switch", name: name.clone(), first, second }
            } else {
                parent_of.insert(name, &switch.config.name);
                continue;
            };
            reader.problem(switch.below.span.clone(), kind);
        }
    }
    parent_of
}

fn no_circles(reader: &mut Reader<'_>, declared: &[Declared], parent_of: &BTreeMap<&str, &str>) {
    for switch in declared {
        let start = switch.config.name.as_str();
        let mut way = vec![start];
        let mut at = start;
        while let Some(parent) = parent_of.get(at) {
            way.push(parent);
            if *parent == start {
                // Each circle is reported once, at the first of its switches by name.
                if way.iter().min() == Some(&start) {
                    way.reverse();
                    reader.problem(switch.span.clone(), ProblemKind::SwitchCycle { circle: way.join(" > ") });
                }
                break;
            }
            // A circle above this switch that does not hold it is reported at its own switches.
            if way[..way.len() - 1].contains(parent) {
                break;
            }
            at = parent;
        }
    }
}
