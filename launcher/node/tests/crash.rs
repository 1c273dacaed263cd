//! Whatever is killed or restarted: no attempt is lost, none runs twice, nothing is left behind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Command;
use std::sync::atomic::Ordering;

use common::controller::Controller;
use common::node::{Kind, Node};
use common::work::Task;
use common::{eventually, is_root};
use muster_wire::v1::gone::How;
use muster_wire::v1::instance_report::Phase;
use muster_wire::v1::{Gone, Hello};

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn exit_code(gone: &Gone) -> u32 {
    match &gone.how {
        Some(How::Exited(exited)) => exited.code,
        other => panic!("{other:?}"),
    }
}

fn broken(gone: &Gone) -> &str {
    match &gone.how {
        Some(How::Broken(broken)) => &broken.reason,
        other => panic!("{other:?}"),
    }
}

fn held(hello: &Hello) -> &Phase {
    assert_eq!(hello.held.len(), 1, "{hello:?}");
    hello.held[0].phase.as_ref().unwrap()
}

/// The end of an attempt that a new agent clears up: before its hello or after it.
async fn cleared_up(controller: &mut Controller, task: &Task) -> Gone {
    let hello = controller.hello("node01").await;
    match held(&hello) {
        Phase::Gone(gone) => gone.clone(),
        _ => controller.gone("node01", task.key()).await,
    }
}

/// A script that waits until the test lets it go on.
const WAITS: &str = "#!/bin/sh\necho up >ready\nwhile [ ! -e go ]; do sleep 0.02; done\nexit 5\n";

async fn running(controller: &mut Controller, script: &str) -> Task {
    let task = Task::new("node01", script);
    controller.launch("node01", &task.prepare).await;
    controller.running("node01", task.key()).await;
    eventually("the script is up", || task.path("ready").exists()).await;
    task
}

/// A controller that was frozen, and replaced meanwhile, must not be obeyed when it wakes up.
#[tokio::test]
async fn a_controller_of_a_lower_term_is_refused() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    controller.term.store(5, Ordering::SeqCst);
    let _node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let task = running(&mut controller, WAITS).await;
    controller.term.store(4, Ordering::SeqCst);
    controller.restart(async || {}).await;
    // It says hello, hears the term, and goes; and so again.
    for _ in 0..3 {
        controller.hello("node01").await;
        controller.stop("node01", task.key(), 0).await;
    }
    controller.term.store(6, Ordering::SeqCst);
    controller.restart(async || {}).await;
    assert!(matches!(held(&controller.hello("node01").await), Phase::Running(_)));
    std::fs::write(task.path("go"), "").unwrap();
    assert_eq!(exit_code(&controller.gone("node01", task.key()).await), 5);
}

#[tokio::test]
async fn an_agent_that_was_killed_finds_its_task_and_tells_its_exit() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let mut node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let task = running(&mut controller, WAITS).await;
    node.kill_agent();
    node.start_agent();
    let hello = controller.hello("node01").await;
    assert!(matches!(held(&hello), Phase::Running(_)), "{hello:?}");
    std::fs::write(task.path("go"), "").unwrap();
    assert_eq!(exit_code(&controller.gone("node01", task.key()).await), 5);
    // A stop reaches an adopted task too.
    let task = running(&mut controller, WAITS).await;
    node.kill_agent();
    node.start_agent();
    controller.hello("node01").await;
    controller.stop("node01", task.key(), 0).await;
    assert!(matches!(controller.gone("node01", task.key()).await.how, Some(How::Stopped(_))));
}

#[tokio::test]
async fn an_exit_without_an_agent_is_told_by_the_next_one() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let mut node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let task = running(&mut controller, WAITS).await;
    node.kill_agent();
    let supervisor = node.supervisor(&task.name());
    std::fs::write(task.path("go"), "").unwrap();
    eventually("the supervisor ends", || !std::path::Path::new(&format!("/proc/{supervisor}")).exists())
        .await;
    node.start_agent();
    let hello = controller.hello("node01").await;
    match held(&hello) {
        Phase::Gone(gone) => assert_eq!(exit_code(gone), 5),
        other => panic!("{other:?}"),
    }
    controller.forget("node01", task.key()).await;
    eventually("the record is forgotten", || !node.attempt(&task.name()).exists()).await;
}

