//! The command against the real controller, whose nodes never come: what needs no running task.

use std::os::unix::process::CommandExt as _;
use std::path::Path;

use muster_cli::exit::Exit;
use muster_client::api::{JobDetail, PriorityList, ShareList, TaskState};
use nix::unistd::Uid;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common::{Ran, muster};

/// A user who is not an admin; tests that run as root become this one where it matters.
const NOBODY: u32 = 65_534;

/// A controller with two nodes of 4 cores.
pub struct Controller {
    folder: TempDir,
    runtime: Runtime,
    running: Option<muster_server::Running>,
}

impl Controller {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more at the end of the configuration: keys of the pool, and other sections.
    pub fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[cluster]\nname = \"test\"\n[controller]\nlisten = \"127.0.0.1:0\"\nsocket = \"{0}/s\"\n\
             state_dir = \"{0}/state\"\n[policy]\nroot_may_submit = true\n\
             [[node]]\nname = \"n[1-2]\"\ncores = 4\nmemory = \"4G\"\n[[pool]]\nname = \"main\"\nnodes = \"n[1-2]\"\n{more}",
            folder.path().display()
        );
        std::fs::write(folder.path().join("muster.toml"), text).unwrap();
        Self::over(folder)
    }

    /// A controller on a folder with a configuration whose socket is `s` there.
    pub fn over(folder: TempDir) -> Self {
        let mut controller = Self { folder, runtime: Runtime::new().unwrap(), running: None };
        controller.resume();
        controller
    }

    fn resume(&mut self) {
        let config = muster_config::load(&self.folder.path().join("muster.toml")).unwrap();
        self.running = Some(self.runtime.block_on(muster_server::start(config)).unwrap());
    }

    fn pause(&mut self) {
        self.runtime.block_on(self.running.take().unwrap().stop());
    }

    pub fn folder(&self) -> std::path::PathBuf {
        self.folder.path().to_owned()
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("s")
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::new(muster(&self.socket(), arguments).current_dir("/").output().unwrap())
    }

    /// Runs one of Slurm's commands in a directory.
    pub fn face(&self, name: &str, directory: &Path, arguments: &[&str]) -> Ran {
        Ran::new(
            crate::common::face(name, &self.socket(), arguments).current_dir(directory).output().unwrap(),
        )
    }

    /// Runs it as somebody who is no admin.
    pub fn run_as_nobody(&self, arguments: &[&str]) -> Ran {
        std::fs::set_permissions(self.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let mut command = muster(&self.socket(), arguments);
        Ran::new(command.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap())
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // A runtime that is dropped waits for the engine's thread, which ends when it is told to.
        if self.running.is_some() {
            self.pause();
        }
    }
}

/// Whether the test can become another user, and that user can start the program.
pub fn can_be_nobody() -> bool {
    let program = Path::new(env!("CARGO_BIN_EXE_muster"));
    let mut command = std::process::Command::new(program);
    Uid::effective().is_root()
        && command
            .arg("--version")
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .is_ok_and(|output| output.status.success())
}

#[test]
fn a_job_is_submitted_seen_explained_and_cancelled() {
    let controller = Controller::start();
    let ran = controller.run(&["submit", "--parsable", "-J", "gang", "-N2", "-n8", "-t5", "--wrap", "true"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "1\n", ""));
    let ran = controller.run(&["submit", "-a", "0-99:3%4", "--wrap", "true"]);
    assert_eq!(ran.out, "Submitted job 2\n", "{ran:?}");

    let queue = controller.run(&["queue", "--me", "-t", "waiting"]).out;
    let lines: Vec<&str> = queue.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("gang") && lines[2].contains("34 waiting"), "{queue}");
    let ran = controller.run(&["why", "1"]);
    assert!(ran.code == Some(0) && ran.out.ends_with('\n') && ran.out.len() > 10, "{ran:?}");
    let detail: JobDetail = serde_json::from_str(&controller.run(&["show", "2", "--json"]).out).unwrap();
    assert_eq!(detail.summary.tasks[&TaskState::Waiting], 34);
    assert!(controller.run(&["show", "2"]).out.contains("0-99:3, 4 at once"), "{detail:?}");
    let ran = controller.run(&["logs", "1"]);
    assert!(ran.code == Some(4) && ran.err.contains("waiting"), "{ran:?}");
    let ran = controller.run(&["layout", "1"]);
    assert!(ran.code == Some(4) && ran.err.contains("nothing to draw"), "{ran:?}");
    let ran = controller.run(&["wait", "1", "--timeout", "0"]);
    assert_eq!(ran.code, Some(Exit::TimeOut as i32), "{ran:?}");

    assert_eq!(controller.run(&["cancel", "1", "2_3"]).out, "Cancelled job 1\nCancelled job 2_3\n");
    assert_eq!(controller.run(&["wait", "1"]).code, Some(1));
    assert_eq!(controller.run(&["wait", "2_3"]).code, Some(1));
    let ran = controller.run(&["cancel", "1"]);
    assert_eq!(ran.code, Some(Exit::Ended as i32), "{ran:?}");
    assert_eq!(controller.run(&["cancel", "--all-mine"]).out, "Cancelled job 2 (33 tasks)\n");
    assert_eq!(controller.run(&["queue"]).out.lines().count(), 1);
    assert_eq!(controller.run(&["queue", "--all"]).out.lines().count(), 3);
}

