//! `--ntasks-per-gpu`, `--cpus-per-gpu` and `--mem-per-gpu`: ranks, cores and memory that go with the GPUs of a task.

use muster_core::gres::Gres;
use muster_core::notation::parse_size_bytes;
use muster_core::spec::{Memory, Request};

use super::build::positive;
use super::gres;
use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// What to do where GPUs are asked for by node, and it is open how many ranks a node has.
const SHAPE: &str = "it is open how many ranks share the GPUs of a node: say --nodes with --ntasks-per-node, or --gpus-per-task";
/// What to do where no GPUs are asked for.
const NO_GPUS: &str = "ask for GPUs as well, with --gpus, --gpus-per-node, --gpus-per-task or --gres=gpu:N";

/// Adds the ranks that go with the GPUs that are asked for, or the GPUs that go with the ranks, before any other devices
/// are added.
pub(super) fn add_ranks(request: &mut Request, layer: &Layer) -> Result<(), CliError> {
    let Some(said) = layer.get(Opt::NtasksPerGpu) else { return Ok(()) };
    let each = positive(said)?;
    let few = || wrong(said, "ask for fewer ranks: a task has at most 1,000,000");
    let all = layer.get(Opt::Gpus).map(gres::gpus).transpose()?.map(|list| total(&list));
    let of_node = match (layer.get(Opt::GpusPerNode), layer.get(Opt::Gres)) {
        (Some(gpus), _) => Some(total(&gres::gpus(gpus)?)),
        (None, Some(list)) if list.value != "none" => {
            Some(total(&gres::devices(list)?)).filter(|count| *count > 0)
        }
        (None, _) => None,
    };
    if layer.has(Opt::GpusPerTask) || layer.has(Opt::NtasksPerNode) || request.nodes_max.is_some() {
        return Err(wrong(
            said,
            "leave out --gpus-per-task, --ntasks-per-node and ranges of nodes beside it",
        ));
    }
    match (all, of_node, layer.has(Opt::Ntasks)) {
        (None, Some(of_node), false) => {
            let per_node = of_node.checked_mul(each).ok_or_else(few)?;
            request.ranks = per_node.checked_mul(request.nodes.unwrap_or(1)).ok_or_else(few)?;
            request.nodes = Some(request.nodes.unwrap_or(1));
            request.ranks_per_node = Some(per_node);
        }
        (Some(all), None, false) => {
            request.ranks = all.checked_mul(each).ok_or_else(few)?;
            if let Some(nodes) = request.nodes.filter(|nodes| all.is_multiple_of(*nodes)) {
                request.ranks_per_node = Some(request.ranks / nodes);
            } else if each > 1 && request.nodes.is_none() {
                return Err(wrong(
                    said,
                    "say the nodes as well, with --nodes: several ranks of one node share a GPU",
                ));
            }
        }
        (None, None, true) => match (request.nodes, each) {
            (_, 1) => request.gres_per_rank = one_gpu_times(1),
            (Some(nodes), each) if request.ranks.is_multiple_of(nodes.saturating_mul(each).max(1)) => {
                request.ranks_per_node = Some(request.ranks / nodes);
                request.gres_per_node = one_gpu_times(request.ranks / nodes / each);
            }
            _ => {
                return Err(wrong(
                    said,
                    "the ranks must be a multiple of it times --nodes, which must be said",
                ));
            }
        },
        (None, None, false) => return Err(wrong(said, NO_GPUS)),
        _ => {
            return Err(wrong(
                said,
                "say the ranks with --ntasks, or the GPUs in one way: the other follows",
            ));
        }
    }
    Ok(())
}

fn one_gpu_times(count: u32) -> Vec<Gres> {
    vec![Gres { name: "gpu".to_owned(), kind: None, count }]
}

/// How many GPUs a list has, of all types together.
fn total(list: &[Gres]) -> u32 {
    list.iter().filter(|gres| gres.name == "gpu").fold(0, |sum: u32, gres| sum.saturating_add(gres.count))
}

/// How many GPUs there are for what.
enum Gpus {
    /// For each rank.
    PerRank(u64),
    /// For all ranks of a node together.
    PerNode(u64),
}

/// Adds cores and memory to a request whose devices, ranks and nodes are known.
pub(super) fn add(request: &mut Request, layer: &Layer) -> Result<(), CliError> {
    if let Some(said) = layer.get(Opt::CpusPerGpu) {
        if let Some(other) = layer.get(Opt::CpusPerTask) {
            return Err(CliError::Together {
                origin: said.origin.clone(),
                other: other.origin.clone(),
                right: "say the cores of a rank, or of a GPU",
            });
        }
        let each = u64::from(positive(said)?);
        let cores = match gpus(request, said)? {
            Gpus::PerRank(gpus) => each * gpus,
            Gpus::PerNode(gpus) => (each * gpus).div_ceil(ranks_per_node(request, said)?),
        };
        request.cores_per_rank = u32::try_from(cores).map_err(|_| wrong(said, "ask for fewer cores"))?;
    }
    if let Some(said) = layer.get(Opt::MemPerGpu) {
        let each = parse_size_bytes(&said.value)
            .map_err(|source| CliError::Notation { origin: said.origin.clone(), source })?;
        request.memory = match gpus(request, said)? {
            Gpus::PerRank(gpus) => {
                let all = each.saturating_mul(gpus);
                Memory::PerCoreBytes(all.div_ceil(u64::from(request.cores_per_rank.max(1))))
            }
            Gpus::PerNode(gpus) => Memory::PerNodeBytes(each.saturating_mul(gpus)),
        };
    }
    Ok(())
}

