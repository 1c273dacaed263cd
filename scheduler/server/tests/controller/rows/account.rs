//! The account, and what all of its things have in common.

use serde_json::json;

use super::Farm;

#[test]
fn account() {
    let farm = Farm::without_nodes();
    farm.post("/pools", json!({ "id": "p", "vmSize": "main" }));
    assert_eq!(
        farm.ask_as_other("GET", "/pools", None).ids(),
        ["p"],
        "each key of an account sees all of it"
    );
    let wrong = |account: &str| format!("SharedKey {account}:{}=", "A".repeat(43));
    let none = farm.ask("GET", "/pools", None, &[("authorization", &wrong("lab"))]);
    assert_eq!(none.refused(), (403, "AuthenticationFailed"));
    let stranger = farm.ask("GET", "/pools", None, &[("authorization", &wrong("nobody"))]);
    assert_eq!(stranger.refused(), (403, "AuthenticationFailed"));
    assert_eq!(farm.get("/pools?api-version=2019-08-01.10.0").refused(), (400, "UnsupportedRequestVersion"));
    for version in ["2020-09-01.12.0", "2025-06-01"] {
        assert_eq!(farm.get(&format!("/pools?api-version={version}")).status, 200, "{version}");
    }
    let named = farm.ask("GET", "/pools", None, &[("client-request-id", "mine")]);
    assert_eq!(named.headers["request-id"], "mine");
}

#[test]
fn rate_limit() {
    let farm = Farm::without_nodes_and("requests_per_user_s = 1\nrequests_per_user_burst = 20");
    let refused =
        (0..1000).map(|_| farm.get("/pools")).find(|got| got.status != 200).expect("there is a limit");
    assert_eq!(refused.refused(), (429, "TooManyRequests"));
    let why = refused.json["message"]["value"].as_str().unwrap();
    assert!(why.contains("1 request a second of each user, and 20 at once"), "{why}");
    assert_eq!(refused.headers["retry-after"], "1");
    // A body is read before it is refused, so that the answer is.
    let large = json!({ "id": "p", "vmSize": "main", "displayName": "x".repeat(1 << 20) });
    assert_eq!(farm.try_post("/pools", large).status, 429);
    assert_eq!(
        farm.ask_as_other("GET", "/pools", None).ids(),
        [""; 0],
        "the account's other user may still ask"
    );
}

#[test]
fn ids() {
    let farm = Farm::without_nodes();
    farm.post(
        "/pools",
        json!({ "id": "Mixed-Case_9", "vmSize": "main", "displayName": "Ünïcode".repeat(100) }),
    );
    assert_eq!(farm.get("/pools/MIXED-case_9").json["id"], "Mixed-Case_9", "as it was typed");
    for id in ["", "a b", "a:b", "é", &"x".repeat(65)] {
        let refused = farm.try_post("/pools", json!({ "id": id, "vmSize": "main" }));
        assert_eq!(refused.property(), ("InvalidPropertyValue", "id"), "{id}");
    }
    let like = json!({ "poolInfo": { "poolId": "p" } });
    farm.post("/jobschedules", json!({ "id": "s", "jobSpecification": like, "schedule": { "doNotRunUntil": "2099-01-01T00:00:00Z" } }));
    assert_eq!(
        farm.try_post("/jobs", json!({ "id": "S", "poolInfo": { "poolId": "p" } })).refused(),
        (409, "JobScheduleWithSameIdExists")
    );
    farm.job("j", "p", json!({}));
    assert_eq!(
        farm.try_post("/jobschedules", json!({ "id": "J", "jobSpecification": like })).refused(),
        (409, "JobWithSameIdExists")
    );
}

#[test]
fn counts() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({ "taskSlotsPerNode": 2 }));
    farm.job("j", "p", json!({}));
    farm.task("j", "good", "true", json!({}));
    farm.task("j", "bad", "exit 1", json!({}));
    farm.task_is("j", "good", "completed");
    farm.task_is("j", "bad", "completed");
    for task in ["a", "b", "c"] {
        farm.task("j", task, "stay", json!({}));
    }
    farm.task_is("j", "b", "running");
    let counts = farm.get("/jobs/j/taskcounts").json;
    assert_eq!(
        counts["taskCounts"],
        json!({ "active": 1, "running": 2, "completed": 2, "succeeded": 1, "failed": 1 })
    );
    let nodes = farm.get("/nodecounts?$filter=poolId%20eq%20%27p%27").json;
    let dedicated = &nodes["value"][0]["dedicated"];
    assert_eq!(
        (&dedicated["total"], &dedicated["running"], &dedicated["idle"]),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[test]
fn statistics() {
    let farm = Farm::of(1);
    farm.pool("p", 1, json!({}));
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "exit 1", json!({ "constraints": { "maxTaskRetryCount": 1 } }));
    farm.task_is("j", "a", "completed");
    let stats = farm.get("/jobs/j?$expand=stats").json["stats"].clone();
    assert_eq!((&stats["numFailedTasks"], &stats["numTaskRetries"]), (&json!(1), &json!(1)), "{stats}");
    assert!(farm.get("/jobs/j").json["stats"].is_null(), "only where they are asked for");
    assert!(farm.get("/jobs?$select=id,stats").json["value"][0]["stats"]["wallClockTime"].is_string());
    assert!(farm.get("/jobs/j/tasks/a?$select=stats").json["stats"]["waitTime"].is_string());
    let pools = farm.get("/pools?$expand=stats").json;
    assert!(pools["value"][0]["stats"]["usageStats"]["dedicatedCoreTime"].is_string(), "{pools}");
    let usage = farm.get("/poolusagemetrics?$filter=poolId%20eq%20%27p%27").json;
    assert_eq!((&usage["value"][0]["poolId"], &usage["value"][0]["vmSize"]), (&json!("p"), &json!("main")));
    assert_eq!(farm.get("/pools?$expand=nodes").refused(), (400, "InvalidQueryParameterValue"));
}

