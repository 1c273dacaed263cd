//! Nodes that permit no cgroups, and agents that are not root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::controller::Controller;
use common::node::{Kind, Node};
use common::work::{Task, user};
use common::{eventually, is_root};
use muster_wire::v1::Containment;
use muster_wire::v1::gone::How;

/// A script with a child that left its session and does not want to end.
const STUBBORN: &str = "#!/bin/sh
trap '' TERM
(setsid sh -c 'trap \"\" TERM; echo $$ >deep; while :; do sleep 1000; done' &) &
while [ ! -s deep ]; do sleep 0.01; done
echo up >ready
while :; do sleep 1000; done
";

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn stubborn(controller: &mut Controller) -> (Task, String) {
    let task = Task::new("node01", STUBBORN);
    controller.launch("node01", &task.prepare).await;
    controller.running("node01", task.key()).await;
    eventually("the tree stands", || task.path("ready").exists()).await;
    let deep = std::fs::read_to_string(task.path("deep")).unwrap();
    assert!(lives(&deep));
    (task, deep)
}

#[tokio::test]
async fn a_sweep_finds_what_no_cgroup_holds() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let node = Node::start_as(&controller, "node01", Kind::NoCgroups);
    assert_eq!(controller.hello("node01").await.containment(), Containment::Subreaper);
    let (task, deep) = stubborn(&mut controller).await;
    controller.stop("node01", task.key(), 50).await;
    let gone = controller.gone("node01", task.key()).await;
    assert!(matches!(gone.how, Some(How::Stopped(_))), "{gone:?}");
    assert!(!lives(&deep));
    // And after the supervisor.
    let (task, deep) = stubborn(&mut controller).await;
    let supervisor = nix::unistd::Pid::from_raw(node.supervisor(&task.name()));
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
    let gone = controller.gone("node01", task.key()).await;
    assert!(matches!(gone.how, Some(How::Broken(_))), "{gone:?}");
    assert!(!lives(&deep));
    // A task that ends by itself is told as such.
    let task = Task::new("node01", "#!/bin/sh\nsleep 1000 &\nexit 3\n");
    match controller.run("node01", &task.prepare).await.how {
        Some(How::Exited(exited)) => assert_eq!(exited.code, 3),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_without_roots_rights_serves_its_own_user_only() {
    if !is_root() {
        return;
    }
    let mut controller = Controller::start().await;
    let _node = Node::start_as(&controller, "node01", Kind::Nobody);
    controller.hello("node01").await;
    let task = Task::new("node01", "#!/bin/sh\nid -u\n");
    match controller.run("node01", &task.prepare).await.how {
        Some(How::Exited(exited)) => assert_eq!(exited.code, 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(task.output(), "65534\n");
    let task = Task::of(user("root"), &[("node01", &[0])], "#!/bin/sh\n");
    controller.prepare("node01", &task.prepare).await;
    match controller.gone("node01", task.key()).await.how {
        Some(How::PrepareFailed(failed)) => {
            assert!(failed.reason.contains("runs as uid 65534"), "{}", failed.reason);
            assert!(failed.node_at_fault);
        }
        other => panic!("{other:?}"),
    }
}
