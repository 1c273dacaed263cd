//! Why a task waits, who holds what it lacks, and when it is expected to start.

use muster_client::JobFilter;
use muster_client::api::{SubmitRequest, TaskState};
use muster_core::spec::{ArraySpec, IndexRange, Request};

use crate::common::{Controller, gang, job, ready, runtime, until, whole};

const HOUR_US: u64 = 3_600_000_000;

#[test]
fn who_waits_learns_who_holds_what_it_lacks_and_until_when() {
    let controller = Controller::start(3);
    let rt = runtime();
    let mut client = controller.client();
    let mut nodes = rt.block_on(async { [controller.node("n01").await, controller.node("n02").await] });
    let pair = client.submit(&SubmitRequest { time_limit_s: Some(7200), ..gang(2) }).unwrap().job.unwrap();
    for node in &mut nodes {
        let prepare = rt.block_on(node.told_to_prepare());
        rt.block_on(node.report(ready(&prepare)));
    }
    for node in &mut nodes {
        rt.block_on(node.told_to_go());
    }
    let running = until(&mut client, pair, TaskState::Running);
    let head = client.submit(&gang(2)).unwrap().job.unwrap();
    let next = client.submit(&job("next")).unwrap().job.unwrap();
    let three = client.submit(&gang(3)).unwrap().job.unwrap();

    let why = client.why(whole(head)).unwrap();
    let short = why.shortage.unwrap();
    assert_eq!(
        (why.code.as_str(), short.nodes_needed, short.nodes_free, short.cores_free),
        ("resources", 2, 0, 0)
    );
    let held = why.holders.unwrap();
    assert!(held.counted_on);
    let holder = &held.jobs[0];
    assert_eq!((holder.task.as_str(), holder.user.as_str()), (pair.to_string().as_str(), "root"));
    assert_eq!((holder.tasks, holder.nodes, holder.cores, held.others), (1, 2, 8, 0));
    let end = holder.until_us.unwrap();
    assert_eq!((why.expected_start_us, held.until_us), (Some(end), Some(end)));
    let placed = running.task_list[0].placed_at_us.unwrap();
    assert!((placed + 2 * HOUR_US..placed + 2 * HOUR_US + 20_000_000).contains(&end));

    let why = client.why(whole(next)).unwrap();
    let held = why.holders.unwrap();
    assert!(!held.counted_on && held.jobs[0].task == pair.to_string(), "{held:?}");
    assert_eq!(why.expected_start_us, Some(end + HOUR_US), "after the gang before it");

    let why = client.why(whole(three)).unwrap();
    let away = why.nodes_away.unwrap();
    assert_eq!((why.code.as_str(), away.nodes[0].node.as_str(), away.others), ("nodes_away", "n03", 0));
    assert!(away.nodes[0].reason.contains("has not said hello"), "{away:?}");
    assert_eq!(why.expected_start_us, None);

    let list = client.jobs(&JobFilter { starts: true, ..JobFilter::default() }).unwrap();
    let starts: Vec<Option<u64>> = list.jobs.iter().map(|job| job.expected_start_us).collect();
    assert_eq!(starts, [None, Some(end), Some(end + HOUR_US), None]);
    let plain = client.jobs(&JobFilter::default()).unwrap();
    assert!(plain.jobs.iter().all(|job| job.expected_start_us.is_none()), "only on demand");
}

#[test]
fn what_is_kept_for_another_says_for_whom() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let mut nodes = rt.block_on(async { [controller.node("n01").await, controller.node("n02").await] });
    let indices = vec![IndexRange { first: 0, last: 2, step: 1 }];
    let sweep = SubmitRequest { array: Some(ArraySpec { indices, running_max: None }), ..job("sweep") };
    let sweep = client.submit(&sweep).unwrap().job.unwrap();
    // All three elements are packed onto one node, so the other stays free for a part of the gang.
    for node in &mut nodes[..1] {
        rt.block_on(node.told_to_prepare());
    }
    let head = client.submit(&gang(2)).unwrap().job.unwrap();
    let long = SubmitRequest {
        time_limit_s: Some(86_400),
        request: Request { ranks: 4, ..Request::default() },
        ..job("long")
    };
    let long = client.submit(&long).unwrap().job.unwrap();
    let first = client.why(whole(head)).unwrap();
    let held = first.holders.unwrap();
    assert_eq!(
        (held.jobs[0].task.clone(), held.jobs[0].tasks, held.jobs[0].cores),
        (sweep.to_string(), 3, 3)
    );
    let why = client.why(whole(long)).unwrap();
    let kept_for = why.kept_for.unwrap();
    assert_eq!((why.code.as_str(), kept_for.job), ("priority", head));
    assert_eq!(kept_for.expected_start_us, first.expected_start_us);
    assert!(why.expected_start_us > first.expected_start_us);
}
