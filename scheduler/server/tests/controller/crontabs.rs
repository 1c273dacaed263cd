//! Recurring jobs: kept through crashes, run once for each instant, and nobody else's to change.

use std::time::Duration;

use muster_client::api::{CronEntryRequest, CrontabRequest, SubmitRequest, TaskState};
use muster_core::cron::Schedule;
use muster_core::ids::{JobId, JobRef};
use muster_wire::v1::to_node::Body as Told;

use crate::common::{Controller, code, exited, job, ready, runtime, until, whole};

/// Longer than from one minute to the next.
const A_MINUTE: Duration = Duration::from_secs(75);

fn table(entries: &[(&str, SubmitRequest)]) -> CrontabRequest {
    let entry = |(line, (schedule, job)): (u32, &(&str, SubmitRequest))| CronEntryRequest {
        first_line: line,
        last_line: line,
        schedule: Schedule::read(schedule).unwrap(),
        job: job.clone(),
    };
    CrontabRequest { text: "what was written\n".to_owned(), entries: (1..).zip(entries).map(entry).collect() }
}

/// The job of the only entry, and the instant that it is for.
fn only(client: &mut muster_client::Client) -> (u64, u64) {
    let view = client.crontab(None).unwrap();
    let [entry] = view.entries.as_slice() else { panic!("{view:?}") };
    (entry.job.unwrap(), entry.begin_us.unwrap())
}

#[test]
fn a_crash_loses_no_run_and_doubles_none() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let set = client.set_crontab(None, &table(&[("* * * * *", job("tick"))])).unwrap();
    assert_eq!(set.entries.len(), 1);
    let (id, begin) = only(&mut client);
    assert_eq!(begin % 60_000_000, 0);
    let waits = client.job(whole(id)).unwrap();
    assert_eq!(waits.summary.reason_code, "begin_time", "{waits:?}");

    controller.kill();
    controller.run();
    let mut client = controller.client();
    assert_eq!(only(&mut client), (id, begin), "it is the same job for the same instant");
    assert_eq!(client.crontab(None).unwrap().text.as_deref(), Some("what was written\n"));

    // It starts at its instant, not before.
    let mut node = rt.block_on(controller.node("n01"));
    let told = rt.block_on(node.next_within(A_MINUTE)).expect("the minute must come");
    let Told::Prepare(prepare) = told else { panic!("{told:?}") };
    assert_eq!(prepare.key.unwrap().job, id);
    // A connection that nothing was asked over for half a minute has been closed.
    let mut client = controller.client();
    let task = client.job(whole(id)).unwrap().task_list[0].clone();
    let placed = task.placed_at_us.unwrap();
    assert!(placed >= begin, "{placed} {begin}");
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    rt.block_on(node.told_to_forget());
    until(&mut client, id, TaskState::Completed);

    // The end and the next job are one transaction: whenever it crashes, there is one of them.
    controller.kill();
    controller.run();
    let mut client = controller.client();
    let (next, later) = only(&mut client);
    assert_eq!((next, later % 60_000_000), (id + 1, 0));
    assert!(later > begin && later > placed);
    assert_eq!(
        client.jobs(&muster_client::JobFilter { all: true, ..Default::default() }).unwrap().jobs.len(),
        2
    );
}

#[test]
fn a_table_is_changed_by_its_owner_as_a_whole() {
    let controller = Controller::start(1);
    let mut client = controller.client();
    let too_wide = SubmitRequest {
        request: muster_core::spec::Request { ranks: 99, ..Default::default() },
        ..job("wide")
    };
    client.set_crontab(None, &table(&[("@yearly", job("rare"))])).unwrap();
    let (id, _) = only(&mut client);
    let error = client.set_crontab(None, &table(&[("@daily", job("a")), ("@daily", too_wide)])).unwrap_err();
    assert_eq!(code(&error), (400, "crontab_line"));
    assert!(error.to_string().contains("line 2 of the crontab"), "{error}");
    assert_eq!(only(&mut client).0, id, "nothing has changed");

    let error = client.cancel(whole(id)).unwrap_err();
    assert_eq!(code(&error), (400, "recurring"));
    assert_eq!(client.stop_cron(whole(id)).unwrap().tasks, 1);
    let entry = client.crontab(None).unwrap().entries.remove(0);
    assert!(entry.job.is_none() && entry.stopped.is_some_and(|why| why.contains("was cancelled")));
    let error = client.stop_cron(JobRef { job: JobId(id), task: None }).unwrap_err();
    assert_eq!(code(&error), (409, "not_recurring"));

    // Root may have one for somebody else, whose jobs run as them.
    let set = client.set_crontab(Some("daemon"), &table(&[("@weekly", job("theirs"))])).unwrap();
    let theirs = client.job(whole(set.entries[0].job.unwrap())).unwrap();
    assert_eq!((set.user.as_str(), theirs.summary.user.as_str()), ("daemon", "daemon"));
    assert_eq!(code(&client.crontab(Some("no-such-user")).unwrap_err()), (404, "unknown_user"));
    client.remove_crontab(Some("daemon")).unwrap();
    client.remove_crontab(Some("daemon")).unwrap();
    assert_eq!(client.crontab(Some("daemon")).unwrap().text, None);
    until(&mut client, theirs.summary.job, TaskState::Cancelled);
}
