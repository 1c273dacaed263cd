//! Recurring jobs on real nodes, through the end of a controller; and while their minute is awaited, what is reported as used.

use std::path::Path;

use crate::support::{Bench, PATIENCE};

/// What one of Slurm's commands prints for the user.
fn ask(bench: &Bench, faces: &Path, line: &str) -> String {
    let output = bench.shell(faces, &bench.work, line).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_recurring_job_runs_once_at_its_minute_and_usage_adds_up() {
    let Some(bench) = Bench::up("crn", 1, 4) else { return };
    let faces = bench.make_faces();
    // A minute that is near, but not so near that it comes before all is asked that is to be asked before it.
    let minute = ask(&bench, &faces, "date -d '+85 seconds' +%-M");
    // The job has the environment of a login, in which these faces are not on the path.
    let srun = faces.join("srun");
    let entry = format!(
        "{} * * * * echo $SLURM_JOB_ID $SLURM_NTASKS $GREETING $PWD $(date +%s) >> work/runs; {} -n2 hostname",
        minute.trim(),
        srun.display()
    );
    let options = "#SCRON -n2 -t1 -J tick\n#SCRON -o tick-%j.out\n";
    bench.write("table", &format!("GREETING='hello there'\n{options}{entry}\n"));
    ask(&bench, &faces, "scrontab table");
    assert_eq!(
        ask(&bench, &faces, "scrontab -l"),
        std::fs::read_to_string(bench.work.join("table")).unwrap()
    );
    let waits = ask(&bench, &faces, "squeue -h -o '%i %j %t %r'");
    assert!(waits.ends_with(" tick PD BeginTime\n") && waits.lines().count() == 1, "{waits}");
    let begin: u64 = ask(&bench, &faces, "SLURM_TIME_FORMAT=%s squeue -h -o %S").trim().parse().unwrap();
    bench.site.kill_controller().unwrap();
    bench.site.start_controller().unwrap();
    assert_eq!(ask(&bench, &faces, "squeue -h -o '%i %j %t %r'"), waits, "it is the same one");

    // What each job held, for as long as it ran, is what sreport tells of all together.
    let mut held_s = 0.0;
    for options in [&["-n2"][..], &["-n1", "-a1-3"], &["-n3"]] {
        let job = bench.submit(&[options, &["-A", "lab", "-t1"]].concat(), "sleep 1.2");
        let detail = bench.complete(job);
        for task in &detail.task_list {
            let us = task.finished_at_us.unwrap() - task.started_at_us.unwrap();
            held_s += us as f64 / 1e6 * detail.summary.cores as f64;
        }
    }
    let period = "accounts=lab start=now-2hours end=now+2hours";
    let users = "-nP -t Seconds cluster UserUtil users=ann format=login,used";
    let used = ask(&bench, &faces, &format!("sreport {users} {period}"));
    assert!(held_s > 8.0, "{held_s}");
    assert_eq!(used, format!("ann|{held_s:.0}\n"));
    let sizes =
        ask(&bench, &faces, &format!("sreport -nP job sizes printjobcount grouping=individual {period}"));
    assert!(sizes.ends_with("|lab|3|1|1|100.00%\n"), "{sizes}");

    // Its minute comes.
    bench.until("the first run", PATIENCE, || {
        ask(&bench, &faces, "sacct -nPX -S now-1hour -E now -s CD -o jobid --name tick").lines().count() == 1
    });
    let runs = std::fs::read_to_string(bench.work.join("runs")).unwrap();
    let line: Vec<&str> = runs.lines().next().unwrap().split(' ').collect();
    let job = waits.split(' ').next().unwrap();
    let home = bench.work.parent().unwrap().display().to_string();
    assert_eq!(line[..5], [job, "2", "hello", "there", home.as_str()], "{runs}");
    assert!(line[5].parse::<u64>().unwrap() >= begin, "{runs} {begin}");
    let output =
        std::fs::read_to_string(bench.work.parent().unwrap().join(format!("tick-{job}.out"))).unwrap();
    assert_eq!(output, "node01\nnode01\n");
    // And the next one is made.
    let next = ask(&bench, &faces, "squeue -h -o '%i %j %t %r'");
    assert!(next.ends_with(" tick PD BeginTime\n") && next.lines().count() == 1 && next != waits, "{next}");
    let next = next.split(' ').next().unwrap();
    let refused = bench.shell(&faces, &bench.work, &format!("scancel {next}")).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("without --cron"), "{refused:?}");
    ask(&bench, &faces, &format!("scancel --cron {next}"));
    assert_eq!(ask(&bench, &faces, "squeue -h"), "");
    assert!(ask(&bench, &faces, "scrontab -l").contains(&format!("#DISABLED: {entry}")));
}
