//! `muster batch events`.

use std::process::ExitCode;

use muster_batch_client::native::Came;
use serde_json::{Value, json};

use super::listing::{at, when};
use super::{Common, job, told};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json, tell};
use crate::text::tame;

/// Arguments of `muster batch events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  muster batch events                       what happened of late in the account\n  \
    muster batch events --job film --follow   what happens in a job, as it comes\n  \
    muster batch events --follow --json       an object a line, for programs\n  \
    muster batch events --after 120.0         only what came after that event\n\n\
    The service keeps the last events, since its start, in a window: 16,384 of them at most. Whoever comes later than that is\n\
    told that some are missing."
)]
pub(crate) struct EventsArgs {
    /// Only those of this job and its tasks
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    /// Go on with those that come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only those after the event with this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

pub(super) fn run(args: &EventsArgs, common: &Common) -> Result<ExitCode, CliError> {
    let mut service = common.connect()?;
    let of = args.job.as_ref().map_or_else(|| "/events".to_owned(), |id| format!("{}/events", job::path(id)));
    let mut after = args.after.clone().unwrap_or_else(|| "0".to_owned());
    let mut all: Vec<Value> = Vec::new();
    loop {
        let mut page = service.native(&of, &[("after", &after)])?;
        if let Some(up_to) = page["lostUpTo"].as_str() {
            tell_lost(up_to);
        }
        let events = page["value"].as_array_mut().map(std::mem::take).unwrap_or_default();
        after = at(&page, "next");
        match (args.follow, common.json) {
            (false, true) => all.extend(events),
            (_, json) => events.iter().try_for_each(|event| show(event, json))?,
        }
        if page["more"] != true {
            break;
        }
    }
    if args.follow {
        service.set_patience(told::PATIENCE);
        service.follow_events(&of, &after, |came| match came {
            Came::Event(event) => show(&event, common.json),
            Came::Lost { up_to } => {
                tell_lost(&up_to);
                Ok(())
            }
        })?;
    } else if common.json {
        print_json(&json!({ "events": all, "next": after }))?;
    }
    Ok(Exit::Ok.into())
}

fn tell_lost(up_to: &str) {
    tell(&format!("muster batch: events are missing here: those up to {} are no longer kept", tame(up_to)));
}

/// Prints an event on a line.
fn show(event: &Value, json: bool) -> Result<(), CliError> {
    print(&if json { format!("{event}\n") } else { line(event) })
}

/// Such as `2026-01-02T03:04:05  TaskStart  film/7 on n01`.
fn line(event: &Value) -> String {
    let name = at(event, "operationName");
    let name = name.strip_suffix("Event").unwrap_or(&name);
    let about = &event["properties"];
    let (job, id) = (at(about, "jobId"), at(about, "id"));
    let mut what = match (job.is_empty(), id.is_empty()) {
        (false, false) => format!("{job}/{id}"),
        (false, true) => job,
        (true, false) => id,
        (true, true) => at(about, "nodeInfo/poolId"),
    };
    let node = at(about, "nodeInfo/nodeId");
    if !node.is_empty() {
        what.push_str(&format!(" on {node}"));
    }
    for (path, says) in [
        ("executionInfo/exitCode", "exit code"),
        ("targetDedicatedNodes", "target"),
        ("currentDedicatedNodes", "has"),
        ("results", "results"),
        ("executionInfo/failureInfo/code", "failure"),
        ("schedulingError/message", "because"),
        ("resultMessage", "result"),
        ("cause", "cause"),
    ] {
        let value = at(about, path);
        if !value.is_empty() {
            what.push_str(&format!(", {says} {value}"));
        }
    }
    format!("{}  {:<22}  {}\n", when(event, "time"), tame(name), tame(&what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "operationName": "TaskFailEvent", "time": "not a time",
            "properties": {
                "jobId": "film", "id": "7", "nodeInfo": { "nodeId": "n01" },
                "executionInfo": { "exitCode": 3, "failureInfo": { "code": "FailureExitCode" } },
            },
        });
        assert_eq!(
            line(&event),
            "not a time  TaskFail                film/7 on n01, exit code 3, failure FailureExitCode\n"
        );
    }
}
