//! The controller's disk is slow, or fails: strace makes its syncs so, as strace(1) says under "Tampering".

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use muster_client::api::TaskState;
use muster_client::{Client, JobFilter};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Controller, SOON, code, exited, job, ready, running, runtime, until};

/// Changes what the controller's syncs do, until it is dropped.
struct Tampering(Child);

impl Tampering {
    fn with(controller: &Controller, how: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e"]);
        strace.arg(format!("inject=fsync,fdatasync:{how}")).args(["-p", &controller.pid().to_string()]);
        let mut strace =
            strace.stderr(Stdio::piped()).spawn().expect("strace must be installed: .ci/deps.sh does it");
        let mut said = String::new();
        let mut lines = BufReader::new(strace.stderr.take().unwrap());
        lines.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        // Whatever else it says must find a reader.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self(strace)
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        // It detaches on SIGINT, and what it has traced goes on.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

fn ids(client: &mut Client) -> Vec<u64> {
    let filter = JobFilter { all: true, ..JobFilter::default() };
    let mut ids: Vec<u64> = client.jobs(&filter).unwrap().jobs.iter().map(|job| job.job).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_slow_disk_delays_what_is_stored_and_no_node_is_given_up_for_it() {
    let mut controller = Controller::start(1);
    let rt = runtime();
    let mut node = rt.block_on(controller.node("n01"));
    let mut client = controller.client();
    let id = client.submit(&job("runs")).unwrap().job.unwrap();
    let prepare = rt.block_on(node.told_to_prepare());
    let mut held = job("slow");
    held.eligibility.hold = true;
    // A sync takes half as long as a node may be silent.
    let slow = Tampering::with(&controller, "delay_enter=1000000");
    let accepted: Vec<u64> = std::thread::scope(|scope| {
        let submit = || {
            let mut client = controller.client();
            (0..3).map(|_| client.submit(&held).unwrap().job.unwrap()).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(submit)).collect();
        rt.block_on(async {
            node.report(ready(&prepare)).await;
            node.told_to_go().await;
            node.report(running(&prepare)).await;
            node.report(exited(&prepare, 0, 0)).await;
        });
        all.into_iter().flat_map(|submits| submits.join().unwrap()).collect()
    });
    let done = until(&mut client, id, TaskState::Completed);
    assert_eq!(done.task_list[0].attempt, 1, "the node was there all the time");
    assert_eq!(client.ping().unwrap().nodes_up, 1);
    controller.kill();
    drop(slow);
    controller.run();
    let mut all = accepted;
    all.push(id);
    all.sort_unstable();
    assert_eq!(ids(&mut controller.client()), all);
}

#[test]
fn a_disk_that_fails_to_sync_accepts_nothing_until_it_does_again() {
    let mut controller = Controller::start(1);
    let mut client = controller.client();
    let before = client.submit(&job("before")).unwrap().job.unwrap();
    let failing = Tampering::with(&controller, "error=EIO");
    for _ in 0..3 {
        let refused = client.submit(&job("refused")).unwrap_err();
        assert_eq!(code(&refused), (503, "not_stored"));
        assert!(refused.to_string().contains("disk I/O error"), "{refused}");
    }
    assert_eq!(ids(&mut client), [before]);
    drop(failing);
    let end = std::time::Instant::now() + SOON;
    let after = loop {
        match client.submit(&job("after")) {
            Ok(answer) => break answer.job.unwrap(),
            Err(refused) => assert!(std::time::Instant::now() < end, "{refused}"),
        }
    };
    controller.kill();
    controller.run();
    assert_eq!(ids(&mut controller.client()), [before, after]);
}
