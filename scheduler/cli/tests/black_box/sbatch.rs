//! The face `sbatch`, as people and programs meet it. What it says was compared with Slurm 22.05.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use muster_client::api::{SubmitRequest, TaskState};
use muster_core::spec::{Memory, SignalTo};

use crate::common::{Fake, Ran, face, job, json, task};
use crate::controller::Controller;

fn accepting() -> Fake {
    Fake::always(201, r#"{"schema":1,"job":12}"#)
}

fn submitted(fake: &Fake) -> SubmitRequest {
    let question = fake.question();
    assert_eq!(question.line, "POST /v1/jobs");
    serde_json::from_str(&question.body).unwrap()
}

fn sbatch(fake: &Fake, arguments: &[&str]) -> Ran {
    Ran::new(face("sbatch", &fake.socket(), arguments).current_dir(fake.folder()).output().unwrap())
}

fn piped(fake: &Fake, arguments: &[&str], script: &str) -> Ran {
    let mut command = face("sbatch", &fake.socket(), arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    Ran::new(child.wait_with_output().unwrap())
}

#[test]
fn a_script_is_submitted_as_sbatch_does() {
    let fake = accepting();
    let script = "#!/bin/bash\n#SBATCH --job-name=cfd   # a remark\n#SBATCH -N 2 --ntasks-per-node=4\n\
                  #SBATCH --time=1-00:00:00\n#SBATCH --mem=30gb\n#SBATCH --signal=B:USR1@90\n\nmpirun ./a.out\n\
                  #SBATCH -N 9\n";
    std::fs::write(fake.folder().join("job.sh"), script).unwrap();
    let ran = sbatch(&fake, &["-t", "10", "job.sh", "-n", "in put"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "Submitted batch job 12\n", ""));
    let request = submitted(&fake);
    assert_eq!((request.name.as_str(), request.arguments.join("|").as_str()), ("cfd", "-n|in put"));
    assert_eq!((request.request.nodes, request.request.ranks), (Some(2), 8));
    assert_eq!(request.time_limit_s, Some(600));
    assert_eq!(request.request.memory, Memory::PerNodeBytes(30 << 30));
    assert_eq!(request.stdout.as_deref(), Some("slurm-%j.out"));
    assert!(request.signal.is_some_and(|wish| wish.to == SignalTo::Script));
    assert!(request.command.is_some_and(|path| path.ends_with("/job.sh")));
    assert!(request.submit_line.is_some_and(|line| line == "sbatch -t 10 job.sh -n in put"));
    for (name, value) in
        [("SLURM_NTASKS", "8"), ("SLURM_NTASKS_PER_NODE", "4"), ("SLURM_MEM_PER_NODE", "30720")]
    {
        assert_eq!(request.environment.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!request.environment.contains_key("SLURM_CPUS_PER_TASK"));
}

#[test]
fn scripts_come_from_everywhere() {
    let fake = accepting();
    for (arguments, name) in [(&["--parsable"][..], "sbatch"), (&["--parsable", "/dev/stdin", "a"], "stdin")]
    {
        let ran = piped(&fake, arguments, "#!/bin/sh\n#SBATCH --array=1-4\necho\n");
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "12\n"), "{ran:?}");
        let request = submitted(&fake);
        assert_eq!((request.name.as_str(), request.command), (name, None));
        assert_eq!(request.stdout.as_deref(), Some("slurm-%A_%a.out"));
    }
    let ran = sbatch(&fake, &["-Q", "-o", "x", "--wrap=hostname; date"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    let request = submitted(&fake);
    assert_eq!(request.script, "#!/bin/sh\n# This script was created by sbatch --wrap.\n\nhostname; date\n");
    assert_eq!((request.name.as_str(), request.stdout.as_deref()), ("wrap", Some("x")));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_directives() {
    let fake = accepting();
    std::fs::write(fake.folder().join("job.sh"), "#!/bin/sh\n#SBATCH -t 1 -n 1 -A script -J script\n")
        .unwrap();
    let mut command = face("sbatch", &fake.socket(), &["-t3", "job.sh"]);
    command.env("SBATCH_TIMELIMIT", "2").env("SBATCH_ACCOUNT", "variable").env("SBATCH_SIGNAL", "USR2@9");
    let ran = Ran::new(command.current_dir(fake.folder()).output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let request = submitted(&fake);
    assert_eq!(request.time_limit_s, Some(180));
    assert_eq!((request.account.as_deref(), request.name.as_str()), (Some("variable"), "script"));
    assert!(request.signal.is_some_and(|wish| wish.to == SignalTo::Ranks && wish.before_s == 9));
}

#[test]
fn nothing_of_the_users_environment_but_a_logins_goes_with_export_none() {
    let fake = accepting();
    let mut command = face("sbatch", &fake.socket(), &["--export=NONE", "--wrap=true"]);
    let ran = Ran::new(command.env("COLOUR", "red").output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let environment = submitted(&fake).environment;
    assert!(!environment.contains_key("COLOUR") && environment.contains_key("PATH"), "{environment:?}");
    assert_eq!(environment["SLURM_EXPORT_ENV"], "NONE");
}

#[test]
fn it_can_wait_and_end_as_the_job_did() {
    let mut failed = task(0, TaskState::Failed);
    failed.exit_code = Some(7);
    let mut killed = task(0, TaskState::Failed);
    killed.signal = Some(9);
    for (task, code) in [(failed, 7), (killed, 1), (task(0, TaskState::Completed), 0)] {
        let detail = json(&job(vec![task]));
        let fake = Fake::start(move |question| match question.line.starts_with("POST") {
            true => (201, r#"{"schema":1,"job":12}"#.to_owned()),
            false => (200, detail.clone()),
        });
        let ran = sbatch(&fake, &["-W", "--wrap=true"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), "Submitted batch job 12\n"), "{ran:?}");
    }
}

/// Arguments, exit code, the first lines of the standard error.
type Said<'a> = (&'a [&'a str], i32, &'a [&'a str]);

/// What needs no controller; the socket is nowhere.
const WRONG_IN_ITSELF: &[Said] = &[
    (
        &["--bogus", "--wrap=true"],
        255,
        &["sbatch: unrecognized option '--bogus'", "Try \"sbatch --help\" for more information"],
    ),
    (
        &["-Y", "job.sh"],
        255,
        &["sbatch: invalid option -- 'Y'", "Try \"sbatch --help\" for more information"],
    ),
    (
        &["badopt.sh"],
        255,
        &["sbatch: unrecognized option '--bogus=1'", "Try \"sbatch --help\" for more information"],
    ),
    (&["stray.sh"], 255, &["sbatch: error: Invalid directive found in batch script: extra"]),
    (&["nosuch.sh"], 1, &["sbatch: error: Unable to open file nosuch.sh"]),
    (
        &["bad.sh"],
        1,
        &[
            "sbatch: error: This does not look like a batch script.  The first",
            "sbatch: error: line must start with #! followed by the path to an interpreter.",
            "sbatch: error: For instance: #!/bin/sh",
        ],
    ),
    (&["empty.sh"], 1, &["sbatch: error: Batch script is empty!"]),
    (&["."], 1, &["sbatch: error: Batch script is empty!"]),
    (&[], 1, &["sbatch: error: Batch script is empty!"]),
    (
        &["dos.sh"],
        1,
        &[
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)",
            "sbatch: error: instead of expected UNIX line breaks (\\n).",
        ],
    ),
    (&["--wrap=true", "job.sh"], 1, &["sbatch: error: Script arguments not permitted with --wrap option"]),
    (
        &["-N", "4-2", "--wrap=true"],
        255,
        &["sbatch: error: Maximum node count 2 is less than minimum node count 4"],
    ),
    (&["-N", "abc", "--wrap=true"], 255, &["sbatch: error: \"abc\" is not a valid node count"]),
    (
        &["-N", "0", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Node count specification invalid"],
    ),
    (&["-n", "abc", "--wrap=true"], 1, &["sbatch: error: Invalid numeric value \"abc\" for --ntasks."]),
    (&["-c", "0", "--wrap=true"], 1, &["sbatch: error: Invalid numeric value \"0\" for --cpus-per-task."]),
    (&["-t", "nonsense", "--wrap=true"], 255, &["sbatch: error: Invalid --time specification"]),
    (&["--mem=x", "--wrap=true"], 255, &["sbatch: error: Invalid --mem specification"]),
    (&["--gpus=x:y:z", "--wrap=true"], 1, &["sbatch: error: Invalid generic resource (gres) specification"]),
    (
        &["-d", "bogus:1", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Job dependency problem"],
    ),
    (
        &["--array=x", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid job array specification"],
    ),
    (
        &["--array=5-1", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid job array specification"],
    ),
    (
        &["--begin=never", "--wrap=true"],
        255,
        &["Invalid time specification (pos=0): never", "sbatch: error: Invalid --begin specification"],
    ),
    (&["--signal=FOO", "--wrap=true"], 255, &["sbatch: error: Invalid --signal specification"]),
    (&["--mail-type=foo", "--wrap=true"], 255, &["sbatch: error: Invalid --mail-type specification"]),
    (
        &["--hint=foo", "--wrap=true"],
        1,
        &["sbatch: error: unrecognized --hint argument \"foo\", see --hint=help"],
    ),
    (&["--open-mode=x", "--wrap=true"], 255, &["sbatch: error: Invalid --open-mode specification"]),
    (&["--exclusive=foo", "--wrap=true"], 255, &["sbatch: error: Invalid --exclusive specification"]),
    (&["-m", "foo", "--wrap=true"], 255, &["sbatch: error: Invalid --distribution specification"]),
    (
        &["--kill-on-invalid-dep=maybe", "--wrap=true"],
        255,
        &["sbatch: error: Invalid --kill-on-invalid-dep specification"],
    ),
    (
        &["-w", "n[1", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid node name specified"],
    ),
    (
        &["-F", "/nonexistent", "--wrap=true"],
        255,
        &[
            "sbatch: error: slurm_allocate_resources error opening file /nonexistent, No such file or directory",
            "sbatch: error: Invalid --nodefile node file",
        ],
    ),
    (
        &["--nice=99999999999", "--wrap=true"],
        255,
        &["sbatch: error: Invalid --nice value, out of range (+/- 2147483645)"],
    ),
    (
        &["het.sh"],
        1,
        &[
            "sbatch: error: het.sh: heterogeneous jobs are not to be had here: submit the components as jobs of their own, or ask for the largest component on each node",
        ],
    ),
    (
        &["--mincpus=2", "--wrap=true"],
        1,
        &[
            "sbatch: error: --mincpus is an option of Slurm that Muster does not have: say the shape with --nodes, --ntasks-per-node and --cpus-per-task, and take it out",
        ],
    ),
    (
        &["--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"],
    ),
];

fn write_scripts(folder: &Path) {
    for (name, text) in [
        ("job.sh", "#!/bin/sh\ntrue\n"),
        ("badopt.sh", "#!/bin/sh\n#SBATCH --bogus=1\n"),
        ("stray.sh", "#!/bin/sh\n#SBATCH --time=1 extra words\n"),
        ("bad.sh", "echo\n"),
        ("empty.sh", ""),
        ("dos.sh", "#!/bin/sh\r\ntrue\r\n"),
        ("het.sh", "#!/bin/sh\n#SBATCH -n 1\n#SBATCH hetjob\n#SBATCH -n 2\n"),
    ] {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn check(ran: &Ran, (arguments, code, lines): Said) {
    let first: Vec<&str> = ran.err.lines().take(lines.len()).collect();
    assert_eq!((ran.code, first.as_slice()), (Some(code), lines), "sbatch {arguments:?}: {ran:?}");
    assert_eq!(ran.out, "", "sbatch {arguments:?}");
}

#[test]
fn what_is_wrong_is_said_in_slurms_words() {
    let folder = tempfile::tempdir().unwrap();
    write_scripts(folder.path());
    let nowhere = folder.path().join("nowhere");
    for said in WRONG_IN_ITSELF {
        let mut command = face("sbatch", &nowhere, said.0);
        check(&Ran::new(command.current_dir(folder.path()).output().unwrap()), *said);
    }
    let mut command = face("sbatch", &nowhere, &["-t", "x", "--wrap=true"]);
    assert_eq!(Ran::new(command.env("SLURM_EXIT_ERROR", "42").output().unwrap()).code, Some(42));
    for (option, begins) in
        [("--version", "slurm 23."), ("--help", "Usage: sbatch"), ("--usage", "Usage: sbatch")]
    {
        let ran = Ran::new(face("sbatch", &nowhere, &[option]).output().unwrap());
        assert!(ran.code == Some(0) && ran.out.starts_with(begins), "{ran:?}");
    }
}

/// Where Debian puts Slurm's own command.
const REAL_SBATCH: &str = "/usr/bin/sbatch";

/// Slurm's own sbatch, with a configuration whose controller is nowhere: what is wrong in itself, it says without one.
fn real_sbatch(folder: &Path, arguments: &[&str]) -> Ran {
    let conf = folder.join("slurm.conf");
    let text = "ClusterName=test\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nSlurmUser=root\n\
                SelectType=select/cons_tres\nNodeName=n1 CPUs=1\nPartitionName=main Nodes=n1 Default=YES\n";
    std::fs::write(&conf, text).unwrap();
    let mut command = std::process::Command::new(REAL_SBATCH);
    // Its messages begin with the name by which it is called.
    command.arg0("sbatch").args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SLURM_CONF", &conf);
    Ran::new(command.output().unwrap())
}

#[test]
fn slurms_own_sbatch_says_the_same() {
    let skip = std::env::var_os("MUSTER_TEST_SKIP_SLURM").is_some_and(|value| value == "1");
    if skip || !Path::new(REAL_SBATCH).exists() {
        eprintln!("slurm-wlm is not installed, or not to be used: nothing was compared");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_scripts(folder.path());
    let mut compared = 0;
    // The other rows need a controller, or say what only Muster says.
    let alone = |said: &&Said| {
        !said.2.iter().any(|line| {
            line.contains("submission failed") || line.contains("Muster") || line.contains("heterogeneous")
        })
    };
    for said @ (arguments, code, lines) in WRONG_IN_ITSELF.iter().filter(alone) {
        let ran = real_sbatch(folder.path(), arguments);
        let err: Vec<&str> = ran.err.lines().collect();
        assert_eq!((ran.code, err.as_slice()), (Some(*code), *lines), "{said:?}: {ran:?}");
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

/// What a controller with two nodes of 4 cores refuses; the last line is its own sentence.
const REFUSED: &[Said] = &[
    (
        &["-p", "nosuch", "--wrap=true"],
        1,
        &[
            "sbatch: error: invalid partition specified: nosuch",
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            "sbatch: error: there is no pool 'nosuch'; the pools are: main, short",
        ],
    ),
    (
        &["-p", "main,nosuch", "--wrap=true"],
        1,
        &[
            "sbatch: error: invalid partition specified: nosuch",
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
        ],
    ),
    (
        &["-N", "99", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Node count specification invalid"],
    ),
    (
        &["-c", "9", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Requested node configuration is not available"],
    ),
    (
        &["--mem=999G", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Requested node configuration is not available"],
    ),
    (
        &["-p", "short", "-t", "60", "--wrap=true"],
        1,
        &[
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
        ],
    ),
    (
        &["-w", "nosuch", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid node name specified"],
    ),
    (
        &["-C", "nofeature", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid feature specification"],
    ),
    (
        &["-A", "noacct", "--wrap=true"],
        1,
        &[
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        ],
    ),
    (
        &["-q", "noqos", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Invalid qos specification"],
    ),
    (
        &["--reservation=none", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Requested reservation is invalid"],
    ),
    (
        &["-d", "afterok:999999", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Job dependency problem"],
    ),
    (
        &["--uid=nobody", "--wrap=true"],
        1,
        &["sbatch: error: Batch job submission failed: Access/permission denied"],
    ),
    (
        &["-M", "other", "--wrap=true"],
        1,
        &[
            "sbatch: error: 'other' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters.",
        ],
    ),
];

#[test]
fn what_the_controller_refuses_is_said_in_slurms_words() {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().unwrap().name;
    let controller = Controller::start_with(&format!(
        "default = true\n[[pool]]\nname = \"short\"\nnodes = \"n1\"\nmax_time = \"0:30:00\"\n[[account]]\nname = \"physics\"\n\
         users = [\"{user}\"]\n"
    ));
    let folder = tempfile::tempdir().unwrap();
    for said in REFUSED {
        check(&controller.face("sbatch", folder.path(), said.0), *said);
    }
    for (arguments, out) in [
        (&["--wrap=true"][..], "Submitted batch job 1\n"),
        (&["-M", "test", "--wrap=true"], "Submitted batch job 2 on cluster test\n"),
        (&["--parsable", "-M", "all", "-p", "short,main", "-N2", "--wrap=true"], "3;test\n"),
        (&["--parsable", "-t", "0", "--wrap=true"], "4\n"),
        (&["--parsable", "-d", "singleton", "-J", "", "--constraint=", "--wrap=true"], "5\n"),
    ] {
        let ran = controller.face("sbatch", folder.path(), arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), out), "{ran:?}");
    }
    let ran = controller.face("sbatch", folder.path(), &["--test-only", "-N2", "-n7", "--wrap=true"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{ran:?}");
    // Its nodes never came, so that nobody knows when it starts.
    assert!(ran.err.starts_with("sbatch: Job 6 can be submitted to partition main"), "{ran:?}");
    // Pool short has one node only, so that the second that was named runs the job.
    assert!(controller.run(&["show", "3"]).out.contains("Pool  main"));
}
