//! The way of an attempt, from its submission to its end.

use std::time::Duration;

use muster_client::api::{SubmitRequest, TaskState};
use muster_core::ids::{JobId, JobRef, TaskIndex};
use muster_core::spec::{ArraySpec, IndexRange};
use muster_store::HistoryReader;
use muster_wire::v1::CommonPart::{AsKept, Here, Keep};
use muster_wire::v1::to_node::Body as Told;
use muster_wire::{Kept, v1};

use crate::common::{
    Controller, SOON, code, exited, gang, gone, hello, job, ready, running, runtime, until, whole,
};

#[test]
fn a_task_goes_its_whole_way() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let id = client.submit(&job("first")).unwrap().job.unwrap();
    assert_eq!(id, 1);
    let prepare = rt.block_on(node.told_to_prepare());
    assert_eq!(prepare.key, Some(v1::AttemptKey { job: 1, task: 0, attempt: 1 }));
    let work = prepare.decode_work().unwrap().unwrap();
    assert_eq!(work.script, b"#!/bin/sh\ntrue\n");
    assert_eq!((work.stdout_path.as_str(), work.stderr_path.as_str()), ("/tmp/muster-1.out", ""));
    assert_eq!((work.job_name.as_str(), work.pool.as_str(), work.time_limit_s), ("first", "main", 3600));
    assert_eq!((prepare.task_count, prepare.array, prepare.cpus_per_rank), (1, false, 1));
    assert_eq!((prepare.number, prepare.cluster.as_str(), prepare.bounds), (1, "test", None));
    assert_eq!(prepare.user.as_ref().unwrap().name, "root");
    assert!(prepare.ssh_private_key.is_empty(), "a task on one node needs no keys");
    assert_eq!(until(&mut client, id, TaskState::Preparing).summary.node_list, "n01");
    rt.block_on(node.report(ready(&prepare)));
    assert_eq!(rt.block_on(node.told_to_go()).peers.len(), 1);
    rt.block_on(node.report(running(&prepare)));
    let detail = until(&mut client, id, TaskState::Running);
    assert_eq!(detail.task_list[0].shares[0].node, "n01");
    assert_eq!(client.why(whole(id)).unwrap().sentences, ["it runs on n01"]);
    rt.block_on(node.report(exited(&prepare, 7, 0)));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    let detail = until(&mut client, id, TaskState::Failed);
    let task = &detail.task_list[0];
    assert_eq!((task.exit_code, task.signal, task.reason.as_str()), (Some(7), None, "exit code 7"));
    // The node's clock is wrong by decades: the script cannot have started before it was submitted.
    assert!(task.started_at_us.unwrap() >= detail.summary.submitted_at_us);
    assert_eq!(task.cpu_time_us, 1_500_000);
    assert_eq!(task.stdout_path, "/tmp/muster-1.out");
    let history = HistoryReader::open(&controller.folder.path().join("state/muster.db")).unwrap();
    let row = history.job(JobId(1)).unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.user.as_str()), ("failed", "root"));
    let row = &history.tasks(JobId(1), 9).unwrap()[0];
    assert_eq!((row.exit_code, row.nodes.as_str(), row.cores), (Some(7), "n01", 1));
}

