//! `[[node]]`: the nodes.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::cluster::NodeConfig;
use muster_core::cores::CORES_PER_NODE_MAX;
use muster_core::features::is_feature;
use muster_core::gres::{Gres, check_list};

use crate::problem::ProblemKind;
use crate::section::{At, Reader, Section, Span};

/// Most hardware threads of a core: twice what any processor has had.
const THREADS_PER_CORE_MAX: u32 = 16;

/// All nodes, right or wrong ones, so that pools and switches can be checked against their names.
#[derive(Default)]
pub(crate) struct Nodes {
    pub list: Vec<NodeConfig>,
    pub addresses: BTreeMap<String, String>,
    /// Where each was declared.
    pub places: BTreeMap<String, Span>,
}

pub(crate) fn nodes(reader: &mut Reader<'_>, sections: Vec<Section<'_, '_>>) -> Nodes {
    let mut nodes = Nodes::default();
    if sections.is_empty() {
        let example = "[[node]] with name = \"n[01-04]\", cores = 8, memory = \"16G\"";
        reader.problem(0..0, ProblemKind::NoneDeclared { what: "node", example });
    }
    for section in sections {
        group(reader, section, &mut nodes);
    }
    nodes
}

/// One `[[node]]`, which declares as many nodes as its name lists.
fn group(reader: &mut Reader<'_>, mut section: Section<'_, '_>, nodes: &mut Nodes) {
    let names = section.hosts(reader, "name");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"n[01-04]\"");
    }
    let cores = section.number(reader, "cores", (1, u64::from(CORES_PER_NODE_MAX)));
    if !section.has("cores") {
        section.missing(reader, "cores", "cores = 8");
    }
    let memory = section.size(reader, "memory");
    if !section.has("memory") {
        section.missing(reader, "memory", "memory = \"16G\"");
    }
    let wrap_cores = section.flag(reader, "wrap_cores").is_some_and(|flag| flag.value);
    let addresses = section.hosts(reader, "address");
    let features = features(reader, &mut section);
    let gres = gres(reader, &mut section);
    let threads_per_core = section.number(reader, "threads_per_core", (1, u64::from(THREADS_PER_CORE_MAX)));
    let gres_numa = gres_numa(reader, &mut section, &gres);
    let gres_files = gres_files(reader, &mut section, &gres);
    let gres_check = section.flag(reader, "gres_check").is_some_and(|flag| flag.value);
    let span = section.span.clone();
    section.finish(reader);

    let Some(names) = names else { return };
    if names.value.is_empty() {
        reader.problem(names.span.clone(), ProblemKind::Empty { owner: "this [[node]]".to_owned() });
    }
    if let Some(addresses) = addresses {
        set_addresses(reader, &names.value, addresses, nodes);
    }
    let (cores, memory_bytes) = (cores.map_or(1, |at| at.value as u32), memory.map_or(1, |at| at.value));
    for name in names.value {
        if let Some(first) = nodes.places.get(&name) {
            let first_line = reader.line(first);
            reader.problem(names.span.clone(), ProblemKind::Duplicate { what: "node", name, first_line });
            continue;
        }
        nodes.places.insert(name.clone(), span.clone());
        nodes.list.push(NodeConfig {
            name,
            cores,
            memory_bytes,
            wrap_cores,
            features: features.clone(),
            gres: gres.clone(),
            threads_per_core: threads_per_core.as_ref().map(|at| at.value as u32),
            gres_numa: gres_numa.clone(),
            gres_files: gres_files.clone(),
            gres_check,
            elastic: None,
        });
    }
}

fn features(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> BTreeSet<String> {
    let mut features = BTreeSet::new();
    for At { value, span } in section.texts(reader, "features", "intel").unwrap_or_default() {
        if !is_feature(&value) {
            let expected = "names of features: letters, digits and _ - . + : / @ %, at most 64 bytes";
            reader.problem(span, ProblemKind::BadText { key: "features", expected, found: value });
        } else if features.contains(&value) {
            reader.problem(span, ProblemKind::Repeated { name: value, key: "features" });
        } else {
            features.insert(value);
        }
    }
    features
}

/// Devices, each kind once.
fn gres(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Vec<Gres> {
    let mut list: Vec<Gres> = Vec::new();
    for At { value, span } in section.texts(reader, "gres", "gpu:a100:4").unwrap_or_default() {
        let checked = value.parse().and_then(|gres: Gres| {
            list.push(gres);
            check_list(&list)
        });
        if let Err(problem) = checked {
            reader.problem(span, ProblemKind::Gres { problem });
            return Vec::new();
        }
    }
    list
}

/// The NUMA nodes of devices: as many as there are devices of the name.
fn gres_numa(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    gres: &[Gres],
) -> BTreeMap<String, Vec<u32>> {
    let mut places = BTreeMap::new();
    for (At { value: name, span }, numas) in
        section.number_lists(reader, "gres_numa", "gpu", CORES_PER_NODE_MAX - 1)
    {
        let declared = gres.iter().filter(|gres| gres.name == name).map(|gres| gres.count).sum();
        if numas.len() as u64 == u64::from(declared) && declared > 0 {
            places.insert(name, numas);
        } else {
            reader.problem(span, ProblemKind::GresNuma { name, placed: numas.len(), declared });
        }
    }
    places
}

/// The files of devices: as many as there are devices of the name.
fn gres_files(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    gres: &[Gres],
) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for (At { value: name, span }, files) in section.path_lists(reader, "gres_files", "gpu") {
        let declared = gres.iter().filter(|gres| gres.name == name).map(|gres| gres.count).sum();
        if files.len() as u64 == u64::from(declared) && declared > 0 {
            all.insert(name, files);
        } else {
            reader.problem(span, ProblemKind::GresFiles { name, named: files.len(), declared });
        }
    }
    all
}

fn set_addresses(reader: &mut Reader<'_>, names: &[String], addresses: At<Vec<String>>, nodes: &mut Nodes) {
    if addresses.value.len() != names.len() {
        let kind = ProblemKind::AddressCount { addresses: addresses.value.len(), nodes: names.len() };
        reader.problem(addresses.span, kind);
        return;
    }
    nodes.addresses.extend(names.iter().cloned().zip(addresses.value));
}