#[test]
fn the_controllers_refusals_have_their_codes() {
    let controller = Controller::start();
    for (arguments, exit, word) in [
        (&["submit", "--test-only", "-N2", "--wrap", "true"][..], Exit::Ok, ""),
        (&["submit", "-N3", "--wrap", "true"], Exit::Refused, "2"),
        (&["submit", "-p", "mian", "--wrap", "true"], Exit::Refused, "main"),
        (&["show", "7"], Exit::NotFound, "7"),
        (&["why", "7_1"], Exit::NotFound, "7_1"),
        (&["cancel", "7"], Exit::NotFound, "7"),
        (&["wait", "7"], Exit::NotFound, "7"),
        (&["nodes", "drain", "n9", "--reason", "x"], Exit::NotFound, "n9"),
        (&["nodes", "down", "n[1,7-9]", "--reason", "x"], Exit::NotFound, "there are no nodes n[7-9]"),
        (&["nodes", "drain", "n1", "--reason", " "], Exit::Refused, "say why"),
        (
            &["submit", "-d", "afterok:7", "--wrap", "true"],
            Exit::Refused,
            "cannot depend on 7: there is no such job",
        ),
        (
            &["submit", "-C", "gpu", "--wrap", "true"],
            Exit::Refused,
            "no node of the pool has the feature 'gpu'",
        ),
        (&["submit", "-w", "n[1-3]", "--wrap", "true"], Exit::Refused, "n3 must be used"),
        (&["submit", "-x", "n[1-2]", "--wrap", "true"], Exit::Refused, "that are not excluded"),
        (
            &["submit", "--deadline", "now+60", "-t", "5", "--wrap", "true"],
            Exit::Refused,
            "no task could end by then",
        ),
        (&["hold", "7"], Exit::NotFound, "7"),
        (&["release", "7_1"], Exit::NotFound, "there is no job 7_1"),
    ] {
        let ran = controller.run(arguments);
        assert_eq!(ran.code, Some(exit as i32), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(word), "{arguments:?}: {ran:?}");
    }
    assert_eq!(controller.run(&["queue", "--all"]).out.lines().count(), 1, "a test stores nothing");
}

