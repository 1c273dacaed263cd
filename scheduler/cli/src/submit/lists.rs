//! Which nodes: features, lists on the command line and in files, and switches.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use muster_core::features::Constraint;
use muster_core::notation::{NotationError, parse_hosts, parse_time_s};
use muster_core::spec::SwitchWish;

use super::build::positive;
use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// Largest file of node names, in bytes.
const NODE_FILE_BYTES_MAX: u64 = 4 << 20;

pub(super) fn constraint(said: &Said) -> Result<Constraint, CliError> {
    said.value.parse().map_err(|source| CliError::Constraint { origin: said.origin.clone(), source })
}

/// Whether a text is what `--distribution` takes: how ranks go over nodes, and over sockets and cores after colons.
pub(super) fn is_distribution(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let (levels, flag) =
        text.split_once(',').map_or((text.as_str(), None), |(levels, flag)| (levels, Some(flag)));
    let mut levels = levels.split(':');
    let nodes = levels.next().unwrap_or_default();
    let plane =
        nodes.strip_prefix("plane=").is_some_and(|size| size.parse::<u32>().is_ok_and(|size| size > 0));
    let inner = |word: &str| matches!(word, "*" | "block" | "cyclic" | "fcyclic");
    (plane || inner(nodes) && nodes != "fcyclic" || nodes == "arbitrary")
        && levels.clone().count() <= 2
        && levels.all(inner)
        && flag.is_none_or(|flag| matches!(flag, "pack" | "nopack"))
}

/// The nodes of `--nodelist` or `--nodefile`, whichever was said last.
pub(super) fn nodelist(layer: &Layer) -> Result<BTreeSet<String>, CliError> {
    match (layer.get(Opt::Nodelist), layer.get(Opt::Nodefile)) {
        (_, Some(said)) => file(said),
        // A list with a slash is a file, as sbatch(1) has it.
        (Some(said), None) if said.value.contains('/') => file(said),
        (Some(said), None) => names(said),
        (None, None) => Ok(BTreeSet::new()),
    }
}

/// A host list.
pub(super) fn names(said: &Said) -> Result<BTreeSet<String>, CliError> {
    hosts(said, &said.value)
}

fn hosts(said: &Said, text: &str) -> Result<BTreeSet<String>, CliError> {
    let bad = |source: NotationError| CliError::Notation { origin: said.origin.clone(), source };
    Ok(parse_hosts(text).map_err(bad)?.into_iter().collect())
}

/// A file of host lists, one or more on a line.
fn file(said: &Said) -> Result<BTreeSet<String>, CliError> {
    let failed = |source| CliError::NodeFile {
        origin: said.origin.clone(),
        path: Path::new(&said.value).to_owned(),
        source,
    };
    let mut text = String::new();
    let opened = File::open(&said.value).map_err(failed)?;
    opened.take(NODE_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let mut all = BTreeSet::new();
    for word in text.split_whitespace().map(|word| word.trim_matches(',')).filter(|word| !word.is_empty()) {
        all.extend(hosts(said, word)?);
    }
    if all.is_empty() { hosts(said, "") } else { Ok(all) }
}

/// `2`, or `2@1:00:00` with the longest wait for so few.
pub(super) fn switches(said: &Said) -> Result<SwitchWish, CliError> {
    let (count, wait) = match said.value.split_once('@') {
        Some((count, wait)) => (count, Some(wait)),
        None => (said.value.as_str(), None),
    };
    let switches_max = positive(&Said { value: count.to_owned(), origin: said.origin.clone() })?;
    let bad = |source| CliError::Notation { origin: said.origin.clone(), source };
    Ok(SwitchWish { switches_max, wait_s: wait.map(parse_time_s).transpose().map_err(bad)? })
}
