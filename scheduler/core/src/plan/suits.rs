//! Which nodes a request may use at all, whatever is free on them: features and lists of nodes.

use std::collections::BTreeSet;

use super::fit::{self, NodeRoom, pool_nodes};
use crate::cluster::PoolConfig;
use crate::input::Refusal;
use crate::notation::{counted, format_hosts};
use crate::spec::Request;
use crate::state::{Node, State};

/// Features told in one message at most.
const FEATURES_TOLD_MAX: usize = 20;

/// Whether a node may hold a part of a request. Depends on the two alone.
#[must_use]
pub fn suits(node: &Node, request: &Request) -> bool {
    // Most requests say nothing of this: they must cost nothing.
    (request.exclude.is_empty() || !request.exclude.contains(&node.name))
        && request.constraint.as_ref().is_none_or(|constraint| constraint.holds(&node.features))
        && (!takes_only_its_list(request) || request.nodelist.contains(&node.name))
        && request.threads_per_core.is_none_or(|threads| threads <= node.threads.most())
        && request.ready_for.is_subset(&node.ready_for)
        && !(request.dedicated && node.low_priority)
}

/// Whether a request tells nodes apart by anything but their size.
#[must_use]
pub(super) fn is_choosy(request: &Request) -> bool {
    !request.exclude.is_empty()
        || !request.nodelist.is_empty()
        || request.constraint.is_some()
        || request.threads_per_core.is_some()
        || !request.ready_for.is_empty()
        || request.dedicated
}

/// Whether a node must be among those that a request gets.
#[must_use]
pub fn is_required(node: &Node, request: &Request) -> bool {
    !request.nodelist.is_empty() && request.nodelist.contains(&node.name)
}

/// Whether the nodes that must be used are all that can be.
fn takes_only_its_list(request: &Request) -> bool {
    let most = request.nodes_max.or(request.nodes);
    !request.nodelist.is_empty() && most.is_none_or(|most| most as usize <= request.nodelist.len())
}

/// Refuses what the declared nodes of a pool could never hold, even empty: by their features and names, or by their
/// size.
///
/// # Errors
/// [`Refusal::TooManyNodes`] or [`Refusal::NeverFits`], with what is not there and what is.
pub fn never_fits(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    never_wide_enough(state, pool, request)?;
    never_suits(state, pool, request)?;
    few_switches_hold(state, pool, request)?;
    let sized = |request: &Request| {
        fit::never_fits(state, pool, request)?;
        list_holds_its_part(state, pool, request)?;
        super::adjacent::never_adjacent(state, pool, request)
    };
    let Some(most) = request.nodes_max else { return sized(request) };
    // One number of the range is enough; of several refusals, the one about the least says most.
    let least = request.nodes_min();
    let refusal = match sized(&request.with_nodes(least)) {
        Err(refusal) if !request.ranks_grow => refusal,
        decided => return decided,
    };
    let most = most.min(request.ranks).min(u32::try_from(pool.nodes.len()).unwrap_or(u32::MAX));
    let mut others = least + 1..=most;
    if others.any(|count| sized(&request.with_nodes(count)).is_ok()) { Ok(()) } else { Err(refusal) }
}

/// Refuses a request for more hardware threads than any core of the pool has.
fn never_wide_enough(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    let Some(asked) = request.threads_per_core else { return Ok(()) };
    let most = pool_nodes(state, pool).map(|id| state.node(id).threads.most()).max().unwrap_or(0);
    if asked <= most {
        return Ok(());
    }
    let why =
        format!("it asks for {asked} threads of each core, and no core of the pool has more than {most}");
    Err(Refusal::NeverFits { pool: pool.name.clone(), why })
}

