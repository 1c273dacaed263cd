//! The commands, seen from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::common::{Fake, PATIENCE, Ran, Shared, job, json, muster, refusal, task};
use muster_client::api::{
    JobDetail, JobList, KeptForView, LeaderView, NodeList, NodeView, Ping, PoolList, PoolView, SCHEMA,
    SubmitRequest, TaskState, Why,
};

fn accepting() -> Fake {
    Fake::always(201, r#"{"schema":1,"job":12}"#)
}

fn submitted(fake: &Fake) -> SubmitRequest {
    let question = fake.question();
    assert_eq!(question.line, "POST /v1/jobs");
    serde_json::from_str(&question.body).unwrap()
}

#[test]
fn a_script_is_submitted_with_all_that_goes_with_it() {
    let fake = accepting();
    let script = fake.folder().join("job.sh");
    std::fs::write(
        &script,
        "#!/bin/bash\n#SBATCH -n 4 -t 10 # short\n#MUSTER --mem-per-cpu=1G\nmpirun a.out\n",
    )
    .unwrap();
    let mut command = fake.command(&["submit", "-t", "20", "job.sh", "--input", "-x", "a b"]);
    let ran = command
        .current_dir(fake.folder())
        .env("SBATCH_PARTITION", "big")
        .env("COLOUR", "red")
        .output()
        .unwrap();
    let ran = Ran::new(ran);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "Submitted job 12\n", ""));
    let request = submitted(&fake);
    assert_eq!(request.name, "job.sh");
    assert_eq!(request.pool.as_deref(), Some("big"));
    assert_eq!(request.arguments, ["--input", "-x", "a b"]);
    assert_eq!(request.time_limit_s, Some(1200));
    assert_eq!(request.request.ranks, 4);
    assert_eq!(request.environment["COLOUR"], "red");
    assert_eq!(request.working_directory, fake.folder().canonicalize().unwrap().to_str().unwrap());
    assert!(request.script.ends_with("mpirun a.out\n") && request.limits.contains_key("nofile"));
    assert!(request.request_key.is_some() && !request.submit_host.is_empty());
}

#[test]
fn scripts_come_from_the_standard_input_and_from_wrap() {
    let fake = accepting();
    for arguments in [&["submit", "--parsable", "-", "arg"][..], &["submit", "--parsable"]] {
        let mut child = fake
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"#!/bin/sh\n#SBATCH -J piped\necho\n").unwrap();
        let ran = Ran::new(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "12\n"), "{ran:?}");
        assert_eq!(submitted(&fake).name, "piped");
    }
    fake.run(&["submit", "--wrap", "hostname"]);
    assert!(submitted(&fake).script.ends_with("\nhostname\n"));
}

#[test]
fn a_bad_script_reaches_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("nobody");
    let script = folder.path().join("job.sh");
    for (text, message) in [
        ("echo hi\n", "job.sh:1: the first line is 'echo hi'"),
        ("#!/bin/sh\n#SBATCH --ntask-per-nod=2\n", "job.sh:2: #SBATCH --ntask-per-nod=2: there is no option"),
        ("#!/bin/sh\n\n#SBATCH -t soon\n", "job.sh:3: #SBATCH -t soon: -t: 'soon' is not a time"),
        ("#!/bin/sh\r\n", "dos2unix"),
        (
            "#!/bin/sh\n#SBATCH --mincpus=4\n",
            "job.sh:2: #SBATCH --mincpus=4: --mincpus is an option of Slurm",
        ),
    ] {
        std::fs::write(&script, text).unwrap();
        let ran = Ran::new(muster(&nobody, &["submit", script.to_str().unwrap()]).output().unwrap());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.starts_with("muster submit: ") && ran.err.contains(message), "{ran:?}");
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    }
    let ran = Ran::new(muster(&nobody, &["submit", "/nonexistent/job.sh"]).output().unwrap());
    assert!(ran.code == Some(1) && ran.err.contains("/nonexistent/job.sh: No such file"), "{ran:?}");
    let ran = Ran::new(muster(&nobody, &["submit", "-D", "/nonexistent", "--wrap", "x"]).output().unwrap());
    assert!(
        ran.code == Some(1) && ran.err.contains("/nonexistent cannot be the working directory"),
        "{ran:?}"
    );
}

