//! Which nodes make a row.

use std::cmp::Ordering;
use std::collections::HashMap;

use muster_client::api::{NodeView, PoolView};

use super::fields::{Field, Of, View, natural};
use super::options::Options;
use crate::slurm::columns::Layout;
use crate::slurm::node::State;

/// What the controller said.
pub(super) struct Cluster<'a> {
    pub nodes: Vec<(&'a NodeView, State)>,
    pub pools: &'a [PoolView],
}

impl<'a> Cluster<'a> {
    pub(super) fn new(nodes: &'a [NodeView], pools: &'a [PoolView], now_us: u64) -> Self {
        Self { nodes: nodes.iter().map(|node| (node, State::of(node, now_us))).collect(), pools }
    }

    /// Characters of the longest partition's name, with the mark of the default one.
    pub(super) fn longest_pool(&self) -> usize {
        let length = |pool: &PoolView| pool.name.chars().count() + usize::from(pool.default);
        self.pools.iter().map(length).max().unwrap_or(0)
    }

    /// Characters of the longest node's name.
    pub(super) fn longest_node(&self) -> usize {
        self.nodes.iter().map(|(node, _)| node.name.chars().count()).max().unwrap_or(0)
    }
}

/// Nodes of a partition that are shown together.
pub(super) struct Row<'a> {
    pub pool: &'a PoolView,
    /// The partition's place in the configuration.
    pub place: usize,
    pub nodes: Vec<(&'a NodeView, State)>,
}

fn takes(node: &NodeView, state: State, options: &Options) -> bool {
    let in_state = |words: &Vec<String>| words.iter().all(|word| state.is(word) == Some(true));
    options.states.as_ref().is_none_or(|wanted| wanted.iter().any(in_state))
        && options.nodes.as_ref().is_none_or(|names| names.contains(&node.name))
        && (!options.dead || state.silent)
        && (!options.responding || !state.silent)
        && (!options.reasons || !node.reason_given.is_empty())
}

/// The rows that the options ask for. Nodes of which the columns show the same are one row.
pub(super) fn rows<'a>(
    cluster: &Cluster<'a>,
    options: &Options,
    layout: &Layout<Field>,
    view: &View,
) -> Vec<Row<'a>> {
    let tells = |of: Of| layout.columns.iter().any(|column| column.key.of() == of);
    let apart: Vec<Field> = layout.columns.iter().map(|column| column.key).collect();
    let by_pool = options.by_node || tells(Of::Pool);
    let mut found: HashMap<String, usize> = HashMap::new();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (place, pool) in cluster.pools.iter().enumerate() {
        if options.pools.as_ref().is_some_and(|names| !names.contains(&pool.name)) {
            continue;
        }
        let of_pool: Vec<String> = apart
            .iter()
            .filter(|field| field.of() == Of::Pool)
            .map(|field| View::of_pool(*field, pool))
            .collect();
        let before = rows.len();
        for (node, state) in &cluster.nodes {
            if !node.pools.contains(&pool.name) || !takes(node, *state, options) {
                continue;
            }
            let is_apart = |field: &&Field| match field.of() {
                Of::Nodes => true,
                Of::Kind => options.exact,
                _ => false,
            };
            let mut key: Vec<String> =
                apart.iter().filter(is_apart).map(|field| view.of_node(*field, node, *state)).collect();
            key.extend(of_pool.iter().cloned());
            if options.by_node {
                key.extend([node.name.clone(), pool.name.clone()]);
            }
            let at = *found.entry(key.join("\n")).or_insert(rows.len());
            if at == rows.len() {
                rows.push(Row { pool, place, nodes: Vec::new() });
            }
            if rows[at].nodes.iter().all(|(other, _)| other.name != node.name) {
                rows[at].nodes.push((node, *state));
            }
        }
        // A partition without such nodes is shown nevertheless.
        if rows.len() == before && by_pool && !options.by_node && !options.reasons {
            rows.push(Row { pool, place, nodes: Vec::new() });
        }
    }
    rows
}

/// Sorts rows.
pub(super) fn sort(rows: &mut [Row<'_>], options: &Options, view: &View) {
    rows.sort_by(|a, b| {
        let compare = |key: &super::options::SortKey| {
            let order = match key.field {
                Field::Partition | Field::PartitionName if key.configured => a.place.cmp(&b.place),
                Field::Partition | Field::PartitionName => a.pool.name.cmp(&b.pool.name),
                Field::StateCompact | Field::StateLong | Field::StateComplete => rank(a).cmp(&rank(b)),
                Field::NodeList | Field::NodeHost => first(a).cmp(&first(b)),
                Field::Nodes => a.nodes.len().cmp(&b.nodes.len()),
                field => text(field, a, view).cmp(&text(field, b, view)),
            };
            if key.descending { order.reverse() } else { order }
        };
        options.sort.iter().map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
}

fn rank(row: &Row<'_>) -> u32 {
    row.nodes.first().map_or(0, |(_, state)| state.rank())
}

fn first<'a>(row: &Row<'a>) -> Option<(&'a str, u64, &'a str)> {
    row.nodes.first().map(|(node, _)| natural(&node.name))
}

/// Numbers sort as numbers.
fn text(field: Field, row: &Row<'_>, view: &View) -> (u64, String) {
    let mut text = String::new();
    view.write(field, row, &mut text);
    let digits = text.trim_end_matches('+');
    (digits.parse().unwrap_or(0), text)
}
