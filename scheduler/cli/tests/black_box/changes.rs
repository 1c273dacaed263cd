//! scancel, and what of scontrol changes something, against the real controller: messages, exit codes and outcomes.

use std::path::Path;

use crate::common::Ran;
use crate::controller::Controller;

/// A controller with two jobs and an array that wait: their nodes never come.
fn controller() -> Controller {
    let controller = Controller::start();
    for arguments in [
        &["submit", "-J", "one", "-t", "10", "--wrap", "true"][..],
        &["submit", "-J", "two", "-t", "10", "--wrap", "true"],
        &["submit", "-J", "many", "-a", "0-9%2", "--wrap", "true"],
    ] {
        assert_eq!(controller.run(arguments).code, Some(0));
    }
    controller
}

fn face(controller: &Controller, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    controller.face(words[0], Path::new("/"), &words[1..])
}

fn squeue(controller: &Controller, format: &str) -> Vec<String> {
    let ran = controller.face("squeue", Path::new("/"), &["-h", "-S", "i", "-o", format]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    ran.out.lines().map(str::to_owned).collect()
}

#[test]
fn scancel_ends_what_is_named_and_what_matches() {
    let controller = controller();
    let silent = |line: &str| {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""), "{line}");
    };
    silent("scancel 3_[0-2,4%2] 3_9");
    assert_eq!(squeue(&controller, "%i"), ["1", "2", "3_[3,5-8%2]"]);
    silent("scancel -n one -t RUNNING");
    silent("scancel 2 -n one");
    assert_eq!(squeue(&controller, "%i").len(), 3, "neither filter matches");
    silent("scancel --name=one");
    assert_eq!(squeue(&controller, "%i"), ["2", "3_[3,5-8%2]"]);
    silent("scancel 1");
    silent("scancel 999999");
    silent("scancel 999999_1");
    silent("scancel -n nosuchname");
    silent("scancel --me -t PD -p main");
    assert!(squeue(&controller, "%i").is_empty());
}

#[test]
fn scancel_says_what_is_wrong_in_slurms_words() {
    let controller = controller();
    for (line, code, err) in [
        ("scancel abc", 1, "scancel: error: Invalid job id abc\n"),
        ("scancel", 1, "scancel: error: No job identification provided\n"),
        (
            "scancel --bogus",
            1,
            "scancel: unrecognized option '--bogus'\nTry \"scancel --help\" for more information\n",
        ),
        ("scancel -s USR1 1", 1, "scancel: error: Kill job error on job id 1: Job is pending execution\n"),
        (
            "scancel 9 --signal TERM",
            1,
            "scancel: error: Kill job error on job id 9: Invalid job id specified\n",
        ),
        (
            "scancel -v 9",
            0,
            "scancel: Terminating job 9\nscancel: error: Kill job error on job id 9: Invalid job id specified\n",
        ),
        ("scancel -s NOTHING 1", 1, "scancel: error: Unknown job signal: NOTHING\n"),
        ("scancel -u nobody-at-all", 1, "scancel: error: Invalid user name: nobody-at-all\n"),
    ] {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(code), "", err), "{line}");
    }
    assert_eq!(squeue(&controller, "%i").len(), 3, "nothing was changed");
}

#[test]
fn scontrol_changes_jobs_that_wait() {
    let controller = controller();
    let silent = |line: &str| {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""), "{line}");
    };
    silent("scontrol hold 1,2");
    assert_eq!(squeue(&controller, "%i %r")[..2], ["1 JobHeldUser", "2 JobHeldUser"]);
    silent("scontrol release 1 2");
    silent("scontrol update jobid=1 TimeLimit=20 JobName=uno Comment=later");
    silent("scontrol update job=1 timelimit+=5");
    silent("scontrol update JobId=2 NumNodes=2 NumTasks=4 Priority=7 Dependency=afterok:1");
    silent("scontrol update JobId=3 ArrayTaskThrottle=4");
    assert_eq!(
        squeue(&controller, "%i|%j|%l|%D|%E|%k"),
        [
            "1|uno|25:00|1|(null)|later",
            "2|two|10:00|2|afterok:1(unfulfilled)|(null)",
            "3_[0-9%4]|many|1:00:00|1|(null)|(null)"
        ]
    );
    silent("scontrol update nodename=n[1-2] state=drain reason=disk");
    let reasons = controller.run(&["nodes", "--reasons"]).out;
    assert!(reasons.contains("disk"), "{reasons}");
    silent("scontrol update NodeName=n1 State=RESUME");
}