#[test]
fn harmless_options_of_slurm_are_ignored_aloud() {
    let fake = accepting();
    std::fs::write(fake.folder().join("job.sh"), "#!/bin/sh\n#SBATCH --network=ib --wait-all-nodes=1\n")
        .unwrap();
    let mut command = fake.command(&["submit", "job.sh"]);
    let ran = Ran::new(command.current_dir(fake.folder()).output().unwrap());
    assert_eq!((ran.code, ran.err.lines().count()), (Some(0), 1), "{ran:?}");
    assert!(ran.err.starts_with("muster submit: warning: job.sh:2: "), "{ran:?}");
    assert!(ran.err.ends_with("--network is ignored: there is no switch to set up\n"), "{ran:?}");
}

#[test]
fn remarks_go_with_a_job() {
    let fake = accepting();
    std::fs::write(fake.folder().join("job.sh"), "#!/bin/sh\n#SBATCH --signal=B:USR1@90\n").unwrap();
    let words = ["submit", "--comment", "physics", "--mail-type=END", "--nice=7", "--wckey=k", "job.sh"];
    let ran = Ran::new(fake.command(&words).current_dir(fake.folder()).output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let request = submitted(&fake);
    assert_eq!(request.comment.as_deref(), Some("physics"));
    assert_eq!((request.nice, request.priority, request.wckey.as_deref()), (7, -7, Some("k")));
    assert!(request.mail.is_some_and(|mail| mail.to.is_none() && mail.events.len() == 1));
    assert!(request.signal.is_some_and(|wish| wish.signal == 10 && wish.before_s == 90));
    assert!(request.command.is_some_and(|path| path.starts_with('/') && path.ends_with("/job.sh")));
    assert!(request.submit_line.is_some_and(|line| line.ends_with(&words.join(" "))));
}

#[test]
fn submit_can_wait_and_test() {
    let mut failed = task(0, TaskState::Failed);
    failed.exit_code = Some(9);
    let failed = json(&job(vec![failed]));
    let fake = Fake::start(move |question| match question.line.as_str() {
        "POST /v1/jobs" if question.body.contains("\"test_only\":true") => {
            (201, r#"{"schema":1,"job":null}"#.into())
        }
        "POST /v1/jobs" => (201, r#"{"schema":1,"job":12}"#.into()),
        _ => (200, failed.clone()),
    });
    let ran = fake.run(&["submit", "-W", "--wrap", "exit 9"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(9), "Submitted job 12\n"), "{ran:?}");
    let ran = fake.run(&["submit", "--test-only", "--wrap", "true"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "This job can be submitted\n"), "{ran:?}");
}

#[test]
fn a_controller_that_restarts_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let mut child = muster(&socket, &["submit", "--wrap", "true"])
        .env("MUSTER_RETRY_S", "20")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut sentence = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut sentence).unwrap();
    assert!(sentence.contains("does not answer") && sentence.contains("trying again for"), "{sentence}");
    let fake = accepting();
    std::os::unix::fs::symlink(fake.socket(), &socket).unwrap();
    let ran = Ran::new(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "Submitted job 12\n"), "{ran:?}");
}

fn list(details: &[JobDetail]) -> String {
    json(&JobList {
        schema: SCHEMA,
        jobs: details.iter().map(|detail| detail.summary.clone()).collect(),
        cut: false,
    })
}

#[test]
fn the_queue_asks_for_what_was_said_and_prints_a_table() {
    let fake = Fake::always(200, list(&[job(vec![task(0, TaskState::Waiting)])]));
    let ran = fake.run(&["queue", "-u", "ann", "-t", "pd,r", "-p", "main"]);
    assert_eq!(fake.question().line, "GET /v1/jobs?state=waiting%2Crunning&user=ann");
    assert_eq!(ran.code, Some(0));
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("JOB  NAME") && lines[1].contains("relax"), "{ran:?}");
    let ran = fake.run(&["queue", "--all", "-p", "other"]);
    assert_eq!(fake.question().line, "GET /v1/jobs?all=true");
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    let ran = fake.run(&["queue", "-t", "failed", "--json"]);
    assert_eq!(fake.question().line, "GET /v1/jobs?state=failed&all=true");
    let answer: JobList = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(answer.jobs[0].job, 12);
}

