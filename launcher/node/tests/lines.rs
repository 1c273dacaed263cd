//! Tasks of an array that wait on their node for the end of the one before them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::controller::Controller;
use common::node::Node;
use common::work::Task;
use muster_wire::v1::gone::How;
use muster_wire::v1::{self, AttemptKey, CommonPart, Gone, Prepare};

struct Array(Task);

impl Array {
    /// Each task notes its start and its end, between which it waits for as long as there is a file `hold`.
    fn new() -> Self {
        let script = "#!/bin/bash\necho start $SLURM_ARRAY_TASK_ID >>trace\n\
                      while [ -e hold ]; do sleep 0.01; done\necho end $SLURM_ARRAY_TASK_ID >>trace\n";
        Self(Task::new("node01", script))
    }

    fn key(&self, task: u32) -> AttemptKey {
        AttemptKey { task, ..self.0.key() }
    }

    fn prepare(&self, task: u32, after: Option<u32>) -> Prepare {
        Prepare {
            key: Some(self.key(task)),
            at_once: true,
            array: true,
            task_count: 1000,
            after: after.map(|after| self.key(after)),
            ..self.0.prepare.clone()
        }
    }

    async fn start(&self, controller: &Controller, task: u32, after: Option<u32>) {
        controller.prepare("node01", &self.prepare(task, after)).await;
    }

    async fn end(&self, controller: &mut Controller, task: u32) -> Gone {
        let gone = controller.gone("node01", self.key(task)).await;
        controller.forget("node01", self.key(task)).await;
        gone
    }

    fn hold(&self, hold: bool) {
        let path = self.0.path("hold");
        if hold { std::fs::write(path, "").unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn trace(&self) -> Vec<String> {
        let trace = std::fs::read_to_string(self.0.path("trace")).unwrap_or_default();
        trace.lines().map(str::to_owned).collect()
    }
}

fn is_returned(gone: &Gone) -> bool {
    matches!(gone.how, Some(How::Returned(_)))
}

async fn one_node() -> (Controller, Node) {
    let mut controller = Controller::start().await;
    let node = Node::start(&controller, "node01");
    let hello = controller.hello("node01").await;
    assert!(hello.takes_lines);
    (controller, node)
}

#[tokio::test]
async fn tasks_in_a_line_run_one_after_another() {
    let (mut controller, _node) = one_node().await;
    let array = Array::new();
    let mut followed = 0;
    // On a slow machine a line may be returned before its turn.
    for line in 0..50 {
        let tasks = line * 5 + 1..=line * 5 + 5;
        for task in tasks.clone() {
            array.start(&controller, task, (task > *tasks.start()).then(|| task - 1)).await;
        }
        let mut ran = Vec::new();
        for task in tasks {
            let gone = array.end(&mut controller, task).await;
            if !is_returned(&gone) {
                assert!(matches!(&gone.how, Some(How::Exited(exited)) if exited.code == 0), "{gone:?}");
                ran.push(task);
            }
        }
        let expected = ran.iter().flat_map(|task| [format!("start {task}"), format!("end {task}")]);
        let trace = array.trace();
        assert_eq!(trace[trace.len() - 2 * ran.len()..], expected.collect::<Vec<_>>());
        followed += ran.len() - 1;
        if followed >= 4 {
            return;
        }
    }
    panic!("only {followed} tasks followed another one");
}

#[tokio::test]
async fn those_behind_a_long_one_are_returned_and_never_run() {
    let (mut controller, _node) = one_node().await;
    let array = Array::new();
    array.hold(true);
    for (task, after) in [(1, None), (2, Some(1)), (3, Some(2))] {
        array.start(&controller, task, after).await;
    }
    for task in [2, 3] {
        let gone = controller.gone("node01", array.key(task)).await;
        assert!(is_returned(&gone) && gone.started_at_us == 0, "{gone:?}");
    }
    array.hold(false);
    assert!(!is_returned(&array.end(&mut controller, 1).await));
    assert_eq!(array.trace(), ["start 1", "end 1"]);
}

#[tokio::test]
async fn nobody_waits_for_one_that_is_not_there_and_one_that_has_ended_is_followed_at_once() {
    let (mut controller, _node) = one_node().await;
    let array = Array::new();
    array.start(&controller, 2, Some(1)).await;
    assert!(is_returned(&controller.gone("node01", array.key(2)).await));
    array.start(&controller, 3, None).await;
    controller.gone("node01", array.key(3)).await;
    array.start(&controller, 4, Some(3)).await;
    assert!(!is_returned(&array.end(&mut controller, 4).await));
    assert_eq!(array.trace(), ["start 3", "end 3", "start 4", "end 4"]);
}

#[tokio::test]
async fn an_agent_that_was_killed_knows_of_no_line_and_what_was_at_its_head_goes_on() {
    let (mut controller, mut node) = one_node().await;
    let array = Array::new();
    array.hold(true);
    array.start(&controller, 1, None).await;
    array.start(&controller, 2, Some(1)).await;
    controller.running("node01", array.key(1)).await;
    node.kill_agent();
    node.start_agent();
    let hello = controller.hello("node01").await;
    let held: Vec<AttemptKey> = hello.held.iter().filter_map(|report| report.key).collect();
    assert_eq!(held, [array.key(1)]);
    // It is told of the line again.
    array.start(&controller, 3, Some(1)).await;
    array.hold(false);
    assert!(!is_returned(&array.end(&mut controller, 1).await));
    let gone = array.end(&mut controller, 3).await;
    let expected: &[&str] =
        if is_returned(&gone) { &["start 1", "end 1"] } else { &["start 1", "end 1", "start 3", "end 3"] };
    assert_eq!(array.trace(), expected);
}

#[tokio::test]
async fn what_a_session_keeps_is_no_part_of_the_next_tasks_message_and_of_no_other_session() {
    let (mut controller, node) = one_node().await;
    let mut array = Array::new();
    let own = v1::Work { time_limit_s: 60, ..v1::Work::default() };
    array.0.prepare.add_work(&own);
    let common = |prepare: Prepare, common: CommonPart| Prepare { common: common.into(), ..prepare };
    let without = |mut prepare: Prepare| {
        prepare.work.remove(0);
        common(Prepare { user: None, ..prepare }, CommonPart::AsKept)
    };
    controller.prepare("node01", &common(array.prepare(1, None), CommonPart::Keep)).await;
    for task in 2..5 {
        array.end(&mut controller, task - 1).await;
        controller.prepare("node01", &without(array.prepare(task, None))).await;
    }
    let gone = array.end(&mut controller, 4).await;
    assert!(matches!(&gone.how, Some(How::Exited(exited)) if exited.code == 0), "{gone:?}");
    let of = |task| [format!("start {task}"), format!("end {task}")];
    assert_eq!(array.trace(), (1..5).flat_map(of).collect::<Vec<_>>());
    // What was kept goes with its session; who says then that all is as before has not been understood.
    controller.restart(async || {}).await;
    controller.hello("node01").await;
    controller.prepare("node01", &without(array.prepare(5, None))).await;
    controller.hello("node01").await;
    assert!(
        node.log().contains("a prepare lacks what it has in common with one before it"),
        "{}",
        node.log()
    );
    assert_eq!(array.trace().len(), 8);
}
