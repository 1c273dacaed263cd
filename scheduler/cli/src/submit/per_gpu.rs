//! `--cpus-per-gpu` and `--mem-per-gpu`: cores and memory that go with the GPUs of a task.

use muster_core::notation::parse_size_bytes;
use muster_core::spec::{Memory, Request};

use super::build::positive;
use super::layer::{Layer, Said};
use super::options::Opt;
use crate::error::CliError;

/// What to do where GPUs are asked for by node, and it is open how many ranks a node has.
const SHAPE: &str = "it is open how many ranks share the GPUs of a node: say --nodes with --ntasks-per-node, or --gpus-per-task";
/// What to do where no GPUs are asked for.
const NO_GPUS: &str = "ask for GPUs as well, with --gpus, --gpus-per-node, --gpus-per-task or --gres=gpu:N";

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
    let count = |list: &[muster_core::gres::Gres]| -> u64 {
        list.iter().filter(|gres| gres.name == "gpu").map(|gres| u64::from(gres.count)).sum()
    };
    match (count(&request.gres_per_rank), count(&request.gres_per_node)) {
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
    use muster_core::gres::Gres;

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
