//! What the protocol lacks: the paths below `/muster/v1`.

use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Farm;
use super::farm::unchunked;

/// What has come on a stream of events once it holds a text.
fn read_until(stream: &mut std::net::TcpStream, text: &str) -> String {
    let (mut all, mut part) = (String::new(), [0; 4096]);
    while !all.contains(text) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "{text} must come: {all}");
        all.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    all
}

fn code_of(farm: &Farm, task: &str) -> (String, Value) {
    let why = farm.get(&format!("/muster/v1/jobs/j/tasks/{task}/why")).json;
    (why["code"].as_str().unwrap().to_owned(), why)
}

#[test]
fn why_a_task_waits_is_told_in_sentences() {
    let farm = Farm::of(1);
    farm.job("j", "none", json!({ "usesTaskDependencies": true, "maxParallelTasks": 1 }));
    farm.task("j", "a", "exit 3", json!({}));
    assert_eq!(code_of(&farm, "a").0, "noPool");
    farm.task("j", "b", "true", json!({ "dependsOn": { "taskIds": ["a", "gone"] } }));
    let (code, why) = code_of(&farm, "b");
    assert_eq!((code.as_str(), &why["forEver"]), ("dependency", &json!(false)));
    let sentence = why["sentences"][0].as_str().unwrap();
    assert!(
        sentence.contains("task a, which is active; task gone, which its job does not have"),
        "{sentence}"
    );
    farm.pool("none", 1, json!({ "taskSlotsPerNode": 2 }));
    farm.task_is("j", "a", "completed");
    let (code, why) = code_of(&farm, "b");
    assert_eq!((code.as_str(), &why["forEver"]), ("dependencyNever", &json!(true)), "{why}");
    farm.task("j", "large", "true", json!({ "requiredSlots": 3 }));
    let (code, why) = code_of(&farm, "large");
    assert_eq!(code, "neverFits");
    assert!(why["sentences"][0].as_str().unwrap().contains("it takes 3 slots of a node"), "{why}");
    farm.task("j", "first", "stay", json!({}));
    farm.task_is("j", "first", "running");
    assert_eq!(code_of(&farm, "first").0, "placed");
    farm.task("j", "second", "true", json!({}));
    assert_eq!(code_of(&farm, "second").0, "maxParallelTasks");
    let (code, why) = code_of(&farm, "a");
    assert!(
        code == "completed" && why["sentences"][1].as_str().unwrap().contains("FailureExitCode"),
        "{why}"
    );
    // Beside the job, the cluster has its reasons as well.
    farm.job("k", "none", json!({}));
    farm.task("k", "x", "stay", json!({ "requiredSlots": 2 }));
    farm.until("it waits in the queue", |farm| {
        farm.get("/muster/v1/jobs/k/tasks/x/why").json["code"] == "queued"
    });
    let why = farm.get("/muster/v1/jobs/k/tasks/x/why").json;
    assert_eq!(why["cluster"]["code"], "resources", "{why}");
    assert!(why["sentences"].as_array().unwrap().len() > 1 && why["clusterJob"].is_u64(), "{why}");
    assert_eq!(farm.get("/muster/v1/jobs/k/tasks/none/why").refused(), (404, "TaskNotFound"));
}

#[test]
fn where_a_task_is_placed_is_told_while_it_runs_and_after() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({ "taskSlotsPerNode": 2 }));
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "stay", json!({}));
    farm.task_is("j", "a", "running");
    let placed = farm.get("/muster/v1/jobs/j/tasks/a/placement").json;
    let instance = &placed["instances"][0];
    assert_eq!(
        (&instance["nodeId"], &instance["cores"], &placed["attempt"]),
        (&json!("n01"), &json!("0-1"), &json!(1))
    );
    assert_eq!(instance["ranks"], json!([{ "rank": 0, "cores": "0" }, { "rank": 1, "cores": "1" }]));
    farm.end_those_that_stay(0);
    farm.task_is("j", "a", "completed");
    let after = farm.get("/muster/v1/jobs/j/tasks/a/placement").json;
    assert_eq!((&after["instances"], &after["state"]), (&placed["instances"], &json!("completed")));
}

#[test]
fn output_is_followed_to_the_end_of_its_attempt() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.world.files.lock().unwrap().insert("stdout.txt".to_owned(), b"one\n".to_vec());
    farm.task("j", "a", "stay", json!({}));
    farm.task_is("j", "a", "running");
    let mut stream = farm.events("/muster/v1/jobs/j/tasks/a/logs?follow=true", None);
    let mut text = read_until(&mut stream, "one");
    farm.world.files.lock().unwrap().insert("stdout.txt".to_owned(), b"one\ntwo\n".to_vec());
    text.push_str(&read_until(&mut stream, "two"));
    farm.end_those_that_stay(0);
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert_eq!(unchunked(body), "one\ntwo\n");
    let attempt = head.lines().find_map(|line| line.strip_prefix("muster-attempt: ")).unwrap().to_owned();
    // Who knows of a part of it reads on from there; what was read of another attempt counts for nothing.
    let rest =
        |attempt: &str| farm.get(&format!("/muster/v1/jobs/j/tasks/a/logs?from=4&attempt={attempt}")).text;
    assert_eq!((rest(&attempt).as_str(), rest("9.9").as_str()), ("two\n", "one\ntwo\n"));
    assert_eq!(farm.get("/muster/v1/jobs/j/tasks/a/logs?stream=stderr").refused(), (404, "FileNotFound"));
    assert_eq!(
        farm.get("/muster/v1/jobs/j/tasks/a/logs?stream=x").refused(),
        (400, "InvalidQueryParameterValue")
    );
    let other = farm.ask_as_other("GET", "/muster/v1/jobs/j/tasks/a/logs", None);
    assert_eq!(other.refused(), (403, "InsufficientAccountPermissions"));
}

