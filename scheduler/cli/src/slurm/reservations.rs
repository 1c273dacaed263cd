//! Advance reservations as sinfo and scontrol show them.

use muster_client::api::{NodeView, ReservationView};
use muster_core::notation::parse_hosts;
use muster_core::reservation::Repeat;

use super::columns::fit;
use super::time::{Times, long_span};

fn state(reservation: &ReservationView) -> &'static str {
    if reservation.active { "ACTIVE" } else { "INACTIVE" }
}

fn duration(reservation: &ReservationView) -> String {
    long_span(reservation.end_us.saturating_sub(reservation.start_us) / 1_000_000)
}

/// The table of `sinfo --reservation`.
pub(super) fn table(list: &[ReservationView], times: &Times, header: bool) -> String {
    if list.is_empty() {
        return "No reservations in the system\n".to_owned();
    }
    let name_width = list.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).max(9);
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let widths = [(name_width, false), (8, true), (19, true), (19, true), (11, true), (0, false)];
        for (place, (cell, (width, right))) in cells.into_iter().zip(widths).enumerate() {
            let from = text.len();
            text.push_str(cell);
            fit(&mut text, from, width, right);
            text.push_str(if place + 1 < widths.len() { "  " } else { "\n" });
        }
    };
    if header {
        line(["RESV_NAME", "STATE", "START_TIME", "END_TIME", "DURATION", "NODELIST"]);
    }
    for one in list {
        let [start, end] = [one.start_us, one.end_us].map(|at| times.instant(Some(at), "Unknown"));
        line([&one.name, state(one), &start, &end, &duration(one), &one.node_list]);
    }
    text
}

/// A reservation as `scontrol show reservation` writes it: groups of a line each.
pub(super) fn record(one: &ReservationView, nodes: &[NodeView], times: &Times) -> Vec<String> {
    let names = parse_hosts(&one.node_list).unwrap_or_default();
    let cores: u32 = nodes.iter().filter(|node| names.contains(&node.name)).map(|node| node.cores).sum();
    let mut flags = Vec::new();
    if one.maintenance {
        flags.push("MAINT");
    }
    if one.ignore_running {
        flags.push("IGNORE_JOBS");
    }
    flags.extend(one.repeat.map(|repeat| match repeat {
        Repeat::Daily => "DAILY",
        Repeat::Weekly => "WEEKLY",
    }));
    flags.push("SPEC_NODES");
    let list = |names: &[String]| if names.is_empty() { "(null)".to_owned() } else { names.join(",") };
    vec![
        format!(
            "ReservationName={} StartTime={} EndTime={} Duration={}",
            one.name,
            times.instant(Some(one.start_us), "Unknown"),
            times.instant(Some(one.end_us), "Unknown"),
            duration(one)
        ),
        format!(
            "Nodes={} NodeCnt={} CoreCnt={cores} Features=(null) PartitionName=(null) Flags={}",
            one.node_list,
            one.nodes,
            flags.join(",")
        ),
        format!("TRES=cpu={cores}"),
        format!(
            "Users={} Groups=(null) Accounts={} Licenses=(null) State={} BurstBuffer=(null)",
            list(&one.users),
            list(&one.accounts),
            state(one)
        ),
        "MaxStartDelay=(null)".to_owned(),
    ]
}
