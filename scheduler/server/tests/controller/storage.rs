//! What is stored survives kills and full disks.

use muster_client::ClientError;
use muster_client::JobFilter;
use muster_client::api::TaskState;
use muster_core::ids::JobId;
use muster_core::ids::JobRef;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Controller, SOON, code, exited, job, ready, running, runtime, until, whole};

/// A controller whose files may grow to 1 MiB; what goes beyond fails, rather than killing it by SIGXFSZ.
fn with_a_small_disk() -> Controller {
    let mut controller = Controller::prepared(1, "");
    let mut command = std::process::Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f 2048; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_musterd"), "--config"]).arg(controller.config());
    command.stderr(Stdio::null());
    controller.run_command(command);
    controller
}

/// Submits large jobs until one is refused. Gives the ids of the others, and the refusal.
fn fill_disk(client: &mut muster_client::Client) -> (Vec<u64>, ClientError) {
    let mut accepted = Vec::new();
    loop {
        let large = format!("#!/bin/sh\n#{}", "x".repeat(20_000));
        let request = muster_client::api::SubmitRequest { script: large, ..job("large") };
        match client.submit(&request) {
            Ok(answer) => accepted.push(answer.job.unwrap()),
            Err(error) => return (accepted, error),
        }
        assert!(accepted.len() < 1000, "the disk must fill up");
    }
}

fn make_room(controller: &Controller) {
    let limit = std::process::Command::new("prlimit")
        .args(["--fsize=unlimited:", "--pid", &controller.pid().to_string()])
        .status()
        .unwrap();
    assert!(limit.success());
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost() {
    let mut controller = with_a_small_disk();
    let mut client = controller.client();
    let (mut accepted, refused) = fill_disk(&mut client);
    assert_eq!(code(&refused), (503, "not_stored"));
    let listed = |client: &mut muster_client::Client| {
        client.jobs(&JobFilter::default()).unwrap().jobs.iter().map(|job| job.job).collect::<Vec<_>>()
    };
    assert_eq!(listed(&mut client), accepted, "what was refused is not shown");
    make_room(&controller);
    accepted.push(client.submit(&job("after")).unwrap().job.unwrap());
    assert_eq!(listed(&mut client), accepted);
    controller.kill();
    controller.run();
    assert_eq!(listed(&mut controller.client()), accepted);
    let expected: Vec<u64> = (1..=accepted.len() as u64).collect();
    assert_eq!(accepted, expected, "no id is used for what did not happen");
}

#[test]
fn what_nodes_report_while_the_disk_is_full_is_heard_once_there_is_room() {
    let controller = with_a_small_disk();
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let mut request = job("reports");
    request.request.cores_per_rank = 4;
    let id = client.submit(&request).unwrap().job.unwrap();
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    until(&mut client, id, TaskState::Running);
    fill_disk(&mut client);
    // A last small record may still fit where a large one did not: repeated until it does not either.
    while client.submit(&job("small")).is_ok() {}
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    let status = rt.block_on(node.next()).unwrap_err();
    assert_eq!(status.message(), "the controller could not store what it heard");
    assert_eq!(
        client.job(whole(id)).unwrap().summary.state,
        TaskState::Running,
        "nothing undurable is shown"
    );
    make_room(&controller);
    let mut node = rt.block_on(controller.node_holding("n01", vec![exited(&prepare, 0, 0)]));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    assert_eq!(client.job(whole(id)).unwrap().summary.state, TaskState::Completed);
}

#[test]
fn no_accepted_job_is_lost_by_kills_at_any_instant() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let mut controller = Controller::start(1);
    let accepted = AtomicU64::new(0);
    for round in 0..6u64 {
        let socket = controller.socket();
        let goal = accepted.load(Ordering::SeqCst) + 3 + (round * 31) % 17;
        std::thread::scope(|scope| {
            for thread in 0..3u64 {
                let (accepted, socket) = (&accepted, &socket);
                scope.spawn(move || {
                    let options = muster_client::Options {
                        retry: Duration::ZERO,
                        ..muster_client::Options::new(socket)
                    };
                    let Ok(mut client) = muster_client::Client::connect_with(options) else { return };
                    for number in 0.. {
                        let request_key = Some(format!("{round} {thread} {number}"));
                        let request = muster_client::api::SubmitRequest { request_key, ..job("kept") };
                        let Ok(answer) = client.submit(&request) else { return };
                        accepted.fetch_max(answer.job.unwrap(), Ordering::SeqCst);
                    }
                });
            }
            let end = std::time::Instant::now() + SOON;
            while accepted.load(Ordering::SeqCst) < goal {
                assert!(std::time::Instant::now() < end, "jobs must be accepted");
                std::thread::yield_now();
            }
            controller.kill();
        });
        controller.run();
        let jobs = controller.client().jobs(&JobFilter::default()).unwrap().jobs;
        let ids: Vec<u64> = jobs.iter().map(|job| job.job).collect();
        let last = accepted.load(Ordering::SeqCst);
        assert!(ids.len() as u64 >= last, "{last} were accepted, {} are there", ids.len());
        assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn jobs_that_left_the_memory_are_answered_from_the_accounting() {
    // The least number of finished jobs that the configuration lets the memory keep.
    const KEPT: u64 = 4096;
    let controller = Controller::start(1);
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace("[policy]", &format!("[policy]\nfinished_jobs_kept = {KEPT}"));
    std::fs::write(controller.config(), text).unwrap();
    controller.signal(nix::sys::signal::Signal::SIGHUP);
    let mut client = controller.client();
    let array = muster_core::spec::ArraySpec {
        indices: vec![muster_core::spec::IndexRange { first: 0, last: 900_000, step: 3 }],
        running_max: None,
    };
    let first = muster_client::api::SubmitRequest { array: Some(array), ..job("first") };
    client.submit(&first).unwrap();
    assert_eq!(client.cancel(whole(1)).unwrap().tasks, 300_001);
    let in_memory = client.job(whole(1)).unwrap();
    assert_eq!(in_memory.summary.tasks[&TaskState::Cancelled], 300_001);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = controller.client();
                for _ in 0..KEPT / 8 + 1 {
                    let id = client.submit(&job("many")).unwrap().job.unwrap();
                    client.cancel(whole(id)).unwrap();
                }
            });
        }
    });
    let past = client.job(whole(1)).unwrap();
    assert_eq!(past.version, 0, "it comes from the accounting");
    assert_eq!(past.summary, in_memory.summary);
    assert_eq!(past.task_list.len(), 1, "a cancelled range is one row");
    let task = JobRef { job: JobId(1), task: Some(muster_core::ids::TaskIndex(300)) };
    let past = client.job(task).unwrap();
    assert_eq!((past.task_list[0].index, past.task_list[0].state), (300, TaskState::Cancelled));
    let task = JobRef { job: JobId(1), task: Some(muster_core::ids::TaskIndex(301)) };
    assert_eq!(code(&client.job(task).unwrap_err()), (404, "unknown_job"));
    assert_eq!(code(&client.cancel(whole(1)).unwrap_err()), (409, "already_ended"));
    let all = client.jobs(&JobFilter { all: true, ..JobFilter::default() }).unwrap().jobs;
    assert_eq!(all.len() as u64, 1 + 8 * (KEPT / 8 + 1));
    assert_eq!(all[0].name, "first");
}
