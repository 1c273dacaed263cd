//! A disk that is really full: the state directory on a small file system of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use muster_client::api::{SubmitRequest, TaskState};
use muster_client::{Client, JobFilter};

use crate::common::{Controller, code, exited, job, ready, running, runtime, until, whole};

/// A mount namespace with a small tmpfs on the state directory, which lives as long as this.
struct SmallDisk {
    keeper: Child,
    state: PathBuf,
}

impl SmallDisk {
    /// None, with a message, where the kernel does not allow it.
    fn below(controller: &Controller, size: &str) -> Option<Self> {
        let state = controller.folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size},mode=0700 none '{}' && echo there && exec cat",
            state.display()
        );
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.trim() != "there" {
            let _ = keeper.wait();
            eprintln!(
                "skipped: a file system can be mounted by root only, with unshare and mount of util-linux"
            );
            return None;
        }
        // Another process reaches the file system through the root directory of one that sees it.
        let state = PathBuf::from(format!("/proc/{}/root{}", keeper.id(), state.display()));
        Some(Self { keeper, state })
    }

    /// The program, run where the file system is.
    fn command(&self, controller: &Controller) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.keeper.id().to_string(), env!("CARGO_BIN_EXE_musterd")]);
        command.arg("--config").arg(controller.config()).stderr(Stdio::null());
        command
    }

    /// Takes up room that can be given back.
    fn fill(&self, bytes: usize) {
        std::fs::write(self.state.join("filling"), vec![b'x'; bytes]).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.state.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Submits until nothing fits any more, large jobs first and then small ones. Gives the ids that were shown.
fn fill_up(client: &mut Client) -> Vec<u64> {
    let mut accepted = Vec::new();
    for bytes in [100_000, 10_000, 10] {
        loop {
            let mut request =
                SubmitRequest { script: format!("#!/bin/sh\n#{}", "x".repeat(bytes)), ..job("fills") };
            request.eligibility.hold = true;
            match client.submit(&request) {
                Ok(answer) => accepted.push(answer.job.unwrap()),
                Err(refused) => {
                    assert_eq!(code(&refused), (503, "not_stored"));
                    let text = refused.to_string();
                    assert!(text.contains("is full: make room there; nothing is lost meanwhile"), "{text}");
                    break;
                }
            }
            assert!(accepted.len() < 5000, "the disk must fill up");
        }
    }
    accepted
}

fn listed(client: &mut Client) -> Vec<u64> {
    let filter = JobFilter { all: true, ..JobFilter::default() };
    client.jobs(&filter).unwrap().jobs.iter().map(|job| job.job).collect()
}

#[test]
fn a_full_file_system_stops_what_is_new_keeps_what_runs_and_is_got_over() {
    let mut controller = Controller::prepared(1, "");
    let Some(disk) = SmallDisk::below(&controller, "12m") else { return };
    controller.run_command(disk.command(&controller));
    // The certificates were made in the small file system.
    let visible = controller.folder.path().join("state/tls");
    copy_folder(&disk.state.join("tls"), &visible);
    // Once it is given back, there is room for all of the write-ahead log in the database.
    disk.fill(7 << 20);
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let runs = client.submit(&job("runs")).unwrap().job.unwrap();
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    until(&mut client, runs, TaskState::Running);
    let mut shown = vec![runs];
    shown.extend(fill_up(&mut client));
    assert!(shown.len() > 10, "{shown:?}");
    assert_eq!(client.job(whole(runs)).unwrap().summary.state, TaskState::Running, "what runs, runs on");
    assert_eq!(listed(&mut client), shown, "what was refused is not shown");
    // It ends while nothing can be stored: the node keeps the report until it has been.
    rt.block_on(node.report(exited(&prepare, 0, 0)));
    let status = rt.block_on(node.next()).unwrap_err();
    assert_eq!(status.message(), "the controller could not store what it heard");
    disk.make_room();
    let mut node = rt.block_on(controller.node_holding("n01", vec![exited(&prepare, 0, 0)]));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    until(&mut client, runs, TaskState::Completed);
    shown.push(client.submit(&job("after")).unwrap().job.unwrap());
    assert_eq!(shown, (1..=shown.len() as u64).collect::<Vec<_>>(), "no id is used for what did not happen");
    controller.kill();
    let checked = disk.command(&controller).args(["store", "check"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    controller.run_command(disk.command(&controller));
    assert_eq!(listed(&mut controller.client()), shown);
}

/// The node that the test plays reads its certificate where the test can see it.
fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
