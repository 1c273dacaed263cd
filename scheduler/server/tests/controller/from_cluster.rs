//! The state of a controller that runs, given to the simulator: what if there were another policy, or more nodes?

use muster_client::api::{SubmitRequest, TaskState};
use muster_core::cluster::{Backfill, Order};
use muster_core::ids::JobId;
use muster_core::spec::Request;
use muster_sim::whatif::{Change, forecast, instant, read_state};

use crate::common::{Controller, gang, job, ready, runtime, until};

const HOUR: u64 = 3600;

#[test]
fn a_running_controller_s_state_is_played_forward_as_it_is_and_after_a_change() {
    let controller = Controller::start_with(2, "order = \"fcfs\"\nbackfill = \"none\"\n");
    let rt = runtime();
    let mut client = controller.client();
    let mut nodes = rt.block_on(async { [controller.node("n01").await, controller.node("n02").await] });
    let limit =
        |hours: u64, request: SubmitRequest| SubmitRequest { time_limit_s: Some(hours * HOUR), ..request };
    let runs = client.submit(&limit(2, gang(1))).unwrap().job.unwrap();
    // Nodes with as many free cores are taken in the order of the configuration.
    let prepare = rt.block_on(nodes[0].told_to_prepare());
    rt.block_on(nodes[0].report(ready(&prepare)));
    rt.block_on(nodes[0].told_to_go());
    until(&mut client, runs, TaskState::Running);
    let pair = client.submit(&limit(1, gang(2))).unwrap().job.unwrap();
    let request = Request { ranks: 4, ..Request::default() };
    let short = client.submit(&limit(1, SubmitRequest { request, ..job("short") })).unwrap().job.unwrap();

    let printed = controller.command().arg("--print-state").output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(!text.contains("#!/bin/sh"), "what jobs do is their users' own");
    let file = controller.folder.path().join("state.json");
    std::fs::write(&file, text).unwrap();
    let state = read_state(&file).unwrap();
    let now = instant(&state);
    let starts = |change: &Change| {
        let found = forecast(state.clone(), now, change).unwrap();
        // A second may have passed between the start and the last submit.
        [pair, short].map(|job| found.jobs[&JobId(job)].first_start_s.map(|at| at.div_ceil(60) * 60))
    };
    assert_eq!(starts(&Change::default()), [Some(2 * HOUR), Some(3 * HOUR)], "nothing overtakes");
    let easy = Change { policy: Some((Order::Fcfs, Backfill::Easy)), ..Change::default() };
    assert_eq!(starts(&easy), [Some(2 * HOUR), Some(0)], "the short one has ended before the gang starts");
    let ten = Change { add_nodes: 10, pool: Some("main".to_owned()), ..Change::default() };
    assert_eq!(starts(&ten), [Some(0), Some(0)]);
    assert_eq!(
        client.job(crate::common::whole(short)).unwrap().summary.state,
        TaskState::Waiting,
        "nothing was done"
    );
}

#[test]
fn where_there_is_no_state_that_is_said() {
    let controller = Controller::prepared(1, "");
    let printed = controller.command().arg("--print-state").output().unwrap();
    assert_eq!(printed.status.code(), Some(4));
    let message = String::from_utf8(printed.stderr).unwrap();
    assert!(message.contains("muster.db"), "{message}");
}