/// How many GPUs a request asks for.
fn gpus(request: &Request, said: &Said) -> Result<Gpus, CliError> {
    match (u64::from(total(&request.gres_per_rank)), u64::from(total(&request.gres_per_node))) {
        (0, 0) => Err(wrong(said, NO_GPUS)),
        (per_rank, 0) => Ok(Gpus::PerRank(per_rank)),
        (0, per_node) => Ok(Gpus::PerNode(per_node)),
        _ => Err(wrong(said, "ask for the GPUs of ranks, or of nodes, not for both")),
    }
}

fn ranks_per_node(request: &Request, said: &Said) -> Result<u64, CliError> {
    let by_shape = match (request.nodes, request.ranks) {
        (None, 1) => Some(1),
        (Some(nodes), ranks) if request.nodes_max.is_none() && ranks.is_multiple_of(nodes) => {
            Some(ranks / nodes)
        }
        _ => None,
    };
    let ranks = request.ranks_per_node.or(by_shape);
    ranks.filter(|ranks| *ranks > 0).map(u64::from).ok_or_else(|| wrong(said, SHAPE))
}

fn wrong(said: &Said, right: &'static str) -> CliError {
    CliError::Value { origin: said.origin.clone(), value: said.value.clone(), right }
}

#[cfg(test)]
mod tests {
    use super::super::layer::Origin;
    use super::*;

    fn gpus(count: u32) -> Vec<Gres> {
        muster_core::gres::parse_list(&format!("gpu:{count}")).unwrap()
    }

    fn asked(mut request: Request, pairs: &[(Opt, &str)]) -> Result<(u32, Memory), String> {
        let mut layer = Layer::default();
        for (option, value) in pairs {
            layer.say(*option, *value, Origin::CommandLine { option: format!("{option:?}") });
        }
        add(&mut request, &layer).map_err(|error| error.to_string())?;
        Ok((request.cores_per_rank, request.memory))
    }

    #[test]
    fn cores_and_memory_go_with_gpus() {
        let both = &[(Opt::CpusPerGpu, "3"), (Opt::MemPerGpu, "6M")][..];
        let ranks = Request { ranks: 4, gres_per_rank: gpus(2), ..Request::default() };
        assert_eq!(asked(ranks, both), Ok((6, Memory::PerCoreBytes(2 << 20))));
        let node = Request { gres_per_node: gpus(4), ..Request::default() };
        assert_eq!(asked(node, both), Ok((12, Memory::PerNodeBytes(24 << 20))));
        let nodes = Request { nodes: Some(2), ranks: 6, gres_per_node: gpus(4), ..Request::default() };
        assert_eq!(asked(nodes, both), Ok((4, Memory::PerNodeBytes(24 << 20))));
    }

    #[test]
    fn ranks_follow_from_gpus_and_gpus_from_ranks() {
        let shaped = |nodes: Option<u32>, ranks: u32, pairs: &[(Opt, &str)]| {
            let mut layer = Layer::default();
            for (option, value) in pairs {
                layer.say(*option, *value, Origin::CommandLine { option: format!("{option:?}") });
            }
            let mut request = Request { nodes, ranks, ..Request::default() };
            add_ranks(&mut request, &layer)
                .and_then(|()| gres::add(&mut request, &layer))
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((
                request.nodes,
                request.ranks,
                request.ranks_per_node,
                total(&request.gres_per_node),
                total(&request.gres_per_rank),
            ))
        };
        let each = |number| (Opt::NtasksPerGpu, number);
        assert_eq!(shaped(None, 1, &[each("1"), (Opt::Gpus, "a100:4")]), Ok((None, 4, None, 0, 1)));
        assert_eq!(shaped(Some(2), 2, &[each("2"), (Opt::Gpus, "4")]), Ok((Some(2), 8, Some(4), 2, 0)));
        assert_eq!(
            shaped(Some(2), 2, &[each("2"), (Opt::GpusPerNode, "3")]),
            Ok((Some(2), 12, Some(6), 3, 0))
        );
        assert_eq!(shaped(None, 1, &[each("2"), (Opt::Gres, "gpu:2,nic")]), Ok((Some(1), 4, Some(4), 2, 0)));
        assert_eq!(shaped(None, 6, &[each("1"), (Opt::Ntasks, "6")]), Ok((None, 6, None, 0, 1)));
        assert_eq!(shaped(Some(2), 8, &[each("2"), (Opt::Ntasks, "8")]), Ok((Some(2), 8, Some(4), 2, 0)));
        for (nodes, ranks, pairs) in [
            (None, 1, &[each("1")][..]),
            (None, 1, &[each("2"), (Opt::Gpus, "4")]),
            (None, 6, &[each("2"), (Opt::Ntasks, "6")]),
            (Some(2), 6, &[each("2"), (Opt::Ntasks, "6")]),
            (None, 6, &[each("1"), (Opt::Ntasks, "6"), (Opt::Gpus, "6")]),
            (None, 1, &[each("1"), (Opt::GpusPerTask, "1")]),
            (None, 1, &[each("0"), (Opt::Gpus, "1")]),
        ] {
            assert!(shaped(nodes, ranks, pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn what_cannot_be_reckoned_is_told() {
        let cores = &[(Opt::CpusPerGpu, "3")][..];
        assert!(asked(Request::default(), cores).unwrap_err().contains("--gpus-per-task or --gres"));
        let open = Request { ranks: 3, gres_per_node: gpus(4), ..Request::default() };
        assert!(asked(open, cores).unwrap_err().contains("--ntasks-per-node"));
        let one = Request { gres_per_node: gpus(4), ..Request::default() };
        let two = &[(Opt::CpusPerGpu, "3"), (Opt::CpusPerTask, "2")];
        assert!(asked(one.clone(), two).unwrap_err().contains("of a rank, or of a GPU"));
        assert!(asked(one, &[(Opt::CpusPerGpu, "0")]).is_err());
    }
}