#[test]
fn a_gang_is_prepared_on_all_its_nodes_before_it_starts() {
    let controller = Controller::start(2);
    let rt = runtime();
    let mut client = controller.client();
    let id = client.submit(&gang(2)).unwrap().job.unwrap();
    let (mut one, mut two) =
        rt.block_on(async { (controller.node("n01").await, controller.node("n02").await) });
    let (first, second) = rt.block_on(async { (one.told_to_prepare().await, two.told_to_prepare().await) });
    let (primary, other) = if first.instance == 0 { (&first, &second) } else { (&second, &first) };
    assert_eq!(primary.members.len(), 2);
    assert_eq!(primary.members[0].cores, [0, 1, 2, 3]);
    assert_eq!(primary.gang_token, other.gang_token);
    assert!(!primary.gang_token.is_empty());
    assert!(primary.ssh_private_key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    assert!(other.ssh_private_key.is_empty(), "only the primary holds the key");
    assert!(other.ssh_authorized_key.starts_with("ssh-ed25519 "));
    assert!(other.decode_work().unwrap().unwrap().script.is_empty(), "only the primary holds the script");
    rt.block_on(one.report(ready(&first)));
    rt.block_on(two.report(ready(&second)));
    let (go_one, go_two) = rt.block_on(async { (one.told_to_go().await, two.told_to_go().await) });
    let (to_primary, to_other) = if first.instance == 0 { (go_one, go_two) } else { (go_two, go_one) };
    let ports = |go: &v1::Go| go.peers.iter().map(|peer| peer.ssh_port).collect::<Vec<_>>();
    assert_eq!(ports(&to_primary), [2200, 2201]);
    assert_eq!(ports(&to_other), [2200], "the other needs to know where the primary is");
    assert_eq!(to_primary.key, to_other.key);
    let why = client.why(JobRef { job: JobId(id), task: None }).unwrap();
    assert_eq!(why.state, TaskState::Running);
    client.cancel(whole(id)).unwrap();
    let stop = rt.block_on(one.told_to_stop());
    assert_eq!((stop.grace_ms, stop.reason.as_str()), (5000, "cancelled by user id 0"));
    rt.block_on(two.told_to_stop());
    let stopped = || v1::gone::How::Stopped(v1::Stopped {});
    rt.block_on(one.report(gone(&first, stopped())));
    rt.block_on(two.report(gone(&second, stopped())));
    let detail = until(&mut client, id, TaskState::Cancelled);
    assert_eq!(detail.summary.reason, "cancelled by root");
    assert_eq!(detail.task_list[0].cpu_time_us, 3_000_000);
}

#[test]
fn a_killed_controller_goes_on_where_it_was() {
    let mut controller = Controller::start(2);
    let rt = runtime();
    let id = controller.client().submit(&gang(2)).unwrap().job.unwrap();
    let (mut one, mut two) =
        rt.block_on(async { (controller.node("n01").await, controller.node("n02").await) });
    let (first, second) = rt.block_on(async { (one.told_to_prepare().await, two.told_to_prepare().await) });
    rt.block_on(one.report(ready(&first)));
    until(&mut controller.client(), id, TaskState::Preparing);
    controller.kill();
    controller.run();
    // The first node holds its instance; the second lost the order on the way and hears it again.
    let mut one = rt.block_on(controller.node_holding("n01", vec![ready(&first)]));
    let mut two = rt.block_on(controller.node("n02"));
    let again = rt.block_on(two.told_to_prepare());
    assert_eq!(again, second, "secrets and all else are the same after the restart");
    rt.block_on(two.report(ready(&again)));
    rt.block_on(async { (one.told_to_go().await, two.told_to_go().await) });
    let primary = if first.instance == 0 { &first } else { &second };
    let (node_p, node_o) = if first.instance == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
    rt.block_on(node_p.report(running(primary)));
    until(&mut controller.client(), id, TaskState::Running);
    controller.kill();
    controller.run();
    let other = if first.instance == 0 { &second } else { &first };
    let (name_p, name_o) = (node_p.name.clone(), node_o.name.clone());
    let mut node_o = rt.block_on(controller.node_holding(&name_o, vec![ready(other)]));
    // The script ended while the controller was away.
    let mut node_p = rt.block_on(controller.node_holding(&name_p, vec![exited(primary, 0, 0)]));
    rt.block_on(async {
        // What was lost on the way may be said again before the news of the end.
        while !matches!(node_o.told().await, Told::Stop(_)) {}
        node_o.report(gone(other, v1::gone::How::Stopped(v1::Stopped {}))).await;
        while !matches!(node_p.told().await, Told::Forget(_)) {}
        while !matches!(node_o.told().await, Told::Forget(_)) {}
    });
    let detail = until(&mut controller.client(), id, TaskState::Completed);
    assert_eq!(detail.task_list[0].attempt, 1, "it ran once");
}

#[test]
fn who_waits_for_an_end_is_answered_at_the_end_alone() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let indices = vec![IndexRange { first: 0, last: 1, step: 1 }];
    let array = Some(ArraySpec { indices, running_max: Some(1) });
    let id = client.submit(&SubmitRequest { array, ..job("array") }).unwrap().job.unwrap();
    let of = move |index| JobRef { job: JobId(id), task: Some(TaskIndex(index)) };
    let (mut first, mut all) = (controller.client(), controller.client());
    let first = std::thread::spawn(move || first.wait_finished(of(0), Some(SOON)));
    let all = std::thread::spawn(move || all.wait_finished(whole(id), Some(SOON)));
    let mut run = || {
        let prepare = rt.block_on(node.told_to_prepare());
        rt.block_on(node.report(ready(&prepare)));
        rt.block_on(node.told_to_go());
        rt.block_on(node.report(running(&prepare)));
        rt.block_on(node.report(exited(&prepare, 0, 0)));
        rt.block_on(node.told_to_forget());
    };
    run();
    let ended = first.join().unwrap().unwrap().expect("task 0 has ended");
    assert_eq!((ended.task_list.len(), ended.task_list[0].state), (1, TaskState::Completed));
    // Of the rest nothing is known yet, which is no end, and what is not there never ends.
    assert!(client.wait_finished(whole(id), Some(Duration::ZERO)).unwrap().is_none());
    assert!(client.wait_finished(of(1), Some(Duration::ZERO)).unwrap().is_none());
    let unknown = client.wait_finished(of(2), None).unwrap_err();
    assert_eq!(code(&unknown).0, 404, "{unknown}");
    run();
    let ended = all.join().unwrap().unwrap().expect("all have ended");
    assert_eq!((ended.task_list.len(), ended.summary.state), (2, TaskState::Completed));
    assert_eq!(client.wait_finished(of(1), None).unwrap().unwrap().task_list[0].index, 1);
    // One answer for each of the six, whatever happened meanwhile.
    let requests = client.diagnostics().unwrap().requests;
    let waits = requests.iter().find(|request| request.what == "GET /v1/jobs/{ref}/wait").unwrap();
    assert_eq!(waits.count, 6);
}

