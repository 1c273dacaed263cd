//! What is seen of steps that run: what their ranks use, and where they are bound.

use std::path::Path;

use crate::support::{Bench, PATIENCE, json_in, numbers};

/// Rank 0 computes, rank 1 holds memory, and a process below rank 2 does both.
const RANK: &str = r#"
import os, subprocess, sys, time
rank, work = int(os.environ["SLURM_PROCID"]), "while t() < 0.5: pass"
held = bytearray(96 << 20) if rank == 1 else None
if rank == 0:
    while time.process_time() < 1.5: pass
below = None
if rank == 2:
    program = "import time, sys\nt = time.process_time\nb = bytearray(48 << 20)\n" + work + "\nprint('x', flush=True)\nsys.stdin.read()"
    below = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    below.stdout.readline()
with open("pids.%d" % rank, "w") as pids:
    print(os.environ["SLURMD_NODENAME"], os.getpid(), *([below.pid] if below else []), file=pids)
os.rename("pids.%d" % rank, "ready.%d" % rank)
while not os.path.exists("over"): time.sleep(0.05)
"#;

#[test]
fn what_ranks_use_is_asked_while_they_run_and_where_they_are_bound_is_drawn() {
    let Some(bench) = Bench::up_as("mlv", 2, 2, |options| options.cluster.users.push("bert".to_owned()))
    else {
        return;
    };
    let faces = bench.make_faces();
    bench.write("rank.py", RANK);
    let muster = bench.site.staged.bin.join("muster");
    let body = format!(
        r#"export PATH={}:$PATH
srun true
srun -N2 -n4 python3 rank.py
{muster} run --show-bindings -n4 true 2> drawn
{muster} run --cpu-bind=verbose,none -n1 -N1 true 2> unbound
srun --cpu-bind=verbose -n4 true 2> lines
{muster} run --dry-run --show-bindings -o never.txt -n4 false > dry 2>&1; echo "dry $?"
"#,
        faces.display(),
        muster = muster.display()
    );
    let job = bench.submit(&["-N2", "--ntasks-per-node=2", "-t5"], &body);
    bench.until("the ranks are ready", PATIENCE, || {
        (0..4).all(|rank| bench.work.join(format!("ready.{rank}")).exists())
    });
    let ask = |line: &str| {
        let output = bench.shell(&faces, &bench.work, line).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{line}: {errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    };
    bench.until("the step is listed", PATIENCE, || ask("squeue -h -s").0.contains(&format!("{job}.1 ")));
    usage(&bench, &format!("{job}.1"), &ask);
    let (text, _) = ask(&format!("{} steps --live {job}", muster.display()));
    let row = text.lines().find(|line| line.starts_with(&format!("{job}.1 "))).unwrap();
    assert!(row.contains("running") && row.contains(" %") && row.contains("M  node"), "{text}");
    // Only its user, or an admin, may ask.
    let words = ["steps".to_owned(), "--live".to_owned(), job.to_string()];
    let output = bench.site.run("bert", Path::new("/"), &words).unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let row = text.lines().find(|line| line.starts_with(&format!("{job}.1 "))).unwrap();
    assert!(row.ends_with(" -     -  node[01-02]") && errors.starts_with("muster steps: "), "{text}{errors}");
    bench.write("over", "");
    let detail = bench.complete(job);
    bindings(&bench, &bench.output(&detail));
    bench.await_clean(&["node01", "node02"]);
}

fn usage(bench: &Bench, step: &str, ask: &dyn Fn(&str) -> (String, String)) {
    let fields =
        "JobID,NTasks,MaxRSSTask,MaxRSSNode,MinCPUTask,MaxRSS,AveRSS,MaxVMSize,TotalCPU,AveCPU,Nodelist";
    let fields = fields.replace("TotalCPU,", "");
    let (text, errors) = ask(&format!("sstat -nP --noconvert -j {step} -o {fields}"));
    assert_eq!(errors, "");
    let values: Vec<&str> = text.trim().split('|').collect();
    // The ranks 0 and 1 are on the first node.
    assert_eq!(values[..5], [step, "4", "1", "node01", values[4]], "{text}");
    assert!(matches!(values[4], "1" | "3"), "{text}");
    let kib = |text: &str| text.trim_end_matches('K').parse::<u64>().unwrap();
    let (peak, average) = (kib(values[5]), kib(values[6]));
    assert!((96 << 10..400 << 10).contains(&peak) && average < peak, "{text}");
    assert!(kib(values[7]) >= peak, "{text}");
    assert_eq!(values[9], "node[01-02]");

    let (text, _) = ask(&format!("sstat --json -j {step}"));
    let report = json_in(&text);
    let (used, live) = (&report["steps"][0]["usage"], &report["steps"][0]["live"]);
    let cpu_us = used["user_us"].as_u64().unwrap() + used["system_us"].as_u64().unwrap();
    assert!(cpu_us >= 2_000_000, "rank 0 and what is below rank 2 have computed for that long: {report}");
    assert!(live["running"] == 4 && live["silent_nodes"] == 0, "{report}");
    assert!(live["resident_bytes"].as_u64().unwrap() >= (96 + 48) << 20, "{report}");

    // What it says of processes is so: five of Python's, with that below rank 2.
    let (text, _) = ask(&format!("sstat -nP -i -j {step}"));
    let mut told = Vec::new();
    for (line, host) in text.lines().zip(["node01", "node02"]) {
        let begin = format!("{step}|{host}|");
        let pids = line.strip_prefix(&begin).unwrap_or_else(|| panic!("{text}"));
        told.extend(pids.split(',').map(|pid| (host.to_owned(), pid.parse::<i32>().unwrap())));
    }
    let mut found = Vec::new();
    for rank in 0..4 {
        let text = std::fs::read_to_string(bench.work.join(format!("ready.{rank}"))).unwrap();
        let (host, pids) = text.split_once(' ').unwrap();
        found.extend(pids.split_whitespace().map(|pid| (host.to_owned(), pid.parse::<i32>().unwrap())));
    }
    told.sort_unstable();
    found.sort_unstable();
    assert_eq!((told.len(), &told), (5, &found), "{text}");
}

fn bindings(bench: &Bench, output: &str) {
    let read = |name: &str| {
        let text = std::fs::read_to_string(bench.work.join(name)).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let drawn = read("drawn");
    assert_eq!(drawn.len(), 4, "{drawn:?}");
    for (rank, line) in drawn.iter().enumerate() {
        let host = ["node01", "node02"][rank / 2];
        assert!(line.starts_with(&format!("{host}: rank {rank}: package ")), "{drawn:?}");
        let (_, cpus) = line.split_once(", CPU ").unwrap();
        let (cpus, picture) = cpus.split_once(": [").unwrap();
        assert_eq!(numbers(cpus).len(), picture.matches('B').count(), "{line}");
    }
    let cpus = |line: &String| line.split_once(", core ").unwrap().1.to_owned();
    assert_eq!((cpus(&drawn[0]), cpus(&drawn[1])), (cpus(&drawn[2]), cpus(&drawn[3])), "{drawn:?}");
    assert_ne!(cpus(&drawn[0]), cpus(&drawn[1]), "{drawn:?}");
    let unbound = read("unbound");
    assert!(unbound.len() == 1 && unbound[0].matches('B').count() >= 2, "{unbound:?}");
    let lines = read("lines");
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (rank, line) in lines.iter().enumerate() {
        let begin = format!("cpu-bind=MASK - node0{}, task  {rank}  {} [", rank / 2 + 1, rank % 2);
        assert!(
            line.starts_with(&begin) && line.contains("]: mask 0x") && line.ends_with(" set"),
            "{lines:?}"
        );
    }
    assert!(output.contains("dry 0\n"), "{output}");
    let dry = read("dry");
    assert_eq!(dry.iter().filter(|line| drawn.contains(line)).count(), 4, "{dry:?} {drawn:?}");
    assert!(!bench.work.join("never.txt").exists());
}
