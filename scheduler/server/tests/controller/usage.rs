//! What is reported as used: what runs, what has ended, what was tried before, and nodes that were away.

use muster_client::api::{TaskState, UsageReport};
use muster_core::ids::JobId;
use muster_core::spec::{ArraySpec, IndexRange};
use muster_store::HistoryReader;
use muster_wire::v1;

use crate::common::{Controller, Node, exited, gang, gone, job, ready, runtime, until, whole};

const HOUR_US: u64 = 3_600_000_000;

fn usage(client: &mut muster_client::Client) -> UsageReport {
    client.usage(0, u64::MAX, true).unwrap()
}

/// Core seconds and attempts of everybody together, by the size of an attempt.
fn used(client: &mut muster_client::Client, cores: u64) -> (f64, u64) {
    let lines = usage(client).lines;
    let held = lines.iter().filter(|line| line.cores == cores);
    held.fold((0.0, 0), |(sum, count), line| (sum + line.used.core_s, count + line.attempts))
}

async fn start(node: &mut Node) -> v1::Prepare {
    let prepare = node.told_to_prepare().await;
    node.report(ready(&prepare)).await;
    node.told_to_go().await;
    prepare
}

#[test]
fn each_attempt_counts_for_as_long_as_it_ran() {
    let mut controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));

    // Four cores that are put back into the queue, and run to their end then.
    let id = client.submit(&gang(1)).unwrap().job.unwrap();
    let prepare = rt.block_on(start(&mut node));
    until(&mut client, id, TaskState::Running);
    let (first, count) = used(&mut client, 4);
    assert!(first > 0.0 && count == 1, "{first} {count}");
    assert!(used(&mut client, 4).0 > first, "what runs goes on being counted");
    client.requeue(whole(id), false).unwrap();
    rt.block_on(node.told_to_stop());
    rt.block_on(node.report(gone(&prepare, v1::gone::How::Stopped(v1::Stopped {}))));
    rt.block_on(node.told_to_forget());
    let prepare = rt.block_on(start(&mut node));
    let (both, count) = used(&mut client, 4);
    assert!(both > first && count == 2, "{both} {count}");
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    rt.block_on(node.told_to_forget());
    let detail = until(&mut client, id, TaskState::Completed);
    let ended = used(&mut client, 4);
    assert_eq!(used(&mut client, 4), ended, "what has ended is counted no further");
    let task = &detail.task_list[0];
    let last =
        (task.finished_at_us.unwrap() - task.started_at_us.or(task.placed_at_us).unwrap()) as f64 / 1e6;
    let earlier = ended.0 - 4.0 * last;
    assert!(ended.1 == 2 && earlier > 0.0, "{ended:?} {last}");

    // Of an array, one task has ended and one runs: each is what it is.
    let array = ArraySpec { indices: vec![IndexRange { first: 0, last: 1, step: 1 }], running_max: Some(1) };
    let request = muster_client::api::SubmitRequest { array: Some(array), ..job("array") };
    let array = client.submit(&request).unwrap().job.unwrap();
    let prepare = rt.block_on(start(&mut node));
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    rt.block_on(node.told_to_forget());
    let prepare = rt.block_on(start(&mut node));
    assert_eq!(used(&mut client, 1).1, 2);
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    rt.block_on(node.told_to_forget());
    let detail = until(&mut client, array, TaskState::Completed);
    let span = |task: &muster_client::api::TaskView| {
        task.finished_at_us.unwrap() - task.started_at_us.or(task.placed_at_us).unwrap()
    };
    let right = detail.task_list.iter().map(span).sum::<u64>() as f64 / 1e6;
    assert_eq!(used(&mut client, 1), (right, 2));

    // A part of the period holds a part of it, and memory is counted as it was held.
    let report = usage(&mut client);
    let middle = detail.task_list[0].finished_at_us.unwrap();
    let before = client.usage(0, middle, true).unwrap();
    let after = client.usage(middle, u64::MAX, true).unwrap();
    let sum = |report: &UsageReport| report.lines.iter().map(|line| line.used.core_s).sum::<f64>();
    assert!((sum(&before) + sum(&after) - sum(&report)).abs() < 1e-6);
    let line = report.lines.iter().find(|line| line.cores == 4).unwrap();
    let shares = &client.job(whole(id)).unwrap().task_list[0].shares;
    let mib = shares[0].memory_bytes as f64 / f64::from(1 << 20);
    assert!((line.used.memory_mib_s - line.used.core_s / 4.0 * mib).abs() < 1e-3, "{line:?}");
    assert!((line.used.node_s - line.used.core_s / 4.0).abs() < 1e-6, "{line:?}");

    // The same figures from the disk alone.
    drop(client);
    controller.kill();
    controller.run();
    let mut client = controller.client();
    assert_eq!(used(&mut client, 4), ended);
    assert_eq!(used(&mut client, 1), (right, 2));
}

#[test]
fn nodes_are_away_while_they_are_down_or_drained_and_empty() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let nodes = |list: &str| muster_client::api::NodesRequest {
        nodes: list.to_owned(),
        reason: "a disk".to_owned(),
        for_s: None,
    };
    // The other node has never come: it is away all the time.
    let report = usage(&mut client);
    assert_eq!((report.capacity.core_s, report.capacity.node_s), (8.0, 2.0));
    let whole_period = (report.until_us - report.since_us) as f64 / 1e6;
    assert!((report.reported.core_s - 8.0 * whole_period).abs() < 1e-6);
    assert!(report.away.node_s >= whole_period - 1e-6 && report.away.node_s < 2.0 * whole_period);

    // What runs on a drained node keeps it in use.
    let id = client.submit(&gang(1)).unwrap().job.unwrap();
    let prepare = rt.block_on(start(&mut node));
    client.drain_nodes(&nodes("n01")).unwrap();
    let history = HistoryReader::open(&controller.folder.path().join("state/muster.db")).unwrap();
    let away = |name: &str| {
        let times = history.away(0, HOUR_US * 24 * 365 * 1000).unwrap();
        times.into_iter().find(|time| time.node == name)
    };
    // It was away until it came.
    let (before, is_open) = away("n01").map_or((0, false), |time| (time.away_us, time.is_open));
    assert!(!is_open);
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    rt.block_on(node.told_to_forget());
    until(&mut client, id, TaskState::Completed);
    assert!(away("n01").unwrap().is_open, "drained, and nothing left on it");
    client.resume_nodes("n01").unwrap();
    let time = away("n01").unwrap();
    assert!(!time.is_open && time.away_us > before, "{time:?}");
    assert!(history.task(JobId(id), muster_core::ids::TaskIndex(0)).unwrap().is_some());
}
