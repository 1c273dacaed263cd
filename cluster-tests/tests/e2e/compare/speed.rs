//! How long each command takes as a whole process, beside Slurm's own in the same run.

use std::process::Command;

use muster_client::api::SubmitRequest;
use muster_cluster_tests::figures::{Against, Better, Figure, Told, median};
use muster_core::spec::Request;

use super::Both;

/// Runs a command so often and prints the milliseconds that each run took.
const CLOCK: &str = r#"
import os, sys, time
count, words = int(sys.argv[1]), sys.argv[2:]
null = os.open(os.devnull, os.O_RDWR)
streams = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
for _ in range(count):
    begun = time.perf_counter()
    pid = os.posix_spawn(words[0], words, os.environ, file_actions=streams)
    _, status = os.waitpid(pid, 0)
    if status: sys.exit(f"{words}: status {status}")
    print((time.perf_counter() - begun) * 1000)
"#;

/// What is told where there is no Slurm.
const NO_SLURM: &str =
    "Slurm is not installed (Debian's slurm-wlm and munge): no command is compared with it";

/// How often each is run, in turns, and how often in a turn.
const TURNS: usize = 6;
const IN_A_TURN: usize = 15;

fn clock(mut command: Command) -> Vec<f64> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
#[ignore = "a measurement, for `make bench`"]
fn commands_beside_slurms() {
    let Some(both) = Both::up("spd") else { return Told::note(NO_SLURM).print().unwrap() };
    let clock_file = both.bench.work.join("clock.py");
    std::fs::write(&clock_file, CLOCK).unwrap();
    let clock_file = clock_file.to_str().unwrap();
    for number in 0..20 {
        let name = format!("j{number}");
        both.submit(&["-J", &name, "-n8", "-t60", "--wrap=sleep 1000"]);
    }
    let count = IN_A_TURN.to_string();
    let mut figures = Vec::new();
    println!("{:<40} {:>8} {:>8} {:>6}", "command (median, ms)", "Muster", "Slurm", "ratio");
    for line in [
        vec!["sbatch", "-H", "-o", "/dev/null", "--wrap=true"],
        vec!["squeue"],
        vec!["squeue", "-j", "1", "-h", "-o", "%T"],
        vec!["sinfo"],
        vec!["scontrol", "show", "job", "1"],
        vec!["scontrol", "show", "hostnames", "n[1-100]"],
        vec!["sinfo", "-N", "-l"],
        vec!["scancel", "-n", "nothing"],
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let face = both.faces.join(line[0]);
            let program = face.to_str().unwrap();
            let words = [&["python3", clock_file, &count, program], &line[1..]].concat();
            ours.extend(clock(both.on_head(&words)));
            let program = format!("/usr/bin/{}", line[0]);
            let words = [&[clock_file, &count, program.as_str()], &line[1..]].concat();
            theirs.extend(clock(both.slurm.command("python3", &words)));
        }
        let (ours, theirs) = (median(&ours).unwrap(), median(&theirs).unwrap());
        let line = line.join(" ");
        println!("{line:<40} {ours:>8.2} {theirs:>8.2} {:>6.2}", ours / theirs);
        let name = format!("command.{}", line.split(" -").next().unwrap().replace(' ', "_"));
        let number = figures.iter().filter(|figure: &&Figure| figure.name.starts_with(&name)).count();
        let name = if number == 0 { name } else { format!("{name}_{}", number + 1) };
        figures.push(
            Figure::new(&name, format!("`{line}` as a whole process"), ours, "ms", Better::Lower)
                .peer("Slurm's", theirs)
                .bar(Against::Peers, 1.0),
        );
    }
    Told { figures, ..Told::default() }.print().unwrap();
}

#[test]
#[ignore = "a measurement, for `make bench`"]
fn a_long_queue() {
    let Some(both) = Both::up("lng") else { return Told::note(NO_SLURM).print().unwrap() };
    const JOBS: usize = 100_000;
    const CLIENTS: usize = 32;
    let clock_file = both.bench.work.join("clock.py");
    std::fs::write(&clock_file, CLOCK).unwrap();
    let holder =
        both.face("sbatch", &["-N4", "--exclusive", "-t600", "--wrap=sleep 36000"]).output().unwrap();
    assert!(holder.status.success());
    let submit = |share: usize| {
        let mut client = both.bench.site.client().unwrap();
        for number in 0..share {
            client.submit(&waiting(number)).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| submit(JOBS / CLIENTS));
        }
    });
    let face = both.faces.join("squeue");
    let mut figures = Vec::new();
    for (name, what, count) in
        [("queue.first_list", "the first", "1"), ("queue.list", "those that follow", "9")]
    {
        let words = ["python3", clock_file.to_str().unwrap(), count, face.to_str().unwrap()];
        let ms = median(&clock(both.on_head(&words))).unwrap();
        let what = format!("squeue over {JOBS} jobs that wait, {what}");
        println!("{what}: {ms:.0} ms");
        figures.push(Figure::new(name, what, ms, "ms", Better::Lower));
    }
    Told { figures, ..Told::default() }.print().unwrap();
}

/// One of many different jobs that wait for the whole cluster.
fn waiting(number: usize) -> SubmitRequest {
    let request = Request { nodes: Some(4), ranks: 4 + number as u32 % 8, ..Request::default() };
    let submit = serde_json::json!({
        "name": format!("job{}", number % 100),
        "script": "#!/bin/sh\ntrue\n",
        "working_directory": "/tmp",
        "submit_host": "head",
        "umask": 18,
        "time_limit_s": 60 * (1 + number % 50),
        "request": request,
    });
    serde_json::from_value(submit).unwrap()
}
