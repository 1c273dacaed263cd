//! Numbers and lists of nodes: what is refused, and what follows from what was said.

use super::validate::bad;
use crate::cluster::Fill;
use crate::gres::{Gres, check_list};
use crate::input::Refusal;
use crate::notation::is_host_name;
use crate::spec::Request;

/// Most names in a list of nodes.
const NODES_LISTED_MAX: usize = 100_000;

/// Checks lists and ranges of nodes, and fills in the number of nodes where a list gives it.
pub(super) fn check(request: &mut Request) -> Result<(), Refusal> {
    for (field, names) in [("nodelist", &request.nodelist), ("exclude", &request.exclude)] {
        if names.len() > NODES_LISTED_MAX {
            return Err(bad(
                field,
                format!("has {} names; at most {NODES_LISTED_MAX} are allowed", names.len()),
            ));
        }
        if let Some(name) = names.iter().find(|name| !is_host_name(name)) {
            return Err(bad(field, format!("{name:?} cannot name a node")));
        }
    }
    if request.switches.is_some_and(|wish| wish.switches_max == 0) {
        return Err(bad("switches", "must be at least 1"));
    }
    if request.threads_per_core == Some(0) {
        return Err(bad("threads per core", "must be at least 1"));
    }
    if request.contiguous && request.fill == Some(Fill::Spread) && request.nodes.is_none() {
        return Err(bad(
            "contiguous",
            "a job that is spread over as many nodes as possible cannot be on nodes that follow each other; say one of \
             both, or how many nodes",
        ));
    }
    if request.fill == Some(Fill::Spread) && request.switches.is_some() && request.nodes.is_none() {
        return Err(bad(
            "switches",
            "a job that is spread over as many nodes as possible cannot be on few switches; say one of both, or how \
             many nodes",
        ));
    }
    check_gres(request)?;
    if let Some(most) = request.nodes_max {
        check_range(request, most)?;
    }
    let listed = u32::try_from(request.nodelist.len()).unwrap_or(u32::MAX);
    if listed == 0 {
        return Ok(());
    }
    if let Some(most) = request.nodes_max.or(request.nodes).filter(|most| *most < listed) {
        return Err(bad(
            "nodelist",
            format!("names {listed} nodes that must all be used, but the job asks for {most}"),
        ));
    }
    // Every node holds a rank: a list is also a number of nodes.
    if request.nodes.is_none_or(|nodes| nodes < listed) {
        if request.nodes_max.is_some() && request.ranks_grow {
            *request =
                Request { nodes_max: request.nodes_max, ranks_grow: true, ..request.with_nodes(listed) };
        }
        request.nodes = Some(listed.max(request.nodes.unwrap_or(0)));
    }
    Ok(())
}

fn check_gres(request: &Request) -> Result<(), Refusal> {
    for list in [&request.gres_per_node, &request.gres_per_rank] {
        check_list(list).map_err(|wrong| bad("gres", wrong.to_string()))?;
    }
    let both = |wish: &&Gres| request.gres_per_rank.iter().any(|other| other.name == wish.name);
    match request.gres_per_node.iter().find(both) {
        Some(wish) => Err(bad(
            "gres",
            format!("{} is asked for on each node and for each rank: say one of both", wish.name),
        )),
        None => Ok(()),
    }
}

fn check_range(request: &Request, most: u32) -> Result<(), Refusal> {
    let Some(least) = request.nodes else {
        return Err(bad("nodes", "a largest number of nodes needs a least one"));
    };
    if most < least {
        return Err(bad("nodes", format!("at most {most} and at least {least} nodes cannot both be")));
    }
    if request.ranks_grow && (least == 0 || !request.ranks.is_multiple_of(least)) {
        return Err(bad(
            "ranks",
            format!("ranks that grow with the nodes must be a multiple of {least} nodes"),
        ));
    }
    let ranks = u64::from(request.ranks) / u64::from(least.max(1)) * u64::from(most);
    if request.ranks_grow && ranks > u64::from(crate::spec::RANKS_MAX) {
        return Err(bad(
            "nodes",
            format!("{most} nodes would have {ranks} ranks; at most {} are allowed", crate::spec::RANKS_MAX),
        ));
    }
    Ok(())
}
