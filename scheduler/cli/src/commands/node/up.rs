//! `muster node up`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use muster_client::Client;
use muster_client::api::{BootstrapAction, BootstrapAnswer, BootstrapPlan, NodeView};
use muster_core::notation::{format_hosts, parse_hosts};

use super::options::{Surroundings, absolute};
use super::{DOWN_REASON, NodeFault, UpArgs, program, report};
use crate::commands::connect;
use crate::error::CliError;

/// For how many nodes the controller is asked at once: it makes certificates of new ones.
const ASKED_AT_ONCE: usize = 256;
/// How often it is looked whether agents have reached the controller: there is no route to wait at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn run(args: &UpArgs) -> Result<ExitCode, CliError> {
    let nodes = parse_hosts(&args.nodes).map_err(CliError::Hosts)?;
    let mut client = connect()?;
    let mut plan = plan(&mut client, &nodes)?;
    args.ssh.apply(&mut plan, &Surroundings::look())?;
    if let Some(folder) = &args.programs {
        let folder = absolute(folder)?;
        if plan.by_controller && plan.requests.iter().any(|request| request.binaries_dir != folder) {
            return Err(NodeFault::ByController {
                conflict: "put its own programs back as soon as an agent is away",
                right: "put the programs into its binaries_dir",
            }
            .into());
        }
        plan.requests.iter_mut().for_each(|request| request.binaries_dir.clone_from(&folder));
    }
    let action = if args.check { BootstrapAction::Check } else { BootstrapAction::Up };
    plan.requests.iter_mut().for_each(|request| request.action = action);
    let mut answers = program::carry_out(&plan)?;
    if !args.check {
        await_sessions(&mut client, &mut answers, &plan, Duration::from_secs(args.wait))?;
        resume(&mut client, &answers)?;
    }
    report::print(action, &answers, args.json)
}

/// What all of these nodes need.
pub(super) fn plan(client: &mut Client, nodes: &[String]) -> Result<BootstrapPlan, CliError> {
    let (first, others) = nodes.split_at(nodes.len().min(ASKED_AT_ONCE));
    let mut plan = client.bootstrap_plan(&format_hosts(first))?;
    for some in others.chunks(ASKED_AT_ONCE) {
        plan.requests.extend(client.bootstrap_plan(&format_hosts(some))?.requests);
    }
    Ok(plan)
}

/// Waits until every agent that runs has reached the controller; those that have not in time have failed.
fn await_sessions(
    client: &mut Client,
    answers: &mut [BootstrapAnswer],
    plan: &BootstrapPlan,
    within: Duration,
) -> Result<(), CliError> {
    let end = Instant::now() + within;
    loop {
        let nodes = client.nodes()?.nodes;
        let away = |answer: &&mut BootstrapAnswer| {
            let is_it = |node: &&NodeView| node.name == answer.node;
            answer.ok && !nodes.iter().find(is_it).is_some_and(|node| node.connected)
        };
        let mut away = answers.iter_mut().filter(away).peekable();
        if away.peek().is_none() {
            return Ok(());
        }
        if Instant::now() >= end {
            let request = plan.requests.first();
            let controller = request.map(|request| request.controller.join(", ")).unwrap_or_default();
            let folder = request.map(|request| request.remote_dir.display().to_string()).unwrap_or_default();
            away.for_each(|answer| {
                let cause = format!(
                    "the agent runs, but has not reached the controller at {controller} within {} s: see {folder}/agent.log \
                     there, and whether that address can be reached",
                    within.as_secs()
                );
                *answer = program::failure(&answer.node, "reach the controller", cause);
            });
            return Ok(());
        }
        drop(away);
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Gives work again to those nodes that `muster node down` had drained.
fn resume(client: &mut Client, answers: &[BootstrapAnswer]) -> Result<(), CliError> {
    let up = |name: &str| answers.iter().any(|answer| answer.ok && answer.node == name);
    let nodes = client.nodes()?.nodes;
    let drained: Vec<&str> = nodes
        .iter()
        .filter(|node| node.drained && node.reason_given == DOWN_REASON && up(&node.name))
        .map(|node| node.name.as_str())
        .collect();
    if !drained.is_empty() {
        client.resume_nodes(&format_hosts(&drained))?;
    }
    Ok(())
}
