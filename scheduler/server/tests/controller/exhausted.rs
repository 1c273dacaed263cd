//! The controller has no file descriptor left.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use muster_client::api::TaskState;

use crate::common::{Controller, SOON, exited, job, ready, running, runtime, until, whole};

/// How many descriptors the controller may have; about half are its own.
const DESCRIPTORS_MAX: usize = 80;

fn with_few_descriptors() -> Controller {
    let mut controller = Controller::prepared(2, "");
    let musterd = controller.command();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("ulimit -n {DESCRIPTORS_MAX}; exec \"$@\"")]);
    shell.arg("sh").arg(musterd.get_program()).args(musterd.get_args());
    controller.run_command(shell);
    controller
}

fn open_descriptors(controller: &Controller) -> usize {
    std::fs::read_dir(Path::new("/proc").join(controller.pid().to_string()).join("fd")).unwrap().count()
}

/// Opens connections until the controller has no descriptor left for another one.
fn take_all(controller: &Controller) -> Vec<UnixStream> {
    let end = Instant::now() + SOON;
    let mut open: Vec<UnixStream> = Vec::new();
    open.extend((0..2 * DESCRIPTORS_MAX).map(|_| UnixStream::connect(controller.socket()).unwrap()));
    while open_descriptors(controller) < DESCRIPTORS_MAX {
        assert!(Instant::now() < end, "only {} descriptors are open", open_descriptors(controller));
        std::thread::yield_now();
    }
    open
}

#[test]
fn without_descriptors_what_is_connected_goes_on_and_others_wait() {
    let controller = with_few_descriptors();
    let rt = runtime();
    let mut node = rt.block_on(controller.node("n01"));
    let mut client = controller.client();
    client.ping().unwrap();
    let strangers = take_all(&controller);
    // A node that comes now is not accepted, and nothing ends because of it.
    let early = std::net::TcpStream::connect(controller.node_address.unwrap()).unwrap();
    // Work is accepted, stored, started and ended over the connections that there are.
    let id = client.submit(&job("meanwhile")).unwrap().job.unwrap();
    rt.block_on(async {
        let prepare = node.told_to_prepare().await;
        node.report(ready(&prepare)).await;
        node.told_to_go().await;
        node.report(running(&prepare)).await;
        node.report(exited(&prepare, 0, 0)).await;
        node.told_to_forget().await;
    });
    until(&mut client, id, TaskState::Completed);
    drop(strangers);
    let state = controller.client().job(whole(id)).unwrap().summary.state;
    assert_eq!(state, TaskState::Completed, "whoever comes now is served");
    drop(early);
    drop(rt.block_on(controller.node("n02")));
}
