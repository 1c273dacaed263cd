//! `muster node down`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_client::Client;
use muster_client::api::{BootstrapAction, BootstrapAnswer, NodeView, NodesRequest};
use muster_core::notation::{format_hosts, parse_hosts};

use super::options::Surroundings;
use super::{DOWN_REASON, DownArgs, NodeFault, program, report, up};
use crate::commands::connect;
use crate::error::CliError;

/// How long tasks that are ended may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether they are: there is no route to wait at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(args: &DownArgs) -> Result<ExitCode, CliError> {
    let nodes = parse_hosts(&args.nodes).map_err(CliError::Hosts)?;
    let mut client = connect()?;
    let mut plan = up::plan(&mut client, &nodes)?;
    if plan.by_controller {
        return Err(NodeFault::ByController {
            conflict: "start the agents again at once",
            right: "take nodes out by muster nodes drain or muster nodes down",
        }
        .into());
    }
    args.ssh.apply(&mut plan, &Surroundings::look())?;
    take_out(&mut client, &nodes, args.force)?;
    let busy = busy(&mut client, &nodes, args.force)?;
    plan.requests.retain(|request| !busy.iter().any(|answer| answer.node == request.node));
    plan.requests.iter_mut().for_each(|request| request.action = BootstrapAction::Down);
    let mut answers = busy;
    if !plan.requests.is_empty() {
        answers.extend(program::carry_out(&plan)?);
    }
    let place = |answer: &BootstrapAnswer| nodes.iter().position(|node| *node == answer.node);
    answers.sort_by_key(place);
    report::print(BootstrapAction::Down, &answers, args.json)
}

/// Keeps new work away, and with force ends what runs. Nodes that somebody else has taken out stay as they are.
fn take_out(client: &mut Client, nodes: &[String], force: bool) -> Result<(), CliError> {
    let all = client.nodes()?.nodes;
    let is_meant = |node: &&NodeView| nodes.contains(&node.name);
    let meant: Vec<&str> = all
        .iter()
        .filter(is_meant)
        .filter(|node| !node.drained || force && !node.tasks.is_empty())
        .map(|node| node.name.as_str())
        .collect();
    if meant.is_empty() {
        return Ok(());
    }
    let request = NodesRequest { nodes: format_hosts(&meant), reason: DOWN_REASON.to_owned(), for_s: None };
    match force {
        true => client.down_nodes(&request)?,
        false => client.drain_nodes(&request)?,
    }
    Ok(())
}

/// The nodes on which something runs, with force after the time that it may take to end.
fn busy(client: &mut Client, nodes: &[String], force: bool) -> Result<Vec<BootstrapAnswer>, CliError> {
    let end = Instant::now() + if force { GONE_WITHIN } else { Duration::ZERO };
    loop {
        let all = client.nodes()?.nodes;
        let busy: Vec<&NodeView> =
            all.iter().filter(|node| nodes.contains(&node.name) && !node.tasks.is_empty()).collect();
        if busy.is_empty() || Instant::now() >= end {
            return Ok(busy.into_iter().map(|node| refused(node, force)).collect());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn refused(node: &NodeView, force: bool) -> BootstrapAnswer {
    let tasks = node.tasks.join(", ");
    let cause = match force {
        true => format!("{tasks} was ended but is not gone yet: say it again"),
        false => format!(
            "{tasks} still runs there: say it again when it has ended, or --force; new work stays away"
        ),
    };
    program::failure(&node.name, "drain", cause)
}