/// A request that waits for few leaf switches for ever must find them some day.
fn few_switches_hold(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    let Some(wish) = request.switches.filter(|wish| wish.wait_s.is_none()) else { return Ok(()) };
    let suitable: BTreeSet<&str> = pool_nodes(state, pool)
        .map(|id| state.node(id))
        .filter(|node| suits(node, request))
        .map(|node| node.name.as_str())
        .collect();
    let on = |nodes: &[String]| nodes.iter().filter(|name| suitable.contains(name.as_str())).count();
    let mut leaves: Vec<usize> = state.config.switches.iter().map(|switch| on(&switch.nodes)).collect();
    let on_none = suitable.len().saturating_sub(leaves.iter().sum());
    leaves.sort_unstable_by(|a, b| b.cmp(a));
    let most = on_none + leaves.iter().take(wish.switches_max as usize).sum::<usize>();
    let asked = request.nodes_min();
    if asked as usize <= most {
        return Ok(());
    }
    let why = format!(
        "{asked} nodes never hang on {} here, which join at most {most} of the nodes that it may use; \
         say how long to wait for them, as in --switches={}@1:00:00",
        counted(wish.switches_max, "leaf switch"),
        wish.switches_max
    );
    Err(Refusal::NeverFits { pool: pool.name.clone(), why })
}

/// Each listed node must be able to hold its part of the ranks.
fn list_holds_its_part(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    let Some(count) = request.nodes.filter(|_| !request.nodelist.is_empty()) else { return Ok(()) };
    let (part, _) = fit::split(request.ranks, count.max(1));
    let holds = |node: &Node| fit::ranks_that_fit(node, pool, NodeRoom::whole(node), request) >= part;
    let mut listed =
        pool_nodes(state, pool).map(|id| state.node(id)).filter(|node| is_required(node, request));
    match listed.find(|node| !holds(node)) {
        Some(small) => {
            let why = format!(
                "node {} must be used, but even when empty it cannot hold its part, {part} of {} ranks",
                small.name, request.ranks
            );
            Err(Refusal::NeverFits { pool: pool.name.clone(), why })
        }
        None => Ok(()),
    }
}

/// Refuses a request whose features or lists no choice of the pool's nodes can satisfy.
fn never_suits(state: &State, pool: &PoolConfig, request: &Request) -> Result<(), Refusal> {
    if request.constraint.is_none() && request.nodelist.is_empty() && request.exclude.is_empty() {
        return Ok(());
    }
    let never = |why: String| Err(Refusal::NeverFits { pool: pool.name.clone(), why });
    let nodes: Vec<&Node> = pool_nodes(state, pool).map(|id| state.node(id)).collect();
    let has = |name: &String| nodes.iter().any(|node| node.name == *name);
    let away: Vec<&String> = request.nodelist.iter().filter(|name| !has(name)).collect();
    if !away.is_empty() {
        return never(format!("{} must be used, but the pool has no such node", format_hosts(&away)));
    }
    let both: Vec<&String> = request.nodelist.intersection(&request.exclude).collect();
    if !both.is_empty() {
        return never(format!("{} must be used and excluded at once", format_hosts(&both)));
    }
    if let Some(constraint) = &request.constraint {
        let known: BTreeSet<&str> =
            nodes.iter().flat_map(|node| &node.features).map(String::as_str).collect();
        if let Some(unknown) = constraint.names().into_iter().find(|name| !known.contains(name)) {
            return never(format!("no node of the pool has the feature '{unknown}'; {}", told(&known)));
        }
        let wrong = |name: &&String| nodes.iter().any(|n| n.name == **name && !constraint.holds(&n.features));
        if let Some(wrong) = request.nodelist.iter().find(wrong) {
            return never(format!("node {wrong} must be used, but has not the features {constraint}"));
        }
    }
    let suitable = nodes.iter().filter(|node| suits(node, request)).count();
    let asked = (request.nodes_min() as usize).max(request.nodelist.len());
    if suitable < asked {
        let which =
            request.constraint.as_ref().map(|c| format!(" with the features {c}")).unwrap_or_default();
        let without = if request.exclude.is_empty() { "" } else { " that are not excluded" };
        let asked = counted(asked as u64, "node");
        return never(format!("it needs {asked}{which}{without}, and the pool has {suitable}"));
    }
    Ok(())
}

fn told(known: &BTreeSet<&str>) -> String {
    if known.is_empty() {
        return "its nodes have no features in the configuration".to_owned();
    }
    let told: Vec<&str> = known.iter().take(FEATURES_TOLD_MAX).copied().collect();
    let more = if known.len() > told.len() { ", ..." } else { "" };
    format!("the features there are {}{more}", told.join(", "))
}