#[test]
fn events_come_as_a_stream_that_goes_on_where_it_ended() {
    let mut farm = Farm::of(1);
    let mut stream = farm.events("/muster/v1/events", None);
    let begun = read_until(&mut stream, "events of the batch service");
    assert!(begun.contains("content-type: text/event-stream"), "{begun}");
    farm.pool("p", 1, json!({}));
    let text = read_until(&mut stream, "PoolResizeCompleteEvent");
    assert!(text.contains("event: PoolCreateEvent\ndata: {"), "{text}");
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "exit 3", json!({ "constraints": { "maxTaskRetryCount": 1 } }));
    read_until(&mut stream, "TaskFailEvent");
    drop(stream);
    let page = farm.get("/muster/v1/jobs/j/events").json;
    let names: Vec<&str> = page["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["operationName"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["TaskStartEvent", "TaskRetryEvent", "TaskStartEvent", "TaskCompleteEvent", "TaskFailEvent"]
    );
    let failed = &page["value"][4]["properties"];
    assert_eq!(
        (&failed["jobId"], &failed["executionInfo"]["exitCode"], &failed["executionInfo"]["retryCount"]),
        (&json!("j"), &json!(3), &json!(1))
    );
    assert_eq!(failed["nodeInfo"], json!({ "poolId": "p", "nodeId": "n01" }));
    let third = page["value"][2]["id"].as_str().unwrap();
    let mut again = farm.events("/muster/v1/jobs/j/events", Some(third));
    let text = read_until(&mut again, "TaskFailEvent");
    assert!(!text.contains("TaskStartEvent") && text.contains("TaskCompleteEvent"), "{text}");
    let first = farm.get("/muster/v1/events?after=0&maxresults=1").json;
    assert!(
        first["lostUpTo"].is_null() && first["more"] == true && first["value"].as_array().unwrap().len() == 1,
        "{first}"
    );
    assert_eq!(farm.get("/muster/v1/events?after=x").refused(), (400, "InvalidQueryParameterValue"));
    assert_eq!(farm.get("/muster/v1/jobs/none/events").refused(), (404, "JobNotFound"));
    // A stream ends with the controller. What came before the next one is kept no more, and who asks for it is told so.
    let third = third.to_owned();
    farm.restart();
    again.read_to_string(&mut String::new()).unwrap();
    let mut late = farm.events("/muster/v1/events", Some(&third));
    let text = read_until(&mut late, "event: lost");
    assert!(text.contains(&format!("data: {{\"after\":\"{third}\"")), "{text}");
    let page = farm.get(&format!("/muster/v1/events?after={third}")).json;
    assert!(page["lostUpTo"].is_string() && page["more"] == false, "{page}");
}

#[test]
fn no_more_clients_follow_than_may_and_those_that_leave_make_room() {
    let farm = Farm::without_nodes();
    let mut all: Vec<std::net::TcpStream> =
        (0..256).map(|_| farm.events("/muster/v1/events", None)).collect();
    for stream in &mut all {
        read_until(stream, "events of the batch service");
    }
    let stream = [("accept", "text/event-stream")];
    let one_more = farm.ask("GET", "/muster/v1/events", None, &stream);
    assert_eq!((one_more.refused(), one_more.headers["retry-after"].as_str()), ((503, "ServerBusy"), "1"));
    assert_eq!(farm.get("/muster/v1/events").status, 200, "a page takes no place");
    all.pop();
    farm.until("a place", |farm| {
        let mut again = farm.events("/muster/v1/events", None);
        let mut begun = [0; 12];
        again.read_exact(&mut begun).unwrap();
        &begun[9..] == b"200"
    });
}

#[test]
fn a_validator_of_the_specification_finds_nothing_wrong_with_the_document() {
    let found = Command::new(repository().join(".ci/batch-clients.sh")).arg("--where").output().unwrap();
    if !found.status.success() {
        let skip = std::env::var_os("MUSTER_TEST_SKIP_CLUSTER").is_some_and(|value| value == "1");
        assert!(
            skip,
            "run .ci/batch-clients.sh as root, or set MUSTER_TEST_SKIP_CLUSTER=1 to leave this test out"
        );
        return;
    }
    let place = String::from_utf8(found.stdout).unwrap();
    let farm = Farm::without_nodes();
    let got = farm.get("/muster/v1/openapi.json");
    assert_eq!((got.status, got.json["openapi"].as_str()), (200, Some("3.1.0")));
    let file = farm.controller.folder.path().join("openapi.json");
    std::fs::write(&file, &got.text).unwrap();
    let mut validator = Command::new(Path::new(place.trim()).join("openapi/bin/python"));
    let ran = validator
        .args(["-B", "-m", "openapi_spec_validator", "--errors", "all"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    // It does find what is wrong.
    let wrong =
        got.text.replacen("\"operationId\"", "\"operation\"", 1).replacen("\"responses\"", "\"answers\"", 1);
    std::fs::write(&file, wrong).unwrap();
    let ran = Command::new(Path::new(place.trim()).join("openapi/bin/python"))
        .args(["-B", "-m", "openapi_spec_validator"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!ran.status.success());
}

fn repository() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
