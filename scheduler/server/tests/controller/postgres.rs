//! The controller on PostgreSQL: how it leaves, how it comes there from SQLite, and a server whose disk is really full.

use std::path::Path;

use muster_client::Client;
use muster_client::api::{SubmitRequest, TaskState};
use muster_test_postgres::PostgresServer;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::common::{Controller, code, exited, job, ready, running, runtime, until, whole};

const STORE_AFTER: &str = "node_timeout_s = 2";

/// A controller that is going to run on this database.
fn on(url: &str) -> Controller {
    let controller = Controller::prepared(1, "");
    move_to(&controller, url);
    controller
}

/// From its next start on the controller runs on this database.
fn move_to(controller: &Controller, url: &str) {
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let text = text.replace(STORE_AFTER, &format!("{STORE_AFTER}\nstore = \"{url}\""));
    std::fs::write(controller.config(), text).unwrap();
}

#[test]
fn a_leader_that_is_told_to_stop_gives_the_lead_back_at_once() {
    let postgres = PostgresServer::start().unwrap();
    let mut controller = on(&postgres.database("muster").unwrap());
    controller.run();
    let mut database = postgres.connect("muster").unwrap();
    let mut is_over = || -> bool {
        database.query_one("SELECT expires_at <= clock_timestamp() FROM leader", &[]).unwrap().get(0)
    };
    assert!(!is_over(), "it leads");
    assert!(controller.stop().success());
    assert!(is_over(), "nobody has to wait for the end of the lease");
}

#[test]
fn a_journal_on_postgresql_is_not_repaired_here() {
    let postgres = PostgresServer::start().unwrap();
    let mut controller = on(&postgres.database("muster").unwrap());
    controller.run();
    controller.client().submit(&job("kept")).unwrap();
    controller.stop();
    let refused = controller.command().args(["store", "repair", "--yes"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(7));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("backup"), "it says what would be right: {text}");
    controller.run();
    assert_eq!(controller.client().job(whole(1)).unwrap().summary.name, "kept");
}

#[test]
fn nodes_keep_their_certificates_when_the_controller_moves_from_sqlite_and_every_controller_shares_them() {
    let postgres = PostgresServer::start().unwrap();
    let url = postgres.database("muster").unwrap();
    let rt = runtime();
    let mut first = Controller::start(1);
    let file = |controller: &Controller, name: &str| {
        std::fs::read_to_string(controller.folder.path().join("state/tls").join(name)).unwrap()
    };
    let (authority, node) = (file(&first, "ca.crt"), file(&first, "nodes/n01.crt"));
    first.stop();
    move_to(&first, &url);
    first.run();
    assert_eq!((file(&first, "ca.crt"), file(&first, "nodes/n01.crt")), (authority.clone(), node.clone()));
    // With the certificate that it was given on SQLite.
    drop(rt.block_on(first.node("n01")));
    let mut database = postgres.connect("muster").unwrap();
    let kept = database.query_one("SELECT cert_pem FROM keyring WHERE name = 'ca'", &[]).unwrap();
    assert_eq!(kept.get::<_, String>(0), authority);
    first.stop();
    // One that has never seen the files has the same authority, and nodes need nothing new.
    let mut second = on(&url);
    second.run();
    assert_eq!((file(&second, "ca.crt"), file(&second, "nodes/n01.crt")), (authority, node));
    drop(rt.block_on(second.node("n01")));
}

/// Gives this thread, and what it starts, a small file system of its own at `path`. False, with a message, where the
/// kernel does not allow it.
fn mount_small(path: &Path, size: &str) -> bool {
    let none = None::<&str>;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            mount(
                none,
                path,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(format!("size={size},mode=0755").as_str()),
            )
        });
    if let Err(errno) = mounted {
        eprintln!("skipped: a file system can be mounted by root only: {errno}");
    }
    mounted.is_ok()
}

/// Submits until nothing fits any more. Gives the ids that were shown.
fn fill_up(client: &mut Client) -> Vec<u64> {
    let mut accepted = Vec::new();
    loop {
        // What repeats itself would be stored compressed.
        let noise: String =
            (0..3000_u64).map(|i| format!("{:x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        let mut request = SubmitRequest { script: format!("#!/bin/sh\n#{noise}"), ..job("fills") };
        request.eligibility.hold = true;
        match client.submit(&request) {
            Ok(answer) => accepted.push(answer.job.unwrap()),
            Err(refused) => {
                assert_eq!(code(&refused), (503, "not_stored"));
                let text = refused.to_string();
                assert!(text.contains("is full: make room there; nothing is lost meanwhile"), "{text}");
                return accepted;
            }
        }
        assert!(accepted.len() < 5000, "the disk must fill up");
    }
}

#[test]
fn a_server_whose_disk_is_full_stops_what_is_new_keeps_what_runs_and_is_got_over() {
    let disk = tempfile::tempdir().unwrap();
    if !mount_small(disk.path(), "160m") {
        return;
    }
    let postgres = PostgresServer::start_in(disk.path()).unwrap();
    let mut controller = on(&postgres.database("muster").unwrap());
    controller.run();
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let runs = client.submit(&job("runs")).unwrap().job.unwrap();
    let prepare = rt.block_on(node.told_to_prepare());
    rt.block_on(node.report(ready(&prepare)));
    rt.block_on(node.told_to_go());
    rt.block_on(node.report(running(&prepare)));
    until(&mut client, runs, TaskState::Running);
    let filling = disk.path().join("filling");
    let mut file = std::fs::File::create(&filling).unwrap();
    std::io::copy(&mut std::io::repeat(b'x'), &mut file).unwrap_err();
    drop(file);
    let mut shown = vec![runs];
    shown.extend(fill_up(&mut client));
    assert_eq!(client.job(whole(runs)).unwrap().summary.state, TaskState::Running, "what runs, runs on");
    std::fs::remove_file(&filling).unwrap();
    drop(node);
    let mut node = rt.block_on(controller.node_holding("n01", vec![exited(&prepare, 0, 0)]));
    assert_eq!(rt.block_on(node.told_to_forget()).key, prepare.key);
    until(&mut client, runs, TaskState::Completed);
    shown.push(client.submit(&job("after")).unwrap().job.unwrap());
    assert_eq!(shown, (1..=shown.len() as u64).collect::<Vec<_>>(), "no id is used for what did not happen");
    controller.kill();
    let checked = controller.command().args(["store", "check"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
