//! `topology_file`: the network tree in the form of Slurm's topology.conf(5), plugin topology/tree.

use std::io::Read;
use std::path::{Path, PathBuf};

use muster_core::cluster::SwitchConfig;
use muster_core::notation::parse_hosts;

use crate::nodes::Nodes;
use crate::pools::{check_name, known_nodes};
use crate::problem::{Problem, ProblemKind, nearest};
use crate::section::{At, Reader, Span};
use crate::switches::{Declared, check_members, unique};

/// Largest topology file, in bytes; the file of 10,000 nodes has 25,000.
const TOPOLOGY_BYTES_MAX: u64 = 64 << 20;
/// The keys of a line.
const KEYS: [&str; 4] = ["SwitchName", "Nodes", "Switches", "LinkSpeed"];

/// Reads the file that the configuration at `config` names; a relative path starts in the configuration's folder.
///
/// A file that cannot be read is a problem of the configuration, what is wrong in it a problem of the file.
pub(crate) fn load(
    reader: &mut Reader<'_>,
    config: &Path,
    name: At<String>,
    nodes: &Nodes,
) -> (Vec<SwitchConfig>, Vec<Problem>) {
    let path = config.parent().unwrap_or(Path::new("")).join(&name.value);
    match read(&path) {
        Ok(text) => parse(&path, &text, nodes),
        Err(error) => {
            let kind = ProblemKind::UnreadableFile { key: "topology_file", path, why: error.kind() };
            reader.problem(name.span, kind);
            (Vec::new(), Vec::new())
        }
    }
}

fn read(path: &PathBuf) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(TOPOLOGY_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > TOPOLOGY_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// The switches of `text`, which is called `path` in messages, and all that is wrong with them.
pub(crate) fn parse(path: &Path, text: &str, nodes: &Nodes) -> (Vec<SwitchConfig>, Vec<Problem>) {
    let mut reader = Reader::new(text);
    let mut declared = Vec::new();
    for words in logical_lines(text) {
        declared.extend(switch(&mut reader, &words, nodes));
    }
    let switches = unique(&mut reader, declared, nodes, false);
    (switches, reader.finish(path))
}

/// The words of each line, without comments. A backslash at the end of a line joins the next one to it.
fn logical_lines(text: &str) -> Vec<Vec<At<&str>>> {
    let mut lines = Vec::new();
    let mut words: Vec<At<&str>> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.split('#').next().unwrap_or_default();
        // A backslash in a comment joins nothing.
        let (content, joins) = match content.trim_end().strip_suffix('\\') {
            Some(content) if !line.contains('#') => (content, true),
            _ => (content, false),
        };
        let offset = |word: &str| start + (word.as_ptr() as usize - line.as_ptr() as usize);
        words.extend(content.split_whitespace().map(|word| {
            let at = offset(word);
            At { value: word, span: at..at + word.len() }
        }));
        start += line.len();
        if !joins && !words.is_empty() {
            lines.push(std::mem::take(&mut words));
        }
    }
    lines.extend((!words.is_empty()).then_some(words));
    lines
}

/// One line: a switch. Keys are read in any case, as Slurm does.
fn switch(reader: &mut Reader<'_>, words: &[At<&str>], nodes: &Nodes) -> Option<Declared> {
    let span = words[0].span.start..words[words.len() - 1].span.end;
    let mut values: [Option<At<&str>>; 4] = [const { None }; 4];
    for word in words {
        let Some((key, value)) = word.value.split_once('=') else {
            reader.problem(word.span.clone(), ProblemKind::TopologyWord { found: word.value.to_owned() });
            return None;
        };
        let Some(index) = KEYS.iter().position(|known| known.eq_ignore_ascii_case(key)) else {
            let kind = ProblemKind::UnknownKey {
                key: key.to_owned(),
                section: "the topology file",
                nearest: nearest(key, KEYS),
                known: KEYS.join(", "),
            };
            reader.problem(word.span.clone(), kind);
            return None;
        };
        let span = word.span.end - value.len()..word.span.end;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if values[index].replace(At { value, span }).is_some() {
            let kind = ProblemKind::Repeated { name: KEYS[index].to_owned(), key: "SwitchName" };
            reader.problem(word.span.clone(), kind);
            return None;
        }
    }
    // How fast a link is has no effect in Slurm either.
    let [name, members, below, _link_speed] = values;
    let Some(name) = name else {
        let kind = ProblemKind::MissingKey {
            section: "each line of the topology file",
            key: "SwitchName",
            example: "SwitchName=leaf1 Nodes=n[01-18]",
        };
        reader.problem(span, kind);
        return None;
    };
    let name = At { value: name.value.to_owned(), span: name.span };
    check_name(reader, &name);
    check_members(reader, &span, &name.value, members.is_some(), below.is_some());
    let members = members.and_then(|list| hosts(reader, "Nodes", list));
    let below = below.and_then(|list| hosts(reader, "Switches", list));
    let owner = format!("switch '{}'", name.value);
    let members = members.map(|list| known_nodes(reader, &owner, list, nodes)).unwrap_or_default();
    let below = below.unwrap_or(At { value: Vec::new(), span: span.clone() });
    let config = SwitchConfig { name: name.value, nodes: members, switches: below.value.clone() };
    Some(Declared { config, span, below })
}

