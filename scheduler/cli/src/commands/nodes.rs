//! `muster nodes`.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use muster_client::api::{NodeList, NodeView};
use muster_core::notation::{format_size, parse_hosts};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};
use crate::text::{instant, now_us};

/// Arguments of `muster nodes`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  muster nodes\n  muster nodes -l                  with addresses and versions\n  \
    muster nodes hold n[01-02] --reason \"new disks\"\n                                   running work goes on, new work stays away\n  \
    muster nodes release n[01-02]"
)]
pub struct NodesArgs {
    /// What to do; list them without.
    #[command(subcommand)]
    action: Option<NodesAction>,
    /// More columns
    #[arg(short, long)]
    long: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum NodesAction {
    /// Keep new work away from nodes; what runs there goes on (admins only)
    Hold {
        /// Nodes, such as n01 or n[01-04]
        nodes: String,
        /// Why, for those who ask
        #[arg(long)]
        reason: String,
    },
    /// Give nodes new work again (admins only)
    Release {
        /// Nodes, such as n01 or n[01-04]
        nodes: String,
    },
}

pub(crate) fn run(args: &NodesArgs) -> Result<ExitCode, CliError> {
    match &args.action {
        Some(NodesAction::Hold { nodes, reason }) => {
            let names = parse_hosts(nodes).map_err(CliError::Hosts)?;
            let mut client = connect()?;
            names.iter().try_for_each(|node| client.hold_node(node, reason))?;
        }
        Some(NodesAction::Release { nodes }) => {
            let names = parse_hosts(nodes).map_err(CliError::Hosts)?;
            let mut client = connect()?;
            names.iter().try_for_each(|node| client.release_node(node))?;
        }
        None => {
            let list = connect()?.nodes()?;
            if args.json {
                print_json(&list)?;
            } else {
                print(&table(&list, args.long).render())?;
            }
        }
    }
    Ok(Exit::Ok.into())
}

fn style(state: &str) -> Style {
    match state {
        "idle" => AnsiColor::Green.on_default(),
        "mixed" | "full" => AnsiColor::Cyan.on_default(),
        "held" => AnsiColor::Yellow.on_default(),
        _ => AnsiColor::Red.on_default(),
    }
}

fn table(list: &NodeList, long: bool) -> Table {
    let mut columns = vec![
        ("NODE", Side::Left),
        ("STATE", Side::Left),
        ("CORES", Side::Right),
        ("FREE", Side::Right),
        ("MEMORY", Side::Right),
        ("FREE", Side::Right),
        ("POOLS", Side::Left),
    ];
    if long {
        columns.extend([
            ("REAL", Side::Right),
            ("ADDRESS", Side::Left),
            ("AGENT", Side::Left),
            ("CONTAINMENT", Side::Left),
        ]);
    }
    columns.push(("TASKS", Side::Left));
    columns.push(("REASON", Side::Left));
    let mut table = Table::new(columns);
    for node in &list.nodes {
        table.push(row(node, long));
    }
    table
}

fn row(node: &NodeView, long: bool) -> Vec<Cell> {
    let mut row = vec![
        Cell::new(&node.name),
        Cell::styled(&node.state, style(&node.state)),
        Cell::new(node.cores.to_string()),
        Cell::new(node.cores_free.to_string()),
        Cell::new(format_size(node.memory_bytes)),
        Cell::new(format_size(node.memory_free_bytes)),
        Cell::new(node.pools.join(",")),
    ];
    if long {
        row.push(Cell::new(node.cores_real.to_string()));
        row.extend([&node.address, &node.agent_version, &node.containment].map(Cell::new));
    }
    row.push(Cell::new(tasks(&node.tasks, long)));
    row.push(Cell::new(reason(node, long, now_us())));
    row
}

/// Why it takes no work, or for whom it is kept at present or, in the long list, later.
fn reason(node: &NodeView, long: bool, now_us: u64) -> String {
    let kept = node.kept_for.iter().filter(|kept| long || kept.start_us <= now_us).map(|kept| {
        let what = if kept.maintenance { "maintenance" } else { "reservation" };
        match kept.start_us <= now_us {
            true => format!("kept for {what} {} until {}", kept.reservation, instant(kept.end_us)),
            false => format!("kept for {what} {} from {} on", kept.reservation, instant(kept.start_us)),
        }
    });
    let why = Some(node.reason.clone()).filter(|reason| !reason.is_empty());
    why.into_iter().chain(kept).collect::<Vec<_>>().join("; ")
}

/// The tasks of a node; in the short list no more than fit beside the rest.
fn tasks(tasks: &[String], long: bool) -> String {
    const SHORT_MAX: usize = 4;
    if long || tasks.len() <= SHORT_MAX {
        return tasks.join(",");
    }
    format!("{},+{}", tasks[..SHORT_MAX - 1].join(","), tasks.len() - (SHORT_MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tasks_of_a_node_are_counted() {
        let names: Vec<String> = (1..=6).map(|n| n.to_string()).collect();
        assert_eq!(tasks(&names[..4], false), "1,2,3,4");
        assert_eq!(tasks(&names, false), "1,2,3,+3");
        assert_eq!(tasks(&names, true), "1,2,3,4,5,6");
    }
}
