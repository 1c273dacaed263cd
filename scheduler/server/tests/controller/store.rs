//! `musterd store` on the journal of a real controller.

use std::process::Output;

use muster_client::api::TaskState;
use muster_core::ids::JobRef;
use serde_json::Value;

use crate::common::{Controller, exited, job, ready, running, runtime, until, whole};

fn store(controller: &Controller, arguments: &[&str]) -> Output {
    controller.command().arg("store").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A controller with a job that completed, one that runs and one that was cancelled.
fn with_work() -> Controller {
    let controller = Controller::start(1);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    for (id, ends) in [(1, true), (2, false)] {
        client.submit(&job("work")).unwrap();
        let prepare = rt.block_on(node.told_to_prepare());
        rt.block_on(node.report(ready(&prepare)));
        rt.block_on(node.told_to_go());
        rt.block_on(node.report(running(&prepare)));
        if ends {
            rt.block_on(node.report(exited(&prepare, 0, 0)));
            rt.block_on(node.told_to_forget());
            until(&mut client, id, TaskState::Completed);
        }
    }
    let mut held = job("held");
    held.eligibility.hold = true;
    client.submit(&held).unwrap();
    let target: JobRef = whole(3);
    client.cancel(target).unwrap();
    controller
}

#[test]
fn the_journal_and_the_accounting_of_a_controller_agree() {
    let mut controller = with_work();
    let live = store(&controller, &["check", "--json"]);
    assert_eq!(live.status.code(), Some(0), "{}", text(&live));
    let report = json(&live);
    assert_eq!((&report["version"], &report["findings"]), (&1.into(), &Value::Array(vec![])));
    assert_eq!(report["state"]["next_job"], 4);
    let refused = store(&controller, &["repair", "--yes"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused));
    assert!(text(&refused).contains("is locked by another process"), "{}", text(&refused));
    controller.kill();
    let killed = store(&controller, &["check"]);
    assert_eq!(killed.status.code(), Some(0), "{}", text(&killed));
    assert!(text(&killed).contains("muster.db: in order"), "{}", text(&killed));
    controller.run();
    assert!(controller.stop().success());
    let stopped = store(&controller, &["check"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", text(&stopped));
    let nothing = store(&controller, &["repair"]);
    assert_eq!(nothing.status.code(), Some(0));
    assert!(text(&nothing).contains("nothing is damaged"), "{}", text(&nothing));
}

#[test]
fn a_damaged_journal_is_refused_checked_repaired_and_started_again() {
    let mut controller = with_work();
    controller.kill();
    let database = controller.folder.path().join("state/muster.db");
    let log = controller.folder.path().join("state/muster.db-wal");
    let lost = std::fs::metadata(&log).unwrap().len() - 2 * 4120;
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(lost).unwrap();
    let refused = controller.command().output().unwrap();
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused).contains("were acknowledged and are missing"), "{}", text(&refused));
    assert_eq!(std::fs::metadata(&log).unwrap().len(), lost, "the log stays as it is");
    let checked = store(&controller, &["check"]);
    assert_eq!(checked.status.code(), Some(6), "{}", text(&checked));
    let planned = store(&controller, &["repair"]);
    assert_eq!(planned.status.code(), Some(6), "{}", text(&planned));
    assert!(text(&planned).contains("Say --yes to do it"), "{}", text(&planned));
    let repaired = store(&controller, &["repair", "--yes", "--json"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", text(&repaired));
    let repaired = json(&repaired);
    assert_eq!(repaired["database"], database.to_str().unwrap());
    let copy = std::path::PathBuf::from(repaired["copy"].as_str().unwrap());
    assert_eq!(std::fs::metadata(copy.join("muster.db-wal")).unwrap().len(), lost);
    controller.run();
    let id = controller.client().submit(&job("after")).unwrap().job.unwrap();
    assert!(id >= 4, "{id} must not be an id that was shown before");
    let exported = controller.folder.path().join("all.jsonl");
    let export = store(&controller, &["export", exported.to_str().unwrap()]);
    assert_eq!(export.status.code(), Some(0), "{}", text(&export));
    let lines = std::fs::read_to_string(&exported).unwrap();
    assert!(lines.lines().last().unwrap().contains(r#""type":"end""#));
    let again = store(&controller, &["export", exported.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "no file is overwritten");
}
