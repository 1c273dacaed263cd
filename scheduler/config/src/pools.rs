//! `[[pool]]`: the pools.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::cluster::{Backfill, Fill, Order, PoolConfig, Preempt};
use muster_core::notation::format_time_s;

use crate::nodes::Nodes;
use crate::problem::{ProblemKind, nearest};
use crate::qos::PRIORITY_LIMITS;
use crate::section::{At, Reader, Section, Span};

/// Time limit of tasks that name none, where the pool does not say either.
const TIME_DEFAULT_S: u64 = 3600;
/// Longest time limit, where the pool does not say.
const TIME_MAX_S: u64 = 7 * 86_400;

const FILLS: [(&str, Fill); 2] = [("pack", Fill::Pack), ("spread", Fill::Spread)];

const ORDERS: [(&str, Order); 6] = [
    ("default", Order::Default),
    ("fcfs", Order::Fcfs),
    ("sjf", Order::Sjf),
    ("wfp3", Order::Wfp3),
    ("f1", Order::F1),
    ("multifactor", Order::Multifactor),
];

const BACKFILLS: [(&str, Backfill); 4] = [
    ("none", Backfill::None),
    ("easy", Backfill::Easy),
    ("easy-shortest", Backfill::EasyShortest),
    ("conservative", Backfill::Conservative),
];

const PREEMPTS: [(&str, Preempt); 3] =
    [("off", Preempt::Off), ("requeue", Preempt::Requeue), ("cancel", Preempt::Cancel)];

/// A tier that is higher is a mistake in the number.
const TIER_MAX: u64 = 65_533;
/// Whoever is preempted for the sake of urgent work does not go on for longer than a day.
const GRACE_MAX_S: u64 = 86_400;

pub(crate) fn pools(
    reader: &mut Reader<'_>,
    sections: Vec<Section<'_, '_>>,
    nodes: &Nodes,
) -> Vec<PoolConfig> {
    if sections.is_empty() {
        let example = "[[pool]] with name = \"main\", nodes = \"n[01-04]\"";
        reader.problem(0..0, ProblemKind::NoneDeclared { what: "pool", example });
    }
    let mut pools = Vec::new();
    let mut places: BTreeMap<String, Span> = BTreeMap::new();
    let mut default: Option<(String, Span)> = None;
    for mut section in sections {
        let span = section.span.clone();
        let marked = section.flag(reader, "default");
        let Some(pool) = pool(reader, section, marked.as_ref().is_some_and(|flag| flag.value), nodes) else {
            continue;
        };
        if let Some(first) = places.get(&pool.name) {
            let (name, first_line) = (pool.name.clone(), reader.line(first));
            reader.problem(span.clone(), ProblemKind::Duplicate { what: "pool", name, first_line });
        }
        if let (true, Some(flag)) = (pool.default, marked) {
            match &default {
                Some((first, place)) => {
                    let (first, first_line) = (first.clone(), reader.line(place));
                    reader.problem(
                        flag.span,
                        ProblemKind::TwoDefaults { pool: pool.name.clone(), first, first_line },
                    );
                }
                None => default = Some((pool.name.clone(), flag.span)),
            }
        }
        places.insert(pool.name.clone(), span);
        pools.push(pool);
    }
    pools
}

