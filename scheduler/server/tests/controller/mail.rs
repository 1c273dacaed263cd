//! People are told of what becomes of their jobs, by a program of the site's.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{self, Receiver};

use muster_client::api::SubmitRequest;
use muster_core::spec::{ArraySpec, IndexRange, MailEvent, MailWish};
use nix::sys::stat::Mode;

use crate::common::{Controller, Node, SOON, code, exited, job, ready, running, runtime};

/// A controller whose mail program writes each letter as a line, and those lines.
fn with_mail() -> (Controller, Receiver<String>) {
    let mut controller = Controller::prepared(1, "");
    let folder = controller.folder.path().to_owned();
    let (program, letters) = (folder.join("mail"), folder.join("letters"));
    nix::unistd::mkfifo(&letters, Mode::from_bits_truncate(0o622)).unwrap();
    let script = format!("#!/bin/sh\nprintf '%s|%s|%s\\n' \"$1\" \"$2\" \"$3\" > {}\n", letters.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = std::fs::read_to_string(controller.config()).unwrap();
    let line = format!("node_timeout_s = 2\nmail_program = {:?}", program.display().to_string());
    std::fs::write(controller.config(), text.replace("node_timeout_s = 2", &line)).unwrap();
    controller.run();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Open for writing as well, so that the end of one letter is not the end of all.
        let file = std::fs::File::options().read(true).write(true).open(letters).unwrap();
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (controller, receiver)
}

/// Plays the node for one task that ends with this exit code.
async fn play(node: &mut Node, exit: u32) {
    play_while(node, exit, || {}).await;
}

/// The same, with something that is done while the task runs.
async fn play_while(node: &mut Node, exit: u32, meanwhile: impl FnOnce()) {
    let prepare = node.told_to_prepare().await;
    node.report(ready(&prepare)).await;
    node.told_to_go().await;
    node.report(running(&prepare)).await;
    meanwhile();
    node.report(exited(&prepare, exit, 0)).await;
    node.told_to_forget().await;
}

fn wish(events: &[MailEvent], to: Option<&str>) -> Option<MailWish> {
    Some(MailWish { events: events.iter().copied().collect(), to: to.map(str::to_owned) })
}

#[test]
fn people_are_told_in_slurms_words_of_what_they_asked_for() {
    let (controller, letters) = with_mail();
    let next = || letters.recv_timeout(SOON).unwrap();
    let rt = runtime();
    let mut client = controller.client();
    let mut node = rt.block_on(controller.node("n01"));
    let mail = wish(&[MailEvent::Begin, MailEvent::End], Some("ann@example.org"));
    let answer = client.submit(&SubmitRequest { mail, ..job("good") }).unwrap();
    assert!(answer.warnings.is_empty());
    rt.block_on(play(&mut node, 0));
    // Programs run beside each other, so that letters may come in any order.
    let mut two = [next(), next()];
    two.sort();
    assert!(two[0].starts_with("-s|Slurm Job_id=1 Name=good Began, Queued time "), "{two:?}");
    assert!(two[1].starts_with("-s|Slurm Job_id=1 Name=good Ended, Run time "), "{two:?}");
    assert!(two[1].ends_with(", COMPLETED, ExitCode 0|ann@example.org"), "{two:?}");

    client.submit(&SubmitRequest { mail: wish(&[MailEvent::Fail], None), ..job("bad") }).unwrap();
    rt.block_on(play(&mut node, 3));
    let letter = next();
    assert!(letter.contains("Job_id=2 Name=bad Failed") && letter.contains("ExitCode 3|"), "{letter}");
    assert!(letter.ends_with(&format!(
        "|{}",
        nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
    )));

    let indices = vec![IndexRange { first: 0, last: 1, step: 1 }];
    let array = Some(ArraySpec { indices, running_max: Some(1) });
    let mail = wish(&[MailEvent::End, MailEvent::Fail], None);
    client.submit(&SubmitRequest { mail, array, ..job("sweep") }).unwrap();
    rt.block_on(play(&mut node, 0));
    rt.block_on(play(&mut node, 1));
    let letter = next();
    assert!(letter.contains("Slurm Array Summary Job_id=3_* (3) Name=sweep Ended, Mixed|"), "{letter}");

    let mail = wish(&[MailEvent::TimeLimit50], None);
    client.submit(&SubmitRequest { mail, time_limit_s: Some(4), ..job("half") }).unwrap();
    rt.block_on(play_while(&mut node, 0, || {
        let letter = next();
        assert!(
            letter.contains("Job_id=4 Name=half Reached 50% of time limit, Run time 00:00:0"),
            "{letter}"
        );
    }));
}

#[test]
fn who_is_told_nothing_is_told_so() {
    let controller = Controller::start(1);
    let mut client = controller.client();
    let mail = wish(&[MailEvent::End], None);
    let answer = client.submit(&SubmitRequest { mail, ..job("silent") }).unwrap();
    assert!(answer.warnings.len() == 1 && answer.warnings[0].contains("mail_program"), "{answer:?}");
    let option = wish(&[MailEvent::End], Some("-oDanger"));
    let refused = client.submit(&SubmitRequest { mail: option, ..job("odd") }).unwrap_err();
    assert_eq!(code(&refused), (400, "bad_field"));
}