fn hosts(reader: &mut Reader<'_>, key: &'static str, list: At<&str>) -> Option<At<Vec<String>>> {
    let span: Span = list.span;
    match parse_hosts(list.value) {
        Ok(value) => Some(At { value, span }),
        Err(problem) => {
            reader.problem(span, ProblemKind::Notation { key, problem });
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use muster_core::cluster::NodeConfig;

    use super::*;

    /// Nodes `n00000`, `n00001` and so on, as many as asked for.
    fn nodes(count: u32) -> Nodes {
        let mut nodes = Nodes::default();
        for i in 0..count {
            let name = format!("n{i:05}");
            nodes.places.insert(name.clone(), 0..0);
            nodes.list.push(NodeConfig { name, cores: 1, memory_bytes: 1, ..NodeConfig::default() });
        }
        nodes
    }

    fn switches(text: &str, count: u32) -> Result<Vec<SwitchConfig>, String> {
        let (switches, problems) = parse(Path::new("topology.conf"), text, &nodes(count));
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        if lines.is_empty() { Ok(switches) } else { Err(lines.join("\n")) }
    }

    #[track_caller]
    fn refused(text: &str, count: u32, expected: &str) {
        assert_eq!(switches(text, count).unwrap_err(), expected);
    }

    #[test]
    fn lines_are_read_as_slurm_reads_them() {
        let text = "# two leaves # and more \\\n\n  SWITCHNAME=s0 nodes=n0000[0-1] LinkSpeed=400 # first\n\
                    switchname=s1 \\\n  Nodes=\"n00002,n00003\"\\\n\nSwitchName=top Switches=s[0-1]";
        let switch = |name: &str, nodes: &[&str], below: &[&str]| SwitchConfig {
            name: name.to_owned(),
            nodes: nodes.iter().map(ToString::to_string).collect(),
            switches: below.iter().map(ToString::to_string).collect(),
        };
        let expected = [
            switch("s0", &["n00000", "n00001"], &[]),
            switch("s1", &["n00002", "n00003"], &[]),
            switch("top", &[], &["s0", "s1"]),
        ];
        assert_eq!(switches(text, 4).unwrap(), expected);
        assert_eq!(switches("# nothing\n", 4).unwrap(), []);
    }

    #[test]
    fn errors_have_their_lines() {
        refused(
            "\nSwitchName=a Nods=n00000\n",
            1,
            "topology.conf:2:14: unknown key 'Nods' in the topology file: did you mean 'Nodes'?",
        );
        refused(
            "Nodes=n00000",
            1,
            "topology.conf:1:1: each line of the topology file needs the key 'SwitchName': write \
             SwitchName=leaf1 Nodes=n[01-18]",
        );
        refused(
            "SwitchName=a Nodes=n00000\nSwitchName=a \\\n  Nodes=n00001\n",
            1,
            "topology.conf:3:9: switch 'a' names the node 'n00001', which is not declared: did you mean 'n00000'?\n\
             topology.conf:2:1: switch 'a' was already declared on line 1: give each switch a name of its own",
        );
        refused(
            "SwitchName=a Nodes n00000\n",
            0,
            "topology.conf:1:14: 'Nodes' is not KEY=VALUE: a line of a topology file is SwitchName=NAME with \
             Nodes=LIST or Switches=LIST",
        );
        refused(
            "SwitchName=a Nodes=n00000\nSwitchName=b Switches=c\nSwitchName=c Switches=b\n",
            1,
            "topology.conf:2:1: the switches b > c > b form a circle: a switch must not be above itself",
        );
        refused(
            "SwitchName=a Nodes=n00000\n",
            2,
            "topology.conf:1:1: node 'n00001' is on no switch, though the file declares switches: add it to a leaf \
             switch's 'nodes'",
        );
        refused(
            "SwitchName=a Nodes=n00000 Switches=b\n",
            1,
            "topology.conf:1:1: switch 'a' must have either 'nodes' or 'switches', and only one of them\n\
             topology.conf:1:36: switch 'a' names the switch 'b', which is not declared",
        );
        refused(
            "SwitchName=a Nodes=n00000 nodes=n00000\n",
            0,
            "topology.conf:1:27: 'Nodes' stands twice in 'SwitchName': write it once",
        );
        assert!(
            switches("SwitchName=a Nodes=n[0\n", 0).unwrap_err().starts_with("topology.conf:1:20: 'Nodes': ")
        );
    }

    /// Files of large networks, where the checkout has them.
    #[test]
    fn files_of_large_networks_are_read() {
        let shared = std::env::var_os("MUSTER_SHARED")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
        let folder = shared.join("topologies");
        if !folder.is_dir() {
            return;
        }
        for (name, count, leaves, above) in [
            ("8", 8, 4, 3),
            ("1024", 1024, 64, 9),
            ("10044", 10_044, 558, 32),
            ("dragonfly-1056", 1056, 264, 34),
        ] {
            let text = std::fs::read_to_string(folder.join(format!("switch-{name}.conf"))).unwrap();
            let start = Instant::now();
            let switches = switches(&text, count).unwrap();
            println!("switch-{name}.conf: {:?}", start.elapsed());
            assert_eq!(switches.len(), leaves + above, "{name}");
            assert_eq!(
                switches.iter().map(|switch| switch.nodes.len()).sum::<usize>(),
                count as usize,
                "{name}"
            );
            let names: Vec<String> = (0..count).map(|i| format!("n{i:05}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let tree = muster_core::place::SwitchTree::new(&switches, &names);
            assert_eq!((tree.levels(), tree.leaves() as usize, tree.len()), (3, leaves, count), "{name}");
        }
    }

    #[test]
    fn the_configuration_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = |more: &str| {
            let text = format!(
                "[cluster]\nname = \"test\"\ntopology_file = \"net/topology.conf\"\n[[node]]\nname = \"n[1-4]\"\n\
                 cores = 8\nmemory = \"4G\"\n[[pool]]\nname = \"main\"\nnodes = \"n[1-4]\"\n{more}"
            );
            crate::parse(&folder.path().join("m.toml"), &text).map_err(|errors| errors.to_string())
        };
        let at = |file: &str| folder.path().join(file).display().to_string();
        assert_eq!(
            config("").unwrap_err(),
            format!(
                "{}:3:17: 'topology_file' names {}, which cannot be read: entity not found",
                at("m.toml"),
                at("net/topology.conf")
            )
        );
        std::fs::create_dir(folder.path().join("net")).unwrap();
        let file = folder.path().join("net/topology.conf");
        std::fs::write(
            &file,
            "SwitchName=a Nodes=n[1-2]\nSwitchName=b Nodes=n[3-4]\nSwitchName=c Switches=a,b\n",
        )
        .unwrap();
        assert_eq!(config("").unwrap().cluster.switches.len(), 3);
        assert_eq!(
            config("[[switch]]\nname = \"x\"\nnodes = \"n[1-4]\"\n").unwrap_err(),
            format!(
                "{}:3:17: the switches come from 'topology_file', but [[switch]] on line 11 declares some too: keep \
                 one of both",
                at("m.toml")
            )
        );
        std::fs::write(&file, "SwitchName=a Nodes=n[1-3]\n").unwrap();
        assert_eq!(
            config("").unwrap_err(),
            format!(
                "{}:1:1: node 'n4' is on no switch, though the file declares switches: add it to a leaf switch's \
                 'nodes'",
                at("net/topology.conf")
            )
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

        #[test]
        fn any_lines_are_switches_or_problems(
            text in "((SwitchName=|Nodes=|Switches=|LinkSpeed=)?(s\\[0-1\\]|s0|top|n0000[0-3]|n0000\\[0-3\\]|\\[|,|\\PC)?[ \\n#\\\\\"]?){0,24}",
        ) {
            let (read, problems) = parse(Path::new("topology.conf"), &text, &nodes(4));
            let lines = text.lines().count().max(1);
            for problem in problems {
                proptest::prop_assert!(problem.to_string().starts_with("topology.conf:"), "{}", problem);
            }
            proptest::prop_assert!(read.len() <= lines);
        }
    }
}
