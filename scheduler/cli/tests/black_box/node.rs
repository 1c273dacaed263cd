//! `muster node up` and `down`: what is asked of the program that does the SSH, and how its answers are told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_cli::exit::Exit;
use serde_json::{Value, json};

use crate::common::{Fake, Question, Ran};

/// Who answers in the place of `muster-bootstrap`: a line for each node, and the requests are kept.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("muster-bootstrap");
    let text = format!(
        "#!/bin/sh\ncd {}\necho \"$@\" > words\ntee requests > /dev/null\n{script}\n",
        folder.display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn request(node: &str) -> Value {
    json!({
        "node": node, "address": node, "port": 22, "user": "root", "identity_file": "/etc/muster/id",
        "known_hosts_files": ["/etc/muster/known_hosts"], "binaries_dir": "/b", "remote_dir": "/var/lib/muster",
        "controller": ["head:6817"], "controller_name": "muster-controller",
        "tls": {"ca_pem": "CA", "cert_pem": "CERT", "key_pem": "SECRET"}
    })
}

fn node(name: &str, connected: bool) -> Value {
    json!({
        "name": name, "state": "idle", "reason": "", "pools": [], "cores": 2, "cores_free": 2, "memory_bytes": 1,
        "memory_free_bytes": 1, "cores_real": 2, "connected": connected, "tasks": [], "address": name,
        "agent_version": "", "containment": ""
    })
}

/// A controller of four nodes, of which n4 is not connected.
fn controller(program: PathBuf, by_controller: bool) -> Fake {
    Fake::start(move |question: &Question| {
        let body = if question.line.contains("bootstrap") {
            let requests: Vec<Value> = ["n1", "n2", "n3", "n4"].map(request).into();
            json!({"schema": 1, "by_controller": by_controller, "program": program, "fan_out": 16, "requests": requests})
        } else {
            json!({"schema": 1, "nodes": [node("n1", true), node("n2", true), node("n3", true), node("n4", false)]})
        };
        (200, body.to_string())
    })
}

fn good(node: &str, did: &str) -> String {
    json!({"node": node, "ok": true, "did": did, "uploaded": false, "duration_ms": 1}).to_string()
}

fn bad(node: &str, cause: &str, detail: Option<&str>) -> String {
    let failure = json!({"step": "connect", "cause": cause, "detail": detail, "error": format!("node {node}: {cause}")});
    json!({"node": node, "ok": false, "failure": failure}).to_string()
}

fn saying(lines: &[String]) -> String {
    lines.iter().map(|line| format!("echo '{line}'\n")).collect()
}

#[test]
fn nodes_that_failed_for_the_same_cause_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [
        good("n2", "unchanged"),
        bad("n3", "it is off", Some("presents X")),
        bad("n1", "it is off", None),
        good("n4", "started"),
    ];
    let fake = controller(program(folder.path(), &saying(&lines)), false);
    let ran =
        fake.run(&["node", "up", "n[1-4]", "--wait", "0", "--fan-out", "7", "--jump", "ann@gate", "--sudo"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(Exit::SomeFailed as i32), ""), "{ran:?}");
    let expected = "4 nodes: 1 already up, 3 failed\n\n\
                    NODES   FAILED TO             WHY\n\
                    n[1,3]  connect               it is off\n\
                    n4      reach the controller  the agent runs, but has not reached the controller at head:6817";
    assert!(ran.out.starts_with(expected), "{}", ran.out);
    assert!(ran.out.ends_with("\n\nn3 presents X\n"), "{}", ran.out);

    // The program was told all by its standard input, and nothing in its arguments.
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("words"), "serve --concurrency 7\n");
    let asked: Vec<Value> =
        read("requests").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(asked.len(), 4);
    assert_eq!(
        (&asked[0]["action"], &asked[0]["sudo"], &asked[0]["tls"]["key_pem"]),
        (&json!("up"), &json!(true), &json!("SECRET"))
    );
    assert_eq!(asked[0]["jump"], json!([{"host": "gate", "port": 22, "user": "ann"}]));
}

#[test]
fn a_program_that_ends_early_leaves_no_node_untold() {
    let folder = tempfile::tempdir().unwrap();
    let fake = controller(program(folder.path(), &saying(&[good("n1", "started")])), false);
    let ran = fake.run(&["node", "up", "n[1-4]", "--check", "--json"]);
    assert_eq!(ran.code, Some(Exit::SomeFailed as i32), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["action"], &report["nodes"][0]["did"]), (&json!("check"), &json!("started")));
    let cause = report["nodes"][3]["failure"]["cause"].as_str().unwrap();
    assert!(cause.contains("muster-bootstrap ended (exit status: 0)"), "{cause}");

    let fake = controller(program(folder.path(), "echo hello"), false);
    let ran = fake.run(&["node", "up", "n1"]);
    assert_eq!(ran.code, Some(Exit::BadAnswer as i32), "{ran:?}");
    let fake = controller(folder.path().join("nowhere"), false);
    let ran = fake.run(&["node", "up", "n1"]);
    assert_eq!(ran.code, Some(Exit::Io as i32), "{ran:?}");
    assert!(ran.err.starts_with("muster node: cannot start ") && ran.err.contains("nowhere"), "{ran:?}");
}

#[test]
fn what_the_controller_would_undo_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "exit 1");
    let refused = |arguments: &[&str]| -> Ran {
        let ran = controller(path.clone(), true).run(arguments);
        assert_eq!(ran.code, Some(Exit::Refused as i32), "{ran:?}");
        ran
    };
    assert!(refused(&["node", "down", "n1"]).err.contains("would start the agents again at once"));
    let other = folder.path().to_str().unwrap();
    assert!(refused(&["node", "up", "n1", "--programs", other]).err.contains("binaries_dir"));
    assert!(!folder.path().join("requests").exists(), "nothing was done on any node");
}