#[test]
fn scontrol_says_what_cannot_be_changed_in_slurms_words() {
    let controller = controller();
    for (line, err) in [
        ("scontrol update jobid=999999 timelimit=1", "Invalid job id specified for job 999999\n"),
        (
            "scontrol update jobid=1 bogus=1",
            "Update of this parameter is not supported: bogus=1\nRequest aborted\n",
        ),
        (
            "scontrol hold 999999",
            "Invalid job id specified for job 999999\nslurm_suspend error: Invalid job id specified\n",
        ),
        ("scontrol requeue 999999", "Invalid job id specified for job 999999\n"),
        ("scontrol bogus", "invalid keyword: bogus\n"),
        (
            "scontrol update nodename=n1 state=drain",
            "You must specify a reason when DOWNING or DRAINING a node. Request denied\n",
        ),
    ] {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(1), "", err), "{line}");
    }
    // Where Muster knows more, that is said after Slurm's words.
    for (line, begin, part) in [
        ("scontrol requeue 1", "Job is pending execution for job 1\n", "waits, and nothing of it runs"),
        (
            "scontrol update jobid=1 numnodes=3",
            "Node count specification invalid for job 1\n",
            "pool 'main' has 2",
        ),
        (
            "scontrol update jobid=1 partition=none",
            "Invalid partition name specified for job 1\n",
            "the pools are: main",
        ),
        (
            "scontrol update nodename=nosuch state=drain reason=x",
            "slurm_update error: Invalid node name specified\n",
            "nosuch",
        ),
        (
            "scontrol update nodename=n1 state=bogus",
            "Invalid input: state=bogus\nRequest aborted\n",
            "Valid states are: ",
        ),
        ("scontrol suspend 1", "scontrol: suspend is not supported: ", "keep its cores"),
        (
            "scontrol update partitionname=main maxtime=10",
            "scontrol: an update of a partition's maxtime=10 is not supported",
            "muster.toml",
        ),
    ] {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{line}");
        assert!(ran.err.starts_with(begin) && ran.err.contains(part), "{line}: {}", ran.err);
    }
    assert_eq!(squeue(&controller, "%i %l %D").len(), 3);
}

#[test]
fn the_native_commands_do_the_same() {
    let controller = controller();
    let ran = controller.run(&["update", "1", "--time", "30", "--nice", "5", "--name", "uno"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "Updated job 1\n"), "{ran:?}");
    assert_eq!(squeue(&controller, "%j %l")[0], "uno 30:00");
    let ran = controller.run(&["requeue", "1", "2"]);
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert_eq!(ran.err.matches("waits, and nothing of it runs").count(), 2, "{ran:?}");
    let ran = controller.run(&["signal", "nothing", "1"]);
    assert!(ran.code == Some(2) && ran.err.contains("'nothing' is not a signal"), "{ran:?}");
    let ran = controller.run(&["update", "3_1", "--time", "5"]);
    assert!(ran.code == Some(2) && ran.err.contains("only whole jobs are changed"), "{ran:?}");
    assert_eq!(controller.run(&["update", "1"]).code, Some(2));
}

#[test]
fn single_tasks_of_an_array_are_held_and_let_go() {
    let controller = controller();
    let silent = |line: &str| {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""), "{line}");
    };
    silent("scontrol hold 3_4");
    silent("scontrol uhold 3_[6-8],3_1");
    let reasons = || {
        let mut rows = squeue(&controller, "%i %r");
        rows.retain(|row| row.starts_with("3_") && row.contains("Held"));
        rows
    };
    assert_eq!(reasons(), ["3_[1,4,6-8%2] JobHeldUser"]);
    let ran = controller.face("scontrol", Path::new("/"), &["show", "job", "3_4"]);
    assert!(ran.out.contains("ArrayTaskId=1,4,6-8") && ran.out.contains("Reason=JobHeldUser"), "{ran:?}");
    let ran = controller.run(&["why", "3_4"]);
    assert!(ran.out.contains("It is held; muster release lets it go"), "{ran:?}");
    let ran = controller.run(&["show", "3"]);
    assert!(ran.out.contains("Held tasks") && ran.out.contains("1-4:3,6-8"), "{ran:?}");
    silent("scontrol release 3_[6-7]");
    assert_eq!(controller.run(&["release", "3_8"]).out, "Released job 3_8\n");
    assert_eq!(reasons(), ["3_[1,4%2] JobHeldUser"]);
    // Of a held array one is let go.
    silent("scontrol hold 3");
    silent("scontrol release 3_5");
    assert_eq!(reasons().len(), 2, "the array, and the two that were held alone: {:?}", reasons());
    silent("scontrol release 3");
    assert!(reasons().is_empty());
    let ran = face(&controller, "scontrol hold 3_99");
    assert_eq!((ran.code, ran.err.lines().next()), (Some(1), Some("Invalid job id specified for job 3_99")));
}

