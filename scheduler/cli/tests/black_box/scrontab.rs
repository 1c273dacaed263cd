//! `scrontab` and `muster cron` against the real controller, whose nodes never come.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use muster_client::api::CrontabView;

use crate::common::{Ran, face};
use crate::controller::{Controller, can_be_nobody};

fn scrontab(controller: &Controller, words: &[&str], input: &str, editor: Option<&Path>) -> Ran {
    let mut command = face("scrontab", &controller.socket(), words);
    command.env_remove("VISUAL").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(editor) = editor {
        command.env("EDITOR", editor);
    }
    let mut child = command.spawn().unwrap();
    // What reads nothing may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    Ran::new(child.wait_with_output().unwrap())
}

fn squeue(controller: &Controller, format: &str) -> String {
    let mut command = face("squeue", &controller.socket(), &["-h", "-S", "i", "-o", format]);
    Ran::new(command.env("TZ", "UTC").output().unwrap()).out
}

const TABLE: &str = "# mine\nGREETING=hello\n#SCRON -n2 --time=5\n#SCRON --job-name=report\n*/5 * * * * ./report.sh  a b\n\n@yearly echo $GREETING\n";

#[test]
fn a_crontab_is_set_listed_changed_and_removed() {
    let controller = Controller::start();
    let ran = scrontab(&controller, &["-l"], "", None);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "no crontab for root\n"), "{ran:?}");

    let ran = scrontab(&controller, &["-"], TABLE, None);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    assert_eq!(scrontab(&controller, &["-l"], "", None).out, TABLE);
    // They wait for their instants, and show which.
    assert_eq!(
        squeue(&controller, "%i %j %t %r %C %l"),
        "1 report PD BeginTime 2 5:00\n2 echo PD BeginTime 1 1:00:00\n"
    );
    let start = squeue(&controller, "%S");
    let start = start.lines().next().unwrap();
    let minute: u32 = start[14..16].parse().unwrap();
    assert!(minute.is_multiple_of(5) && start.ends_with(":00"), "{start}");
    let script = Ran::new(
        face("scontrol", &controller.socket(), &["write", "batch_script", "1", "-"]).output().unwrap(),
    );
    assert_eq!(
        script.out,
        "#!/bin/sh\n# This job was submitted through scrontab\n#SCRON -n2 --time=5\n#SCRON --job-name=report\n\
         # crontab time request was: '*/5 * * * *'\n./report.sh  a b\n"
    );

    // What is wrong changes nothing, and says where and what.
    for (text, right) in [
        (
            "@daily true\n61 * * * * true\n",
            "scrontab: error: standard input:2: the minute '61' is wrong: write *, or numbers from 0 to 59",
        ),
        ("#SCRON -N9\n@daily true\n", "scrontab: error: line 2 of the crontab: "),
        (
            "#SCRON --array=1-3\n@daily true\n",
            "scrontab: error: line 2 of the crontab: array: a recurring job has one task",
        ),
        (
            "#SCRON --bogus\n@daily true\n",
            "scrontab: error: standard input:1: #SCRON --bogus: there is no option --bogus",
        ),
    ] {
        let ran = scrontab(&controller, &["-"], text, None);
        assert!(ran.code == Some(1) && ran.err.starts_with(right), "{ran:?}");
    }
    let many = "@daily true\n".repeat(201);
    let ran = scrontab(&controller, &["-"], &many, None);
    assert!(ran.code == Some(1) && ran.err.contains("at most 200 entries are allowed"), "{ran:?}");
    let ran = scrontab(&controller, &["-"], &"# long\n".repeat(20_000), None);
    assert!(ran.code == Some(1) && ran.err.contains("more than 131072 bytes"), "{ran:?}");
    assert_eq!(scrontab(&controller, &["-l"], "", None).out, TABLE);

    // One of them is ended for good, by its own option only.
    let scancel = |words: &[&str]| Ran::new(face("scancel", &controller.socket(), words).output().unwrap());
    let ran = scancel(&["1"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.starts_with(
            "scancel: error: Kill job error on job id 1: Cannot cancel scrontab jobs without --cron flag.\n"
        ),
        "{ran:?}"
    );
    let ran = controller.run(&["cancel", "1"]);
    assert!(ran.code != Some(0) && ran.err.contains("muster cancel --cron 1"), "{ran:?}");
    let ran = controller.run(&["cancel", "--all-mine"]);
    assert!(ran.code != Some(0) && ran.err.contains("recurs by a crontab"), "{ran:?}");
    assert_eq!(scancel(&["--cron", "1"]).code, Some(0));
    let listed = scrontab(&controller, &["-l"], "", None).out;
    assert_eq!(
        listed,
        "# mine\nGREETING=hello\n#DISABLED: #SCRON -n2 --time=5\n#DISABLED: #SCRON --job-name=report\n\
         #DISABLED: */5 * * * * ./report.sh  a b\n\n@yearly echo $GREETING\n"
    );
    assert_eq!(squeue(&controller, "%i"), "2\n");
    // Of all that match, those that recur are meant.
    assert_eq!(controller.run(&["submit", "--wrap", "true"]).code, Some(0));
    let ran = scancel(&["--cron", "--me"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(squeue(&controller, "%i"), "3\n");
    assert_eq!(controller.run(&["cancel", "3"]).out, "Cancelled job 3\n");

    // The same table under the native name.
    let path = controller.folder().join("table");
    std::fs::write(&path, "@hourly date\n").unwrap();
    let ran = controller.run(&["cron", "set", path.to_str().unwrap()]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "Set 1 recurring job\n"), "{ran:?}");
    let view: CrontabView = serde_json::from_str(&controller.run(&["cron", "list", "--json"]).out).unwrap();
    assert_eq!(
        (view.user.as_str(), view.entries[0].job, view.entries[0].name.as_str()),
        ("root", Some(4), "date")
    );
    assert_eq!(controller.run(&["cron", "list"]).out, "@hourly date\n");
    let ran = scrontab(&controller, &["-u", "daemon", path.to_str().unwrap()], "", None);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(squeue(&controller, "%u %j"), "root date\ndaemon date\n");
    if can_be_nobody() {
        let ran = controller.run_as_nobody(&["cron", "list", "--user", "root"]);
        assert!(ran.code != Some(0) && ran.err.contains("only an admin may"), "{ran:?}");
        let ran = controller.run_as_nobody(&["cron", "remove", "--user", "daemon"]);
        assert!(ran.code != Some(0) && ran.err.contains("only an admin may"), "{ran:?}");
    }
    assert_eq!(scrontab(&controller, &["-u", "daemon", "-r"], "", None).code, Some(0));
    assert_eq!(scrontab(&controller, &["-r"], "", None).code, Some(0));
    assert_eq!(squeue(&controller, "%i"), "");
    assert_eq!(controller.run(&["cron", "list"]).code, Some(4));
}

/// An editor that does to the file what a line of shell says, `$1` being the file.
fn editor(folder: &Path, line: &str) -> std::path::PathBuf {
    let path = folder.join("editor");
    std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_crontab_is_edited_until_it_is_right() {
    let controller = Controller::start();
    let edit = |line: &str, input: &str| {
        scrontab(&controller, &["-e"], input, Some(&editor(&controller.folder(), line)))
    };
    // What is offered first is a table that says how one looks, and sets nothing.
    let ran = edit("grep -q '#SCRON' \"$1\" && chmod 600 \"$1\"", "");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(squeue(&controller, "%i"), "");
    // Wrong at first; the second time the wrong line is marked.
    let line = "if grep -q '^#BAD: 99' \"$1\"; then echo '@daily b' >> \"$1\"; else printf '@hourly a\\n99 * * * * x\\n' > \"$1\"; fi";
    let ran = edit(line, "maybe\ny\n");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("crontab:2: the minute '99' is wrong") && ran.err.contains("(y/n)"), "{ran:?}");
    assert_eq!(scrontab(&controller, &["-l"], "", None).out, "@hourly a\n#BAD: 99 * * * * x\n@daily b\n");
    // Whoever gives up, and an editor that fails, change nothing.
    for (line, input, right) in [
        ("echo bogus > \"$1\"", "n\n", "nothing was changed"),
        ("echo bogus > \"$1\"", "", "nothing was changed"),
        ("exit 3", "", "failed, and nothing was changed"),
    ] {
        let ran = edit(line, input);
        assert!(ran.code == Some(1) && ran.err.contains(right), "{ran:?}");
        assert!(scrontab(&controller, &["-l"], "", None).out.starts_with("@hourly a\n"));
    }
}