#[tokio::test]
async fn a_supervisor_that_was_killed_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let mut node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    // Under its agent's eyes.
    let task = running(&mut controller, WAITS).await;
    let inside = node.processes(&task.name());
    assert!(!inside.is_empty());
    kill(node.supervisor(&task.name()));
    let gone = controller.gone("node01", task.key()).await;
    assert_eq!(broken(&gone), "the supervisor of this attempt was killed");
    assert!(gone.started_at_us > 0);
    assert!(node.processes(&task.name()).is_empty());
    eventually("all processes are gone", || {
        inside.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    })
    .await;
    controller.forget("node01", task.key()).await;
    // And together with its agent.
    let task = running(&mut controller, WAITS).await;
    let supervisor = node.supervisor(&task.name());
    node.kill_agent();
    kill(supervisor);
    node.start_agent();
    let gone = cleared_up(&mut controller, &task).await;
    assert_eq!(broken(&gone), "the supervisor of this attempt was killed");
    assert!(node.processes(&task.name()).is_empty());
    assert!(!node.run.join("attempts").join(task.name()).exists());
}

#[tokio::test]
async fn supervisors_that_were_killed_while_they_waited_take_no_task_with_them() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let killed = node.children();
    killed.iter().for_each(|supervisor| kill(*supervisor));
    // One that dies with a task already on its way to it breaks that attempt, which the engine makes anew: here the agent has
    // seen them dead.
    while node.children().iter().any(|child| killed.contains(child)) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let task = running(&mut controller, WAITS).await;
    std::fs::write(task.path("go"), "").unwrap();
    assert_eq!(exit_code(&controller.gone("node01", task.key()).await), 5);
}

#[tokio::test]
async fn a_reboot_is_told_as_such() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let mut node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let task = running(&mut controller, WAITS).await;
    node.kill_agent();
    kill(node.supervisor(&task.name()));
    let state = node.attempt(&task.name()).join("state.json");
    let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    text["boot_id"] = "an earlier boot".into();
    std::fs::write(&state, text.to_string()).unwrap();
    node.start_agent();
    let gone = cleared_up(&mut controller, &task).await;
    assert_eq!(broken(&gone), "the node was restarted while it held this attempt");
}

#[tokio::test]
async fn a_controller_that_comes_back_is_told_everything() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let _node = Node::start(&controller, "node01");
    controller.hello("node01").await;
    let task = running(&mut controller, WAITS).await;
    let go = task.path("go");
    controller.restart(async || tokio::time::sleep(std::time::Duration::from_millis(300)).await).await;
    let hello = controller.hello("node01").await;
    assert!(matches!(held(&hello), Phase::Running(_)), "{hello:?}");
    // The end comes while nobody listens.
    controller.restart(async || std::fs::write(go, "").unwrap()).await;
    let hello = controller.hello("node01").await;
    let code = match held(&hello) {
        Phase::Gone(gone) => exit_code(gone),
        _ => exit_code(&controller.gone("node01", task.key()).await),
    };
    assert_eq!(code, 5);
}

#[tokio::test]
async fn the_agent_runs_in_the_background_once_and_only_once() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let node = Node::make(&controller, "node01", Kind::Plain);
    let command = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_muster-node"));
        command.args(words).arg("--dir").arg(node.dir.path());
        let output = command.output().await.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(command(&["status", "--json"]).await, (Some(3), "null\n".into(), String::new()));
    let (code, said, _) = command(&["start"]).await;
    assert_eq!(code, Some(0));
    assert!(said.starts_with("the agent of node01 runs as process "), "{said}");
    controller.hello("node01").await;
    let (code, again, _) = command(&["start"]).await;
    assert_eq!(code, Some(0));
    assert!(again.contains("runs already"), "{again}");
    let task = running(&mut controller, WAITS).await;
    let (_, status, _) = command(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["attempts"].as_array().unwrap().len(), 1);
    assert!(status["controller"].is_string());
    let first = status["holder"]["process"]["pid"].as_u64().unwrap();

    // Another build replaces the running one, and the task goes on.
    let other = node.dir.path().join("muster-node");
    std::fs::copy(env!("CARGO_BIN_EXE_muster-node"), &other).unwrap();
    let started = Command::new(&other).arg("start").arg("--dir").arg(node.dir.path()).output().unwrap();
    assert!(started.status.success(), "{started:?}");
    let hello = controller.hello("node01").await;
    assert!(matches!(held(&hello), Phase::Running(_)));
    let (_, status, _) = command(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_ne!(status["holder"]["process"]["pid"].as_u64().unwrap(), first);

    let (code, said, _) = command(&["stop"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(command(&["status"]).await.0, Some(3));
    assert!(!node.processes(&task.name()).is_empty());
    // A start that cannot work says why.
    std::fs::write(node.dir.path().join("node.key"), "").unwrap();
    let (code, _, error) = command(&["start"]).await;
    assert_eq!(code, Some(1));
    assert!(error.contains("muster-node: "), "{error}");
}