fn pool(
    reader: &mut Reader<'_>,
    mut section: Section<'_, '_>,
    default: bool,
    nodes: &Nodes,
) -> Option<PoolConfig> {
    let name = section.text(reader, "name", "main");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"main\"");
    }
    let members = section.hosts(reader, "nodes");
    if !section.has("nodes") {
        section.missing(reader, "nodes", "nodes = \"n[01-04]\"");
    }
    let time_default = section.time(reader, "default_time");
    let time_max = section.time(reader, "max_time");
    let memory_per_core_bytes = section.size(reader, "memory_per_core").map(|at| at.value);
    let fill = section.text(reader, "fill", "pack");
    let order = section.text(reader, "order", "default");
    let backfill = section.text(reader, "backfill", "easy");
    let priority = section.signed(reader, "priority", PRIORITY_LIMITS).map_or(0, |at| at.value);
    let tier = section.number(reader, "tier", (0, TIER_MAX)).map_or(0, |at| at.value as u32);
    let preempt = section.text(reader, "preempt", "off");
    let grace = section.time(reader, "grace");
    section.finish(reader);

    let fill = choice(reader, "fill", fill, &FILLS);
    let order = choice(reader, "order", order, &ORDERS);
    let backfill = choice(reader, "backfill", backfill, &BACKFILLS);
    let preempt = choice(reader, "preempt", preempt, &PREEMPTS);
    let grace_s = grace.map_or(0, |grace| known_grace(reader, grace));
    let time_max_s = time_max.as_ref().map_or(TIME_MAX_S, |at| at.value);
    // A pool that only allows short tasks need not say so twice.
    let time_default_s = time_default.as_ref().map_or(TIME_DEFAULT_S.min(time_max_s), |at| at.value);
    if let (true, Some(at)) = (time_default_s > time_max_s, time_default) {
        let (default, max) = (format_time_s(time_default_s), format_time_s(time_max_s));
        reader.problem(at.span, ProblemKind::DefaultTimeTooLong { default, max });
    }
    let name = name?;
    check_name(reader, &name);
    let name = name.value;
    let owner = format!("pool '{name}'");
    let nodes = members.map(|members| known_nodes(reader, &owner, members, nodes)).unwrap_or_default();
    Some(PoolConfig {
        name,
        nodes,
        default,
        time_default_s,
        time_max_s,
        memory_per_core_bytes,
        fill,
        order,
        backfill,
        priority,
        tier,
        preempt,
        grace_s,
        by_rank: false,
    })
}

/// A grace that is not too long.
fn known_grace(reader: &mut Reader<'_>, grace: At<u64>) -> u64 {
    if grace.value > GRACE_MAX_S {
        let expected = "a time of at most 1-00:00:00";
        let found = format_time_s(grace.value);
        reader.problem(grace.span, ProblemKind::BadText { key: "grace", expected, found });
    }
    grace.value
}

/// What the word stands for; the default without a word, and after an unknown one, which is an error.
pub(crate) fn choice<T: Copy + Default>(
    reader: &mut Reader<'_>,
    key: &'static str,
    text: Option<At<String>>,
    known: &[(&str, T)],
) -> T {
    let Some(text) = text else { return T::default() };
    if let Some((_, value)) = known.iter().find(|(word, _)| *word == text.value) {
        return *value;
    }
    let choices = known.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    reader.problem(text.span, ProblemKind::BadChoice { key, choices, found: text.value });
    T::default()
}

/// Names of pools and switches are words on command lines.
pub(crate) fn check_name(reader: &mut Reader<'_>, name: &At<String>) {
    if !muster_core::notation::is_host_name(&name.value) {
        let expected = "a name of letters, digits, '-', '_' and '.', at most 64 characters";
        let kind = ProblemKind::BadText { key: "name", expected, found: name.value.clone() };
        reader.problem(name.span.clone(), kind);
    }
}

/// The members of a pool or leaf switch that are declared; the others, repeated ones and none at all are errors.
pub(crate) fn known_nodes(
    reader: &mut Reader<'_>,
    owner: &str,
    list: At<Vec<String>>,
    nodes: &Nodes,
) -> Vec<String> {
    if list.value.is_empty() {
        reader.problem(list.span.clone(), ProblemKind::Empty { owner: owner.to_owned() });
    }
    let mut seen = BTreeSet::new();
    for name in list.value {
        let kind = if !nodes.places.contains_key(&name) {
            let nearest = nearest(&name, nodes.places.keys().map(String::as_str));
            ProblemKind::UnknownName { owner: owner.to_owned(), what: "node", name, nearest }
        } else if !seen.insert(name.clone()) {
            ProblemKind::Repeated { name, key: "nodes" }
        } else {
            continue;
        };
        reader.problem(list.span.clone(), kind);
    }
    // In the configuration's order, which is the order of placement.
    nodes.list.iter().filter(|node| seen.contains(&node.name)).map(|node| node.name.clone()).collect()
}
