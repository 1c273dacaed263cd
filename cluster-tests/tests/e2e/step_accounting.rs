//! Steps are listed while they run, reached by signals, and accounted for when they have ended.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use muster_cluster_tests::ProcessInfo;
use muster_core::ids::JobId;

use crate::support::{Bench, PATIENCE};

/// What one of Slurm's commands prints for the user.
fn ask(bench: &Bench, faces: &Path, line: &str) -> String {
    let output = bench.shell(faces, &bench.work, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The accounting of a job's steps: a line for each.
fn accounts(bench: &Bench, faces: &Path, job: JobId) -> Vec<String> {
    let fields = "JobID,JobName,State,ExitCode,NTasks,NNodes,AllocCPUS,NodeList";
    let text = ask(bench, faces, &format!("sacct -nP -j {job} -o {fields}"));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn steps_are_known_while_they_run_and_after() {
    let Some(bench) = Bench::up("sta", 2, 4) else { return };
    let faces = bench.make_faces();
    let body = format!(
        r#"export PATH={}:$PATH
srun -n2 -N2 python3 -c 'b = bytearray(64 << 20); sum(range(10 ** 6))'
srun -n1 -J probe bash -c 'exit 3'
srun -n1 bash -c 'kill -9 $$'
srun --exact -n1 -J first bash -c 'touch first; exec sleep 300' &
until [ -e first ]; do sleep 0.05; done
srun --exact -N1 -n3 sleep 400
echo "the last ended with $?"
"#,
        faces.display()
    );
    let job = bench.submit(&["-J", "acct", "-N2", "--ntasks-per-node=4", "-t5"], &body);
    let running = || ask(&bench, &faces, "squeue -h -s");
    bench.until("both steps are listed", PATIENCE, || {
        let listed = running();
        listed.contains(&format!("{job}.3 ")) && listed.contains(&format!("{job}.4 "))
    });
    // Neither an agent nor a controller that is killed forgets what runs, or what has ended.
    let agent = |process: &&ProcessInfo| process.cmdline.get(1).is_some_and(|word| word == "agent");
    let processes = bench.site.cluster.processes("node01").unwrap();
    bench.kill(processes.iter().find(agent).unwrap());
    bench.site.kill_controller().unwrap();
    bench.site.start_controller().unwrap();
    bench.until("steps are listed again", PATIENCE, || running().contains(&format!("{job}.4 ")));
    let listed = running();
    assert!(listed.contains(&format!("{job}.batch ")), "{listed}");
    let shown = ask(&bench, &faces, &format!("scontrol show step {job}.4"));
    assert!(shown.contains("State=RUNNING") && shown.contains("Tasks=3 Name=sleep"), "{shown}");
    let stat = ask(&bench, &faces, &format!("sstat -nP -o JobID,NTasks,MaxRSS -a -j {job}"));
    let lines: Vec<&str> = stat.lines().collect();
    assert_eq!(lines.len(), 5, "{stat}");
    assert!(lines[0].starts_with(&format!("{job}.0|2|")) && !lines[0].ends_with('|'), "{stat}");
    // One that runs says what it uses by now.
    let used = lines[4].strip_prefix(&format!("{job}.4|3|"));
    assert!(used.is_some_and(|used| used.ends_with(['K', 'M'])), "{stat}");

    ask(&bench, &faces, &format!("scancel -s USR1 {job}.3"));
    ask(&bench, &faces, &format!("scancel {job}.4"));
    let detail = bench.wait(job);
    assert!(bench.output(&detail).contains("the last ended with 143"), "{}", bench.describe(&detail));
    assert_eq!(
        accounts(&bench, &faces, job),
        [
            format!("{job}|acct|COMPLETED|0:0||2|8|node[01-02]"),
            format!("{job}.batch|batch|COMPLETED|0:0|1|1|4|node01"),
            format!("{job}.0|python3|COMPLETED|0:0|2|2|8|node[01-02]"),
            format!("{job}.1|probe|FAILED|3:0|1|1|4|node01"),
            format!("{job}.2|bash|FAILED|0:9|1|1|4|node01"),
            format!("{job}.3|first|FAILED|0:10|1|1|1|node01"),
            format!("{job}.4|sleep|CANCELLED|0:15|3|1|3|node01"),
        ]
    );
    let used =
        ask(&bench, &faces, &format!("sacct -nP --noconvert -j {job}.0 -o MaxRSS,AveCPU,MaxRSSNode,UserCPU"));
    let peak: u64 = used.split('K').next().unwrap().parse().unwrap();
    assert!((64 << 10..256 << 10).contains(&peak), "{used}");
    let derived = ask(&bench, &faces, &format!("sacct -nPX -j {job} -o DerivedExitCode"));
    assert_eq!(derived.trim(), "3:0");
    let shown = ask(&bench, &faces, &format!("{}/muster steps {job}", bench.site.staged.bin.display()));
    assert!(shown.contains("python3") && shown.contains("cancelled"), "{shown}");
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn a_running_step_is_looked_on_from_elsewhere() {
    let Some(bench) = Bench::up("stv", 2, 4) else { return };
    let faces = bench.make_faces();
    // Ranks tick until they are given a line, so that it is seen when somebody looks on.
    bench.write(
        "rank.sh",
        "until read -t 0; do echo tick $SLURM_PROCID; sleep 0.1; done; read line\n\
         echo out $SLURM_PROCID $line; echo err $SLURM_PROCID >&2; exit $SLURM_PROCID\n",
    );
    let body = format!(
        r#"export PATH={}:$PATH
{{ until [ -e over ]; do sleep 0.05; done; }} | {{ srun -N2 -n4 bash rank.sh >own 2>&1; echo "status $?"; touch over; }}
until [ -e end ]; do sleep 0.05; done
"#,
        faces.display()
    );
    let job = bench.submit(&["-N2", "--ntasks-per-node=4", "-t5"], &body);
    let own = || std::fs::read_to_string(bench.work.join("own")).unwrap_or_default();
    bench.until("the step runs", PATIENCE, || (0..4).all(|rank| own().contains(&format!("tick {rank}"))));
    let layout = ask(&bench, &faces, &format!("sattach --layout {job}.0"));
    assert!(layout.starts_with("Job step layout:\n\t4 tasks, 2 nodes (node[01-02])\n"), "{layout}");
    assert!(layout.contains("\tNode 1 (node02), 1 task(s): 3 \n"), "{layout}");

    let look = |name: &str, line: String| {
        let mut command = bench.shell(&faces, &bench.work, &format!("{line} >{name}.out 2>{name}.err"));
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let seen = |file: &str| std::fs::read_to_string(bench.work.join(file)).unwrap_or_default();
    let mut all = look("all", format!("sattach -l {job}.0"));
    let one = look("one", format!("sattach --output-filter=2 --error-filter=2 --input-filter=2 {job}.0"));
    let muster = bench.site.staged.bin.join("muster");
    let mut brief = look("brief", format!("exec {} attach --rank 1 {job}.0", muster.display()));
    bench.until("all look on", PATIENCE, || {
        seen("all.out").contains("3: tick 3")
            && seen("one.out").contains("tick 2")
            && seen("brief.out").contains("tick")
    });
    // Who leaves takes nothing along.
    brief.kill().unwrap();
    brief.wait().unwrap();
    all.stdin.take().unwrap().write_all(b"word\n").unwrap();
    for mut viewer in [all, one] {
        assert_eq!(viewer.wait().unwrap().code(), Some(3));
    }
    let lines = |file: &str| {
        let text = seen(file);
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("tick")).collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    assert_eq!(lines("all.out"), "0: out 0 word\n1: out 1 word\n2: out 2 word\n3: out 3 word");
    assert_eq!(lines("all.err"), "0: err 0\n1: err 1\n2: err 2\n3: err 3");
    assert_eq!((lines("one.out").as_str(), lines("one.err").as_str()), ("out 2 word", "err 2"));
    assert!(seen("brief.out").lines().all(|line| line == "tick 1"), "{}", seen("brief.out"));

    let refused = |line: String| {
        let output = bench.shell(&faces, &bench.work, &line).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        String::from_utf8(output.stderr).unwrap()
    };
    bench.until("the step has ended", PATIENCE, || bench.work.join("over").exists());
    let text = refused(format!("sattach {job}.0"));
    assert!(text.contains("Invalid job id specified") && text.contains("has already ended"), "{text}");
    let text = refused(format!("sattach {job}.7"));
    assert!(text.contains(&format!("job {job} has no step 7")), "{text}");
    bench.write("end", "");
    assert!(bench.output(&bench.complete(job)).contains("status 3"));
    let text = refused(format!("sattach {job}.0"));
    assert!(text.contains("Job/step already completing or completed"), "{text}");
    bench.await_clean(&["node01", "node02"]);
}

#[test]
fn steps_that_nobody_has_seen_the_end_of_end_with_their_attempt() {
    let Some(bench) = Bench::up("stb", 1, 4) else { return };
    let faces = bench.make_faces();
    let body = format!("export PATH={}:$PATH\nsrun sleep 300\n", faces.display());
    let job = bench.submit(&["-n2", "-t5", "--no-requeue"], &body);
    bench.until("the step is listed", PATIENCE, || {
        ask(&bench, &faces, "squeue -h -s").contains(&format!("{job}.0 "))
    });
    // The nearest supervisor above the step's daemon is the attempt's.
    let all = bench.site.cluster.processes("node01").unwrap();
    let mut process = bench.await_processes("node01", "muster-step", 1).remove(0);
    while process.cmdline.get(1).is_none_or(|word| word != "supervise") {
        process = all.iter().find(|other| other.pid == process.parent).unwrap().clone();
    }
    bench.kill(&process);
    bench.wait(job);
    let last = accounts(&bench, &faces, job).pop().unwrap();
    assert_eq!(last, format!("{job}.0|sleep|NODE_FAIL|0:0|2|1|2|node01"));
    // A whole job that is cancelled takes its steps along.
    let job = bench.submit(&["-n2", "-t5"], &body);
    bench.until("the step is listed", PATIENCE, || {
        ask(&bench, &faces, "squeue -h -s").contains(&format!("{job}.0 "))
    });
    ask(&bench, &faces, &format!("scancel {job}"));
    bench.wait(job);
    let last = accounts(&bench, &faces, job).pop().unwrap();
    assert!(last.starts_with(&format!("{job}.0|sleep|CANCELLED|0:15|")), "{last}");
}