#[test]
fn licences_are_asked_for_and_shown() {
    let controller = Controller::start_with(
        "[[license]]\nname = \"matlab\"\ncount = 2\n[[license]]\nname = \"ansys\"\ncount = 1\n",
    );
    let sbatch = |licenses: &str| controller.face("sbatch", Path::new("/"), &["-L", licenses, "--wrap=true"]);
    assert_eq!(sbatch("matlab:2,ansys").code, Some(0));
    assert_eq!(controller.run(&["submit", "-L", "matlab", "--wrap", "true"]).code, Some(0));
    assert_eq!(controller.run(&["submit", "--wrap", "true"]).code, Some(0));
    for licenses in ["matlab:3", "comsol"] {
        let ran = sbatch(licenses);
        let said = "sbatch: error: Batch job submission failed: Invalid license specification\n";
        assert!(ran.code == Some(1) && ran.err.starts_with(said), "{ran:?}");
    }
    assert!(sbatch("matlab|ansys").err.contains("matlab:2,ansys: each task needs all of them"));
    assert_eq!(squeue(&controller, "%i %W"), ["1 ansys:1,matlab:2", "2 matlab:1", "3 (null)"]);
    let ran = controller.face("squeue", Path::new("/"), &["-h", "-L", "ansys", "-o", "%i"]);
    assert_eq!(ran.out, "1\n");
    assert!(face(&controller, "scontrol show job 1").out.contains(" Licenses=ansys:1,matlab:2 "));
    let shown = "LicenseName=ansys\n    Total=1 Used=0 Free=1 Reserved=0 Remote=no\n\
                 LicenseName=matlab\n    Total=2 Used=0 Free=2 Reserved=0 Remote=no\n";
    assert_eq!(face(&controller, "scontrol show lic").out, shown);
    assert_eq!(
        face(&controller, "scontrol -o show lic matlab").out,
        "LicenseName=matlab Total=2 Used=0 Free=2 Reserved=0 Remote=no\n"
    );
    assert!(face(&controller, "scontrol show config").out.contains("= ansys:1,matlab:2\n"));
    assert_eq!(
        controller.run(&["licenses"]).out,
        "LICENSE  TOTAL  HELD  FREE\nansys        1     0     1\nmatlab       2     0     2\n"
    );
    assert!(controller.run(&["show", "1"]).out.contains("ansys:1,matlab:2"));
}

#[test]
fn sdiag_tells_what_was_asked_and_begins_anew() {
    let controller = controller();
    let sdiag = |line: &str| {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{line}");
        ran.out
    };
    let out = sdiag("sdiag");
    for line in [
        "Jobs submitted: 12",
        "Jobs started:   0",
        "Jobs pending:   12",
        "\tREQUEST_SUBMIT_BATCH_JOB                ( 4003) count:3 ",
        "\tLast queue length: 3",
    ] {
        assert!(out.lines().any(|shown| shown.starts_with(line)), "{line}\n{out}");
    }
    let own = nix::unistd::getuid();
    assert!(out.contains(&format!("({own:>8}) count:")), "{out}");
    assert_eq!(sdiag("sdiag -r"), "Reset scheduling statistics\n");
    let json: serde_json::Value = serde_json::from_str(&sdiag("sdiag --json")).unwrap();
    assert_eq!(json["statistics"]["jobs_submitted"], 0);
    assert_eq!(json["statistics"]["jobs_pending"], 12);
    let ids = |line: &str| -> Vec<String> {
        let out = sdiag(line);
        let kinds = out.lines().skip_while(|line| !line.ends_with("by message type")).skip(1);
        let id = |line: &str| line.split(['(', ')']).nth(1).unwrap().trim().to_owned();
        kinds.take_while(|line| !line.is_empty()).map(id).collect()
    };
    sdiag("scontrol show partition");
    sdiag("scontrol show node");
    assert_eq!(ids("sdiag -i"), ["2007", "2009", "2035"]);
    assert_eq!(face(&controller, "sdiag -Z").code, Some(1));
    let away = Ran::new(crate::common::face("sdiag", Path::new("/nowhere"), &[]).output().unwrap());
    let said = "slurm_get_statistics: Unable to contact slurm controller (connect failure)\n";
    assert!(away.code == Some(255) && away.err.starts_with(said), "{away:?}");
}

