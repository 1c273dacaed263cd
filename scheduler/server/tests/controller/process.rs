//! The process: its start, its signals, its exit codes.

use muster_client::api::TaskState;
use std::time::Duration;

use crate::common;
use crate::common::{Controller, SOON, gang, job, ready, running, runtime, until, whole};

#[test]
fn a_second_controller_and_a_bad_configuration_have_exit_codes_of_their_own() {
    let controller = Controller::start(1);
    let second = controller.command().output().unwrap();
    assert_eq!(second.status.code(), Some(4));
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("is locked by another process"), "{message}");
    let checked = controller.command().arg("--check").output().unwrap();
    assert!(checked.status.success());
    let closed = controller.command().args(["--ready-fd", "77"]).output().unwrap();
    assert_eq!(closed.status.code(), Some(5));
    let broken = Controller::prepared(1, "colour = 1");
    let refused = broken.command().arg("--check").output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("unknown key 'colour' in [[pool]]"), "{message}");
}

#[test]
fn a_configuration_that_is_read_again_brings_new_nodes() {
    let controller = Controller::start(1);
    let text = common::configuration(controller.folder.path(), 2, "");
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let mut client = controller.client();
    let end = std::time::Instant::now() + SOON;
    while client.ping().unwrap().nodes != 2 {
        assert!(std::time::Instant::now() < end, "the second node must be declared");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rt = runtime();
    let _node = rt.block_on(controller.node("n02"));
    while client.ping().unwrap().nodes_up != 1 {
        assert!(std::time::Instant::now() < end, "the second node must be up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_job_that_a_new_configuration_leaves_without_nodes_says_so_until_it_is_put_right() {
    let controller = Controller::start(2);
    let mut client = controller.client();
    let id = client.submit(&gang(2)).unwrap().job.unwrap();
    let end = std::time::Instant::now() + SOON;
    for (nodes, impossible) in [(1, true), (2, false)] {
        let text = common::configuration(controller.folder.path(), nodes, "");
        std::fs::write(controller.config(), text).unwrap();
        controller.signal(nix::sys::signal::Signal::SIGHUP);
        loop {
            let why = client.why(whole(id)).unwrap();
            if (why.code == "never_fits") == impossible {
                assert!(!impossible || why.sentences[0].contains("pool 'main' has 1"), "{why:?}");
                break;
            }
            assert!(std::time::Instant::now() < end, "{why:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn readiness_is_said_to_a_descriptor() {
    let mut controller = Controller::prepared(1, "");
    let path = controller.folder.path().join("ready");
    let mut command = std::process::Command::new("sh");
    let script = format!("exec \"$@\" --ready-fd 7 7> {}", path.display());
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_musterd"), "--config"]).arg(controller.config());
    controller.run_command(command);
    let end = std::time::Instant::now() + SOON;
    while std::fs::read_to_string(&path).unwrap() != "ready\n" {
        assert!(std::time::Instant::now() < end, "ready must be said");
        std::thread::sleep(Duration::from_millis(5));
    }
    let inherited = std::path::PathBuf::from(format!("/proc/{}/fd/7", controller.pid()));
    let target = std::fs::read_link(inherited).unwrap_or_default();
    assert_ne!(target, path, "the descriptor is closed");
}

#[test]
fn a_stop_leaves_running_work_running() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let id = controller.client().submit(&job("stays")).unwrap().job.unwrap();
    let mut node = rt.block_on(controller.node("n01"));
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    let detail = until(&mut controller.client(), id, TaskState::Running);
    // A client that waits is answered rather than left hanging.
    let mut waiting = controller.client();
    let waiter = std::thread::spawn(move || waiting.wait_change(whole(id), Some(detail.version), SOON));
    assert!(controller.stop().success());
    assert!(matches!(rt.block_on(node.next()), Ok(None) | Err(_)), "the session ends without a stop");
    assert!(!controller.socket().exists());
    controller.run();
    let _node = rt.block_on(controller.node_holding("n01", vec![running(&prepare)]));
    // One that asked only after the stop waits until there is a controller again, and then for a change: the node is
    // back before it is awaited, or the wait would see the node being given up.
    let waited = waiter.join().unwrap();
    assert!(waited.is_err() || waited.unwrap().summary.state == TaskState::Running);
    assert_eq!(controller.client().job(whole(id)).unwrap().summary.state, TaskState::Running);
}