#[test]
fn a_job_is_shown_with_its_task() {
    let mut done = task(0, TaskState::Failed);
    done.exit_code = Some(3);
    done.cpu_time_us = 10_000_000;
    done.reason = "exited with 3".into();
    let fake = Fake::always(200, json(&job(vec![done])));
    let ran = fake.run(&["show", "12"]);
    for text in
        ["Job  12 (relax)", "n1: cores 0-1, 2 ranks, 1G", "Exit code  3", "50 % of 00:00:20", "exited with 3"]
    {
        assert!(ran.out.contains(text), "{text}: {}", ran.out);
    }
    assert_eq!(fake.question().line, "GET /v1/jobs/12");
    let detail: JobDetail = serde_json::from_str(&fake.run(&["show", "12_0", "--json"]).out).unwrap();
    assert_eq!(detail.task_list[0].exit_code, Some(3));
    assert_eq!(fake.question().line, "GET /v1/jobs/12_0");
}

#[test]
fn why_speaks_in_sentences() {
    let why = Why {
        schema: SCHEMA,
        job: 12,
        state: TaskState::Waiting,
        code: "resources".into(),
        sentences: vec!["It waits for 2 nodes.".into(), "1 is free.".into()],
        expected_start_us: Some(1_767_323_045_000_000),
        shortage: None,
        holders: None,
        kept_for: Some(KeptForView { job: 9, expected_start_us: Some(1_767_323_045_000_000) }),
        nodes_away: None,
    };
    let ran = Fake::always(200, json(&why)).run(&["why", "12"]);
    assert_eq!(
        ran.out,
        "It waits for 2 nodes.\n1 is free.\nJob 9 is expected to start by 2026-01-02T03:04:05.\n\
         It is expected to start by 2026-01-02T03:04:05.\n"
    );
    // A controller that says less is understood as well.
    let less = r#"{"schema":1,"job":12,"state":"waiting","code":"resources","sentences":["x"],"expected_start_us":null}"#;
    assert_eq!(Fake::always(200, less.to_owned()).run(&["why", "12"]).out, "X.\n");
}

