//! Real GPUs: what the agent finds, and what a task may open. Only a machine with NVIDIA's driver can tell.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::controller::Controller;
use common::is_root;
use common::node::Node;
use common::work::Task;
use muster_wire::v1::gone::How;
use muster_wire::v1::{Containment, DeclaredDevices, Devices, Welcome};

#[tokio::test]
async fn a_task_uses_the_gpus_that_it_holds_and_no_others() {
    let there = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |gpus| gpus.count() as u32);
    if !is_root() || there == 0 {
        eprintln!("left out: it needs root and a GPU of NVIDIA's");
        return;
    }
    let declared = DeclaredDevices { name: "gpu".into(), count: there, files: Vec::new() };
    let welcome = Welcome { declared_devices: vec![declared], ..Welcome::default() };
    let mut controller = Controller::start_with(welcome).await;
    let _node = Node::start(&controller, "node01");
    let hello = controller.hello("node01").await;
    let found = hello.topology.as_ref().unwrap().devices.iter().filter(|device| device.name == "gpu").count();
    assert_eq!(found as u32, there, "{:?}", hello.topology);
    let contained = hello.containment() != Containment::Subreaper;
    for held in 0..=there {
        let mut task =
            Task::new("node01", "#!/bin/sh\nnvidia-smi --list-gpus > list 2>&1\ngrep -c ^GPU list\n");
        task.prepare.members[0].devices =
            vec![Devices { name: "gpu".into(), kind: String::new(), numbers: (0..held).collect() }];
        let gone = controller.run("node01", &task.prepare).await;
        assert!(matches!(gone.how, Some(How::Exited(_))), "{gone:?}");
        let seen = std::fs::read_to_string(task.path("list")).unwrap();
        eprintln!("{held} of {there} held, contained: {contained}: {seen}");
        let expected = if contained { held } else { there };
        assert_eq!(task.output().trim(), expected.to_string(), "{seen}");
    }
}
