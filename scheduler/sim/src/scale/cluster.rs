//! Network trees: made up, or read from a file.

use std::path::Path;

use muster_core::cluster::SwitchConfig;
use muster_core::notation;

use crate::SimError;

/// Nodes of a leaf switch, and switches of a switch above: half the ports of a 36-port switch.
const DOWN_PORTS: usize = 18;

/// The nodes of a cluster and the switches that join them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// The switches.
    pub switches: Vec<SwitchConfig>,
}

/// A fat tree over `nodes` nodes, 18 on each leaf, 18 switches on each switch above, up to one at the top.
#[must_use]
pub fn fat_tree(nodes: u32) -> Topology {
    let nodes: Vec<String> = (0..nodes).map(|i| format!("n{i:05}")).collect();
    let mut switches: Vec<SwitchConfig> = Vec::new();
    let mut below: Vec<String> = Vec::new();
    for (i, members) in nodes.chunks(DOWN_PORTS).enumerate() {
        let name = format!("leaf{i:04}");
        below.push(name.clone());
        switches.push(SwitchConfig { name, nodes: members.to_vec(), switches: Vec::new() });
    }
    for level in 2.. {
        if below.len() <= 1 {
            break;
        }
        // The topmost switch joins all pods: 36-port trees have up to 36 of them.
        let ports = if below.len() <= 2 * DOWN_PORTS { below.len() } else { DOWN_PORTS };
        let mut above = Vec::new();
        for (i, members) in below.chunks(ports).enumerate() {
            let name = format!("level{level}-{i:03}");
            above.push(name.clone());
            switches.push(SwitchConfig { name, nodes: Vec::new(), switches: members.to_vec() });
        }
        below = above;
    }
    Topology { nodes, switches }
}

/// Reads a tree in the form of Slurm's `topology.conf`: `SwitchName=leaf1 Nodes=n[1-18]`, `SwitchName=top
/// Switches=leaf[1-2]`.
///
/// # Errors
/// [`SimError::Read`], or [`SimError::Topology`] with the line.
pub fn read_topology(path: &Path) -> Result<Topology, SimError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SimError::Read { path: path.to_owned(), source })?;
    let mut topology = Topology::default();
    for (i, line) in text.lines().enumerate() {
        let wrong = |problem: String| SimError::Topology { path: path.to_owned(), line: i + 1, problem };
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut switch = SwitchConfig { name: String::new(), nodes: Vec::new(), switches: Vec::new() };
        for word in line.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| wrong(format!("'{word}' is not of the form Key=value")))?;
            let hosts = || notation::parse_hosts(value).map_err(|error| wrong(error.to_string()));
            match key.to_ascii_lowercase().as_str() {
                "switchname" => value.clone_into(&mut switch.name),
                "nodes" => switch.nodes = hosts()?,
                "switches" => switch.switches = hosts()?,
                "linkspeed" => {}
                _ => return Err(wrong(format!("'{key}' is not one of SwitchName, Nodes and Switches"))),
            }
        }
        if switch.name.is_empty() || (switch.nodes.is_empty() == switch.switches.is_empty()) {
            return Err(wrong("a switch has a SwitchName and either Nodes or Switches".to_owned()));
        }
        topology.nodes.extend(switch.nodes.iter().cloned());
        topology.switches.push(switch);
    }
    if topology.nodes.is_empty() {
        let problem = "no switch has nodes".to_owned();
        return Err(SimError::Topology { path: path.to_owned(), line: 1, problem });
    }
    Ok(topology)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fat_tree_has_one_top_and_every_node_once() {
        for nodes in [1, 18, 19, 324, 1000, 10_044] {
            let tree = fat_tree(nodes);
            let mut below: Vec<&String> = tree.switches.iter().flat_map(|s| &s.switches).collect();
            let tops = tree.switches.iter().filter(|s| !below.contains(&&s.name)).count();
            assert_eq!(tops, 1, "{nodes}");
            assert_eq!(tree.switches.iter().map(|s| s.nodes.len()).sum::<usize>(), nodes as usize);
            let all = below.len();
            below.sort();
            below.dedup();
            assert_eq!(
                (all, all + 1),
                (below.len(), tree.switches.len()),
                "{nodes}: each switch hangs on one"
            );
        }
        assert_eq!(fat_tree(10_044).switches.len(), 558 + 31 + 1);
    }

    #[test]
    fn topologies_of_slurm_are_read_and_errors_have_a_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "# two leaves\nSwitchName=a Nodes=n[1-2]\nSwitchName=b Nodes=n3\nSwitchName=t Switches=a,b\n",
        )
        .unwrap();
        let tree = read_topology(file.path()).unwrap();
        assert_eq!((tree.nodes.len(), tree.switches[2].switches.len()), (3, 2));
        std::fs::write(file.path(), "SwitchName=a Nodes=n1\nSwitchName=b\n").unwrap();
        let error = read_topology(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2: a switch has a SwitchName and either"), "{error}");
    }
}
