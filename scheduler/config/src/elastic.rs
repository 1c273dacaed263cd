//! `[[elastic]]`: nodes that the site's programs bring up and take down.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muster_core::cluster::ElasticNode;

use crate::nodes::Nodes;
use crate::pools::known_nodes;
use crate::problem::ProblemKind;
use crate::section::{Reader, Section, Span};

/// From the wish for a node to its agent's hello, unless the file says otherwise, in seconds.
const UP_TIMEOUT_S: u64 = 600;
/// How long it may take to take a node down, unless the file says otherwise, in seconds.
const DOWN_TIMEOUT_S: u64 = 300;
/// How long a node stays that nobody wants, unless the file says otherwise, in seconds.
const IDLE_S: u64 = 300;
/// How many nodes of a group are worked on at once, unless the file says otherwise.
const AT_ONCE: u64 = 16;
/// Longer waits are mistakes in the unit.
const SECONDS_MAX: u64 = 7 * 86_400;
/// Each costs a process.
const AT_ONCE_MAX: u64 = 256;

/// Nodes that the site's programs bring up and take down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElasticConfig {
    /// Their names.
    pub nodes: Vec<String>,
    /// The program that brings a node up.
    pub up: PathBuf,
    /// The program that takes a node down.
    pub down: PathBuf,
    /// How long that may take, in seconds.
    pub down_timeout_s: u64,
    /// How many nodes are worked on at once.
    pub at_once: usize,
}

/// Reads all groups, and says of their nodes that they are elastic.
pub(crate) fn elastic(
    reader: &mut Reader<'_>,
    sections: Vec<Section<'_, '_>>,
    nodes: &mut Nodes,
) -> Vec<ElasticConfig> {
    let mut groups = Vec::new();
    let mut places: BTreeMap<String, Span> = BTreeMap::new();
    for section in sections {
        let span = section.span.clone();
        let Some((group, node)) = group(reader, section, nodes) else { continue };
        for name in &group.nodes {
            if let Some(first) = places.insert(name.clone(), span.clone()) {
                let (node, first_line) = (name.clone(), reader.line(&first));
                reader.problem(span.clone(), ProblemKind::ElasticTwice { node, first_line });
            }
        }
        for declared in nodes.list.iter_mut().filter(|declared| group.nodes.contains(&declared.name)) {
            declared.elastic = Some(node);
        }
        groups.push(group);
    }
    groups
}

fn group(
    reader: &mut Reader<'_>,
    mut section: Section<'_, '_>,
    nodes: &Nodes,
) -> Option<(ElasticConfig, ElasticNode)> {
    let members = section.hosts(reader, "nodes");
    let up = section.path(reader, "up", "/etc/muster/node-up");
    let down = section.path(reader, "down", "/etc/muster/node-down");
    for (key, example) in [
        ("nodes", "nodes = \"cloud[01-16]\""),
        ("up", "up = \"/etc/muster/node-up\""),
        ("down", "down = \"/etc/muster/node-down\""),
    ] {
        if !section.has(key) {
            section.missing(reader, key, example);
        }
    }
    let mut seconds = |reader: &mut Reader<'_>, key, least, default| {
        section.number(reader, key, (least, SECONDS_MAX)).map_or(default, |at| at.value)
    };
    let up_timeout_s = seconds(reader, "up_timeout_s", 1, UP_TIMEOUT_S);
    let down_timeout_s = seconds(reader, "down_timeout_s", 1, DOWN_TIMEOUT_S);
    let idle_s = seconds(reader, "idle_s", 0, IDLE_S);
    let at_once = section.number(reader, "at_once", (1, AT_ONCE_MAX)).map_or(AT_ONCE, |at| at.value);
    section.finish(reader);
    let nodes = known_nodes(reader, "this [[elastic]]", members?, nodes);
    let (up, down, at_once) = (up?.value, down?.value, at_once as usize);
    let node = ElasticNode { up_timeout_s, idle_s };
    Some((ElasticConfig { nodes, up, down, down_timeout_s, at_once }, node))
}
