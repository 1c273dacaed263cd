//! `muster nodes`.

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use muster_client::api::{NodeList, NodeView, NodesRequest};
use muster_core::notation::{format_hosts, format_size, parse_hosts, parse_time_s};
use nix::unistd::{Uid, User};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::submit::Origin;
use crate::table::{Cell, Side, Table};
use crate::text::{instant, instant_or_dash, now_us};

/// Arguments of `muster nodes`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  muster nodes\n  muster nodes -l                  with addresses and versions\n  \
    muster nodes --reasons           which are drained or down, and why\n  \
    muster nodes drain n[01-02] --reason \"new disks\" --for 2h\n                                   running work goes on, new work stays away\n  \
    muster nodes down n03 --reason \"it smokes\"\n                                   running work ends as well\n  \
    muster nodes resume n[01-03]"
)]
pub struct NodesArgs {
    /// What to do; list them without.
    #[command(subcommand)]
    action: Option<NodesAction>,
    /// More columns
    #[arg(short, long)]
    long: bool,
    /// Only those that take no work: why, since when, and who said so
    #[arg(short = 'R', long, conflicts_with = "long")]
    reasons: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum NodesAction {
    /// Keep new work away from nodes; what runs there goes on (admins only)
    #[command(alias = "hold")]
    Drain(NodesOff),
    /// Keep new work away from nodes and end what runs there, as if they had failed (admins only)
    Down(NodesOff),
    /// Give nodes new work again (admins only)
    #[command(alias = "release")]
    Resume {
        /// Nodes, such as n01 or n[01-04]
        nodes: String,
    },
}

#[derive(Debug, clap::Args)]
struct NodesOff {
    /// Nodes, such as n01 or n[01-04]
    nodes: String,
    /// Why, for those who ask
    #[arg(long)]
    reason: String,
    /// For how long: 30 (minutes), 2h, 3d, 1:30:00; until they are resumed without
    #[arg(long = "for", value_name = "TIME")]
    for_: Option<String>,
}

impl NodesOff {
    fn request(&self) -> Result<NodesRequest, CliError> {
        parse_hosts(&self.nodes).map_err(CliError::Hosts)?;
        let for_s = self.for_.as_deref().map(duration_s).transpose()?;
        Ok(NodesRequest { nodes: self.nodes.clone(), reason: self.reason.clone(), for_s })
    }
}

/// `2h`, or a time as for `--time`.
fn duration_s(text: &str) -> Result<u64, CliError> {
    const UNITS_S: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let in_unit = UNITS_S.iter().find_map(|(unit, seconds)| {
        let number = text.strip_suffix(*unit)?;
        let is_plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        number.parse::<u64>().ok().filter(|_| is_plain)?.checked_mul(*seconds)
    });
    let origin = || Origin::CommandLine { option: "--for".to_owned() };
    let right = "write 90s, 30m, 2h or 3d, or a time as for --time";
    let wrong = || CliError::Value { origin: origin(), value: text.to_owned(), right };
    in_unit.or_else(|| parse_time_s(text).ok()).ok_or_else(wrong)
}

pub(crate) fn run(args: &NodesArgs) -> Result<ExitCode, CliError> {
    match &args.action {
        Some(NodesAction::Drain(off)) => {
            let request = off.request()?;
            connect()?.drain_nodes(&request)?;
        }
        Some(NodesAction::Down(off)) => {
            let request = off.request()?;
            connect()?.down_nodes(&request)?;
        }
        Some(NodesAction::Resume { nodes }) => {
            parse_hosts(nodes).map_err(CliError::Hosts)?;
            connect()?.resume_nodes(nodes)?;
        }
        None => {
            let mut list = connect()?.nodes()?;
            if args.reasons {
                list.nodes.retain(|node| !node.reason.is_empty());
            }
            match (args.json, args.reasons) {
                (true, _) => print_json(&list)?,
                (false, true) => print(&reasons(&list).render())?,
                (false, false) => print(&table(&list, args.long).render())?,
            }
        }
    }
    Ok(Exit::Ok.into())
}

/// Nodes that take no work, those with the same reason together.
fn reasons(list: &NodeList) -> Table {
    let mut groups: Vec<(&NodeView, Vec<&str>)> = Vec::new();
    let key = |node: &NodeView| {
        (node.state.clone(), node.reason.clone(), node.by_uid, node.since_us, node.until_us)
    };
    for node in &list.nodes {
        match groups.iter_mut().find(|(first, _)| key(first) == key(node)) {
            Some((_, names)) => names.push(&node.name),
            None => groups.push((node, vec![&node.name])),
        }
    }
    let columns = ["NODES", "STATE", "BY", "SINCE", "UNTIL", "REASON"].map(|name| (name, Side::Left));
    let mut table = Table::new(columns.to_vec());
    for (node, names) in groups {
        table.push(vec![
            Cell::new(format_hosts(&names)),
            Cell::styled(&node.state, style(&node.state)),
            Cell::new(node.by_uid.map_or_else(|| "-".to_owned(), login_name)),
            Cell::new(instant_or_dash(node.since_us)),
            Cell::new(instant_or_dash(node.until_us)),
            Cell::new(&node.reason),
        ]);
    }
    table
}

/// The login name of a user id here, else its number.
fn login_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn style(state: &str) -> Style {
    match state {
        "idle" => AnsiColor::Green.on_default(),
        "mixed" | "full" => AnsiColor::Cyan.on_default(),
        "off" => Style::new().dimmed(),
        "draining" | "drained" | "cleaning" | "powering-up" | "powering-down" => {
            AnsiColor::Yellow.on_default()
        }
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
    fn a_duration_has_a_unit_or_is_written_as_a_time_limit() {
        for (text, seconds) in
            [("90s", 90), ("2h", 7_200), ("3d", 259_200), ("30", 1_800), ("1:30:00", 5_400)]
        {
            assert_eq!(duration_s(text).unwrap(), seconds, "{text}");
        }
        for text in ["h", "+2h", "soon", "2 h", "99999999999999999999h"] {
            assert!(duration_s(text).unwrap_err().to_string().contains("--for"), "{text}");
        }
    }

    #[test]
    fn many_tasks_of_a_node_are_counted() {
        let names: Vec<String> = (1..=6).map(|n| n.to_string()).collect();
        assert_eq!(tasks(&names[..4], false), "1,2,3,4");
        assert_eq!(tasks(&names, false), "1,2,3,+3");
        assert_eq!(tasks(&names, true), "1,2,3,4,5,6");
    }
}