#[test]
fn scripts_are_written_and_reservations_made_by_scontrol() {
    let controller = controller();
    let folder = tempfile::tempdir().unwrap();
    let ran = face(&controller, "scontrol write batch_script 1 -");
    assert!(ran.code == Some(0) && ran.out.starts_with("#!/bin/sh\n") && ran.out.contains("true"), "{ran:?}");
    let script = ran.out;
    let ran = controller.face("scontrol", folder.path(), &["write", "batch_script", "1"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "batch script for job 1 written to slurm-1.sh\n"));
    assert_eq!(std::fs::read_to_string(folder.path().join("slurm-1.sh")).unwrap(), script);
    let ran = face(&controller, "scontrol write batch_script 99 -");
    assert!(ran.code == Some(1) && ran.err.contains("Invalid job id specified"), "{ran:?}");

    let create = "scontrol create res StartTime=now+1hour Duration=60 Users=root,nobody Nodes=n1";
    let ran = face(&controller, create);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "Reservation created: nobody_1\n"), "{ran:?}");
    let ran = face(&controller, &create.replace("Nodes=n1", "Nodes=n2"));
    assert_eq!(ran.out, "Reservation created: nobody_2\n", "{ran:?}");
    let ran = face(&controller, create);
    assert!(ran.code == Some(1) && ran.err.starts_with("Error creating the reservation: "), "{ran:?}");
    let shown = face(&controller, "scontrol show res nobody_1").out;
    assert!(shown.contains("Duration=01:00:00") && shown.contains("Users=nobody,root"), "{shown}");
    let ran = face(&controller, "scontrol delete ReservationName=nobody_1");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    let ran = face(&controller, "scontrol delete ReservationName=nobody_1");
    assert!(ran.code == Some(1) && ran.err.contains("Requested reservation is invalid"), "{ran:?}");
    face(&controller, "scancel 1");
    let ran = face(&controller, "scontrol wait_job 1");
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "Job is no longer running\n"));
}

#[test]
fn pools_are_closed_and_opened() {
    let controller = controller();
    let silent = |line: &str| {
        let ran = face(&controller, line);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""), "{line}");
    };
    let says = |line: &str, word: &str| {
        let ran = face(&controller, line);
        assert!(ran.code == Some(0) && ran.out.contains(word), "{line}: {ran:?}");
    };
    silent("scontrol update PartitionName=main State=DRAIN");
    says("sinfo -h -o %a", "drain\n");
    says("scontrol show partition main", " State=DRAIN ");
    let ran = face(&controller, "sbatch --wrap=true");
    let said =
        "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)\n";
    assert!(ran.code == Some(1) && ran.err.starts_with(said), "{ran:?}");
    assert_eq!(controller.run(&["pools", "state", "down", "main"]).code, Some(0));
    assert!(controller.run(&["pools"]).out.contains("main*  down "));
    assert_eq!(squeue(&controller, "%r"), ["PartitionDown"; 3]);
    says("sbatch --wrap=true", "Submitted");
    silent("scontrol update partition=main state=inactive");
    says("sinfo -h -o %a", "inactive\n");
    assert_eq!(squeue(&controller, "%r"), ["PartitionInactive"; 4]);
    assert!(controller.run(&["why", "1"]).out.contains("'main' is inactive and starts nothing"));
    silent("scontrol update partitionname=main state=up");
    assert!(!squeue(&controller, "%r").iter().any(|reason| reason.starts_with("Partition")));
    let ran = face(&controller, "scontrol update partitionname=none state=up");
    assert!(ran.code == Some(1) && ran.err.contains("Invalid partition name specified"), "{ran:?}");
    let ran = face(&controller, "scontrol update partitionname=main state=closed");
    assert!(ran.code == Some(1) && ran.err.starts_with("Invalid input: state=closed\n"), "{ran:?}");
    assert!(
        controller
            .run(&["pools", "state", "closed", "main"])
            .err
            .contains("write up, down, drain or inactive")
    );
}