#[test]
fn events() {
    let farm = Farm::of(1);
    let scaling = json!({ "enableAutoScale": true, "autoScaleFormula": "$TargetDedicatedNodes = 1" });
    let mut pool = json!({ "id": "p", "vmSize": "main", "startTask": { "commandLine": "true" } });
    pool.as_object_mut().unwrap().extend(scaling.as_object().unwrap().clone());
    farm.post("/pools", pool);
    farm.job("j", "p", json!({}));
    farm.task("j", "a", "exit 1", json!({}));
    farm.task_is("j", "a", "completed");
    farm.delete("/pools/p");
    farm.until("the pool is gone", |farm| farm.get("/pools").ids().is_empty());
    let all = farm.get("/muster/v1/events?after=0").json;
    let names: Vec<&str> =
        all["value"].as_array().unwrap().iter().filter_map(|event| event["operationName"].as_str()).collect();
    for name in [
        "PoolCreateEvent",
        "PoolAutoScaleEvent",
        "PoolResizeStartEvent",
        "PoolResizeCompleteEvent",
        "SpecialTaskStartEvent",
        "SpecialTaskCompleteEvent",
        "TaskStartEvent",
        "TaskCompleteEvent",
        "TaskFailEvent",
        "PoolDeleteStartEvent",
        "PoolDeleteCompleteEvent",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let own = farm.get("/muster/v1/jobs/j/events").json;
    assert!(
        own["value"].as_array().unwrap().iter().all(|event| event["properties"]["jobId"] == "j"),
        "{own}"
    );
}

#[test]
fn metadata() {
    let farm = Farm::without_nodes();
    let said = json!([{ "name": "project", "value": "x" }]);
    farm.post("/pools", json!({ "id": "p", "vmSize": "main", "metadata": said }));
    farm.job("j", "p", json!({ "metadata": said }));
    let like = json!({ "poolInfo": { "poolId": "p" } });
    let later = json!({ "doNotRunUntil": "2099-01-01T00:00:00Z" });
    farm.post(
        "/jobschedules",
        json!({ "id": "s", "jobSpecification": like, "schedule": later, "metadata": said }),
    );
    for path in ["/pools/p", "/jobs/j", "/jobschedules/s"] {
        assert_eq!(farm.get(path).json["metadata"], said, "{path}");
    }
    assert_eq!(farm.try_post("/pools/p/updateproperties", json!({ "metadata": [] })).status, 204);
    assert_eq!(farm.get("/pools/p").json["metadata"], json!([]));
}

#[test]
fn concurrency_control() {
    let farm = Farm::without_nodes();
    farm.job("j", "p", json!({}));
    let first = farm.get("/jobs/j").headers["etag"].clone();
    assert_eq!(farm.ask("GET", "/jobs/j", None, &[("if-none-match", &first)]).status, 304);
    let body = json!({ "priority": 1 });
    let changed = farm.ask("PATCH", "/jobs/j", Some(&body), &[("if-match", &first)]);
    assert!(changed.status == 200 && changed.headers["etag"] != first, "{changed:?}");
    let late = farm.ask("PATCH", "/jobs/j", Some(&body), &[("if-match", &first)]);
    assert_eq!(late.refused(), (412, "ConditionNotMet"));
    let before = [("if-unmodified-since", "Sun, 08 May 2011 08:49:37 GMT")];
    assert_eq!(farm.ask("DELETE", "/jobs/j", None, &before).refused(), (412, "ConditionNotMet"));
    assert_eq!(farm.get("/jobs/j").json["eTag"], changed.headers["etag"].trim_matches('"'));
}

#[test]
fn cloud_only() {
    let farm = Farm::without_nodes();
    for (property, value) in [
        ("certificateReferences", json!([{ "thumbprint": "x" }])),
        ("cloudServiceConfiguration", json!({ "osFamily": "6" })),
        ("applicationLicenses", json!(["maya"])),
    ] {
        let mut body = json!({ "id": "p", "vmSize": "main" });
        body[property] = value;
        assert_eq!(farm.try_post("/pools", body).property(), ("UnsupportedProperty", property));
    }
    // What does no harm is kept, and shown as it was said.
    let network = json!({ "publicIPAddressConfiguration": { "provision": "nopublicipaddresses" } });
    farm.post("/pools", json!({ "id": "p", "vmSize": "main", "networkConfiguration": network }));
    assert_eq!(farm.get("/pools/p").json["networkConfiguration"], network);
    for path in ["/certificates", "/pools/p/nodes/n01/rdp", "/pools/p/nodes/n01/extensions"] {
        assert_eq!(farm.get(path).refused(), (404, "ResourceNotFound"), "{path}");
    }
    assert_eq!(farm.try_post("/pools/p", json!({})).refused(), (405, "UnsupportedHttpVerb"));
}
