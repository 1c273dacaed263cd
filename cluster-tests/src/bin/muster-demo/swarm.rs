//! How many small tasks of one array a node runs in a second, beside the floor: xargs, which starts the same program and
//! neither contains, nor records, nor survives anything.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks::{self, TICKS_PER_SECOND, controller_cpu};

const USER: &str = "ann";
const SLOTS: u32 = 8;
const JOB_LIMIT: Duration = Duration::from_secs(3600);

pub fn run(count: usize) -> Result<()> {
    ensure!(count > 0, "at least one task is needed");
    let name = format!("qsw{}", std::process::id() % 10_000);
    let policy = format!("tasks_waiting_max = {}", count + 1);
    let site = Site::up(&SiteOptions { policy, ..SiteOptions::new(&name, 1, SLOTS)? })?;
    let work = checks::user_directory(&site, USER)?;
    println!("{count} tasks that do nothing, {SLOTS} at once, on one node, an output file for each");
    println!(
        "{:24} {:>9} {:>9} {:>18} {:>14}",
        "", "seconds", "tasks/s", "controller, us/task", "node, us/task"
    );
    std::fs::write(work.join("nothing.sh"), "#!/bin/sh\ntrue\n")?;
    let floor = by_xargs(&site, &work, count, "/bin/sh nothing.sh")?;
    println!("{:24} {floor:>9.2} {:>9.0}", "xargs -P 8", count as f64 / floor);
    // What the file system takes for the files, which no scheduler can spare.
    let with_files = by_xargs(&site, &work, count, "/bin/sh -c '. ./nothing.sh >of-xargs/$0'")?;
    println!("{:24} {with_files:>9.2} {:>9.0}", "the same, with files", count as f64 / with_files);
    let (seconds, controller, node) = as_array(&site, &work, count)?;
    let each = |used: f64| used * 1e6 / count as f64;
    println!(
        "{:24} {seconds:>9.2} {:>9.0} {:>18.0} {:>14.0}",
        "an array",
        count as f64 / seconds,
        each(controller),
        each(node)
    );
    println!("{:24} {:>9.2}", "of the floor's rate", floor / seconds);
    println!("{:24} {:>9.2}", "of that with files", with_files / seconds);
    site.down()?;
    Ok(())
}

/// The same script, once for each number, by xargs on the same host and as the same user.
fn by_xargs(site: &Site, work: &Path, count: usize, each: &str) -> Result<f64> {
    let command = format!(
        "cd {} && mkdir -p out of-xargs && seq {count} | xargs -P {SLOTS} -n 1 {each}",
        work.display()
    );
    let before = Instant::now();
    let status = site.cluster.exec("node01", Some(USER))?.args(["/bin/sh", "-c", &command]).status()?;
    ensure!(status.success(), "xargs failed: {status}");
    Ok(before.elapsed().as_secs_f64())
}

/// Seconds from the submit's begin until the job's end is known, and the CPU seconds of the controller and of everything on
/// the node meanwhile.
fn as_array(site: &Site, work: &Path, count: usize) -> Result<(f64, f64, f64)> {
    let (controller, all) = (controller_cpu(site)?, busy_cpu()?);
    let before = Instant::now();
    let last = count - 1;
    let array = format!("--array=0-{last}");
    let job = site.submit(USER, work, &[&array, "--output=out/%a", "--mem=10M", "-t5", "nothing.sh"])?;
    let detail = site.wait(job, JOB_LIMIT)?;
    let seconds = before.elapsed().as_secs_f64();
    ensure!(checks::all_completed(&detail), "{}", checks::complaint(&detail));
    let controller = controller_cpu(site)? - controller;
    let files = std::fs::read_dir(work.join("out"))?.count();
    ensure!(files == count, "{files} output files of {count}");
    Ok((seconds, controller, busy_cpu()? - all - controller))
}

/// The CPU time of all of this machine, in seconds (proc(5), `/proc/stat`).
fn busy_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat says: {line}");
    // Without idle time, and without that of waiting for disks.
    let busy: f64 =
        ticks.iter().take(8).enumerate().filter(|(field, _)| ![3, 4].contains(field)).map(|(_, t)| t).sum();
    Ok(busy / TICKS_PER_SECOND)
}
