//! The system's clock is set while the controller runs, by libfaketime, which the controller is started with.

use std::path::{Path, PathBuf};

use muster_client::Client;
use muster_client::api::{SubmitRequest, TaskState};
use muster_wire::v1;
use tokio::runtime::Runtime;

use crate::common::{Controller, Node, gone, job, ready, running, runtime, until, whole};

/// A controller whose system's clock is what a file says.
struct Clocked {
    controller: Controller,
    file: PathBuf,
}

/// The variant for programs with threads.
fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime must be installed: .ci/deps.sh does it")
}

impl Clocked {
    fn start() -> Self {
        let controller = Controller::prepared(1, "");
        let file = controller.folder.path().join("clock");
        let mut clocked = Self { controller, file };
        clocked.set("+0");
        clocked.run();
        clocked
    }

    fn run(&mut self) {
        let mut command = self.controller.command();
        command.env("LD_PRELOAD", libfaketime()).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        self.controller.run_command(command);
    }

    /// Sets the clock to the true time and `offset`, as faketime(1) writes it.
    fn set(&self, offset: &str) {
        // Renamed, so that it is never read half written.
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}

async fn start(node: &mut Node) -> v1::Prepare {
    let prepare = node.told_to_prepare().await;
    node.report(ready(&prepare)).await;
    node.told_to_go().await;
    node.report(running(&prepare)).await;
    prepare
}

/// Submits a task with a limit of two seconds, and waits until the node is told to end it.
fn runs_into_its_limit(rt: &Runtime, client: &mut Client, node: &mut Node) -> u64 {
    let short = SubmitRequest { time_limit_s: Some(2), ..job("short") };
    let id = client.submit(&short).unwrap().job.unwrap();
    rt.block_on(async {
        let prepare = start(node).await;
        assert_eq!(node.told_to_stop().await.key, prepare.key);
        node.report(gone(&prepare, v1::gone::How::Stopped(v1::Stopped {}))).await;
        node.told_to_forget().await;
    });
    let detail = until(client, id, TaskState::TimedOut);
    assert!(detail.task_list[0].reason.contains("time limit"), "{}", detail.task_list[0].reason);
    id
}

fn stored_well(config: &Path) {
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_musterd"));
    let output = check.args(["store", "check", "--config"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_clock_that_is_set_ahead_ends_nothing_and_one_that_is_set_back_stops_nothing() {
    let mut clocked = Clocked::start();
    let rt = runtime();
    let mut client = clocked.controller.client();
    let mut node = rt.block_on(clocked.controller.node("n01"));
    let hour = SubmitRequest { time_limit_s: Some(3600), ..job("an hour") };
    let long = client.submit(&hour).unwrap().job.unwrap();
    let prepare = rt.block_on(start(&mut node));
    let mut submitted_at_us = 0;
    for offset in ["+12h", "-12h"] {
        clocked.set(offset);
        let short = runs_into_its_limit(&rt, &mut client, &mut node);
        let summary = client.job(whole(short)).unwrap().summary;
        assert!(summary.submitted_at_us > submitted_at_us, "time never goes back");
        submitted_at_us = summary.submitted_at_us;
        assert_eq!(client.job(whole(long)).unwrap().summary.state, TaskState::Running, "{offset}");
    }
    // A start at which the clock is behind goes on where the journal ended.
    clocked.controller.kill();
    clocked.run();
    stored_well(&clocked.controller.config());
    let mut client = clocked.controller.client();
    let mut node = rt.block_on(clocked.controller.node_holding("n01", vec![running(&prepare)]));
    let short = runs_into_its_limit(&rt, &mut client, &mut node);
    assert!(client.job(whole(short)).unwrap().summary.submitted_at_us > submitted_at_us);
    assert_eq!(client.job(whole(long)).unwrap().summary.state, TaskState::Running);
    stored_well(&clocked.controller.config());
}
