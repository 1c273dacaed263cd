//! Devices: `--gres`, and GPUs in Slurm's ways of asking for them.

use muster_core::gres::{BadGres, Gres, check_list, parse_list};
use muster_core::spec::Request;

use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// Adds the devices that were asked for to a request whose ranks and nodes are known.
pub(super) fn add(request: &mut Request, layer: &Layer) -> Result<(), CliError> {
    if let Some(said) = layer.get(Opt::Gres).filter(|said| said.value != "none") {
        request.gres_per_node = devices(said)?;
    }
    if let Some(said) = layer.get(Opt::GpusPerNode) {
        extend(&mut request.gres_per_node, said, gpus(said)?)?;
    }
    if let Some(said) = layer.get(Opt::GpusPerTask) {
        extend(&mut request.gres_per_rank, said, gpus(said)?)?;
    }
    let Some(said) = layer.get(Opt::Gpus) else { return Ok(()) };
    // All together: an equal part for each node where their number is said, else for each rank.
    let (parts, list) = match request.nodes {
        Some(nodes) => (nodes, &mut request.gres_per_node),
        None => (request.ranks, &mut request.gres_per_rank),
    };
    let all = gpus(said)?;
    if request.nodes_max.is_some() || all.iter().any(|gres| !gres.count.is_multiple_of(parts)) {
        return Err(CliError::Value {
            origin: said.origin.clone(),
            value: said.value.clone(),
            right: "the GPUs must be a multiple of --nodes, or of --ntasks without; --gpus-per-node and \
                    --gpus-per-task say them one by one",
        });
    }
    extend(list, said, all.into_iter().map(|gres| Gres { count: gres.count / parts, ..gres }).collect())
}

/// A list of devices, such as `gpu:2,nic`.
pub(super) fn devices(said: &Said) -> Result<Vec<Gres>, CliError> {
    parse_list(&said.value).map_err(|source| bad(said, source))
}

/// `2`, `a100:2`, or several types with commas between them.
pub(super) fn gpus(said: &Said) -> Result<Vec<Gres>, CliError> {
    let named: Vec<String> = said.value.split(',').map(|part| format!("gpu:{part}")).collect();
    parse_list(&named.join(",")).map_err(|source| bad(said, source))
}

fn extend(list: &mut Vec<Gres>, said: &Said, more: Vec<Gres>) -> Result<(), CliError> {
    list.extend(more);
    check_list(list).map_err(|source| bad(said, source))
}

fn bad(said: &Said, source: BadGres) -> CliError {
    CliError::Gres { origin: said.origin.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn request(nodes: Option<u32>, ranks: u32, pairs: &[(Opt, &str)]) -> Result<(String, String), String> {
        let mut layer = Layer::default();
        for (option, value) in pairs {
            layer.say(*option, *value, Origin::CommandLine { option: format!("{option:?}") });
        }
        let mut request = Request { nodes, ranks, ..Request::default() };
        add(&mut request, &layer).map_err(|error| error.to_string())?;
        let text = |list: &[Gres]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Ok((text(&request.gres_per_node), text(&request.gres_per_rank)))
    }

    #[test]
    fn devices_are_asked_for_in_all_ways() {
        for (nodes, ranks, pairs, per_node, per_rank) in [
            (None, 1, &[(Opt::Gres, "gpu:a100:2,nic")][..], "gpu:a100:2,nic:1", ""),
            (None, 1, &[(Opt::Gres, "none")], "", ""),
            (None, 1, &[(Opt::GpusPerNode, "4"), (Opt::Gres, "nic:1")], "nic:1,gpu:4", ""),
            (None, 4, &[(Opt::GpusPerTask, "a100:1,v100:2")], "", "gpu:a100:1,gpu:v100:2"),
            (Some(2), 8, &[(Opt::Gpus, "8")], "gpu:4", ""),
            (None, 4, &[(Opt::Gpus, "h100:8")], "", "gpu:h100:2"),
        ] {
            assert_eq!(
                request(nodes, ranks, pairs),
                Ok((per_node.to_owned(), per_rank.to_owned())),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn what_names_no_devices_is_refused_with_what_would_be_right() {
        for (pairs, message) in [
            (&[(Opt::Gres, "gpu:a100:x")][..], "write name:count or name:type:count"),
            (&[(Opt::Gres, "gpu:0")], "must name 1 to 255 devices"),
            (&[(Opt::GpusPerNode, "a:b:1")], "names no devices"),
            (&[(Opt::Gres, "gpu:1"), (Opt::GpusPerNode, "1")], "'gpu' is named twice"),
            (&[(Opt::Gpus, "3")], "multiple of --nodes"),
        ] {
            let error = request(Some(2), 2, pairs).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
