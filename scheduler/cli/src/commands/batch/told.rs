//! What the service tells of a task beside its protocol: why it waits, where it is, and its output.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use muster_batch_client::Service;
use muster_batch_client::native::LogRead;
use muster_client::api::Why;
use serde_json::Value;

use super::Common;
use super::listing::at;
use crate::commands::why::{as_sentence, text};
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::tell;
use crate::table::Side::{Left, Right};
use crate::table::{Cell, Table};
use crate::text::tame;

/// For how long a service that is away is asked again.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);
/// Between two questions about a task of which nothing is there yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Says why a task waits, or what it does.
pub(super) fn why(common: &Common, service: &Service, task: &str) -> Result<ExitCode, CliError> {
    common.show(&service.native(&format!("{task}/why"), &[])?, reasons)
}

fn reasons(told: &Value) -> String {
    let cluster: Option<Why> = serde_json::from_value(told["cluster"].clone()).ok();
    let known: Vec<&str> = cluster.iter().flat_map(|why| why.sentences.iter().map(String::as_str)).collect();
    let own = told["sentences"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut all: String = own
        .filter(|sentence| !known.contains(sentence))
        .map(|sentence| as_sentence(&tame(sentence)) + "\n")
        .collect();
    all.extend(cluster.as_ref().map(text));
    if told["forEver"] == true {
        all.push_str("That lasts until somebody changes it.\n");
    }
    all
}

/// Says where a task is, or was last.
pub(super) fn placement(common: &Common, service: &Service, task: &str) -> Result<ExitCode, CliError> {
    common.show(&service.native(&format!("{task}/placement"), &[])?, places)
}

fn places(placement: &Value) -> String {
    let instances = placement["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    if instances.is_empty() {
        return "It has no nodes, and has had none: muster batch task why says what it waits for.\n"
            .to_owned();
    }
    let columns = [("INSTANCE", Right), ("NODE", Left), ("CORES", Left), ("RANKS", Left), ("DEVICES", Left)];
    let mut table = Table::new(columns.to_vec());
    for instance in instances {
        let ranks = instance["ranks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ranks = match (ranks.first(), ranks.last()) {
            (Some(first), Some(last)) if first != last => {
                format!("{}-{}", at(first, "rank"), at(last, "rank"))
            }
            (Some(only), _) => at(only, "rank"),
            _ => String::new(),
        };
        let devices = instance["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
        let devices: Vec<&str> = devices.iter().filter_map(Value::as_str).collect();
        let cells = [
            at(instance, "instance"),
            at(instance, "nodeId"),
            at(instance, "cores"),
            ranks,
            devices.join(","),
        ];
        table.push(cells.map(Cell::new).into());
    }
    table.render()
}

/// Prints a task's output; with `follows` until the task has completed.
pub(super) fn logs(
    mut service: Service,
    task: &str,
    stream: &str,
    follows: bool,
) -> Result<ExitCode, CliError> {
    let mut out = io::stdout().lock();
    let mut read = LogRead::default();
    if !follows {
        service.read_log(task, stream, false, &read, &mut out)?;
        return Ok(Exit::Ok.into());
    }
    service.set_patience(PATIENCE);
    loop {
        // Asked before the output is read, so that nothing is written after what is printed last.
        let has_completed = at(&service.get(task)?, "state") == "completed";
        let now = service.read_log(task, stream, !has_completed, &read, &mut out)?;
        if let (Some(before), Some(attempt)) = (&read.attempt, &now.attempt)
            && before != attempt
        {
            tell("muster batch: the task was tried again; its output begins anew here");
        }
        let is_new = now != read;
        read = now;
        if has_completed && !is_new {
            return Ok(Exit::Ok.into());
        }
        if read.attempt.is_none() {
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons_are_sentences_of_which_each_is_said_once() {
        let told = json!({ "sentences": ["it waits for task a, which has completed"], "forEver": true });
        assert_eq!(
            reasons(&told),
            "It waits for task a, which has completed.\nThat lasts until somebody changes it.\n"
        );
        let cluster = json!({ "schema": 1, "job": 4, "state": "waiting", "code": "priority", "sentences": ["kept for job 3"] });
        let told = json!({ "sentences": ["it is job 4 of the cluster", "kept for job 3"], "forEver": false, "cluster": cluster });
        assert_eq!(reasons(&told), "It is job 4 of the cluster.\nKept for job 3.\n");
    }

    #[test]
    fn places_are_a_line_for_each_instance() {
        let ranks = json!([{ "rank": 0, "cores": "0" }, { "rank": 1, "cores": "1" }]);
        let placement = json!({ "instances": [{ "instance": 0, "nodeId": "n01", "cores": "0-1", "ranks": ranks, "devices": [] }] });
        assert!(places(&placement).contains("n01   0-1    0-1"), "{}", places(&placement));
        assert!(places(&json!({ "instances": [] })).contains("has had none"));
    }
}
