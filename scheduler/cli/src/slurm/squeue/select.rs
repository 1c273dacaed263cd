//! Which lines are shown, and in which order.

use std::cmp::Ordering;

use muster_client::Client;
use muster_client::api::{TaskLine, TaskList, TaskState, Which};
use muster_core::notation::parse_hosts;

use super::fields::{Field, Row, View};
use super::options::{Options, States};
use crate::slurm::fault::Fault;
use crate::slurm::state;

/// A field by which lines are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortKey {
    pub field: Field,
    pub descending: bool,
}

/// The lines that the options ask for.
pub(super) fn rows<'a>(
    list: &'a TaskList,
    options: &Options,
    client: &mut Client,
) -> Result<Vec<Row<'a>>, Fault> {
    if let Some(nodes) = &options.nodes {
        let known = client.nodes().map_err(Fault::client(super::DOING))?.nodes;
        if let Some(node) = nodes.iter().find(|node| known.iter().all(|known| known.name != **node)) {
            return Err(Fault::Said(format!("squeue: error: Invalid node name {node}")));
        }
    }
    let mut rows = Vec::with_capacity(list.lines.len());
    for line in list.lines.iter().filter(|line| takes(line, options)) {
        match &line.which {
            Which::Elements(ranges) if options.array => {
                let indices = ranges.iter().flat_map(|range| range.indices());
                rows.extend(indices.map(|index| Row { line, element: Some(index) }));
            }
            _ => rows.push(Row { line, element: None }),
        }
    }
    Ok(rows)
}

fn takes(line: &TaskLine, options: &Options) -> bool {
    let in_list = |list: &Option<Vec<String>>, value: &str| {
        list.as_ref().is_none_or(|list| list.iter().any(|one| one == value))
    };
    let in_state = match &options.states {
        States::All => true,
        States::Unfinished => !line.state.is_finished(),
        States::These(names) => names.iter().any(|name| name.ours == Some(line.state)),
    };
    let on_nodes = options.nodes.as_ref().is_none_or(|nodes| {
        let own = parse_hosts(&line.node_list).unwrap_or_default();
        nodes.iter().any(|node| own.contains(node))
    });
    in_state
        && in_list(&options.names, &line.name)
        && in_list(&options.pools, &line.pool)
        && in_list(&options.accounts, line.account.as_deref().unwrap_or_default())
        && in_list(&options.qos, line.qos.as_deref().unwrap_or_default())
        && options.reservation.as_ref().is_none_or(|name| line.reservation.as_ref() == Some(name))
        && options.licenses.as_ref().is_none_or(|names| {
            names.iter().any(|name| line.licenses.contains_key(name.split(':').next().unwrap_or_default()))
        })
        && on_nodes
}

/// What a line is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i128),
    Text(String),
}

/// Sorts lines; those that are equal stay in the order of their jobs and indices.
pub(super) fn sort(rows: &mut [Row<'_>], view: &View<'_>, keys: &[SortKey]) {
    rows.sort_by(|a, b| {
        let compare = |key: &SortKey| {
            let order = compare(key.field, a, b, view);
            if key.descending { order.reverse() } else { order }
        };
        keys.iter().map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
}

fn compare(field: Field, a: &Row<'_>, b: &Row<'_>, view: &View<'_>) -> Ordering {
    match field {
        // These are compared for each line of the default listing.
        Field::Partition => a.line.pool.cmp(&b.line.pool),
        Field::State | Field::StateCompact => state::of(a.line.state).long.cmp(state::of(b.line.state).long),
        Field::Priority | Field::PriorityLong => view.priority(a.line).cmp(&view.priority(b.line)),
        _ => value(field, a, view).cmp(&value(field, b, view)),
    }
}

fn value(field: Field, row: &Row<'_>, view: &View<'_>) -> Value {
    let line = row.line;
    let instant = |at: Option<u64>| Value::Number(at.map_or(i128::MAX, i128::from));
    match field {
        Field::JobArrayId | Field::JobId | Field::ArrayJobId => {
            let index = row.element.or(match line.which {
                Which::Element(index) => Some(index.0),
                _ => None,
            });
            Value::Number((i128::from(line.job) << 40) | index.map_or(0, |index| i128::from(index) + 1))
        }
        Field::NumNodes => Value::Number(line.nodes.into()),
        Field::NumCpus => Value::Number(line.cores.into()),
        Field::UserId => Value::Number(line.uid.into()),
        Field::StartTime if line.state == TaskState::Waiting => {
            instant(line.expected_start_us.or(line.begin_us))
        }
        Field::StartTime => instant(line.started_at_us),
        Field::EndTime => instant(line.finished_at_us.or(line.ends_by_us)),
        Field::SubmitTime => instant(Some(line.submitted_at_us)),
        Field::TimeLimit => Value::Number(line.time_limit_s.map_or(i128::MAX, i128::from)),
        Field::TimeUsed => Value::Number(view.used_s(line).into()),
        Field::TimeLeft => Value::Number(view.left_s(line).map_or(i128::MAX, i128::from)),
        _ => {
            let mut text = String::new();
            view.write(field, row, &mut text);
            Value::Text(text)
        }
    }
}