#[test]
fn jobs_are_held_and_released_and_say_why_they_wait() {
    let controller = Controller::start();
    let script = "#!/bin/sh\n#SBATCH --hold --begin=now+1hour -N 1-2\n#SBATCH -x n2\ntrue\n";
    let path = std::env::temp_dir().join(format!("muster-held-{}.sh", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let submitted = controller.run(&["submit", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(submitted.out, "Submitted job 1\n", "{submitted:?}");
    controller.run(&["submit", "-d", "afterok:1", "--kill-on-invalid-dep=yes", "--wrap", "true"]);
    let why = |job: &str| controller.run(&["why", job]).out;
    assert!(why("1").starts_with("It is held; muster release lets it go."), "{}", why("1"));
    assert!(why("2").starts_with("It waits for afterok:1."), "{}", why("2"));
    let shown = controller.run(&["show", "1"]).out;
    for part in ["Held  by ", "Begin  20", "1 to 2 nodes, 1 rank or more", "not on n2"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(controller.run(&["show", "2"]).out.contains("Depends on  afterok:1; cancelled if"));
    assert_eq!(controller.run(&["release", "1"]).out, "Released job 1\n");
    assert!(why("1").starts_with("The time at which it may begin has not come."), "{}", why("1"));
    assert_eq!(controller.run(&["hold", "1", "2"]).out, "Held job 1\nHeld job 2\n");
    let shown = controller.run(&["show", "2", "--json"]).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["reason_code"], &shown["held"]["by_admin"]), (&"held_by_user".into(), &false.into()));
    assert_eq!(controller.run(&["cancel", "1"]).code, Some(0));
    let ended = controller.run(&["wait", "2"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let shown = controller.run(&["show", "2"]).out;
    assert!(shown.contains("what it waited for can no longer come true"), "{shown}");
}

#[test]
fn nodes_and_pools_are_those_of_the_configuration() {
    let controller = Controller::start();
    let ping = controller.run(&["ping"]).out;
    assert!(
        ping.starts_with("The controller of cluster test answers") && ping.ends_with("0 of 2 nodes are up\n"),
        "{ping}"
    );
    let pools = controller.run(&["pools"]).out;
    assert!(pools.contains("main*") && pools.contains("n[1-2]"), "{pools}");
    let held = controller.run(&["nodes", "drain", "n[1-2]", "--reason", "new disks"]);
    assert_eq!(held.code, Some(0), "{held:?}");
    let reasons = controller.run(&["nodes", "--reasons"]).out;
    assert!(reasons.contains("n[1-2]") && reasons.contains("an admin drains it: new disks"), "{reasons}");
    assert_eq!(controller.run(&["nodes", "resume", "n1"]).code, Some(0));
    let nodes = controller.run(&["nodes", "-l"]).out;
    assert!(nodes.contains("n1 ") && nodes.contains("n2 ") && nodes.contains("main"), "{nodes}");
}

#[test]
fn other_peoples_work_is_not_for_everybody() {
    if !can_be_nobody() {
        return;
    }
    let controller = Controller::start();
    assert_eq!(controller.run(&["submit", "--wrap", "true"]).code, Some(0));
    for arguments in [
        &["cancel", "1"][..],
        &["hold", "1"],
        &["nodes", "drain", "n1", "--reason", "x"],
        &["nodes", "down", "n1", "--reason", "x"],
        &["nodes", "resume", "n1"],
    ] {
        let ran = controller.run_as_nobody(arguments);
        assert_eq!(ran.code, Some(Exit::NotAllowed as i32), "{arguments:?}: {ran:?}");
    }
    let ran = controller.run_as_nobody(&["submit", "--priority", "5", "--wrap", "true"]);
    assert!(ran.code == Some(1) || ran.code == Some(5), "{ran:?}");
}

#[test]
fn a_wait_outlives_a_restart_of_the_controller() {
    let mut controller = Controller::start();
    controller.run(&["submit", "--wrap", "true"]);
    let mut command = muster(&controller.socket(), &["wait", "1"]);
    command.env_remove("MUSTER_RETRY_S").stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    controller.pause();
    let mut sentence = String::new();
    let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut errors, &mut sentence).unwrap();
    assert!(sentence.contains("trying again"), "{sentence}");
    controller.resume();
    assert_eq!(controller.run(&["cancel", "1"]).code, Some(0));
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn accounts_qualities_of_service_and_the_sum_are_seen() {
    let me = nix::unistd::User::from_uid(Uid::effective()).unwrap().unwrap().name;
    let controller = Controller::start_with(&format!(
        "order = \"multifactor\"\n[priority]\nage_weight = 0\n[[account]]\nname = \"lab\"\n[[account]]\nname = \"physics\"\n\
         parent = \"lab\"\nusers = [\"{me}:2\"]\n[[account]]\nname = \"others\"\nusers = [\"{me}\", \"nobody-else\"]\n\
         [[qos]]\nname = \"urgent\"\npriority = 10\n[[pool]]\nname = \"plain\"\nnodes = \"n1\"\n"
    ));
    let submit = |options: &[&str]| {
        let arguments = [&["submit", "--parsable"], options, &["--wrap", "true"]].concat();
        controller.run(&arguments)
    };
    assert_eq!(submit(&[]).out, "1\n");
    assert_eq!(submit(&["-A", "others", "--qos=urgent"]).out, "2\n");
    assert_eq!(submit(&["-p", "plain", "-q", "normal"]).out, "3\n");
    for (options, exit, words) in [
        (&["-A", "physiks"][..], Exit::Refused, "there is no account 'physiks'"),
        (&["-A", "lab"], Exit::NotAllowed, "are: physics, others"),
        (&["-q", "urgnt"], Exit::Refused, "there is no quality of service 'urgnt'; there are: urgent"),
    ] {
        let ran = submit(options);
        assert_eq!(ran.code, Some(exit as i32), "{options:?}: {ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
    let ran = Ran::new(
        muster(&controller.socket(), &["submit", "--parsable", "--wrap", "true"])
            .current_dir("/")
            .env("SBATCH_ACCOUNT", "physics")
            .env("MUSTER_SUBMIT_ACCOUNT", "others")
            .env("SBATCH_QOS", "urgent")
            .output()
            .unwrap(),
    );
    assert_eq!(ran.out, "4\n", "{ran:?}");
    let detail: JobDetail = serde_json::from_str(&controller.run(&["show", "4", "--json"]).out).unwrap();
    assert_eq!((detail.account.as_deref(), detail.qos.as_deref()), (Some("others"), Some("urgent")));
    let shown = controller.run(&["show", "2"]).out;
    assert!(shown.contains("Account  others\n") && shown.contains("QoS  urgent\n"), "{shown}");

    let table = controller.run(&["priority"]).out;
    let first: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(first[0][..6], ["JOB", "USER", "ACCOUNT", "QOS", "POOL", "SUM"]);
    assert_eq!(first[1], ["weight", "0", "0", "10000", "1000", "1000", "1000"]);
    // Nobody has used anything: all have the same share, and half the job's weight each.
    assert_eq!(
        first[2],
        [
            "2",
            me.as_str(),
            "others",
            "urgent",
            "main",
            "11500.0",
            "0.0",
            "(0.000)",
            "0.0",
            "(0.125)",
            "10000.0",
            "(1.000)",
            "0.0",
            "(0.000)",
            "500.0",
            "(0.500)",
            "1000.0",
            "(1.000)"
        ]
    );
    let jobs: Vec<&str> = first[2..].iter().map(|line| line[0]).collect();
    assert_eq!(jobs, ["2", "4", "1"], "{table}");
    let list: PriorityList =
        serde_json::from_str(&controller.run(&["priority", "1", "2", "--json"]).out).unwrap();
    assert_eq!(
        list.jobs.iter().map(|job| (job.job, job.sum)).collect::<Vec<_>>(),
        [(2, 11_500.0), (1, 10_500.0)]
    );
    assert_eq!(controller.run(&["priority", "-u", "nobody-else"]).out.lines().count(), 1);
    for (job, exit, words) in [
        ("9", Exit::NotFound, "there is no job 9"),
        (
            "3",
            Exit::Refused,
            "job 3 has no priority sum: the order of pool 'plain' is not multifactor; see muster why 3",
        ),
    ] {
        let ran = controller.run(&["priority", job]);
        assert_eq!(ran.code, Some(exit as i32), "{ran:?}");
        assert!(ran.err.contains(words), "{ran:?}");
    }
    let why = controller.run(&["why", "1"]).out;
    assert!(why.contains("Its priority is 10500.0 = 10000.0 fair share (1.000 × 10000) + 0.0 pool"), "{why}");
    assert!(!controller.run(&["why", "3"]).out.contains("priority is"));

    let shares = controller.run(&["shares"]).out;
    let lines: Vec<Vec<&str>> = shares.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["(cluster)", "0.0"]);
    assert_eq!(lines[2], ["lab", "1", "50.0", "%", "0.0", "0.0", "%", "unused"]);
    assert_eq!(lines[4], [me.as_str(), "2", "100.0", "%", "0.0", "0.0", "%", "unused", "1.000"]);
    let list: ShareList =
        serde_json::from_str(&controller.run(&["shares", "-u", &me, "--json"]).out).unwrap();
    let accounts: Vec<&str> = list.shares.iter().filter_map(|line| line.account.as_deref()).collect();
    assert_eq!((accounts, list.half_life_s), (vec!["physics", "others"], 7 * 86_400));
}

#[test]
fn without_accounts_habits_do_no_harm() {
    let controller = Controller::start();
    let ran = controller.run(&["submit", "--account=whatever", "--qos=normal", "--wrap", "true"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "Submitted job 1\n", ""));
    assert!(controller.run(&["show", "1"]).out.contains("Account  whatever\n"));
    let ran = controller.run(&["submit", "--qos=high", "--wrap", "true"]);
    assert_eq!(ran.code, Some(Exit::Refused as i32), "{ran:?}");
    assert!(ran.err.contains("there is no quality of service 'high'; there are: none"), "{ran:?}");
    assert_eq!(controller.run(&["priority"]).out.lines().count(), 1);
    assert_eq!(controller.run(&["shares"]).out.lines().count(), 2);
}
