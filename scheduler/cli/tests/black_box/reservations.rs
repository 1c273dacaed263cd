//! `muster reservation`, and jobs that use one.

use muster_cli::exit::Exit;
use muster_client::api::{ReservationList, SubmitRequest};
use nix::unistd::{Uid, User};

use crate::common::Fake;
use crate::controller::{Controller, can_be_nobody};

fn create(controller: &Controller, more: &[&str]) -> crate::common::Ran {
    let start = ["reservation", "create", "--start", "now+1hour", "--duration", "2:00:00"];
    controller.run(&[&start[..], more].concat())
}

#[test]
fn nodes_are_kept_and_given_back() {
    let controller = Controller::start();
    let me = User::from_uid(Uid::effective()).unwrap().unwrap().name;
    assert_eq!(controller.run(&["reservation", "list"]).out.lines().count(), 1, "the header alone");
    let ran =
        create(&controller, &["--name", "disks", "--nodes", "n1", "--maintenance", "--comment", "new disks"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.starts_with("Reservation disks keeps n1 from 2"), "{ran:?}");
    let ran =
        create(&controller, &["--name", "course", "--pool", "main", "--users", &me, "--repeat", "daily"]);
    assert!(ran.code == Some(0) && ran.out.contains("keeps n[1-2] from"), "{ran:?}");
    let ran =
        create(&controller, &["--name", "other", "--pool", "main", "--node-count", "1", "--accounts", "x"]);
    assert!(ran.code == Some(1) && ran.err.contains("0 of the 2 of pool 'main'"), "{ran:?}");
    let ran = create(&controller, &["--name", "other", "--nodes", "n9", "--maintenance"]);
    assert!(ran.code == Some(Exit::NotFound as i32) && ran.err.contains("no node 'n9'"), "{ran:?}");

    let list = controller.run(&["reservation", "list"]).out;
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[1].starts_with("course") && lines[1].contains("daily") && lines[1].contains(&me), "{list}");
    assert!(lines[2].contains("maintenance") && lines[2].ends_with("new disks"), "{list}");
    let json = controller.run(&["reservation", "list", "--json"]).out;
    let listed: ReservationList = serde_json::from_str(&json).unwrap();
    assert_eq!(listed.reservations[1].end_us - listed.reservations[1].start_us, 7_200_000_000);
    let nodes = controller.run(&["nodes", "-l"]).out;
    assert!(nodes.contains("kept for maintenance disks from 2"), "{nodes}");
    assert!(!controller.run(&["nodes"]).out.contains("kept for"), "not yet");

    let submit = |more: &[&str]| controller.run(&[&["submit", "--wrap", "true"][..], more].concat());
    let ran = submit(&["--reservation", "course", "-t", "60"]);
    assert_eq!(ran.out, "Submitted job 1\n", "{ran:?}");
    assert!(
        controller.run(&["why", "1"]).out.starts_with("It waits for its reservation course, whose window")
    );
    assert!(controller.run(&["show", "1"]).out.contains("Reservation  course"));
    let ran = submit(&["--reservation", "disks", "-t", "60"]);
    assert!(ran.code == Some(Exit::NotAllowed as i32) && ran.err.contains("nobody runs in it"), "{ran:?}");
    let ran = submit(&["--reservation", "course", "-t", "2:00:01"]);
    assert!(ran.code == Some(1) && ran.err.contains("lasts 02:00:00"), "{ran:?}");
    let ran = submit(&["-t", "1-0"]);
    assert!(ran.code == Some(1) && ran.err.contains("the longest gap between reservations"), "{ran:?}");

    assert_eq!(controller.run(&["reservation", "delete", "disks", "course"]).code, Some(0));
    let ran = controller.run(&["reservation", "delete", "course"]);
    assert!(
        ran.code == Some(Exit::NotFound as i32) && ran.err.contains("the reservations are: none"),
        "{ran:?}"
    );
    assert!(controller.run(&["why", "1"]).out.starts_with("Its reservation course is over"));
    if can_be_nobody() {
        let ran = controller.run_as_nobody(&[
            "reservation",
            "create",
            "--name",
            "x",
            "--pool",
            "main",
            "--start",
            "now",
            "--duration",
            "1",
            "--users",
            "y",
        ]);
        assert!(ran.code == Some(Exit::NotAllowed as i32) && ran.err.contains("only an admin"), "{ran:?}");
    }
}

#[test]
fn what_runs_into_it_is_told() {
    let answer = r#"{"schema":1,"name":"disks","node_list":"n1","running":
        [{"task":"12_3","node":"n1","until_us":7200000000},{"task":"13","node":"n1","until_us":null}]}"#;
    let fake = Fake::always(201, answer);
    let ran = fake.run(&[
        "reservation",
        "create",
        "--name",
        "disks",
        "--nodes",
        "n1",
        "--maintenance",
        "--start",
        "1970-01-01T01:00",
        "--end",
        "1970-01-01T03:00",
    ]);
    assert_eq!(ran.out, "Reservation disks keeps n1 from 1970-01-01T01:00:00 to 1970-01-01T03:00:00\n");
    assert_eq!(
        ran.err,
        "muster reservation: job 12_3 may still run on n1 until 1970-01-01T02:00:00: it is left alone\n\
         muster reservation: job 13 may still run on n1 without a limit: it is left alone\n"
    );
    assert_eq!(fake.question().line, "POST /v1/reservations");
}

#[test]
fn a_reservation_may_stand_in_the_script_and_in_the_environment() {
    let fake = Fake::always(201, r#"{"schema":1,"job":12}"#);
    let script = fake.folder().join("job.sh");
    std::fs::write(&script, "#!/bin/sh\n#SBATCH --reservation=course\n").unwrap();
    let reservation = |fake: &Fake| {
        let request: SubmitRequest = serde_json::from_str(&fake.question().body).unwrap();
        request.reservation
    };
    fake.run(&["submit", script.to_str().unwrap()]);
    assert_eq!(reservation(&fake).as_deref(), Some("course"));
    let mut command = fake.command(&["submit", script.to_str().unwrap()]);
    command.env("SBATCH_RESERVATION", "other").output().unwrap();
    assert_eq!(reservation(&fake).as_deref(), Some("other"));
}
