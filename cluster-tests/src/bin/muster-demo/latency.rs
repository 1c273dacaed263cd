//! How long it takes from `muster submit` to the first line of the user's script, and what that consists of.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::figures::{Against, Better, Figure, Told};
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks;

const USER: &str = "ann";
const JOB_LIMIT: Duration = Duration::from_secs(20);

/// One submit, in microseconds.
struct Sample {
    /// From before the command was started to the script's first line.
    whole: u64,
    /// From before the command was started until the engine decided: process start, reading the script, the socket.
    command: u64,
    /// From the decision to the script's exec: commit, prepare on all nodes, the word to start.
    launch: u64,
    /// From the exec to the first line: the interpreter starts.
    interpreter: u64,
}

pub fn run(samples: usize, json: bool) -> Result<()> {
    ensure!(samples > 0, "at least one sample is needed");
    let name = format!("lat{}", std::process::id() % 10_000);
    let site = Site::up(&SiteOptions::new(&name, 4, 8)?)?;
    let work = checks::user_directory(&site, USER)?;
    std::fs::write(work.join("first.sh"), "#!/bin/bash\necho $EPOCHREALTIME\n")?;
    println!(
        "{samples} submits each, one after another, on an idle cluster of 4 nodes; medians in milliseconds"
    );
    println!("{:24} {:>8} {:>8} {:>8} {:>12}", "", "whole", "command", "launch", "interpreter");
    let mut figures = Vec::new();
    for (what, nodes, name) in [
        ("one task on one node", "1", "submit.first_line"),
        ("a gang on four nodes", "4", "submit.gang_first_line"),
    ] {
        let mut all = Vec::new();
        for _ in 0..samples {
            all.push(sample(&site, &work, nodes)?);
        }
        let median = |of: fn(&Sample) -> u64| {
            let mut values: Vec<u64> = all.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2] as f64 / 1000.0
        };
        println!(
            "{what:24} {:>8.1} {:>8.1} {:>8.1} {:>12.1}",
            median(|s| s.whole),
            median(|s| s.command),
            median(|s| s.launch),
            median(|s| s.interpreter)
        );
        let words = format!("{what}: from the submit to its script's first line");
        figures.push(
            Figure::new(name, words, median(|s| s.whole), "ms", Better::Lower).bar(Against::Value, 50.0),
        );
    }
    std::fs::write(work.join("nothing.sh"), "#!/bin/sh\ntrue\n")?;
    println!("\n{samples} times on a host of the cluster, each a whole process; medians in milliseconds");
    let time = |what: &str, command: &str| -> Result<f64> {
        let ms = whole_process(&site, &work, command, samples)? as f64 / 1000.0;
        println!("{what:42} {ms:>8.1}");
        Ok(ms)
    };
    let (alone, known, taken) =
        ("the script by itself", "muster submit -W, until its end is known", "muster submit");
    let floor = time(alone, "/bin/sh nothing.sh")?;
    let known_ms = time(known, "muster submit -W -o /dev/null -t5 nothing.sh")?;
    let taken_ms = time(taken, "muster submit -o /dev/null -t5 nothing.sh")?;
    figures.push(
        Figure::new("submit.known_end", known, known_ms, "ms", Better::Lower)
            .floor(alone, floor)
            .bar(Against::Value, 10.0),
    );
    let words = format!("{taken}, until the job is durable");
    figures.push(Figure::new("submit.process", words, taken_ms, "ms", Better::Lower).floor(alone, floor));
    site.down()?;
    if json {
        Told { figures, ..Told::default() }.print()?;
    }
    Ok(())
}

/// How long a command takes from before its process is made until it has ended, in microseconds: the median.
fn whole_process(site: &Site, work: &Path, command: &str, samples: usize) -> Result<u64> {
    let script = format!(
        "cd {} && PATH={}:$PATH && for i in $(seq {samples}); do \
           a=$EPOCHREALTIME; {command} >/dev/null || exit 1; echo $a $EPOCHREALTIME; done",
        work.display(),
        site.staged.bin.display(),
    );
    let mut shell = site.cluster.exec("head", Some(USER))?;
    let output = shell.args(["/bin/bash", "-c", &script]).env("MUSTER_SOCKET", site.socket()).output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?.replace(['.', ','], "");
    let mut times = Vec::new();
    for line in text.lines() {
        let (from, to) = line.split_once(' ').context("a line without two times")?;
        times.push(to.parse::<u64>()?.saturating_sub(from.parse()?));
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("no time was taken")
}

fn sample(site: &Site, work: &Path, nodes: &str) -> Result<Sample> {
    let before = micros(SystemTime::now())?;
    let job = site.submit(USER, work, &["-N", nodes, "-n", nodes, "first.sh"])?;
    let detail = site.wait(job, JOB_LIMIT)?;
    ensure!(checks::all_completed(&detail), "{}", checks::complaint(&detail));
    let task = detail.task_list.first().context("the job has no task")?;
    let text = std::fs::read_to_string(&task.stdout_path)?;
    // EPOCHREALTIME has exactly six digits after the point.
    let first_line: u64 = text.trim().replace(['.', ','], "").parse().context("the script wrote no time")?;
    let decided = detail.summary.submitted_at_us;
    let started = task.started_at_us.context("the script has no start")?;
    Ok(Sample {
        whole: first_line.saturating_sub(before),
        command: decided.saturating_sub(before),
        launch: started.saturating_sub(decided),
        interpreter: first_line.saturating_sub(started),
    })
}

fn micros(time: SystemTime) -> Result<u64> {
    Ok(u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH)?.as_micros())?)
}
