//! The client API, and who may do what.

use muster_client::JobFilter;
use muster_client::api::{NodesRequest, TaskState};

use crate::common::{Controller, SOON, code, gang, job, whole};

#[test]
fn the_routes_answer_in_the_apis_words() {
    let controller = Controller::start(3);
    let mut client = controller.client();
    let ping = client.ping().unwrap();
    assert_eq!((ping.cluster.as_str(), ping.nodes, ping.nodes_up), ("test", 3, 0));
    let nodes = client.nodes().unwrap().nodes;
    assert_eq!((nodes[2].name.as_str(), nodes[2].state.as_str(), nodes[2].cores), ("n03", "unknown", 4));
    let pools = client.pools().unwrap().pools;
    assert_eq!((pools[0].node_list.as_str(), pools[0].default), ("n[01-03]", true));

    let tested = muster_client::api::SubmitRequest { test_only: true, ..job("t") };
    assert_eq!(client.submit(&tested).unwrap().job, None);
    let impossible = muster_client::api::SubmitRequest { test_only: true, ..gang(9) };
    assert_eq!(code(&client.submit(&impossible).unwrap_err()), (400, "too_many_nodes"));
    let keyed = muster_client::api::SubmitRequest { request_key: Some("k".to_owned()), ..job("keyed") };
    assert_eq!(client.submit(&keyed).unwrap().job, Some(1), "a test stores nothing");
    assert_eq!(client.submit(&keyed).unwrap().job, Some(1), "a repeated request makes no second job");
    let elsewhere = muster_client::api::SubmitRequest { pool: Some("nope".to_owned()), ..job("p") };
    assert_eq!(code(&client.submit(&elsewhere).unwrap_err()), (400, "unknown_pool"));

    let why = client.why(whole(1)).unwrap();
    assert_eq!((why.state, why.code.as_str()), (TaskState::Waiting, "nodes_away"));
    assert_eq!(why.sentences.len(), 1);
    assert_eq!(code(&client.job(whole(9)).unwrap_err()), (404, "unknown_job"));
    assert_eq!(code(&client.hold_node("n09", "x").unwrap_err()), (404, "unknown_node"));
    client.hold_node("n01", "broken fan").unwrap();
    client.release_node("n01").unwrap();
    let off =
        |nodes: &str, for_s| NodesRequest { nodes: nodes.to_owned(), reason: "new fan".to_owned(), for_s };
    assert_eq!(code(&client.drain_nodes(&off("n[01", None)).unwrap_err()), (400, "bad_nodes"));
    assert_eq!(code(&client.down_nodes(&off("n01", Some(0))).unwrap_err()), (400, "bad_field"));
    let unknown = client.down_nodes(&off("n[01,08-09]", None)).unwrap_err();
    assert_eq!(code(&unknown), (404, "unknown_node"));
    assert!(unknown.to_string().contains("there are no nodes n[08-09]"), "{unknown}");
    client.down_nodes(&off("n01", Some(600))).unwrap();
    let down = client.nodes().unwrap().nodes.remove(0);
    assert_eq!((down.state.as_str(), down.by_uid), ("down", Some(nix::unistd::Uid::current().as_raw())));
    assert_eq!(down.until_us.unwrap() - down.since_us.unwrap(), 600_000_000);
    assert!(down.reason.contains("an admin took it down: new fan"), "{}", down.reason);
    client.resume_nodes("n01").unwrap();
    assert_eq!(client.nodes().unwrap().nodes.remove(0).since_us, None);

    client.submit(&job("second")).unwrap();
    let names = |list: muster_client::api::JobList| {
        list.jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(client.jobs(&JobFilter::default()).unwrap()), "keyed second");
    let newest = client.jobs(&JobFilter { limit: Some(1), ..JobFilter::default() }).unwrap();
    assert!(newest.cut);
    assert_eq!(names(newest), "second");
    assert_eq!(client.cancel(whole(1)).unwrap().tasks, 1);
    assert_eq!(code(&client.cancel(whole(1)).unwrap_err()), (409, "already_ended"));
    assert_eq!(names(client.jobs(&JobFilter::default()).unwrap()), "second");
    assert_eq!(names(client.jobs(&JobFilter { all: true, ..JobFilter::default() }).unwrap()), "keyed second");
    let cancelled = JobFilter { states: vec![TaskState::Cancelled], ..JobFilter::default() };
    assert_eq!(names(client.jobs(&cancelled).unwrap()), "keyed");
    let nobody = JobFilter { user: Some("ann".to_owned()), ..JobFilter::default() };
    assert_eq!(names(client.jobs(&nobody).unwrap()), "");
    let detail = client.job(whole(1)).unwrap();
    assert_eq!(detail.summary.reason, "cancelled by root while it waited");
}

