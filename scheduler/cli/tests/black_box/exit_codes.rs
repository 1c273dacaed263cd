//! Every exit code of the table, seen from outside.

use crate::common::{Fake, Ran, job, json, muster, refusal, task};
use muster_cli::exit::Exit;
use muster_client::api::TaskState;

fn assert_ends(ran: &Ran, exit: Exit, message: &str) {
    assert_eq!(ran.code, Some(exit as i32), "{ran:?}");
    assert!(ran.err.contains(message) && ran.err.starts_with("muster "), "{ran:?}");
}

#[test]
fn refusals_of_the_controller_have_a_code_each() {
    for (status, exit) in [
        (400, Exit::Refused),
        (403, Exit::NotAllowed),
        (404, Exit::NotFound),
        (409, Exit::Ended),
        (429, Exit::Limit),
        (503, Exit::Away),
    ] {
        let fake = Fake::always(status, refusal("word", "a sentence that says why"));
        for command in
            [&["why", "12"][..], &["show", "12"], &["cancel", "12"], &["wait", "12"], &["logs", "12"]]
        {
            let ran = fake.run(command);
            assert_ends(&ran, exit, &format!("muster {}: a sentence that says why", command[0]));
            assert_eq!(ran.out, "", "{command:?}");
        }
    }
}

#[test]
fn a_controller_that_is_away_is_told_from_one_that_talks_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nobody");
    let ran = Ran::new(muster(&socket, &["ping"]).output().unwrap());
    assert_ends(&ran, Exit::Away, socket.to_str().unwrap());
    let ran = Fake::always(200, "<html>").run(&["pools"]);
    assert_ends(&ran, Exit::BadAnswer, "different versions");
}

#[test]
fn the_command_line_is_checked_before_anything_is_asked() {
    let fake = Fake::always(500, "");
    for (arguments, message) in [
        (&["show"][..], "required"),
        (&["frobnicate"], "unrecognized"),
        (&["submit", "--bogus", "x"], "unexpected argument '--bogus'"),
        (
            &["submit", "--gpu-bind=none", "x"],
            "muster submit: command line: --gpu-bind is an option of Slurm",
        ),
        (&["submit", "-O", "x"], "muster submit: command line: -O is an option of Slurm"),
        (&["submit", "--wrap", "true", "x"], "one of them only"),
        (&["submit", "-t", "soon", "--wrap", "true"], "muster submit: --time: 'soon' is not a time"),
        (&["wait", "1.5"], "'1.5' is not a job id"),
        (&["queue", "-t", "bogus"], "'bogus' is not a state"),
        (&["cancel"], "--all-mine"),
        (&["nodes", "drain", "n[1", "--reason", "x"], "is not a host list"),
        (&["nodes", "down", "n1", "--reason", "x", "--for", "soon"], "--for"),
        (&["node", "up", "n[1"], "is not a host list"),
        (&["node", "up", "n1", "--fan-out", "0"], "--fan-out"),
        (&["attach"], "muster attach: which step? Write one such as 12.0"),
        (&["attach", "12"], "muster attach: which step of job 12? Write one such as 12.0"),
        (&["help", "bogus"], "there is no help for 'bogus'"),
    ] {
        let ran = fake.run(arguments);
        assert_eq!(ran.code, Some(Exit::Usage as i32), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(message), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn help_and_version_are_no_failures() {
    let fake = Fake::always(500, "");
    for arguments in [&["--help"][..], &["--version"], &["submit", "-h"], &["help"], &["help", "exit-codes"]]
    {
        let ran = fake.run(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!ran.out.is_empty() && !ran.out.contains('\u{1b}'), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn wait_ends_as_the_task_did() {
    let with = |state, code, signal| {
        let mut task = task(0, state);
        (task.exit_code, task.signal) = (code, signal);
        task
    };
    for (task, code) in [
        (with(TaskState::Completed, Some(0), None), 0),
        (with(TaskState::Failed, Some(42), None), 42),
        (with(TaskState::Failed, None, Some(11)), 139),
        (with(TaskState::Cancelled, None, None), 1),
        (with(TaskState::TimedOut, Some(0), None), 1),
    ] {
        let ran = Fake::always(200, json(&job(vec![task.clone()]))).run(&["wait", "12"]);
        assert_eq!(ran.code, Some(code), "{task:?}: {ran:?}");
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "a pipe hears nothing of the progress");
    }
    let array = job(vec![with(TaskState::Completed, Some(0), None), with(TaskState::Failed, Some(7), None)]);
    assert_eq!(Fake::always(200, json(&array)).run(&["wait", "12"]).code, Some(7));
}

#[test]
fn a_wait_that_takes_too_long_ends_as_timeout_does() {
    let fake = Fake::always(200, json(&job(vec![task(0, TaskState::Running)])));
    let ran = fake.run(&["wait", "12", "--timeout", "0"]);
    assert_ends(&ran, Exit::TimeOut, "job 12 has not ended yet");
}

#[test]
fn files_that_fail_are_named() {
    let mut lost = task(0, TaskState::Completed);
    lost.stdout_path = "/nonexistent/out".into();
    let ran = Fake::always(200, json(&job(vec![lost]))).run(&["logs", "12"]);
    assert_ends(&ran, Exit::NotFound, "/nonexistent/out on this host: if its node shares no file system");
    assert!(ran.err.contains("look on node n1"), "{ran:?}");

    let fake = Fake::always(500, "");
    let ran = fake.run(&["generate", "man", "/dev/null/here"]);
    assert_ends(&ran, Exit::Io, "/dev/null/here");
    let full = fake.command(&["help"]).stdout(std::fs::File::create("/dev/full").unwrap()).output().unwrap();
    assert_ends(&Ran::new(full), Exit::Io, "cannot write the output");
}

#[test]
fn a_reader_that_leaves_early_ends_the_command_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let fake = Fake::always(500, "");
    let output = fake.command(&["help", "exit-codes"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.signal(), Some(13));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_configuration_is_checked_with_all_its_faults() {
    let fake = Fake::always(500, "");
    let path = fake.folder().join("muster.toml");
    std::fs::write(&path, "[cluster]\nnmae = \"c\"\n\n[[node]]\nname = \"n[1-2\"\n").unwrap();
    let ran = fake.run(&["config", "check", path.to_str().unwrap()]);
    assert_ends(&ran, Exit::Refused, "muster.toml");
    assert!(ran.err.contains(":2") && ran.err.contains(":5"), "{ran:?}");
}
