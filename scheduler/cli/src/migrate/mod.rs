//! From Slurm's configuration to ours: `slurm.conf`, with the `topology.conf` and `gres.conf` beside it.

mod cluster;
mod conf;
mod settings;

use std::path::Path;

use crate::error::CliError;

/// What comes of a configuration of Slurm's.
#[derive(Debug)]
pub(crate) struct Migrated {
    /// The configuration, as text.
    pub text: String,
    /// What has no equivalent, or was filled in, each with its place.
    pub notes: Vec<String>,
}

/// The configuration while it grows: the lines of each section.
#[derive(Debug, Default)]
struct Output {
    cluster: Vec<String>,
    controller: Vec<String>,
    policy: Vec<String>,
    priority: Vec<String>,
    health: Vec<String>,
    nodes: Vec<String>,
    /// The host lists of all nodes.
    names: Vec<String>,
    pools: Vec<String>,
    licenses: Vec<String>,
    /// Whether jobs are ordered by a sum of factors.
    multifactor: bool,
    /// Whether jobs may overtake others.
    backfills: bool,
    notes: Vec<String>,
}

/// Reads Slurm's configuration.
pub(crate) fn migrate(path: &Path) -> Result<Migrated, CliError> {
    let mut out = Output::default();
    let lines = conf::read(path, &mut out.notes)?;
    let name = lines.iter().rev().find_map(|line| line.get("ClusterName")).unwrap_or("cluster");
    out.cluster.push(format!("name = {:?}", name.to_ascii_lowercase()));
    topology(path, &lines, &mut out);
    settings::add(&lines, &mut out);
    cluster::nodes(&lines, &mut out);
    let gres = conf::beside(path, "gres.conf");
    if gres.exists() {
        let lines = conf::read(&gres, &mut out.notes)?;
        cluster::gres_conf(&lines, &mut out);
    }
    cluster::pools(&lines, &mut out);
    Ok(Migrated { text: text(path, &out), notes: out.notes })
}

/// Our file of switches is Slurm's own.
fn topology(path: &Path, lines: &[conf::Line], out: &mut Output) {
    let plugin = lines.iter().rev().find_map(|line| line.get("TopologyPlugin")).unwrap_or_default();
    let file = conf::beside(path, "topology.conf");
    match plugin.to_ascii_lowercase().as_str() {
        "topology/tree" if file.exists() => {
            let file = std::path::absolute(&file).unwrap_or(file);
            out.cluster.push(format!("topology_file = {:?}", file.display().to_string()));
        }
        "topology/tree" => {
            out.notes.push(format!("{}: it is not there: declare [[switch]] sections", file.display()))
        }
        "" | "topology/none" | "topology/default" | "topology/flat" => {}
        other => out
            .notes
            .push(format!("TopologyPlugin={other}: only trees are known: declare [[switch]] sections")),
    }
}

fn text(path: &Path, out: &Output) -> String {
    let mut text = format!("# Made by muster migrate from {}.\n", path.display());
    let sections = [
        ("cluster", &out.cluster),
        ("controller", &out.controller),
        ("policy", &out.policy),
        ("priority", &out.priority),
        ("health", &out.health),
    ];
    for (name, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("\n[{name}]\n{}\n", lines.join("\n"));
    }
    for part in out.nodes.iter().chain(&out.pools).chain(&out.licenses) {
        text += &format!("\n{part}");
    }
    text
}
