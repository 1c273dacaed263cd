//! How many tasks a second go their whole way through the controller, with nodes that take no time.

mod common;

use std::time::Instant;

use common::{Controller, Node, exited, job, ready, runtime};
use muster_client::api::SubmitRequest;
use muster_core::ids::{JobId, JobRef};
use muster_core::spec::{ArraySpec, IndexRange};
use muster_wire::v1::to_node::Body as Told;

/// Answers every order at once, as if preparing and running took no time.
async fn play(mut node: Node) {
    let mut prepared = std::collections::HashMap::new();
    while let Ok(Some(told)) = node.next().await {
        match told {
            Told::Prepare(prepare) => {
                node.report(ready(&prepare)).await;
                prepared.insert(prepare.key, prepare);
            }
            Told::Go(go) => {
                if let Some(prepare) = prepared.remove(&go.key) {
                    node.report(exited(&prepare, 0, 0)).await;
                }
            }
            _ => {}
        }
    }
}

#[test]
#[ignore = "a measurement, for a quiet machine and a release build"]
fn tasks_per_second() {
    const NODES: u32 = 32;
    let last = std::env::var("MUSTER_TASKS").map_or(9_999, |text| text.parse::<u32>().unwrap() - 1);
    let controller = Controller::start_with(NODES, "");
    let rt = runtime();
    for number in 1..=NODES {
        let node = rt.block_on(controller.node(&format!("n{number:02}")));
        rt.spawn(play(node));
    }
    let mut client = controller.client();
    let array = ArraySpec { indices: vec![IndexRange { first: 0, last, step: 1 }], running_max: None };
    let started = Instant::now();
    let id = client.submit(&SubmitRequest { array: Some(array), ..job("many") }).unwrap().job.unwrap();
    let whole = JobRef { job: JobId(id), task: None };
    let detail = client.wait_finished(whole, None).unwrap().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(detail.summary.tasks.values().sum::<u64>(), u64::from(last) + 1);
    println!("{} tasks in {seconds:.2} s: {:.0} a second", last + 1, f64::from(last + 1) / seconds);
}
