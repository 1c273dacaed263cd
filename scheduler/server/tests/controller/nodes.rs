//! Sessions of nodes, and their ends.

use muster_client::api::TaskState;
use muster_wire::v1;
use muster_wire::v1::from_node::Body as Said;
use muster_wire::v1::to_node::Body as Told;
use std::time::Duration;

use crate::common;
use crate::common::{Controller, Node, SOON, exited, hello, job, preparing, ready, runtime, whole};

#[test]
fn strangers_open_no_session() {
    let controller = Controller::start(1);
    let strangers = Controller::start(1);
    let rt = runtime();
    let here = controller.folder.path().join("state/tls");
    let there = strangers.folder.path().join("state/tls");
    let address = controller.node_address.unwrap();
    // Signed by another cluster's authority: the handshake itself fails, or the first use of the connection.
    let session = rt.block_on(Node::connect(address, &there, &here, "n01", hello("n01", vec![])));
    let ended = match session {
        Err(_) => true,
        Ok(mut node) => rt.block_on(node.next()).is_err(),
    };
    assert!(ended, "a certificate of another authority must open no session");
    // The right authority, but another name than the certificate's.
    let session = rt.block_on(Node::connect(address, &here, &here, "n01", hello("n02", vec![])));
    let status = rt.block_on(session.unwrap().next()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(status.message(), "the agent says that it is 'n02', but its certificate was made for 'n01'");
    // Another version of the protocol.
    let other_version = v1::Hello { protocol_version: 9, ..hello("n01", vec![]) };
    let session = rt.block_on(Node::connect(address, &here, &here, "n01", other_version));
    assert_eq!(rt.block_on(session.unwrap().next()).unwrap_err().code(), tonic::Code::FailedPrecondition);
    assert_eq!(controller.client().ping().unwrap().nodes_up, 0);
}

#[test]
fn connections_that_say_nothing_keep_no_node_out() {
    let controller = Controller::start(1);
    let silent = || std::net::TcpStream::connect(controller.node_address.unwrap()).unwrap();
    // More than there are turns for their address.
    let silent: Vec<_> = (0..400).map(|_| silent()).collect();
    let rt = runtime();
    let _node = rt.block_on(controller.node("n01"));
    for stream in silent {
        stream.set_nonblocking(true).unwrap();
        let read = std::io::Read::read(&mut &stream, &mut [0]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the node waited for its end");
    }
}

#[test]
fn how_loaded_a_node_says_that_it_is_is_shown() {
    let controller = Controller::start(1);
    let (rt, mut client) = (runtime(), controller.client());
    let node = rt.block_on(controller.node("n01"));
    let shown = client.nodes().unwrap().nodes.remove(0);
    assert_eq!((shown.load_hundredths, shown.memory_idle_bytes), (None, None), "it has said nothing of it");
    let used = v1::NodeUse {
        period_ms: 5_000,
        load_hundredths: Some(205),
        memory_free_bytes: Some(3 << 30),
        ..v1::NodeUse::default()
    };
    rt.block_on(node.say(Said::Heartbeat(v1::Heartbeat { sequence: 1, used: Some(used) })));
    // What a node says and what a client asks come by different ways; nodes have no route to wait at.
    let end = std::time::Instant::now() + SOON;
    loop {
        let shown = client.nodes().unwrap().nodes.remove(0);
        if (shown.load_hundredths, shown.memory_idle_bytes) == (Some(205), Some(3 << 30)) {
            break;
        }
        assert!(std::time::Instant::now() < end, "it must be shown: {shown:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_node_is_told_what_to_check_and_what_it_finds_is_shown() {
    let more = "[health]\nprogram = \"/etc/muster/health.sh\"\ninterval_s = 9\n";
    let controller = Controller::start_with(1, more);
    let (rt, mut client) = (runtime(), controller.client());
    let tls = controller.folder.path().join("state/tls");
    let address = controller.node_address.unwrap();
    let mut node = rt.block_on(Node::connect(address, &tls, &tls, "n01", hello("n01", vec![]))).unwrap();
    let Told::Welcome(welcome) = rt.block_on(node.told()) else { panic!("the welcome comes first") };
    let check = welcome.health_check.unwrap();
    assert_eq!(
        (check.program.as_str(), check.interval_ms, check.timeout_ms),
        ("/etc/muster/health.sh", 9_000, 60_000)
    );
    rt.block_on(node.says_health("no /scratch\n\u{1b}[31m"));
    // What a node says and what a client asks come by different ways; nodes have no route to wait at.
    let end = std::time::Instant::now() + SOON;
    while client.nodes().unwrap().nodes[0].state != "drained" {
        assert!(std::time::Instant::now() < end, "the node must be drained");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = client.submit(&job("waits")).unwrap().job.unwrap();
    let away = client.why(whole(id)).unwrap().nodes_away.unwrap();
    assert_eq!(away.nodes[0].reason, "its health check fails: no /scratch  [31m");
    let view = &client.nodes().unwrap().nodes[0];
    assert_eq!(
        (view.state.as_str(), view.reason.as_str()),
        ("drained", "its health check fails: no /scratch  [31m")
    );
    assert!(view.since_us.is_some());
    rt.block_on(node.says_health(""));
    assert_eq!(rt.block_on(node.told_to_prepare()).key.unwrap().job, id);
}

#[test]
fn what_a_node_says_at_once_is_heard_in_its_order_up_to_what_is_no_message() {
    let controller = Controller::start(1);
    let (rt, mut client) = (runtime(), controller.client());
    // Ends of what nobody knows: each is to be forgotten.
    let key = |task| Some(v1::AttemptKey { job: 9, task, attempt: 1 });
    let report = |task| exited(&v1::Prepare { key: key(task), ..v1::Prepare::default() }, 0, 0);
    let status = rt.block_on(async {
        let mut node = controller.node("n01").await;
        // Several times as many as are looked at together.
        for task in 0..1000 {
            node.report(report(task)).await;
        }
        for task in 0..1000 {
            assert_eq!(node.told_to_forget().await.key, key(task));
        }
        node.says_health("no /scratch").await;
        node.report(v1::InstanceReport::default()).await;
        // The session may be over by now.
        node.say(Said::Health(v1::Health { problem: String::new() })).await;
        node.next().await.unwrap_err()
    });
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    // The session ends once what came before is on its way to the engine, which decides this after it.
    client.submit(&job("after")).unwrap();
    let reason = client.nodes().unwrap().nodes[0].reason.clone();
    assert_eq!(reason, "its health check fails: no /scratch", "what came before counts");
}

#[test]
fn a_new_session_replaces_the_old_one() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut old = rt.block_on(controller.node("n01"));
    let id = controller.client().submit(&job("one")).unwrap().job.unwrap();
    let prepare = rt.block_on(old.told_to_prepare());
    let mut new = rt.block_on(controller.node_holding("n01", vec![preparing(&prepare)]));
    assert_eq!(rt.block_on(old.next()).unwrap_err().code(), tonic::Code::Aborted);
    rt.block_on(new.report(ready(&prepare)));
    rt.block_on(async { while !matches!(new.told().await, Told::Go(_)) {} });
    assert_eq!(controller.client().job(whole(id)).unwrap().summary.state, TaskState::Running);
}

#[test]
fn a_silent_node_is_given_up_and_its_task_runs_elsewhere() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let id = client.submit(&job("moves")).unwrap().job.unwrap();
    let mut one = rt.block_on(controller.node("n01"));
    let prepare = rt.block_on(one.told_to_prepare());
    rt.block_on(one.report(ready(&prepare)));
    rt.block_on(one.told_to_go());
    let mut two = rt.block_on(controller.node("n02"));
    one.fall_silent();
    let again = rt.block_on(two.told_to_prepare());
    assert_eq!(again.key, Some(v1::AttemptKey { job: id, task: 0, attempt: 2 }));
    assert_eq!(rt.block_on(one.next()).unwrap_err().message(), "nothing was heard of it for 2 s");
    let nodes = client.nodes().unwrap().nodes;
    assert_eq!((nodes[0].state.as_str(), nodes[1].state.as_str()), ("down", "mixed"));
    assert_eq!(nodes[0].reason, "it is down: nothing was heard of it for 2 s");
    assert_eq!(nodes[1].tasks, [id.to_string()]);
}

#[test]
fn nodes_that_do_not_come_back_after_a_restart_are_given_up() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let node = rt.block_on(controller.node("n01"));
    controller.kill();
    drop(node);
    controller.run();
    let mut client = controller.client();
    assert_eq!(client.nodes().unwrap().nodes[0].state, "idle");
    let end = std::time::Instant::now() + SOON;
    // Nodes have no route to wait at: a person looks again as well.
    while client.nodes().unwrap().nodes[0].state != "down" {
        assert!(std::time::Instant::now() < end, "the node must be given up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nodes_without_a_session_are_brought_up_again_and_again() {
    let mut controller = Controller::prepared(2, "");
    let folder = controller.folder.path().to_owned();
    let program = folder.join("bootstrap.sh");
    let log = folder.join("requests");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = serve ] || exit 1\nwhile read -r line; do\n  printf '%s\\n' \"$line\" >> {}\n  \
         node=${{line#*'\"node\":\"'}}\n  echo \"{{\\\"node\\\":\\\"${{node%%\\\"*}}\\\",\\\"ok\\\":true}}\"\ndone\n",
        log.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let more = format!(
        "[bootstrap]\nidentity_file = \"/k\"\nknown_hosts = \"/h\"\nbinaries_dir = \"/b\"\nprogram = \"{}\"\n",
        program.display()
    );
    std::fs::write(controller.config(), common::configuration(&folder, 2, &more)).unwrap();
    controller.run();
    let rt = runtime();
    let requests = |count: usize| {
        let end = std::time::Instant::now() + SOON;
        loop {
            let mut text = std::fs::read_to_string(&log).unwrap_or_default();
            // The last line may still be on its way.
            text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            if text.lines().count() >= count {
                return text;
            }
            assert!(std::time::Instant::now() < end, "{count} requests must come: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let text = requests(2);
    let parsed: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut nodes: Vec<&str> = parsed.iter().map(|request| request["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes[..2], ["n01", "n02"]);
    let request = &parsed[0];
    assert_eq!((request["user"].as_str(), request["port"].as_u64()), (Some("root"), Some(22)));
    assert_eq!(request["controller_name"], "muster-controller");
    assert!(request["tls"]["key_pem"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    // With sessions nobody asks again; when one ends, its node is asked for.
    let _stays = rt.block_on(controller.node("n01"));
    let leave = rt.block_on(controller.node("n02"));
    let before = std::fs::read_to_string(&log).unwrap().lines().count();
    drop(leave);
    let text = requests(before + 1);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["node"], "n02");
}
