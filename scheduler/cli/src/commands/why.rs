//! `muster why`.

use std::process::ExitCode;

use muster_client::api::{HolderView, HoldersView, NodesAwayView, Why};

use super::connect;
use crate::cli::WhyArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::text::{instant, tame};

pub(crate) fn run(args: &WhyArgs) -> Result<ExitCode, CliError> {
    let job = args.job.parse()?;
    let why = connect()?.why(job)?;
    if args.json {
        print_json(&why)?;
        return Ok(Exit::Ok.into());
    }
    print(&text(&why))?;
    Ok(Exit::Ok.into())
}

/// A line for each thing that is to be said.
pub(crate) fn text(why: &Why) -> String {
    let mut text: String = why.sentences.iter().map(|sentence| as_sentence(&tame(sentence)) + "\n").collect();
    if let Some(kept_for) = &why.kept_for
        && let Some(at) = kept_for.expected_start_us
    {
        text.push_str(&format!("Job {} is expected to start by {}.\n", kept_for.job, instant(at)));
    }
    text.extend(why.holders.as_ref().map(holders));
    text.extend(why.nodes_away.as_ref().map(nodes_away));
    if let Some(at) = why.expected_start_us {
        text.push_str(&format!("It is expected to start by {}.\n", instant(at)));
    }
    text
}

/// Who holds what it lacks: a line for each job that is named, or a single one.
fn holders(held: &HoldersView) -> String {
    let total = held.jobs.len() as u64 + held.others;
    let begin = match (held.counted_on, total) {
        (true, 1) => "Its start counts on the end of".to_owned(),
        (true, _) => format!("Its start counts on the ends of {total} jobs"),
        (false, 1) => "What it lacks is held by".to_owned(),
        (false, _) => format!("What it lacks is held by {total} jobs"),
    };
    if let ([holder], 0) = (held.jobs.as_slice(), held.others) {
        return format!("{begin} job {}.\n", holder_text(holder));
    }
    let order = match (held.counted_on, held.others) {
        (_, 0) => "",
        (true, _) => "; the last of them are",
        (false, _) => "; the most by",
    };
    let lines: String = held.jobs.iter().map(|holder| format!("  {}\n", holder_text(holder))).collect();
    let rest = match (held.others, held.until_us) {
        (0, _) => String::new(),
        (others, Some(until)) => format!("  and {others} more, all of them ended by {}\n", instant(until)),
        (others, None) => format!("  and {others} more, not all of them with a time limit\n"),
    };
    format!("{begin}{order}:\n{lines}{rest}")
}

/// Such as `12 of ann: 16 cores on 2 nodes, until 2026-01-02T03:04:05`.
fn holder_text(holder: &HolderView) -> String {
    let several =
        |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let tasks = match holder.tasks {
        0 | 1 => String::new(),
        tasks => format!(" ({tasks} tasks)"),
    };
    let cores = several(holder.cores, "core", "cores");
    let nodes = several(holder.nodes.into(), "node", "nodes");
    let until = match holder.until_us {
        Some(until) => format!("until {}", instant(until)),
        None => "without a time limit".to_owned(),
    };
    format!("{}{tasks} of {}: {cores} on {nodes}, {until}", tame(&holder.task), tame(&holder.user))
}

fn nodes_away(away: &NodesAwayView) -> String {
    let node =
        |node: &muster_client::api::NodeAwayView| format!("  {}: {}\n", tame(&node.node), tame(&node.reason));
    let mut text: String = away.nodes.iter().map(node).collect();
    if away.others > 0 {
        text.push_str(&format!("  and {} more\n", away.others));
    }
    if text.is_empty() { text } else { format!("Nodes that take no work:\n{text}") }
}

/// Reasons come without a capital and a full stop, because they stand in brackets elsewhere.
pub(crate) fn as_sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?', ':']) || text.is_empty() { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_sentences() {
        assert_eq!(as_sentence("it waits for 2 nodes"), "It waits for 2 nodes.");
        assert_eq!(as_sentence("It runs."), "It runs.");
        assert_eq!(as_sentence(""), "");
    }

    fn holder(task: &str, tasks: u32, nodes: u32, cores: u64) -> HolderView {
        let until_us = Some(1_767_323_045_000_000);
        HolderView { task: task.to_owned(), user: "ann".to_owned(), tasks, nodes, cores, until_us }
    }

    fn held(counted_on: bool, jobs: Vec<HolderView>, others: u64) -> String {
        let until_us = jobs[0].until_us;
        // The instant depends on the time zone of whoever runs the test.
        holders(&HoldersView { counted_on, jobs, others, until_us })
            .replace(&instant(1_767_323_045_000_000), "THEN")
    }

    #[test]
    fn one_holder_is_a_sentence_and_hundreds_are_a_short_list() {
        assert_eq!(
            held(true, vec![holder("12", 1, 1, 1)], 0),
            "Its start counts on the end of job 12 of ann: 1 core on 1 node, until THEN.\n"
        );
        assert_eq!(
            held(false, vec![holder("12_3", 1, 1, 2), holder("9", 87, 4, 87)], 498),
            "What it lacks is held by 500 jobs; the most by:\n  12_3 of ann: 2 cores on 1 node, until THEN\n  \
             9 (87 tasks) of ann: 87 cores on 4 nodes, until THEN\n  and 498 more, all of them ended by THEN\n"
        );
        let endless = HolderView { until_us: None, ..holder("7", 1, 1, 2) };
        assert_eq!(
            held(true, vec![endless, holder("8", 1, 1, 2)], 1),
            "Its start counts on the ends of 3 jobs; the last of them are:\n  7 of ann: 2 cores on 1 node, without a \
             time limit\n  8 of ann: 2 cores on 1 node, until THEN\n  and 1 more, not all of them with a time limit\n"
        );
    }
}
