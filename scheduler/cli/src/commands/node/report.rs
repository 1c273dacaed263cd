//! What became of all nodes: one sentence, and one table of what failed.

use std::collections::BTreeMap;
use std::process::ExitCode;

use muster_client::api::{BootstrapAction, BootstrapAnswer, BootstrapDone, BootstrapFailure, SCHEMA};
use muster_core::notation::format_hosts;
use serde_json::json;

use crate::error::CliError;
use crate::exit::Exit;
use crate::out;
use crate::table::{Cell, Side, Table};
use crate::text::tame;

/// Prints it and says how the command ends.
pub(super) fn print(
    action: BootstrapAction,
    answers: &[BootstrapAnswer],
    as_json: bool,
) -> Result<ExitCode, CliError> {
    if as_json {
        out::print_json(&json!({ "schema": SCHEMA, "action": action, "nodes": answers }))?;
    } else {
        out::print(&text(action, answers))?;
    }
    let all_done = answers.iter().all(|answer| answer.ok);
    Ok(if all_done { Exit::Ok } else { Exit::SomeFailed }.into())
}

fn text(action: BootstrapAction, answers: &[BootstrapAnswer]) -> String {
    let mut text = sentence(action, answers) + "\n";
    let failed: Vec<(&str, &BootstrapFailure)> =
        answers.iter().filter_map(|answer| Some((answer.node.as_str(), answer.failure.as_ref()?))).collect();
    if failed.is_empty() {
        return text;
    }
    text.push('\n');
    text.push_str(&table(&failed).render());
    let details: Vec<String> = failed
        .iter()
        .filter_map(|(node, failure)| Some(format!("{node} {}", failure.detail.as_ref()?)))
        .collect();
    if !details.is_empty() {
        text.push('\n');
    }
    for line in details {
        text.push_str(&format!("{}\n", tame(&line)));
    }
    text
}

/// Nodes that failed for the same cause together, in the order of the first of them.
fn table(failed: &[(&str, &BootstrapFailure)]) -> Table {
    let mut groups: Vec<(&BootstrapFailure, Vec<&str>)> = Vec::new();
    for (node, failure) in failed {
        let same = |(first, _): &&mut (&BootstrapFailure, Vec<&str>)| {
            (&first.step, &first.cause) == (&failure.step, &failure.cause)
        };
        match groups.iter_mut().find(same) {
            Some((_, nodes)) => nodes.push(node),
            None => groups.push((failure, vec![node])),
        }
    }
    let mut table = Table::new(["NODES", "FAILED TO", "WHY"].map(|name| (name, Side::Left)).to_vec());
    for (failure, nodes) in groups {
        table.push(vec![
            Cell::new(format_hosts(&nodes)),
            Cell::new(&failure.step),
            Cell::new(&failure.cause),
        ]);
    }
    table
}

fn sentence(action: BootstrapAction, answers: &[BootstrapAnswer]) -> String {
    let mut counts: BTreeMap<BootstrapDone, usize> = BTreeMap::new();
    for did in answers.iter().filter_map(|answer| answer.did) {
        *counts.entry(did).or_default() += 1;
    }
    let word = |did| match (action, did) {
        (BootstrapAction::Check, BootstrapDone::Started) => "would be started",
        (BootstrapAction::Check, BootstrapDone::Replaced) => "would be replaced",
        (_, BootstrapDone::Started) => "started",
        (_, BootstrapDone::Replaced) => "replaced",
        (_, BootstrapDone::Unchanged) => "already up",
        (_, BootstrapDone::Stopped) => "stopped",
        (_, BootstrapDone::Absent) => "without an agent already",
    };
    let mut parts: Vec<String> =
        counts.iter().map(|(did, count)| format!("{count} {}", word(*did))).collect();
    let sent = answers.iter().filter(|answer| answer.uploaded == Some(true)).count();
    if sent > 0 {
        let verb = if action == BootstrapAction::Check { "would be sent" } else { "were sent" };
        parts.push(format!("programs {verb} to {sent}"));
    }
    let failed = answers.iter().filter(|answer| !answer.ok).count();
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    let nodes = if answers.len() == 1 { "node" } else { "nodes" };
    format!("{} {nodes}: {}", answers.len(), parts.join(", "))
}
