//! The published matrix of Slurm's options is what the commands do: each option in it is tried.

use std::collections::BTreeSet;

use muster_client::api::{Ping, PoolList, PoolView, SCHEMA};

use crate::common::{Fake, Ran, face, json};
use crate::controller::Controller;

/// What an option does, as the matrix says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Works,
    Differs,
    Ignored,
    Refused,
}

/// Every way of writing an option that the section of a command names, with what the option does.
fn section(command: &str) -> Vec<(String, How)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/slurm-compatibility.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| *line != format!("## {command}")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    let mut options = Vec::new();
    for line in lines.filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let how = match cells[1] {
            "works" => How::Works,
            "differs" => How::Differs,
            "ignored" => How::Ignored,
            "refused" => How::Refused,
            other => panic!("{line}: '{other}' is none of works, differs, ignored and refused"),
        };
        // Every second piece between backquotes is an option.
        let spellings = cells[0].split('`').skip(1).step_by(2);
        options.extend(spellings.map(|option| (option.to_owned(), how)));
    }
    assert!(!options.is_empty(), "docs/slurm-compatibility.md has no table for {command}");
    options
}

/// A controller that takes every job.
fn agreeable() -> Fake {
    let ping = Ping {
        schema: SCHEMA,
        cluster: "test".into(),
        version: "1".into(),
        nodes_up: 1,
        nodes: 1,
        leader: None,
    };
    let pool = |name: &str| PoolView {
        name: name.into(),
        default: name == "main",
        state: Default::default(),
        node_list: "n1".into(),
        time_default_s: 60,
        time_max_s: 3600,
        priority: 0,
        tier: 0,
        preempt: Default::default(),
        grace_s: 0,
        memory_per_core_bytes: None,
    };
    let (ping, pools) =
        (json(&ping), json(&PoolList { schema: SCHEMA, pools: vec![pool("main"), pool("short")] }));
    let ended =
        json(&crate::common::job(vec![crate::common::task(0, muster_client::api::TaskState::Completed)]));
    Fake::start(move |question| match question.line.as_str() {
        "GET /v1/ping" => (200, ping.clone()),
        "GET /v1/pools" => (200, pools.clone()),
        "POST /v1/jobs" => (201, r#"{"schema":1,"job":12}"#.to_owned()),
        _ => (200, ended.clone()),
    })
}

#[test]
fn sbatch_does_with_each_option_what_the_matrix_says() {
    let fake = agreeable();
    let nodes = fake.folder().join("nodes");
    std::fs::write(&nodes, "n1\n").unwrap();
    for (option, how) in section("sbatch") {
        let option = option
            .replace("--uid=0", &format!("--uid={}", nix::unistd::getuid()))
            .replace("--gid=0", &format!("--gid={}", nix::unistd::getgid()));
        let mut words: Vec<&str> = option.split(' ').collect();
        if !option.starts_with("--wrap") {
            words.push("--wrap=true");
        }
        let mut command = face("sbatch", &fake.socket(), &words);
        command.stdin(std::fs::File::open(&nodes).unwrap());
        let ran = Ran::new(command.output().unwrap());
        match how {
            How::Works | How::Differs => {
                assert_eq!(ran.code, Some(0), "{option}: {ran:?}");
                assert!(!ran.err.contains("is ignored"), "{option}: {ran:?}");
            }
            How::Ignored => {
                assert_eq!(ran.code, Some(0), "{option}: {ran:?}");
                assert!(ran.err.contains("warning") && ran.err.contains("is ignored"), "{option}: {ran:?}");
            }
            How::Refused => {
                assert_eq!(ran.code, Some(1), "{option}: {ran:?}");
                assert!(
                    ran.err.contains("is an option of Slurm that Muster does not have"),
                    "{option}: {ran:?}"
                );
            }
        }
    }
}

/// The options that `sbatch --help` of Slurm 22.05 lists.
const SBATCH_OPTIONS: &str = "array account bb bbf begin comment cpu-freq cpus-per-task dependency deadline delay-boot \
    chdir error export export-file get-user-env gid gres gres-flags hold ignore-pbs input job-name no-kill licenses \
    clusters container distribution mail-type mail-user mcs-label ntasks nice no-requeue ntasks-per-node nodes output \
    overcommit partition parsable power priority profile propagate qos quiet reboot requeue oversubscribe core-spec \
    signal spread-job switches thread-spec time time-min uid use-min-nodes verbose wait wckey wrap cluster-constraint \
    contiguous constraint nodefile mem mincpus reservation tmp nodelist exclude exclusive mem-per-cpu sockets-per-node \
    cores-per-socket threads-per-core extra-node-info hint mem-bind cpus-per-gpu gpus gpu-bind gpu-freq gpus-per-node \
    gpus-per-socket gpus-per-task mem-per-gpu help usage version ntasks-per-core ntasks-per-socket ntasks-per-gpu \
    acctg-freq network kill-on-invalid-dep wait-all-nodes test-only batch prefer";

#[test]
fn no_option_of_sbatch_is_left_out_of_the_matrix() {
    let listed: BTreeSet<String> = section("sbatch")
        .into_iter()
        .filter_map(|(option, _)| {
            let long = option.strip_prefix("--")?;
            Some(long.split('=').next().unwrap_or(long).to_owned())
        })
        .collect();
    let missing: Vec<&str> =
        SBATCH_OPTIONS.split_whitespace().filter(|option| !listed.contains(*option)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A real controller with a job that waits, an array, and a job that was cancelled.
fn controller() -> Controller {
    let controller = Controller::start_with("[[pool]]\nname = \"short\"\nnodes = \"n1\"\n");
    for arguments in [&["submit", "--wrap", "true"][..], &["submit", "-a", "0-9%2", "--wrap", "true"]] {
        assert_eq!(controller.run(arguments).code, Some(0));
    }
    controller
}

/// Tries each option, command and field of a face's section; `around` makes a command line of one.
fn try_section(command: &str, around: impl Fn(&str) -> Vec<String>) {
    let controller = controller();
    for (option, how) in section(command) {
        let words = around(&option);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut tried = face(command, &controller.socket(), &words);
        // An editor that leaves everything as it is.
        let ran = Ran::new(tried.env("EDITOR", "true").env_remove("VISUAL").output().unwrap());
        match how {
            How::Works | How::Differs => {
                assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{option}: {ran:?}");
            }
            How::Refused => {
                assert_eq!(ran.code, Some(1), "{option}: {ran:?}");
                assert!(ran.err.contains("is not supported"), "{option}: {ran:?}");
            }
            How::Ignored => panic!("{option}: {command} ignores nothing"),
        }
    }
}

/// The words of an option, or of a field that is shown alone.
fn words_or_field(option: &str) -> Vec<String> {
    if option.starts_with('%') {
        return vec!["-o".to_owned(), option.to_owned()];
    }
    option.split(' ').map(str::to_owned).collect()
}

#[test]
fn squeue_does_with_each_option_what_the_matrix_says() {
    try_section("squeue", words_or_field);
}

#[test]
fn sinfo_does_with_each_option_what_the_matrix_says() {
    try_section("sinfo", words_or_field);
}

#[test]
fn sacct_does_with_each_option_what_the_matrix_says() {
    try_section("sacct", words_or_field);
}

#[test]
fn scontrol_does_with_each_command_what_the_matrix_says() {
    try_section("scontrol", words_or_field);
}

#[test]
fn the_faces_of_the_accounting_do_what_the_matrix_says() {
    for command in ["sacctmgr", "sprio", "sshare", "sdiag", "seff", "scrontab", "sreport", "strigger"] {
        try_section(command, words_or_field);
    }
}

#[test]
fn sstat_sattach_and_sbcast_do_with_each_option_what_the_matrix_says() {
    // What comes last is done, so that nothing is said of steps that are not there.
    let helped = |option: &str| option.split(' ').chain(["--help"]).map(str::to_owned).collect();
    try_section("sstat", helped);
    try_section("sattach", helped);
    try_section("sbcast", helped);
}

#[test]
fn scancel_does_with_each_option_what_the_matrix_says() {
    // Nothing matches, so that nothing is said of any job.
    try_section("scancel", |option| option.split(' ').chain(["--name=nothing"]).map(str::to_owned).collect());
}