#[test]
fn jobs_are_cancelled_by_number_name_and_owner() {
    let jobs = list(&[job(vec![task(0, TaskState::Running)])]);
    let fake = Fake::start(move |question| match question.line.as_str() {
        "POST /v1/jobs/9/cancel" => (404, refusal("no_such_job", "there is no job 9")),
        line if line.starts_with("POST") => (200, r#"{"schema":1,"tasks":3}"#.into()),
        _ => (200, jobs.clone()),
    });
    let ran = fake.run(&["cancel", "9", "12_[", "13"]);
    assert_eq!(ran.code, Some(2), "nothing is cancelled if one id is wrong: {ran:?}");
    let ran = fake.run(&["cancel", "9", "13"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(4), "Cancelled job 13 (3 tasks)\n"));
    assert_eq!(ran.err, "muster cancel: there is no job 9\n");
    assert_eq!(fake.run(&["cancel", "--name", "relax"]).out, "Cancelled job 12 (3 tasks)\n");
    assert_eq!(fake.run(&["cancel", "--name", "other"]).out, "No such job waits or runs\n");
}

#[test]
fn nodes_are_listed_drained_taken_down_and_resumed() {
    let node = NodeView {
        kept_for: Vec::new(),
        name: "n1".into(),
        state: "draining".into(),
        reason: "new disks".into(),
        since_us: Some(1_767_323_045_000_000),
        until_us: None,
        by_uid: Some(0),
        pools: vec!["main".into()],
        cores: 8,
        cores_free: 6,
        memory_bytes: 8 << 30,
        memory_free_bytes: 6 << 30,
        cores_real: 8,
        packages: 2,
        threads_per_core: 1,
        gres: Vec::new(),
        gres_held: Vec::new(),
        up_since_us: None,
        connected: true,
        drained: false,
        reason_given: "new disks".into(),
        tasks: vec!["12".into()],
        address: "10.0.0.1".into(),
        agent_version: "0.1.0".into(),
        containment: "cgroup v2".into(),
        load_hundredths: Some(205),
        memory_idle_bytes: Some(1 << 30),
        features: vec!["gpu".into()],
    };
    let nodes = json(&NodeList { schema: SCHEMA, nodes: vec![node] });
    let fake = Fake::start(move |question| match question.line.as_str() {
        line if line.starts_with("POST") => (200, "{}".into()),
        _ => (200, nodes.clone()),
    });
    let short = fake.run(&["nodes"]).out;
    assert!(short.contains("n1    draining      8     6      8G    6G  main   12     new disks"), "{short}");
    assert!(
        !short.contains("10.0.0.1") && fake.run(&["nodes", "-l"]).out.contains("10.0.0.1  0.1.0  cgroup v2")
    );
    let reasons = fake.run(&["nodes", "--reasons"]).out;
    assert!(reasons.contains("n1     draining  root  2026-01-02T"), "{reasons}");
    for (arguments, line, body) in [
        (
            &["nodes", "drain", "n[1-2]", "--reason", "new disks"][..],
            "POST /v1/nodes/drain",
            r#"{"nodes":"n[1-2]","reason":"new disks"}"#,
        ),
        (&["nodes", "hold", "n1", "--reason", "x"], "POST /v1/nodes/drain", r#"{"nodes":"n1","reason":"x"}"#),
        (
            &["nodes", "down", "n3", "--reason", "it smokes", "--for", "2h"],
            "POST /v1/nodes/down",
            r#"{"nodes":"n3","reason":"it smokes","for_s":7200}"#,
        ),
        (&["nodes", "resume", "n[1-3]"], "POST /v1/nodes/resume", r#"{"nodes":"n[1-3]"}"#),
        (&["nodes", "release", "n1"], "POST /v1/nodes/resume", r#"{"nodes":"n1"}"#),
    ] {
        assert_eq!(fake.run(arguments).code, Some(0), "{arguments:?}");
        let mut asked = std::iter::repeat_with(|| fake.question());
        let asked = asked.find(|question| question.line.starts_with("POST")).unwrap();
        assert_eq!((asked.line.as_str(), asked.body.as_str()), (line, body), "{arguments:?}");
    }
}

#[test]
fn pools_and_ping_are_told() {
    let pool = PoolView {
        name: "main".into(),
        default: true,
        state: Default::default(),
        node_list: "n[1-2]".into(),
        time_default_s: 3600,
        time_max_s: 86_400,
        priority: 0,
        tier: 0,
        preempt: Default::default(),
        grace_s: 0,
        memory_per_core_bytes: None,
    };
    let ran = Fake::always(200, json(&PoolList { schema: SCHEMA, pools: vec![pool] })).run(&["pools"]);
    assert!(ran.out.ends_with("main*  up     01:00:00  1-00:00:00  n[1-2]\n"), "{ran:?}");
    let (cluster, version) = ("c".into(), "0.1.0".into());
    let mut ping = Ping { schema: SCHEMA, cluster, version, nodes_up: 1, nodes: 2, leader: None };
    let alone = "The controller of cluster c answers (version 0.1.0): 1 of 2 nodes are up\n";
    assert_eq!(Fake::always(200, json(&ping)).run(&["ping"]).out, alone);
    ping.leader = Some(LeaderView { holder: "head2".into(), term: 7 });
    let ran = Fake::always(200, json(&ping)).run(&["ping"]);
    assert_eq!(ran.out, format!("{alone}It is head2, which leads in term 7\n"));
}

#[test]
fn logs_are_printed_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut done = task(0, TaskState::Completed);
    done.stdout_path = folder.path().join("o").to_str().unwrap().into();
    done.stderr_path = folder.path().join("e").to_str().unwrap().into();
    std::fs::write(&done.stdout_path, "out\u{1b}[1m\n").unwrap();
    std::fs::write(&done.stderr_path, "err\n").unwrap();
    let fake = Fake::always(200, json(&job(vec![done])));
    assert_eq!(fake.run(&["logs", "12"]).out, "out\u{1b}[1m\n");
    assert_eq!(fake.run(&["logs", "-f", "12", "--stderr"]).out, "err\n");
    let waiting = Fake::always(200, json(&job(vec![task(0, TaskState::Waiting)]))).run(&["logs", "12"]);
    assert!(waiting.code == Some(4) && waiting.err.contains("it is waiting; -f waits for it"), "{waiting:?}");
}

/// Answers with the job as it is at present; a `wait` is answered once `changed` says that it is another.
fn living(present: &Shared<JobDetail>, changed: mpsc::Receiver<()>) -> Fake {
    let (present, changed) = (Arc::clone(present), Mutex::new(changed));
    Fake::start(move |question| {
        if question.line.contains("/wait?") {
            let _ = changed.lock().unwrap().recv_timeout(PATIENCE);
        }
        (200, json(&*present.lock().unwrap()))
    })
}

#[test]
fn logs_follow_a_task_from_before_its_start_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let present = Arc::new(Mutex::new(job(vec![task(0, TaskState::Waiting)])));
    let (change, changed) = mpsc::channel();
    let fake = living(&present, changed);
    let mut child =
        fake.command(&["logs", "-f", "12"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has looked, and found that nothing has started.
    while !fake.question().line.contains("/wait?") {}
    let mut running = task(0, TaskState::Running);
    running.stdout_path = path.to_str().unwrap().into();
    *present.lock().unwrap() = job(vec![running.clone()]);
    change.send(()).unwrap();
    // It follows, and waits for the end; only now does the file appear.
    while !fake.question().line.contains("/wait?") {}
    let mut file = std::fs::File::create(&path).unwrap();
    writeln!(file, "first").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    writeln!(file, "second").unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "second\n");
    write!(file, "last words").unwrap();
    running.state = TaskState::Completed;
    *present.lock().unwrap() = job(vec![running]);
    change.send(()).unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "last words");
    let ran = Ran::new(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}

#[test]
fn the_layout_is_drawn_for_what_runs_and_for_what_ran() {
    for state in [TaskState::Running, TaskState::Completed] {
        let detail = json(&job(vec![task(0, state)]));
        let nodes = json(&NodeList { schema: SCHEMA, nodes: vec![] });
        let fake = Fake::start(move |question| match question.line.as_str() {
            "GET /v1/nodes" => (200, nodes.clone()),
            _ => (200, detail.clone()),
        });
        let ran = fake.run(&["layout", "12"]);
        assert!(ran.out.contains("n1\n  0   1\n┌───┬───┐\n│ 0 │ 1 │\n└───┴───┘\n"), "{ran:?}");
    }
    let ran = Fake::always(200, json(&job(vec![]))).run(&["layout", "12"]);
    assert!(ran.code == Some(4) && ran.err.contains("holds no cores"), "{ran:?}");
}

#[test]
fn man_pages_and_completions_are_made() {
    let fake = Fake::always(500, "");
    let folder = fake.folder().join("man");
    assert_eq!(fake.run(&["generate", "man", folder.to_str().unwrap()]).code, Some(0));
    let page = std::fs::read_to_string(folder.join("muster-submit.1")).unwrap();
    assert!(page.contains("ntasks") && page.contains("Examples"), "{page}");
    let completions = fake.run(&["generate", "completions", "bash"]).out;
    assert!(
        completions.contains("--ntasks-per-node") && completions.contains("complete -F"),
        "{completions}"
    );
}

#[test]
fn help_reads_as_it_was_written() {
    let fake = Fake::always(500, "");
    let expected = "\
Say why a job waits and when it may start

Usage: muster why [OPTIONS] <JOB[_TASK]>

Arguments:
  <JOB[_TASK]>  Job (12) or task of an array (12_3)

Options:
      --json  Print JSON
  -h, --help  Print help

Examples:
  muster why 12      why job 12 waits
  muster why 12_3    why task 3 of array 12 waits
";
    assert_eq!(fake.run(&["why", "--help"]).out, expected);
    // No example is broken on the narrowest terminal that is common.
    for command in [
        "submit", "queue", "show", "cancel", "hold", "release", "logs", "wait", "layout", "nodes", "pools",
        "licenses", "ping", "help",
    ] {
        let help = fake.run(&[command, "--help"]).out;
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        assert!(examples.lines().all(|line| line.chars().count() <= 80), "{command}: {examples}");
    }
}