#[test]
fn an_array_is_shown_as_its_worst_task_and_says_why_the_last_such_one_ended() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let indices = vec![IndexRange { first: 0, last: 4, step: 1 }];
    let array = Some(ArraySpec { indices, running_max: Some(1) });
    let id = client.submit(&SubmitRequest { array, ..job("array") }).unwrap().job.unwrap();
    for (code, out_of_memory) in [(0, false), (7, false), (0, false), (8, false), (1, true)] {
        let prepare = rt.block_on(node.told_to_prepare());
        rt.block_on(node.report(ready(&prepare)));
        rt.block_on(node.told_to_go());
        let how = v1::gone::How::Exited(v1::Exited { code, signal: 0, out_of_memory });
        rt.block_on(node.report(gone(&prepare, how)));
        rt.block_on(node.told_to_forget());
    }
    let ended = client.wait_finished(whole(id), Some(SOON)).unwrap().expect("all have ended");
    let first = ended.task_list.iter().filter_map(|task| task.started_at_us).min();
    let ended = ended.summary;
    let counts = [(TaskState::Completed, 2), (TaskState::Failed, 2), (TaskState::OutOfMemory, 1)];
    assert_eq!(ended.tasks.into_iter().collect::<Vec<_>>(), counts);
    assert_eq!((ended.state, ended.reason.as_str()), (TaskState::Failed, "exit code 8"));
    assert!(first.is_some() && ended.started_at_us == first, "{first:?}");
}

#[test]
fn what_an_arrays_tasks_have_in_common_is_told_once_in_a_session_to_a_node_that_keeps_it() {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let indices = vec![IndexRange { first: 0, last: 9, step: 1 }];
    let array = Some(ArraySpec { indices, running_max: Some(1) });
    client.submit(&SubmitRequest { array, ..job("array") }).unwrap();
    let told = |keeps_common, tasks: usize| {
        rt.block_on(async {
            let hello = v1::Hello { keeps_common, ..hello("n01", Vec::new()) };
            let mut node = controller.node_saying(hello).await;
            let (mut kept, mut all) = (Kept::default(), Vec::new());
            while all.len() < tasks {
                let Told::Prepare(mut prepare) = node.told().await else { continue };
                all.push(prepare.common());
                kept.complete(&mut prepare).unwrap();
                let work = prepare.decode_work().unwrap().unwrap();
                assert_eq!((prepare.user.as_ref().unwrap().name.as_str(), work.script.len()), ("root", 15));
                let task = prepare.key.unwrap().task;
                assert_eq!(work.stdout_path, format!("/tmp/muster-1_{task}.out"));
                node.report(exited(&prepare, 0, 0)).await;
            }
            all
        })
    };
    assert_eq!(told(true, 3), [Keep, AsKept, AsKept]);
    assert_eq!(told(false, 2), [Here, Here], "it is of a version that does not know of it");
    assert_eq!(told(true, 2), [Keep, AsKept], "another session keeps nothing of the last one");
}