#[test]
fn what_is_not_in_the_api_is_refused_in_json() {
    let controller = Controller::start(1);
    for (request, status, code) in [
        ("GET /v1/nothing", 404, "no_route"),
        ("DELETE /v1/jobs", 404, "no_route"),
        ("GET /v1/jobs/x", 400, "bad_job_id"),
        ("GET /v1/jobs?state=asleep", 400, "bad_state"),
        ("GET /v1/jobs?colour=red", 400, "bad_request"),
        ("POST /v1/jobs", 400, "bad_request"),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let output = std::process::Command::new("curl")
            .args(["-sS", "--unix-socket"])
            .arg(controller.socket())
            .args(["-w", "\n%{http_code}", "-X", method, "-d", "{", &format!("http://m{path}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, answered) = text.rsplit_once('\n').unwrap();
        let body: muster_client::api::ErrorBody = serde_json::from_str(body).unwrap();
        assert_eq!((answered, body.code.as_str()), (status.to_string().as_str(), code), "{request}");
    }
}

/// Asks as another user, with curl: status and body.
fn ask_as(
    controller: &Controller,
    uid: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (String, serde_json::Value) {
    use std::os::unix::fs::PermissionsExt as _;
    // The folder is the test's own; other users must pass through it to the socket.
    std::fs::set_permissions(controller.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={uid}"), "--clear-groups", "curl", "-sS"])
        .arg("--unix-socket")
        .arg(controller.socket())
        .args(["-w", "\n%{http_code}", "-X", method, "-d", body, &format!("http://m{path}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap())
}

#[test]
fn the_kernel_says_who_asks() {
    let controller = Controller::start(1);
    let mut root = controller.client();
    let roots = root.submit(&job("roots")).unwrap().job.unwrap();
    // 65534 is nobody, a user with a name; 54321 has none.
    let body = serde_json::to_string(&job("nobodys")).unwrap();
    let (status, answer) = ask_as(&controller, "65534", "POST", "/v1/jobs", &body);
    assert_eq!(status, "201", "{answer}");
    let nobodys = answer["job"].as_u64().unwrap();
    assert_eq!(root.job(whole(nobodys)).unwrap().summary.user, "nobody");
    let (status, answer) = ask_as(&controller, "54321", "POST", "/v1/jobs", &body);
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("no_user")));
    let path = format!("/v1/jobs/{roots}/cancel");
    let (status, answer) = ask_as(&controller, "65534", "POST", &path, "");
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("not_owner")));
    assert_eq!(answer["message"], "job 1 belongs to user root: only its owner or an admin may do this");
    let (status, answer) = ask_as(&controller, "65534", "POST", "/v1/nodes/n01/hold", r#"{"reason":"x"}"#);
    assert_eq!((status.as_str(), answer["code"].as_str()), ("403", Some("not_admin")));
    let path = format!("/v1/jobs/{nobodys}/cancel");
    let (status, answer) = ask_as(&controller, "65534", "POST", &path, "");
    assert_eq!((status.as_str(), answer["tasks"].as_u64()), ("200", Some(1)));
    // Whoever the configuration names is an admin.
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace("node_timeout_s = 2", "node_timeout_s = 2\nadmins = [\"nobody\"]");
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let end = std::time::Instant::now() + SOON;
    while ask_as(&controller, "65534", "POST", "/v1/nodes/n01/hold", r#"{"reason":"x"}"#).0 != "200" {
        assert!(std::time::Instant::now() < end, "nobody must become an admin");
    }
}
